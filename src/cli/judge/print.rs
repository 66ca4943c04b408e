//! A judgement as a table and as a JSON object.

use super::super::accuracy::percent;
use super::{Judgement, NEAREST, Nearest};
use crate::data::{Binarize, short};
use crate::eval::{Accuracy, ClassCounts, NEIGHBOUR, Neighbour, Quality, Trend, wilson};
use crate::report::text::{short as digits, text_table};
use serde_json::{Value, json};

/// The judgement as lines and a table.
pub(super) fn text(judgement: &Judgement) -> String {
    let Judgement { title, accuracy, train, test, judged, source, binarisation, .. } = judgement;
    let hash = judgement.classifier["sha256"].as_str().unwrap_or_default();
    let mut text = format!("samples: {}\n", source.place);
    text += &format!("classifier: {title}, weights {}, right on {}\n", short(hash), with_interval(accuracy));
    text += &format!("test images: {test}\ntraining images: {train}\n");
    if *binarisation != Binarize::None {
        text += &format!("all images: {} binarisation\n", binarisation.name());
    }
    text.push('\n');
    let head: Vec<&str> = [""].into_iter().chain(judged.iter().map(|(name, _)| *name)).collect();
    text += &text_table(&head, &rows(judgement));
    text += "\nThe Frechet distance is squared, in units of the features. n = inf is the straight line over 1 / n through\n\
        the three numbers above it, at 1 / n = 0. The classes are those that the classifier sees.\n";
    text
}

/// The rows of the table: what is measured, and its value for each set of images.
fn rows(judgement: &Judgement) -> Vec<Vec<String>> {
    let Judgement { judged, counts, least, .. } = judgement;
    let row = |name: String, of: &dyn Fn(&Quality) -> String| {
        [name].into_iter().chain(judged.iter().map(|(_, quality)| of(quality))).collect::<Vec<_>>()
    };
    let mut rows = vec![row("images".to_string(), &|quality| quality.images.to_string())];
    for part in 0..3 {
        let size = ["a quarter", "half", "all"][part];
        rows.push(row(format!("Frechet distance, n = {size}"), &|quality| digits(quality.frechet.points[part].1)));
    }
    rows.push(row("Frechet distance, n = inf".to_string(), &|quality| digits(quality.frechet.limit)));
    rows.push(row(format!("precision (k = {NEIGHBOUR})"), &|quality| format!("{:.3}", quality.coverage.precision)));
    rows.push(row(format!("recall (k = {NEIGHBOUR})"), &|quality| format!("{:.3}", quality.coverage.recall)));
    let data = counts.present();
    let covered = format!("classes with at least {:.0} % of their share", 100.0 * least);
    rows.push(row(covered, &|quality| format!("{} of {data}", quality.counts.covered(counts, *least))));
    rows.push(row("total variation of the classes".to_string(), &|quality| {
        format!("{:.4}", quality.counts.total_variation(counts))
    }));
    rows.push(row("KL divergence of the classes".to_string(), &|quality| {
        let nats = quality.counts.divergence(counts);
        if nats.is_finite() { format!("{nats:.4} nats") } else { "infinite".to_string() }
    }));
    rows.push(row("agrees with the label".to_string(), &|quality| {
        quality.agreement.as_ref().map_or(String::new(), |agreement| percent(agreement.share()))
    }));
    rows.push(row("nearest training image, median".to_string(), &|quality| digits(quality.nearest)));
    rows.push(row("copies of training images".to_string(), &|quality| quality.copies.to_string()));
    rows
}

/// An accuracy with its interval.
pub(in crate::cli) fn with_interval(accuracy: &Accuracy) -> String {
    let [low, high] = accuracy.interval().map(|bound| 100.0 * bound);
    format!("{} of the test images (95 %: {low:.2} to {high:.2})", percent(accuracy.share()))
}

/// The judgement as one object.
pub(super) fn to_json(judgement: &Judgement) -> Value {
    let Judgement { classifier, accuracy, train, test, source, counts, judged, nearest, least, .. } = judgement;
    let mut classifier = classifier.clone();
    classifier["accuracy"] = of_accuracy(accuracy);
    let judged: serde_json::Map<String, Value> =
        judged.iter().map(|(name, quality)| (name.replace(' ', "_"), of_quality(quality, counts, *least))).collect();
    let mut value = json!({
        "classifier": classifier,
        "data": {"train": train, "test": test, "class_shares": counts.shares()},
        "binarisation": judgement.binarisation.name(),
        "least_percent": 100.0 * least,
        "neighbour": NEIGHBOUR,
        "samples": source.to_json(),
        "judged": judged,
        "program": env!("CARGO_PKG_VERSION"),
        "device": judgement.device,
    });
    if let Some(nearest) = nearest {
        value["nearest"] = nearest.iter().map(of_nearest).collect();
    }
    value
}

pub(in crate::cli) fn of_accuracy(accuracy: &Accuracy) -> Value {
    let Accuracy { right, images, cross_entropy } = accuracy;
    json!({
        "right": right,
        "images": images,
        "share": accuracy.share(),
        "interval_95": accuracy.interval(),
        "cross_entropy_nats": cross_entropy,
    })
}

pub(in crate::cli) fn of_quality(quality: &Quality, data: &ClassCounts, least: f64) -> Value {
    let Quality { images, frechet: Trend { points, limit }, coverage, compared, counts, agreement, nearest, copies } =
        quality;
    let uniform = ClassCounts::uniform(counts.0.len());
    let points: Vec<Value> = points.iter().map(|(n, distance)| json!({"n": n, "distance": distance})).collect();
    let divergence = counts.divergence(data);
    json!({
        "images": images,
        "frechet": {"by_n": points, "limit": limit},
        "precision": coverage.precision,
        "recall": coverage.recall,
        "compared": compared,
        "classes": {
            "counts": counts.0,
            "intervals_95": counts.0.iter().map(|count| wilson(*count, *images)).collect::<Vec<_>>(),
            "covered": counts.covered(data, least),
            "of": data.present(),
            "total_variation": counts.total_variation(data),
            "kl_nats": divergence.is_finite().then_some(divergence),
            "total_variation_from_uniform": counts.total_variation(&uniform),
            "kl_nats_from_uniform": counts.divergence(&uniform),
        },
        "agreement": agreement.as_ref().map(of_accuracy),
        "nearest_median": nearest,
        "copies": copies,
    })
}

/// Rows of training images with their distances: in features, and between pixels in 0 to 1.
fn of_nearest(nearest: &Nearest) -> Value {
    let list = |found: &[Neighbour]| -> Value {
        let one = |found: &Neighbour| json!({"row": found.index, "distance": found.squared.sqrt()});
        found.iter().take(NEAREST).map(one).collect()
    };
    json!({"sample": nearest.sample, "features": list(&nearest.features), "pixels": list(&nearest.pixels)})
}
