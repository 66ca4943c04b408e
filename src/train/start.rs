//! The start of a training run, which `pixtape train` and `pixtape train --trace` share: the model, its
//! data, and the parameters that the next step begins with.

use super::exchange;
use super::images::{fitting, open_images};
use super::run::{Event, RunOptions};
use super::validation::{Validation, training_split};
use crate::backend::Backend;
use crate::config::{Config, GivenKeys};
use crate::data::{self, Batches, Cursor, Identity, Images, Order, Set};
use crate::error::{Error, Result};
use crate::models::Model;
use crate::optim::schedule;
use crate::optim::schedule::Steps;
use crate::parameters;
use crate::store::{Checkpoint, Latest, RunDir};
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
    /// The identity of the training images.
    pub data: Identity,
    /// The validation images, if the run measures them.
    pub(super) validation: Option<Validation>,
    /// Training steps in one epoch.
    pub steps_per_epoch: u64,
    /// Steps done, and steps of the whole run.
    pub steps: Steps,
    /// The checkpoint that a resumed run continues from, if it has saved one.
    latest: Option<Latest>,
    /// What the user should know.
    notes: Vec<String>,
}

impl Start {
    /// Reads the newest checkpoint of a run that is resumed, builds the model and opens its data. No device
    /// is needed yet.
    ///
    /// # Errors A checkpoint that cannot be read, sizes that do not fit together, data that cannot be
    /// opened or do not fit the model.
    pub fn new(config: &Config, options: &RunOptions) -> Result<Self> {
        let latest = if options.resume { RunDir::open(&options.out)?.latest()? } else { None };
        let mut config = config.clone();
        let mut earlier = None;
        if let Some(Latest { checkpoint, path, .. }) = &latest {
            earlier = Some(Config::of_checkpoint(&checkpoint.config, path)?);
            config.averaging = checkpoint.averaging;
            if !Config::says_what_to_keep(&checkpoint.config) {
                // The run began when all checkpoints were kept.
                config.keep_checkpoints = 0;
            }
        }
        let (model, images) = match &options.fit {
            Some(given) if !options.resume => fitted(&config, given, options)?,
            _ => {
                let model = Model::new(&config)?;
                let split = training_split(&model.config);
                let images = open_images(&model, &options.data, split, options.data_dir.as_deref())?;
                (model, images)
            }
        };
        let config = model.config.clone();
        let data = Identity::of(&images, training_split(&config));
        let validation = Validation::open(&model, &options.data, options.data_dir.as_deref())?;
        let batches = Batches::new(Arc::new(images), model.batch_options(Order::Shuffled))?;
        let plans = model.training();
        let steps_per_epoch = (batches.per_epoch() as u64 / plans.len() as u64).max(1);
        let done = latest.as_ref().map_or(0, |latest| latest.checkpoint.step);
        let steps = Steps { done, total: total_steps(&config, steps_per_epoch) };
        let mut notes = latest.as_ref().map_or(vec![], |latest| latest.warnings.clone());
        if let Some(earlier) = earlier {
            let before = Steps { done, total: total_steps(&earlier, steps_per_epoch) };
            notes.extend(changed_rate(&config, before, steps));
        }
        Ok(Start { model, plans, batches, data, validation, steps_per_epoch, steps, latest, notes })
    }

    /// Writes the parameters that the run begins with: those of the newest checkpoint of a run that is
    /// resumed, those of the file `--init`, or else the initial values under the seed. A resumed run
    /// continues with the batch after the checkpoint.
    ///
    /// # Errors
    /// A checkpoint or file that cannot be read, is of another model or was trained on other images;
    /// whatever the device reports.
    pub fn write_params(
        &mut self,
        backend: &mut dyn Backend,
        options: &RunOptions,
        on: &mut dyn FnMut(Event),
    ) -> Result<()> {
        let set = &self.model.set;
        parameters::initialize(backend, set, self.model.config.seed)?;
        self.notes.drain(..).for_each(|note| on(Event::Warning(note)));
        if let Some(latest) = self.latest.take() {
            check_same_data(&self.data, &latest.checkpoint, &options.out, on)?;
            parameters::load(backend, set, &latest.checkpoint, &latest.path)?;
            self.batches.seek(parse_cursor(&latest.checkpoint, &latest.path)?)?;
        }
        match &options.init {
            Some(path) => exchange::import(backend, set, path),
            None => Ok(()),
        }
    }
}

