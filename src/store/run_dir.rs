//! The run folder `runs/<name>/`: configuration, metrics, samples, checkpoints and report of one training
//! run.
//!
//! ```text
//! config.toml  metrics.jsonl  report.html  samples/step-000500.png  checkpoints/step-000500.safetensors
//! ```

use super::atomic::write_atomically;
use super::checkpoint::Checkpoint;
use super::metrics::{MetricsWriter, Row, read_metrics};
use crate::error::{Error, Result};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A run folder that exists.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
}

/// The newest checkpoint of a run that can be loaded.
#[derive(Debug)]
pub struct Latest {
    /// The checkpoint itself.
    pub checkpoint: Checkpoint,
    /// Its file.
    pub path: PathBuf,
    /// One sentence per newer checkpoint that was skipped because it is damaged.
    pub warnings: Vec<String>,
}

/// A file of a run that belongs to a training step.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepFile {
    /// Training steps done when it was written.
    pub step: u64,
    /// Its path.
    pub path: PathBuf,
}

impl RunDir {
    /// Makes the folder of a new run and writes its `config.toml`. Metrics and samples of an earlier run
    /// that never saved a checkpoint are removed.
    ///
    /// # Errors
    /// [`Error::File`] if the folder already has checkpoints, or cannot be made or written to.
    pub fn create(path: &Path, config: &str) -> Result<Self> {
        let run = RunDir { path: path.to_path_buf() };
        if !run.checkpoints()?.is_empty() {
            let remedy = format!("go on with it by --resume {}, or choose another folder by --out", path.display());
            return Err(Error::file(path, "it already holds the checkpoints of a run", remedy));
        }
        run.make_folders()?;
        for sample in run.samples()? {
            std::fs::remove_file(&sample.path).map_err(|error| Error::io(&sample.path, "remove", error))?;
        }
        run.write_config(config)?;
        MetricsWriter::create(&run.metrics_path())?;
        Ok(run)
    }

    /// Opens the folder of an earlier run, which has a `config.toml`.
    ///
    /// # Errors
    /// [`Error::File`] if it is not such a folder or cannot be written to.
    pub fn open(path: &Path) -> Result<Self> {
        let run = RunDir { path: path.to_path_buf() };
        if !run.config_path().is_file() {
            let reason = if path.is_dir() { "it has no config.toml" } else { "there is no such folder" };
            return Err(Error::file(path, reason, "give the folder of a run that `pixtape train` has made"));
        }
        run.make_folders()?;
        Ok(run)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `config.toml`.
    #[doc(hidden)]
    pub fn config_path(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// `metrics.jsonl`.
    pub(crate) fn metrics_path(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// `report.html`.
    #[doc(hidden)]
    pub fn report_path(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// `samples/step-000500.png` for step 500.
    pub(crate) fn sample_path(&self, step: u64) -> PathBuf {
        self.path.join("samples").join(format!("step-{step:06}.png"))
    }

    /// `checkpoints/step-000500.safetensors` for step 500.
    #[doc(hidden)]
    pub fn checkpoint_path(&self, step: u64) -> PathBuf {
        self.path.join("checkpoints").join(format!("step-{step:06}.safetensors"))
    }

    /// The text of `config.toml`.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read.
    pub fn read_config(&self) -> Result<String> {
        let path = self.config_path();
        std::fs::read_to_string(&path).map_err(|error| Error::io(&path, "read", error))
    }

    /// Replaces `config.toml`.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub(crate) fn write_config(&self, config: &str) -> Result<()> {
        write_atomically(&self.config_path(), |out| out.write_all(config.as_bytes()))
    }

    /// Replaces `report.html`.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    #[doc(hidden)]
    pub fn write_report(&self, html: &str) -> Result<()> {
        write_atomically(&self.report_path(), |out| out.write_all(html.as_bytes()))
    }

    /// Writes the sample picture of a step, given as the bytes of a PNG file.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    #[doc(hidden)]
    pub fn write_sample(&self, step: u64, png: &[u8]) -> Result<PathBuf> {
        let path = self.sample_path(step);
        write_atomically(&path, |out| out.write_all(png))?;
        Ok(path)
    }

    /// Saves a checkpoint under the name of its step.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written. Earlier checkpoints are untouched then.
    #[doc(hidden)]
    pub fn save_checkpoint(&self, checkpoint: &Checkpoint) -> Result<PathBuf> {
        let path = self.checkpoint_path(checkpoint.step);
        checkpoint.save(&path)?;
        Ok(path)
    }

    /// The writer of `metrics.jsonl` for training that continues after `step` (0 for a new run). Later rows
    /// are removed.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read or written.
    #[doc(hidden)]
    pub fn metrics_writer(&self, step: u64) -> Result<MetricsWriter> {
        MetricsWriter::resume(&self.metrics_path(), step)
    }

    /// The rows of `metrics.jsonl`, without a torn last line.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read or has a line that is no row.
    pub fn metrics(&self) -> Result<Vec<Row>> {
        read_metrics(&self.metrics_path())
    }

    /// The sample pictures by step, in order.
    ///
    /// # Errors
    /// [`Error::File`] if the folder cannot be read.
    pub fn samples(&self) -> Result<Vec<StepFile>> {
        by_step(&self.path.join("samples"), ".png")
    }

    /// The checkpoints by step, in order, including damaged ones.
    ///
    /// # Errors
    /// [`Error::File`] if the folder cannot be read.
    pub fn checkpoints(&self) -> Result<Vec<StepFile>> {
        by_step(&self.path.join("checkpoints"), ".safetensors")
    }

    /// The newest checkpoint that can be loaded. Damaged ones are skipped with a warning. `None` if the run
    /// has saved none yet.
    ///
    /// # Errors
    /// [`Error::File`] if the folder cannot be read, or if there are checkpoints but none can be loaded (the
    /// error of the newest).
    pub fn latest(&self) -> Result<Option<Latest>> {
        let mut warnings = Vec::new();
        let mut newest = None;
        for StepFile { step, path } in self.checkpoints()?.into_iter().rev() {
            match load_step(&path, step) {
                Ok(checkpoint) => return Ok(Some(Latest { checkpoint, path, warnings })),
                Err(error) => {
                    warnings.push(format!("the checkpoint of step {step} is passed over: {error}"));
                    newest.get_or_insert(error);
                }
            }
        }
        newest.map_or(Ok(None), Err)
    }

    fn make_folders(&self) -> Result<()> {
        for folder in ["samples", "checkpoints"] {
            let folder = self.path.join(folder);
            std::fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, "make", error))?;
        }
        Ok(())
    }
}

/// Loads the checkpoint that is named after `step`.
fn load_step(path: &Path, step: u64) -> Result<Checkpoint> {
    let checkpoint = Checkpoint::load(path)?;
    if checkpoint.step != step {
        let reason = format!("it holds step {} under the name of step {step}", checkpoint.step);
        return Err(Error::file(path, reason, "give it its own name, or remove it"));
    }
    Ok(checkpoint)
}

/// The files `step-<number><extension>` of a folder by number; none if the folder is missing.
fn by_step(folder: &Path, extension: &str) -> Result<Vec<StepFile>> {
    let entries = match folder.read_dir() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| Error::io(folder, "read", error))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| Error::io(folder, "read", error))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let digits = name.strip_prefix("step-").and_then(|rest| rest.strip_suffix(extension));
        if let Some(step) = digits.filter(|digits| digits.bytes().all(|b| b.is_ascii_digit())) {
            found.extend(step.parse().ok().map(|step| StepFile { step, path: path.clone() }));
        }
    }
    found.sort();
    Ok(found)
}
