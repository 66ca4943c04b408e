//! The run folder `runs/<name>/`: configuration, metrics, samples, checkpoints and report of one training
//! run.
//!
//! ```text
//! config.toml  metrics.jsonl  report.html  samples/step-000500.png  checkpoints/step-000500.safetensors
//! likelihood.json  lock
//! ```
//!
//! Whoever trains holds the [`lock`]. Reading needs no lock, because every file is replaced as a whole.

use super::atomic::{sync_folder, write_atomically};
use super::checkpoint::Checkpoint;
#[cfg(feature = "cli")]
use super::keep::{Keep, validated};
use super::lock::{self, Lock};
use super::metrics::{MetricsWriter, Row, read_metrics};
use crate::error::{Error, Result};
use crate::files::{quoted, read_text};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of a run that a new run would replace.
const REPLACED: [&str; 4] = ["metrics.jsonl", "report.html", "likelihood.json", lock::NAME];

/// The complete text of the configuration that a text stands for; `None` if it is not a configuration.
type Complete = fn(&str) -> Option<String>;

/// The largest configuration file that is read, in bytes.
pub(crate) const MAX_CONFIG: u64 = 1 << 20;

/// A run folder that exists.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
    /// The lock, if this process trains in the folder. All clones share it.
    lock: Option<Arc<Lock>>,
}

/// The newest checkpoint of a run that can be loaded.
#[derive(Debug)]
pub struct Latest {
    /// The checkpoint itself.
    pub checkpoint: Checkpoint,
    /// Its file.
    pub path: PathBuf,
    /// One sentence per newer checkpoint that was skipped because it is damaged or not finite.
    pub warnings: Vec<String>,
}

/// The best checkpoint of a run, by what was measured on validation images.
#[cfg(feature = "cli")]
#[derive(Debug)]
pub(crate) struct Best {
    /// Its training step.
    pub(crate) step: u64,
    /// The name of what was measured: `valid_nll`, `valid_elbo` or `valid_iwae`.
    pub(crate) name: String,
    /// Its value in nats per image.
    pub(crate) value: f64,
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
    /// Makes the folder of a new run, locks it and writes its `config.toml`. Metrics and samples of an
    /// earlier run that never saved a checkpoint are removed. A `config.toml` that is already there and
    /// says the same keeps its text.
    ///
    /// # Errors
    /// [`Error::File`] if another process trains in the folder, if it has checkpoints or files that are not
    /// of a run, or if it cannot be made or written to.
    pub fn create(path: &Path, config: &str) -> Result<Self> {
        RunDir::create_with(path, config, |text| Some(text.to_string()))
    }

    /// Like [`create`](RunDir::create), for configurations that may be written in several ways.
    pub(crate) fn create_with(path: &Path, config: &str, complete: Complete) -> Result<Self> {
        RunDir::expect_new(path, config, complete)?;
        let run = RunDir { path: path.to_path_buf(), lock: None }.locked()?;
        // Another process may have trained here before this one had the lock.
        RunDir::expect_new_files(path, config, complete)?;
        for sample in run.samples()? {
            std::fs::remove_file(&sample.path).map_err(|error| Error::io(&sample.path, "remove", error))?;
        }
        run.update_config(config, complete)?;
        MetricsWriter::create(&run.metrics_path())?;
        Ok(run)
    }

    /// Checks that a new run with the configuration `config` can be made in the folder `path`.
    ///
    /// # Errors
    /// Those of [`create`](RunDir::create), except that nothing is written.
    pub(crate) fn expect_new(path: &Path, config: &str, complete: Complete) -> Result<()> {
        lock::expect_free(path)?;
        RunDir::expect_new_files(path, config, complete)
    }

