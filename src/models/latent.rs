//! Autoencoders, plain and variational (Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014).
//!
//! Encoder q(z | x) = N(mu, exp logvar), prior N(0, I), decoder p(x | z) = Bernoulli(logits). Training
//! maximises the evidence lower bound E_q[log p(x | z)] - KL(q || p) (eq. 3), with one reparameterised
//! sample per image (eq. 10).

use super::{TEMPERATURE, required};
use crate::config::{Config, NetworkKind};
use crate::error::Result;
use crate::nn::{Channels, Conv, ConvTranspose, Env, Linear, Mode, ParamSet};
use crate::optim::{Learner, STEP};
use crate::rng::Stream;
use crate::shape::{ImageSize, Meta};
use crate::tape::op::{Dist, Scalar};
use crate::tape::plan::Plan;
use crate::tape::record::ConvAttrs;
use crate::tape::{InputRole, Tape, Var};

const SIDE: usize = 28;

/// Weight of the KL term in the loss.
pub(crate) const KL_WEIGHT: Scalar = Scalar::f32("KlWeight", 1.0);

/// An encoder and a decoder around a latent vector.
#[derive(Clone, Debug)]
pub struct Latent {
    set: ParamSet,
    body: Body,
    mu: Linear,
    /// Absent in a plain autoencoder.
    logvar: Option<Linear>,
    /// Dimensions of the latent vector.
    pub dims: usize,
    learner: Learner,
}

/// The layers between the image and the latent vector, in both directions.
#[derive(Clone, Debug)]
enum Body {
    /// Two 4x4 convolutions with stride 2 and a hidden layer; the decoder mirrors them with transposed
    /// convolutions.
    Convolutional(Box<Convolutional>),
    /// One hidden layer each way (appendix C.1 of the paper).
    Dense(Box<Dense>),
}

#[derive(Clone, Debug)]
struct Dense {
    fc1: Linear,
    fc3: Linear,
    fc4: Linear,
}

#[derive(Clone, Debug)]
struct Convolutional {
    e1: Conv,
    e2: Conv,
    ef: Linear,
    d1: Linear,
    d2: Linear,
    t1: ConvTranspose,
    t2: ConvTranspose,
    /// The size of the feature map between the convolutions and the hidden layer.
    map: ImageSize,
}

/// What the encoder says of the latent vector, `[n, d]` each.
#[derive(Clone, Copy)]
struct Encoded {
    mu: Var,
    /// Absent in a plain autoencoder.
    logvar: Option<Var>,
}

impl Latent {
    /// Declares the parameters: `e1 e2 ef mu lv d1 d2 t1 t2`, or `fc1 mu lv fc3 fc4`; no `lv` in a plain
    /// autoencoder.
    pub(super) fn new(set: &mut ParamSet, config: &Config) -> Result<Self> {
        let (hidden, dims) = (required(config.model.hidden, "hidden")?, required(config.model.latent, "latent")?);
        let variational = config.network != NetworkKind::Autoencoder;
        let halves = |set: &mut ParamSet| {
            let mu = Linear::new(set, "mu", hidden, dims);
            (mu, variational.then(|| Linear::new(set, "lv", hidden, dims)))
        };
        let (body, mu, logvar) = if config.network == NetworkKind::VaeMlp {
            let fc1 = Linear::new(set, "fc1", SIDE * SIDE, hidden);
            let (mu, logvar) = halves(set);
            let fc3 = Linear::new(set, "fc3", dims, hidden);
            let fc4 = Linear::new(set, "fc4", hidden, SIDE * SIDE);
            (Body::Dense(Box::new(Dense { fc1, fc3, fc4 })), mu, logvar)
        } else {
            let c = required(config.model.channels, "channels")?;
            let map = ImageSize { height: SIDE / 4, width: SIDE / 4, channels: 2 * c };
            let halve = ConvAttrs::new(2, 1);
            let e1 = Conv::new(set, "e1", Channels { inputs: 1, outputs: c }, 4, halve);
            let e2 = Conv::new(set, "e2", Channels { inputs: c, outputs: 2 * c }, 4, halve);
            let ef = Linear::from_map(set, "ef", map, hidden);
            let (mu, logvar) = halves(set);
            let d1 = Linear::new(set, "d1", dims, hidden);
            let d2 = Linear::to_map(set, "d2", hidden, map);
            let t1 = ConvTranspose::new(set, "t1", Channels { inputs: 2 * c, outputs: c }, 4, halve);
            let t2 = ConvTranspose::new(set, "t2", Channels { inputs: c, outputs: 1 }, 4, halve);
            (Body::Convolutional(Box::new(Convolutional { e1, e2, ef, d1, d2, t1, t2, map })), mu, logvar)
        };
        let weights = set.weights().cloned().collect();
        let learner = Learner::new(set, weights, config, STEP);
        Ok(Latent { set: set.clone(), body, mu, logvar, dims, learner })
    }

    /// The size of its images.
    pub(super) fn image(&self) -> ImageSize {
        ImageSize { height: SIDE, width: SIDE, channels: 1 }
    }

    /// Whether the model has a density. A plain autoencoder has none.
    pub fn is_variational(&self) -> bool {
        self.logvar.is_some()
    }

