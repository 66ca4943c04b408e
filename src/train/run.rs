//! The training loop: batches, steps, metrics, sample pictures and checkpoints.

use super::start::Start;
use super::trainer::{LOWER_RATE, Trainer};
use super::validation::Validation;
use crate::backend::cpu::{self, Cpu};
use crate::backend::{self, Backend, StepTime};
use crate::config::{Config, GivenKeys};
use crate::data::{Batch, BatchSource, Identity, Loader};
use crate::error::{Error, Result};
use crate::optim::schedule::{self, Steps};
use crate::pictures::grid::grid_png;
use crate::pictures::png::with_text;
use crate::pictures::sequences;
use crate::sampling::{DrawOptions, Sampler};
use crate::store::{Checkpoint, Keep, MetricsWriter, Row, RunDir};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Images in a picture of samples while a model trains.
const SAMPLES: usize = 16;

/// What a run needs besides its configuration.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// The run's folder.
    pub out: PathBuf,
    /// Whether to continue the run in that folder.
    pub resume: bool,
    /// Name or path of the data set.
    pub data: String,
    /// The folder of the known data sets.
    pub data_dir: Option<PathBuf>,
    /// Worker threads; 0 takes every core.
    pub threads: usize,
    /// Whether to stop at the first value that is not finite and name the step that computed it (CPU only).
    pub check_finite: bool,
    /// A file of weights in PyTorch's layout to start from.
    pub init: Option<PathBuf>,
    /// If it is there, a new run takes the size of its images from the data set, except for these keys.
    pub fit: Option<GivenKeys>,
}

