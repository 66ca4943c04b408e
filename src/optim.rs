//! Optimisers, gradient clipping and moving averages. The learning rate and its relatives are in
//! [`schedule`].
//!
//! An optimiser is recorded as nodes that map old values to new ones. The new values reach the parameters
//! through [`Env::set`] and [`Env::commit`].

pub mod schedule;

use crate::config::{Averaging, Config, Optimizer, OptimizerKind};
use crate::nn::{Env, Init, ParamSet};
use crate::tape::Var;
use crate::tape::op::{Op, Param, Scalar};

/// Step size of the optimiser.
pub const LEARNING_RATE: Scalar = Scalar::f32("LearningRate", 0.0);
/// Number of the optimiser's step, counted from 1, for the bias correction of Adam.
pub const STEP: Scalar = Scalar::f32("Step", 1.0);

/// The decay of the moving averages in the next step, if it is warmed up.
#[doc(hidden)]
pub const AVERAGE_DECAY: Scalar = Scalar::f32("AverageDecay", 0.0);

/// How weights are updated.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateRule {
    /// The optimiser. Its learning rate is not part of a plan: [`LEARNING_RATE`] is set for each replay.
    pub optimizer: Optimizer,
    /// Largest norm of all gradients together; 0 means no clipping.
    pub clip_norm: f64,
    /// Largest decay of the moving averages per step; 0 means no averages.
    pub ema: f64,
    /// Whether the decay is constant or warmed up.
    #[doc(hidden)]
    pub averaging: Averaging,
}

impl From<Optimizer> for UpdateRule {
    /// This optimiser with neither clipping nor averages.
    fn from(optimizer: Optimizer) -> Self {
        UpdateRule { optimizer, clip_norm: 0.0, ema: 0.0, averaging: Averaging::default() }
    }
}

impl From<&Config> for UpdateRule {
    fn from(config: &Config) -> Self {
        let Config { clip_norm, ema, averaging, .. } = *config;
        UpdateRule { optimizer: config.optimizer.clone(), clip_norm, ema, averaging }
    }
}

/// A running statistic with its moving average.
#[derive(Clone, Debug)]
struct AveragedStatistic {
    value: Param,
    average: Param,
}

/// A set of weights with their optimiser, its state, and their moving averages.
#[derive(Clone, Debug)]
pub struct Learner {
    weights: Vec<Param>,
    /// The state of the optimiser, per weight: two tensors for Adam, one for the others.
    memory: Vec<Vec<Param>>,
    averages: Vec<Param>,
    /// Running statistics that are averaged as well.
    statistics: Vec<AveragedStatistic>,
    rule: UpdateRule,
    /// The scalar that counts its steps.
    step: Scalar,
}

impl Learner {
    /// Declares the optimiser's state for `weights` under `optim/<slot>/..`, and their averages under
    /// `ema/..`. `step` is the scalar that counts the steps of the optimiser.
    pub fn new(set: &mut ParamSet, weights: Vec<Param>, rule: impl Into<UpdateRule>, step: Scalar) -> Self {
        let rule = rule.into();
        let slots: &[&str] = match rule.optimizer.kind {
            OptimizerKind::Adam => &["optim/m", "optim/v"],
            OptimizerKind::Rmsprop => &["optim/v"],
            OptimizerKind::Sgd => &["optim/buf"],
        };
        let mut companion = |group: &str, w: &Param| set.companion(group, w, Init::Fill(0.0));
        let memory = weights.iter().map(|w| slots.iter().map(|slot| companion(slot, w)).collect()).collect();
        let averages = if rule.ema > 0.0 { weights.iter().map(|w| set.average(w)).collect() } else { vec![] };
        Learner { weights, memory, averages, statistics: vec![], rule, step }
    }

    /// Declares averages of these running statistics as well, if those of the weights are averaged. A step
    /// averages the values that they have after its forward passes.
    pub(crate) fn averaging<'a>(mut self, set: &mut ParamSet, statistics: impl Iterator<Item = &'a Param>) -> Self {
        if self.rule.ema > 0.0 {
            let averaged = |value: &Param| AveragedStatistic { value: value.clone(), average: set.average(value) };
            self.statistics = statistics.map(averaged).collect();
        }
        self
    }

    /// The weights that it updates.
    pub fn weights(&self) -> &[Param] {
        &self.weights
    }

    /// Records the gradients of `loss`, their clipping, the optimiser and the moving averages. Afterwards
    /// `env` has the new weights. Returns the norm of all gradients if they are clipped.
    #[track_caller]
    pub fn minimize(&self, env: &Env, loss: Var) -> Option<Var> {
        let values: Vec<Var> = self.weights.iter().map(|w| env.get(w)).collect();
        let mut grads = env.t.grad(loss, &values);
        let norm = (self.rule.clip_norm > 0.0).then(|| self.clip(env, &mut grads));
        for (i, (value, grad)) in values.into_iter().zip(grads).enumerate() {
            env.t.scope(&format!("{}.update", self.weights[i].path), || self.update(env, i, value, grad));
        }
        for AveragedStatistic { value, average } in &self.statistics {
            env.t.scope(&format!("{}.update", value.path), || self.average(env, average, env.get(value)));
        }
        norm
    }

    /// Scales all gradients by one factor so that their common norm is at most `clip_norm` (Pascanu et al.
    /// 2013).
    fn clip(&self, env: &Env, grads: &mut [Var]) -> Var {
        let t = env.t;
        let squares: Vec<Var> = grads.iter().map(|g| t.sum(t.square(*g))).collect();
        let total = squares.into_iter().reduce(|a, b| t.add(a, b)).unwrap_or_else(|| t.fill(0.0, []));
        let norm = t.sqrt(total);
        // The addend 1e-6 is that of PyTorch. It keeps the factor finite if all gradients are zero.
        let scale = t.clamp(t.scale(t.recip(t.affine(norm, 1.0, 1e-6)), self.rule.clip_norm), 0.0, 1.0);
        for g in grads {
            *g = t.mul_scalar(*g, scale);
        }
        norm
    }

    fn update(&self, env: &Env, i: usize, value: Var, grad: Var) {
        let (t, o) = (env.t, &self.rule.optimizer);
        let rate = t.scalar(LEARNING_RATE);
        let op = match o.kind {
            OptimizerKind::Adam => Op::Adam { beta1: o.beta1, beta2: o.beta2, eps: o.eps },
            OptimizerKind::Rmsprop => Op::RmsProp { alpha: o.alpha, eps: o.eps },
            OptimizerKind::Sgd => Op::Sgd { momentum: o.momentum },
        };
        let mut inputs = vec![value, grad];
        inputs.extend(self.memory[i].iter().map(|m| env.get(m)));
        inputs.push(rate);
        if o.kind == OptimizerKind::Adam {
            inputs.push(t.scalar(self.step));
        }
        let new = t.record(op, &inputs);
        env.set(&self.weights[i], new);
        for (k, memory) in self.memory[i].iter().enumerate() {
            env.set(memory, t.output_of(new, k + 1));
        }
        if let Some(average) = self.averages.get(i) {
            self.average(env, average, new);
        }
    }

    /// Moves an average towards a new value.
    fn average(&self, env: &Env, average: &Param, new: Var) {
        let (t, old) = (env.t, env.get(average));
        let averaged = match self.rule.averaging {
            Averaging::Constant => t.ema(old, new, self.rule.ema),
            // The last step does not read the old average, so it writes the new one in its place.
            Averaging::WarmedUp => t.sub(new, t.mul_scalar(t.sub(new, old), t.scalar(AVERAGE_DECAY))),
        };
        env.set(average, averaged);
    }
}
