//! Which checkpoints of a run are kept: the newest ones and the best one. The others are removed.

use super::metrics::Row;
use super::run_dir::RunDir;
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// How the names of terms begin that were measured on validation images: `valid_nll`.
pub(crate) const VALIDATION: &str = "valid_";

/// Which checkpoints of a run are kept, and the values by which they are compared.
#[derive(Debug)]
pub struct Keep {
    /// How many of the newest checkpoints are kept; 0 keeps all.
    newest: usize,
    /// The loss of each logged step. Lower is better.
    losses: BTreeMap<u64, f64>,
    /// The loss on the validation images of each step that was validated.
    validated: BTreeMap<u64, f64>,
}

impl Keep {
    /// Keeps the `newest` checkpoints and the best one. `rows` are the rows of metrics so far.
    pub fn new(newest: usize, rows: &[Row]) -> Self {
        let mut keep = Keep { newest, losses: BTreeMap::new(), validated: BTreeMap::new() };
        rows.iter().for_each(|row| keep.add(row));
        keep
    }

    /// Takes note of a row of metrics.
    pub fn add(&mut self, row: &Row) {
        let first = row.losses.first().and_then(|(name, value)| loss(name, *value));
        let validated = validated(row).and_then(|(name, value)| loss(&name[VALIDATION.len()..], value));
        let is_finite = |loss: &f64| loss.is_finite();
        self.losses.extend(first.filter(is_finite).map(|loss| (row.step, loss)));
        self.validated.extend(validated.filter(is_finite).map(|loss| (row.step, loss)));
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

    /// The step with the lowest loss on the validation images; if none of the steps was validated, the one
    /// with the lowest loss in training, which is that of the last row of metrics up to it. The first one if
    /// there are several.
    fn best(&self, steps: &[u64]) -> Option<u64> {
        self.best_validated(steps).or_else(|| {
            let loss = |step: u64| Some((*self.losses.range(..=step).next_back()?.1, step));
            lowest(steps.iter().filter_map(|step| loss(*step)))
        })
    }

    /// The step with the lowest loss on the validation images.
    pub fn best_validated(&self, steps: &[u64]) -> Option<u64> {
        lowest(steps.iter().filter_map(|step| Some((*self.validated.get(step)?, *step))))
    }
}

/// The first of the steps with the lowest value.
fn lowest(values: impl Iterator<Item = (f64, u64)>) -> Option<u64> {
    values.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, step)| step)
}

/// The term of a row that was measured on validation images.
pub(crate) fn validated(row: &Row) -> Option<(&str, f64)> {
    row.losses.iter().find(|(name, _)| name.starts_with(VALIDATION)).map(|(name, value)| (name.as_str(), *value))
}

/// The value by which checkpoints are compared: the total loss, which is the first term of a row. The
/// bounds `elbo` and `iwae` are losses with their sign changed. Adversarial networks have none: the
/// losses of the two adversaries do not say how good the samples are.
fn loss(name: &str, value: f64) -> Option<f64> {
    match name {
        "elbo" | "iwae" => Some(-value),
        "nll" | "mse" => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(step: u64, losses: &[(&str, f64)]) -> Row {
        let losses = losses.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        Row { step, seconds: 0.0, images_per_s: 1.0, learning_rate: None, losses }
    }

    #[test]
    fn validation_decides_if_there_is_any() {
        let rows = [
            row(10, &[("nll", 90.0), ("valid_nll", 95.0)]),
            row(15, &[("nll", 80.0)]),
            row(20, &[("nll", 85.0), ("valid_nll", 94.0)]),
            row(30, &[("nll", 70.0), ("valid_nll", 96.0)]),
        ];
        let keep = Keep::new(1, &rows);
        assert_eq!(keep.best(&[10, 20, 30]), Some(20));
        // The checkpoint of a stopped run was not validated.
        assert_eq!(keep.best(&[10, 15, 30, 35]), Some(10));
        assert_eq!((keep.best(&[15, 35]), keep.best_validated(&[15, 35])), (Some(35), None));
        assert!(keep.is_kept(&[10, 20, 30], 30) && keep.is_kept(&[10, 20, 30], 20) && !keep.is_kept(&[10, 20, 30], 10));
    }

    #[test]
    fn bounds_are_better_the_higher_they_are() {
        for name in ["valid_elbo", "valid_iwae"] {
            let bounds = [(1, -99.0), (2, -95.0), (3, f64::NAN)];
            let rows = bounds.map(|(step, bound)| row(step, &[("elbo", -90.0), (name, bound)]));
            assert_eq!(Keep::new(1, &rows).best(&[1, 2, 3]), Some(2));
        }
    }
}
