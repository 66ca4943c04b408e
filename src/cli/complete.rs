//! `pixtape complete`: an autoregressive model goes on with images whose upper part it is given.

use super::args::{ChoiceArgs, DeviceArgs, above_zero, count};
use super::output;
use super::progress::Drawing;
use super::trained::{CheckpointArgs, Trained};
use crate::error::{Error, Result};
use crate::models::{Family, Model};
use crate::pictures::grid::{Pictures, before_after_png};
use crate::sampling::{Draw, Sampler, crop_to_bytes};
use serde_json::json;
use std::path::PathBuf;

/// Images that are drawn together at most.
const BATCH: usize = 64;

/// The level that stands for pixels that the model has not been given.
const HIDDEN: u8 = 128;

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
    if !matches!(model.family, Family::Autoregressive(_)) {
        let name = model.config.name();
        return Err(Error::Failed(format!(
            "{name} does not draw pixel by pixel and cannot complete images; give a checkpoint of pixelcnn-mnist"
        )));
    }
    let [height, width, channels] = model.image;
    let rows = args.rows.unwrap_or(height / 2);
    if rows >= height {
        return Err(Error::Usage(format!("--rows {rows} leaves nothing to draw; keep fewer than {height} rows")));
    }
    let images = args.choice.choose(model, args.n)?;
    let (n, given) = (images.len(), rows * width * channels);
    let seen = model.batch_of(images)?;
    let values = &seen.pixels;
    // All completions of an image stand together, so that each draw has an index of its own.
    let mut drawn = repeated(values, n, args.draws);
    let classes: Vec<u32> = seen.labels.iter().flat_map(|label| vec![*label; args.draws]).collect();
    let reduced = repeated(&seen.reduced, n, args.draws);
    let busy = Drawing::new(&format!("completing {n} images"), n * args.draws);
    let sampler = Sampler::new(&mut *backend, model, (n * args.draws).min(BATCH))?;
    let how = Draw { seed: args.choice.seed, temperature: args.temperature, classes: &classes, reduced: &reduced };
    sampler.complete(&mut *backend, &mut drawn, given, how, &|images| busy.advance(images))?;
    drop(busy);
    output::write(&args.out, &completions_png(model, values, &drawn, given)?)?;
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

/// Each of `n` equal parts of the values so many times in a row.
pub(super) fn repeated(values: &[f32], n: usize, times: usize) -> Vec<f32> {
    let len = (values.len() / n.max(1)).max(1);
    values.chunks(len).flat_map(|one| one.repeat(times)).collect()
}

/// A row for each image of `truth`: whole, its first `given` values, and its completions, which stand together in `drawn`.
pub(super) fn completions_png(model: &Model, truth: &[f32], drawn: &[f32], given: usize) -> Result<Vec<u8>> {
    let (len, draws) = (model.image.iter().product(), drawn.len() / truth.len());
    let bytes = |image: &[f32]| crop_to_bytes(image, model.image, model.image, [0.0, 1.0]);
    let original: Vec<u8> = truth.chunks(len).flat_map(bytes).collect();
    let mut masked = original.clone();
    masked.chunks_mut(len).for_each(|image| image[given..].fill(HIDDEN));
    let completions: Vec<Vec<u8>> =
        (0..draws).map(|draw| drawn.chunks(len).skip(draw).step_by(draws).flat_map(bytes).collect()).collect();
    let series: Vec<Pictures> =
        [&original, &masked].into_iter().chain(&completions).map(|p| Pictures::new(p, model.image)).collect();
    before_after_png(&series)
}
