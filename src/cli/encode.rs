//! `pixtape encode`: writes the latent vectors of a split to a file, and measures how well a linear
//! classifier predicts the labels from them.

use super::args::{DataArgs, DeviceArgs, split};
use super::out_file::{OutFile, tensors};
use super::output;
use super::progress::Busy;
use super::tensors::Tensors;
use super::trained::{CheckpointArgs, Trained};
use crate::data::{Images, Levels, Split};
use crate::error::{Error, Result};
use crate::eval::{self, Latents, Probe};
use serde_json::{Value, json};

/// Write the latent vectors of a split to a file, and probe them with a linear classifier
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: pixtape encode runs/vae-mnist --data mnist --split test --out latents.safetensors\n\n\
    The file holds mu [n, d], logvar [n, d] (variational models) and label [n] (where the set has labels).\n\
    The probe is softmax regression on mu: trained on the train split, measured on the test split."
)]
pub(super) struct Args {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// Split to encode: train, fit, valid or test
    #[arg(long, value_name = "SPLIT", default_value = "test", value_parser = split)]
    split: Split,
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = "latents.safetensors", value_parser = tensors())]
    out: OutFile,
    /// Leave out the linear probe
    #[arg(long)]
    no_probe: bool,
    /// Seed of the probe
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

pub(super) fn run(args: Args) -> Result<()> {
    args.out.check(&[&args.checkpoint.checkpoint])?;
    let mut trained = Trained::open(&args.checkpoint, &args.device)?;
    args.data.keep_out(&trained.stored, &args.out)?;
    eval::check_encoder(&trained.stored.model)?;
    let images = args.data.open(&trained.stored, args.split)?;
    let busy = Busy::new(&format!("encoding {} images", images.len()));
    let latents = eval::encode(&mut *trained.backend, &trained.stored.model, images.clone())?;
    let protocol = protocol(&trained, &images, args.split);
    output::write(&args.out, &contents(&latents, images.len()).file(&protocol)?)?;
    let probe = if args.no_probe {
        Err("it was left out".to_string())
    } else if images.labels().is_none() {
        Err(format!("{} has no labels", images.name()))
    } else {
        probe(&args, &mut trained, &latents)?
    };
    drop(busy);
    if args.json {
        let mut value = protocol;
        value["out"] = json!(args.out);
        value["latent_dims"] = json!(latents.dims);
        value["probe"] = probe.map_or(Value::Null, |probe| {
            json!({
                "train_accuracy": probe.train_accuracy,
                "test_accuracy": probe.test_accuracy,
                "classes": probe.classes,
            })
        });
        return output::json(&value);
    }
    let (n, dims, origin) = (images.len(), latents.dims, trained.stored.origin());
    output::line(&format!("{n} latent vectors of {dims} dimensions by {origin} in {}", args.out.display()))?;
    match probe {
        Ok(probe) => output::line(&format!(
            "linear probe over {} classes: {:.2} % of the train split, {:.2} % of the test split",
            probe.classes,
            100.0 * probe.train_accuracy,
            100.0 * probe.test_accuracy
        )),
        Err(why) => output::line(&format!("no linear probe: {why}")),
    }
}

/// The probe, or the reason why there is none. `known` are the latent vectors of the split that is
/// encoded already.
fn probe(args: &Args, trained: &mut Trained, known: &Latents) -> Result<Result<Probe, String>> {
    let mut of = |split: Split| -> Result<Latents> {
        if split == args.split {
            return Ok(known.clone());
        }
        let images = args.data.open(&trained.stored, split)?;
        eval::encode(&mut *trained.backend, &trained.stored.model, images)
    };
    let (train, test) = match (of(Split::Train), of(Split::Test)) {
        (Ok(train), Ok(test)) => (train, test),
        (Err(error), _) | (_, Err(error)) => return Ok(Err(error.to_string())),
    };
    match eval::linear_probe(args.device.name()?, args.device.threads, &train, &test, args.seed) {
        Ok(probe) => Ok(Ok(probe)),
        // There are too few images or no labels. The file is written anyway.
        Err(Error::Failed(why)) => Ok(Err(why)),
        Err(error) => Err(error),
    }
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
