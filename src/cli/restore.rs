//! What `pixtape colorize` and `pixtape superres` share: their arguments and their output.

use super::args::{PictureArgs, above_zero, count};
use super::out_file::OutFile;
use super::output;
use super::progress::Drawing;
use super::trained::{CheckpointArgs, Trained};
use crate::data::Reduction;
use crate::error::Result;
use crate::sampling::{self, Redraw};
use serde_json::json;

#[derive(Debug, clap::Args)]
pub(super) struct RestoreArgs {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// How many images
    #[arg(short = 'n', value_name = "N", default_value_t = 8, value_parser = count(1024))]
    n: usize,
    /// Number of draws for each image
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = count(64))]
    draws: usize,
    /// Temperature: below 1 draws are more likely and less varied, above 1 the reverse
    #[arg(long, value_name = "T", default_value_t = 1.0, value_parser = above_zero)]
    temperature: f32,
    #[command(flatten)]
    picture: PictureArgs,
}

/// Draws images from their reduced versions, and writes the picture `out`: the reduced images, the draws,
/// and the originals.
pub(super) fn run(args: &RestoreArgs, reduction: Reduction, out: &OutFile) -> Result<()> {
    out.check(&[&args.checkpoint.checkpoint])?;
    let Trained { stored, mut backend } = Trained::open(&args.checkpoint, &args.picture.device)?;
    args.picture.keep_out(&stored, out)?;
    let model = &stored.model;
    sampling::check_restoration(model, reduction)?;
    let images = args.picture.choose(&stored, args.n)?;
    let n = images.len();
    let provenance = stored.provenance_with(&*backend, &images, args.picture.split);
    let how = Redraw { draws: args.draws, seed: args.picture.seed, temperature: args.temperature };
    let busy = Drawing::new(&format!("drawing {n} images"), n * args.draws);
    let progress = |images| busy.advance(images);
    let restored = sampling::restore(&mut *backend, model, images, reduction, &how, &progress)?;
    drop(busy);
    output::write_png(out, &restored.original_last_png()?, &provenance)?;
    if args.picture.json {
        let result = json!({"images": n, "draws": args.draws, "out": out});
        return output::json(&output::merged(provenance, &result));
    }
    let (origin, place, draws) = (stored.origin(), out.display(), args.draws);
    output::line(&format!("{n} reduced images, {draws} draws of each by {origin}, and the originals in {place}"))
}

/// The command that draws images from this kind of reduced images.
pub(super) fn command(reduction: Reduction) -> &'static str {
    match reduction {
        Reduction::Grey => "colorize",
        Reduction::Small => "superres",
    }
}
