//! Autoencoders, plain and variational (Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014).
//!
//! Encoder q(z | x) = N(mu, exp logvar), prior N(0, I), decoder p(x | z) = Bernoulli(logits). Training
//! maximises the evidence lower bound E_q[log p(x | z)] - KL(q || p) (eq. 3), with one reparameterised
//! sample per image (eq. 10).

mod layers;

use super::{TEMPERATURE, required};
use crate::config::{Config, NetworkKind};
use crate::error::Result;
use crate::nn::{Env, Linear, Mode, ParamSet};
use crate::optim::{Learner, STEP};
use crate::rng::Stream;
use crate::shape::{ImageSize, Meta};
use crate::tape::op::{Dist, Scalar};
use crate::tape::plan::Plan;
use crate::tape::{InputRole, Tape, Var};
use layers::{Decoder, Encoder};

/// Weight of the KL term in the loss.
pub(crate) const KL_WEIGHT: Scalar = Scalar::f32("KlWeight", 1.0);

/// An encoder and a decoder around a latent vector.
#[derive(Clone, Debug)]
pub struct Latent {
    set: ParamSet,
    image: ImageSize,
    encoder: Encoder,
    mu: Linear,
    /// Absent in a plain autoencoder.
    logvar: Option<Linear>,
    decoder: Decoder,
    /// Dimensions of the latent vector.
    pub dims: usize,
    learner: Learner,
}

/// What the encoder says of the latent vector, `[n, d]` each.
#[derive(Clone, Copy)]
struct Encoded {
    mu: Var,
    /// Absent in a plain autoencoder.
    logvar: Option<Var>,
}

impl Latent {
    /// Declares the parameters: those of the encoder, `mu`, `lv`, those of the decoder; no `lv` in a plain
    /// autoencoder.
    pub(super) fn new(set: &mut ParamSet, config: &Config) -> Result<Self> {
        let (hidden, dims) = (required(config.model.hidden, "hidden")?, required(config.model.latent, "latent")?);
        let image = layers::image(config)?;
        let encoder = Encoder::new(set, config, image)?;
        let mu = Linear::new(set, "mu", hidden, dims);
        let is_variational = config.network != NetworkKind::Autoencoder;
        let logvar = is_variational.then(|| Linear::new(set, "lv", hidden, dims));
        let decoder = Decoder::new(set, config, image, image.channels)?;
        let weights = set.weights().cloned().collect();
        let learner = Learner::new(set, weights, config, STEP);
        Ok(Latent { set: set.clone(), image, encoder, mu, logvar, decoder, dims, learner })
    }

    /// The size of its images.
    pub(super) fn image(&self) -> ImageSize {
        self.image
    }

    /// Whether the model has a density. A plain autoencoder has none.
    pub fn is_variational(&self) -> bool {
        self.logvar.is_some()
    }

    /// Declares images as an input: `[n, h, w, c]`, values in 0 to 1.
    #[track_caller]
    fn input(&self, t: &Tape, batch: usize) -> Var {
        t.input_of(InputRole::Images, Meta::f32(self.image.batch(batch)))
    }

    /// `x[n, h, w, c] -> mu[n, d], logvar[n, d]`
    fn encode(&self, env: &Env, x: Var) -> Encoded {
        let t = env.t;
        let h = self.encoder.forward(env, x);
        let mu = t.scope("mu", || self.mu.forward(env, h));
        Encoded { mu, logvar: self.logvar.as_ref().map(|lv| t.scope("lv", || lv.forward(env, h))) }
    }

    /// The plan of a training step. Variational: `elbo`, `reconstruction` and `kl` in nats per image. Plain:
    /// `mse`, the squared error per image.
    pub(super) fn training(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::new(&t, Mode::Train);
        let x = self.input(&t, batch);
        let Encoded { mu, logvar } = self.encode(&env, x);
        let per_image = 1.0 / batch as f64;
        let loss = match logvar {
            Some(logvar) => {
                let [z, kl] = t.gaussian_sample(mu, logvar, Stream::Latent);
                let logits = self.decoder.forward(&env, z);
                let reconstruction = t.scale(t.sum(t.bce_with_logits(logits, x)), per_image);
                let kl = t.scale(t.sum(kl), per_image);
                t.output("elbo", t.scale(t.add(reconstruction, kl), -1.0));
                t.output("reconstruction", reconstruction);
                t.output("kl", kl);
                t.add(reconstruction, t.mul(kl, t.scalar(KL_WEIGHT)))
            }
            None => {
                let image = t.sigmoid(self.decoder.forward(&env, mu));
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
        let x = self.input(&t, batch);
        let Encoded { mu, logvar } = self.encode(&env, x);
        let logvar = logvar.expect("only a variational model has a bound");
        // The importance weight needs eps itself, which `gaussian_sample` does not keep.
        let eps = t.random_by_image(Dist::Normal, Stream::Latent, t.shape(mu));
        let z = t.reparameterize(mu, logvar, eps);
        let nll = t.sum_rows(t.bce_with_logits(self.decoder.forward(&env, z), x));
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
        let x = self.input(&t, batch);
        let Encoded { mu, logvar } = self.encode(&env, x);
        t.output("mu", mu);
        if let Some(logvar) = logvar {
            t.output("logvar", logvar);
        }
        Plan::new("latent.encode", &t)
    }

    /// `z[n, d] -> image[n, h, w, c]`, the decoder's mean in 0 to 1.
    pub(crate) fn decoding(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::infer(&t, &self.set);
        let z = t.input("z", Meta::f32([batch, self.dims]));
        t.output("image", t.sigmoid(self.decoder.forward(&env, z)));
        Plan::new("latent.decode", &t)
    }

    /// `-> image[n, h, w, c]`: the decoder's mean for draws from the prior. The temperature scales their
    /// deviation.
    pub fn sampling(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::infer(&t, &self.set);
        let draws = t.random_by_image(Dist::Normal, Stream::Prior, [batch, self.dims]);
        let z = t.mul_scalar(draws, t.scalar(TEMPERATURE));
        t.output("image", t.sigmoid(self.decoder.forward(&env, z)));
        Plan::new("latent.sample", &t)
    }
}
