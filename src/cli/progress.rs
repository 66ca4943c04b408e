//! Progress on stderr: bars and spinners on a terminal, plain lines elsewhere.

use super::output::note;
use crate::report::curves::short;
use crate::store::Row;
use crate::train::run::Event;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// The least time between two lines of plain text.
const PLAIN_EVERY: Duration = Duration::from_secs(2);

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
                if std::io::stderr().is_terminal() {
                    let bar = ProgressBar::new(*total).with_position(*step);
                    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {eta} left");
                    bar.set_style(style.expect("the template is a constant"));
                    self.bar = Some(bar);
                }
            }
            Event::Step { step, row } => self.step(*step, *row),
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

/// A spinner for a long operation, which is shown on a terminal until it is dropped.
pub(super) struct Busy(Option<ProgressBar>);

impl Busy {
    pub fn new(doing: &str) -> Self {
        Busy(std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(
                ProgressStyle::with_template("{spinner} {prefix}{msg} ({elapsed})").expect("a constant template"),
            );
            bar.set_message(doing.to_string());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        }))
    }

    /// Shows how much of it is done.
    pub fn at(&self, done: usize, of: usize) {
        if let Some(bar) = &self.0 {
            bar.set_prefix(format!("{:3.0} % ", 100.0 * done as f64 / of.max(1) as f64));
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// A bar for the number of images that have been drawn, which is shown on a terminal until it is dropped.
pub(super) struct Drawing(Option<ProgressBar>);

impl Drawing {
    /// The bar counts thousandths of an image.
    const PARTS: f64 = 1000.0;

    pub fn new(doing: &str, images: usize) -> Self {
        Drawing(std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new((images as f64 * Self::PARTS) as u64);
            let style = ProgressStyle::with_template("{msg} {bar:30} {percent} % ({elapsed}, {eta} left)");
            bar.set_style(style.expect("the template is a constant"));
            bar.set_message(doing.to_string());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        }))
    }

    /// Adds to the number of images drawn, which may be a fraction. May be called from any thread.
    pub fn advance(&self, images: f64) {
        if let Some(bar) = &self.0 {
            bar.inc((images * Self::PARTS).round() as u64);
        }
    }
}

impl Drop for Drawing {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
