//! `pixtape encode`: writes the latent vectors of a split to a file, and measures how well labels are
//! predicted from them: by a linear classifier with all labels, and by a linear classifier and the nearest
//! neighbour with few labels, next to the latent vectors of other models and to raw pixels.
//!
//! `comparison` measures with few labels, `print` has the table and the JSON object. What is measured is in
//! `src/eval/probe.rs` and `src/eval/few_labels.rs`.

mod comparison;
mod print;

use super::args::{DataArgs, DeviceArgs, count, split};
use super::out_file::{OutFile, tensors};
use super::output;
use super::progress::Busy;
use super::tensors::Tensors;
use super::trained::{CheckpointArgs, Stored, Trained};
use crate::data::{Images, Levels, Split};
use crate::error::{Error, Result};
use crate::eval::{self, Latents, Probe};
use comparison::{Comparison, check_compared};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Write the latent vectors of a split to a file, and measure how well labels are predicted from them
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    pixtape encode runs/vae-mnist --data mnist --split test --out latents.safetensors\n  \
    pixtape encode runs/vae-mnist --data mnist --against runs/autoencoder-mnist\n\n\
    The file holds mu [n, d], logvar [n, d] (variational models) and label [n] (where the set has labels).\n\n\
    The probe is softmax regression on mu: trained on the train split, measured on the test split. The table shows how\n\
    many test images are classified correctly if only some training images are labelled, as many of each class: by softmax\n\
    regression with an L2 penalty, which cross-validation on the labelled images chooses, and by the nearest labelled\n\
    image (Euclidean distance). Its rows are this model, the models of --against, and raw pixels.\n\n\
    --json prints one object: what the file holds, probe (train_accuracy, test_accuracy, classes), and few_labels (labels,\n\
    draws, train_images, test_images, left_out, and one object for each row in features: name, dims, provenance, and\n\
    linear_probe and nearest_neighbour with mean, deviation and the draws for each of labels, and all).")]
pub(super) struct Args {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// Checkpoint or run of another model with latent vectors to compare with; repeatable
    #[arg(long, value_name = "CKPT", conflicts_with = "no_probe")]
    against: Vec<PathBuf>,
    /// Numbers of labelled training images, in all classes together
    #[arg(long, value_name = "N,N,..", value_delimiter = ',', default_values_t = [10, 100, 1000], value_parser = count(1_000_000), conflicts_with = "no_probe")]
    labels: Vec<usize>,
    /// How often labelled images are drawn, for a mean and a deviation
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = count(1000), conflicts_with = "no_probe")]
    draws: usize,
    /// Split to encode: train, fit, valid or test
    #[arg(long, value_name = "SPLIT", default_value = "test", value_parser = split)]
    split: Split,
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = "latents.safetensors", value_parser = tensors())]
    out: OutFile,
    /// Leave out the linear probe and the table
    #[arg(long)]
    no_probe: bool,
    /// Seed of the probe, and of which images are labelled
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print one JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// The training and test images with their latent vectors.
struct Known {
    images: [Arc<Images>; 2],
    latents: [Latents; 2],
}

pub(super) fn run(args: Args) -> Result<()> {
    let inputs: Vec<&Path> =
        [&args.checkpoint.checkpoint].into_iter().chain(&args.against).map(PathBuf::as_path).collect();
    args.out.check(&inputs)?;
    let mut trained = Trained::open(&args.checkpoint, &args.device)?;
    args.data.keep_out(&trained.stored, &args.out)?;
    eval::check_encoder(&trained.stored.model)?;
    let others = others(&args, &trained.stored)?;
    let images = args.data.open(&trained.stored, args.split)?;
    let latents = {
        let _busy = Busy::new(&format!("encoding {} images", images.len()));
        eval::encode(&mut *trained.backend, &trained.stored.model, images.clone())?
    };
    let protocol = protocol(&trained, &images, args.split);
    output::write(&args.out, &contents(&latents, images.len()).file(&protocol)?)?;
    let probed = probed(&args, &mut trained, others, (&images, &latents))?;
    if args.json {
        let mut value = protocol;
        value["out"] = json!(args.out);
        value["latent_dims"] = json!(latents.dims);
        (value["probe"], value["few_labels"]) = match &probed {
            Ok((probe, comparison)) => {
                (print::of_probe(probe), comparison.as_ref().map_or(Value::Null, print::to_json))
            }
            Err(_) => (Value::Null, Value::Null),
        };
        return output::json(&value);
    }
    let (n, dims, origin) = (images.len(), latents.dims, trained.stored.origin());
    output::line(&format!("{n} latent vectors of {dims} dimensions by {origin} in {}", args.out.display()))?;
    match probed {
        Ok((probe, comparison)) => {
            output::line(&format!(
                "linear probe over {} classes: {:.2} % of the train split, {:.2} % of the test split",
                probe.classes,
                100.0 * probe.train_accuracy,
                100.0 * probe.test_accuracy
            ))?;
            match comparison {
                Ok(comparison) => output::print(&print::text(&comparison)),
                Err(why) => output::line(&format!("no table for few labels: {why}")),
            }
        }
        Err(why) => output::line(&format!("no linear probe: {why}")),
    }
}

