//! `pixtape complete`: completes images of which an autoregressive model is given the upper part.

use super::args::{PictureArgs, above_zero, count};
use super::out_file::{OutFile, picture};
use super::output;
use super::progress::Drawing;
use super::trained::{CheckpointArgs, Trained};
use crate::error::Result;
use crate::sampling::{self, Redraw};
use serde_json::json;

/// Complete the lower part of images with an autoregressive model
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: pixtape complete runs/pixelcnn-mnist --rows 14 -n 8 --draws 4\n\n\
    A row of the picture shows an image, its given part, and the completions.")]
pub(super) struct Args {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// Number of upper rows that are kept (default: half of the image)
    #[arg(long, value_name = "K")]
    rows: Option<usize>,
    /// How many images
    #[arg(short = 'n', value_name = "N", default_value_t = 8, value_parser = count(1024))]
    n: usize,
    /// Number of completions of each image
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = count(64))]
    draws: usize,
    /// Temperature: below 1 completions are more likely and less varied, above 1 the reverse
    #[arg(long, value_name = "T", default_value_t = 1.0, value_parser = above_zero)]
    temperature: f32,
    /// The picture to write
    #[arg(long, value_name = "FILE", default_value = "complete.png", value_parser = picture())]
    out: OutFile,
    #[command(flatten)]
    picture: PictureArgs,
}

pub(super) fn run(args: Args) -> Result<()> {
    args.out.check(&[&args.checkpoint.checkpoint])?;
    let Trained { stored, mut backend } = Trained::open(&args.checkpoint, &args.picture.device)?;
    args.picture.keep_out(&stored, &args.out)?;
    let model = &stored.model;
    let rows = args.rows.unwrap_or(model.image.height / 2);
    sampling::check_completion(model, rows)?;
    let images = args.picture.choose(&stored, args.n)?;
    let n = images.len();
    let provenance = stored.provenance_with(&*backend, &images, args.picture.split);
    let how = Redraw { draws: args.draws, seed: args.picture.seed, temperature: args.temperature };
    let busy = Drawing::new(&format!("completing {n} images"), n * args.draws);
    let completed = sampling::complete(&mut *backend, model, images, rows, &how, &|images| busy.advance(images))?;
    drop(busy);
    output::write_png(&args.out, &completed.original_first_png()?, &provenance)?;
    if args.picture.json {
        let result = json!({"images": n, "rows": rows, "draws": args.draws, "out": args.out});
        return output::json(&output::merged(provenance, &result));
    }
    let (origin, place) = (stored.origin(), args.out.display());
    output::line(&format!("{n} images with their upper {rows} rows completed by {origin} in {place}"))
}
