//! The argument `CKPT`: a checkpoint file, or a run folder, which stands for its best checkpoint if the run
//! measures validation images, and else for its newest. Opens it for everything but training.

use super::args::DeviceArgs;
use super::output::note;
use crate::backend::Backend;
use crate::config::Config;
use crate::data::{Identity, Images, Split};
use crate::error::{Error, Result};
use crate::files::read_text;
use crate::models::Model;
use crate::parameters;
use crate::store::Checkpoint;
use crate::store::MAX_CONFIG;
use crate::store::RunDir;
use clap::ValueEnum;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Which weights of a checkpoint to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Weights {
    /// The weights that training updates
    Raw,
    /// The moving averages of the weights
    Ema,
}

impl Weights {
    /// The name in results.
    pub fn name(self) -> &'static str {
        match self {
            Weights::Raw => "raw",
            Weights::Ema => "averaged",
        }
    }
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct CheckpointArgs {
    /// Checkpoint file, or run folder (its checkpoint with the best validation, or else its newest)
    #[arg(value_name = "CKPT")]
    pub checkpoint: PathBuf,
    /// Weights to use (default: the moving averages if there are any)
    #[arg(long, value_name = "WHICH")]
    pub weights: Option<Weights>,
}

/// A checkpoint and its model.
pub(super) struct Stored {
    pub model: Model,
    pub checkpoint: Checkpoint,
    /// The path of the checkpoint file.
    pub path: PathBuf,
    /// The run folder that contains it, if there is one.
    pub run: Option<PathBuf>,
    pub weights: Weights,
}

/// A model on a device, with the weights of a checkpoint.
pub(super) struct Trained {
    pub stored: Stored,
    pub backend: Box<dyn Backend>,
}

impl Stored {
    /// Reads the checkpoint. The model declares moving averages only if they are used.
    pub fn read(args: &CheckpointArgs) -> Result<Self> {
        let (checkpoint, path) = load(&args.checkpoint)?;
        let mut config = Config::of_checkpoint(&checkpoint.config, &path)?;
        let averaged = config.ema > 0.0;
        if args.weights == Some(Weights::Ema) && !averaged {
            let reason = "its run has no moving averages of the weights";
            return Err(Error::file(&path, reason, "use --weights raw, or train with --set ema=0.999"));
        }
        let weights = args.weights.unwrap_or(if averaged { Weights::Ema } else { Weights::Raw });
        if weights == Weights::Raw {
            config.ema = 0.0;
        }
        let model = Model::new(&config)?;
        checkpoint.expect_finite(&path, is_used)?;
        parameters::expect_for_inference(&model.set, &checkpoint, &path)?;
        let run = path.parent().and_then(Path::parent).filter(|run| run.join("config.toml").is_file());
        // The relative path of the run folder is empty if it is the current folder.
        let run = run.map(|run| if run.as_os_str().is_empty() { PathBuf::from(".") } else { run.to_path_buf() });
        Ok(Stored { model, checkpoint, run, path, weights })
    }

    /// The configuration of the run folder, if there is one that can be read.
    pub fn run_config(&self) -> Option<Config> {
        let path = self.run.as_ref()?.join("config.toml");
        Config::from_toml(&read_text(&path, MAX_CONFIG).ok()?, &path).ok()
    }

    /// The identity of the images that the model was trained on. Checkpoints of
    /// earlier versions of the program do not say it.
    pub fn trained_on(&self) -> Option<Identity> {
        serde_json::from_str(self.checkpoint.data.as_ref()?).ok()
    }

    /// The images, with their classes numbered as the model numbers them.
    ///
    /// # Errors
    /// If the images have a class that the model does not know.
    pub fn with_its_classes(&self, images: Images) -> Result<Images> {
        if self.model.classes() == 0 || images.labels().is_none() {
            return Ok(images);
        }
        let name = images.name().to_string();
        let known: Vec<String> = match &self.checkpoint.classes {
            Some(text) => serde_json::from_str(text).map_err(|error| {
                Error::file(&self.path, "its list of classes is damaged", "use an earlier checkpoint").because(error)
            })?,
            None if images.class_names().is_none() => return Ok(images),
            None if self.checkpoint.data.is_none() => {
                let sentence = "an earlier version wrote the checkpoint, which does not name its classes; those of";
                note(&format!("warning: {sentence} {name} are numbered by their names"));
                return Ok(images);
            }
            None => (0..self.model.classes()).map(|class| class.to_string()).collect(),
        };
        images.renumbered(&known).map_err(|class| {
            const SHOWN: usize = 10;
            let more = if known.len() > SHOWN { ", ..." } else { "" };
            let listed = known.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
            Error::Failed(format!(
                "{name} has images of the class \"{class}\", but the model knows only {listed}{more}; leave them out or \
                 rename their folder"
            ))
        })
    }

    /// Where results of this model come from, as JSON: the model, the step, the weights, the training images
    /// (null if the checkpoint does not name them), the version of the program and the kind of device.
    pub fn provenance(&self, backend: &dyn Backend) -> Value {
        let mut value = self.provenance_of_weights();
        value["device"] = json!(backend.describe().kind);
        value
    }

    /// The same for a result that shows `images`, a selection from the split `split`.
    pub fn provenance_with(&self, backend: &dyn Backend, images: &Images, split: Split) -> Value {
        let mut value = self.provenance(backend);
        value["shown"] = json!(Identity::of(images, split));
        value
    }

    /// The same for the weights alone. The device is the one that they were trained on.
    pub fn provenance_of_weights(&self) -> Value {
        json!({
            "model": self.model.config.name(),
            "step": self.checkpoint.step,
            "weights": self.weights.name(),
            "trained_on": self.trained_on(),
            "program": env!("CARGO_PKG_VERSION"),
            "device": self.checkpoint.device,
        })
    }

    /// Where the weights come from, for titles.
    pub fn origin(&self) -> String {
        let place = self.run.as_deref().unwrap_or(&self.path);
        format!("{}, step {}", place.display(), self.checkpoint.step)
    }
}

impl Trained {
    /// Reads the checkpoint and writes its weights to the device.
    pub fn open(args: &CheckpointArgs, device: &DeviceArgs) -> Result<Self> {
        device.name()?;
        Trained::of(Stored::read(args)?, device)
    }

    /// Writes the weights to the device.
    pub fn of(stored: Stored, device: &DeviceArgs) -> Result<Self> {
        let mut backend = device.open()?;
        parameters::load_for_inference(&mut *backend, &stored.model.set, &stored.checkpoint, &stored.path)?;
        Ok(Trained { stored, backend })
    }
}

/// Whether inference reads this tensor of a checkpoint.
pub(super) fn is_used(tensor: &str) -> bool {
    !tensor.starts_with("optim/")
}

fn load(path: &Path) -> Result<(Checkpoint, PathBuf)> {
    if !path.is_dir() {
        return Ok((Checkpoint::load(path)?, path.to_path_buf()));
    }
    let latest = RunDir::open(path)?.chosen_of(is_used)?.ok_or_else(|| {
        Error::file(
            path,
            "the run has saved no checkpoint yet",
            "train until it has one, or press Ctrl-C in that run to save one",
        )
    })?;
    latest.warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
    Ok((latest.checkpoint, latest.path))
}
