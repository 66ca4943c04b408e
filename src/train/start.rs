//! The start of a training run, which `pixtape train` and `pixtape train --trace` share: the model, its
//! data, and the parameters that the next step begins with.

use super::run::{Event, RunOptions, open_images};
use super::{exchange, parameters};
use crate::backend::Backend;
use crate::config::Config;
use crate::data::{Batches, Cursor, Order, Split};
use crate::error::{Error, Result};
use crate::models::Model;
use crate::optim::schedule::Steps;
use crate::store::{Checkpoint, RunDir};
use crate::tape::plan::Plan;
use std::path::Path;
use std::sync::Arc;

/// A training run before its next step.
pub struct Start {
    /// The model.
    pub model: Model,
    /// The plans of a training step, in the order in which they run.
    pub plans: Vec<Plan>,
    /// The training images. The next batch is the first one that the run has not been trained on.
    pub batches: Batches,
    /// Training steps in one epoch.
    pub steps_per_epoch: u64,
    /// Steps done, and steps of the whole run.
    pub steps: Steps,
}

impl Start {
    /// Builds the model and opens its data. No device is needed yet.
    ///
    /// # Errors
    /// Sizes that do not fit together, data that cannot be opened or do not fit the model.
    pub fn new(config: &Config, options: &RunOptions) -> Result<Self> {
        let model = Model::new(config)?;
        let images = open_images(&model, &options.data, Split::Train, options.data_dir.as_deref())?;
        let batches = Batches::new(Arc::new(images), model.batch_options(Order::Shuffled))?;
        let plans = model.training();
        let steps_per_epoch = (batches.per_epoch() as u64 / plans.len() as u64).max(1);
        let steps = Steps { done: 0, total: total_steps(config, steps_per_epoch) };
        Ok(Start { model, plans, batches, steps_per_epoch, steps })
    }

    /// Writes the parameters that the run begins with: those of the newest checkpoint of a run that is
    /// resumed, those of the file `--init`, or else the initial values under the seed. A resumed run
    /// continues with the step and the batch after the checkpoint.
    ///
    /// # Errors
    /// A checkpoint or file that cannot be read or is of another model; whatever the device reports.
    pub fn write_params(
        &mut self,
        backend: &mut dyn Backend,
        options: &RunOptions,
        on: &mut dyn FnMut(Event),
    ) -> Result<()> {
        let set = &self.model.set;
        parameters::initialize(backend, set, self.model.config.seed)?;
        if options.resume
            && let Some(latest) = RunDir::open(&options.out)?.latest()?
        {
            latest.warnings.into_iter().for_each(|warning| on(Event::Warning(warning)));
            parameters::load(backend, set, &latest.checkpoint, &latest.path)?;
            self.batches.seek(parse_cursor(&latest.checkpoint, &latest.path)?)?;
            self.steps.done = latest.checkpoint.step;
        }
        match &options.init {
            Some(path) => exchange::import(backend, set, path),
            None => Ok(()),
        }
    }
}

/// The steps that a configuration asks for in total, with this number of steps per epoch.
fn total_steps(config: &Config, steps_per_epoch: u64) -> u64 {
    match (config.steps, config.epochs) {
        (Some(steps), _) => u64::from(steps),
        (None, epochs) => u64::from(epochs.unwrap_or(1)) * steps_per_epoch,
    }
}

/// The place in the data at which a checkpoint was saved.
fn parse_cursor(checkpoint: &Checkpoint, path: &Path) -> Result<Cursor> {
    serde_json::from_str(&checkpoint.data_cursor).map_err(|e| {
        Error::file(path, format!("its data cursor is damaged ({e})"), "resume from an earlier checkpoint").because(e)
    })
}