    /// `x[n, 28, 28, 1] -> mu[n, d], logvar[n, d]`
    fn encode(&self, env: &Env, x: Var) -> Encoded {
        let t = env.t;
        let n = t.shape(x).dims()[0];
        let h = match &self.body {
            Body::Convolutional(net) => {
                let y = t.scope("e1", || t.relu(net.e1.forward(env, x)));
                let y = t.scope("e2", || t.relu(net.e2.forward(env, y)));
                let flat = t.reshape(y, [n, net.map.dims()]);
                t.scope("ef", || t.relu(net.ef.forward(env, flat)))
            }
            Body::Dense(net) => t.scope("fc1", || t.relu(net.fc1.forward(env, t.reshape(x, [n, SIDE * SIDE])))),
        };
        let mu = t.scope("mu", || self.mu.forward(env, h));
        Encoded { mu, logvar: self.logvar.as_ref().map(|lv| t.scope("lv", || lv.forward(env, h))) }
    }

    /// `z[n, d] -> logits[n, 28, 28, 1]`
    fn decode(&self, env: &Env, z: Var) -> Var {
        let t = env.t;
        let n = t.shape(z).dims()[0];
        match &self.body {
            Body::Convolutional(net) => {
                let y = t.scope("d1", || t.relu(net.d1.forward(env, z)));
                let y = t.scope("d2", || t.relu(net.d2.forward(env, y)));
                let y = t.scope("t1", || t.relu(net.t1.forward(env, t.reshape(y, net.map.batch(n)))));
                t.scope("t2", || net.t2.forward(env, y))
            }
            Body::Dense(net) => {
                let y = t.scope("fc3", || t.relu(net.fc3.forward(env, z)));
                let y = t.scope("fc4", || net.fc4.forward(env, y));
                t.reshape(y, [n, SIDE, SIDE, 1])
            }
        }
    }

    /// The plan of a training step. Variational: `elbo`, `reconstruction` and `kl` in nats per image. Plain:
    /// `mse`, the squared error per image.
    pub(super) fn training(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::new(&t, Mode::Train);
        let x = t.input_of(InputRole::Images, Meta::f32([batch, SIDE, SIDE, 1]));
        let Encoded { mu, logvar } = self.encode(&env, x);
        let per_image = 1.0 / batch as f64;
        let loss = match logvar {
            Some(logvar) => {
                let [z, kl] = t.gaussian_sample(mu, logvar, Stream::Latent);
                let logits = self.decode(&env, z);
                let reconstruction = t.scale(t.sum(t.bce_with_logits(logits, x)), per_image);
                let kl = t.scale(t.sum(kl), per_image);
                t.output("elbo", t.scale(t.add(reconstruction, kl), -1.0));
                t.output("reconstruction", reconstruction);
                t.output("kl", kl);
                t.add(reconstruction, t.mul(kl, t.scalar(KL_WEIGHT)))
            }
            None => {
                let image = t.sigmoid(self.decode(&env, mu));
                let error = t.scale(t.sum(t.mse(image, x)), per_image);
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

    /// `x -> log_weight[n], reconstruction[n], kl[n]` for one sample z of q(z | x), drawn by image index:
    /// log w = log p(x | z) + log p(z) - log q(z | x). The mean of log w is the bound; the log of the mean
    /// of k weights is IWAE-k (Burda et al. 2016, eq. 8). `kl` is the exact divergence.
    pub(crate) fn importance_weights(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::infer(&t, &self.set);
        let x = t.input_of(InputRole::Images, Meta::f32([batch, SIDE, SIDE, 1]));
        let Encoded { mu, logvar } = self.encode(&env, x);
        let logvar = logvar.expect("only a variational model has a bound");
        // The importance weight needs eps itself, which `gaussian_sample` does not keep.
        let eps = t.random_by_image(Dist::Normal, Stream::Latent, t.shape(mu));
        let z = t.reparameterize(mu, logvar, eps);
        let nll = t.sum_rows(t.bce_with_logits(self.decode(&env, z), x));
        // log p(z) = -(z^2 + log 2 pi) / 2 and log q(z | x) = -(eps^2 + logvar + log 2 pi) / 2, summed over
        // dimensions.
        let log_ratio = t.sub(t.add(t.square(eps), logvar), t.square(z));
        t.output("log_weight", t.sub(t.scale(t.sum_rows(log_ratio), 0.5), nll));
        t.output("reconstruction", nll);
        t.output("kl", t.gaussian_kl(mu, logvar));
        Plan::new("latent.weights", &t)
    }

    /// `x -> mu[n, d], logvar[n, d]`. A plain autoencoder has no logvar.
    pub(crate) fn encoding(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::infer(&t, &self.set);
        let x = t.input_of(InputRole::Images, Meta::f32([batch, SIDE, SIDE, 1]));
        let Encoded { mu, logvar } = self.encode(&env, x);
        t.output("mu", mu);
        if let Some(logvar) = logvar {
            t.output("logvar", logvar);
        }
        Plan::new("latent.encode", &t)
    }

    /// `z[n, d] -> image[n, 28, 28, 1]`, the decoder's mean in 0 to 1.
    pub(crate) fn decoding(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::infer(&t, &self.set);
        let z = t.input("z", Meta::f32([batch, self.dims]));
        t.output("image", t.sigmoid(self.decode(&env, z)));
        Plan::new("latent.decode", &t)
    }

    /// `-> image[n, 28, 28, 1]`: the decoder's mean for draws from the prior. The temperature scales their
    /// deviation.
    pub fn sampling(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::infer(&t, &self.set);
        let draws = t.random_by_image(Dist::Normal, Stream::Prior, [batch, self.dims]);
        let z = t.mul_scalar(draws, t.scalar(TEMPERATURE));
        t.output("image", t.sigmoid(self.decode(&env, z)));
        Plan::new("latent.sample", &t)
    }
}