/// The models of `--against`.
///
/// # Errors
/// If one of them, or the model itself, cannot be compared.
fn others(args: &Args, own: &Stored) -> Result<Vec<Stored>> {
    let read = |path: &PathBuf| -> Result<Stored> {
        let stored = Stored::read(&CheckpointArgs { checkpoint: path.clone(), weights: None })?;
        eval::check_encoder(&stored.model)?;
        check_compared(&stored)?;
        Ok(stored)
    };
    if !args.against.is_empty() {
        check_compared(own)?;
    }
    args.against.iter().map(read).collect()
}

/// A probe, and the comparison with few labels or the reason why there is none.
type Probed = (Probe, Result<Comparison, String>);

/// What is measured with labels, or the reason why nothing is. `own` are the images that are encoded already
/// and their latent vectors.
fn probed(
    args: &Args,
    trained: &mut Trained,
    others: Vec<Stored>,
    own: (&Arc<Images>, &Latents),
) -> Result<Result<Probed, String>> {
    // There may be too few images or no labels. The file is written anyway, so this is an error only if a
    // comparison was asked for.
    let reason = |error: Error| match error {
        Error::Failed(why) if args.against.is_empty() => Ok(Err(why)),
        error => Err(error),
    };
    if args.no_probe {
        return Ok(Err("it was left out".to_string()));
    }
    if own.0.labels().is_none() {
        return reason(Error::Failed(format!("{} has no labels", own.0.name())));
    }
    let known = match known(args, trained, own) {
        Ok(known) => known,
        Err(error) if args.against.is_empty() => return Ok(Err(error.to_string())),
        Err(error) => return Err(error),
    };
    let [train, test] = &known.latents;
    let busy = Busy::new("training a linear probe");
    let probe = match eval::linear_probe(args.device.name()?, args.device.threads, train, test, args.seed) {
        Ok(probe) => probe,
        Err(error) => return reason(error),
    };
    drop(busy);
    if let Err(error) = check_compared(&trained.stored) {
        return Ok(Ok((probe, Err(error.to_string()))));
    }
    let comparison = comparison::compare(args, trained, others, known, &probe)?;
    Ok(Ok((probe, Ok(comparison))))
}

/// Opens and encodes the training and test images.
fn known(args: &Args, trained: &mut Trained, (images, latents): (&Arc<Images>, &Latents)) -> Result<Known> {
    let mut of = |split: Split| -> Result<(Arc<Images>, Latents)> {
        if split == args.split {
            return Ok((images.clone(), latents.clone()));
        }
        let images = args.data.open(&trained.stored, split)?;
        let _busy = Busy::new(&format!("encoding {} images", images.len()));
        let latents = eval::encode(&mut *trained.backend, &trained.stored.model, images.clone())?;
        Ok((images, latents))
    };
    let (train, test) = (of(Split::Train)?, of(Split::Test)?);
    Ok(Known { images: [train.0, test.0], latents: [train.1, test.1] })
}

/// Which model and which images the latent vectors belong to.
fn protocol(trained: &Trained, images: &Images, split: Split) -> Value {
    let binary = images.levels() == Levels::Binary;
    let encoded = json!({
        "dataset": images.name(),
        "sha256": images.sha256(),
        "split": split.name(),
        "binarisation": if binary { "static" } else { trained.stored.model.config.binarize.name() },
        "images": images.len(),
    });
    output::merged(trained.stored.provenance(&*trained.backend), &encoded)
}

/// The contents of the file.
fn contents(latents: &Latents, images: usize) -> Tensors {
    let mut tensors = Tensors::default();
    let matrix = || vec![images, latents.dims];
    tensors.f32("mu", matrix(), &latents.mu);
    if !latents.logvar.is_empty() {
        tensors.f32("logvar", matrix(), &latents.logvar);
    }
    if !latents.labels.is_empty() {
        tensors.index("label", &latents.labels);
    }
    tensors
}
