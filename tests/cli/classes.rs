//! Classes are known by their names: a label means the same class whatever folders happen to be there.

use super::identity::{write_idx, write_pngs};
use super::{Place, tiny};

/// Trains a class-conditional model that tells dark cats from bright dogs.
fn train_on_pets(place: &Place) {
    write_pngs(place, "pets/train/cat", 20, 0);
    write_pngs(place, "pets/train/dog", 20, 200);
    // Only dogs are tested. They have the label 1, because the classes of all parts are numbered together.
    write_pngs(place, "pets/test/dog", 20, 200);
    let arguments = tiny("gated-pixelcnn-mnist", 200, "run").replace("--data glyphs", "--data pets");
    place.ok(&format!("{} --set optimizer.lr=0.005", arguments.replace("model.classes=10", "model.classes=2")));
}

fn nats(place: &Place, data: &str) -> f64 {
    place.json(&format!("eval run --data {data}"))["nll_nats"].as_f64().unwrap()
}

#[test]
fn a_class_keeps_its_meaning_in_a_folder_that_lacks_another() {
    let place = Place::new();
    train_on_pets(&place);
    write_pngs(&place, "dogs/train/dog", 2, 200);
    write_pngs(&place, "dogs/test/dog", 20, 200);
    write_pngs(&place, "cats/train/cat", 2, 200);
    write_pngs(&place, "cats/test/cat", 20, 200);
    let (right, dogs, as_cats) = (nats(&place, "pets"), nats(&place, "dogs"), nats(&place, "cats"));
    assert_eq!(dogs, right);
    assert!((as_cats - right).abs() > 0.1, "the class makes no difference: {as_cats} and {right}");
    let shown = place.json("data show pets --split test --out shown.png");
    assert_eq!(shown["class_names"], serde_json::json!(["cat", "dog"]));
}

#[test]
fn a_class_that_the_model_does_not_know_is_refused() {
    let place = Place::new();
    train_on_pets(&place);
    for part in ["train", "test"] {
        write_pngs(&place, &format!("birds/{part}/bird"), 20, 200);
    }
    for command in ["eval run", "complete run", "compare run"] {
        place.refused(1, &format!("{command} --data birds"), &["class \"bird\"", "knows only cat, dog"]);
    }
    write_idx(&place, "numbered", "train", 60, 1);
    write_idx(&place, "numbered", "t10k", 20, 1);
    place.refused(1, "eval run --data numbered", &["numbered has images of the class \"0\"", "cat, dog"]);
}

#[test]
fn numbered_classes_are_named_by_their_numbers() {
    let place = Place::new();
    write_idx(&place, "numbered", "train", 60, 1);
    write_idx(&place, "numbered", "t10k", 20, 2);
    place.ok(&tiny("gated-pixelcnn-mnist", 40, "run").replace("--data glyphs", "--data numbered"));
    // Alone in its folder, the class 7 would be the first one.
    for (data, class) in [("sevens", "7"), ("threes", "3"), ("words", "seven")] {
        write_pngs(&place, &format!("{data}/train/{class}"), 2, 50);
        write_pngs(&place, &format!("{data}/test/{class}"), 20, 50);
    }
    write_pngs(&place, "all/test/7", 20, 50);
    (0..10).for_each(|class| write_pngs(&place, &format!("all/train/{class}"), 1, 0));
    assert_eq!(nats(&place, "sevens"), nats(&place, "all"));
    assert_ne!(nats(&place, "sevens"), nats(&place, "threes"));
    place.refused(1, "eval run --data words", &["class \"seven\"", "0, 1, 2"]);
}

#[test]
fn a_generator_draws_the_class_that_is_asked_for() {
    let place = Place::new();
    let settings = "--set model.classes=10 --set objective=hinge --set optimizer.lr=0.02";
    place.ok(&format!("{} {settings}", tiny("gan-mnist", 10, "run")));
    let pixels = |arguments: &str| {
        place.ok(&format!("sample run -n 20 --out drawn.png {arguments}"));
        image::open(place.path("drawn.png")).unwrap().into_luma8()
    };
    let [three, four] = ["--class 3", "--class 4"].map(pixels);
    assert!(three == pixels("--class 3"), "the class 3 is drawn in two ways");
    assert!(three != four, "the classes 3 and 4 look alike");
    // Without a class, each one in turn.
    let drawn = place.json("sample run -n 20 --out drawn.safetensors");
    assert_eq!(drawn["class"], serde_json::Value::Null);
    let bytes = place.bytes("drawn.safetensors");
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("images").unwrap().shape(), [20, 1, 28, 28]);
    let labels = bytemuck::pod_collect_to_vec::<u8, i64>(file.tensor("label").unwrap().data());
    assert_eq!(labels, (0..20).map(|i| i % 10).collect::<Vec<_>>());
    place.refused(1, "sample run --class 10", &["there is no class 10", "knows 10"]);

    place.ok(&tiny("gan-mnist", 1, "plain"));
    place.refused(1, "sample plain --class 1", &["trained without classes", "gan-mnist"]);
    write_pngs(&place, "unlabelled", 20, 50);
    let train = format!("{} --set model.classes=2", tiny("gan-mnist", 1, "none"));
    place.refused(1, &train.replace("--data glyphs", "--data unlabelled"), &["has no labels", "model.classes to 0"]);
}
