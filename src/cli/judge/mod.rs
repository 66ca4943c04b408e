//! `pixtape judge`: judges the samples of a model by the features of a classifier, next to the test images
//! and to noise.
//!
//! `samples` reads or draws the images, `print` has the table and the JSON object. What is measured is in
//! `src/eval/quality.rs`.

mod print;
mod samples;

use super::args::{DataArgs, DeviceArgs, count};
use super::out_file::{OutFile, picture};
use super::output::{self, note};
use super::progress::Busy;
use super::trained::{CheckpointArgs, Stored, Trained};
use crate::data::{Binarize, Identity, Images, Levels, Split};
use crate::error::{Error, Result};
use crate::eval::{self, Accuracy, Judged, LEAST, Neighbour, Quality, Reference};
use crate::models::{Family, Model};
use crate::pictures::grid::{Pictures, before_after_png};
use crate::rng::{Stream, words};
use crate::store::Checkpoint;
use clap::builder::RangedU64ValueParser;
use samples::Samples;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
    let stored = Stored::read(&CheckpointArgs { checkpoint: args.classifier.clone(), weights: None })?;
    if !matches!(stored.model.family, Family::Classifier(_)) {
        let name = stored.model.config.name();
        return Err(Error::Failed(format!(
            "{name} is no classifier; train one, for example by `pixtape train classifier-mnist`"
        )));
    }
    if let Some(out) = &args.nearest {
        args.data.keep_out(&stored, out)?;
    }
    let [train, test] = [Split::Train, Split::Test].map(|split| args.data.open(&stored, split));
    let (train, test) = (train?, test?);
    // Drawing may take long, so all else comes first.
    let samples = Samples::open(&args, &stored)?;
    for (images, what) in [(&samples.images, "samples"), (&train, "training images"), (&test, "test images")] {
        if images.len() < LEAST {
            return Err(Error::Failed(format!(
                "there are {} {what}, too few to be judged; give at least {LEAST}",
                images.len()
            )));
        }
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.device.threads).build().map_err(|error| {
        Error::Failed(format!("could not start the worker threads ({error}); choose fewer by --threads")).because(error)
    })?;
    let mut trained = Trained::of(stored, &args.device)?;
    let judgement = judge(&args, &mut trained, samples, [train, test], &pool)?;
    if args.json { output::json(&print::to_json(&judgement)) } else { output::print(&print::text(&judgement)) }
}

