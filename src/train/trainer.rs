//! One training run on one device: the compiled plans of a step, and the steps done.

use crate::backend::{self, Backend, Compiled, Scalars, StepTime};
use crate::config::Config;
use crate::data::{Batch, BatchSource};
use crate::error::{Error, Result};
use crate::models::{CRITIC_STEP, KL_WEIGHT, Model};
use crate::optim::schedule::{self, Steps};
use crate::optim::{AVERAGE_DECAY, LEARNING_RATE, STEP};
use crate::parameters;
use crate::store::Checkpoint;
use crate::tape::op::Scalar;
use crate::tape::plan::Plan;

/// What to do after training has diverged.
pub(crate) const LOWER_RATE: &str = "train again with a lower optimizer.lr, or with --set clip_norm=1";

/// A model on a device, with the plans of a training step compiled.
pub struct Trainer {
    /// The model that is trained.
    pub model: Model,
    /// The device, which holds the parameters.
    pub backend: Box<dyn Backend>,
    plans: Vec<TrainingPlan>,
    steps: Steps,
}

/// One of the plans that make up a training step.
struct TrainingPlan {
    plan: Plan,
    compiled: Compiled,
}

impl Trainer {
    /// A new run of `total_steps` steps: writes the initial parameters under the configuration's seed and
    /// compiles the plans.
    ///
    /// # Errors
    /// Whatever the device reports.
    pub fn new(model: Model, mut backend: Box<dyn Backend>, total_steps: u64) -> Result<Self> {
        parameters::initialize(&mut *backend, &model.set, model.config.seed)?;
        let plans = model.training();
        Trainer::with_plans(model, plans, backend, Steps { done: 0, total: total_steps })
    }

    /// A run whose parameters are on the device already, with the plans of [`Model::training`].
    ///
    /// # Errors
    /// Whatever the device reports.
    pub(crate) fn with_plans(
        model: Model,
        plans: Vec<Plan>,
        mut backend: Box<dyn Backend>,
        steps: Steps,
    ) -> Result<Self> {
        let compile = |plan: Plan| Ok(TrainingPlan { compiled: backend.compile(&plan)?, plan });
        let plans = plans.into_iter().map(compile).collect::<Result<_>>()?;
        Ok(Trainer { model, backend, plans, steps })
    }

    /// Steps done, and steps of the whole run.
    pub fn steps(&self) -> Steps {
        self.steps
    }

    /// Batches that one step takes: one per plan.
    pub(crate) fn batches_per_step(&self) -> usize {
        self.plans.len()
    }

    /// Runs one training step. Each plan of the step takes a new batch.
    ///
    /// # Errors
    /// Whatever the source of the batches or the device reports.
    pub fn step(&mut self, batches: &mut dyn BatchSource) -> Result<()> {
        for index in 0..self.plans.len() {
            let scalars = self.scalars(index);
            let TrainingPlan { plan, compiled } = &self.plans[index];
            self.backend.run(*compiled, &batches.next_batch()?.feeds(plan), &scalars)?;
        }
        self.steps.done += 1;
        Ok(())
    }

    /// The scalars of plan number `index` of the next step.
    fn scalars(&self, index: usize) -> Scalars {
        scalars(&self.model.config, self.steps, index, self.plans.len())
    }

    /// The loss terms of the last step: the outputs of its last plan.
    ///
    /// # Errors
    /// If one of them is not finite: training has diverged.
    pub fn losses(&mut self) -> Result<Vec<(String, f64)>> {
        let losses = self.all_losses()?;
        match losses.iter().find(|(_, value)| !value.is_finite()) {
            None => Ok(losses),
            Some((name, value)) => {
                let Steps { done, .. } = self.steps;
                Err(Error::Failed(format!("training diverged at step {done}: {name} is {value}; {LOWER_RATE}")))
            }
        }
    }

    /// The loss terms of the last step, whether they are finite or not.
    pub(crate) fn all_losses(&mut self) -> Result<Vec<(String, f64)>> {
        let TrainingPlan { plan, compiled } = self.plans.last().expect("a model has a plan");
        let mut losses = vec![];
        for (i, (name, _)) in plan.outputs.iter().enumerate() {
            let mut value = [0.0];
            backend::read(&mut *self.backend, *compiled, i, &mut value)?;
            losses.push((name.clone(), f64::from(value[0])));
        }
        Ok(losses)
    }

    /// The current state of the run as a checkpoint. The caller adds the data and the position in them.
    pub fn checkpoint(&mut self) -> Result<Checkpoint> {
        Ok(Checkpoint {
            tensors: parameters::snapshot(&mut *self.backend, &self.model.set)?,
            config: self.model.config.portable().to_toml(),
            step: self.steps.done,
            averaging: self.model.config.averaging,
            rng: format!("seed={} replay={}", self.model.config.seed, self.steps.done * self.plans.len() as u64),
            program: Some(env!("CARGO_PKG_VERSION").to_string()),
            device: Some(self.backend.describe().kind),
            ..Checkpoint::default()
        })
    }

    /// The time of each kernel of one step on `batch`. The step counts as a training step.
    pub fn profile(&mut self, batch: &Batch) -> Result<Vec<StepTime>> {
        let mut times = vec![];
        for index in 0..self.plans.len() {
            let scalars = self.scalars(index);
            let TrainingPlan { plan, compiled } = &self.plans[index];
            times.extend(self.backend.profile(*compiled, &batch.feeds(plan), &scalars)?);
        }
        self.steps.done += 1;
        Ok(times)
    }
}

/// The scalars of plan number `index` (from 0) of the `plans` plans of the next training step.
pub(crate) fn scalars(config: &Config, steps: Steps, index: usize, plans: usize) -> Scalars {
    // Every plan of every step has a replay number of its own, so that no two share their random numbers.
    let replay = steps.done * plans as u64 + index as u64;
    let mut scalars = Scalars::default();
    scalars
        .set(LEARNING_RATE, schedule::learning_rate(config, steps))
        .set(STEP, (steps.done + 1) as f32)
        .set(CRITIC_STEP, (replay + 1) as f32)
        .set(AVERAGE_DECAY, schedule::average_decay(config, steps))
        .set(KL_WEIGHT, schedule::kl_weight(config, steps))
        .set_u32(Scalar::SEED, config.seed)
        .set_u32(Scalar::REPLAY, replay as u32);
    scalars
}
