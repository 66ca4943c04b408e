//! `pixtape eval`: measures the likelihood of a model, or the accuracy of a classifier, on a split of a data
//! set.

use super::args::{DataArgs, DeviceArgs, count, split};
use super::progress::Busy;
use super::trained::{CheckpointArgs, Stored, Trained};
use super::{accuracy, held_out, measured, output};
use crate::data::Split;
use crate::error::{Error, Result};
use crate::eval::{self, ElboTerms, Evaluation};
use crate::likelihood::{Estimate, Likelihood};
use crate::models::Family;
use crate::report::compare::{beside_published, to_text};
use clap::builder::RangedU64ValueParser;
use serde_json::{Value, json};
use std::sync::Arc;

/// Measure the likelihood of a model (exactly, or by the bounds ELBO and IWAE-K), or a classifier's accuracy
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: pixtape eval runs/vae-mnist --split test --iwae 50 --json\n\n\
    --json prints one object: dataset, sha256 (of the images), split, binarisation, protocol, images and dims; also model,\n\
    step, weights, trained_on, program and device. An exact model also has nll_nats and\n\
    bits_per_dim (a density has no bits_per_dim); a latent model has elbo_nats, elbo_bits_per_dim,\n\
    iwae_nats, iwae_bits_per_dim and iwae_k. elbo_nats and\n\
    iwae_nats are bounds on log p(x) and therefore negative, like -98.3. nll_nats is -log p(x) and therefore positive,\n\
    except for a density. All are means per image, in nats.\n\n\
    A classifier has splits instead, one object per split: name, split, count and sha256 (of the images), binarisation,\n\
    right (images whose largest logit is that of their label), accuracy, interval_95 (Wilson) and cross_entropy_nats.")]
pub(super) struct Args {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// Split to measure on: train, fit, valid or test (default: test; for a classifier test and train)
    #[arg(long, value_name = "SPLIT", value_parser = split)]
    split: Option<Split>,
    /// Samples of the importance-weighted bound of latent models
    #[arg(long, value_name = "K", default_value_t = 50, value_parser = RangedU64ValueParser::<u32>::new().range(1..=100_000))]
    iwae: u32,
    /// Measure only this many images, selected by a fixed shuffle
    #[arg(long, value_name = "N", value_parser = count(u64::from(u32::MAX)))]
    images: Option<usize>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print one JSON object on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<()> {
    args.device.name()?;
    let stored = Stored::read(&args.checkpoint)?;
    if let Family::Classifier(_) = stored.model.family {
        let splits = args.split.map_or(vec![Split::Test, Split::Train], |split| vec![split]);
        return accuracy::run(stored, &splits, args.images, &args.data, &args.device, args.json);
    }
    check_likelihood(&stored)?;
    let split = args.split.unwrap_or(Split::Test);
    let mut images = args.data.open(&stored, split)?;
    held_out::warn_if_trained_on(&stored, &args.data, &images, split);
    let whole = args.images.is_none_or(|n| n >= images.len());
    if !whole {
        images = Arc::new(images.sample(args.images.unwrap_or(1), 0));
    }
    let mut trained = Trained::of(stored, &args.device)?;
    let busy = Busy::new(&format!("measuring {} images", images.len()));
    let found = measured::measure(&mut trained, images, split, args.iwae)?;
    drop(busy);
    if whole {
        measured::keep(&trained.stored, &found.likelihoods);
    }
    if args.json { output::json(&to_json(&trained, &found)) } else { output::print(&text(&trained.stored, &found)) }
}

/// An error if the model has no likelihood.
pub(super) fn check_likelihood(stored: &Stored) -> Result<()> {
    if eval::has_likelihood(&stored.model) {
        return Ok(());
    }
    let name = stored.model.config.name();
    Err(Error::Failed(format!("{name} has no likelihood that could be measured; look at its samples instead")))
}

fn to_json(trained: &Trained, found: &Evaluation) -> Value {
    let protocol = &found.likelihoods[0].protocol;
    let estimates: Vec<String> = found.likelihoods.iter().map(|row| row.protocol.estimate.to_string()).collect();
    let measured = json!({
        "dataset": protocol.dataset,
        "sha256": protocol.sha256,
        "split": protocol.split.name(),
        "binarisation": protocol.binarisation.name(),
        "protocol": estimates.join(", "),
        "images": protocol.images,
        "dims": protocol.dims,
    });
    let mut value = output::merged(trained.stored.provenance(&*trained.backend), &measured);
    for row in &found.likelihoods {
        match row.protocol.estimate {
            Estimate::Exact | Estimate::ExactGiven(_) => {
                value["nll_nats"] = json!(row.nats);
                value["bits_per_dim"] = json!(bits_per_dim(row));
            }
            Estimate::Density => value["nll_nats"] = json!(row.nats),
            Estimate::Elbo | Estimate::ElboGiven(_) => {
                value["elbo_nats"] = json!(-row.nats);
                value["elbo_bits_per_dim"] = json!(bits_per_dim(row));
            }
            Estimate::Iwae(k) | Estimate::IwaeGiven(k, _) => {
                value["iwae_nats"] = json!(-row.nats);
                value["iwae_bits_per_dim"] = json!(bits_per_dim(row));
                value["iwae_k"] = json!(k);
            }
        }
    }
    if let Some(ElboTerms { reconstruction, kl }) = found.terms {
        value["reconstruction_nats"] = json!(reconstruction);
        value["kl_nats"] = json!(kl);
    }
    value
}

fn bits_per_dim(row: &Likelihood) -> f64 {
    row.nats / (row.protocol.dims as f64 * std::f64::consts::LN_2)
}

fn text(stored: &Stored, found: &Evaluation) -> String {
    let mut text = format!("{} ({}, {} weights)\n", stored.model.config.name(), stored.origin(), stored.weights.name());
    for row in &found.likelihoods {
        let sign = if row.protocol.estimate.is_exact() { "" } else { "<= " };
        let (nats, bits) = (row.nats, bits_per_dim(row));
        let number = match row.protocol.estimate {
            Estimate::Density => format!("{nats:.2} nats per sequence"),
            _ => format!("{sign}{nats:.2} nats per image, {sign}{bits:.4} bits per dimension"),
        };
        text += &format!("-log p(x) {number}: {}\n", row.protocol);
    }
    if let Some(ElboTerms { reconstruction, kl }) = found.terms {
        text += &format!("terms of the ELBO: reconstruction {reconstruction:.2} nats, KL divergence {kl:.2} nats\n");
    }
    text + "\n" + &to_text(&beside_published(&found.likelihoods))
}