/// Measures the samples, as many test images, and as many images of noise.
fn judge(
    args: &Args,
    trained: &mut Trained,
    samples: Samples,
    [train, test]: [Arc<Images>; 2],
    pool: &rayon::ThreadPool,
) -> Result<Judgement> {
    let (train_identity, test_identity) = (Identity::of(&train, Split::Train), Identity::of(&test, Split::Test));
    let binarisation = args.binarize.unwrap_or(trained.stored.model.config.binarize);
    let mut model = trained.stored.model.clone();
    model.config.binarize = binarisation;
    let n = samples.images.len();
    let noise = Arc::new(noise(n.min(test.len()), &train)?);
    let [train, test, drawn, noise] = [train, test, samples.images, noise].map(|images| prepared(&model, images));
    let (train, test, drawn, noise) = (train?, test?, drawn?, noise?);
    // The images have their levels by now.
    model.config.binarize = Binarize::None;
    let mut see = |images: &Arc<Images>, what: &str| -> Result<Judged> {
        let _busy = Busy::new(&format!("judging {} {what}", images.len()));
        eval::judge(&mut *trained.backend, &model, images.clone())
    };
    let of_train = see(&train, "training images")?;
    let accuracy = see(&test, "test images")?.accuracy();
    // As many as there are samples, so that all distances have the same bias.
    let few = if n < test.len() { Arc::new(test.sample(n, 0)) } else { test };
    let sets = [("samples", &drawn), ("test images", &few), ("noise", &noise)];
    let seen: Vec<Judged> = sets.iter().map(|(what, images)| see(images, what)).collect::<Result<_>>()?;
    let busy = Busy::new("comparing features");
    let (judged, counts, nearest) = pool.install(|| {
        let reference = Reference::new(train.clone(), &of_train);
        let measure =
            |((name, images), seen): (&(&'static str, &Arc<Images>), &Judged)| (*name, reference.measure(images, seen));
        let judged: Vec<_> = sets.iter().zip(&seen).map(measure).collect();
        let nearest = args.nearest.as_ref().map(|_| nearest(&reference, &drawn, &seen[0]));
        (judged, reference.counts().clone(), nearest)
    });
    drop(busy);
    let stored = &trained.stored;
    let mut classifier = stored.provenance_of_weights();
    classifier["sha256"] = sha256_of_weights(stored).into();
    if let (Some(out), Some(nearest)) = (&args.nearest, &nearest) {
        let provenance = output::merged(classifier.clone(), &samples.source.to_json());
        output::write_png(out, &nearest_png(nearest, &drawn, &train)?, &provenance)?;
        note(&format!("{} samples with their nearest training images are in {}", nearest.len(), out.display()));
    }
    Ok(Judgement {
        title: format!("{} ({}, {} weights)", stored.model.config.name(), stored.origin(), stored.weights.name()),
        classifier,
        accuracy,
        train: train_identity,
        test: test_identity,
        binarisation,
        least: f64::from(args.least) / 100.0,
        source: samples.source,
        counts,
        judged,
        nearest,
        device: trained.backend.describe().kind,
    })
}

/// Parses a binarisation for clap. A dynamic one would be another one in every call.
fn binarisation(text: &str) -> Result<Binarize, String> {
    match text.parse() {
        Ok(Binarize::Dynamic) | Err(_) => Err("it must be none, static or threshold".to_string()),
        Ok(how) => Ok(how),
    }
}

/// The images as the classifier reads them: binarised, if the configuration says so.
fn prepared(model: &Model, images: Arc<Images>) -> Result<Arc<Images>> {
    if model.config.binarize == Binarize::None || images.levels() == Levels::Binary {
        return Ok(images);
    }
    let levels = model.batch_of(images.clone())?.levels.into_iter().map(|level| level as u8).collect();
    let size = [images.height(), images.width(), images.channels()];
    let labels = images.labels().map(<[u8]>::to_vec);
    Images::new(images.name(), size, levels, labels, Levels::Binary).map(Arc::new)
}

/// `n` images of independent uniform bytes, of the size of `like`.
fn noise(n: usize, like: &Images) -> Result<Images> {
    let dims = like.dims();
    let image = |i: usize| (0..dims).map(move |at| words(0, Stream::Noise, [i as u32, at as u32])[0] as u8);
    let pixels = (0..n).flat_map(image).collect();
    Images::new("noise", [like.height(), like.width(), like.channels()], pixels, None, Levels::Grey256)
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

/// A hash of the weights that the classifier judges by, 64 hexadecimal digits: of the name, shape and values
/// of each tensor in the order of their names. Where the weights have moving averages, these are hashed.
fn sha256_of_weights(stored: &Stored) -> String {
    let Checkpoint { tensors, .. } = &stored.checkpoint;
    let mut hash = Sha256::new();
    for spec in stored.model.set.specs() {
        let path = &*spec.param.path;
        let average = path.replacen("params/", "ema/", 1);
        let is_read = path.starts_with("params/") || path.starts_with("state/");
        let name = if stored.model.set.find(&average).is_some() { &average } else { path };
        if let (true, Some(tensor)) = (is_read, tensors.get(name)) {
            hash.update(format!("{path} {}\n", tensor.shape));
            tensor.data.iter().for_each(|value| hash.update(value.to_le_bytes()));
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a folder is that of a run.
fn is_run(path: &Path) -> bool {
    path.join("config.toml").is_file()
}
