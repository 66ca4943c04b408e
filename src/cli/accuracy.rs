//! The accuracy of a classifier on splits of a data set: for `pixtape eval`, and at the end of `pixtape
//! train`.

use super::args::{DataArgs, DeviceArgs};
use super::output;
use super::progress::Busy;
use super::trained::{Stored, Trained};
use crate::data::{Identity, Images, Split};
use crate::error::{Error, Result};
use crate::eval::{self, Accuracy};
use crate::report::text::text_table;
use serde_json::{Value, json};
use std::sync::Arc;

/// The accuracy on the images of a split.
#[derive(Clone)]
pub(super) struct SplitAccuracy {
    images: Identity,
    binarisation: &'static str,
    pub accuracy: Accuracy,
}

/// Measures the accuracy on `images`, which are the split `split` or a selection from it.
///
/// # Errors
/// If the images have no labels, and whatever the device reports.
pub(super) fn measure(trained: &mut Trained, images: Arc<Images>, split: Split) -> Result<SplitAccuracy> {
    let identity = Identity::of(&images, split);
    let model = &trained.stored.model;
    if images.labels().is_none() {
        let name = images.name();
        return Err(Error::Failed(format!("{name} has no labels for the split {split}; choose one that has them")));
    }
    let accuracy = eval::judge(&mut *trained.backend, model, images)?.accuracy();
    Ok(SplitAccuracy { images: identity, binarisation: model.config.binarize.name(), accuracy })
}

/// Measures and prints the accuracy on splits, at most on `most` images of each.
pub(super) fn run(
    stored: Stored,
    splits: &[Split],
    most: Option<usize>,
    data: &DataArgs,
    device: &DeviceArgs,
    as_json: bool,
) -> Result<()> {
    let mut opened = vec![];
    for split in splits {
        let images = data.open(&stored, *split)?;
        let selection = most.filter(|n| *n < images.len()).map(|n| Arc::new(images.sample(n, 0)));
        opened.push((*split, selection.unwrap_or(images)));
    }
    let mut trained = Trained::of(stored, device)?;
    let mut rows = vec![];
    for (split, images) in opened {
        let busy = Busy::new(&format!("measuring {} images", images.len()));
        rows.push(measure(&mut trained, images, split)?);
        drop(busy);
    }
    let stored = &trained.stored;
    if as_json {
        let splits = json!({"splits": rows.iter().map(SplitAccuracy::to_json).collect::<Vec<_>>()});
        return output::json(&output::merged(stored.provenance(&*trained.backend), &splits));
    }
    let title = format!("{} ({}, {} weights)\n", stored.model.config.name(), stored.origin(), stored.weights.name());
    output::print(&(title + &table(&rows)))
}

impl SplitAccuracy {
    /// As one object of `--json`.
    pub(super) fn to_json(&self) -> Value {
        let Accuracy { right, cross_entropy, .. } = self.accuracy;
        let measured = json!({
            "binarisation": self.binarisation,
            "right": right,
            "accuracy": self.accuracy.share(),
            "interval_95": self.accuracy.interval(),
            "cross_entropy_nats": cross_entropy,
        });
        output::merged(json!(self.images), &measured)
    }

    /// Name and value for the summary of a report.
    pub(super) fn fact(&self) -> (String, String) {
        let [low, high] = self.accuracy.interval().map(|bound| 100.0 * bound);
        let value = format!("{} (95 %: {low:.2} to {high:.2})", percent(self.accuracy.share()));
        (format!("Accuracy, split {}", self.images.split), value)
    }
}

/// A fraction in percent.
pub(super) fn percent(fraction: f64) -> String {
    format!("{:.2} %", 100.0 * fraction)
}

/// The accuracies as a table.
pub(super) fn table(rows: &[SplitAccuracy]) -> String {
    let row = |SplitAccuracy { images, binarisation, accuracy }: &SplitAccuracy| {
        let [low, high] = accuracy.interval().map(|bound| 100.0 * bound);
        vec![
            format!("{} {}", images.name, images.split),
            images.count.to_string(),
            binarisation.to_string(),
            percent(accuracy.share()),
            format!("{low:.2} to {high:.2} %"),
            format!("{:.4} nats", accuracy.cross_entropy),
            images.short().to_string(),
        ]
    };
    let head = ["split", "images", "binarisation", "accuracy", "95 % interval", "cross entropy", "content"];
    text_table(&head, &rows.iter().map(row).collect::<Vec<_>>())
}
