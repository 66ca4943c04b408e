//! `pixtape reconstruct`: images, and what an autoencoder makes of them.

use super::args::{DataArgs, DeviceArgs, count, split};
use super::output;
use super::trained::{CheckpointArgs, Trained};
use crate::data::Split;
use crate::error::Result;
use crate::eval;
use crate::report::grid::{Pictures, before_after_png};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

/// Show images beside what an autoencoder makes of them
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: pixtape reconstruct runs/vae-mnist -n 16 --out reconstruct.png")]
pub(super) struct Args {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// How many images
    #[arg(short = 'n', value_name = "N", default_value_t = 16, value_parser = count(4096))]
    n: usize,
    /// Seed of the choice of images
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,
    /// Split that the images are taken from
    #[arg(long, value_name = "SPLIT", default_value = "test", value_parser = split)]
    split: Split,
    /// The picture to write
    #[arg(long, value_name = "FILE", default_value = "reconstruct.png")]
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
    let images = Arc::new(args.data.open(model, args.split)?.sample(args.n, args.seed));
    let n = images.len();
    let [shown, made] = eval::reconstruct(&mut *backend, model, images)?;
    let series = [&shown, &made].map(|pixels| Pictures::new(pixels, model.image));
    output::write(&args.out, &before_after_png(&series)?)?;
    if args.json {
        let (preset, step) = (&model.config.preset, stored.checkpoint.step);
        return output::json(&json!({"model": preset, "step": step, "images": n, "out": args.out}));
    }
    output::line(&format!("{n} images beside their reconstructions by {} in {}", stored.origin(), args.out.display()))
}
