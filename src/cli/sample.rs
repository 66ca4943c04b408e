//! `pixtape sample`: draws new images or sequences from a model.

use super::args::{DeviceArgs, above_zero, count};
use super::out_file::{OutFile, picture_or_tensors};
use super::output;
use super::progress::Drawing;
use super::tensors::{self, Tensors};
use super::trained::{CheckpointArgs, Stored, Trained};
use crate::error::{Error, Result};
use crate::pictures::grid::grid_png;
use crate::pictures::sequences;
use crate::sampling::{DrawOptions, Sampler};
use serde_json::{Value, json};
use std::time::Instant;

/// The largest number of images that are drawn together.
const BATCH: usize = 64;

/// Draw new images from a trained model
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    pixtape sample runs/pixelcnn-mnist -n 64 --seed 7 --out samples.png\n  \
    pixtape sample runs/gated-pixelcnn-mnist --class 3\n  \
    pixtape sample runs/vae-mnist -n 10000 --out samples.safetensors\n\n\
    A safetensors file has images [n, c, h, w] (bytes), and label [n] if the model is class-conditional.")]
pub(super) struct Args {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// How many images
    #[arg(short = 'n', value_name = "N", default_value_t = 64, value_parser = count(65536))]
    n: usize,
    /// Seed of the random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,
    /// Temperature: below 1 images are more likely and less varied, above 1 the reverse
    #[arg(long, value_name = "T", default_value_t = 1.0, value_parser = above_zero)]
    temperature: f32,
    /// Draw only images of this class, from 0 (class-conditional models; default: each class in turn, one
    /// column each)
    #[arg(long, value_name = "K")]
    class: Option<u32>,
    /// The picture to write; if the name ends in .safetensors, the images are written as tensors
    #[arg(long, value_name = "FILE", default_value = "samples.png", value_parser = picture_or_tensors())]
    out: OutFile,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print one JSON object on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<()> {
    args.out.check(&[&args.checkpoint.checkpoint])?;
    let Trained { stored, mut backend } = Trained::open(&args.checkpoint, &args.device)?;
    let classes = match args.class {
        Some(class) => vec![known_class(&stored, class)?; args.n],
        None => vec![],
    };
    let start = Instant::now();
    let busy = Drawing::new(&format!("drawing {} images", args.n), args.n);
    let sampler = Sampler::new(&mut *backend, &stored.model, args.n.min(BATCH))?;
    let how =
        DrawOptions { seed: args.seed, temperature: args.temperature, classes: &classes, ..DrawOptions::default() };
    let images = sampler.draw_with(&mut *backend, args.n, how, &|images| busy.advance(images))?;
    drop(busy);
    let seconds = start.elapsed().as_secs_f64();
    let drawn = json!({"seed": args.seed, "temperature": args.temperature});
    let provenance = output::merged(stored.provenance(&*backend), &drawn);
    if tensors::is_meant(&args.out) {
        output::write(&args.out, &numbers(&stored, &images, &args, how, &provenance)?)?;
    } else {
        let png = grid_png(sequences::as_pictures(&stored.model, images).view(), columns(&stored, &args))?;
        output::write_png(&args.out, &png, &provenance)?;
    }
    let images_per_s = args.n as f64 / seconds.max(1e-9);
    if args.json {
        let result = json!({
            "images": args.n,
            "class": args.class,
            "seconds": seconds,
            "images_per_s": images_per_s,
            "out": args.out,
        });
        return output::json(&output::merged(provenance, &result));
    }
    let (n, place, origin, weights) = (args.n, args.out.display(), stored.origin(), stored.weights.name());
    output::line(&format!(
        "{n} samples of {origin}, {weights} weights, in {place} ({seconds:.1} s, {images_per_s:.1} images/s)"
    ))
}

/// The images as a file of tensors.
fn numbers(stored: &Stored, images: &[u8], args: &Args, how: DrawOptions, provenance: &Value) -> Result<Vec<u8>> {
    let (image, known) = (stored.model.image, stored.model.classes());
    let mut file = Tensors::default();
    let shape = vec![args.n, image.channels, image.height, image.width];
    file.u8("images", shape, tensors::channels_first(images, image));
    if known > 0 {
        file.index("label", &(0..args.n).map(|i| how.class(i, known)).collect::<Vec<_>>());
    }
    file.file(provenance)
}

/// One column per class if images of every class are drawn in turn; otherwise the grid is nearly square.
fn columns(stored: &Stored, args: &Args) -> Option<usize> {
    let known = stored.model.classes();
    (known > 1 && args.class.is_none()).then_some(known)
}

/// The class, if the model knows it.
pub(super) fn known_class(stored: &Stored, class: u32) -> Result<u32> {
    let (name, classes) = (stored.model.config.name(), stored.model.classes());
    match classes {
        0 => Err(Error::Failed(format!(
            "this {name} was trained without classes; leave --class out, or train gated-pixelcnn-mnist, vae-mnist or gan-mnist \
             with --data mnist --set model.classes=10"
        ))),
        _ if class as usize >= classes => {
            Err(Error::Failed(format!("there is no class {class}; this {name} knows {classes}, counted from 0")))
        }
        _ => Ok(class),
    }
}
