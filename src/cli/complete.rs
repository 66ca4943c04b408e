//! `pixtape complete`: an autoregressive model goes on with images whose upper part it is given.

use super::args::{ChoiceArgs, DeviceArgs, above_zero, count};
use super::output;
use super::progress::Drawing;
use super::trained::{CheckpointArgs, Trained};
use crate::error::Result;
use crate::sampling::{self, Redraw};
use serde_json::json;
use std::path::PathBuf;

/// Let an autoregressive model fill in the lower part of images
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: pixtape complete runs/pixelcnn-mnist --rows 14 -n 8 --draws 4\n\n\
    A row of the picture shows an image, what the model was given of it, and the completions.")]
pub(super) struct Args {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// Upper rows that are kept (default: half of the image)
    #[arg(long, value_name = "K")]
    rows: Option<usize>,
    /// How many images
    #[arg(short = 'n', value_name = "N", default_value_t = 8, value_parser = count(1024))]
    n: usize,
    /// Completions of each image
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = count(64))]
    draws: usize,
    /// Below 1 likelier and less varied completions, above 1 the reverse
    #[arg(long, value_name = "T", default_value_t = 1.0, value_parser = above_zero)]
    temperature: f32,
    /// The picture to write
    #[arg(long, value_name = "FILE", default_value = "complete.png")]
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
    let rows = args.rows.unwrap_or(model.image[0] / 2);
    sampling::check_completion(model, rows)?;
    let images = args.choice.choose(model, args.n)?;
    let n = images.len();
    let how = Redraw { draws: args.draws, seed: args.choice.seed, temperature: args.temperature };
    let busy = Drawing::new(&format!("completing {n} images"), n * args.draws);
    let completed = sampling::complete(&mut *backend, model, images, rows, &how, &|images| busy.advance(images))?;
    drop(busy);
    output::write(&args.out, &completed.original_first_png()?)?;
    if args.json {
        return output::json(&json!({
            "model": model.config.name(),
            "step": stored.checkpoint.step,
            "images": n,
            "rows": rows,
            "draws": args.draws,
            "out": args.out,
        }));
    }
    let (origin, place) = (stored.origin(), args.out.display());
    output::line(&format!("{n} images with their upper {rows} rows completed by {origin} in {place}"))
}
