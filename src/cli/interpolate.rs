//! `pixtape interpolate`: the way from one image to another through the latent space.

use super::args::{ChoiceArgs, DeviceArgs, count};
use super::output;
use super::trained::{CheckpointArgs, Trained};
use crate::error::{Error, Result};
use crate::eval;
use crate::pictures::grid::{Pictures, grid_png};
use clap::builder::RangedU64ValueParser;
use serde_json::json;
use std::path::PathBuf;

/// Show the way from one image to another through an autoencoder's latent space
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: pixtape interpolate runs/vae-mnist --rows 8 --steps 10 --out interpolate.png")]
pub(super) struct Args {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// Pairs of images, a row each
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = count(1024))]
    rows: usize,
    /// Pictures a row, its two ends included
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = RangedU64ValueParser::<usize>::new().range(2..=256))]
    steps: usize,
    /// The picture to write
    #[arg(long, value_name = "FILE", default_value = "interpolate.png")]
    out: PathBuf,
    #[command(flatten)]
    choice: ChoiceArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print one JSON object on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<()> {
    let Trained { stored, mut backend } = Trained::open(&args.checkpoint, &args.device)?;
    let model = &stored.model;
    eval::check_encoder(model)?;
    let images = args.choice.choose(model, 2 * args.rows)?;
    let rows = images.len() / 2;
    if rows == 0 {
        return Err(Error::Failed(format!("{} has one image only; interpolation needs two", images.name())));
    }
    let pixels = eval::interpolate(&mut *backend, model, images, args.steps)?;
    output::write(&args.out, &grid_png(Pictures::new(&pixels, model.image), Some(args.steps))?)?;
    if args.json {
        let (name, step) = (model.config.name(), stored.checkpoint.step);
        return output::json(&json!({"model": name, "step": step, "rows": rows, "steps": args.steps, "out": args.out}));
    }
    let (steps, origin, place) = (args.steps, stored.origin(), args.out.display());
    output::line(&format!("{rows} ways of {steps} pictures through the latent space of {origin} in {place}"))
}
