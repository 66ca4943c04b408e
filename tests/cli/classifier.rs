//! A classifier: it learns the built-in digits, its accuracy is measured and reported, and what it cannot do
//! is refused.

use super::identity::write_pngs;
use super::{Place, tiny};
use serde_json::json;

/// The arguments that train a small classifier of the built-in digits into `out`.
pub(super) fn glyphs_classifier(out: &str) -> String {
    format!(
        "train classifier-mnist --data glyphs --batch 64 --steps 150 --seed 1 --out {out} --set model.channels=6 --set \
         model.hidden=16 --set shift=0 --set schedule.warmup_steps=10 --set optimizer.lr=0.01"
    )
}

#[test]
fn a_classifier_learns_and_its_accuracy_is_reported() {
    let place = Place::new();
    let trained = place.json(&glyphs_classifier("run"));
    let (accuracy, losses) = (&trained["accuracy"], &trained["losses"]);
    assert_eq!(
        (&accuracy["name"], &accuracy["split"], &accuracy["count"]),
        (&json!("glyphs"), &json!("test"), &json!(2000))
    );
    let share = accuracy["accuracy"].as_f64().unwrap();
    assert!(share > 0.9, "{trained}");
    assert_eq!(accuracy["right"], json!((share * 2000.0).round() as u64));
    let interval: Vec<f64> = serde_json::from_value(accuracy["interval_95"].clone()).unwrap();
    assert!(interval[0] < share && share < interval[1] && interval[1] - interval[0] < 0.03, "{interval:?}");
    assert!(losses["accuracy"].as_f64().unwrap() > 0.8 && losses["cross_entropy"].as_f64().unwrap() < 1.0, "{losses}");
    assert_eq!(trained["likelihood"], json!([]));

    // Measured again, it is the same; --images and --split choose what is measured.
    let measured = place.json("eval run");
    assert_eq!(&measured["splits"][0], accuracy);
    assert_eq!((&measured["splits"][1]["split"], &measured["splits"][1]["count"]), (&json!("train"), &json!(10_000)));
    assert_eq!((&measured["model"], &measured["step"]), (&json!("classifier-mnist"), &json!(150)));
    let few = place.json("eval run --split valid --images 50 --threads 1");
    assert_eq!((few["splits"].as_array().unwrap().len(), &few["splits"][0]["count"]), (1, &json!(50)));
    let table = place.ok("eval run --split test");
    assert!(table.contains("glyphs test") && table.contains(&format!("{:.2} %", 100.0 * share)), "{table}");

    let report = String::from_utf8(place.bytes("run/report.html")).unwrap();
    assert!(report.contains("Accuracy, split test") && report.contains(&format!("{:.2} %", 100.0 * share)));
    assert!(report.contains("fraction of the batch that is right"));
    let metrics = String::from_utf8(place.bytes("run/metrics.jsonl")).unwrap();
    assert!(
        metrics.lines().all(|line| line.contains("\"cross_entropy\"") && line.contains("\"accuracy\"")),
        "{metrics}"
    );
}

#[test]
fn what_a_classifier_cannot_do_is_refused() {
    let place = Place::new();
    // A picture of samples is not drawn, whatever sample_every says.
    place.ok(&tiny("classifier-mnist", 2, "run").replace("sample_every=0", "sample_every=1"));
    assert!(!place.path("run/samples/step-000001.png").exists());
    for (command, part) in [
        ("sample run", "draws no images"),
        ("encode run --out e.safetensors", "does not encode images"),
        ("reconstruct run", "does not encode images"),
        ("interpolate run", "does not encode images"),
        ("complete run", "does not draw pixel by pixel"),
        ("simulate run", "does not model sequences"),
        ("control run", "lstm-pendulum"),
        ("colorize run", "colorize-cifar"),
        ("superres run", "superres-mnist"),
    ] {
        place.refused(1, command, &[part]);
    }
    let told = place.ok("compare run");
    assert!(told.contains("classifier-mnist (run) has no likelihood; measure its accuracy"), "{told}");
    assert_eq!(place.json("compare run")["without_likelihood"][0]["model"], "classifier-mnist");
}

#[test]
fn a_classifier_needs_labels_and_knows_the_classes_by_their_names() {
    let place = Place::new();
    write_pngs(&place, "plain/train", 20, 0);
    let on =
        |data: &str, out: &str| tiny("classifier-mnist", 40, out).replace("--data glyphs", &format!("--data {data}"));
    place.refused(1, &on("plain", "a"), &["plain has no labels", "tells apart 10 classes"]);
    place.refused(2, &format!("{} --set model.classes=1", on("glyphs", "a")), &["at least 2 classes", "model.classes"]);
    place.refused(
        1,
        &format!("{} --set model.classes=4", on("glyphs", "a")),
        &["has 10 classes", "model.classes to 10"],
    );
    place.refused(2, &format!("{} --set shift=65", on("glyphs", "a")), &["shift must be at most 64"]);
    place.refused(2, "train lstm-pendulum --set flip=true", &["no key \"flip\""]);
    assert!(!place.path("a").exists());

    write_pngs(&place, "pets/train/cat", 20, 0);
    write_pngs(&place, "pets/train/dog", 20, 200);
    write_pngs(&place, "dogs/train/dog", 2, 200);
    write_pngs(&place, "dogs/test/dog", 20, 200);
    write_pngs(&place, "birds/test/bird", 20, 200);
    write_pngs(&place, "birds/train/bird", 2, 200);
    place.ok(&format!("{} --set model.classes=2 --set optimizer.lr=0.02", on("pets", "run")));
    let share = |data: &str| place.json(&format!("eval run --data {data}"))["splits"][0]["accuracy"].as_f64().unwrap();
    // A dog is class 1 of the model, although it is the only class of that folder.
    assert_eq!(share("dogs"), 1.0);
    place.refused(1, "eval run --data birds", &["class \"bird\"", "knows only cat, dog"]);
    place.refused(1, "eval run --data plain --split train", &["plain has no labels"]);
}