    fn expect_new_files(path: &Path, config: &str, complete: Complete) -> Result<()> {
        let run = RunDir { path: path.to_path_buf(), lock: None };
        if !run.checkpoints()?.is_empty() {
            let remedy = format!("go on with it by --resume {}, or choose another folder by --out", quoted(path));
            return Err(Error::file(path, "it already holds the checkpoints of a run", remedy));
        }
        let refuse = |path: &Path, reason: &str| {
            Err(Error::file(path, reason, "choose another folder by --out, or move the file away"))
        };
        let is_run = RunDir::is_run(path, complete);
        if run.config_path().exists() && !is_run && !run.has_config(config, complete) {
            let reason = "a new run would replace it, and it holds another configuration than that of the run";
            return refuse(&run.config_path(), reason);
        }
        for name in REPLACED.into_iter().filter(|_| !is_run) {
            let file = path.join(name);
            let is_ours = name == lock::NAME && lock::is_lock(&file);
            if file.exists() && !is_ours {
                return refuse(&file, "a new run would replace it, and the folder is not that of a run");
            }
        }
        match run.samples()?.first() {
            Some(sample) if !is_run => {
                refuse(&sample.path, "a new run would remove it, and the folder is not that of a run")
            }
            _ => Ok(()),
        }
    }

    /// Whether the folder has the configuration and the folders of a run.
    fn is_run(path: &Path, complete: Complete) -> bool {
        let run = RunDir { path: path.to_path_buf(), lock: None };
        let has_folders = ["checkpoints", "samples"].iter().all(|name| path.join(name).is_dir());
        has_folders && run.read_config().is_ok_and(|text| complete(&text).is_some())
    }

    /// Removes the folder of an earlier run. A folder that is not that of a run is left as it is.
    ///
    /// # Errors
    /// [`Error::File`] if a process trains in it, or if it cannot be removed.
    #[cfg(feature = "cli")]
    pub(crate) fn remove(path: &Path, complete: Complete) -> Result<()> {
        if !RunDir::is_run(path, complete) {
            return Ok(());
        }
        lock::expect_free(path)?;
        std::fs::remove_dir_all(path).map_err(|error| Error::io(path, "remove", error))
    }

    /// Opens the folder of an earlier run, which has a `config.toml` or checkpoints.
    ///
    /// # Errors
    /// [`Error::File`] if it is not such a folder.
    pub fn open(path: &Path) -> Result<Self> {
        let run = RunDir { path: path.to_path_buf(), lock: None };
        if !run.config_path().is_file() && run.checkpoints()?.is_empty() {
            let reason = if path.is_dir() { "it has no config.toml" } else { "there is no such folder" };
            return Err(Error::file(path, reason, "give the folder of a run that `pixtape train` has made"));
        }
        Ok(run)
    }

    /// Opens the folder of an earlier run to train in it, and locks it.
    ///
    /// # Errors
    /// [`Error::File`] if another process trains in the folder, if it is not that of a run or if it cannot
    /// be written to.
    pub(crate) fn resume(path: &Path) -> Result<Self> {
        RunDir::open(path)?.locked()
    }

