//! `pixtape demo` with next to no training: what it prints and writes. Whether the samples are digits is
//! what a whole demo shows.

use super::Place;

const FAMILIES: [&str; 3] =
    ["Autoregressive: Diagonal BiLSTM", "Latent: variational autoencoder", "Adversarial: DCGAN"];

const ANCHORS: [&str; 8] = [
    "held-out glyphs",
    "noise",
    "glyphs with shuffled pixels",
    "glyphs without a band",
    "glyphs half outside",
    "halves of two digits",
    "two digits in one place",
    "glyphs with exchanged quarters (not learnt)",
];

#[test]
fn every_family_is_judged_next_to_images_of_which_the_answer_is_known() {
    let place = Place::new();
    let result = place.json("demo --out demo --device cpu --divide 1000");
    let judged = result["judged"].as_array().unwrap();
    let names: Vec<&str> = judged.iter().map(|row| row["judged"].as_str().unwrap()).collect();
    assert_eq!(names, [&FAMILIES[..], &ANCHORS].concat());
    for (i, row) in judged.iter().enumerate() {
        let images = [256, 2000, 1000][usize::from(i > 2) + usize::from(i > 3)];
        assert_eq!(row["images"], images.to_string(), "{row}");
        let share: f64 = row["recognised"].as_str().unwrap().strip_suffix(" %").unwrap().parse().unwrap();
        assert!((0.0..=100.0).contains(&share) && row["digits"].as_str().unwrap().ends_with(" of 10"), "{row}");
        // Samples and glyphs have a right answer.
        assert_eq!(row["as the right digit"].as_str().unwrap().is_empty(), i > 3, "{row}");
    }
    let models = result["models"].as_array().unwrap();
    let of_model: Vec<&str> = models.iter().map(|row| row["model"].as_str().unwrap()).collect();
    // A variational autoencoder has two bounds.
    assert_eq!(of_model, [FAMILIES[0], FAMILIES[1], FAMILIES[1], FAMILIES[2]]);
    assert!(result["seconds"].as_f64().unwrap() > 0.0 && result["device"]["kind"] == "cpu", "{result}");

    let page = String::from_utf8(place.bytes("demo/report.html")).unwrap();
    let processor = result["device"]["name"].as_str().unwrap();
    let (head, _) = page.split_once("<section").unwrap();
    let is_named = head.contains("Processor") && head.contains(processor);
    assert!(!processor.is_empty() && is_named, "the head of the page names no processor: {head}");
    assert!(names.iter().chain(&["Are these digits?"]).all(|text| page.contains(text)));
    for row in judged {
        assert!(page.contains(row["recognised"].as_str().unwrap()), "the page lacks {row}");
    }
    for preset in ["diagonal-bilstm-mnist", "vae-mnist", "gan-mnist"] {
        let picture = image::load_from_memory(&place.bytes(&format!("demo/{preset}/samples.png"))).unwrap();
        assert_eq!(picture.width(), picture.height(), "100 samples of {preset} are a square");
    }
}