/// What happens during a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// Everything is ready.
    Start {
        /// The device, in words.
        device: String,
        /// The training images.
        data: &'a Identity,
        /// Numbers that are trained.
        parameters: usize,
        /// Steps done so far.
        step: u64,
        /// Steps of the whole run.
        total: u64,
        /// Steps of one epoch.
        per_epoch: u64,
    },
    /// A step is done. It has metrics if they were due.
    Step {
        /// Steps done so far.
        step: u64,
        /// The metrics, if they were due.
        row: Option<&'a Row>,
    },
    /// A picture was written.
    Sampled(&'a Path),
    /// A checkpoint was written.
    Saved(&'a Path),
    /// What a reader of images found, changed or left out.
    Notice(String),
    /// Something that the user should know.
    Warning(String),
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Steps done.
    pub step: u64,
    /// Whether it was stopped before its last step.
    pub interrupted: bool,
    /// Images per second over all steps of this process, without the time for pictures and checkpoints.
    pub images_per_s: f64,
    /// Time of each kernel of one further step, which is not part of the run. It is empty if this process
    /// has done no step.
    pub profile: Vec<StepTime>,
    /// The run's folder, which stays locked as long as this value or a clone of it lives.
    #[doc(hidden)]
    pub dir: RunDir,
}

/// Trains up to the configured step and reports each event to `on`. If `stop` is set, the run is saved and
/// ends early.
///
/// # Errors
/// If another process trains in the folder, if training diverges, and whatever data, files and the
/// device report.
pub fn run(config: &Config, options: &RunOptions, stop: &AtomicBool, on: &mut dyn FnMut(Event)) -> Result<Summary> {
    // Nothing is read from a run before it is locked. A new folder is only made when all else is ready.
    let resumed = if options.resume {
        Some(RunDir::resume(&options.out)?)
    } else {
        RunDir::expect_new(&options.out, &config.to_toml(), Config::complete)?;
        None
    };
    let mut start = Start::new(config, options)?;
    start.batches.images().notices().iter().for_each(|notice| on(Event::Notice(notice.clone())));
    let examples = match start.model.reduction() {
        Some(_) => start.model.batch_of(Arc::new(start.batches.images().sample(SAMPLES, config.seed)))?,
        None => Batch::default(),
    };
    let mut backend = open_device(&config.device, options)?;
    start.write_params(&mut *backend, options, on)?;
    let Start { model, plans, batches, data, validation, steps_per_epoch, steps, .. } = start;
    if data.is_impostor() {
        on(Event::Warning(data.impostor_warning()));
    }
    let config = model.config.clone();
    let trainer = Trainer::with_plans(model, plans, backend, steps)?;
    let dir = match resumed {
        None => RunDir::create_with(&options.out, &config.to_toml(), Config::complete)?,
        Some(dir) => {
            // If the run already has more steps than requested, its configuration is left as it is.
            if steps.done < steps.total || !dir.config_path().exists() {
                dir.update_config(&config.to_toml(), Config::complete)?;
            }
            dir
        }
    };
    if let Some(warning) = dir.lock_warning() {
        on(Event::Warning(warning));
    }
    let classes = batches.images().class_names().map(|names| names.to_vec());
    let loader = Loader::new(batches)?;
    let run = Run { trainer, dir, loader, data, classes, validation, examples, sampler: None, config };
    run.train(steps_per_epoch, stop, on)
}

fn open_device(name: &str, options: &RunOptions) -> Result<Box<dyn Backend>> {
    if !options.check_finite {
        return backend::open(name, options.threads);
    }
    if !["auto", "cpu"].contains(&name) {
        return Err(Error::Usage("--check-finite looks at every value on the CPU; use --device cpu with it".into()));
    }
    Ok(Box::new(Cpu::new(cpu::Options { threads: options.threads, check_finite: true, ..Default::default() })?))
}

struct Run {
    trainer: Trainer,
    dir: RunDir,
    loader: Loader,
    /// The identity of the training images.
    data: Identity,
    /// The names of their classes, if they have names.
    classes: Option<Vec<String>>,
    validation: Option<Validation>,
    /// The images whose reduced forms the samples are drawn for, if the model is given reduced images; one
    /// per sample.
    examples: Batch,
    /// Compiled when the first samples are drawn.
    sampler: Option<Sampler>,
    config: Config,
}

/// Training steps and the time that they took. Pictures and checkpoints do not count.
#[derive(Clone, Copy, Default)]
struct Pace {
    steps: u64,
    seconds: f64,
}

impl Pace {
    fn add_step(&mut self, seconds: f64) {
        self.steps += 1;
        self.seconds += seconds;
    }

    fn images_per_s(self, images_per_step: usize) -> f64 {
        images_per_step as f64 * self.steps as f64 / self.seconds.max(1e-9)
    }
}

impl Run {
    fn train(mut self, steps_per_epoch: u64, stop: &AtomicBool, on: &mut dyn FnMut(Event)) -> Result<Summary> {
        let Steps { done: first, total } = self.trainer.steps();
        let device = self.trainer.backend.describe();
        on(Event::Start {
            device: format!("{} ({}, {})", device.kind, device.name, device.detail),
            data: &self.data,
            parameters: self.trainer.model.set.weights().map(|w| w.shape.len()).sum(),
            step: first,
            total,
            per_epoch: steps_per_epoch,
        });
        let mut metrics = self.dir.metrics_writer(first)?;
        let earlier = self.dir.metrics()?;
        let earlier_seconds = earlier.last().map_or(0.0, |row| row.seconds);
        let mut keep = Keep::new(self.config.keep_checkpoints as usize, &earlier);
        drop(earlier);
        let images_per_step = self.config.batch * self.trainer.batches_per_step();
        let mut since_start = Pace::default();
        let mut since_row = Pace::default();
        let mut saved_at = first;
        while self.trainer.steps().done < total && !stop.load(Ordering::Relaxed) {
            let learning_rate = schedule::learning_rate(&self.config, self.trainer.steps());
            let start = Instant::now();
            self.trainer.step(&mut self.loader)?;
            let seconds = start.elapsed().as_secs_f64();
            since_start.add_step(seconds);
            since_row.add_step(seconds);
            let step = self.trainer.steps().done;
            let due = |every: u32| every > 0 && step.is_multiple_of(u64::from(every));
            let validated = self.validate(total)?;
            let is_validated = validated.is_some();
            if due(self.config.log_every) || step == total || step == first + 1 || is_validated {
                let losses = self.losses()?.into_iter().chain(validated).collect();
                let row = Row {
                    step,
                    seconds: earlier_seconds + since_start.seconds,
                    images_per_s: since_row.images_per_s(images_per_step),
                    learning_rate: Some(learning_rate),
                    losses,
                };
                since_row = Pace::default();
                metrics.write(&row)?;
                keep.add(&row);
                on(Event::Step { step, row: Some(&row) });
            } else {
                on(Event::Step { step, row: None });
            }
            if self.trainer.model.draws()
                && self.config.sample_every > 0
                && (due(self.config.sample_every) || step == total)
            {
                let path = self.sample(step)?;
                on(Event::Sampled(&path));
            }
            if due(self.config.checkpoint_every) || is_validated {
                self.save(&metrics, &keep, on)?;
                saved_at = step;
            }
        }
        let step = self.trainer.steps().done;
        // The last step is always saved, and so is the step at which a run is stopped.
        if saved_at != step {
            self.save(&metrics, &keep, on)?;
        }
        let images_per_s = since_start.images_per_s(images_per_step);
        let profile = if step > first { self.trainer.profile(self.loader.next_batch()?)? } else { vec![] };
        Ok(Summary { step, interrupted: step < total, images_per_s, profile, dir: self.dir })
    }

    /// The likelihood of the validation images after the step that was done last, if it is due.
    fn validate(&mut self, total: u64) -> Result<Option<(String, f64)>> {
        let step = self.trainer.steps().done;
        let Some(validation) = self.validation.as_ref().filter(|validation| validation.is_due(step, total)) else {
            return Ok(None);
        };
        let Trainer { model, backend, .. } = &mut self.trainer;
        validation.measure(&mut **backend, model).map(Some)
    }

    fn sample(&mut self, step: u64) -> Result<PathBuf> {
        let Trainer { model, backend, .. } = &mut self.trainer;
        let sampler = match &self.sampler {
            Some(sampler) => sampler,
            None => self.sampler.insert(Sampler::new(&mut **backend, model, SAMPLES)?),
        };
        let Batch { labels, reduced, .. } = &self.examples;
        let how = DrawOptions { seed: self.config.seed, classes: labels, reduced, ..DrawOptions::default() };
        let images = sampler.draw(&mut **backend, SAMPLES, how)?;
        let png = grid_png(sequences::as_pictures(model, images).view(), None)?;
        let provenance = serde_json::json!({
            "model": model.config.name(),
            "step": step,
            "weights": model.weights(),
            "trained_on": self.data,
            "seed": self.config.seed,
            "program": env!("CARGO_PKG_VERSION"),
            "device": backend.describe().kind,
        });
        self.dir.write_sample(step, &with_text(&png, &provenance.to_string()))
    }

    /// Saves a checkpoint, whose values must all be finite, and removes those that are not kept.
    fn save(&mut self, metrics: &MetricsWriter, keep: &Keep, on: &mut dyn FnMut(Event)) -> Result<()> {
        let cursor = serde_json::to_string(&self.loader.cursor()).expect("a cursor is two numbers");
        let classes = self.classes.as_ref().map(|names| serde_json::to_string(names).expect("texts are valid JSON"));
        let data = Some(self.data.to_json());
        let checkpoint = Checkpoint { data_cursor: cursor, data, classes, ..self.trainer.checkpoint()? };
        if let Some(name) = checkpoint.first_non_finite() {
            return Err(self.diverged(&format!("{name} has values that are not finite")));
        }
        // A checkpoint never is on the disk without the rows up to it, even after a power loss.
        metrics.sync()?;
        let path = self.dir.save_checkpoint(&checkpoint)?;
        on(Event::Saved(&path));
        // The run can go on without this, so it is no reason to stop.
        if let Err(error) = keep.prune(&self.dir, checkpoint.step) {
            on(Event::Warning(format!("an old checkpoint is kept: {error}")));
        }
        Ok(())
    }

    /// The loss terms of the last step, which must be finite.
    fn losses(&mut self) -> Result<Vec<(String, f64)>> {
        let losses = self.trainer.all_losses()?;
        match losses.iter().find(|(_, value)| !value.is_finite()) {
            None => Ok(losses),
            Some((name, value)) => Err(self.diverged(&format!("{name} is {value}"))),
        }
    }

    /// The error after training has diverged: nothing more is saved, and the last checkpoint is sound.
    fn diverged(&self, what: &str) -> Error {
        let step = self.trainer.steps().done;
        let files = self.dir.checkpoints().unwrap_or_default();
        let saved = match files.iter().rev().find(|file| file.step < step) {
            Some(file) => format!("the last checkpoint is that of step {}", file.step),
            None => "no checkpoint is saved".to_string(),
        };
        Error::Failed(format!(
            "training diverged at step {step}: {what}, and {saved}; {LOWER_RATE}, into another folder by --out"
        ))
    }
}
