//! Commands of autoregressive models only: drawing by class, colorizing, super-resolution, and the proof of
//! causality.

use super::{Place, draw_colour_folder, is_png, tiny};

#[test]
fn causality_draws_contexts_and_reports_blind_spots() {
    let place = Place::new();
    let small = "--set model.height=9 --set model.width=9 --set model.hidden=6 --set model.head=6";
    let plain =
        place.json(&format!("causality pixelcnn-mnist {small} --set model.blocks=2 --pixel 6,4 --out plain.png"));
    let gated = place.json(&format!("causality gated-pixelcnn-mnist {small} --set model.layers=2 --pixel 6,4"));
    for found in [&plain, &gated] {
        assert_eq!((&found["leaks"], &found["ways_differ"], &found["outputs"]), (&0.into(), &0.into(), &81.into()));
        assert!(found["first_leak"].is_null());
    }
    assert!(plain["blind_outputs"].as_u64() > Some(0) && !plain["blind_spot"].as_array().unwrap().is_empty());
    assert_eq!((&gated["blind_outputs"], gated["blind_spot"].as_array().unwrap().len()), (&0.into(), 0));
    assert!(is_png(&place.bytes("plain.png")) && is_png(&place.bytes("causality.png")));

    let colour =
        "--set model.height=4 --set model.width=3 --set model.hidden=6 --set model.blocks=1 --set model.head=6";
    let colours = place.json(&format!("causality pixelcnn-cifar {colour} --pixel 0,1"));
    // Every colour sees the three colours of the first pixel and the earlier colours of its own pixel.
    assert_eq!(colours["seen"], serde_json::json!([3, 4, 5]));
    let blue = place.ok(&format!("causality pixelcnn-cifar {colour} --pixel 0,1 --colour 2"));
    assert!(blue.contains("colour 2 of pixel 0,1 sees 5 of the 5 dimensions before it"), "{blue}");

    place.refused(2, &format!("causality pixelcnn-mnist {small} --pixel 9,0"), &["9,0", "9 rows"]);
    place.refused(2, &format!("causality pixelcnn-mnist {small} --colour 1"), &["--colour 1"]);
    place.refused(2, "causality vae-mnist", &["vae-mnist", "pixelcnn-mnist"]);
    place.refused(2, "causality pixelcn", &["did you mean pixelcnn?"]);
}

