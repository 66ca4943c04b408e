//! `pixtape interpolate`: the way from one image to another through the latent space.

use super::args::{DataArgs, DeviceArgs, count, split};
use super::output;
use super::trained::{CheckpointArgs, Trained};
use crate::data::Split;
use crate::error::{Error, Result};
use crate::eval;
use crate::report::grid::{Pictures, grid_png};
use clap::builder::RangedU64ValueParser;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

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
    /// Seed of the choice of images
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,
    /// Split that the images are taken from
    #[arg(long, value_name = "SPLIT", default_value = "test", value_parser = split)]
    split: Split,
    /// The picture to write
    #[arg(long, value_name = "FILE", default_value = "interpolate.png")]
    out: PathBuf,
    #[command(flatten)]
    data: DataArgs,
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
    let images = Arc::new(args.data.open(model, args.split)?.sample(2 * args.rows, args.seed));
    let rows = images.len() / 2;
    if rows == 0 {
        return Err(Error::Failed(format!("{} has one image only; interpolation needs two", images.name())));
    }
    let pixels = eval::interpolate(&mut *backend, model, images, args.steps)?;
    output::write(&args.out, &grid_png(Pictures::new(&pixels, model.image), Some(args.steps))?)?;
    if args.json {
        let (preset, step) = (&model.config.preset, stored.checkpoint.step);
        return output::json(
            &json!({"model": preset, "step": step, "rows": rows, "steps": args.steps, "out": args.out}),
        );
    }
    let (steps, origin, place) = (args.steps, stored.origin(), args.out.display());
    output::line(&format!("{rows} ways of {steps} pictures through the latent space of {origin} in {place}"))
}
