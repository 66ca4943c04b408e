//! Progress on stderr: bars and spinners on a terminal that can move its cursor, plain lines elsewhere.

use super::output::{note, note_once};
use crate::report::text::short;
use crate::store::Row;
use crate::train::run::Event;
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The least time between two lines of plain text.
const PLAIN_EVERY: Duration = Duration::from_secs(2);

/// The bar, if it can be seen. It is hidden if stderr is no terminal, or if `TERM` is `dumb` or not set, and
/// plain lines take its place.
pub(super) fn visible(bar: ProgressBar) -> Option<ProgressBar> {
    (!bar.is_hidden()).then_some(bar)
}

/// The progress of one training run.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    total: u64,
    first: u64,
    start: Instant,
    last_line: Option<Instant>,
}

impl Progress {
    pub fn new() -> Self {
        Progress { bar: None, total: 0, first: 0, start: Instant::now(), last_line: None }
    }

    /// Shows an event.
    pub fn show(&mut self, event: &Event) {
        match event {
            Event::Start { device, data, parameters, step, total, per_epoch } => {
                let epochs = *total as f64 / (*per_epoch).max(1) as f64;
                note(&format!("device: {device}"));
                note(&format!("data: {data}"));
                let from = if *step > 0 { format!(", continuing after step {step}") } else { String::new() };
                note(&format!("{parameters} parameters, {total} steps ({epochs:.1} epochs){from}"));
                (self.total, self.first, self.start) = (*total, *step, Instant::now());
                self.bar = visible(ProgressBar::new(*total).with_position(*step));
                if let Some(bar) = &self.bar {
                    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {eta} left");
                    bar.set_style(style.expect("the template is a constant"));
                }
            }
            Event::Step { step, row } => self.step(*step, *row),
            Event::Notice(text) => note_once(text),
            Event::Warning(text) => self.note(&format!("warning: {text}")),
            Event::Sampled(_) | Event::Saved(_) => {}
        }
    }

    /// Prints a line that the bar does not overwrite.
    fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => note(text),
        }
    }

    fn step(&mut self, step: u64, row: Option<&Row>) {
        if let Some(bar) = &self.bar {
            bar.set_position(step);
            if let Some(row) = row {
                bar.set_message(numbers(row));
            }
            return;
        }
        let Some(row) = row else { return };
        let waited = self.last_line.is_none_or(|last| last.elapsed() >= PLAIN_EVERY);
        if waited || step == self.total {
            let done = (step - self.first).max(1) as f64;
            let left = self.start.elapsed().as_secs_f64() / done * (self.total.saturating_sub(step)) as f64;
            note(&format!("step {step}/{}: {}, {left:.0} s left", self.total, numbers(row)));
            self.last_line = Some(Instant::now());
        }
    }

    /// Leaves the last state of the bar on the terminal.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

/// Loss terms and speed.
fn numbers(row: &Row) -> String {
    let losses = row.losses.iter().map(|(name, value)| format!("{name} {}", short(*value)));
    losses.chain([format!("{} images/s", short(row.images_per_s))]).collect::<Vec<_>>().join(", ")
}

/// The progress of a long operation, until it is dropped. May be advanced from any thread.
enum Shown {
    Bar(ProgressBar),
    Lines(Lines),
}

/// Plain lines about a long operation: one at its start, and one with the share that is done every
/// [`PLAIN_EVERY`].
struct Lines {
    doing: String,
    state: Mutex<LinesState>,
}

struct LinesState {
    /// The share that is done, from 0 to 1.
    share: f64,
    last_line: Instant,
}

impl Lines {
    fn new(doing: &str) -> Self {
        note(doing);
        Lines { doing: doing.to_string(), state: Mutex::new(LinesState { share: 0.0, last_line: Instant::now() }) }
    }

    fn change(&self, change: impl FnOnce(&mut f64)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state.share);
        if state.last_line.elapsed() >= PLAIN_EVERY {
            note(&format!("{}: {:.0} %", self.doing, 100.0 * state.share));
            state.last_line = Instant::now();
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// Starts a bar or spinner with this template, or plain lines if it would be hidden.
fn show(bar: ProgressBar, template: &str, doing: &str) -> Shown {
    let Some(bar) = visible(bar) else { return Shown::Lines(Lines::new(doing)) };
    bar.set_style(ProgressStyle::with_template(template).expect("the template is a constant"));
    bar.set_message(doing.to_string());
    bar.enable_steady_tick(Duration::from_millis(100));
    Shown::Bar(bar)
}

/// A spinner for a long operation, which is shown until it is dropped.
pub(super) struct Busy(Shown);

impl Busy {
    pub fn new(doing: &str) -> Self {
        Busy(show(ProgressBar::new_spinner(), "{spinner} {prefix}{msg} ({elapsed})", doing))
    }

    /// Shows how much of it is done.
    pub fn at(&self, done: usize, of: usize) {
        let share = done as f64 / of.max(1) as f64;
        match &self.0 {
            Shown::Bar(bar) => bar.set_prefix(format!("{:3.0} % ", 100.0 * share)),
            Shown::Lines(lines) => lines.change(|present| *present = share),
        }
    }
}

/// A bar for the number of images that have been drawn, which is shown until it is dropped.
pub(super) struct Drawing {
    shown: Shown,
    images: usize,
}

impl Drawing {
    /// The bar counts thousandths of an image.
    const PARTS: f64 = 1000.0;

    pub fn new(doing: &str, images: usize) -> Self {
        let bar = ProgressBar::new((images as f64 * Self::PARTS) as u64);
        Drawing { shown: show(bar, "{msg} {bar:30} {percent} % ({elapsed}, {eta} left)", doing), images }
    }

    /// Adds to the number of images drawn, which may be a fraction. May be called from any thread.
    pub fn advance(&self, images: f64) {
        match &self.shown {
            Shown::Bar(bar) => bar.inc((images * Self::PARTS).round() as u64),
            Shown::Lines(lines) => lines.change(|share| *share += images / self.images.max(1) as f64),
        }
    }
}
