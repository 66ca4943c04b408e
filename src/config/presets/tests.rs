//! Tests of the presets as a list: names, networks, keys and defaults.

use super::*;

#[test]
fn every_preset_is_valid_and_has_its_own_name() {
    for Preset { name, description, .. } in PRESETS {
        let config = preset(name).unwrap();
        assert_eq!((config.preset.as_deref(), config.name()), (Some(*name), *name));
        config.validate().unwrap();
        assert!(!description.is_empty());
    }
}

#[test]
fn a_network_is_its_first_preset_without_the_name() {
    for kind in NetworkKind::ALL {
        let config = named(kind.name()).unwrap();
        assert_eq!((config.network, &config.preset, config.name()), (kind, &None, kind.name()));
        assert_eq!(config, default_of(kind));
    }
    assert_eq!(named("dcgan").unwrap(), Config { preset: None, ..preset("gan-mnist").unwrap() });
    assert_eq!(named("lstm-pendulum").unwrap(), preset("lstm-pendulum").unwrap());
}

#[test]
fn presets_of_a_network_have_the_same_keys() {
    for Preset { name, .. } in PRESETS {
        let config = preset(name).unwrap();
        let of_network = Config { preset: Some(String::new()), ..default_of(config.network) };
        assert!(config.known_keys().keys().eq(of_network.known_keys().keys()), "{name}");
    }
}

#[test]
fn the_defaults_are_those_of_the_reference_workloads() {
    let of = |name| preset(name).unwrap();
    let facts = |c: &Config| (c.data.clone(), c.binarize, c.batch, c.optimizer.lr, c.optimizer.beta1);
    let binarized = |batch| ("binarized-mnist".to_string(), Binarize::Static, batch, 1e-3, 0.9);
    assert_eq!(facts(&of("pixelcnn-mnist")), binarized(64));
    assert_eq!(facts(&of("pixelcnn-cifar")), ("cifar-10".to_string(), Binarize::None, 16, 1e-3, 0.9));
    assert_eq!(facts(&of("gated-pixelcnn-mnist")), binarized(64));
    for (mnist, cifar) in [("row-lstm-mnist", "row-lstm-cifar"), ("diagonal-bilstm-mnist", "diagonal-bilstm-cifar")] {
        assert_eq!(facts(&of(mnist)), binarized(64));
        assert_eq!(facts(&of(cifar)), facts(&of("pixelcnn-cifar")));
    }
    assert_eq!(facts(&of("superres-mnist")), binarized(64));
    for name in ["colorize-cifar", "superres-cifar"] {
        assert_eq!(facts(&of(name)), ("cifar-10".to_string(), Binarize::None, 16, 1e-3, 0.9));
    }
    assert_eq!(facts(&of("vae-mnist")), binarized(128));
    assert_eq!(facts(&of("vae-mlp-mnist")), binarized(128));
    assert_eq!(facts(&of("autoencoder-mnist")), ("mnist".to_string(), Binarize::None, 128, 1e-3, 0.9));
    assert_eq!(facts(&of("gan-mnist")), ("mnist".to_string(), Binarize::None, 64, 2e-4, 0.5));
    assert_eq!(facts(&of("dcgan-cifar")), ("cifar-10".to_string(), Binarize::None, 64, 2e-4, 0.5));
}

#[test]
fn an_unknown_preset_names_the_nearest_and_the_list() {
    let error = preset("pixelcn-mnist").unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let message = error.to_string();
    assert!(message.contains("did you mean pixelcnn-mnist?"), "{message}");
    assert!(message.contains("`pixtape train --help` lists all"), "{message}");
    let message = named("pixelcn").unwrap_err().to_string();
    assert!(message.contains("no preset or network \"pixelcn\", did you mean pixelcnn?"), "{message}");
    assert!(NetworkKind::ALL.iter().all(|network| message.contains(network.name())), "{message}");
}