/// The model fitted to the training images, and these images.
fn fitted(config: &Config, given: &GivenKeys, options: &RunOptions) -> Result<(Model, Images)> {
    let (mut config, data_dir) = (config.clone(), options.data_dir.as_deref());
    let split = training_split(&config);
    // The size of a known set is known before it is opened, so that a mistake in the keys is found at once.
    if let Some(set) = Set::named(&options.data) {
        let said = config.fit_to(set.size, given);
        let model = Model::new(&config)?;
        let images = open_images(&model, &options.data, split, data_dir)?;
        return Ok((model, images.with_notices(said)));
    }
    let images = data::open(&options.data, split, data_dir)?;
    let said = config.fit_to(images.natural_size(), given);
    let model = Model::new(&config)?;
    let images = fitting(&model, images)?;
    Ok((model, images.with_notices(said)))
}

/// The steps that a configuration asks for in total, with this number of steps per epoch.
fn total_steps(config: &Config, steps_per_epoch: u64) -> u64 {
    match (config.steps, config.epochs) {
        (Some(steps), _) => u64::from(steps),
        (None, epochs) => u64::from(epochs.unwrap_or(1)) * steps_per_epoch,
    }
}

/// A sentence about the learning rate, if it jumps because the length of the run has changed: the schedule
/// reaches its final rate at the last step, and with another last step the rest of it is another.
fn changed_rate(config: &Config, before: Steps, now: Steps) -> Option<String> {
    let rate = |done: u64, total: u64| schedule::learning_rate(config, Steps { done, total });
    if before.total == now.total || now.done >= now.total || now.done == 0 {
        return None;
    }
    let (last, next) = (rate(now.done - 1, before.total), rate(now.done, now.total));
    // Within a schedule, the rate changes a little with every step.
    let planned = rate(now.done, now.total) - rate(now.done - 1, now.total);
    let is_jump = (next - last - planned).abs() > 1e-3 * last.max(next);
    let how = if next > last { "rises" } else { "falls" };
    is_jump.then(|| {
        format!(
            "the learning rate {how} from {last:e} to {next:e} at step {}, because its schedule is stretched from {} to {} steps",
            now.done + 1,
            before.total,
            now.total
        )
    })
}

/// Checks that the run in `run`, which has saved `checkpoint`, is continued on the images that it was
/// trained on. Only the content matters: the images may have moved.
fn check_same_data(data: &Identity, checkpoint: &Checkpoint, run: &Path, on: &mut dyn FnMut(Event)) -> Result<()> {
    let Some(text) = &checkpoint.data else {
        on(Event::Warning(format!("the run does not say which images it was trained on; it continues on {data}")));
        return Ok(());
    };
    let known: Identity = serde_json::from_str(text).map_err(|error| {
        Error::file(
            run,
            format!("its checkpoint does not name its data ({error})"),
            "resume from an earlier checkpoint",
        )
        .because(error)
    })?;
    if known.sha256 == data.sha256 {
        return Ok(());
    }
    let reason = format!("it was trained on other images ({known}) than those given ({data})");
    let remedy =
        "give the images of the run by --data, or train a new run that starts from its exported weights (--init)";
    Err(Error::file(run, reason, remedy))
}

/// The place in the data at which a checkpoint was saved.
fn parse_cursor(checkpoint: &Checkpoint, path: &Path) -> Result<Cursor> {
    serde_json::from_str(&checkpoint.data_cursor).map_err(|e| {
        Error::file(path, format!("its data cursor is damaged ({e})"), "resume from an earlier checkpoint").because(e)
    })
}
