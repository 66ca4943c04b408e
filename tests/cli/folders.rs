//! What the program says about folders of images: what it found, and which keys would fit.

use super::{Place, tiny};
use image::{GrayImage, Luma, Rgb, RgbImage};

/// 60 grey images of this size, whose values differ. They are stored in colour if `colour` is set.
fn draw(place: &Place, folder: &str, [height, width]: [u32; 2], colour: bool) {
    std::fs::create_dir_all(place.path(folder)).unwrap();
    for i in 0..60_u32 {
        let value = |x: u32, y: u32| (x * 7 + y * 5 + i * 3) as u8;
        let path = place.path(&format!("{folder}/{i:03}.png"));
        if colour {
            RgbImage::from_fn(width, height, |x, y| Rgb([value(x, y); 3])).save(path).unwrap();
        } else {
            GrayImage::from_fn(width, height, |x, y| Luma([value(x, y)])).save(path).unwrap();
        }
    }
}

/// What a successful command printed on stderr.
fn said(place: &Place, arguments: &str) -> String {
    let output = place.run(arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    said
}

#[test]
fn what_was_found_is_said_once_by_every_command() {
    let place = Place::new();
    draw(&place, "own/Train", [28, 28], false);
    draw(&place, "own/Test", [28, 28], false);
    place.write("own/notes.txt", b"text");
    let found =
        "own: 120 images of 28x28x1 without classes, in the splits 60 train (folder Train), 60 test (folder Test)";
    let train = tiny("vae-mlp-mnist", 2, "run").replace("--data glyphs", "--data own").replace("--no-eval", "");
    for command in [
        "data show own --split test --out own.png",
        &train,
        "eval run --data own --iwae 1",
        "reconstruct run --data own --out r.png",
        "encode run --data own --no-probe --out l.safetensors",
    ] {
        let said = said(&place, command);
        assert_eq!(said.matches(found).count(), 1, "{command}: {said}");
        assert_eq!(said.matches("own: left out: 1 txt file").count(), 1, "{command}: {said}");
    }
    let shown = place.json("data show own");
    assert_eq!((&shown["images"], &shown["notices"][1]), (&60.into(), &"own: left out: 1 txt file".into()));
    assert!(!said(&place, "data show glyphs").contains("images of"), "built-in sets need no notice");
}

#[test]
fn class_names_are_shown() {
    let place = Place::new();
    draw(&place, "own/cat", [8, 8], false);
    draw(&place, "own/dog", [8, 8], false);
    assert_eq!(place.json("data show own")["class_names"], serde_json::json!(["cat", "dog"]));
}

#[test]
fn grey_images_stored_in_colour_train_a_grey_model_like_grey_ones() {
    let place = Place::new();
    draw(&place, "a/own", [28, 28], true);
    draw(&place, "b/own", [28, 28], false);
    for folder in ["a", "b"] {
        let train = tiny("vae-mlp-mnist", 2, folder).replace("--data glyphs", &format!("--data {folder}/own"));
        let text = said(&place, &train.replace(&format!("--out {folder}"), &format!("--out run-{folder}")));
        let notice = "own: every pixel is grey although it is stored in colour; read as grey";
        assert_eq!(text.contains(notice), folder == "a", "{text}");
    }
    let weights = |run: &str| {
        let path = place.path(&format!("{run}/checkpoints/step-000002.safetensors"));
        pixtape::store::Checkpoint::load(&path).unwrap().tensors["params/fc1.weight"].data.clone()
    };
    assert_eq!(weights("run-a"), weights("run-b"));
    let image = RgbImage::from_pixel(28, 28, Rgb([1, 2, 3]));
    image.save(place.path("a/own/000.png")).unwrap();
    let train = tiny("vae-mlp-mnist", 2, "c").replace("--data glyphs", "--data a/own");
    let fitted = "fitted to images of 28x28x3: model.colours=3, binarize=none, model.decoder=logistic";
    assert!(said(&place, &train).contains(fitted));
}

#[test]
fn messages_about_sizes_name_the_keys_that_fit() {
    let place = Place::new();
    draw(&place, "own", [6, 8], false);
    let train = |preset: &str| {
        tiny(preset, 1, preset).replace("--data glyphs", "--data own").replace("--data colour", "--data own")
    };
    let set = "--set model.height=6 --set model.width=8";
    let text = place.refused(
        1,
        &format!("{} --set size=28", train("pixelcnn-mnist")),
        &["own has images of 6x8x1", "28x28x1", &format!("train with {set}")],
    );
    assert!(text.ends_with("model.width=8"), "only the sizes that differ: {text}");
    // The sizes in a file hold.
    let config = "preset = \"pixelcnn-cifar\"\n";
    place.write("own.toml", config.as_bytes());
    let colour = "--set model.height=6 --set model.width=8 --set model.colours=1";
    let of_file = train("pixelcnn-cifar").replace("train pixelcnn-cifar", "train own.toml");
    place.refused(1, &of_file, &["32x32x3", &format!("train with {colour}")]);
    // Latent models have sides of at least 8 pixels.
    let sides = "vae-mnist models images of 8 to 128 pixels a side, not 6x8";
    place.refused(2, &train("vae-mnist"), &[sides]);
}

/// The height, width and colours in the configuration of a run.
fn size_of(place: &Place, run: &str) -> [i64; 3] {
    let config: toml::Table = String::from_utf8(place.bytes(&format!("{run}/config.toml"))).unwrap().parse().unwrap();
    ["height", "width", "colours"].map(|key| config["model"][key].as_integer().unwrap())
}

#[test]
fn pictures_of_any_size_are_prepared_trained_on_and_drawn() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("photos")).unwrap();
    for i in 0..60_u32 {
        let (width, height) = (20 + i % 7, 24 + i % 5);
        let color = |x: u32, y: u32| Rgb([(x * 9 + i) as u8, (y * 7) as u8, (x * y + 3 * i) as u8]);
        RgbImage::from_fn(width, height, color).save(place.path(&format!("photos/{i:02}.png"))).unwrap();
    }
    place.refused(
        1,
        "train vae --data ./photos",
        &["different sizes", "pixtape data prepare FOLDER NEW_FOLDER --size N"],
    );
    let told = place.json("data prepare photos grey --size 20x12 --grey");
    assert_eq!((&told["images"], &told["size"]), (&60.into(), &serde_json::json!([20, 12, 1])));
    let text = place.ok("data prepare photos colour16 --size 16");
    assert!(text.contains("60 images of 16x16x3 in colour16") && text.contains("--data ./colour16"), "{text}");
    place.refused(1, "data prepare photos grey --size 8", &["grey: it exists"]);
    let refused = place.run("data prepare photos other --size 0");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("such as 64 or 40x28"));
    for (folder, size) in [("grey", [20, 12, 1]), ("colour16", [16, 16, 3])] {
        for (preset, set) in [
            ("vae", "--set model.channels=2 --set model.hidden=8 --set model.latent=3"),
            ("vae-mlp", "--set model.hidden=8 --set model.latent=3"),
            ("dcgan", "--set model.channels=2 --set model.latent=4"),
            ("pixelcnn", "--set model.hidden=3 --set model.blocks=1 --set model.head=6 --set flip=true"),
        ] {
            let run = format!("{preset}-{folder}");
            let how = "--steps 2 --batch 4 --device cpu --threads 1 --no-eval";
            place.ok(&format!("train {preset} --data ./{folder} {how} --out {run} {set}"));
            assert_eq!(size_of(&place, &run), size, "{run}");
            place.ok(&format!("sample {run} -n 2 --out {run}.png"));
            if preset.starts_with("vae") {
                place.ok(&format!("reconstruct {run} --data ./{folder} --split train -n 2 --out {run}-r.png"));
            }
        }
    }
}

#[test]
fn folders_that_mix_are_refused_by_every_command() {
    let place = Place::new();
    draw(&place, "own/cat", [28, 28], false);
    GrayImage::new(28, 28).save(place.path("own/loose.png")).unwrap();
    let train = tiny("vae-mlp-mnist", 1, "run").replace("--data glyphs", "--data own");
    place.refused(1, &train, &["own: it has 1 image (the first is loose.png) next to sub-folders"]);
    place.refused(1, "data show own", &["loose.png"]);
    assert!(!place.path("run").exists());
}

#[cfg(unix)]
#[test]
fn hints_can_be_pasted_into_a_shell() {
    let place = Place::new();
    let run = |arguments: &[&str]| place.run_program(env!("CARGO_BIN_EXE_pixtape").as_ref(), arguments);
    let train = tiny("vae-mlp-mnist", 1, "OUT");
    let words: Vec<&str> = train.split(' ').map(|word| if word == "OUT" { "it's a run" } else { word }).collect();
    let output = run(&words);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(r"sample with: pixtape sample 'it'\''s a run'"), "{text}");
    let again = String::from_utf8(run(&words).stderr).unwrap();
    assert!(again.contains(r"--resume 'it'\''s a run'"), "{again}");
}
