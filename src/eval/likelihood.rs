//! Likelihoods on a data set: exact ones, the evidence lower bound, and the importance-weighted bound.

use crate::backend::{self, Backend, Scalars};
use crate::config::Distribution;
use crate::data::{Batch, Batches, Binarize, Images, Levels, Order, Split};
use crate::error::{Error, Result};
use crate::likelihood::{Condition, Estimate, Likelihood, Measurement, Protocol, Source};
use crate::models::{Family, Model};
use crate::tape::op::Scalar;
use crate::tape::plan::Plan;
use std::sync::Arc;

/// Images with [`DIMS`] dimensions per batch.
pub(super) const BATCH: usize = 100;

/// Larger images are evaluated in smaller batches, so that their feature maps take no more memory than
/// those of this many dimensions.
const DIMS: usize = 784;

/// The measurement on one split.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// One number for an exact model, two (ELBO and IWAE-k) for a latent model.
    pub likelihoods: Vec<Likelihood>,
    /// The terms of the ELBO, for a latent model.
    pub terms: Option<ElboTerms>,
}

/// The two terms that add up to the negative ELBO, in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ElboTerms {
    /// -E_q[log p(x | z)]
    pub reconstruction: f64,
    /// KL(q(z | x) || p(z))
    pub kl: f64,
}

/// Whether a model has a density, or a bound on it, that can be measured.
#[cfg(feature = "cli")]
pub(crate) fn has_likelihood(model: &Model) -> bool {
    match &model.family {
        Family::Autoregressive(_) | Family::Sequence(_) => true,
        Family::Latent(net) => net.is_variational(),
        Family::Adversarial(_) | Family::Classifier(_) => false,
    }
}

/// What to do with a model that has no likelihood, as a clause.
pub(crate) fn instead_of_likelihood(model: &Model) -> &'static str {
    match model.family {
        Family::Classifier(_) => "measure its accuracy with `pixtape eval`",
        _ => "look at its samples instead",
    }
}

/// Measures `model` on `images`, which are a split of its data set. Latent models draw `iwae_k` latent
/// vectors per image. `name` says where the weights come from.
///
/// # Errors
/// If the model has no density, or if the images do not fit it.
pub fn evaluate(
    backend: &mut dyn Backend,
    model: &Model,
    images: Arc<Images>,
    split: Split,
    iwae_k: u32,
    name: &str,
) -> Result<Evaluation> {
    let mut options = model.batch_options(Order::InOrder);
    options.batch = match &model.family {
        Family::Autoregressive(_) | Family::Latent(_) => (BATCH * DIMS / images.dims().max(DIMS)).max(1),
        Family::Adversarial(_) | Family::Sequence(_) | Family::Classifier(_) => BATCH,
    };
    let measurement = Measurement {
        run: name.to_string(),
        weights: model.weights().to_string(),
        program: env!("CARGO_PKG_VERSION").to_string(),
        device: backend.describe().kind,
    };
    let sha256 = images.sha256();
    let protocol = |estimate| Protocol {
        dataset: images.name().to_string(),
        sha256: sha256.clone(),
        split,
        // A data set that is already binary is one fixed sample, whatever the configuration says.
        binarisation: if images.levels() == Levels::Binary { Binarize::Static } else { model.config.binarize },
        estimate,
        dims: if let Family::Sequence(net) = &model.family { net.observations().dims() } else { images.dims() },
        images: images.len(),
    };
    let row = |estimate, nats| Likelihood {
        model: model.config.name().to_string(),
        nats,
        protocol: protocol(estimate),
        source: Source::Run(measurement.clone()),
    };
    let batches = Batches::new(images.clone(), options)?;
    match &model.family {
        Family::Autoregressive(net) => {
            let nll = exact(backend, net.likelihood(options.batch), batches)?;
            let pixels = net.pixels();
            let condition = match (pixels.reduction, pixels.classes) {
                (Some(reduction), _) => Some(Condition::Reduced(reduction)),
                (None, 0) => None,
                (None, _) => Some(Condition::Class),
            };
            let estimate = condition.map_or(Estimate::Exact, Estimate::ExactGiven);
            Ok(Evaluation { likelihoods: vec![row(estimate, nll)], terms: None })
        }
        Family::Sequence(net) => {
            let density = net.observations().distribution == Distribution::Normal;
            let estimate = if density { Estimate::Density } else { Estimate::Exact };
            let nll = exact(backend, net.likelihood(options.batch), batches)?;
            Ok(Evaluation { likelihoods: vec![row(estimate, nll)], terms: None })
        }
        Family::Latent(net) if net.is_variational() => {
            let (plan, k) = (net.importance_weights(options.batch), iwae_k.max(1));
            let bound = bounds(backend, plan, batches, k, model.config.seed)?;
            let estimates = match net.classes() {
                0 => [Estimate::Elbo, Estimate::Iwae(k)],
                _ => [Estimate::ElboGiven(Condition::Class), Estimate::IwaeGiven(k, Condition::Class)],
            };
            let numbers = [bound.reconstruction + bound.kl, bound.iwae];
            let likelihoods = estimates.into_iter().zip(numbers).map(|(estimate, nats)| row(estimate, nats)).collect();
            let terms = ElboTerms { reconstruction: bound.reconstruction, kl: bound.kl };
            Ok(Evaluation { likelihoods, terms: Some(terms) })
        }
        _ => {
            let (name, instead) = (model.config.name(), instead_of_likelihood(model));
            Err(Error::Failed(format!("{name} has no likelihood; {instead}")))
        }
    }
}

