//! What `pixtape colorize` and `pixtape superres` share: images reduced, drawn back, and shown beside what they were.

use super::args::{ChoiceArgs, DeviceArgs, above_zero, count};
use super::complete::repeated;
use super::output;
use super::progress::Drawing;
use super::trained::{CheckpointArgs, Trained};
use crate::data::Reduction;
use crate::error::{Error, Result};
use crate::pictures::grid::{Pictures, before_after_png};
use crate::sampling::{Draw, Sampler, crop_to_bytes};
use serde_json::json;
use std::path::PathBuf;

/// Images that are drawn together at most.
const BATCH: usize = 64;

#[derive(Debug, clap::Args)]
pub(super) struct RestoreArgs {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// How many images
    #[arg(short = 'n', value_name = "N", default_value_t = 8, value_parser = count(1024))]
    n: usize,
    /// Draws for each image
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = count(64))]
    draws: usize,
    /// Below 1 likelier and less varied draws, above 1 the reverse
    #[arg(long, value_name = "T", default_value_t = 1.0, value_parser = above_zero)]
    temperature: f32,
    #[command(flatten)]
    choice: ChoiceArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print one JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// Draws images from their reduced forms into the picture `out`: reduced, drawn so many times, and as they were.
pub(super) fn run(args: &RestoreArgs, reduction: Reduction, out: &PathBuf) -> Result<()> {
    let Trained { stored, mut backend } = Trained::open(&args.checkpoint, &args.device)?;
    let model = &stored.model;
    if model.reduction() != Some(reduction) {
        let (name, wanted) = (model.config.name(), preset_of(reduction));
        return Err(Error::Failed(format!("{name} has not learned to do this; give a checkpoint of {wanted}")));
    }
    let images = args.choice.choose(model, args.n)?;
    let (n, len) = (images.len(), model.image.iter().product::<usize>());
    let seen = model.batch_of(images)?;
    let reduced = repeated(&seen.reduced, n, args.draws);
    let busy = Drawing::new(&format!("drawing {n} images"), n * args.draws);
    let sampler = Sampler::new(&mut *backend, model, (n * args.draws).min(BATCH))?;
    let how = Draw { seed: args.choice.seed, temperature: args.temperature, reduced: &reduced, ..Draw::default() };
    let drawn = sampler.draw_with(&mut *backend, n * args.draws, how, &|images| busy.advance(images))?;
    drop(busy);
    let small = reduction.size(model.image);
    let given: Vec<u8> = seen
        .reduced
        .chunks(small.iter().product())
        .flat_map(|image| reduction.enlarged(&crop_to_bytes(image, small, small, [0.0, 1.0]), model.image))
        .collect();
    let original: Vec<u8> =
        seen.pixels.chunks(len).flat_map(|image| crop_to_bytes(image, model.image, model.image, [0.0, 1.0])).collect();
    let draws: Vec<Vec<u8>> = (0..args.draws)
        .map(|draw| drawn.chunks(len).skip(draw).step_by(args.draws).flatten().copied().collect())
        .collect();
    let [height, width, _] = model.image;
    let mut series = vec![Pictures::new(&given, [height, width, small[2]])];
    series.extend(draws.iter().chain([&original]).map(|pictures| Pictures::new(pictures, model.image)));
    output::write(out, &before_after_png(&series)?)?;
    if args.json {
        return output::json(&json!({
            "model": model.config.name(),
            "step": stored.checkpoint.step,
            "images": n,
            "draws": args.draws,
            "out": out,
        }));
    }
    let (origin, place, draws) = (stored.origin(), out.display(), args.draws);
    output::line(&format!("{n} images as {origin} was given them, {draws} draws of each, and the originals in {place}"))
}

/// The command that draws images from ones that are reduced like this.
pub(super) fn command(reduction: Reduction) -> &'static str {
    match reduction {
        Reduction::Grey => "colorize",
        Reduction::Small => "superres",
    }
}

fn preset_of(reduction: Reduction) -> &'static str {
    match reduction {
        Reduction::Grey => "colorize-cifar",
        Reduction::Small => "superres-mnist or superres-cifar",
    }
}
