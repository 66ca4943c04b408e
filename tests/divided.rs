//! Depth-first plans of real models: what is divided, and that neither the size of a micro-batch nor the
//! number of threads changes a bit.

use pixtape::backend::cpu::{Cpu, Options};
use pixtape::backend::{Backend, Feed, Scalars, read};
use pixtape::config::{Config, PRESETS, preset};
use pixtape::data::{self, Batches, Loader, Order, Split};
use pixtape::models::Model;
use pixtape::nn::{Init, Layout, ParamSet};
use pixtape::shape::Meta;
use pixtape::tape::Tape;
use pixtape::tape::divide::{Divided, Policy};
use pixtape::tape::plan::Plan;
use pixtape::tape::record::ConvAttrs;
use pixtape::train::trainer::Trainer;
use std::sync::Arc;

fn config(name: &str, settings: &[&str]) -> Config {
    let mut config = preset(name).unwrap();
    settings.iter().for_each(|setting| config.set(setting).unwrap());
    config
}

/// Small models of every family that has convolutions. The groups of a batch of 48 have three images.
fn small() -> Vec<Config> {
    let pixelcnn = ["model.hidden=4", "model.blocks=2", "model.head=8", "batch=48"];
    vec![
        config("pixelcnn-mnist", &pixelcnn),
        config("gated-pixelcnn-mnist", &["model.hidden=4", "model.layers=3", "model.head=8", "batch=48"]),
        config("diagonal-bilstm-mnist", &["model.hidden=4", "model.layers=2", "model.head=8", "batch=48"]),
        config("vae-mnist", &["batch=48"]),
        config("gan-mnist", &["model.channels=4", "batch=32"]),
    ]
}

/// The parameters after three steps of training, as bits.
fn trained(config: &Config, threads: usize, microbatch_bytes: usize) -> Vec<u32> {
    let model = Model::new(config).unwrap();
    let images = Arc::new(data::open("glyphs", Split::Train, None).unwrap());
    let batches = Batches::new(images, model.batch_options(Order::Shuffled)).unwrap();
    let mut batches = Loader::new(batches).unwrap();
    let policy = Policy { microbatch_bytes, ..Policy::default() };
    let device = Cpu::new(Options { threads, policy, poison: true, ..Options::default() }).unwrap();
    let mut trainer = Trainer::new(model, Box::new(device), 3).unwrap();
    for _ in 0..3 {
        trainer.step(&mut batches).unwrap();
    }
    let checkpoint = trainer.checkpoint().unwrap();
    checkpoint.tensors.values().flat_map(|tensor| tensor.data.iter().map(|v| v.to_bits())).collect()
}

#[test]
fn neither_micro_batches_nor_threads_change_a_bit() {
    for config in small() {
        let name = config.network;
        let reference = trained(&config, 1, usize::MAX);
        for (threads, microbatch_bytes) in [(2, 0), (3, 1 << 16), (20, 1 << 19), (2, usize::MAX)] {
            let same = trained(&config, threads, microbatch_bytes) == reference;
            assert!(same, "{name}: {threads} threads with micro-batches of {microbatch_bytes} bytes give other bits");
        }
    }
}

/// A network of three convolutions whose activations and gradients of activations are outputs.
fn activations(policy: Policy) -> Vec<Vec<u32>> {
    const N: usize = 32;
    let mut set = ParamSet::new();
    let weight = |set: &mut ParamSet, name: &str, shape: [usize; 4]| {
        set.weight(name, shape, Init::Normal(0.0, 0.2), Layout::Conv)
    };
    let t = Tape::new();
    let x = t.input("x", Meta::f32([N, 12, 12, 3]));
    let mut v = x;
    let mut all = vec![];
    for (name, shape) in [("a", [3, 3, 3, 8]), ("b", [3, 3, 8, 8]), ("c", [1, 1, 8, 5])] {
        let w = t.param(&weight(&mut set, name, shape));
        v = t.tanh(t.conv(v, w, ConvAttrs { pad: [shape[0] / 2; 2], ..ConvAttrs::default() }));
        all.push(v);
    }
    let loss = t.mean(t.mul(v, v));
    let gradients = t.grad(loss, &all);
    all.extend(gradients);
    all.iter().enumerate().for_each(|(i, v)| t.output(&format!("v{i}"), *v));
    let plan = Plan::new("activations", &t);
    if policy.most_groups > 1 {
        let text = Divided::new(&plan, &policy).to_string();
        assert!(text.contains("images at a time"), "{plan}{text}");
    }
    let mut cpu = Cpu::new(Options { threads: 2, policy, ..Options::default() }).unwrap();
    for spec in set.specs() {
        cpu.write_param(spec.param.id, &spec.initial(1)).unwrap();
    }
    let compiled = cpu.compile(&plan).unwrap();
    let images: Vec<f32> = (0..N * 12 * 12 * 3).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
    cpu.run(compiled, &[Feed::F32(&images)], &Scalars::default()).unwrap();
    let read_bits = |(i, v): (usize, &pixtape::tape::Var)| {
        let mut values = vec![0.0; t.shape(*v).len()];
        read(&mut cpu, compiled, i, &mut values).unwrap();
        values.into_iter().map(f32::to_bits).collect()
    };
    all.iter().enumerate().map(read_bits).collect()
}

#[test]
fn activations_have_the_bits_of_the_undivided_plan() {
    let undivided = activations(Policy { most_groups: 0, ..Policy::default() });
    for microbatch_bytes in [0, 1 << 14, usize::MAX] {
        assert!(
            activations(Policy { microbatch_bytes, ..Policy::default() }) == undivided,
            "micro-batches of {microbatch_bytes} bytes"
        );
    }
}

/// A whole training step of `pixelcnn-mnist` is one stretch, and its memory does not grow with the batch.
#[test]
fn a_pixelcnn_needs_the_memory_of_a_few_images() {
    let bytes = [64, 512].map(|batch| {
        let plan = &Model::new(&config("pixelcnn-mnist", &[&format!("batch={batch}")])).unwrap().training()[0];
        let divided = Divided::new(plan, &Policy::default());
        let text = divided.to_string();
        assert_eq!(text.matches("images at a time: steps").count(), 1, "{text}");
        divided.bytes(2)
    });
    assert!(bytes[0] < 20 << 20 && bytes[1] <= bytes[0], "{bytes:?} bytes");
}

/// Every division of a training plan is sound, at the size of the preset.
#[test]
fn every_preset_can_be_divided() {
    for name in PRESETS.iter().map(|preset| preset.name) {
        for plan in Model::new(&preset(name).unwrap()).unwrap().training() {
            for policy in [Policy::default(), Policy { always: true, ..Policy::default() }] {
                let divided = Divided::new(&plan, &policy);
                divided.check(&plan).unwrap_or_else(|why| panic!("{name}, {}: {why}\n{divided}", plan.name()));
            }
        }
    }
}
