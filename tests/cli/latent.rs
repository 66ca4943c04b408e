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

#[test]
fn a_traversal_shows_the_dimensions_that_tell_most_and_a_plane_shows_all_of_two() {
    let place = Place::new();
    let dynamic = "--set kl_warmup=0 --set optimizer.lr=0.01";
    place.ok(&format!("{} {dynamic} --set model.classes=10", tiny("vae-mlp-mnist", 60, "run")));
    let told = place.json("traverse run --rows 2 --steps 5 --reach 2");
    let rows = told["rows"].as_array().unwrap();
    let kl: Vec<f64> = rows.iter().map(|row| row["kl_nats"].as_f64().unwrap()).collect();
    assert!(kl.len() == 2 && kl[0] > kl[1] && kl[1] >= 0.0, "{told}");
    let size = |name: &str| {
        let picture = image::open(place.path(name)).unwrap();
        (picture.width(), picture.height())
    };
    let (width, height) = size("traverse.png");
    let columns_per_row = f64::from(width) / f64::from(height);
    assert!((columns_per_row - 2.5).abs() < 0.05, "{width}x{height} for 2 rows of 5 pictures");
    let of_image = place.bytes("traverse.png");
    place.ok("traverse run --rows 2 --steps 5 --reach 2 --class 4");
    assert_ne!(place.bytes("traverse.png"), of_image, "the class makes no difference");
    place.refused(1, "traverse run --class 10", &["there is no class 10"]);
    place.refused(1, "traverse run --plane", &["has 3 latent dimensions", "model.latent=2", "--plane"]);
    assert_eq!(place.run("traverse run --plane --rows 3").status.code(), Some(2));

    let sizes = tiny("vae-mnist", 20, "flat").replace("model.latent=3", "model.latent=2");
    place.ok(&format!("{sizes} {dynamic}"));
    let told = place.json("traverse flat --plane --steps 4 --out plane.png");
    assert_eq!((&told["plane"], &told["model"]), (&4.into(), &"vae-mnist".into()));
    let (width, height) = size("plane.png");
    assert!(width == height && width >= 4 * 28, "{width}x{height}");
    place.refused(1, "traverse flat --class 1", &["was trained without classes"]);
    place.ok(&tiny("autoencoder-mnist", 1, "plain"));
    place.refused(1, "traverse plain", &["autoencoder-mnist has no prior", "vae-mnist"]);
    place.ok(&tiny("gan-mnist", 1, "gan"));
    place.refused(1, "traverse gan", &["gan-mnist does not encode images"]);
}
