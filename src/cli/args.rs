//! Arguments that several subcommands share, and what they turn into.

use crate::backend::{self, Backend};
use crate::config::{self, Config};
use crate::data::{Images, Set, Split};
use crate::error::{Error, Result};
use crate::models::Model;
use crate::train::run;
use clap::builder::RangedU64ValueParser;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The longest configuration file that is read, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct DeviceArgs {
    /// Where to compute: auto, cpu, cuda, wgpu, or one adapter by wgpu:NUMBER or wgpu:NAME (default: auto)
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Worker threads of the CPU; 0 takes every core
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = RangedU64ValueParser::<usize>::new().range(0..=1024))]
    pub threads: usize,
}

impl DeviceArgs {
    /// The name of the device, one that exists.
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
    /// Data set by name, or the path of a folder of images or of a file (default: what the model was trained on)
    #[arg(long, value_name = "NAME|PATH")]
    pub data: Option<String>,
    /// Folder of the known data sets (default: PIXTAPE_DATA, else data)
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl DataArgs {
    /// The name or path to open for a model of this configuration.
    pub fn name(&self, config: &Config) -> Result<String> {
        match &self.data {
            Some(name) => Ok(name.clone()),
            None if Set::named(&config.data).is_some() => Ok(config.data.clone()),
            None => Err(Error::Failed(format!(
                "the configuration names the images \"{}\", which are no built-in data set; say by --data where they lie",
                config.data
            ))),
        }
    }

    /// The images of a split, of the size that the model wants.
    pub fn open(&self, model: &Model, split: Split) -> Result<Arc<Images>> {
        let name = self.name(&model.config)?;
        Ok(Arc::new(run::open_images(model, &name, split, self.data_dir.as_deref())?))
    }
}

/// The images or sequences of a data set that a picture begins with.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ChoiceArgs {
    /// Seed of what is chosen, and of what is drawn
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u32,
    /// Split that is chosen from
    #[arg(long, value_name = "SPLIT", default_value = "test", value_parser = split)]
    pub split: Split,
    #[command(flatten)]
    data: DataArgs,
}

impl ChoiceArgs {
    /// At most `n` of the split, of the size that the model wants.
    pub fn choose(&self, model: &Model, n: usize) -> Result<Arc<Images>> {
        Ok(Arc::new(self.open(model, self.split)?.sample(n, self.seed)))
    }

    /// All of a split.
    pub fn open(&self, model: &Model, split: Split) -> Result<Arc<Images>> {
        self.data.open(model, split)
    }
}

/// What a data set is called in a configuration: its name, or the last component of its path.
pub(super) fn data_name(name_or_path: &str) -> Result<String> {
    let path = Path::new(name_or_path);
    let last = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    // A path like `..` has a name only once it is resolved.
    let name = last(path).or_else(|| last(&path.canonicalize().ok()?));
    name.ok_or_else(|| Error::file(path, "it has no name", "give --data the name of a data set, a folder or a file"))
}

/// The configuration of a preset, a network, or a file.
pub(super) fn configuration(what: &str) -> Result<Config> {
    let path = Path::new(what);
    let is_path = what.ends_with(".toml") || what.contains(['/', '\\']) || path.exists();
    if !is_path {
        return config::named(what);
    }
    let failed = |error: std::io::Error| Error::io(path, "read", error);
    let meta = std::fs::metadata(path).map_err(failed)?;
    if meta.is_dir() {
        return Err(Error::file(path, "it is a folder", "name its config.toml, or go on with a run by --resume"));
    }
    if !meta.is_file() || meta.len() > MAX_CONFIG {
        return Err(Error::file(
            path,
            "it is no configuration file",
            "name a preset, a network, or a file like config.toml",
        ));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::file(path, "it is not text", "name a preset, a network, or a file like config.toml"))?;
    Config::from_toml(&text, path)
}

/// A split by its name, for clap.
pub(super) fn split(text: &str) -> Result<Split, String> {
    text.parse().map_err(|error: Error| error.to_string())
}

/// A number above 0, for clap.
pub(super) fn above_zero(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("it must be a number above 0".to_string()),
    }
}

/// A count from 1 to `most`, for clap: far above what a picture can show, and small enough to be held in memory.
pub(super) fn count(most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=most)
}
