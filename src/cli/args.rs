//! Arguments that several subcommands share, and their conversion to what the library takes.

use super::out_file::OutFile;
use super::output::{self, note_once};
use super::trained::Stored;
use crate::backend::{self, Backend};
use crate::config::{self, Config, DataSource, last_part};
use crate::data::{self, Identity, Images, Set, Split, publishers_sha256};
use crate::error::{Error, Result};
use crate::files::read_text;
use crate::store::MAX_CONFIG;
use crate::train::images;
use clap::builder::{OsStringValueParser, RangedU64ValueParser, TypedValueParser};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

    /// Worker threads for what is computed on the CPU with every device.
    pub fn pool(&self) -> Result<rayon::ThreadPool> {
        rayon::ThreadPoolBuilder::new().num_threads(self.threads).build().map_err(|error| {
            let sentence = format!("could not start the worker threads ({error}); choose fewer by --threads");
            Error::Failed(sentence).because(error)
        })
    }
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct DataArgs {
    /// Name of a data set, or path of a folder of images or of a file (default: what the model was
    /// trained on)
    #[arg(long, value_name = "NAME|PATH", value_parser = text())]
    pub data: Option<String>,
    /// Folder of the known data sets (default: the environment variable PIXTAPE_DATA, or else data)
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl DataArgs {
    /// The name or path to open for a model with this configuration.
    pub fn name(&self, config: &Config) -> Result<String> {
        if let Some(name) = &self.data {
            return Ok(name.clone());
        }
        let reason = match config.data_source() {
            DataSource::Set(name) => return Ok(name.to_string()),
            DataSource::Path(path) if Path::new(path).exists() => return Ok(path.to_string()),
            DataSource::Path(path) => {
                let reason = "the configuration names it as the data set, but there is no such file or folder";
                return Err(Error::file(path, reason, "give the path of the images by --data"));
            }
            DataSource::Unstored(name) => format!(
                "the model was trained on images from a path that ends in \"{name}\", and a checkpoint stores no paths"
            ),
            DataSource::Unknown(name) => {
                format!("the configuration names the images \"{name}\", which are not a known data set")
            }
        };
        Err(Error::Failed(format!("{reason}; give their path by --data")))
    }

    /// Checks that the file `out` does not become one of the images that are opened for this model.
    pub fn keep_out(&self, stored: &Stored, out: &OutFile) -> Result<()> {
        match self.name_for(stored) {
            Ok(name) if Set::named(&name).is_none() => out.check_outside(Path::new(&name)),
            // The images of known sets are not in files that an output can be. Without a name there are no
            // images, which is reported when they are opened.
            _ => Ok(()),
        }
    }

    /// The name or path to open for a trained model. A checkpoint stores no path, but the configuration of
    /// its run folder does.
    pub fn name_for(&self, stored: &Stored) -> Result<String> {
        let mut config = stored.model.config.clone();
        if let (DataSource::Unstored(name), Some(of_run)) = (config.data_source(), stored.run_config())
            && let DataSource::Path(path) = of_run.data_source()
            && last_part(path) == name
        {
            config.data = of_run.data;
        }
        self.name(&config)
    }

    /// The images of a split. Their size is checked against the model, and their classes are numbered as
    /// the model numbers them.
    pub fn open(&self, stored: &Stored, split: Split) -> Result<Arc<Images>> {
        let name = self.name_for(stored)?;
        let images = data::open(&name, split, self.data_dir.as_deref())?;
        if publishers_sha256(images.name(), split).is_some() {
            let identity = Identity::of(&images, split);
            if identity.is_impostor() {
                output::note(&format!("warning: {}", identity.impostor_warning()));
            }
        }
        let images = images::in_channels_of(&stored.model, stored.with_its_classes(images)?);
        images::check_images(&stored.model, &images)?;
        images.notices().iter().for_each(|notice| note_once(notice));
        Ok(Arc::new(images))
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
    /// Checks that the file `out` does not become one of the images that are opened for this model.
    pub fn keep_out(&self, stored: &Stored, out: &OutFile) -> Result<()> {
        self.data.keep_out(stored, out)
    }

    /// The name or path of the images of this model.
    pub fn data_of(&self, stored: &Stored) -> Result<String> {
        self.data.name_for(stored)
    }

    /// The same arguments for the images with this name or path.
    pub fn of_data(&self, name: String) -> PictureArgs {
        PictureArgs { data: DataArgs { data: Some(name), ..self.data.clone() }, ..self.clone() }
    }

    /// A random selection of at most `n` images of the split.
    pub fn choose(&self, stored: &Stored, n: usize) -> Result<Arc<Images>> {
        Ok(Arc::new(self.open(stored, self.split)?.sample(n, self.seed)))
    }

    /// All images of a split.
    pub fn open(&self, stored: &Stored, split: Split) -> Result<Arc<Images>> {
        self.data.open(stored, split)
    }
}

/// A command line flag and the key of the configuration that it sets.
pub(super) struct FlagOfKey {
    pub flag: &'static str,
    pub key: &'static str,
    pub is_given: bool,
}

/// The precision of the operands of products.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Precision {
    /// 32-bit floats
    F32,
    /// 16-bit floats, on processors with AVX512-BF16; sums and weights stay in 32 bits
    Bf16,
}

impl Precision {
    /// The value of the key `precision`.
    pub(super) fn key(self) -> config::Precision {
        match self {
            Precision::F32 => config::Precision::F32,
            Precision::Bf16 => config::Precision::Bf16,
        }
    }
}

/// Checks that no key is given twice: by two `--set`, or by `--set` and a flag of its own.
///
/// # Errors
/// [`Error::Usage`] that names both.
pub(super) fn check_given_once(set: &[String], flags: &[FlagOfKey]) -> Result<()> {
    // Training is either so many steps or so many epochs.
    let fact = |key: &str| if key == "epochs" { "steps".to_string() } else { key.to_string() };
    let key_of = |assignment: &str| assignment.split_once('=').map(|(key, _)| key.trim().to_string());
    let by_flag = flags.iter().filter(|flag| flag.is_given).map(|flag| (fact(flag.key), flag.flag.to_string()));
    let by_set = set.iter().filter_map(|text| Some((fact(&key_of(text)?), format!("--set {text}"))));
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (key, given) in by_flag.chain(by_set) {
        if let Some(earlier) = seen.insert(key, given.clone()) {
            return Err(Error::Usage(format!("{earlier} and {given} set the same thing; give only one of them")));
        }
    }
    Ok(())
}

/// Whether the argument of `train` is a file, and not the name of a preset or a network.
pub(super) fn is_file(what: &str) -> bool {
    what.ends_with(".toml") || what.contains(['/', '\\']) || Path::new(what).exists()
}

/// The configuration of a preset or of a file.
pub(super) fn configuration(what: &str) -> Result<Config> {
    if !is_file(what) {
        return config::named(what);
    }
    let path = Path::new(what);
    if path.is_dir() {
        let remedy = match path.join("config.toml").is_file() {
            true => "give its config.toml, or continue a run by --resume",
            false => "give a preset, a network, or a file like config.toml",
        };
        return Err(Error::file(path, "it is a folder", remedy));
    }
    Config::from_toml(&read_text(path, MAX_CONFIG)?, path)
}

/// Parses a name or a path for clap that may be written into a configuration, which is UTF-8.
pub(super) fn text() -> impl TypedValueParser<Value = String> {
    let remedy = "its bytes are not UTF-8, the encoding of config.toml; give a link to it whose name is UTF-8";
    OsStringValueParser::new().try_map(move |text| text.into_string().map_err(|_| remedy))
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
