//! Images are known by their content: a path never becomes a built-in set, numbers belong to the images
//! that they were measured on, and one fact is given once.

use super::{Place, refusal, tiny};
use serde_json::Value;

/// An idx file: magic number, sizes, then bytes.
pub(super) fn idx(magic: u32, sizes: &[u32], data: &[u8]) -> Vec<u8> {
    let sizes = sizes.iter().flat_map(|size| size.to_be_bytes());
    magic.to_be_bytes().into_iter().chain(sizes).chain(data.iter().copied()).collect()
}

/// Writes 28x28 images of noise, and labels, as the idx files of `part` (`train` or `t10k`).
pub(super) fn write_idx(place: &Place, folder: &str, part: &str, count: u32, seed: u32) {
    let mut state = seed;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let pixels: Vec<u8> = (0..count * 784).map(|_| byte()).collect();
    let labels: Vec<u8> = (0..count).map(|i| (i % 10) as u8).collect();
    place.write(&format!("{folder}/{part}-images-idx3-ubyte"), &idx(0x803, &[count, 28, 28], &pixels));
    place.write(&format!("{folder}/{part}-labels-idx1-ubyte"), &idx(0x801, &[count], &labels));
}

/// Writes `count` grey 28x28 PNG files. Their levels begin at `level`.
pub(super) fn write_pngs(place: &Place, folder: &str, count: u8, level: u8) {
    std::fs::create_dir_all(place.path(folder)).unwrap();
    for i in 0..count {
        let picture =
            image::GrayImage::from_fn(28, 28, |x, y| image::Luma([level.wrapping_add(i.wrapping_mul((x ^ y) as u8))]));
        picture.save(place.path(&format!("{folder}/{i:03}.png"))).unwrap();
    }
}

/// The arguments that train a tiny model on `data`.
pub(super) fn train(data: &str, steps: u32, out: &str) -> String {
    tiny("vae-mlp-mnist", steps, out).replace("--data glyphs", &format!("--data {data}"))
}

fn sha256(place: &Place, data: &str, split: &str) -> String {
    place.json(&format!("data show {data} --split {split} --out shown.png"))["sha256"].as_str().unwrap().to_string()
}

#[test]
fn a_path_is_never_taken_for_a_built_in_set() {
    let place = Place::new();
    // The folder of the built-in sets, with other images of the same name.
    write_idx(&place, "data/mnist", "train", 60, 1);
    write_idx(&place, "data/mnist", "t10k", 60, 2);
    for part in ["train", "test"] {
        write_pngs(&place, &format!("own/mnist/{part}"), 20, 100);
    }
    place.ok(&train("own/mnist", 3, "run"));
    let ours = sha256(&place, "own/mnist", "test");
    assert_ne!(ours, sha256(&place, "mnist", "test"));

    let measured = place.json("eval run");
    assert_eq!((&measured["sha256"], &measured["images"]), (&ours.as_str().into(), &20.into()));
    let ranking = &place.json("compare run")["rankings"][0];
    assert_eq!(ranking["protocol"]["sha256"], ours);
    let shown = |arguments: &str| place.json(&format!("reconstruct run -n 5 {arguments}"))["shown"].clone();
    assert_eq!(shown(""), shown("--data own/mnist"));
    assert_ne!(shown(""), shown("--data mnist"));
    assert_eq!(place.json("encode run --no-probe")["sha256"], ours);

    let config = String::from_utf8(place.bytes("run/config.toml")).unwrap();
    assert!(config.contains("data = \"own/mnist\""), "{config}");
    let trained_on = |file: &str| {
        let checkpoint = pixtape::store::Checkpoint::load(&place.path(file)).unwrap();
        assert!(checkpoint.config.contains("data = \"path:mnist\""), "{}", checkpoint.config);
        serde_json::from_str::<Value>(&checkpoint.data.unwrap()).unwrap()["sha256"].clone()
    };
    let training = sha256(&place, "own/mnist", "train");
    place.ok("train --resume run --steps 4 --no-eval");
    place.ok("train run/config.toml --out again --no-eval");
    for file in ["run/checkpoints/step-000003", "run/checkpoints/step-000004", "again/checkpoints/step-000004"] {
        assert_eq!(trained_on(&format!("{file}.safetensors")), training, "{file}");
    }

    // A checkpoint alone stores no path. Its configuration cannot be taken for a built-in set either.
    place.write("alone.safetensors", &place.bytes("run/checkpoints/step-000004.safetensors"));
    for command in ["eval", "reconstruct", "encode", "compare"] {
        place.refused(1, &format!("{command} alone.safetensors"), &["ends in \"mnist\"", "by --data"]);
    }
    let checkpoint = pixtape::store::Checkpoint::load(&place.path("alone.safetensors")).unwrap();
    place.write("extracted.toml", checkpoint.config.as_bytes());
    place.refused(1, "train extracted.toml --out other", &["ends in \"mnist\"", "by --data"]);
    std::fs::rename(place.path("own"), place.path("moved")).unwrap();
    place.refused(1, "eval run", &["own/mnist", "no such file or folder", "--data"]);
    place.refused(1, "train --resume run --steps 5", &["own/mnist", "no such file or folder", "--data"]);
    assert_eq!(place.json("eval run --data moved/mnist")["sha256"], ours);
}

