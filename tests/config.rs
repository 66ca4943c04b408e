//! The training configuration: round trips, `--set`, TOML files, and the message for each mistake.

use pixtape::Error;
use pixtape::config::{
    Config, Distribution, NetworkKind, Objective, OptimizerKind, PRESETS, ScheduleKind, default_of, preset,
};
use std::path::Path;

fn read(text: &str) -> Result<Config, String> {
    Config::from_toml(text, Path::new("my.toml")).map_err(|error| {
        assert!(matches!(error, Error::File { .. }), "{error:?}");
        error.to_string()
    })
}

/// Applies `--set` and returns the message of the error, which must be a usage error.
fn refused(name: &str, assignment: &str) -> String {
    let mut config = preset(name).unwrap();
    let before = config.clone();
    let error = config.set(assignment).expect_err(assignment);
    assert_eq!(error.exit_code(), 2, "{error}");
    assert_eq!(config, before, "a refused key changes nothing");
    error.to_string()
}

#[test]
fn every_preset_survives_the_file() {
    for name in PRESETS.iter().map(|preset| preset.name) {
        let config = preset(name).unwrap();
        assert_eq!(read(&config.to_toml()).unwrap(), config);
        assert!(!config.to_toml().contains('/'), "a configuration holds no path");
    }
}

#[test]
fn a_file_without_a_preset_is_called_by_its_network() {
    let config = read("network = \"gated-pixelcnn\"\nsteps = 7\n[model]\nclasses = 10\n").unwrap();
    assert_eq!((config.network, config.preset.as_deref()), (NetworkKind::GatedPixelCnn, None));
    assert_eq!((config.name(), config.steps, config.model.classes), ("gated-pixelcnn", Some(7), Some(10)));
    assert_eq!(read(&config.to_toml()).unwrap(), config);
    for kind in NetworkKind::ALL {
        let config = default_of(kind);
        assert_eq!(read(&config.to_toml()).unwrap(), config);
        assert_eq!(read(&format!("network = \"{kind}\"")).unwrap(), config);
    }
}

#[test]
fn files_of_the_previous_version_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/old_configs");
    let files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    // That version had these presets. Later ones have no file.
    assert_eq!(files.len(), 18);
    for path in files {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("preset") && !text.contains("network"), "{name}");
        let config = Config::from_toml(&text, &path).unwrap();
        // `pixtape train PRESET --steps 2 --seed 3 --device cpu` wrote them. All other values are the
        // preset's, including keys that the file does not have.
        let (steps, device) = (Some(2), "cpu".to_string());
        assert_eq!(config, Config { seed: 3, steps, epochs: None, device, ..preset(name).unwrap() });
    }
}

#[test]
fn what_a_preset_is_follows_from_its_keys() {
    let of = |name: &str| preset(name).unwrap();
    for (name, reduced) in [
        ("pixelcnn-mnist", "none"),
        ("colorize-cifar", "grey"),
        ("superres-mnist", "small"),
        ("superres-cifar", "small"),
    ] {
        assert_eq!(of(name).known_keys()["model.reduced"].as_str(), Some(reduced), "{name}");
    }
    let sequences = |name: &str| (of(name).model.actions, of(name).model.distribution);
    assert_eq!(sequences("lstm-oscillator"), (Some(0), Some(Distribution::Normal)));
    assert_eq!(sequences("lstm-pendulum"), (Some(1), Some(Distribution::Normal)));
    assert_eq!(sequences("lstm-rows-mnist"), (Some(0), Some(Distribution::Bernoulli)));
    // Setting a key of one preset gives the other preset, apart from the name.
    let mut digits = of("pixelcnn-mnist");
    digits.set("model.reduced=small").unwrap();
    assert_eq!(Config { preset: None, ..digits }, Config { preset: None, ..of("superres-mnist") });
}

