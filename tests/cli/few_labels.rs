//! `encode` with few labels: the latent vectors of one model, those of others, and raw pixels.

use super::{Place, tiny};
use serde_json::Value;

/// The mean accuracies of a row for each number of labels, and the one with all labels.
fn accuracies(row: &Value, classifier: &str) -> Vec<f64> {
    let scores = &row[classifier];
    let means = scores["mean"].as_array().unwrap().iter().chain([&scores["all"]]);
    means.map(|mean| mean.as_f64().unwrap()).collect()
}

#[test]
fn features_are_compared_with_few_labels() {
    let place = Place::new();
    place.ok(&format!("{} --set kl_warmup=0 --set optimizer.lr=0.01", tiny("vae-mlp-mnist", 60, "run")));
    place.ok(&tiny("autoencoder-mnist", 2, "plain"));
    let command = "encode run --against plain --labels 60,10 --draws 3";
    let told = place.json(command);
    let few = &told["few_labels"];
    assert_eq!((&few["labels"], &few["draws"]), (&vec![10, 60].into(), &3.into()));
    assert_eq!((&few["train_images"], &few["test_images"]), (&10_000.into(), &2000.into()));
    let rows = few["features"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["run, step 60", "plain, step 2", "raw pixels"]);
    assert_eq!([&rows[0]["dims"], &rows[1]["dims"], &rows[2]["dims"]], [3, 3, 784].map(Value::from).each_ref());
    assert_eq!((&rows[1]["provenance"]["step"], &rows[2]["provenance"]), (&2.into(), &Value::Null));
    assert_eq!(rows[0]["linear_probe"]["all"], told["probe"]["test_accuracy"]);
    for classifier in ["linear_probe", "nearest_neighbour"] {
        for row in rows {
            assert!(accuracies(row, classifier).iter().all(|share| (0.05..=1.0).contains(share)), "{row}");
            let deviations = row[classifier]["deviation"].as_array().unwrap();
            let draws = row[classifier]["draws"].as_array().unwrap();
            for (draws, mean) in draws.iter().zip(accuracies(row, classifier)) {
                let of_draw: Vec<f64> = draws.as_array().unwrap().iter().map(|draw| draw.as_f64().unwrap()).collect();
                assert!(of_draw.len() == 3 && (of_draw.iter().sum::<f64>() / 3.0 - mean).abs() < 1e-9, "{row}");
            }
            assert!(deviations.iter().all(|value| (0.0..0.2).contains(&value.as_f64().unwrap())), "{row}");
        }
        // Glyphs are easy to tell apart by their pixels, and the more labels the easier.
        let [ten, sixty, all] = accuracies(&rows[2], classifier)[..] else { panic!("{}", rows[2]) };
        assert!(0.2 < ten && ten + 0.05 < sixty && sixty + 0.05 < all, "{}", rows[2]);
    }
    assert_eq!(&place.json(&format!("{command} --threads 1"))["few_labels"], few);
    assert_ne!(&place.json(&format!("{command} --seed 1"))["few_labels"], few);

    let text = place.ok("encode run --labels 10,5 --draws 1");
    for part in [
        "linear probe over 10 classes",
        "(1 draw)",
        "10 labels",
        "all 10000",
        "nearest neighbour",
        "run, step 60",
        "raw pixels",
        "left out: 5 labels are fewer than the 10 classes",
    ] {
        assert!(text.contains(part), "\"{part}\" is missing: {text}");
    }
    assert!(!text.contains("+-"), "one draw has no deviation: {text}");
}

#[test]
fn what_cannot_be_compared_is_said() {
    let place = Place::new();
    place.ok(&tiny("vae-mlp-mnist", 1, "run"));
    place.ok(&format!("{} --set model.classes=10", tiny("vae-mlp-mnist", 1, "told")));
    place.ok(&tiny("pixelcnn-mnist", 1, "pixel"));
    let given = "is given the class of each image";
    assert!(place.ok("encode told").contains(&format!("no table for few labels: the encoder of told, step 1 {given}")));
    let told = place.json("encode told");
    assert!(told["few_labels"].is_null() && told["probe"]["classes"] == 10, "{told}");
    place.refused(1, "encode told --against run", &["the encoder of told, step 1", given]);
    place.refused(1, "encode run --against told", &["the encoder of told, step 1", given]);
    place.refused(1, "encode run --against pixel", &["pixelcnn-mnist does not encode images"]);
    place.refused(1, "encode run --against nosuch", &["nosuch"]);
    for mistake in ["--against run --no-probe", "--labels 0", "--labels ten", "--draws 0", "--draws 3 --no-probe"] {
        assert_eq!(place.run(&format!("encode run {mistake}")).status.code(), Some(2), "{mistake}");
    }
    place.refused(1, "encode run --out run.safetensors --against run.safetensors", &["run.safetensors"]);

    // Images without labels: nothing to compare by.
    std::fs::create_dir(place.path("own")).unwrap();
    for i in 0..40_u32 {
        let picture = image::GrayImage::from_fn(28, 28, |x, y| image::Luma([(x * y + 6 * i) as u8]));
        picture.save(place.path(&format!("own/{i:02}.png"))).unwrap();
    }
    assert!(place.ok("encode run --data own").contains("no linear probe: own has no labels"));
    place.refused(1, "encode run --data own --against run", &["own has no labels"]);
}