    /// Makes the folders and locks the run.
    fn locked(self) -> Result<Self> {
        for folder in ["samples", "checkpoints"] {
            let folder = self.path.join(folder);
            std::fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, "make", error))?;
        }
        let above = self.path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        for folder in [&self.path, above] {
            sync_folder(folder).map_err(|error| Error::io(folder, "write", error))?;
        }
        let lock = Arc::new(lock::lock(&self.path)?);
        Ok(RunDir { lock: Some(lock), ..self })
    }

    /// Says that a second training in this folder would not be noticed, if the file system has no locks.
    pub(crate) fn lock_warning(&self) -> Option<String> {
        let error = self.lock.as_ref()?.unprotected.as_ref()?;
        let folder = self.path.display();
        Some(format!("{folder} cannot be locked ({error}): do not train in it twice at the same time"))
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

    /// The text of `config.toml`. If the file is missing, the configuration in the newest sound checkpoint.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read.
    pub fn read_config(&self) -> Result<String> {
        let path = self.config_path();
        if !path.try_exists().unwrap_or(true)
            && let Ok(Some(latest)) = self.latest()
        {
            return Ok(latest.checkpoint.config);
        }
        read_text(&path, MAX_CONFIG)
    }

    /// Replaces `config.toml`, unless it says the same already. Then its text and comments are kept.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub(crate) fn update_config(&self, config: &str, complete: Complete) -> Result<()> {
        if self.has_config(config, complete) {
            return Ok(());
        }
        write_atomically(&self.config_path(), |out| out.write_all(config.as_bytes()))
    }

    /// Whether `config.toml` exists and is the same configuration as `config`.
    fn has_config(&self, config: &str, complete: Complete) -> bool {
        let there = read_text(&self.config_path(), MAX_CONFIG).ok().and_then(|text| complete(&text));
        there.is_some() && there == complete(config)
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

    /// The newest checkpoint that can be loaded and whose values are all finite. Others are skipped with a
    /// warning. `None` if the run has saved none yet.
    ///
    /// # Errors
    /// [`Error::File`] if the folder cannot be read, or if there are checkpoints but none is sound (the
    /// error of the newest).
    pub fn latest(&self) -> Result<Option<Latest>> {
        first_sound(self.checkpoints()?.into_iter().rev(), |_| true)
    }

    /// The checkpoint that stands for the run: of those that were validated the best, or else the newest.
    /// Damaged ones are passed over as in [`latest`](RunDir::latest), and only the tensors whose names are
    /// `used` have to be finite.
    #[cfg(feature = "cli")]
    pub(crate) fn chosen_of(&self, used: fn(&str) -> bool) -> Result<Option<Latest>> {
        let (best, warning) = match self.best() {
            Ok(best) => (best, None),
            Err(error) => {
                (None, Some(format!("which checkpoint is the best is not known, so the newest is used: {error}")))
            }
        };
        let best = best.map(|best| StepFile { step: best.step, path: self.checkpoint_path(best.step) });
        let mut found = first_sound(best.into_iter().chain(self.checkpoints()?.into_iter().rev()), used)?;
        if let Some(latest) = &mut found {
            latest.warnings.extend(warning);
        }
        Ok(found)
    }

    /// The best of the checkpoints that were validated, by the rows of `metrics.jsonl`. `None` if none was.
    ///
    /// # Errors
    /// [`Error::File`] if the metrics or the folder of the checkpoints cannot be read.
    #[cfg(feature = "cli")]
    pub(crate) fn best(&self) -> Result<Option<Best>> {
        let rows = self.metrics()?;
        let steps: Vec<u64> = self.checkpoints()?.into_iter().map(|file| file.step).collect();
        let Some(step) = Keep::new(0, &rows).best_validated(&steps) else { return Ok(None) };
        let of_step = rows.iter().rev().filter(|row| row.step == step).find_map(validated);
        Ok(of_step.map(|(name, value)| Best { step, name: name.to_string(), value }))
    }
}

/// The first of the checkpoints that can be loaded and whose `used` tensors are finite. `None` if there are
/// no checkpoints; the first error if none is sound.
fn first_sound(files: impl Iterator<Item = StepFile>, used: fn(&str) -> bool) -> Result<Option<Latest>> {
    let (mut warnings, mut first) = (Vec::new(), None);
    for StepFile { step, path } in files {
        let loaded = load_step(&path, step).and_then(|checkpoint| {
            checkpoint.expect_finite(&path, used)?;
            Ok(checkpoint)
        });
        match loaded {
            Ok(checkpoint) => return Ok(Some(Latest { checkpoint, path, warnings })),
            Err(error) => {
                warnings.push(format!("the checkpoint of step {step} is passed over: {error}"));
                first.get_or_insert(error);
            }
        }
    }
    first.map_or(Ok(None), Err)
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
