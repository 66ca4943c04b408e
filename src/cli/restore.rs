//! What `pixtape colorize` and `pixtape superres` share: their arguments, and their output by one model or
//! by several next to each other.

use super::args::{PictureArgs, above_zero, count};
use super::out_file::OutFile;
use super::output;
use super::progress::Drawing;
use super::trained::{CheckpointArgs, Stored, Trained};
use crate::data::Reduction;
use crate::error::Result;
use crate::sampling::{self, Redraw, Redrawn};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct RestoreArgs {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// Checkpoint or run of another model that draws the same images, shown next to them; repeatable
    #[arg(long, value_name = "CKPT")]
    against: Vec<PathBuf>,
    /// How many images
    #[arg(short = 'n', value_name = "N", default_value_t = 8, value_parser = count(1024))]
    n: usize,
    /// Number of draws for each image by each model
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = count(64))]
    draws: usize,
    /// Temperature of autoregressive models: below 1 draws are more likely and less varied, above 1 the
    /// reverse
    #[arg(long, value_name = "T", default_value_t = 1.0, value_parser = above_zero)]
    temperature: f32,
    #[command(flatten)]
    picture: PictureArgs,
}

/// Draws images from their reduced versions, and writes the picture `out`: the reduced images, the draws of
/// each model, and the originals.
pub(super) fn run(args: &RestoreArgs, reduction: Reduction, out: &OutFile) -> Result<()> {
    let inputs: Vec<&Path> =
        [&args.checkpoint.checkpoint].into_iter().chain(&args.against).map(PathBuf::as_path).collect();
    out.check(&inputs)?;
    args.picture.device.name()?;
    let others = args.against.iter().map(|path| CheckpointArgs { checkpoint: path.clone(), weights: None });
    let models: Vec<Stored> =
        [args.checkpoint.clone()].into_iter().chain(others).map(|args| Stored::read(&args)).collect::<Result<_>>()?;
    args.picture.keep_out(&models[0], out)?;
    models.iter().try_for_each(|stored| sampling::check_restoration(&stored.model, reduction))?;
    // All images are opened before the first is drawn.
    let same = args.picture.of_data(args.picture.data_of(&models[0])?);
    let chosen = models.iter().map(|stored| same.choose(stored, args.n)).collect::<Result<Vec<_>>>()?;
    let (n, of) = (chosen[0].len(), models.len());
    let how = Redraw { draws: args.draws, seed: args.picture.seed, temperature: args.temperature };
    let busy = Drawing::new(&format!("drawing {n} images"), n * args.draws * of);
    let progress = |images| busy.advance(images);
    let mut restored: Vec<Redrawn> = vec![];
    let (mut origins, mut provenances) = (vec![], vec![]);
    for (stored, images) in models.into_iter().zip(chosen) {
        let Trained { stored, mut backend } = Trained::of(stored, &args.picture.device)?;
        origins.push(stored.origin());
        provenances.push(stored.provenance_with(&*backend, &images, args.picture.split));
        restored.push(sampling::restore(&mut *backend, &stored.model, images, reduction, &how, &progress)?);
    }
    drop(busy);
    let mut provenance = provenances.remove(0);
    let png = match &restored[..] {
        [one] => one.original_last_png()?,
        all => {
            provenance["against"] = json!(provenances);
            Redrawn::side_by_side_png(all)?
        }
    };
    output::write_png(out, &png, &provenance)?;
    if args.picture.json {
        let result = json!({"images": n, "draws": args.draws, "out": out});
        return output::json(&output::merged(provenance, &result));
    }
    let (origins, place, draws) = (origins.join(", then by "), out.display(), args.draws);
    output::line(&format!("{n} reduced images, {draws} draws of each by {origins}, and the originals in {place}"))
}

/// The command that draws images from this kind of reduced images.
pub(super) fn command(reduction: Reduction) -> &'static str {
    match reduction {
        Reduction::Grey => "colorize",
        Reduction::Small => "superres",
    }
}
