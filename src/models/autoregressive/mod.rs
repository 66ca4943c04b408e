//! Autoregressive models: p(x) is the product of p(x_i | x_1 .. x_{i-1}) over all dimensions of an image, pixels in raster
//! order and the colours of a pixel one after another (van den Oord, Kalchbrenner & Kavukcuoglu, "Pixel recurrent neural
//! networks", ICML 2016, eq. 1 and 2).
//!
//! A network gives the logits of all conditionals at once, as it is built so that none of them sees its own dimension or a
//! later one. What is made of the logits is written here once: training, exact likelihoods, and draws.

mod context;
mod gated;
mod pixelcnn;
mod pixelrnn;
mod pixels;

pub use gated::GatedPixelCnn;
pub use pixelcnn::PixelCnn;
pub use pixelrnn::PixelRnn;
pub use pixels::Pixels;

use crate::config::{Config, NetworkKind};
use crate::error::{Error, Result};
use crate::nn::{Env, Mode, ParamSet};
use crate::optim::Learner;
use crate::rng::Stream;
use crate::shape::Meta;
use crate::tape::op::{Dist, Scalar};
use crate::tape::plan::Plan;
use crate::tape::{InputRole, Tape, Var};

/// A network with what its images are and how it learns.
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

/// What a network knows of an image before its first pixel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given {
    /// The class of each image, `[n]` (u32), where the model has classes.
    pub class: Option<Var>,
    /// A reduced image, `[n, h', w', c']` in 0 to 1, where the model gives back what it lacks.
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

    /// `x[n, h, w, c] -> logits[n, h, w, c * k]`, see [`Pixels::outputs`] for k. The logits of dimension i depend on what
    /// comes before it in x, and on nothing else of x.
    pub fn logits(&self, env: &Env, x: Var, given: Given) -> Var {
        match self {
            Network::PixelCnn(net) => net.logits(env, x, given),
            Network::Gated(net) => net.logits(env, x, given),
            Network::PixelRnn(net) => net.logits(env, x),
        }
    }
}

impl Autoregressive {
    /// Declares the parameters of the configured network, and what its optimiser remembers.
    pub(super) fn new(set: &mut ParamSet, config: &Config) -> Result<Self> {
        let pixels = Pixels::new(config)?;
        let network = Box::new(Network::new(set, config, pixels)?);
        let weights = set.weights().cloned().collect();
        let learner = Learner::new(set, weights, config, Scalar::Step);
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

    /// Declares what its plans are fed: images `x[n, h, w, c]`; where the model has classes, `label[n]` (u32); where it is
    /// given reduced images, `reduced[n, h', w', c']`.
    #[track_caller]
    pub fn inputs(&self, t: &Tape, batch: usize) -> (Var, Given) {
        (self.pixels.input(t, batch), self.given(t, batch))
    }

    /// Declares what its plans are fed beside images.
    #[track_caller]
    pub fn given(&self, t: &Tape, batch: usize) -> Given {
        let class = (self.pixels.classes > 0).then(|| t.input_of(InputRole::Labels, Meta::u32([batch])));
        let reduced = self.pixels.reduction.map(|reduction| {
            let [h, w, c] = reduction.size(self.pixels.size);
            t.input_of(InputRole::Reduced, Meta::f32([batch, h, w, c]))
        });
        Given { class, reduced }
    }

    /// One step: losses `nll` in nats an image and, for more than two levels, `bits_per_dim`.
    pub(super) fn training(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::new(&t, Mode::Train);
        let (x, given) = self.inputs(&t, batch);
        let loss = t.mean(self.pixels.nll(&t, self.network.logits(&env, x, given), x));
        t.output("nll", t.scale(loss, self.pixels.dims() as f32));
        if self.pixels.levels > 2 {
            t.output("bits_per_dim", t.scale(loss, std::f32::consts::LOG2_E));
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
        let (x, given) = self.inputs(&t, batch);
        t.output("nll", t.sum_rows(self.pixels.nll(&t, self.network.logits(&env, x, given), x)));
        self.plan("likelihood", &t)
    }

    /// `x, [label], [reduced] -> draw[n, h, w, c]`: a draw of every dimension given what comes before it in x. Drawing an image replays this
    /// once a dimension; a draw depends on the seed, the image's index and the dimension's index alone.
    pub fn draw(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::infer(&t, &self.set);
        let (x, given) = self.inputs(&t, batch);
        let u = t.random_by_image(Dist::Uniform, Stream::Pixel, t.shape(x));
        let logits = self.network.logits(&env, x, given);
        t.output("draw", self.pixels.draw(&t, logits, u, t.scalar(Scalar::Temperature)));
        self.plan("draw", &t)
    }

    fn plan(&self, purpose: &str, t: &Tape) -> Plan {
        Plan::new(&format!("{}.{purpose}", self.network.name()), t)
    }
}
