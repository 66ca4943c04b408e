//! Commands of sequence models: simulation, evaluation, and planning.

use super::{Place, is_png, tiny};

/// The arguments that train a model for 30 steps, evaluate it and draw a picture.
fn measured(preset: &str) -> String {
    tiny(preset, 30, "run").replace("--no-eval", "").replace("sample_every=0", "sample_every=30")
}

#[test]
fn a_series_is_simulated_and_measured() {
    let place = Place::new();
    let told = place.ok(&measured("lstm-oscillator"));
    let protocol = "oscillator test, exact Gaussian density of values in 0 to 1, 1000 sequences of 100 dimensions";
    assert!(told.contains(protocol) && told.contains("nats"), "{told}");
    assert!(is_png(&place.bytes("run/samples/step-000030.png")));
    let exact = place.json("eval run");
    assert_eq!((&exact["dims"], exact.get("bits_per_dim")), (&100.into(), None));
    assert!(place.ok("eval run --images 50").contains("nats per sequence"));
    assert!(place.ok("compare run").contains(protocol));

    let found = place.json("simulate run --prefix 30 -n 2 --futures 3");
    assert!(found["nll_nats_a_step"].is_f64() && found["baseline_nats_a_step"].is_f64(), "{found}");
    assert_eq!((&found["measured"], &found["prefix"]), (&1000.into(), &30.into()));
    let first = place.bytes("simulate.png");
    assert!(is_png(&first));
    place.ok("simulate run --prefix 30 -n 2 --futures 3 --threads 1");
    assert_eq!(place.bytes("simulate.png"), first, "the same seed draws other futures");
    place.ok("simulate run --prefix 30 -n 2 --futures 3 --temperature 0.1");
    assert!(place.bytes("simulate.png") != first, "the temperature changes nothing");
    assert!(place.ok("simulate run --prefix 0").contains("each value separately"));

    place.refused(2, "simulate run --prefix 100", &["--prefix 100 leaves nothing to predict", "fewer than 100"]);
    place.refused(1, "control run", &["lstm-oscillator was not trained on a pendulum", "lstm-pendulum"]);
    place.refused(1, "complete run", &["lstm-oscillator does not draw pixel by pixel"]);
    place.refused(1, "simulate run --data pendulum", &["100x4x1", "100x1x1"]);
    assert_eq!(place.run("simulate run --futures 0").status.code(), Some(2));
}

#[test]
fn rows_of_images_are_simulated_and_measured() {
    let place = Place::new();
    let told = place.ok(&measured("lstm-rows-mnist"));
    assert!(told.contains("glyphs test, static binarisation, exact, 2000 images of 784 dimensions"), "{told}");
    let found = place.json("simulate run -n 3 --futures 2 --out rows.png");
    assert_eq!((&found["prefix"], &found["measured"]), (&14.into(), &2000.into()));
    assert!(is_png(&place.bytes("rows.png")));
    place.refused(2, "train lstm-rows-mnist --data glyphs --set binarize=none", &["models binary pixels"]);
    place.refused(2, "train lstm-pendulum --set model.width=1", &["model.width must be above 1"]);
}

#[test]
fn a_pendulum_is_planned_for() {
    let place = Place::new();
    place.ok(&tiny("lstm-pendulum", 30, "run"));
    let plan = "control run --episodes 2 --candidates 8 --horizon 10";
    let found = place.json(plan);
    let planners = found["planners"].as_array().unwrap();
    let names: Vec<&str> = planners.iter().map(|planner| planner["planner"].as_str().unwrap()).collect();
    assert_eq!(names, ["random torques", "learned model", "true dynamics"]);
    for planner in planners {
        let returns = planner["returns"].as_array().unwrap();
        assert!(returns.len() == 2 && returns.iter().all(|r| r.as_f64() < Some(0.0)), "{planner}");
    }
    let again = place.json(&format!("{plan} --threads 1"));
    let returns =
        |found: &serde_json::Value| (0..3).map(|i| found["planners"][i]["returns"].clone()).collect::<Vec<_>>();
    assert_eq!(returns(&found), returns(&again), "the same seed plans differently");
    assert_ne!(returns(&found), returns(&place.json(&format!("{plan} --seed 1"))));
    assert!(place.ok(plan).contains("learned model"));
    place.ok("simulate run -n 1");
    place.ok("sample run -n 3");

    place.ok(&tiny("vae-mlp-mnist", 2, "vae"));
    place.refused(1, "control vae", &["vae-mlp-mnist was not trained on a pendulum", "lstm-pendulum"]);
    let presets = ["vae-mlp-mnist does not model sequences", "lstm-oscillator, lstm-pendulum or lstm-rows-mnist"];
    place.refused(1, "simulate vae", &presets);
    for wrong in ["control run --episodes 0", "control run --horizon 201", "control run --candidates none"] {
        assert_eq!(place.run(wrong).status.code(), Some(2), "{wrong}");
    }
}
