//! `pixtape compare` with `--page`, `--table` or `--classifier`: seeds are grouped, nothing is ranked across
//! protocols, every number has its anchors, and what cannot be compared is refused.

use super::classifier::glyphs_classifier;
use super::{Place, draw_colour_folder, tiny};
use serde_json::{Value, json};

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The mean of a measure of a group.
fn mean(group: &Value, measure: &str) -> f64 {
    number(&group["measures"][measure]["mean"])
}

fn text_of(place: &Place, file: &str) -> String {
    String::from_utf8(place.bytes(file)).unwrap()
}

#[test]
fn families_are_compared_by_all_they_differ_in() {
    let place = Place::new();
    place.ok(&format!("{} --no-eval", glyphs_classifier("judge")));
    place.ok(&tiny("pixelcnn-mnist", 3, "pixel"));
    for seed in [3, 4] {
        place.ok(&format!(
            "train vae-mlp-mnist --data glyphs --batch 32 --steps 300 --seed {seed} --out vae-{seed} --no-eval --set \
             sample_every=0 --set model.hidden=64 --set model.latent=8 --set optimizer.lr=0.005"
        ));
    }
    place.ok(&format!("{} --set binarize=static", tiny("gan-mnist", 3, "gan")));
    let compare = "compare pixel vae-3 gan vae-4 --classifier judge -n 64 --seed 5 --iwae 2";
    let told = place.json(&format!("{compare} --page page.html --table table.md"));

    // The rankings are what they are without a summary.
    assert_eq!(told["rankings"].as_array().unwrap().len(), 3);
    assert_eq!(told["without_likelihood"][0]["model"], "gan-mnist");
    let summary = &told["summary"];
    assert_eq!((&summary["samples"], &summary["seed"]), (&json!(64), &json!(5)));
    assert!(summary["device"].as_str().is_some_and(|device| device.starts_with("cpu (")), "{summary}");
    let [set] = &summary["sets"].as_array().unwrap()[..] else { panic!("one data set: {summary}") };
    assert!(set["title"].as_str().unwrap().starts_with("glyphs test, static binarisation, 2000 images"), "{set}");
    assert_eq!((&set["judge"]["model"], &set["judge"]["binarisation"]), (&json!("classifier-mnist"), &json!("static")));

    let [pixel, vae, gan] = &set["groups"].as_array().unwrap()[..] else { panic!("three groups: {set}") };
    assert_eq!([pixel, vae, gan].map(|group| group["seeds"].clone()), [json!([3]), json!([3, 4]), json!([3])]);
    assert_eq!([pixel, vae, gan].map(|group| group["latents_inferred"] == true), [false, true, false]);
    for (group, seeds) in [(pixel, 1), (vae, 2), (gan, 1)] {
        for measure in ["frechet", "precision", "recall", "classes", "sharpness", "sampling_images_per_s"] {
            let spread = &group["measures"][measure];
            assert_eq!(spread["values"].as_array().map(Vec::len), Some(seeds), "{measure}: {group}");
            assert_eq!(spread["deviation"].is_number(), seeds > 1, "{measure}: {group}");
        }
        assert!(mean(group, "sampling_images_per_s") > 0.0 && mean(group, "training_images_per_s") > 0.0, "{group}");
        assert_eq!(group["measures"].get("reconstruction_error").is_some(), group["family"] == vae["family"]);
        assert_eq!(group["runs"][0]["quality"]["images"], 64);
    }

    // One exact number and two bounds of one model: nothing has a rank, and each says why.
    let reasons = |group: &Value| {
        let all = group["likelihoods"].as_array().unwrap();
        assert!(all.iter().all(|own| own["rank"].is_null()), "{group}");
        all.iter().map(|own| own["not_ranked_because"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(reasons(pixel), ["exact, not comparable in rank with a bound"]);
    assert_eq!(reasons(vae), ["a bound, not comparable in rank with exact"; 2]);
    assert!(reasons(gan)[0].starts_with("no likelihood"), "{gan}");
    assert_eq!(vae["likelihoods"][0]["estimate"], "ELBO");
    assert_eq!(vae["likelihoods"][0]["nats"]["values"].as_array().map(Vec::len), Some(2));

    let anchors = set["anchors"].as_array().unwrap();
    let names: Vec<&str> = anchors.iter().map(|anchor| anchor["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["test images", "test images, blurred", "noise", "the mean image"]);
    let of = |index: usize, measure: &str| number(&anchors[index]["measures"][measure]);
    assert!(of(1, "sharpness") < 0.3 * of(0, "sharpness") && of(0, "sharpness") < of(2, "sharpness"), "{set}");
    assert_eq!(of(0, "sharpness_of_data"), 1.0);
    assert!(of(0, "frechet") < of(1, "frechet") && of(1, "frechet") < of(2, "frechet"), "{set}");
    assert!(of(0, "precision") > of(2, "precision") && of(0, "classes") > of(2, "classes"), "{set}");
    // Means of a decoder are smooth, and some steps of training are worth more than the mean image.
    assert!(mean(vae, "sharpness_of_data") < 0.5 && mean(vae, "sharpness_of_data") < mean(pixel, "sharpness_of_data"));
    assert!(mean(vae, "frechet") < mean(pixel, "frechet"), "300 steps against 3: {set}");
    assert!(mean(vae, "reconstruction_error") < of(3, "reconstruction_error"), "{set}");

    let page = text_of(&place, "page.html");
    assert_eq!(page.matches("data:image/png;base64,").count(), 2 + 3, "the data, the same blurred, and three models");
    for part in ["vae-mlp-mnist (2 seeds)", "vae-4", "test images, blurred", "Frechet", "Next to published", "</html>"]
    {
        assert!(page.contains(part), "{part}");
    }
    for link in ["src=\"http", "href=\"http", "<link", "@import", "<script"] {
        assert!(!page.contains(link), "the page leads outside by {link}");
    }
    let table = text_of(&place, "table.md");
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 2 + 3 + 4, "{table}");
    let columns = rows[0].matches('|').count();
    assert!(rows.iter().all(|row| row.matches('|').count() == columns), "{table}");
    assert!(rows[3].contains("vae-mlp-mnist (2 seeds)") && rows[3].contains(" ± "), "{table}");

    // The same samples are drawn again, by any number of threads.
    let again = place.json(&format!("{compare} --threads 1"));
    let samples = |told: &Value| {
        let groups = told["summary"]["sets"][0]["groups"].as_array().unwrap();
        groups.iter().map(|group| (group["runs"].clone(), group["measures"]["sharpness"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(samples(&told), samples(&again));
}

#[test]
fn data_sets_are_apart_and_without_a_classifier_sharpness_remains() {
    let place = Place::new();
    place.ok(&tiny("vae-mlp-mnist", 2, "vae").replace("--no-eval", ""));
    place.ok(&tiny("vae-mnist", 2, "conv").replace("--no-eval", ""));
    place.ok(&tiny("gan-mnist", 2, "gan"));
    place.ok(&tiny("autoencoder-mnist", 2, "plain"));
    let told = place.ok("compare vae gan conv plain vae --table table.md -n 16");
    for part in [
        "glyphs test, static binarisation, 2000 images of 28x28x1",
        "glyphs test, 2000 images of 28x28x1",
        // The same run twice is no second seed.
        "1 of 3",
        "Nothing is compared between data sets",
        "a plain autoencoder has no density",
        "sharpness",
        "\ntable.md\n",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("(2 seeds)") && !told.contains("Frechet"), "{told}");
    let table = text_of(&place, "table.md");
    // Two tables with a head, a rule, two images of the data and the mean image each.
    assert_eq!(table.lines().filter(|line| line.starts_with('|')).count(), 2 * (2 + 3) + 3 + 2, "{table}");

    // Without the options nothing is drawn, and a generator needs no data.
    let cheap = place.json("compare vae gan");
    assert!(cheap.get("summary").is_none() && cheap["rankings"].as_array().unwrap().len() == 1, "{cheap}");
    let by_valid = place.json("compare vae --table table.md -n 16 --split valid");
    assert_eq!(by_valid["summary"]["sets"][0]["anchors"][0]["name"], "valid images");
}

#[test]
fn what_has_no_samples_to_compare_is_refused_before_any_work() {
    let place = Place::new();
    draw_colour_folder(&place);
    for preset in ["classifier-mnist", "superres-mnist", "lstm-pendulum", "vae-mlp-mnist", "dcgan-cifar"] {
        place.ok(&tiny(preset, 2, preset));
    }
    for (run, part) in [
        ("classifier-mnist", "draws no images; give it by --classifier"),
        ("superres-mnist", "it has no samples to compare"),
        ("lstm-pendulum", "draws time series"),
    ] {
        place.refused(1, &format!("compare vae-mlp-mnist {run} --page page.html"), &[run, part]);
    }
    let judged = "--classifier classifier-mnist -n 16";
    place.refused(1, "compare vae-mlp-mnist --classifier vae-mlp-mnist", &["is no classifier"]);
    place.refused(1, &format!("compare dcgan-cifar {judged}"), &["32x32x3", "judges images of 28x28x1"]);
    place.refused(1, "compare vae-mlp-mnist --table nowhere/table.md", &["there is no folder nowhere"]);
    assert!(!place.path("page.html").exists());
    for (arguments, part) in [
        ("--page page.png", "ends in .html"),
        ("--table table.txt", "ends in .md"),
        ("-n 100", "required"),
        ("--seed 1", "required"),
        ("--table table.md -n 15", "16..=65536"),
    ] {
        let output = place.run(&format!("compare vae-mlp-mnist {arguments}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(part), "{arguments}: {said}");
    }
}
