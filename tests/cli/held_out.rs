//! The likelihood after training is that of images that the model was not trained on, and damage is
//! reported.

use super::identity::{train, write_idx, write_pngs};
use super::{Place, tiny};

/// A training with the measurement at the end.
struct Trained {
    code: Option<i32>,
    result: serde_json::Value,
    said: String,
}

fn trained(place: &Place, arguments: &str) -> Trained {
    let output = place.run(&format!("{} --json", arguments.replace("--no-eval", "")));
    let said = String::from_utf8(output.stderr).unwrap();
    let result = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    Trained { code: output.status.code(), result, said }
}

/// Whether nothing was measured, and the reason was said.
#[track_caller]
fn assert_not_measured(trained: &Trained) {
    assert_eq!(trained.code, Some(0), "{}", trained.said);
    assert_eq!(trained.result["likelihood"], serde_json::json!([]), "{}", trained.said);
    assert!(trained.said.contains("there are no held-out images"), "{}", trained.said);
}

#[test]
fn training_images_are_not_measured_as_if_they_were_held_out() {
    let place = Place::new();
    // The validation images of these are part of the training images.
    write_idx(&place, "idx", "train", 60, 1);
    assert_not_measured(&trained(&place, &train("idx", 2, "a")));
    assert_not_measured(&trained(&place, &train("idx/train-images-idx3-ubyte", 2, "b")));
    write_pngs(&place, "folder/train", 60, 0);
    assert_not_measured(&trained(&place, &train("folder", 2, "c")));
    let mut record = vec![3];
    record.resize(3073, 100);
    for i in 1..=5 {
        record[1] = i;
        place.write(&format!("cifar/data_batch_{i}.bin"), &record.repeat(4));
    }
    let colour = tiny("pixelcnn-cifar", 1, "d").replace("--data colour", "--data cifar");
    assert_not_measured(&trained(&place, &colour));
    // Somebody who asks for such a split is warned.
    for command in ["eval a --split valid", "eval a --split train --images 10", "compare a --split valid"] {
        let said = String::from_utf8(place.run(command).stderr).unwrap();
        assert!(said.contains("are among those that the model was trained on"), "{command}: {said}");
        std::fs::remove_file(place.path("a/likelihood.json")).ok();
    }
    for run in ["a", "b", "c", "d"] {
        assert!(!place.path(&format!("{run}/likelihood.json")).exists());
    }
}

#[test]
fn a_separate_validation_split_stands_in_for_a_missing_test_split() {
    let place = Place::new();
    write_pngs(&place, "folder/train", 40, 0);
    write_pngs(&place, "folder/valid", 12, 100);
    let found = trained(&place, &train("folder", 2, "run"));
    assert_eq!(found.code, Some(0), "{}", found.said);
    let protocol = &found.result["likelihood"][0]["protocol"];
    assert_eq!((&protocol["split"], &protocol["images"]), (&"valid".into(), &12.into()));
    assert!(found.said.contains("the likelihood is that of the split valid"), "{}", found.said);
    let said = String::from_utf8(place.run("eval run --split valid").stderr).unwrap();
    assert!(!said.contains("trained on"), "{said}");
}

#[test]
fn a_test_split_is_measured_without_a_word() {
    let place = Place::new();
    write_idx(&place, "idx", "train", 60, 1);
    write_idx(&place, "idx", "t10k", 30, 2);
    let found = trained(&place, &train("idx", 2, "run"));
    let protocol = &found.result["likelihood"][0]["protocol"];
    assert_eq!((&protocol["split"], &protocol["images"]), (&"test".into(), &30.into()));
    assert!(!found.said.contains("the likelihood is"), "{}", found.said);
}

#[test]
fn a_damaged_test_file_is_reported_and_the_run_is_saved() {
    let place = Place::new();
    write_idx(&place, "idx", "train", 60, 1);
    write_idx(&place, "idx", "t10k", 30, 2);
    let whole = place.bytes("idx/t10k-images-idx3-ubyte");
    place.write("idx/t10k-images-idx3-ubyte", &whole[..5000]);
    let found = trained(&place, &train("idx", 2, "cut"));
    assert_eq!(found.code, Some(1), "{}", found.said);
    let last = found.said.lines().last().unwrap();
    assert!(last.starts_with("error: the run is saved, but its likelihood was not measured"), "{last}");
    assert!(last.contains("t10k-images-idx3-ubyte"), "{last}");
    assert!(place.path("cut/checkpoints/step-000002.safetensors").is_file());
    assert!(place.path("cut/report.html").is_file() && !place.path("cut/likelihood.json").exists());

    place.write("idx/t10k-images-idx3-ubyte", &whole);
    std::fs::remove_file(place.path("idx/t10k-labels-idx1-ubyte")).unwrap();
    let found = trained(&place, &train("idx", 2, "unlabelled"));
    assert_eq!(found.code, Some(1), "{}", found.said);
    assert!(found.said.contains("t10k-labels-idx1-ubyte"), "{}", found.said);

    write_pngs(&place, "folder/train", 40, 0);
    write_pngs(&place, "folder/valid", 12, 100);
    // Only its data are damaged: all headers are read before training.
    let whole = place.bytes("folder/valid/000.png");
    place.write("folder/test/torn.png", &whole[..whole.len() - 20]);
    let found = trained(&place, &train("folder", 2, "torn"));
    assert_eq!(found.code, Some(1), "{}", found.said);
    assert!(found.said.contains("torn.png"), "{}", found.said);
}
