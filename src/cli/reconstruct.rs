//! `pixtape reconstruct`: images, and what an autoencoder makes of them.

use super::args::{ChoiceArgs, DeviceArgs, count};
use super::output;
use super::trained::{CheckpointArgs, Trained};
use crate::error::Result;
use crate::eval;
use crate::pictures::grid::{Pictures, before_after_png};
use serde_json::json;
use std::path::PathBuf;

/// Show images beside what an autoencoder makes of them
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: pixtape reconstruct runs/vae-mnist -n 16 --out reconstruct.png")]
pub(super) struct Args {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// How many images
    #[arg(short = 'n', value_name = "N", default_value_t = 16, value_parser = count(4096))]
    n: usize,
    /// The picture to write
    #[arg(long, value_name = "FILE", default_value = "reconstruct.png")]
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
    let images = args.choice.choose(model, args.n)?;
    let n = images.len();
    let [shown, made] = eval::reconstruct(&mut *backend, model, images)?;
    let series = [&shown, &made].map(|pixels| Pictures::new(pixels, model.image));
    output::write(&args.out, &before_after_png(&series)?)?;
    if args.json {
        let (name, step) = (model.config.name(), stored.checkpoint.step);
        return output::json(&json!({"model": name, "step": step, "images": n, "out": args.out}));
    }
    output::line(&format!("{n} images beside their reconstructions by {} in {}", stored.origin(), args.out.display()))
}
