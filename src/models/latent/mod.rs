//! Autoencoders, plain and variational (Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014).
//!
//! Encoder q(z | x) = N(mu, exp logvar), prior N(0, I), decoder p(x | z). Training maximises a lower
//! bound on log p(x), with reparameterised samples of z (eq. 10). A model with classes is given the class
//! c of an image: q(z | x, c), p(x | z, c), and the same prior for all classes (Kingma et al.,
//! "Semi-supervised learning with deep generative models", NIPS 2014, section 2.2).
//!
//! Read `layers.rs` for the networks, `pixels.rs` for p(x | z), `bound.rs` for what is trained; this
//! file has the plans.

mod bound;
mod layers;
mod pixels;

pub(crate) use bound::KL_WEIGHT;
pub use pixels::PixelDistribution;

use super::{TEMPERATURE, required};
use crate::config::{Config, NetworkKind};
use crate::error::Result;
use crate::nn::{Embedding, Env, Linear, Mode, ParamSet};
use crate::optim::{Learner, STEP};
use crate::rng::Stream;
use crate::shape::{ImageSize, Meta};
use crate::tape::op::Dist;
use crate::tape::plan::Plan;
use crate::tape::{InputRole, Tape, Var};
use bound::Bound;
use layers::{Decoder, Encoder};

/// An encoder and a decoder around a latent vector.
#[derive(Clone, Debug)]
pub struct Latent {
    set: ParamSet,
    image: ImageSize,
    encoder: Box<Encoder>,
    mu: Linear,
    /// Absent in a plain autoencoder.
    logvar: Option<Linear>,
    decoder: Box<Decoder>,
    classes: Option<Box<ClassTables>>,
    pixels: PixelDistribution,
    bound: Bound,
    /// Dimensions of the latent vector.
    pub dims: usize,
    learner: Learner,
}

/// What each class adds before the activation of a hidden layer, `[classes, hidden]`.
#[derive(Clone, Debug)]
struct ClassTables {
    known: usize,
    /// For the last hidden layer of the encoder.
    encoder: Embedding,
    /// For the first hidden layer of the decoder.
    decoder: Embedding,
}

/// What the encoder says of the latent vector, `[n, d]` each; a plain autoencoder has no `logvar`.
#[derive(Clone, Copy)]
struct Encoded<L> {
    mu: Var,
    logvar: L,
}

impl Latent {
    /// Declares the parameters: those of the encoder, `mu`, `lv`, those of the decoder; no `lv` in a plain
    /// autoencoder. With classes also `class_e` and `class_d`.
    pub(super) fn new(set: &mut ParamSet, config: &Config) -> Result<Self> {
        let (hidden, dims) = (required(config.model.hidden, "hidden")?, required(config.model.latent, "latent")?);
        let image = layers::image(config)?;
        let pixels = PixelDistribution::new(config, image)?;
        let encoder = Box::new(Encoder::new(set, config, image)?);
        let mu = Linear::new(set, "mu", hidden, dims);
        let is_variational = config.network != NetworkKind::Autoencoder;
        let logvar = is_variational.then(|| Linear::new(set, "lv", hidden, dims));
        let decoder = Box::new(Decoder::new(set, config, image, pixels.outputs())?);
        let known = config.model.classes.unwrap_or(0);
        let classes = (known > 0).then(|| {
            let mut table = |name: &str| Embedding::new(set, name, known, hidden);
            Box::new(ClassTables { known, encoder: table("class_e"), decoder: table("class_d") })
        });
        let weights = set.weights().cloned().collect();
        let learner = Learner::new(set, weights, config, STEP);
        let bound = Bound::from(config);
        Ok(Latent { set: set.clone(), image, encoder, mu, logvar, decoder, classes, pixels, bound, dims, learner })
    }

    /// The size of its images.
    pub(super) fn image(&self) -> ImageSize {
        self.image
    }

    /// Number of classes that the model is conditional on; 0 if it is not conditional on a class.
    pub(crate) fn classes(&self) -> usize {
        self.classes.as_ref().map_or(0, |classes| classes.known)
    }

    /// Whether the model has a density. A plain autoencoder has none.
    pub fn is_variational(&self) -> bool {
        self.logvar.is_some()
    }

    /// Levels that a colour of a pixel can take, if the model has a likelihood.
    pub(crate) fn levels(&self) -> Option<usize> {
        self.is_variational().then(|| self.pixels.levels())
    }

    /// Declares images as an input: `[n, h, w, c]`, values in 0 to 1.
    #[track_caller]
    fn images(&self, t: &Tape, batch: usize) -> Var {
        t.input_of(InputRole::Images, Meta::f32(self.image.batch(batch)))
    }

    /// Declares the class of each image as an input, `[n]` (u32), if the model has classes.
    #[track_caller]
    fn labels(&self, t: &Tape, batch: usize) -> Option<Var> {
        self.classes.is_some().then(|| t.input_of(InputRole::Labels, Meta::u32([batch])))
    }

