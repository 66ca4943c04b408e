//! Every subcommand on a trained model.

use super::{Place, is_png, tiny};
use safetensors::SafeTensors;
use serde_json::Value;

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} is no number in {value}"))
}

#[test]
fn an_autoregressive_model_is_used_in_every_way() {
    let place = Place::new();
    let train = tiny("pixelcnn-mnist", 3, "run").replace("--no-eval", "").replace("sample_every=0", "sample_every=3");
    let told = place.ok(&train);
    assert!(told.contains("glyphs test, static binarisation, exact, 2000 images"), "{told}");
    assert!(is_png(&place.bytes("run/samples/step-000003.png")));

    let exact = place.json("eval run --images 30");
    let facts = |key: &str| exact[key].as_str().unwrap().to_string();
    assert_eq!(
        ["dataset", "split", "binarisation", "protocol"].map(facts),
        ["glyphs", "test", "static", "exact"].map(String::from)
    );
    assert_eq!((&exact["images"], &exact["dims"]), (&30.into(), &784.into()));
    let bits = number(&exact, "nll_nats") / (784.0 * std::f64::consts::LN_2);
    assert!((number(&exact, "bits_per_dim") - bits).abs() < 1e-9 && bits > 0.0);
    // An almost untrained model of binary pixels is close to one bit per dimension.
    assert!((0.3..1.5).contains(&bits), "{bits}");

    place.ok("complete run --rows 10 -n 3 --draws 2 --out complete.png");
    assert!(is_png(&place.bytes("complete.png")));
    let first = place.bytes("complete.png");
    place.ok("complete run --rows 10 -n 3 --draws 2 --out complete.png");
    assert_eq!(place.bytes("complete.png"), first, "the same seed completes differently");

    place.ok("sample run -n 3 --seed 1 --out a.png");
    place.ok("sample run -n 3 --seed 1 --out b.png --threads 1");
    place.ok("sample run -n 3 --seed 2 --out c.png");
    place.ok("sample run -n 3 --seed 1 --temperature 0.1 --out d.png");
    assert_eq!(place.bytes("a.png"), place.bytes("b.png"));
    assert!(place.bytes("a.png") != place.bytes("c.png") && place.bytes("a.png") != place.bytes("d.png"));

    place.refused(1, "reconstruct run", &["pixelcnn-mnist does not encode images"]);
    place.refused(1, "encode run", &["pixelcnn-mnist does not encode images"]);
    place.refused(2, "complete run --rows 28", &["leaves nothing to draw"]);
}

#[test]
fn a_latent_model_is_used_in_every_way() {
    let place = Place::new();
    place.ok(&tiny("vae-mnist", 20, "run").replace("--no-eval", "").replace("--batch 8", "--batch 64"));

    let bounds = place.json("eval run --images 200 --iwae 7");
    let (elbo, iwae) = (number(&bounds, "elbo_nats"), number(&bounds, "iwae_nats"));
    assert!(elbo < iwae && iwae < 0.0, "{bounds}");
    assert_eq!((&bounds["iwae_k"], &bounds["images"]), (&7.into(), &200.into()));
    let terms = number(&bounds, "reconstruction_nats") + number(&bounds, "kl_nats");
    assert!((elbo + terms).abs() < 1e-6 * terms, "{bounds}");
    assert!(bounds.get("nll_nats").is_none());

    for (command, out) in [("reconstruct run -n 5", "reconstruct.png"), ("interpolate run --rows 2", "interpolate.png")]
    {
        place.ok(command);
        assert!(is_png(&place.bytes(out)), "{command}");
    }
    let encoded = place.json("encode run --out z.safetensors --labels 10 --draws 1");
    let accuracy = number(&encoded["probe"], "test_accuracy");
    assert!((0.05..=1.0).contains(&accuracy), "{encoded}");
    let bytes = place.bytes("z.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for (name, shape) in [("mu", &[2000, 3][..]), ("logvar", &[2000, 3]), ("label", &[2000])] {
        assert_eq!(file.tensor(name).unwrap().shape(), shape, "{name}");
    }
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let protocol: Value = serde_json::from_str(&header.metadata().as_ref().unwrap()["protocol"]).unwrap();
    assert_eq!((&protocol["dataset"], &protocol["split"]), (&"glyphs".into(), &"test".into()));

    place.refused(1, "complete run", &["vae-mnist does not draw pixel by pixel"]);
}

#[test]
fn a_report_needs_nothing_beside_it() {
    let place = Place::new();
    place.ok(&tiny("vae-mlp-mnist", 5, "run").replace("--no-eval", "").replace("sample_every=0", "sample_every=5"));
    let page = String::from_utf8(place.bytes("run/report.html")).unwrap();
    for part in ["<svg", "data:image/png;base64,", "matmul", "ELBO", "model.hidden", "glyphs", "</html>"] {
        let part = part.strip_prefix("model.").unwrap_or(part);
        assert!(page.contains(part), "the report lacks {part}");
    }
    for link in ["src=\"http", "href=\"http", "src=\"samples", "<link", "@import"] {
        assert!(!page.contains(link), "the report leads outside by {link}");
    }
}

