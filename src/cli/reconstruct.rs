//! `pixtape reconstruct`: shows images next to their reconstructions by an autoencoder.

use super::args::{PictureArgs, count};
use super::out_file::{OutFile, picture};
use super::output;
use super::trained::{CheckpointArgs, Trained};
use crate::error::Result;
use crate::eval;
use crate::pictures::grid::{Pictures, before_after_png};
use serde_json::json;

/// Show images next to their reconstructions by an autoencoder
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: pixtape reconstruct runs/vae-mnist -n 16 --out reconstruct.png")]
pub(super) struct Args {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// How many images
    #[arg(short = 'n', value_name = "N", default_value_t = 16, value_parser = count(4096))]
    n: usize,
    /// The picture to write
    #[arg(long, value_name = "FILE", default_value = "reconstruct.png", value_parser = picture())]
    out: OutFile,
    #[command(flatten)]
    picture: PictureArgs,
}

pub(super) fn run(args: Args) -> Result<()> {
    args.out.check(&[&args.checkpoint.checkpoint])?;
    let Trained { stored, mut backend } = Trained::open(&args.checkpoint, &args.picture.device)?;
    args.picture.keep_out(&stored, &args.out)?;
    let model = &stored.model;
    eval::check_encoder(model)?;
    let images = args.picture.choose(&stored, args.n)?;
    let n = images.len();
    let provenance = stored.provenance_with(&*backend, &images, args.picture.split);
    let [shown, made] = eval::reconstruct(&mut *backend, model, images)?;
    let series = [&shown, &made].map(|pixels| Pictures::new(pixels, model.image));
    output::write_png(&args.out, &before_after_png(&series)?, &provenance)?;
    if args.picture.json {
        return output::json(&output::merged(provenance, &json!({"images": n, "out": args.out})));
    }
    output::line(&format!("{n} images and their reconstructions by {} in {}", stored.origin(), args.out.display()))
}
