//! One training run on one device: the plans of a step, replayed.

use super::weights;
use crate::backend::{self, Backend, Compiled, Scalars, StepTime};
use crate::config::Config;
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::models::Model;
use crate::optim;
use crate::store::Checkpoint;
use crate::tape::op::Scalar;
use crate::tape::plan::Plan;

/// A model that learns: its plans compiled, its step counted.
pub struct Trainer {
    /// What learns.
    pub model: Model,
    /// Where.
    pub backend: Box<dyn Backend>,
    plans: Vec<(Plan, Compiled)>,
    step: u64,
    total: u64,
}

impl Trainer {
    /// Compiles the plans of `model`, whose parameters start under the configuration's seed; `total` steps are planned.
    pub fn new(model: Model, mut backend: Box<dyn Backend>, total: u64) -> Result<Self> {
        weights::initialize(&mut *backend, &model.set, model.config.seed)?;
        let mut plans = vec![];
        for plan in model.training() {
            let compiled = backend.compile(&plan)?;
            plans.push((plan, compiled));
        }
        Ok(Trainer { model, backend, plans, step: 0, total })
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Batches that one step takes: one a plan.
    pub fn batches_per_step(&self) -> usize {
        self.plans.len()
    }

    /// The plans of a step.
    pub fn plans(&self) -> impl Iterator<Item = &Plan> {
        self.plans.iter().map(|(plan, _)| plan)
    }

    /// The scalars of the `index`-th plan of the step to come.
    fn scalars(&self, index: usize) -> Scalars {
        scalars(&self.model.config, [self.step, self.total], [index, self.plans.len()])
    }

    /// One step; `next` gives a new batch for each plan.
    pub fn advance(&mut self, mut next: impl FnMut(&mut dyn FnMut(&Batch) -> Result<()>) -> Result<()>) -> Result<()> {
        for index in 0..self.plans.len() {
            let (scalars, (plan, compiled)) = (self.scalars(index), &self.plans[index]);
            next(&mut |batch| self.backend.run(*compiled, &batch.feeds(plan), &scalars))?;
        }
        self.step += 1;
        Ok(())
    }

    /// The loss terms of the last step, those of its last plan.
    ///
    /// # Errors
    /// When one of them is not finite: training has diverged.
    pub fn losses(&mut self) -> Result<Vec<(String, f64)>> {
        let (plan, compiled) = self.plans.last().expect("a model has a plan");
        let mut losses = vec![];
        for (i, (name, _)) in plan.outputs.iter().enumerate() {
            let mut value = [0.0];
            backend::read(&mut *self.backend, *compiled, i, &mut value)?;
            losses.push((name.clone(), f64::from(value[0])));
        }
        match losses.iter().find(|(_, value)| !value.is_finite()) {
            None => Ok(losses),
            Some((name, value)) => Err(Error::Failed(format!(
                "training diverged at step {}: {name} is {value}; lower optimizer.lr or set clip_norm, and resume",
                self.step
            ))),
        }
    }

    /// Takes up a run where `checkpoint` left it.
    pub fn restore(&mut self, checkpoint: &Checkpoint, path: &std::path::Path) -> Result<()> {
        weights::load(&mut *self.backend, &self.model.set, checkpoint, path)?;
        self.step = checkpoint.step;
        Ok(())
    }

    /// The run as it stands, for a checkpoint; the caller adds where the data stand.
    pub fn checkpoint(&mut self) -> Result<Checkpoint> {
        Ok(Checkpoint {
            tensors: weights::snapshot(&mut *self.backend, &self.model.set)?,
            config: self.model.config.to_toml(),
            step: self.step,
            rng: format!("seed={} replay={}", self.model.config.seed, self.step * self.plans.len() as u64),
            ..Checkpoint::default()
        })
    }

    /// Time of each kernel of one step, on `batch`; the step counts as training.
    pub fn profile(&mut self, batch: &Batch) -> Result<Vec<StepTime>> {
        let mut times = vec![];
        for index in 0..self.plans.len() {
            let scalars = self.scalars(index);
            let (plan, compiled) = &self.plans[index];
            times.extend(self.backend.profile(*compiled, &batch.feeds(plan), &scalars)?);
        }
        self.step += 1;
        Ok(times)
    }
}

/// The scalars of a training step: step `step` (from 0) of `total`, and the `index`-th of its `plans` plans.
pub fn scalars(config: &Config, [step, total]: [u64; 2], [index, plans]: [usize; 2]) -> Scalars {
    let mut scalars = Scalars::default();
    // Every plan of every step has a replay number of its own, so that no two share their draws.
    let replay = step * plans as u64 + index as u64;
    scalars
        .set(Scalar::LearningRate, optim::learning_rate(config, step, total))
        .set(Scalar::Step, (step + 1) as f32)
        .set(Scalar::CriticStep, (replay + 1) as f32)
        .set_u32(Scalar::Seed, config.seed)
        .set_u32(Scalar::Replay, replay as u32);
    if let Some(warmup) = config.kl_warmup.filter(|w| *w > 0) {
        scalars.set(Scalar::KlWeight, ((step + 1) as f32 / warmup as f32).min(1.0));
    }
    scalars
}