#[test]
fn a_relative_folder_keeps_its_path_in_the_configuration() {
    let place = Place::new();
    write_pngs(&place, "pictures", 40, 0);
    place.ok(&train("pictures", 2, "run"));
    let config = String::from_utf8(place.bytes("run/config.toml")).unwrap();
    assert!(config.contains("data = \"./pictures\""), "{config}");
    place.ok("train run/config.toml --out again --no-eval");
    let set = train("glyphs", 2, "set").replace("--data glyphs", "--set data=./pictures");
    place.ok(&set);
    let last = "checkpoints/step-000002.safetensors";
    assert!(place.bytes(&format!("run/{last}")) == place.bytes(&format!("again/{last}")));
    assert!(place.bytes(&format!("run/{last}")) == place.bytes(&format!("set/{last}")));
}

#[test]
fn a_stored_likelihood_belongs_to_the_images_that_it_was_measured_on() {
    let place = Place::new();
    for (folder, level) in [("a/images", 0), ("b/images", 120)] {
        for part in ["train", "valid"] {
            write_pngs(&place, &format!("{folder}/{part}"), 20, level);
        }
    }
    place.ok(&train("a/images", 40, "run"));
    let elbo =
        |arguments: &str| -place.json(&format!("eval run --split valid {arguments}"))["elbo_nats"].as_f64().unwrap();
    let compared = |arguments: &str| {
        let value = place.json(&format!("compare run --split valid {arguments}"));
        let rows = value["rankings"][0]["rows"].as_array().unwrap().clone();
        assert_eq!(rows.len(), 1, "{value}");
        rows[0]["nats"].as_f64().unwrap()
    };
    let (a, b) = (elbo(""), elbo("--data b/images"));
    assert!((a - b).abs() > 1.0, "{a} and {b} should differ");
    assert_eq!((compared(""), compared("--data b/images")), (a, b));
    std::fs::remove_file(place.path("run/likelihood.json")).unwrap();
    elbo("");
    let measured_anew = compared("--data b/images");
    assert!((measured_anew - b).abs() < 1e-9 * b.abs(), "{measured_anew} is not {b}");
    // The files of the folder change, its name does not.
    let dark = image::GrayImage::from_pixel(28, 28, image::Luma([0]));
    (0..20).for_each(|i| dark.save(place.path(&format!("a/images/valid/{i:03}.png"))).unwrap());
    let changed = compared("");
    assert!((changed - a).abs() > 1.0, "{changed} is the number of the earlier files");
}

#[test]
fn a_row_says_what_it_was_measured_on_and_with() {
    let place = Place::new();
    place.ok(&tiny("vae-mlp-mnist", 2, "run").replace("--no-eval", ""));
    let kept: Value = serde_json::from_slice(&place.bytes("run/likelihood.json")).unwrap();
    let row = &kept["rows"][0];
    let hash = sha256(&place, "glyphs", "test");
    assert_eq!((&row["sha256"], &row["dataset"]), (&hash.as_str().into(), &"glyphs".into()), "{kept}");
    assert_eq!((&row["split"], &row["images"]), (&"test".into(), &2000.into()));
    assert_eq!((&row["weights"], &row["program"]), (&"raw".into(), &env!("CARGO_PKG_VERSION").into()));
    assert_eq!(row["device"], "cpu");
    let told = place.ok("compare run");
    let source = format!("run (raw weights, pixtape {}, cpu)", env!("CARGO_PKG_VERSION"));
    for part in ["glyphs test", "2000 images", &hash[..12], &source] {
        assert!(told.contains(part), "\"{part}\" is missing: {told}");
    }
}