#[test]
fn runs_are_ranked_within_a_protocol_and_measured_once() {
    let place = Place::new();
    for (preset, out) in
        [("vae-mlp-mnist", "dense"), ("vae-mnist", "conv"), ("pixelcnn-mnist", "pixel"), ("gan-mnist", "gan")]
    {
        place.ok(&tiny(preset, 2, out).replace("--no-eval", ""));
    }
    let compared = place.json("compare dense conv pixel gan");
    let rankings = compared["rankings"].as_array().unwrap();
    let sizes: Vec<usize> = rankings.iter().map(|ranking| ranking["rows"].as_array().unwrap().len()).collect();
    let estimates: Vec<&str> =
        rankings.iter().map(|ranking| ranking["protocol"]["estimate"].as_str().unwrap()).collect();
    assert_eq!((sizes, estimates), (vec![2, 1], vec!["ELBO", "exact"]), "{compared}");
    assert_eq!(compared["without_likelihood"][0]["model"], "gan-mnist");
    let told = place.ok("compare dense conv pixel gan");
    assert!(told.contains("cannot be ranked") && told.contains("gan-mnist (gan) has no likelihood"), "{told}");

    // A saved number is used again, but only for the checkpoint that it was measured with.
    let kept = String::from_utf8(place.bytes("dense/likelihood.json")).unwrap();
    let mut value: Value = serde_json::from_str(&kept).unwrap();
    value["rows"][0]["nats"] = 1.25.into();
    place.write("dense/likelihood.json", value.to_string().as_bytes());
    let nats = || place.json("compare dense")["rankings"][0]["rows"][0]["nats"].as_f64().unwrap();
    assert_eq!(nats(), 1.25);
    place.ok("train --resume dense --steps 3 --no-eval");
    assert!(nats() > 100.0);
    place.write("dense/likelihood.json", b"not JSON");
    assert!(nats() > 100.0);
}

#[test]
fn exported_weights_are_in_the_layout_of_others_and_start_another_run() {
    let place = Place::new();
    place.ok(&format!("{} --set ema=0.9", tiny("vae-mnist", 4, "run")));
    assert_eq!(place.json("export run ema.safetensors")["weights"], "averaged");
    assert_eq!(place.json("export run raw.safetensors --weights raw")["weights"], "raw");
    let (ema, raw) = (place.bytes("ema.safetensors"), place.bytes("raw.safetensors"));
    assert!(ema != raw);
    let file = SafeTensors::deserialize(&raw).unwrap();
    let shape = |name: &str| file.tensor(name).unwrap().shape().to_vec();
    assert_eq!([shape("e1.weight"), shape("t1.weight")], [[2, 1, 4, 4], [4, 2, 4, 4]]);
    assert_eq!([shape("ef.weight"), shape("d2.weight")], [[8, 196], [196, 8]]);
    // The first weight of e2 in both layouts.
    let checkpoint = pixtape::store::Checkpoint::load(&place.path("run/checkpoints/step-000004.safetensors"));
    let ours = checkpoint.unwrap().tensors["params/e2.weight"].clone();
    let theirs = file.tensor("e2.weight").unwrap();
    let at = |o: usize, i: usize, y: usize, x: usize| {
        let bytes = &theirs.data()[4 * (((o * 2 + i) * 4 + y) * 4 + x)..][..4];
        f32::from_le_bytes(bytes.try_into().unwrap())
    };
    assert_eq!(at(3, 1, 2, 0), ours.data[((2 * 4) * 2 + 1) * 4 + 3]);

    // A run that starts from a file has the weights of the file.
    let started = tiny("vae-mnist", 1, "again").replace("--seed 3", "--seed 9");
    place.ok(&format!("{started} --init raw.safetensors --set optimizer.lr=1e-30"));
    place.ok("export again back.safetensors");
    let back = place.bytes("back.safetensors");
    let back = SafeTensors::deserialize(&back).unwrap();
    assert_eq!(back.len(), file.len());
    back.iter().for_each(|(name, view)| assert_eq!(view.data(), file.tensor(name).unwrap().data(), "{name}"));

    // Averaged weights and raw weights draw different images.
    place.ok("sample run -n 4 --out ema.png");
    place.ok("sample run -n 4 --weights raw --out raw.png");
    assert!(place.bytes("ema.png") != place.bytes("raw.png"));
    place.refused(1, "sample again --weights ema", &["no moving average", "--weights raw"]);
}

#[test]
fn an_adversarial_model_has_samples_and_no_likelihood() {
    let place = Place::new();
    let trained = place.json(&tiny("gan-mnist", 2, "run").replace("--no-eval", ""));
    for term in ["critic_loss", "generator_loss", "d_real", "d_fake"] {
        assert!(trained["losses"][term].is_number(), "{trained}");
    }
    assert_eq!(trained["likelihood"], serde_json::json!([]));
    let sentence = place.refused(1, "eval run", &["gan-mnist has no likelihood"]);
    assert!(sentence.contains("samples"), "{sentence}");
    assert!(place.run("eval run --json").stdout.is_empty());
}

