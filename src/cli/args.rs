//! Arguments that several subcommands share, and their conversion to what the library takes.

use crate::backend::{self, Backend};
use crate::config::{self, Config};
use crate::data::{Images, Set, Split};
use crate::error::{Error, Result};
use crate::models::Model;
use crate::store::utf8;
use crate::train::run;
use clap::builder::RangedU64ValueParser;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest configuration file that is read, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct DeviceArgs {
    /// Device to compute on: auto, cpu, cuda, wgpu, or one adapter as wgpu:NUMBER or wgpu:NAME (default:
    /// auto)
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Worker threads of the CPU; 0 uses every core
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = RangedU64ValueParser::<usize>::new().range(0..=1024))]
    pub threads: usize,
}

impl DeviceArgs {
    /// The name of the device, which is checked to be a known one.
    pub fn name(&self) -> Result<&str> {
        let name = self.device.as_deref().unwrap_or("auto");
        if backend::is_device(name) { Ok(name) } else { Err(backend::unknown_device(name)) }
    }

    pub fn open(&self) -> Result<Box<dyn Backend>> {
        backend::open(self.name()?, self.threads)
    }
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct DataArgs {
    /// Name of a data set, or path of a folder of images or of a file (default: what the model was
    /// trained on)
    #[arg(long, value_name = "NAME|PATH")]
    pub data: Option<String>,
    /// Folder of the known data sets (default: the environment variable PIXTAPE_DATA, or else data)
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl DataArgs {
    /// The name or path to open for a model with this configuration.
    pub fn name(&self, config: &Config) -> Result<String> {
        match &self.data {
            Some(name) => Ok(name.clone()),
            None if Set::named(&config.data).is_some() => Ok(config.data.clone()),
            None => Err(Error::Failed(format!(
                "the configuration names the images \"{}\", which are not a known data set; give their path by --data",
                config.data
            ))),
        }
    }

    /// The images of a split. Their size is checked against the model.
    pub fn open(&self, model: &Model, split: Split) -> Result<Arc<Images>> {
        let name = self.name(&model.config)?;
        Ok(Arc::new(run::open_images(model, &name, split, self.data_dir.as_deref())?))
    }
}

/// Arguments of the subcommands that make a picture from images or sequences of a data set.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct PictureArgs {
    /// Seed of the selection, and of sampling
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u32,
    /// Split to select from: train, fit, valid or test
    #[arg(long, value_name = "SPLIT", default_value = "test", value_parser = split)]
    pub split: Split,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Print one JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

impl PictureArgs {
    /// A random selection of at most `n` images of the split.
    pub fn choose(&self, model: &Model, n: usize) -> Result<Arc<Images>> {
        Ok(Arc::new(self.open(model, self.split)?.sample(n, self.seed)))
    }

    /// All images of a split.
    pub fn open(&self, model: &Model, split: Split) -> Result<Arc<Images>> {
        self.data.open(model, split)
    }
}

/// The name of a data set in a configuration: its name, or the last component of its path.
pub(super) fn data_name(name_or_path: &str) -> Result<String> {
    let path = Path::new(name_or_path);
    let last = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    // A path like `..` has a name only after it is resolved.
    let name = last(path).or_else(|| last(&path.canonicalize().ok()?));
    name.ok_or_else(|| Error::file(path, "it has no name", "give --data the name of a data set, a folder or a file"))
}

/// The configuration of a preset or of a file.
pub(super) fn configuration(what: &str) -> Result<Config> {
    let path = Path::new(what);
    let is_path = what.ends_with(".toml") || what.contains(['/', '\\']) || path.exists();
    if !is_path {
        return config::named(what);
    }
    let failed = |error: std::io::Error| Error::io(path, "read", error);
    let meta = std::fs::metadata(path).map_err(failed)?;
    if meta.is_dir() {
        return Err(Error::file(path, "it is a folder", "give its config.toml, or continue a run by --resume"));
    }
    if !meta.is_file() || meta.len() > MAX_CONFIG {
        return Err(Error::file(
            path,
            "it is not a configuration file",
            "give a preset, a network, or a file like config.toml",
        ));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    Config::from_toml(&utf8(path, bytes)?, path)
}

/// Parses a split for clap.
pub(super) fn split(text: &str) -> Result<Split, String> {
    text.parse().map_err(|error: Error| error.to_string())
}

/// Parses a number above 0 for clap.
pub(super) fn above_zero(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("it must be a number above 0".to_string()),
    }
}

/// Parses a count from 1 to `most` for clap. The limits are far above what a picture can show, and small
/// enough for memory.
pub(super) fn count(most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=most)
}