#[test]
fn a_file_of_a_few_keys_changes_its_preset() {
    let text = "preset = \"gan-mnist\"\nsteps = 100\nobjective = \"wgan-gp\"\n\n[optimizer]\nlr = 1\n";
    let config = read(text).unwrap();
    assert_eq!((config.steps, config.epochs, config.objective), (Some(100), None, Some(Objective::WganGp)));
    assert_eq!((config.optimizer.lr, config.optimizer.beta1), (1.0, 0.5));
    assert_eq!(read(&config.to_toml()).unwrap(), config);
    // Dotted keys and inline tables mean the same in TOML.
    let dotted = "preset = \"gan-mnist\"\nsteps = 100\nobjective = \"wgan-gp\"\noptimizer.lr = 1.0\n";
    assert_eq!(read(dotted).unwrap(), config);
    assert_eq!(read(&dotted.replace("optimizer.lr = 1.0", "optimizer = { lr = 1.0 }")).unwrap(), config);
}

#[test]
fn any_key_can_be_set() {
    let mut config = preset("gan-mnist").unwrap();
    for assignment in [
        "checkpoint_every=50",
        "objective=hinge",
        "optimizer.kind=sgd",
        "optimizer.lr=3e-4",
        "optimizer.momentum = 0.5",
        "schedule.kind=cosine",
        "model.latent=7",
        "seed=4294967295",
        "ema=0.999",
        "steps=10",
        "preset=gan-mnist",
        "network=dcgan",
    ] {
        config.set(assignment).unwrap();
    }
    assert_eq!((config.checkpoint_every, config.objective), (50, Some(Objective::Hinge)));
    assert_eq!((config.optimizer.kind, config.optimizer.lr), (OptimizerKind::Sgd, 3e-4));
    assert_eq!((config.schedule.kind, config.model.latent), (ScheduleKind::Cosine, Some(7)));
    assert_eq!((config.steps, config.epochs, config.seed), (Some(10), None, u32::MAX));
    config.set("epochs=3").unwrap();
    assert_eq!((config.steps, config.epochs), (None, Some(3)));
    assert_eq!(read(&config.to_toml()).unwrap(), config);
    for key in config.known_keys().keys() {
        assert!(preset("gan-mnist").unwrap().known_keys().contains_key(key), "{key}");
    }
}

#[test]
fn every_known_key_takes_its_own_value() {
    for name in PRESETS.iter().map(|preset| preset.name) {
        let config = preset(name).unwrap();
        for (key, value) in config.known_keys() {
            let mut same = config.clone();
            let text = value.as_str().map_or(value.to_string(), str::to_string);
            if key != "steps" {
                same.set(&format!("{key}={text}")).unwrap();
                assert_eq!(same, config);
            }
        }
    }
}

#[test]
fn an_unknown_key_names_the_nearest_and_lists_its_section() {
    let message = refused("vae-mnist", "bach=3");
    assert!(message.contains("vae-mnist has no key \"bach\", did you mean batch?"), "{message}");
    assert!(message.contains("kl_warmup, ") && !message.contains("optimizer.beta1"), "{message}");
    let message = refused("vae-mnist", "optimizer.beta=3");
    assert!(message.contains("optimizer.beta1, ") && !message.contains("kl_warmup"), "{message}");
    assert!(refused("vae-mnist", "lr=3").contains("did you mean optimizer.lr?"));
    assert!(refused("vae-mnist", "optimiser.lr=3").contains("did you mean optimizer.lr?"));
    assert!(refused("vae-mnist", "model=3").contains("no key \"model\""));
    // A key of another network is unknown here.
    assert!(refused("vae-mnist", "objective=wgan").contains("no key \"objective\""));
    assert!(refused("pixelcnn-mnist", "model.latent=3").contains("no key \"model.latent\""));
}