#[test]
fn plans_devices_and_data_sets_are_listed() {
    let place = Place::new();
    let text = place.ok("plan gan-mnist --batch 4 --set critic_steps=2");
    assert!(text.contains("plan gan.train_critic:") && text.contains("plan gan.train:"), "{text}");
    assert!(text.contains("MiB of slots at the peak"), "{text}");
    assert_eq!(text, place.ok("plan gan-mnist --batch 4 --set critic_steps=2"));
    let plans = place.json("plan vae-mlp-mnist --batch 4");
    assert!(plans[0]["steps"].as_array().unwrap().len() > 10 && plans[0]["slot_bytes"].as_u64() > Some(0));

    assert_eq!(place.json("devices")["devices"][0]["kind"], "cpu");
    assert!(place.ok("devices").contains("cpu"));

    let sets = place.json("data list");
    let names: Vec<&str> = sets.as_array().unwrap().iter().map(|set| set["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["mnist", "fashion-mnist", "cifar-10", "binarized-mnist", "glyphs", "oscillator", "pendulum"]);
    assert!(place.ok("data list").contains("pixtape data fetch mnist"));
    let shown = place.json("data show glyphs -n 10 --split test --out g.png");
    assert_eq!((&shown["images"], &shown["shown"]), (&2000.into(), &10.into()));
    assert!(is_png(&place.bytes("g.png")));
    place.ok("data show pendulum -n 4");
    assert!(is_png(&place.bytes("pendulum.png")));
    assert!(place.ok("data fetch glyphs").contains("built in"));
}

#[test]
fn a_check_passes_and_fails_when_one_expected_value_is_changed() {
    let place = Place::new();
    let told = place.ok("check --only linear,gated");
    assert!(told.contains("linear") && told.contains("pass on cpu"), "{told}");
    let report = place.json("check --only linear");
    assert_eq!((&report["device"], &report["precision"]), (&"cpu".into(), &"f32".into()));
    for case in report["cases"].as_array().unwrap() {
        assert_eq!((&case["op"], &case["pass"]), (&"linear".into(), &true.into()));
        assert!(case["worst"].as_f64() <= case["tol"].as_f64(), "{case}");
    }

    let mut bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/src/check/builtin.safetensors")).unwrap();
    place.write("cases.safetensors", &bytes);
    place.ok("check cases.safetensors --only linear");
    let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let tensors = metadata.tensors();
    let (_, expected) = tensors.iter().find(|(name, _)| name.starts_with("linear") && name.contains("/out/")).unwrap();
    let at = 8 + header + expected.data_offsets.0;
    bytes[at..at + 4].copy_from_slice(&1e6_f32.to_le_bytes());
    place.write("cases.safetensors", &bytes);
    let output = place.run("check cases.safetensors --only linear --json");
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let failed = report["cases"].as_array().unwrap().iter().filter(|case| case["pass"] == false).count();
    assert_eq!(failed, 1, "{report}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("error: 1 of "));
    place.write("cut.safetensors", &bytes[..bytes.len() / 2]);
    place.refused(1, "check cut.safetensors", &["cut.safetensors", "truncated"]);
    place.refused(1, "check nowhere.safetensors", &["nowhere.safetensors", "check the path"]);
    place.refused(2, "check --only linaer", &["linaer", "linear"]);
}

#[test]
fn a_step_can_be_traced_and_checked_value_by_value() {
    let place = Place::new();
    let traced = place.ok(&format!("{} --trace", tiny("vae-mlp-mnist", 5, "run")));
    assert!(traced.contains("adam") && traced.contains("nan 0") && traced.contains(".rs:"), "{traced}");
    assert!(!place.path("run").exists(), "a trace trains nothing");
    place.ok(&format!("{} --check-finite", tiny("vae-mlp-mnist", 2, "run")));
    assert!(place.ok("train --resume run --steps 4 --trace").contains("step 3"));
    let diverging =
        tiny("vae-mlp-mnist", 50, "bad") + " --set optimizer.kind=sgd --set optimizer.lr=1e30 --check-finite";
    place.refused(1, &diverging, &["wrote", "recorded at", "lower the learning rate"]);
}

#[test]
fn a_configuration_file_runs_a_training_again() {
    let place = Place::new();
    place.ok(&tiny("vae-mlp-mnist", 3, "first"));
    place.ok("train first/config.toml --out second --no-eval");
    let last = "checkpoints/step-000003.safetensors";
    assert!(place.bytes(&format!("first/{last}")) == place.bytes(&format!("second/{last}")));
}

#[test]
fn a_folder_of_pictures_can_be_learned_by_its_path() {
    let place = Place::new();
    super::draw_colour_folder(&place);
    place.ok(&tiny("dcgan-cifar", 2, "run").replace("--data colour", "--data ./colour/"));
    let config = String::from_utf8(place.bytes("run/config.toml")).unwrap();
    assert!(config.contains("data = \"./colour/\""), "{config}");
    place.ok("train --resume run --steps 3");
    place.ok("train --resume run --steps 4 --data colour");
}
