//! `pixtape judge`: samples that are real images, copies, of one class, or noise are told apart, and what
//! cannot be judged is refused.

use super::classifier::glyphs_classifier;
use super::identity::write_pngs;
use super::{Place, is_png, tiny};
use pixtape::data::{self, Images, Split};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use std::collections::HashMap;

/// Writes images `[n, c, side, side]` and their labels as `pixtape sample` does.
fn write_samples(place: &Place, name: &str, shape: [usize; 4], pixels: &[u8], labels: Option<&[i64]>) {
    let images = TensorView::new(Dtype::U8, shape.to_vec(), pixels).unwrap();
    let bytes: Vec<u8> = labels.unwrap_or_default().iter().flat_map(|label| label.to_le_bytes()).collect();
    let mut tensors = vec![("images", images)];
    if let Some(labels) = labels {
        tensors.push(("label", TensorView::new(Dtype::I64, vec![labels.len()], &bytes).unwrap()));
    }
    let metadata = HashMap::from([("protocol".to_string(), json!({"seed": 5}).to_string())]);
    place.write(name, &safetensors::serialize(tensors, Some(metadata)).unwrap());
}

/// Writes the images of `images` of which `is_chosen` is true of the row, at most 200 of them.
fn write_glyphs(place: &Place, name: &str, images: &Images, is_chosen: impl Fn(usize) -> bool) {
    let rows: Vec<usize> = (0..images.len()).filter(|row| is_chosen(*row)).take(200).collect();
    let pixels: Vec<u8> = rows.iter().flat_map(|row| images.image(*row)).copied().collect();
    let labels: Vec<i64> = rows.iter().map(|row| i64::from(images.labels().unwrap()[*row])).collect();
    write_samples(place, name, [rows.len(), 1, 28, 28], &pixels, Some(&labels));
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn real_images_copies_one_class_and_noise_are_told_apart() {
    let place = Place::new();
    place.ok(&format!("{} --no-eval", glyphs_classifier("run")));
    let [train, valid] = [Split::Train, Split::Valid].map(|split| data::open("glyphs", split, None).unwrap());
    write_glyphs(&place, "real.safetensors", &valid, |_| true);
    write_glyphs(&place, "copies.safetensors", &train, |row| row % 7 == 0);
    write_glyphs(&place, "threes.safetensors", &train, |row| row % 10 == 3);
    let judge = |samples: &str| place.json(&format!("judge {samples}.safetensors --classifier run"));

    let real = judge("real");
    let (samples, test, noise) = (&real["judged"]["samples"], &real["judged"]["test_images"], &real["judged"]["noise"]);
    assert_eq!([samples, test, noise].map(|set| set["images"].as_u64()), [Some(200); 3]);
    let frechet = |set: &Value| number(&set["frechet"]["by_n"][2]["distance"]);
    assert_eq!(
        (0..3).map(|i| samples["frechet"]["by_n"][i]["n"].as_u64().unwrap()).collect::<Vec<_>>(),
        [50, 100, 200]
    );
    assert!(frechet(samples) < 3.0 * frechet(test) && 20.0 * frechet(samples) < frechet(noise), "{real}");
    for set in [samples, test] {
        // The bias falls with the number of samples, and the limit is below all of them.
        let distances: Vec<f64> = (0..3).map(|i| number(&set["frechet"]["by_n"][i]["distance"])).collect();
        assert!(distances[0] > distances[1] && distances[1] > distances[2], "{distances:?}");
        assert!(number(&set["frechet"]["limit"]) < distances[2], "{set}");
        assert!(number(&set["precision"]) > 0.6 && number(&set["recall"]) > 0.6, "{set}");
        assert_eq!((&set["classes"]["covered"], &set["classes"]["of"]), (&json!(10), &json!(10)));
        assert!(
            number(&set["classes"]["total_variation"]) < 0.15 && number(&set["agreement"]["share"]) > 0.85,
            "{set}"
        );
        assert_eq!(set["copies"], 0);
    }
    assert!(number(&noise["precision"]) < 0.05 && number(&noise["recall"]) < 0.05, "{noise}");
    assert!(noise["agreement"].is_null() && number(&noise["classes"]["total_variation"]) > 0.3, "{noise}");
    assert!(number(&noise["nearest_median"]) > 2.0 * number(&test["nearest_median"]), "{real}");
    let classifier = &real["classifier"];
    assert!(classifier["sha256"].as_str().is_some_and(|hash| hash.len() == 64), "{classifier}");
    assert_eq!((&classifier["model"], &classifier["step"]), (&json!("classifier-mnist"), &json!(150)));
    assert_eq!(classifier["accuracy"]["right"], place.json("eval run --split test")["splits"][0]["right"]);
    assert_eq!(real["samples"], json!({"source": "real.safetensors", "protocol": {"seed": 5}}));

    let copies = judge("copies");
    let (samples, test) = (&copies["judged"]["samples"], &copies["judged"]["test_images"]);
    assert_eq!((&samples["copies"], &samples["nearest_median"]), (&json!(200), &json!(0.0)));
    assert_eq!(test, &real["judged"]["test_images"], "the anchors depend on the number of samples alone");
    assert_eq!(classifier["sha256"], copies["classifier"]["sha256"]);

    let threes = judge("threes");
    let classes = &threes["judged"]["samples"]["classes"];
    assert_eq!((&classes["covered"], &classes["of"]), (&json!(1), &json!(10)));
    assert!(number(&classes["total_variation"]) > 0.8 && number(&classes["kl_nats"]) > 1.5, "{classes}");
    assert!(number(&threes["judged"]["samples"]["recall"]) < 0.4, "{threes}");
}

#[test]
fn a_judgement_is_the_same_with_any_number_of_threads_and_shows_nearest_images() {
    let place = Place::new();
    place.ok(&format!("{} --no-eval", glyphs_classifier("run")));
    place.ok(&tiny("vae-mlp-mnist", 30, "vae"));
    let judge = |threads: usize| {
        place.json(&format!("judge vae --classifier run -n 60 --seed 4 --nearest n.png --least 10 --threads {threads}"))
    };
    let one = judge(1);
    let png = place.bytes("n.png");
    assert!(is_png(&png));
    assert_eq!((one, png), (judge(2), place.bytes("n.png")));
    let told = judge(2);
    assert_eq!(told["samples"]["protocol"]["model"], "vae-mlp-mnist");
    assert_eq!((&told["samples"]["protocol"]["seed"], &told["least_percent"]), (&json!(4), &json!(10.0)));
    let nearest = told["nearest"].as_array().unwrap();
    assert_eq!(nearest.len(), 16);
    for row in nearest {
        for by in ["features", "pixels"] {
            let distances: Vec<f64> = row[by].as_array().unwrap().iter().map(|one| number(&one["distance"])).collect();
            assert!(distances.len() == 3 && distances.is_sorted(), "{row}");
        }
    }
    // Drawn to a file first, the samples are the same.
    place.ok("sample vae -n 60 --seed 4 --out s.safetensors");
    let of_file = place.json("judge s.safetensors --classifier run --least 10");
    assert_eq!(of_file["judged"], told["judged"]);

    let table = place.ok("judge s.safetensors --classifier run --binarize threshold");
    for part in ["Frechet distance, n = inf", "precision (k = 3)", "threshold binarisation", "noise", "glyphs test"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert_ne!(place.json("judge s.safetensors --classifier run --binarize static")["judged"], of_file["judged"]);

    // A folder of images, of which all are judged, whatever split they would be in.
    write_pngs(&place, "drawn", 40, 0);
    assert_eq!(place.json("judge drawn --classifier run")["judged"]["samples"]["images"], 40);
    assert_eq!(place.json("judge drawn --classifier run -n 20")["judged"]["samples"]["images"], 20);
}

#[test]
fn what_cannot_be_judged_is_refused() {
    let place = Place::new();
    place.ok(&tiny("classifier-mnist", 2, "run"));
    place.ok(&tiny("vae-mlp-mnist", 2, "vae"));
    let pixels = vec![7; 20 * 784];
    write_samples(&place, "s.safetensors", [20, 1, 28, 28], &pixels, None);
    let sound = place.bytes("s.safetensors");
    let refused = |arguments: &str, parts: &[&str]| {
        place.refused(1, &format!("judge {arguments}"), parts);
    };
    refused("s.safetensors --classifier vae", &["vae-mlp-mnist is no classifier"]);
    refused("run --classifier run", &["classifier-mnist draws no images"]);
    refused("nowhere.safetensors --classifier run", &["nowhere.safetensors"]);
    for (arguments, part) in [
        ("--classifier run --nearest s.safetensors", "ends in .png"),
        ("--classifier run --binarize dynamic", "none, static or threshold"),
        ("", "--classifier"),
    ] {
        let output = place.run(&format!("judge s.safetensors {arguments}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(part), "{arguments}: {said}");
    }

    // Files that are no samples.
    for (name, bytes, part) in [
        ("cut", &sound[..sound.len() / 2], "not a sound safetensors file"),
        ("text", &b"not samples at all"[..], "not a sound safetensors file"),
        ("empty", &[], "not a sound safetensors file"),
    ] {
        place.write("bad.safetensors", bytes);
        let sentence = place.refused(1, "judge bad.safetensors --classifier run", &["bad.safetensors"]);
        assert!(sentence.contains(part), "{name}: {sentence}");
    }
    place.ok("export vae weights.safetensors");
    refused("weights.safetensors --classifier run", &["no tensor images"]);
    write_samples(&place, "flat.safetensors", [20, 28, 28, 1], &pixels, None);
    refused("flat.safetensors --classifier run", &["no grey or RGB images"]);
    write_samples(&place, "labels.safetensors", [20, 1, 28, 28], &pixels, Some(&[300; 20]));
    refused("labels.safetensors --classifier run", &["a label that is no class"]);
    write_samples(&place, "labels.safetensors", [20, 1, 28, 28], &pixels, Some(&[1; 19]));
    refused("labels.safetensors --classifier run", &["label", "not I64 [20]"]);
    write_samples(&place, "labels.safetensors", [20, 1, 28, 28], &pixels, Some(&[10; 20]));
    refused("labels.safetensors --classifier run", &["the label 10", "knows 10 classes"]);

    // Sizes, labels of the data, and too few images.
    let colours: Vec<u8> = (0..60 * 784).map(|i| (i / 784 % 3) as u8).collect();
    write_samples(&place, "colour.safetensors", [20, 3, 28, 28], &colours, None);
    refused("colour.safetensors --classifier run", &["28x28x3", "judges images of 28x28x1"]);
    write_samples(&place, "small.safetensors", [20, 1, 14, 14], &vec![7; 20 * 196], None);
    refused("small.safetensors --classifier run", &["14x14x1", "a classifier of that size"]);
    write_pngs(&place, "plain/train", 20, 0);
    write_pngs(&place, "plain/test", 20, 0);
    refused("s.safetensors --classifier run --data plain", &["plain has no labels", "tells apart 10 classes"]);
    refused("s.safetensors --classifier run -n 15", &["15 samples, too few", "at least 16"]);
}