#[test]
fn a_folder_with_a_famous_name_is_not_ranked_among_published_results() {
    let place = Place::new();
    let line = format!("{}\n", ["0"; 784].join(" "));
    let train_lines = format!("{line}{}", line.replace('0', "1")).repeat(10);
    for folder in ["binarized-mnist", "data/binarized-mnist"] {
        place.write(&format!("{folder}/binarized_mnist_train.amat"), train_lines.as_bytes());
        // As many images as the published test set has.
        place.write(&format!("{folder}/binarized_mnist_test.amat"), line.repeat(10_000).as_bytes());
    }
    for (data, run) in [("./binarized-mnist", "by-path"), ("binarized-mnist", "by-name")] {
        let output = place.run(&train(data, 2, run).replace("--no-eval", ""));
        let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains("are not those of the publisher of binarized-mnist"), "{said}");
        let compared = place.ok(&format!("compare {run}"));
        for text in [told.as_ref(), compared.as_str()] {
            assert!(text.contains("binarized-mnist test"), "{text}");
            assert!(!text.contains("Gulrajani") && !text.contains("Oord"), "{text}");
        }
        let page = String::from_utf8(place.bytes(&format!("{run}/report.html"))).unwrap();
        assert!(!page.contains("Gulrajani"), "the report ranks it among published results");
    }
}

#[test]
fn a_fact_that_is_given_twice_is_refused() {
    let place = Place::new();
    place.ok(&tiny("vae-mlp-mnist", 1, "run"));
    for (arguments, parts) in [
        ("train vae-mnist --data glyphs --set data=mnist", ["--data", "--set data=mnist"]),
        ("train vae-mnist --steps 5 --set epochs=1", ["--steps", "--set epochs=1"]),
        ("train vae-mnist --steps 5 --set steps=5", ["--steps", "--set steps=5"]),
        ("train vae-mnist --epochs 5 --set steps=1", ["--epochs", "--set steps=1"]),
        ("train vae-mnist --batch 8 --set batch=9", ["--batch", "--set batch=9"]),
        ("train vae-mnist --seed 8 --set seed=9", ["--seed", "--set seed=9"]),
        ("train vae-mnist --device cpu --set device=cuda", ["--device", "--set device=cuda"]),
        ("train vae-mnist --set seed=1 --set seed=2", ["--set seed=1", "--set seed=2"]),
        ("train vae-mnist --set steps=1 --set epochs=2", ["--set steps=1", "--set epochs=2"]),
        ("plan vae-mnist --batch 8 --set batch=9", ["--batch", "--set batch=9"]),
        ("causality pixelcnn-mnist --set model.height=8 --set model.height=9", ["model.height=8", "model.height=9"]),
    ] {
        place.refused(2, arguments, &parts);
        place.refused(2, arguments, &["give only one of them"]);
    }
    assert!(!place.path("runs").exists(), "nothing was trained");
}

#[test]
fn a_run_is_resumed_on_its_own_images_only() {
    let place = Place::new();
    write_pngs(&place, "one/set", 40, 0);
    write_pngs(&place, "two/set", 40, 90);
    place.ok(&train("one/set", 2, "run"));
    for data in ["two/set", "glyphs"] {
        let sentence = place.refused(1, &format!("train --resume run --steps 3 --data {data}"), &["other images"]);
        assert!(sentence.contains("--data") && sentence.contains("--init"), "{sentence}");
    }
    // The same when a file of the folder changes.
    let file = place.bytes("one/set/003.png");
    image::GrayImage::new(28, 28).save(place.path("one/set/003.png")).unwrap();
    let training = sha256(&place, "one/set", "train");
    place.refused(1, "train --resume run --steps 3", &["other images", &training[..12]]);
    place.write("one/set/003.png", &file);
    assert!(!place.path("run/checkpoints/step-000003.safetensors").exists());
    // The same images in another place are the same images.
    std::fs::rename(place.path("one/set"), place.path("moved")).unwrap();
    place.ok("train --resume run --steps 3 --data moved --no-eval");
}

#[test]
fn a_comparison_measures_the_bound_that_was_asked_for() {
    let place = Place::new();
    place.ok(&tiny("vae-mlp-mnist", 2, "run"));
    place.ok("eval run --iwae 1");
    let estimates = |arguments: &str| -> Vec<String> {
        let value = place.json(&format!("compare run {arguments}"));
        let text = |ranking: &Value| ranking["protocol"]["estimate"].as_str().unwrap().to_string();
        value["rankings"].as_array().unwrap().iter().map(text).collect()
    };
    assert_eq!(estimates(""), ["ELBO", "IWAE-1"]);
    assert_eq!(estimates("--iwae 7"), ["ELBO", "IWAE-7"]);
    assert_eq!(estimates("--iwae 1"), ["ELBO", "IWAE-1"]);
}

#[test]
fn a_comparison_says_which_run_lacks_its_images() {
    let place = Place::new();
    write_pngs(&place, "pictures", 40, 0);
    place.ok(&tiny("vae-mlp-mnist", 1, "first"));
    place.ok(&train("pictures", 1, "second"));
    std::fs::rename(place.path("pictures"), place.path("elsewhere")).unwrap();
    let output = place.run("compare first second");
    refusal(&output, 1, &["the run second could not be compared", "./pictures", "--data"]);
}
