//! Autoregressive models: p(x) is the product of p(x_i | x_1 .. x_{i-1}) over all dimensions of an image,
//! pixels in raster order and the colours of a pixel one after another (van den Oord, Kalchbrenner &
//! Kavukcuoglu, "Pixel recurrent neural networks", ICML 2016, eq. 1 and 2).
//!
//! A network gives the logits of all conditionals at once. It is built so that none of them sees its own
//! dimension or a later one. What follows from the logits is the same for all networks and is written here
//! once: training, exact likelihoods and draws.

mod class_map;
mod gated;
mod pixelcnn;
mod pixelrnn;
mod pixels;
mod reduced;

pub use gated::GatedPixelCnn;
pub use pixelcnn::PixelCnn;
pub use pixelrnn::PixelRnn;
pub use pixels::Pixels;

use crate::config::{Config, NetworkKind};
use crate::error::{Error, Result};
use crate::models::TEMPERATURE;
use crate::nn::{Env, Mode, ParamSet};
use crate::optim::{Learner, STEP};
use crate::rng::Stream;
use crate::shape::Meta;
use crate::tape::op::Dist;
use crate::tape::plan::Plan;
use crate::tape::{InputRole, Tape, Var};

/// A network with its images and its learner.
#[derive(Clone, Debug)]
pub struct Autoregressive {
    set: ParamSet,
    network: Box<Network>,
    pixels: Pixels,
    learner: Learner,
}

/// The networks.
#[derive(Clone, Debug)]
pub enum Network {
    /// Masked convolutions.
    PixelCnn(PixelCnn),
    /// Gated convolutions in two stacks.
    Gated(GatedPixelCnn),
    /// LSTM scans.
    PixelRnn(PixelRnn),
}

/// What a network knows about an image before its first pixel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions {
    /// The class of each image, `[n]` (u32), if the model has classes.
    pub class: Option<Var>,
    /// The reduced image, `[n, h', w', c']` in 0 to 1, if the model draws what a reduced image lacks.
    pub reduced: Option<Var>,
}

impl Network {
    /// Declares the parameters of the configured network.
    fn new(set: &mut ParamSet, config: &Config, pixels: Pixels) -> Result<Self> {
        match config.network {
            NetworkKind::PixelCnn => Ok(Network::PixelCnn(PixelCnn::new(set, config, pixels)?)),
            NetworkKind::GatedPixelCnn => Ok(Network::Gated(GatedPixelCnn::new(set, config, pixels)?)),
            NetworkKind::RowLstm | NetworkKind::DiagonalBiLstm => {
                Ok(Network::PixelRnn(PixelRnn::new(set, config, pixels)?))
            }
            other => Err(Error::Usage(format!("the network {other} is not autoregressive"))),
        }
    }

    /// The first part of the names of its plans.
    fn name(&self) -> &'static str {
        match self {
            Network::PixelCnn(_) => "pixelcnn",
            Network::Gated(_) => "gated-pixelcnn",
            Network::PixelRnn(_) => "pixelrnn",
        }
    }

    /// `x[n, h, w, c] -> logits[n, h, w, c * k]`, see [`Pixels::logits_per_dimension`] for k. The logits of
    /// dimension i depend on the dimensions before it in x, and on nothing else in x.
    pub fn logits(&self, env: &Env, x: Var, conditions: Conditions) -> Var {
        match self {
            Network::PixelCnn(net) => net.logits(env, x, conditions),
            Network::Gated(net) => net.logits(env, x, conditions),
            Network::PixelRnn(net) => net.logits(env, x, conditions),
        }
    }
}

impl Autoregressive {
    /// Declares the parameters of the configured network, and what its optimiser remembers.
    pub(super) fn new(set: &mut ParamSet, config: &Config) -> Result<Self> {
        let pixels = Pixels::new(config)?;
        let network = Box::new(Network::new(set, config, pixels)?);
        let weights = set.weights().cloned().collect();
        let learner = Learner::new(set, weights, config, STEP);
        Ok(Autoregressive { set: set.clone(), network, pixels, learner })
    }

    /// What its images are.
    pub fn pixels(&self) -> Pixels {
        self.pixels
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Declares the inputs of its plans: images `x[n, h, w, c]`; if the model has classes, `label[n]` (u32);
    /// if it is given reduced images, `reduced[n, h', w', c']`.
    #[track_caller]
    #[doc(hidden)]
    pub fn inputs(&self, t: &Tape, batch: usize) -> (Var, Conditions) {
        (self.pixels.input(t, batch), self.conditions(t, batch))
    }

    /// Declares the inputs of its plans other than the images.
    #[track_caller]
    pub(crate) fn conditions(&self, t: &Tape, batch: usize) -> Conditions {
        let class = (self.pixels.classes > 0).then(|| t.input_of(InputRole::Labels, Meta::u32([batch])));
        let reduced = self
            .pixels
            .reduction
            .map(|reduction| t.input_of(InputRole::Reduced, Meta::f32(reduction.size(self.pixels.size).batch(batch))));
        Conditions { class, reduced }
    }

    /// The plan of a training step. Its losses are `nll`, in nats per image, and, for more than two levels,
    /// `bits_per_dim`.
    pub(super) fn training(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::new(&t, Mode::Train);
        let (x, conditions) = self.inputs(&t, batch);
        let loss = t.mean(self.pixels.nll(&t, self.network.logits(&env, x, conditions), x));
        t.output("nll", t.scale(loss, self.pixels.dims() as f64));
        if self.pixels.levels > 2 {
            t.output("bits_per_dim", t.scale(loss, std::f64::consts::LOG2_E));
        }
        if let Some(norm) = self.learner.minimize(&env, loss) {
            t.output("grad_norm", norm);
        }
        env.commit();
        self.plan("train", &t)
    }

    /// `x, [label], [reduced] -> nll[n]`: the exact negative log-likelihood of each image in nats.
    pub fn likelihood(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::infer(&t, &self.set);
        let (x, conditions) = self.inputs(&t, batch);
        t.output("nll", t.sum_rows(self.pixels.nll(&t, self.network.logits(&env, x, conditions), x)));
        self.plan("likelihood", &t)
    }

    /// `x, [label], [reduced] -> draw[n, h, w, c]`: a draw of every dimension given the dimensions before it
    /// in x. The plain way replays this once per dimension of an image. A draw depends on the seed, the
    /// image's index and the dimension's index alone.
    pub fn draw(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::infer(&t, &self.set);
        let (x, conditions) = self.inputs(&t, batch);
        let u = t.random_by_image(Dist::Uniform, Stream::Pixel, t.shape(x));
        let logits = self.network.logits(&env, x, conditions);
        t.output("draw", self.pixels.draw(&t, logits, u, t.scalar(TEMPERATURE)));
        self.plan("draw", &t)
    }

    fn plan(&self, purpose: &str, t: &Tape) -> Plan {
        Plan::new(&format!("{}.{purpose}", self.network.name()), t)
    }
}
