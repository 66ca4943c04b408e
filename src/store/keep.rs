//! Which checkpoints of a run are kept: the newest ones and the best one. The others are removed.

use super::metrics::Row;
use super::run_dir::RunDir;
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// Which checkpoints of a run are kept, and the values by which they are compared.
#[derive(Debug)]
pub struct Keep {
    /// How many of the newest checkpoints are kept; 0 keeps all.
    newest: usize,
    /// The loss of each logged step. Lower is better.
    losses: BTreeMap<u64, f64>,
}

impl Keep {
    /// Keeps the `newest` checkpoints and the best one. `rows` are the rows of metrics so far.
    pub fn new(newest: usize, rows: &[Row]) -> Self {
        let mut keep = Keep { newest, losses: BTreeMap::new() };
        rows.iter().for_each(|row| keep.add(row));
        keep
    }

    /// Takes note of a row of metrics.
    pub fn add(&mut self, row: &Row) {
        if let Some(loss) = loss(row).filter(|loss| loss.is_finite()) {
            self.losses.insert(row.step, loss);
        }
    }

    /// Removes the checkpoints of `run` that are not kept. Those of steps after `step`, which was saved
    /// last, are left alone.
    ///
    /// # Errors
    /// [`Error::File`] if the folder cannot be read or a file cannot be removed.
    pub fn prune(&self, run: &RunDir, step: u64) -> Result<()> {
        if self.newest == 0 {
            return Ok(());
        }
        let mut files = run.checkpoints()?;
        files.retain(|file| file.step <= step);
        let steps: Vec<u64> = files.iter().map(|file| file.step).collect();
        for file in files.iter().filter(|file| !self.is_kept(&steps, file.step)) {
            std::fs::remove_file(&file.path).map_err(|error| Error::io(&file.path, "remove", error))?;
        }
        Ok(())
    }

    /// Whether the checkpoint of `step`, one of `steps` in ascending order, is kept.
    fn is_kept(&self, steps: &[u64], step: u64) -> bool {
        let newer = steps.iter().filter(|other| **other > step).count();
        newer < self.newest || self.best(steps) == Some(step)
    }

    /// The step with the lowest loss, the first one if there are several. The loss of a step is that of the
    /// last row of metrics up to it.
    fn best(&self, steps: &[u64]) -> Option<u64> {
        let loss = |step: u64| Some((*self.losses.range(..=step).next_back()?.1, step));
        let best = steps.iter().filter_map(|step| loss(*step)).min_by(|a, b| a.0.total_cmp(&b.0))?;
        Some(best.1)
    }
}

/// The value by which checkpoints are compared: the total loss, which is the first term of a row. The
/// bounds `elbo` and `iwae` are losses with their sign changed. Adversarial networks have none: the
/// losses of the two adversaries do not say how good the samples are.
fn loss(row: &Row) -> Option<f64> {
    let (name, value) = row.losses.first()?;
    match name.as_str() {
        "elbo" | "iwae" => Some(-value),
        "nll" | "mse" => Some(*value),
        _ => None,
    }
}
