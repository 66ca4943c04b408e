//! What training maximises: the evidence lower bound, with its variants, or the importance-weighted bound.
//!
//! - ELBO: E_q[log p(x | z)] - KL(q || p) with one sample and the exact divergence (Kingma & Welling
//!   2014, eq. 7). `beta` multiplies the KL term (Higgins et al., "beta-VAE", ICLR 2017, eq. 4).
//! - Free bits: in the loss, the divergence of each latent dimension, mean over the batch, counts as at
//!   least `free_bits` (Kingma et al., "Improving variational inference with inverse autoregressive
//!   flow", NIPS 2016, eq. 15, with one group per dimension).
//! - IWAE-k: E log (1/k sum w_i) over k samples, w = p(x | z) p(z) / q(z | x) (Burda et al., "Importance
//!   weighted autoencoders", ICLR 2016, eq. 8). Its gradient goes through the samples (eq. 14).

use super::{Encoded, Latent};
use crate::config::Config;
use crate::nn::Env;
use crate::rng::Stream;
use crate::shape::Shape;
use crate::tape::op::{Dist, Scalar};
use crate::tape::{Tape, Var};

/// Weight of the KL term in the loss: `beta`, times the warm-up.
pub(crate) const KL_WEIGHT: Scalar = Scalar::f32("KlWeight", 1.0);

/// The bound that is trained.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    /// Samples of the latent vector per image; with one, the divergence is exact.
    samples: usize,
    /// What the divergence of a latent dimension counts at least, in nats; 0 is the plain bound.
    free_bits: f64,
}

impl From<&Config> for Bound {
    fn from(config: &Config) -> Self {
        let samples = config.importance_samples.unwrap_or(1) as usize;
        Bound { samples, free_bits: config.free_bits.unwrap_or(0.0) }
    }
}

impl Latent {
    /// Records the loss of a training step, mean over the images `x[n, h, w, c]`, and the outputs that are
    /// logged, in nats per image: `elbo`, `reconstruction` and `kl`, or `iwae`, `elbo` and `reconstruction`;
    /// for images of 256 levels also `bits_per_dim` of the first one.
    pub(super) fn bound(&self, env: &Env, x: Var, encoded: Encoded<Var>, class: Option<Var>) -> Var {
        if self.bound.samples > 1 {
            self.importance_weighted(env, x, encoded, class)
        } else {
            self.evidence(env, x, encoded, class)
        }
    }

    fn evidence(&self, env: &Env, x: Var, Encoded { mu, logvar }: Encoded<Var>, class: Option<Var>) -> Var {
        let t = env.t;
        let per_image = 1.0 / t.shape(x).dims()[0] as f64;
        let [z, kl] = t.gaussian_sample(mu, logvar, Stream::Latent);
        let output = self.decode(env, z, class);
        let reconstruction = t.scale(t.sum(self.pixels.nll(t, output, x)), per_image);
        let kl = t.scale(t.sum(kl), per_image);
        let elbo = t.scale(t.add(reconstruction, kl), -1.0);
        t.output("elbo", elbo);
        t.output("reconstruction", reconstruction);
        t.output("kl", kl);
        self.output_bits(t, elbo);
        let counted =
            if self.bound.free_bits > 0.0 { beyond_free_bits(t, mu, logvar, self.bound.free_bits) } else { kl };
        t.add(reconstruction, t.mul(counted, t.scalar(KL_WEIGHT)))
    }

    fn importance_weighted(&self, env: &Env, x: Var, Encoded { mu, logvar }: Encoded<Var>, class: Option<Var>) -> Var {
        let (t, k) = (env.t, self.bound.samples);
        let n = t.shape(x).dims()[0];
        let [mu, logvar] = [mu, logvar].map(|v| repeated(t, v, k));
        let eps = t.random(Dist::Normal, Stream::Latent, t.shape(mu));
        let z = t.reparameterize(mu, logvar, eps);
        let output = self.decode(env, z, class.map(|added| repeated(t, added, k)));
        let nll = t.sum_rows(self.pixels.nll(t, output, repeated(t, x, k)));
        let log_ratio = log_ratio(t, z, eps, logvar);
        let mean = |v: Var| t.scale(t.sum(v), 1.0 / t.shape(v).len() as f64);
        let log_weight = |log_ratio: Var| t.reshape(t.sub(log_ratio, nll), [n, k]);
        let whole = log_weight(log_ratio);
        let iwae = mean(log_mean_exp(t, whole));
        t.output("iwae", iwae);
        t.output("elbo", mean(whole));
        t.output("reconstruction", mean(nll));
        self.output_bits(t, iwae);
        // The warm-up of the KL term makes p(z) and q(z | x) count less at first.
        let weighted = log_weight(t.mul_scalar(log_ratio, t.scalar(KL_WEIGHT)));
        t.scale(mean(log_mean_exp(t, weighted)), -1.0)
    }

