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
