//! `pixtape interpolate`: interpolates between images in the latent space of an autoencoder.

use super::args::{PictureArgs, count};
use super::out_file::{OutFile, picture};
use super::output;
use super::trained::{CheckpointArgs, Trained};
use crate::error::{Error, Result};
use crate::eval;
use crate::pictures::grid::{Pictures, grid_png};
use clap::builder::RangedU64ValueParser;
use serde_json::json;

/// Interpolate between pairs of images in the latent space of an autoencoder
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: pixtape interpolate runs/vae-mnist --rows 8 --steps 10 --out interpolate.png")]
pub(super) struct Args {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// Pairs of images, one row each
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = count(1024))]
    rows: usize,
    /// Pictures per row, including both ends
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = RangedU64ValueParser::<usize>::new().range(2..=256))]
    steps: usize,
    /// The picture to write
    #[arg(long, value_name = "FILE", default_value = "interpolate.png", value_parser = picture())]
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
    let images = args.picture.choose(&stored, 2 * args.rows)?;
    let rows = images.len() / 2;
    if rows == 0 {
        return Err(Error::Failed(format!("{} has only one image; interpolation needs two", images.name())));
    }
    let provenance = stored.provenance_with(&*backend, &images, args.picture.split);
    let pixels = eval::interpolate(&mut *backend, model, images, args.steps)?;
    output::write_png(&args.out, &grid_png(Pictures::new(&pixels, model.image), Some(args.steps))?, &provenance)?;
    if args.picture.json {
        let result = json!({"rows": rows, "steps": args.steps, "out": args.out});
        return output::json(&output::merged(provenance, &result));
    }
    let (steps, origin, place) = (args.steps, stored.origin(), args.out.display());
    output::line(&format!("{rows} rows of {steps} pictures from the latent space of {origin} in {place}"))
}
