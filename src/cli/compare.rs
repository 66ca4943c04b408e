//! `pixtape compare`: ranks runs by their likelihoods, together with published results.

use super::args::{DataArgs, DeviceArgs, split};
use super::progress::Busy;
use super::trained::{CheckpointArgs, Stored, Trained, Weights};
use super::{held_out, measured, output};
use crate::data::Split;
use crate::error::{Error, Result};
use crate::eval;
use crate::likelihood::Likelihood;
use crate::models::Family;
use crate::report::compare::{beside_published, to_json, to_text};
use clap::builder::RangedU64ValueParser;
use serde_json::json;
use std::path::PathBuf;

/// Samples of the importance-weighted bound if neither the user nor an earlier measurement says how many.
const DEFAULT_IWAE: u32 = 50;

/// Rank runs by their likelihoods, each among results that were measured in the same way
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: pixtape compare runs/pixelcnn-mnist runs/vae-mnist\n\n\
    Results that `train` or `eval` has measured for the same checkpoint on the same images are reused. Images are known by\n\
    their content, not by their name or path.")]
pub(super) struct Args {
    /// Run folders or checkpoints
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Weights to use (default: the moving averages if there are any)
    #[arg(long, value_name = "WHICH")]
    weights: Option<Weights>,
    /// Split to measure on: train, fit, valid or test
    #[arg(long, value_name = "SPLIT", default_value = "test", value_parser = split)]
    split: Split,
    /// Samples of the importance-weighted bound of latent models (default: the bounds that are known, or 50
    /// if a model has to be measured)
    #[arg(long, value_name = "K", value_parser = RangedU64ValueParser::<u32>::new().range(1..=100_000))]
    iwae: Option<u32>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print one JSON object on stdout: rankings, and without_likelihood
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<()> {
    args.device.name()?;
    let (mut rows, mut without) = (vec![], vec![]);
    for run in &args.runs {
        let stored = Stored::read(&CheckpointArgs { checkpoint: run.clone(), weights: args.weights })?;
        if eval::has_likelihood(&stored.model) {
            let found = likelihoods(&args, stored);
            rows.extend(found.map_err(|error| {
                Error::Failed(format!("the run {} could not be compared: {error}", run.display())).because(error)
            })?);
        } else {
            without.push((stored.model, run));
        }
    }
    let rankings = beside_published(&rows);
    if args.json {
        let without: Vec<_> = without
            .iter()
            .map(|(model, run)| json!({"model": model.config.name(), "source": output::path(run)}))
            .collect();
        return output::json(&json!({"rankings": to_json(&rankings), "without_likelihood": without}));
    }
    let mut text = to_text(&rankings);
    for (model, run) in without {
        let (name, instead) = (model.config.name(), eval::instead_of_likelihood(&model));
        text += &format!("{name} ({}) has no likelihood; {instead}\n", run.display());
    }
    output::print(&text)
}

fn likelihoods(args: &Args, stored: Stored) -> Result<Vec<Likelihood>> {
    let images = args.data.open(&stored, args.split)?;
    held_out::warn_if_trained_on(&stored, &args.data, &images, args.split);
    let mut known = measured::recall(&stored, &images, args.split);
    if let (Some(wanted), true) = (args.iwae, has_bounds(&stored)) {
        let samples = |row: &Likelihood| row.protocol.estimate.importance_samples();
        known.retain(|row| samples(row).is_none_or(|k| k == wanted));
        if !known.iter().any(|row| samples(row) == Some(wanted)) {
            known.clear();
        }
    }
    if !known.is_empty() {
        return Ok(known);
    }
    let mut trained = Trained::of(stored, &args.device)?;
    let busy = Busy::new(&format!("measuring {}", trained.stored.origin()));
    let found = measured::measure(&mut trained, images, args.split, args.iwae.unwrap_or(DEFAULT_IWAE))?;
    drop(busy);
    measured::keep(&trained.stored, &found.likelihoods);
    Ok(found.likelihoods)
}

/// Whether the model is measured by the bounds ELBO and IWAE-K.
fn has_bounds(stored: &Stored) -> bool {
    matches!(stored.model.family, Family::Latent(_))
}
