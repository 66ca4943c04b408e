//! Requirements of every autoregressive model.
//!
//! - `likelihoods`: the likelihood is a distribution.
//! - `causality`: no output depends on its own position or on a later one.

mod causality;
mod likelihoods;

use pixtape::config::{Config, PRESETS, preset};
use pixtape::models::{Autoregressive, Family, Model};

/// Sizes that make any network small and still give every colour channels of its own.
const SMALL: [(&str, usize); 4] = [("hidden", 6), ("blocks", 2), ("layers", 3), ("head", 6)];

/// Sets a size of the model if the preset has this key.
fn set(config: &mut Config, key: &str, value: usize) {
    let key = format!("model.{key}");
    if config.known_keys().contains_key(&key) {
        config.set(&format!("{key}={value}")).unwrap();
    }
}

/// Every autoregressive preset as a small model for images of this size and number of levels. A preset that
/// can be class-conditional appears twice: without classes, and with three classes and a wider kernel.
fn models([height, width, colours]: [usize; 3], levels: usize) -> Vec<Model> {
    let mut all = vec![];
    let is_autoregressive =
        |name: &&str| matches!(Model::new(&preset(name).unwrap()).unwrap().family, Family::Autoregressive(_));
    for name in PRESETS.iter().map(|preset| preset.name).filter(is_autoregressive) {
        let mut config = preset(name).unwrap();
        let is_conditional = config.model.classes.is_some();
        for (key, value) in SMALL {
            set(&mut config, key, value);
        }
        for (key, value) in [("height", height), ("width", width), ("colours", colours), ("levels", levels)] {
            set(&mut config, key, value);
        }
        for classes in if is_conditional { vec![0, 3] } else { vec![0] } {
            set(&mut config, "classes", classes);
            set(&mut config, "kernel", if classes > 0 { 5 } else { 3 });
            all.push(Model::new(&config).unwrap());
        }
    }
    assert!(all.len() >= 3, "there are only {} autoregressive models", all.len());
    all
}

fn network(model: &Model) -> &Autoregressive {
    let Family::Autoregressive(net) = &model.family else { panic!("{} is not autoregressive", model.config.name()) };
    net
}
