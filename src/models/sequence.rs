//! Sequence models: p(x) is the product over time of p(x_t | x_1 .. x_{t-1}). An LSTM reads one observation
//! after the other (Graves, "Generating sequences with recurrent neural networks", 2013, section 2).
//!
//! A sequence is an image of one colour: a row is an observation of `width` values in 0 to 1. The last
//! `actions` of them are actions: what was done to the system at that step. The model is given the actions
//! and predicts the other values. Given the past, the values of an observation are independent, and each is
//! binary or normal. The model reads known sequences as a whole. To draw sequences, and to plan, it goes
//! step by step with its state as input and output.

use super::required;
use crate::config::{Config, Distribution};
use crate::error::Result;
use crate::models::TEMPERATURE;
use crate::nn::{Env, Linear, Lstm, LstmState, Mode, ParamSet};
use crate::optim::{Learner, STEP};
use crate::rng::Stream;
use crate::shape::Meta;
use crate::tape::op::Dist;
use crate::tape::plan::Plan;
use crate::tape::{InputRole, Tape, Var};

/// The least log variance of a normal value: that of the error of rounding to one of 256 levels, log(1 /
/// 255^2 / 12). Without this limit, a density of rounded values could grow without bound.
pub const LEAST_LOGVAR: f64 = -13.567_43;

/// log(2 pi)
const LOG_TAU: f64 = 1.837_877;

/// The sequences of a model: their extents and the distribution of their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observations {
    /// Observations in a sequence.
    pub steps: usize,
    /// Values of an observation, including its actions.
    pub width: usize,
    /// The number of actions; they are the last values of an observation.
    pub actions: usize,
    /// The distribution of the other values.
    pub distribution: Distribution,
}

impl Observations {
    fn new(config: &Config) -> Result<Self> {
        let steps = required(config.model.height, "height")?;
        let width = required(config.model.width, "width")?;
        let actions = required(config.model.actions, "actions")?;
        let distribution = required(config.model.distribution, "distribution")?;
        if actions >= width {
            let reason = format!("model.width must be above {actions}, the number of its actions");
            return Err(crate::Error::Usage(format!("{} has observations of {width} values; {reason}", config.name())));
        }
        Ok(Observations { steps, width, actions, distribution })
    }

    /// The number of values of an observation that are predicted.
    #[doc(hidden)]
    pub fn predicted(&self) -> usize {
        self.width - self.actions
    }

    /// The number of values of a sequence that are predicted: the dimensions of its likelihood.
    #[doc(hidden)]
    pub fn dims(&self) -> usize {
        self.steps * self.predicted()
    }

    /// The number of levels that the values of the training data have.
    pub(crate) fn levels(&self) -> usize {
        if self.distribution == Distribution::Bernoulli { 2 } else { 256 }
    }
}

/// The distribution of the next observation.
#[derive(Clone, Copy, Debug)]
pub enum Prediction {
    /// Logits of each value `[m, p]`.
    Bernoulli {
        /// `[m, p]`
        logits: Var,
    },
    /// Mean and log variance of each value `[m, p]`.
    Normal {
        /// `[m, p]`
        mean: Var,
        /// `[m, p]`
        logvar: Var,
    },
}

impl Prediction {
    /// `x[m, p] -> -log p(x)` of each value.
    #[track_caller]
    pub(crate) fn nll(&self, t: &Tape, x: Var) -> Var {
        match *self {
            Prediction::Bernoulli { logits } => t.bce_with_logits(logits, x),
            // (log 2 pi + logvar + (x - mean)^2 / var) / 2
            Prediction::Normal { mean, logvar } => {
                let square = t.mul(t.mse(x, mean), t.exp(t.scale(logvar, -1.0)));
                t.affine(t.add(logvar, square), 0.5, 0.5 * LOG_TAU)
            }
        }
    }

    /// The mean of each value `[m, p]`.
    #[track_caller]
    pub(crate) fn mean(&self, t: &Tape) -> Var {
        match *self {
            Prediction::Bernoulli { logits } => t.sigmoid(logits),
            Prediction::Normal { mean, .. } => mean,
        }
    }

    /// `noise[m, p] (uniform or normal), temperature[] -> draw[m, p]`: a draw of each value, in 0 to 1 like
    /// every observation.
    #[track_caller]
    fn draw(&self, t: &Tape, noise: Var, temperature: Var) -> Var {
        match *self {
            Prediction::Bernoulli { logits } => t.bernoulli(logits, noise, temperature),
            Prediction::Normal { mean, logvar } => {
                t.clamp(t.reparameterize(mean, logvar, t.mul_scalar(noise, temperature)), 0.0, 1.0)
            }
        }
    }
}

/// Maps values in 0 to 1 to -1 to 1, as the LSTM reads them.
#[track_caller]
fn centred(t: &Tape, x: Var) -> Var {
    t.affine(x, 2.0, -1.0)
}

/// An LSTM, and a linear layer that turns its state into the distribution of the next observation.
#[derive(Clone, Debug)]
pub struct Sequence {
    set: ParamSet,
    observations: Observations,
    lstm: Lstm,
    head: Linear,
    learner: Learner,
}

impl Sequence {
    /// Declares the parameters: `lstm.{weight_ih,weight_hh,bias}`, `head`.
    pub(super) fn new(set: &mut ParamSet, config: &Config) -> Result<Self> {
        let observations = Observations::new(config)?;
        let units = required(config.model.hidden, "hidden")?;
        let lstm = Lstm::new(set, "lstm", observations.width, units);
        let outputs =
            if observations.distribution == Distribution::Bernoulli { 1 } else { 2 } * observations.predicted();
        let head = Linear::new(set, "head", units, outputs);
        let weights = set.weights().cloned().collect();
        let learner = Learner::new(set, weights, config, STEP);
        Ok(Sequence { set: set.clone(), observations, lstm, head, learner })
    }

