//! Windowed sampling on the stand-in driver: what the plain way draws there, and what the CPU draws.

use crate::stand_in::StandIn;
use pixtape::backend::{self, Backend};
use pixtape::config::{PRESETS, preset};
use pixtape::models::{Family, Model};
use pixtape::sampling::{Draw, Sampler};

/// A small network of a preset with weights that are large enough for draws to depend on what was drawn before; `None`
/// where the preset is not autoregressive.
fn model(name: &str) -> Option<Model> {
    let mut config = preset(name).unwrap();
    let Family::Autoregressive(_) = Model::new(&config).unwrap().family else { return None };
    for setting in ["model.height=6", "model.width=5", "model.hidden=6", "model.head=12"] {
        config.set(setting).unwrap();
    }
    Some(Model::new(&config).unwrap())
}

fn write(model: &Model, backend: &mut dyn Backend) {
    for spec in model.set.specs() {
        let values: Vec<f32> = spec.initial(3).iter().map(|v| 1.5 * v).collect();
        backend.write_param(spec.param.id, &values).unwrap();
    }
}

#[test]
fn windows_draw_what_the_plain_way_and_the_cpu_draw() {
    let mut models = 0;
    // Those that are given a reduced image draw through the same windows.
    let given = |name: &str| name.starts_with("colorize") || name.starts_with("superres");
    for (name, ..) in PRESETS.iter().filter(|(name, ..)| !given(name)) {
        let (Some(model), Some(mut cuda)) = (model(name), StandIn::backend()) else { continue };
        let (how, n) = (Draw { seed: 5, ..Draw::default() }, 4);
        let mut cpu = backend::open("cpu", 2).unwrap();
        write(&model, &mut cuda);
        write(&model, &mut *cpu);
        let windows = Sampler::new(&mut cuda, &model, 3).unwrap().draw(&mut cuda, n, how).unwrap();
        let plain = Sampler::naive(&mut cuda, &model, 3).unwrap().draw(&mut cuda, n, how).unwrap();
        assert_eq!(windows, plain, "{name}: windows and the plain way");
        let there = Sampler::new(&mut *cpu, &model, 3).unwrap().draw(&mut *cpu, n, how).unwrap();
        assert_eq!(windows, there, "{name}: CUDA and CPU");
        let len = windows.len() / n;
        assert_ne!(windows[..len], windows[len..2 * len], "{name}: every image is the same");
        models += 1;
    }
    assert!(models >= 5 || StandIn::backend().is_none(), "{models} models were sampled");
}