/// The batches of one pass, padded to full size. The last one may hold fewer images.
pub(super) fn one_pass(mut batches: Batches) -> impl Iterator<Item = Batch> {
    let (dims, full) = (batches.size().dims(), batches.options().batch);
    (0..batches.per_epoch()).map(move |_| {
        let mut batch = batches.next_batch();
        batch.pixels.resize(full * dims, 0.0);
        if !batch.labels.is_empty() {
            batch.labels.resize(full, 0);
        }
        let reduced = batch.reduced.len() / batch.len() * full;
        batch.reduced.resize(reduced, 0.0);
        batch
    })
}

/// The mean negative log-likelihood in nats.
fn exact(backend: &mut dyn Backend, plan: Plan, batches: Batches) -> Result<f64> {
    let compiled = backend.compile(&plan)?;
    let (mut total, mut images, mut nll) = (0.0, 0, vec![0.0; batches.options().batch]);
    for batch in one_pass(batches) {
        backend.run(compiled, &batch.feeds(&plan), &Scalars::default())?;
        backend::read(backend, compiled, plan.output("nll"), &mut nll)?;
        total += nll[..batch.len()].iter().map(|v| f64::from(*v)).sum::<f64>();
        images += batch.len();
    }
    backend.free(compiled);
    Ok(total / images.max(1) as f64)
}

/// Means over all images, in nats.
#[derive(Default)]
struct Bounds {
    reconstruction: f64,
    kl: f64,
    iwae: f64,
}

fn bounds(backend: &mut dyn Backend, plan: Plan, batches: Batches, k: u32, seed: u32) -> Result<Bounds> {
    let compiled = backend.compile(&plan)?;
    let (total, mut values) = (batches.images().len(), vec![0.0; batches.options().batch]);
    let (mut sum, mut images) = (Bounds::default(), 0);
    let mut scalars = Scalars::default();
    scalars.set_u32(Scalar::SEED, seed);
    for batch in one_pass(batches) {
        let n = batch.len();
        let mut log_weights = vec![Vec::with_capacity(k as usize); n];
        for draw in 0..k as usize {
            // Every draw of every image has its own random numbers.
            scalars.set_u32(Scalar::FIRST_IMAGE, (draw * total + images) as u32);
            backend.run(compiled, &batch.feeds(&plan), &scalars)?;
            let mut read = |backend: &mut dyn Backend, name: &str| -> Result<Vec<f64>> {
                backend::read(backend, compiled, plan.output(name), &mut values)?;
                Ok(values[..n].iter().map(|v| f64::from(*v)).collect())
            };
            for (all, w) in log_weights.iter_mut().zip(read(backend, "log_weight")?) {
                all.push(w);
            }
            sum.reconstruction += read(backend, "reconstruction")?.iter().sum::<f64>() / f64::from(k);
            if draw == 0 {
                sum.kl += read(backend, "kl")?.iter().sum::<f64>();
            }
        }
        sum.iwae -= log_weights.iter().map(|w| log_mean_exp(w)).sum::<f64>();
        images += n;
    }
    backend.free(compiled);
    let n = images.max(1) as f64;
    Ok(Bounds { reconstruction: sum.reconstruction / n, kl: sum.kl / n, iwae: sum.iwae / n })
}

/// log(mean(exp(w))), computed relative to the largest w to avoid overflow.
fn log_mean_exp(w: &[f64]) -> f64 {
    let top = w.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    top + (w.iter().map(|v| (v - top).exp()).sum::<f64>() / w.len() as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::log_mean_exp;

    #[test]
    fn log_mean_exp_survives_what_exp_does_not() {
        assert!((log_mean_exp(&[-1000.0, -1000.0]) + 1000.0).abs() < 1e-12);
        assert!((log_mean_exp(&[-1000.0, -1001.0]) - (-1000.0 + ((1.0 + (-1.0_f64).exp()) / 2.0).ln())).abs() < 1e-12);
    }
}