#[test]
fn a_model_with_classes_draws_the_class_that_is_asked_for() {
    let place = Place::new();
    place.ok(&tiny("gated-pixelcnn-mnist", 2, "run"));
    let draw = |more: &str| {
        place.ok(&format!("sample run -n 3 {more}"));
        place.bytes("samples.png")
    };
    let (three, four) = (draw("--class 3"), draw("--class 4"));
    assert!(three != four && three != draw(""), "the class changes nothing");
    assert!(place.json("sample run -n 3 --class 3")["class"] == 3);
    place.ok("sample run -n 12");
    let picture = image::load_from_memory(&place.bytes("samples.png")).unwrap();
    assert!(picture.width() > 4 * picture.height(), "12 samples of 10 classes stand in 10 columns");
    place.ok("sample run -n 12 --out all.safetensors");
    let file = place.bytes("all.safetensors");
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    let (images, label) = (tensors.tensor("images").unwrap(), tensors.tensor("label").unwrap());
    assert_eq!(images.shape()[..2], [12, 1]);
    assert!(images.data().iter().all(|byte| [0, 255].contains(byte)) && images.data().contains(&255));
    let labels: Vec<u8> = label.data().chunks(8).map(|word| word[0]).collect();
    assert_eq!(labels, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
    place.refused(1, "sample run --class 10", &["no class 10", "10, counted from 0"]);
    let measured = place.json("eval run --images 20");
    assert_eq!(measured["protocol"], "exact given its class");
    place.ok("complete run -n 2 --draws 1");
    assert!(is_png(&place.bytes("complete.png")));

    place.ok(&format!("{} --set model.classes=10", tiny("diagonal-bilstm-mnist", 2, "scans")));
    let scans = [3, 4].map(|class| {
        place.ok(&format!("sample scans -n 3 --class {class}"));
        place.bytes("samples.png")
    });
    assert!(scans[0] != scans[1], "the class changes nothing");

    place.ok(&tiny("pixelcnn-mnist", 1, "plain"));
    place.refused(1, "sample plain --class 3", &["without classes", "model.classes=10"]);
    let unlabelled = tiny("gated-pixelcnn-mnist", 1, "none").replace("--data glyphs", "--data colour");
    draw_colour_folder(&place);
    let size = "--set model.height=32 --set model.width=32 --set model.colours=3";
    place.refused(1, &format!("{unlabelled} {size}"), &["colour", "no labels", "model.classes"]);
}

#[test]
fn colour_and_detail_are_drawn_back_and_measured_given_what_is_left() {
    let place = Place::new();
    draw_colour_folder(&place);
    place.ok(&tiny("colorize-cifar", 1, "colours"));
    // The pictures during training are drawn for images of the training set.
    let said = place.ok(&tiny("superres-mnist", 1, "details").replace("sample_every=0", "sample_every=1"));
    assert!(
        said.contains("pixtape superres details") && is_png(&place.bytes("details/samples/step-000001.png")),
        "{said}"
    );
    let data = "--data colour --split train";
    let drawn = place.json(&format!("colorize colours {data} -n 2 --draws 2"));
    assert_eq!((&drawn["images"], &drawn["draws"]), (&2.into(), &2.into()));
    place.ok("superres details -n 2 --draws 1 --out detailed.png");
    assert!(is_png(&place.bytes("colorize.png")) && is_png(&place.bytes("detailed.png")));
    let given = |run: &str, data: &str| place.json(&format!("eval {run} {data} --images 10"))["protocol"].clone();
    assert_eq!(given("colours", data), "exact given its grey image");
    assert_eq!(given("details", ""), "exact given a quarter of its side");

    place.refused(1, "superres colours", &["colorize-cifar", "superres-mnist"]);
    place.refused(1, "sample details", &["pixtape colorize or superres"]);
    place.refused(2, &format!("{} --set model.levels=5", tiny("superres-mnist", 1, "x")), &["5 levels"]);
}

#[test]
fn several_models_draw_the_same_images_side_by_side() {
    let place = Place::new();
    place.ok(&tiny("superres-mnist", 1, "pixels"));
    place.ok(&tiny("superres-gan-mnist", 1, "gan"));
    let picture = || image::open(place.path("superres.png")).unwrap().into_luma8();
    let told = place.json("superres pixels --against gan -n 2 --draws 2");
    assert_eq!((&told["model"], &told["images"]), (&"superres-mnist".into(), &2.into()));
    assert_eq!(told["against"][0]["model"], "superres-gan-mnist");
    assert_eq!(told["against"][0]["shown"], told["shown"]);
    // One reads binary images, the other one grey ones that it pads: given, 2 draws, given, 2 draws, and
    // both forms of the original. At twice the size, with spaces between three sections.
    assert_eq!(picture().dimensions(), (8 * 56 + 5 * 2 + 2 * 6, 2 * 56 + 2));

    let said = place.ok("superres pixels --against pixels -n 2 --draws 2");
    assert!(said.contains("by pixels, step 1, then by pixels, step 1, and the originals"), "{said}");
    // Given, 2 draws, 2 draws, original. Equal seeds draw equally.
    let twice = picture();
    assert_eq!(twice.dimensions(), (6 * 84 + 3 * 2 + 2 * 6, 2 * 84 + 2));
    let column = |from: u32| -> Vec<u8> { (from..from + 84).map(|x| twice.get_pixel(x, 40).0[0]).collect() };
    let (first, second) = (column(84 + 2), column(3 * 84 + 2 * 2 + 6));
    assert!(first == second && first != column(2 * 84 + 2 * 2), "the draws differ");

    draw_colour_folder(&place);
    place.ok(&tiny("superres-cifar", 1, "large"));
    place.ok(&tiny("colorize-cifar", 1, "colours"));
    place.refused(1, "superres pixels --against large", &["glyphs", "28x28"]);
    place.refused(1, "superres pixels --against colours", &["colorize-cifar has not learned to do this"]);
    place.refused(1, "superres pixels --against nosuch", &["nosuch"]);
}