    /// Its sequences.
    pub fn observations(&self) -> Observations {
        self.observations
    }

    /// Length of each of the two state vectors.
    #[doc(hidden)]
    pub fn units(&self) -> usize {
        self.lstm.units
    }

    /// The parameters as inference reads them.
    pub(crate) fn env<'t>(&self, t: &'t Tape) -> Env<'t> {
        Env::infer(t, &self.set)
    }

    /// The distribution that a state `h[m, d]` gives after the observation `before[m, w]`. For normal
    /// values, the layer gives the difference from the observation before.
    #[track_caller]
    fn predict(&self, env: &Env, before: Var, h: Var) -> Prediction {
        let (t, p) = (env.t, self.observations.predicted());
        let y = self.head.forward(env, h);
        if self.observations.distribution == Distribution::Bernoulli {
            return Prediction::Bernoulli { logits: y };
        }
        let mean = t.add(t.channels(before, 0, p), t.channels(y, 0, p));
        // This is close to the raw value if that is well above the least.
        let above = t.softplus(t.affine(t.channels(y, p, 2 * p), 1.0, -LEAST_LOGVAR));
        Prediction::Normal { mean, logvar: t.affine(above, 1.0, LEAST_LOGVAR) }
    }

    /// One step: reads the observation `x[n, w]` and gives the distribution of the next one, with the next
    /// state; both parts of a state are `[n, d]`. The first observation follows one of zeros and a state of
    /// zeros.
    #[track_caller]
    pub(crate) fn step(&self, env: &Env, x: Var, state: LstmState<Var>) -> (Prediction, LstmState<Var>) {
        let next = env.t.scope("lstm", || self.lstm.step(env, centred(env.t, x), state));
        (env.t.scope("head", || self.predict(env, x, next.h)), next)
    }

    /// `x[n, t, w, 1] -> -log p` of each predicted value given the observations before it, `[n * t, p]`.
    #[track_caller]
    fn nll(&self, env: &Env, x: Var) -> Var {
        let Observations { steps, width, .. } = self.observations;
        let (t, p, n) = (env.t, self.observations.predicted(), env.t.shape(x).dims()[0]);
        let before = t.shift_down(x);
        let y = t.scope("lstm", || self.lstm.sequence(env, centred(t, t.reshape(before, [n, steps, width]))));
        let rows = |v: Var, columns: usize| t.reshape(v, [n * steps, columns]);
        let prediction = t.scope("head", || self.predict(env, rows(before, width), rows(y, self.units())));
        prediction.nll(t, t.channels(rows(x, width), 0, p))
    }

    fn input(&self, t: &Tape, batch: usize) -> Var {
        t.input_of(InputRole::Images, Meta::f32([batch, self.observations.steps, self.observations.width, 1]))
    }

    /// The plan of a training step. Its loss is `nll`, in nats per sequence.
    pub(super) fn training(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::new(&t, Mode::Train);
        let loss = t.mean(self.nll(&env, self.input(&t, batch)));
        t.output("nll", t.scale(loss, self.observations.dims() as f64));
        if let Some(norm) = self.learner.minimize(&env, loss) {
            t.output("grad_norm", norm);
        }
        env.commit();
        Plan::new("sequence.train", &t)
    }

    /// `x -> nll[n], steps[n, t]`: the exact negative log-likelihood of each sequence in nats, and of each
    /// of its observations given those before it.
    pub fn likelihood(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = self.env(&t);
        let nll = self.nll(&env, self.input(&t, batch));
        let steps = t.reshape(t.sum_rows(nll), [batch, self.observations.steps]);
        t.output("nll", t.sum_rows(steps));
        t.output("steps", steps);
        Plan::new("sequence.likelihood", &t)
    }

    /// `-> noise[n, t, p]`: the random numbers from which whole sequences are drawn. They depend on the
    /// seed, the sequence's index and the place in it alone.
    pub(crate) fn noise(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let dist = if self.observations.distribution == Distribution::Bernoulli { Dist::Uniform } else { Dist::Normal };
        let shape = [batch, self.observations.steps, self.observations.predicted()];
        t.output("noise", t.random_by_image(dist, Stream::Pixel, shape));
        Plan::new("sequence.noise", &t)
    }

    /// `x[n, w], h[n, d], c[n, d], noise[n, p] -> draw[n, p], mean[n, p], h[n, d], c[n, d]`, for normal
    /// values also `logvar[n, p]`: one step, see [`Sequence::step`].
    #[doc(hidden)]
    pub fn stepping(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = self.env(&t);
        let input = |name: &str, len: usize| t.input(name, Meta::f32([batch, len]));
        let (x, h, c) = (input("x", self.observations.width), input("h", self.units()), input("c", self.units()));
        let noise = input("noise", self.observations.predicted());
        let (prediction, LstmState { h, c }) = self.step(&env, x, LstmState { h, c });
        t.output("draw", prediction.draw(&t, noise, t.scalar(TEMPERATURE)));
        t.output("mean", prediction.mean(&t));
        t.output("h", h);
        t.output("c", c);
        if let Prediction::Normal { logvar, .. } = prediction {
            t.output("logvar", logvar);
        }
        Plan::new("sequence.step", &t)
    }
}