#[test]
fn wrong_types_and_values_are_errors_of_usage() {
    for (assignment, part) in [
        ("batch", "it must be key=value"),
        ("batch=0", "batch must be at least 1"),
        ("batch=-3", "batch takes a whole number of at least 0, not -3"),
        ("batch=many", "batch takes a whole number, not \"many\""),
        ("batch=1.5", "batch takes a whole number, not \"1.5\""),
        ("batch=", "batch takes a whole number, not \"\""),
        ("batch=9999999999", "batch must be at most 1048576"),
        ("seed=4294967296", "seed: "),
        ("steps=0", "steps must be at least 1"),
        ("log_every=0", "log_every must be at least 1"),
        ("optimizer.lr=-0.1", "optimizer.lr must be above 0"),
        ("optimizer.lr=nan", "optimizer.lr must be above 0"),
        ("optimizer.lr=inf", "optimizer.lr must be above 0"),
        ("optimizer.lr=fast", "optimizer.lr takes a number, not \"fast\""),
        ("optimizer.beta1=1", "optimizer.beta1 must be at least 0 and below 1"),
        ("optimizer.kind=adma", "unknown variant `adma`, expected one of `adam`, `rmsprop`, `sgd`"),
        ("ema=1.0", "ema must be at least 0 and below 1"),
        ("clip_norm=-1", "clip_norm must be at least 0"),
        // Kernels compute with 32-bit floats, which these numbers are too near to 1, too small or too large
        // for.
        (
            "optimizer.beta1=0.99999999999",
            "beta1 must be at least 0 and below 1; as a 32-bit float 0.99999999999 is 1.0",
        ),
        ("optimizer.beta2=0.99999999999", "optimizer.beta2 must be"),
        ("optimizer.alpha=0.99999999999", "optimizer.alpha must be"),
        ("optimizer.momentum=0.99999999999", "optimizer.momentum must be"),
        ("ema=0.9999999999", "ema must be at least 0 and below 1; as a 32-bit float"),
        ("optimizer.eps=1e-60", "optimizer.eps must be above 0; as a 32-bit float 1e-60 is 0.0"),
        ("optimizer.lr=5e-324", "optimizer.lr must be above 0; as a 32-bit float 5e-324 is 0.0"),
        ("optimizer.lr=1e39", "optimizer.lr must be above 0; as a 32-bit float 1e39 is inf"),
        ("weight_clip=1e-60", "weight_clip must be above 0"),
        ("penalty=1e-60", "penalty must be above 0"),
        ("clip_norm=1e39", "clip_norm must be at least 0; as a 32-bit float 1e39 is inf"),
        ("schedule.final_lr=1e39", "schedule.final_lr must be at least 0"),
        ("objective=gan", "unknown variant `gan`"),
        ("critic_steps=0", "critic_steps must be at least 1"),
        ("penalty=0", "penalty must be above 0"),
        ("model.latent=0", "model.latent must be at least 1"),
        ("device=tpu", "device must be auto, cpu, cuda or wgpu"),
        ("precision=f16", "unknown variant `f16`"),
        ("precision=tf32", "precision must be auto, f32 or bf16"),
        ("data=", "data must be the name of a data set or a path"),
        ("preset=vae-mnist", "the preset is chosen by the first argument"),
        ("network=vae", "the network is chosen by the first argument"),
        ("model.height=0", "model.height must be at least 1"),
    ] {
        let message = refused("gan-mnist", assignment);
        assert!(message.starts_with(&format!("--set {assignment}: ")) && message.contains(part), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
    assert!(refused("gated-pixelcnn-mnist", "model.kernel=4").contains("model.kernel must be odd"));
    assert!(refused("gated-pixelcnn-mnist", "model.kernel=65").contains("model.kernel must be at most 63"));
}

#[test]
fn the_importance_weighted_bound_has_no_kl_term_to_change() {
    for (first, second, key) in [
        ("importance_samples=5", "beta=4", "beta"),
        ("importance_samples=5", "free_bits=0.1", "free_bits"),
        ("free_bits=0.1", "importance_samples=2", "free_bits"),
    ] {
        let mut config = preset("vae-mnist").unwrap();
        config.set(first).unwrap();
        let error = config.set(second).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let message = error.to_string();
        let begins = format!("--set {second}: {key} changes the KL term");
        assert!(message.starts_with(&begins) && message.ends_with("importance_samples to 1"), "{message}");
    }
    for assignment in ["importance_samples=0", "beta=-1", "free_bits=nan", "model.decoder=poisson", "model.deviation=0"]
    {
        refused("vae-mnist", assignment);
    }
    assert!(refused("autoencoder-mnist", "beta=2").contains("no key \"beta\""));
}

#[test]
fn fields_set_directly_are_validated() {
    let mut config = preset("vae-mnist").unwrap();
    config.batch = 0;
    let error = config.validate().unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("batch must be at least 1"));
    config.batch = 1;
    config.steps = Some(1);
    assert!(config.validate().unwrap_err().to_string().contains("exactly one of steps and epochs"));
}

#[test]
fn mistakes_in_a_file_name_the_file_and_the_line() {
    for (text, parts) in [
        ("preset = \"vae-mnist\"\n\n[optimizer]\nlearning = 1\n", ["line 4", "no key \"optimizer.learning\""]),
        ("preset = \"vae-mnist\"\nbatch = \"x\"\n", ["line 2", "batch takes a whole number, not \"x\""]),
        ("preset = \"vae-mnist\"\nbatch = [1]\n", ["line 2", "batch takes a whole number, not [1]"]),
        ("preset = \"vae-mnist\"\nbatch = 0\n", ["my.toml: ", "batch must be at least 1"]),
        ("preset = \"vae-mnist\"\nbinarize = \"maybe\"\n", ["line 2", "unknown variant `maybe`"]),
        ("preset = \"vae-mnist\"\nsteps = 1\nepochs = 1\n", ["line 3", "only one of steps and epochs"]),
        ("\npreset = \"vea-mnist\"\n", ["line 2", "did you mean vae-mnist?"]),
        ("preset = 3\n", ["line 1", "preset must be a text"]),
        ("preset = 3\nnetwork = \"vae\"\n", ["line 1", "preset must be a text"]),
        ("network = [1]\n", ["line 1", "network must be a text"]),
        ("batch = 3\nnetwork = \"vaee\"\n", ["line 2", "there is no network \"vaee\", did you mean vae?"]),
        ("network = \"vae\"\nobjective = \"wgan\"\n", ["line 2", "vae has no key \"objective\""]),
        ("preset = \"vae-mnist\"\nnetwork = \"dcgan\"\n", ["line 2", "the network of vae-mnist is vae, not dcgan"]),
        ("network = \"pixelcnn\"\nmodel.reduced = \"tiny\"\n", ["line 2", "unknown variant `tiny`"]),
        ("batch = 3\n", ["my.toml: ", "it has no preset and no network (one of pixelcnn"]),
        ("", ["my.toml: ", "it has no preset and no network"]),
        ("preset = \"vae-mnist\"\nbatch = = 3\n", ["line 2", "it is not valid TOML"]),
        ("preset = \"vae-mnist\"\nbatch = 3\nbatch = 4\n", ["line 3", "it is not valid TOML"]),
        ("preset = \"vae-mnist\"\noptimizer = 3\n", ["line 2", "no key \"optimizer\""]),
        ("preset = \"vae-mnist\"\n[[optimizer]]\nlr = 1\n", ["line 2", "no key \"optimizer\""]),
        ("preset = \"vae-mnist\"\nseed = 99999999999999999999\n", ["line 2", "TOML"]),
    ] {
        let message = read(text).expect_err(text);
        assert!(parts.iter().all(|part| message.contains(part)), "{text}: {message}");
        assert!(message.starts_with("my.toml: ") && !message.contains('\n'), "{message}");
    }
}

#[test]
fn a_bottomless_file_is_refused() {
    let deep = format!("preset = \"vae-mnist\"\nbatch = {}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    assert!(read(&deep).is_err());
}
