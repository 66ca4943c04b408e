//! Probes as a table and as JSON objects.

use super::comparison::{Comparison, Row};
use crate::eval::{Probe, Score};
use crate::report::text::text_table;
use serde_json::{Value, json};

/// A probe as one object.
pub(super) fn of_probe(probe: &Probe) -> Value {
    json!({
        "train_accuracy": probe.train_accuracy,
        "test_accuracy": probe.test_accuracy,
        "classes": probe.classes,
    })
}

/// The comparison as a table with its caption.
pub(super) fn text(comparison: &Comparison) -> String {
    let Comparison { counts, draws, train_images, test_images, left_out, rows } = comparison;
    let more = if *draws == 1 { "" } else { "s, mean +- standard deviation" };
    let mut text = format!(
        "\n% of the {test_images} test images that are classified correctly, by the number of labels ({draws} draw{more})\n\n"
    );
    let columns: Vec<String> =
        counts.iter().map(|count| format!("{count} labels")).chain([format!("all {train_images}")]).collect();
    let head: Vec<&str> =
        ["classifier", "features", "dims"].into_iter().chain(columns.iter().map(String::as_str)).collect();
    let line = |classifier: &str, row: &Row, few: &[Score], all: f64| {
        let start = [classifier.to_string(), row.name.clone(), row.dims.to_string()];
        start.into_iter().chain(few.iter().map(with_deviation)).chain([format!("{:.2}", 100.0 * all)]).collect()
    };
    let probes = rows.iter().map(|row| line("linear probe", row, &row.few.probe, row.probe_of_all));
    let neighbours =
        rows.iter().map(|row| line("nearest neighbour", row, &row.few.neighbour, row.few.neighbour_of_all));
    text += &text_table(&head, &probes.chain(neighbours).collect::<Vec<_>>());
    left_out.iter().for_each(|why| text += &format!("left out: {why}\n"));
    text
}

/// A score in percent.
fn with_deviation(score: &Score) -> String {
    let mean = format!("{:.2}", 100.0 * score.mean);
    score.deviation.map_or(mean.clone(), |deviation| format!("{mean} +- {:.2}", 100.0 * deviation))
}

/// The comparison as one object.
pub(super) fn to_json(comparison: &Comparison) -> Value {
    let Comparison { counts, draws, train_images, test_images, left_out, rows } = comparison;
    let scores = |few: &[Score], all: f64| {
        json!({
            "mean": few.iter().map(|score| score.mean).collect::<Vec<_>>(),
            "deviation": few.iter().map(|score| score.deviation).collect::<Vec<_>>(),
            "draws": few.iter().map(|score| &score.draws).collect::<Vec<_>>(),
            "all": all,
        })
    };
    let of_row = |row: &Row| {
        json!({
            "name": row.name,
            "dims": row.dims,
            "provenance": row.provenance,
            "linear_probe": scores(&row.few.probe, row.probe_of_all),
            "nearest_neighbour": scores(&row.few.neighbour, row.few.neighbour_of_all),
        })
    };
    json!({
        "labels": counts,
        "draws": draws,
        "train_images": train_images,
        "test_images": test_images,
        "left_out": left_out,
        "features": rows.iter().map(of_row).collect::<Vec<_>>(),
    })
}
