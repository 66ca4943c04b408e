//! The argument `CKPT`: a checkpoint file, or a run folder, which stands for its newest checkpoint. Opens
//! it for everything but training.

use super::args::DeviceArgs;
use super::output::note;
use crate::backend::Backend;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::models::Model;
use crate::store::Checkpoint;
use crate::store::RunDir;
use crate::train::parameters;
use clap::ValueEnum;
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
    pub fn name(self) -> &'static str {
        match self {
            Weights::Raw => "raw",
            Weights::Ema => "ema",
        }
    }

    /// What they are called in sentences.
    pub fn in_words(self) -> &'static str {
        match self {
            Weights::Raw => "raw",
            Weights::Ema => "averaged",
        }
    }
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct CheckpointArgs {
    /// Checkpoint file, or run folder (its newest checkpoint)
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
fn is_used(tensor: &str) -> bool {
    !tensor.starts_with("optim/")
}

fn load(path: &Path) -> Result<(Checkpoint, PathBuf)> {
    if !path.is_dir() {
        return Ok((Checkpoint::load(path)?, path.to_path_buf()));
    }
    let latest = RunDir::open(path)?.latest_of(is_used)?.ok_or_else(|| {
        Error::file(
            path,
            "the run has saved no checkpoint yet",
            "train until it has one, or press Ctrl-C in that run to save one",
        )
    })?;
    latest.warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
    Ok((latest.checkpoint, latest.path))
}