    /// `x[n, h, w, c], label[n] -> mu[n, d], logvar[n, d]`
    fn encode(&self, env: &Env, x: Var, label: Option<Var>) -> Encoded<Option<Var>> {
        let t = env.t;
        let added = self.classes.as_ref().zip(label).map(|(tables, label)| tables.encoder.forward(env, label));
        let h = self.encoder.forward(env, self.pixels.centred(t, x), added);
        let mu = t.scope("mu", || self.mu.forward(env, h));
        Encoded { mu, logvar: self.logvar.as_ref().map(|lv| t.scope("lv", || lv.forward(env, h))) }
    }

    /// What the class of each image adds in the decoder: `label[n] -> [n, hidden]`.
    fn class(&self, env: &Env, label: Option<Var>) -> Option<Var> {
        self.classes.as_ref().zip(label).map(|(tables, label)| tables.decoder.forward(env, label))
    }

    /// `z[n, d], class[n, hidden] -> [n, h, w, outputs]`, see [`PixelDistribution::outputs`]
    fn decode(&self, env: &Env, z: Var, class: Option<Var>) -> Var {
        self.decoder.forward(env, z, class)
    }

    /// The plan of a training step. Variational: a bound, see `bound.rs`. Plain: `mse`, the squared error
    /// per image.
    pub(super) fn training(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::new(&t, Mode::Train);
        let (x, label) = (self.images(&t, batch), self.labels(&t, batch));
        let Encoded { mu, logvar } = self.encode(&env, x, label);
        let class = self.class(&env, label);
        let loss = match logvar {
            Some(logvar) => self.bound(&env, x, Encoded { mu, logvar }, class),
            None => {
                let image = self.pixels.mean(&t, self.decode(&env, mu, class));
                let error = t.scale(t.sum(t.mse(image, x)), 1.0 / batch as f64);
                t.output("mse", error);
                error
            }
        };
        if let Some(norm) = self.learner.minimize(&env, loss) {
            t.output("grad_norm", norm);
        }
        env.commit();
        Plan::new("latent.train", &t)
    }

    /// `x, [label] -> log_weight[n], reconstruction[n], kl[n]` for one sample z of q(z | x), drawn by image
    /// index: log w = log p(x | z) + log p(z) - log q(z | x). The mean of log w is the bound; the log of the
    /// mean of k weights is IWAE-k (Burda et al. 2016, eq. 8). `kl` is the exact divergence.
    pub(crate) fn importance_weights(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::infer(&t, &self.set);
        let (x, label) = (self.images(&t, batch), self.labels(&t, batch));
        let Encoded { mu, logvar } = self.encode(&env, x, label);
        let logvar = logvar.expect("only a variational model has a bound");
        // The importance weight needs eps itself, which `gaussian_sample` does not keep.
        let eps = t.random_by_image(Dist::Normal, Stream::Latent, t.shape(mu));
        let z = t.reparameterize(mu, logvar, eps);
        let output = self.decode(&env, z, self.class(&env, label));
        let nll = t.sum_rows(self.pixels.nll(&t, output, x));
        t.output("log_weight", t.sub(bound::log_ratio(&t, z, eps, logvar), nll));
        t.output("reconstruction", nll);
        t.output("kl", t.gaussian_kl(mu, logvar));
        Plan::new("latent.weights", &t)
    }

    /// `x, [label] -> mu[n, d], logvar[n, d]`. A plain autoencoder has no logvar.
    pub(crate) fn encoding(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::infer(&t, &self.set);
        let (x, label) = (self.images(&t, batch), self.labels(&t, batch));
        let Encoded { mu, logvar } = self.encode(&env, x, label);
        t.output("mu", mu);
        if let Some(logvar) = logvar {
            t.output("logvar", logvar);
        }
        Plan::new("latent.encode", &t)
    }

    /// `z[n, d], [label] -> image[n, h, w, c]`, the decoder's mean in 0 to 1.
    pub(crate) fn decoding(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::infer(&t, &self.set);
        let z = t.input("z", Meta::f32([batch, self.dims]));
        let class = self.class(&env, self.labels(&t, batch));
        t.output("image", self.pixels.mean(&t, self.decode(&env, z, class)));
        Plan::new("latent.decode", &t)
    }

    /// `[label] -> image[n, h, w, c]`: the decoder's mean for draws from the prior. The temperature scales
    /// their deviation.
    pub fn sampling(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::infer(&t, &self.set);
        let class = self.class(&env, self.labels(&t, batch));
        let draws = t.random_by_image(Dist::Normal, Stream::Prior, [batch, self.dims]);
        let z = t.mul_scalar(draws, t.scalar(TEMPERATURE));
        t.output("image", self.pixels.mean(&t, self.decode(&env, z, class)));
        Plan::new("latent.sample", &t)
    }
}
