//! Latent models with other decoders and with classes, through every command.

use super::{Place, is_png, tiny};

#[test]
fn a_class_conditional_model_is_given_the_class_by_every_command() {
    let place = Place::new();
    place.ok(&format!("{} --set model.classes=10", tiny("vae-mlp-mnist", 10, "run")));
    let told = place.json("eval run --iwae 2 --images 50");
    assert_eq!(told["protocol"], "ELBO given its class, IWAE-2 given its class");
    let text = place.ok("compare run --iwae 2");
    assert!(text.contains("ELBO given its class, 2000 images of 784 dimensions"), "{text}");
    // The second time nothing is measured again.
    assert_eq!(place.ok("compare run --iwae 2"), text);
    for class in ["", "--class 3"] {
        place.ok(&format!("sample run -n 20 --out sampled.png {class}"));
        assert!(is_png(&place.bytes("sampled.png")));
    }
    let sampled = |class: u32, out: &str| place.ok(&format!("sample run -n 4 --class {class} --out {out}"));
    sampled(3, "three.safetensors");
    sampled(4, "four.safetensors");
    assert_ne!(place.bytes("three.safetensors"), place.bytes("four.safetensors"), "the class makes no difference");
    place.refused(1, "sample run --class 10", &["there is no class 10", "knows 10"]);
    place.ok("reconstruct run -n 12");
    place.ok("interpolate run --rows 3 --steps 5");
    assert!(["reconstruct.png", "interpolate.png"].iter().all(|name| is_png(&place.bytes(name))));
    let encoded = place.json("encode run --no-probe");
    assert_eq!((&encoded["latent_dims"], &encoded["images"]), (&3.into(), &2000.into()));
}

#[test]
fn levels_have_a_likelihood_in_bits_per_dimension() {
    let place = Place::new();
    let grey = "--set binarize=none --set optimizer.lr=0.01 --set model.deviation=0.3";
    for decoder in ["logistic", "gaussian", "gaussian-fixed"] {
        place.ok(&format!("{} {grey} --set model.decoder={decoder}", tiny("vae-mlp-mnist", 30, decoder)));
        let told = place.json(&format!("eval {decoder} --iwae 2 --images 50"));
        assert_eq!((&told["protocol"], &told["binarisation"]), (&"ELBO, IWAE-2".into(), &"none".into()));
        let number = |key: &str| told[key].as_f64().unwrap();
        let bits = number("elbo_bits_per_dim");
        assert!((bits + number("elbo_nats") / (784.0 * std::f64::consts::LN_2)).abs() < 1e-9, "{told}");
        assert!((0.5..9.0).contains(&bits), "{decoder}: {bits} bits per dimension");
        place.ok(&format!("reconstruct {decoder} -n 4"));
    }
    // All of them bound the same likelihood, so they are ranked in one table.
    let compared = place.json("compare logistic gaussian gaussian-fixed --iwae 2");
    let rankings = compared["rankings"].as_array().unwrap();
    assert!(rankings.len() == 2 && rankings.iter().all(|ranking| ranking["unit"] == "bits/dim"), "{compared}");
    assert!(rankings.iter().all(|ranking| ranking["rows"].as_array().unwrap().len() == 3), "{compared}");
}

#[test]
fn a_decoder_needs_pixels_of_its_kind() {
    let place = Place::new();
    let train = |settings: &str| format!("train vae-mnist --data glyphs {settings}");
    let wanted = ["vae-mnist models 256 levels", "set binarize to none", "or model.decoder to bernoulli"];
    place.refused(2, &train("--set model.decoder=logistic"), &wanted);
    let wanted = ["vae-mnist models binary pixels", "or model.decoder to logistic or gaussian"];
    place.refused(2, &train("--set binarize=none"), &wanted);
    place.refused(2, &train("--set model.height=130"), &["8 to 128 pixels a side, not 130x28"]);
    let wanted = ["beta changes the KL term", "importance_samples = 5"];
    place.refused(2, &train("--set importance_samples=5 --set beta=2"), &wanted);
}
