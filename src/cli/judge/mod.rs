//! `pixtape judge`: judges the samples of a model by the features of a classifier, next to the test images
//! and to noise.
//!
//! `samples` reads or draws the images, `classifier` is the judge, which `compare` asks too, `print` has the
//! table and the JSON object. What is measured is in `src/eval/quality.rs`.

pub(super) mod classifier;
pub(super) mod print;
mod samples;

use super::args::{DataArgs, DeviceArgs, count};
use super::out_file::{OutFile, picture};
use super::output::{self, note};
use super::progress::Busy;
use crate::data::{Binarize, Identity, Images};
use crate::error::Result;
use crate::eval::{self, Accuracy, Judged, Neighbour, Quality, Reference};
use crate::pictures::grid::{Pictures, before_after_png};
use clap::builder::RangedU64ValueParser;
use classifier::{Judge, JudgeData, expect_enough, read_classifier};
use samples::Samples;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Samples in the picture of nearest training images.
const SHOWN: usize = 16;

/// Training images next to each of them, once by features and once by pixels.
const NEAREST: usize = 3;

/// Judge samples by the features of a classifier: Frechet distance, precision and recall, classes, copies
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    pixtape train classifier-mnist\n  \
    pixtape judge runs/gan-mnist --classifier runs/classifier-mnist -n 10000 --nearest nearest.png\n  \
    pixtape judge samples.safetensors --classifier runs/classifier-mnist --data mnist --json\n\n\
    Every number is measured in the same way for the test images, which is about the best that samples can reach, and\n\
    for noise. The features are those of the given classifier, so numbers of different classifiers cannot be compared;\n\
    the hash of its weights is printed.\n\n\
    --json prints one object: classifier (model, step, weights, sha256 of the weights, trained_on, accuracy on the test\n\
    images), data (training and test images), binarisation, least_percent, samples (where they come from), judged (one\n\
    object each for samples, test images and noise), nearest (rows of training images with distances, if --nearest is\n\
    given), program and device.")]