    /// Outputs a bound in nats per image in bits per dimension, if it is one on the probability of levels.
    fn output_bits(&self, t: &Tape, bound: Var) {
        if self.pixels.levels() > 2 {
            t.output("bits_per_dim", t.scale(bound, -std::f64::consts::LOG2_E / self.image.dims() as f64));
        }
    }
}

/// `v[n, ..] -> [n * k, ..]`: each row k times, one after the other.
fn repeated(t: &Tape, v: Var, k: usize) -> Var {
    let shape = t.shape(v);
    let (n, len) = (shape.dims()[0], shape.len() / shape.dims()[0]);
    let rows = t.expand(t.reshape(v, [n, 1, len]), [n, k, len]);
    let mut dims = shape.dims().to_vec();
    dims[0] = n * k;
    t.reshape(rows, Shape::new(&dims))
}

/// `z[m, d], eps[m, d], logvar[m, d] -> log p(z) - log q(z | x)`, `[m]`, for z = mu + exp(logvar / 2) eps:
/// log p(z) = -(z^2 + log 2 pi) / 2 and log q(z | x) = -(eps^2 + logvar + log 2 pi) / 2, summed over
/// dimensions.
pub(super) fn log_ratio(t: &Tape, z: Var, eps: Var, logvar: Var) -> Var {
    let twice = t.sub(t.add(t.square(eps), logvar), t.square(z));
    t.scale(t.sum_rows(twice), 0.5)
}

/// `log_weight[n, k] -> log (1/k sum exp)` of each row, `[n]`. The cross entropy of a softmax is log sum exp
/// minus the target's logit, and is computed without overflow.
fn log_mean_exp(t: &Tape, log_weight: Var) -> Var {
    let &[n, k] = t.shape(log_weight).dims() else { panic!("weights have two dimensions") };
    let first = t.quantize(t.fill(0.0, [n]), 2);
    let log_sum = t.add(t.softmax_cross_entropy(log_weight, first), t.reshape(t.channels(log_weight, 0, 1), [n]));
    t.affine(log_sum, 1.0, -(k as f64).ln())
}

/// `mu[n, d], logvar[n, d] ->` the divergence of each dimension, mean over the batch, or `free_bits` if
/// that is more; summed over dimensions.
fn beyond_free_bits(t: &Tape, mu: Var, logvar: Var, free_bits: f64) -> Var {
    let &[n, d] = t.shape(mu).dims() else { panic!("latent vectors have two dimensions") };
    // KL(N(mu, v) || N(0, 1)) = (mu^2 + v - 1 - log v) / 2
    let kl = t.affine(t.sub(t.add(t.square(mu), t.exp(logvar)), logvar), 0.5, -0.5);
    let of_dimension = t.scale(t.sum_to(kl, [1, d]), 1.0 / n as f64);
    t.affine(t.sum(t.relu(t.affine(of_dimension, 1.0, -free_bits))), 1.0, d as f64 * free_bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{self, Feed, Scalars};
    use crate::shape::Meta;
    use crate::tape::plan::Plan;

    /// The value of a scalar that is computed from one matrix.
    fn value(shape: [usize; 2], given: &[f32], of: impl Fn(&Tape, Var) -> Var) -> f32 {
        let t = Tape::new();
        let result = of(&t, t.input("given", Meta::f32(shape)));
        t.output("result", result);
        let mut device = backend::open("cpu", 1).unwrap();
        let plan = device.compile(&Plan::new("value", &t)).unwrap();
        device.run(plan, &[Feed::F32(given)], &Scalars::default()).unwrap();
        let mut result = [f32::NAN];
        backend::read(&mut *device, plan, 0, &mut result).unwrap();
        result[0]
    }

    #[test]
    fn a_dimension_counts_its_mean_over_the_batch_or_the_free_bits() {
        // With unit variance the divergence is mu^2 / 2: 2 and 0 in the first dimension, 0.02 in the second.
        let mu = [2.0, 0.2, 0.0, 0.2];
        let of = |free: f64| value([2, 2], &mu, |t, mu| beyond_free_bits(t, mu, t.fill(0.0, [2, 2]), free));
        for (free, want) in [(0.5, 1.0 + 0.5), (0.01, 1.0 + 0.02), (3.0, 6.0)] {
            assert!((of(free) - want).abs() < 1e-6, "{free} free: {}, not {want}", of(free));
        }
    }

    #[test]
    fn a_mean_of_weights_survives_what_exp_does_not() {
        for (weights, want) in [([-1000.0; 3], -1000.0), ([-900.0, -2000.0, -900.0], -900.0 + (2.0_f32 / 3.0).ln())] {
            let got = value([1, 3], &weights, |t, w| t.sum(log_mean_exp(t, w)));
            assert!((got - want).abs() < 1e-3, "{weights:?}: {got}, not {want}");
        }
    }
}