pub(super) struct Args {
    /// A safetensors file of `pixtape sample`, a folder of images, or a run or checkpoint to draw from
    #[arg(value_name = "SAMPLES|CKPT")]
    samples: PathBuf,
    /// Checkpoint or run of a classifier
    #[arg(long, value_name = "CKPT")]
    classifier: PathBuf,
    /// How many images to draw (default: 2000), or to select from the file or folder (default: all)
    #[arg(short = 'n', value_name = "N", value_parser = count(65536))]
    n: Option<usize>,
    /// Seed of the draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,
    /// Binarise the samples and the data first: none, static or threshold (default: as the classifier was
    /// trained)
    #[arg(long, value_name = "HOW", value_parser = binarisation)]
    binarize: Option<Binarize>,
    /// A class counts as covered if it has this percentage of its share in the data
    #[arg(long, value_name = "PERCENT", default_value_t = 25, value_parser = RangedU64ValueParser::<u32>::new().range(1..=100))]
    least: u32,
    /// Write a picture of samples, each next to its nearest training images by features and by pixels
    #[arg(long, value_name = "FILE", value_parser = picture())]
    nearest: Option<OutFile>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print one JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// Everything that is printed.
struct Judgement {
    classifier: Value,
    /// The classifier in words.
    title: String,
    accuracy: Accuracy,
    train: Identity,
    test: Identity,
    binarisation: Binarize,
    /// The fraction of its share in the data that a covered class has at least.
    least: f64,
    source: samples::Source,
    /// The classes of the training images.
    counts: eval::ClassCounts,
    judged: Vec<(&'static str, Quality)>,
    nearest: Option<Vec<Nearest>>,
    device: String,
}

/// The training images that are nearest to a sample.
struct Nearest {
    /// The row of the sample.
    sample: usize,
    features: Vec<Neighbour>,
    pixels: Vec<Neighbour>,
}

pub(super) fn run(args: Args) -> Result<()> {
    args.device.name()?;
    if let Some(out) = &args.nearest {
        out.check(&[&args.samples, &args.classifier])?;
        out.check_outside(&args.samples)?;
    }
    let stored = read_classifier(&args.classifier)?;
    if let Some(out) = &args.nearest {
        args.data.keep_out(&stored, out)?;
    }
    let data = JudgeData::open(&stored, &args.data)?;
    // Drawing may take long, so all else comes first.
    let samples = Samples::open(&args, &stored)?;
    expect_enough(&samples.images, "samples")?;
    let binarisation = args.binarize.unwrap_or(stored.model.config.binarize);
    let judge = Judge::new(stored, data, binarisation, &args.device)?;
    let judgement = judge_all(&args, judge, samples)?;
    if args.json { output::json(&print::to_json(&judgement)) } else { output::print(&print::text(&judgement)) }
}

/// Measures the samples, as many test images, and as many images of noise.
fn judge_all(args: &Args, mut judge: Judge, samples: Samples) -> Result<Judgement> {
    let n = samples.images.len();
    let (drawn, few, noise) = (judge.prepare(&samples.images)?, judge.test_images(n), judge.noise(n)?);
    let sets = [("samples", &drawn), ("test images", &few), ("noise", &noise)];
    let seen: Vec<Judged> = sets.iter().map(|(what, images)| judge.see(images, what)).collect::<Result<_>>()?;
    let busy = Busy::new("comparing features");
    let judged = sets.iter().zip(&seen).map(|((name, images), seen)| (*name, judge.measure(images, seen))).collect();
    let reference = &judge.reference;
    let nearest = args.nearest.as_ref().map(|_| judge.install(|| nearest(reference, &drawn, &seen[0])));
    drop(busy);
    let stored = judge.stored();
    let mut classifier = stored.provenance_of_weights();
    classifier["sha256"] = judge.sha256_of_weights().into();
    if let (Some(out), Some(nearest)) = (&args.nearest, &nearest) {
        let provenance = output::merged(classifier.clone(), &samples.source.to_json());
        output::write_png(out, &nearest_png(nearest, &drawn, reference.images())?, &provenance)?;
        note(&format!("{} samples with their nearest training images are in {}", nearest.len(), out.display()));
    }
    Ok(Judgement {
        title: judge.title(),
        classifier,
        accuracy: judge.accuracy,
        train: judge.train.clone(),
        test: judge.test.clone(),
        binarisation: judge.binarisation,
        least: f64::from(args.least) / 100.0,
        source: samples.source,
        counts: reference.counts().clone(),
        judged,
        nearest,
        device: judge.device(),
    })
}

/// Parses a binarisation for clap. A dynamic one would be another one in every call.
fn binarisation(text: &str) -> Result<Binarize, String> {
    match text.parse() {
        Ok(Binarize::Dynamic) | Err(_) => Err("it must be none, static or threshold".to_string()),
        Ok(how) => Ok(how),
    }
}

/// The training images that are nearest to some of the samples, by features and by pixels.
fn nearest(reference: &Reference, samples: &Images, judged: &Judged) -> Vec<Nearest> {
    let chosen: Vec<usize> = eval::shuffled(samples.len()).into_iter().take(SHOWN).collect();
    let by_features = reference.points().nearest(&eval::points(judged, chosen.iter().copied()), NEAREST);
    let queries: Vec<&[u8]> = chosen.iter().map(|row| samples.image(*row)).collect();
    let by_pixels = eval::nearest_by_pixels(reference.images(), &queries, NEAREST);
    let rows = chosen.into_iter().zip(by_features.into_iter().zip(by_pixels));
    rows.map(|(sample, (features, pixels))| Nearest { sample, features, pixels }).collect()
}

/// A picture of samples, each followed by its nearest training images.
fn nearest_png(rows: &[Nearest], samples: &Images, training: &Images) -> Result<Vec<u8>> {
    let scale = |images: &Images| 255 / images.levels().max();
    let bytes = |images: &Images, row: usize| {
        let scale = scale(images);
        images.image(row).iter().map(|level| level * scale).collect::<Vec<u8>>()
    };
    let mut columns = vec![rows.iter().flat_map(|row| bytes(samples, row.sample)).collect::<Vec<u8>>()];
    let by: [fn(&Nearest) -> &[Neighbour]; 2] = [|row| &row.features, |row| &row.pixels];
    for of in by {
        for place in 0..NEAREST {
            columns.push(rows.iter().flat_map(|row| bytes(training, of(row)[place].index)).collect());
        }
    }
    let size = [training.height(), training.width(), training.channels()];
    let series: Vec<Pictures> = columns.iter().map(|pixels| Pictures::new(pixels, size)).collect();
    before_after_png(&series)
}

/// Whether a folder is that of a run.
fn is_run(path: &Path) -> bool {
    path.join("config.toml").is_file()
}
