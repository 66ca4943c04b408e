//! Depth-first plans: what is divided, that neither the size of a micro-batch nor the number of threads
//! changes a bit, and that traces, profiles and the search for values that are not finite go by the plan's
//! steps.

use pixtape::backend::cpu::{Cpu, Options};
use pixtape::backend::{Backend, Compiled, Feed, Scalars};
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
        // Sums over fewer than 16 channels would stay in f32.
        config("pixelcnn-mnist", &["model.hidden=16", "model.blocks=1", "model.head=16", "batch=32", "precision=bf16"]),
        config("vae-mnist", &["batch=16", "precision=bf16"]),
    ]
}

/// The parameters after three steps of training, as bits.
fn trained(config: &Config, threads: usize, microbatch_bytes: usize) -> Vec<u32> {
    let model = Model::new(config).unwrap();
    let images = Arc::new(data::open("glyphs", Split::Train, None).unwrap());
    let batches = Batches::new(images, model.batch_options(Order::Shuffled)).unwrap();
    let mut batches = Loader::new(batches).unwrap();
    let policy = Policy { microbatch_bytes, ..Policy::default() };
    let device =
        Cpu::new(Options { threads, policy, poison: true, emulates_bf16: true, ..Options::default() }).unwrap();
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

const IMAGES: usize = 32;
const IMAGE: usize = 12 * 12 * 3;

/// A network of three convolutions whose loss, activations and gradients of activations are outputs, on a
/// device with its weights.
struct Network {
    plan: Plan,
    cpu: Cpu,
    compiled: Compiled,
    images: Vec<f32>,
}

impl Network {
    fn new(options: Options) -> Network {
        let mut set = ParamSet::new();
        let weight = |set: &mut ParamSet, name: &str, shape: [usize; 4]| {
            set.weight(name, shape, Init::Normal(0.0, 0.2), Layout::Conv)
        };
        let t = Tape::new();
        let mut v = t.input("x", Meta::f32([IMAGES, 12, 12, 3]));
        let mut all = vec![];
        for (name, shape) in [("a", [3, 3, 3, 8]), ("b", [3, 3, 8, 8]), ("c", [1, 1, 8, 5])] {
            let w = t.param(&weight(&mut set, name, shape));
            v = t.tanh(t.conv(v, w, ConvAttrs { pad: [shape[0] / 2; 2], ..ConvAttrs::default() }));
            all.push(v);
        }
        let loss = t.mean(t.mul(v, v));
        all.extend(t.grad(loss, &all));
        all.iter().enumerate().for_each(|(i, v)| t.output(&format!("v{i}"), *v));
        t.output("loss", loss);
        let plan = Plan::new("network", &t);
        let is_divided = Divided::new(&plan, &options.policy).to_string().contains("images at a time");
        assert_eq!(is_divided, options.policy.most_groups > 1, "{plan}");
        let mut cpu = Cpu::new(options).unwrap();
        for spec in set.specs() {
            cpu.write_param(spec.param.id, &spec.initial(1)).unwrap();
        }
        let compiled = cpu.compile(&plan).unwrap();
        let images = (0..IMAGES * IMAGE).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
        Network { plan, cpu, compiled, images }
    }

    /// The activations and their gradients, as bits.
    fn activations(mut self) -> Vec<Vec<u32>> {
        self.cpu.run(self.compiled, &[Feed::F32(&self.images)], &Scalars::default()).unwrap();
        let outputs = self.plan.outputs().iter().enumerate().filter(|(_, (name, _))| name != "loss");
        let bits = outputs.map(|(i, (_, operand))| {
            let mut words = vec![0; operand.meta().shape.len()];
            self.cpu.read_words(self.compiled, i, &mut words).unwrap();
            words
        });
        bits.collect()
    }
}

const UNDIVIDED: Policy = Policy { microbatch_bytes: 0, most_groups: 0, always: false };

fn options(policy: Policy) -> Options {
    Options { threads: 2, policy, ..Options::default() }
}

#[test]
fn activations_have_the_bits_of_the_undivided_plan() {
    let undivided = Network::new(options(UNDIVIDED)).activations();
    for microbatch_bytes in [0, 1 << 14, usize::MAX] {
        let policy = Policy { microbatch_bytes, ..Policy::default() };
        assert!(Network::new(options(policy)).activations() == undivided, "micro-batches of {microbatch_bytes} bytes");
    }
}

#[test]
fn a_trace_has_the_ranges_of_the_undivided_plan() {
    let trace = |policy| {
        let Network { mut cpu, compiled, images, .. } = Network::new(options(policy));
        cpu.trace(compiled, &[Feed::F32(&images)], &Scalars::default()).unwrap()
    };
    let (whole, divided) = (trace(UNDIVIDED), trace(Policy::default()));
    assert_eq!(whole.len(), divided.len());
    for (whole, divided) in whole.iter().zip(&divided) {
        assert_eq!((whole.step, &whole.label, &whole.output), (divided.step, &divided.label, &divided.output));
        // Sums over the batch have another order.
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-4 * a.abs().max(b.abs()) + 1e-9;
        let same = close(whole.min.into(), divided.min.into())
            && close(whole.max.into(), divided.max.into())
            && close(whole.mean, divided.mean)
            && whole.nans == divided.nans;
        assert!(same, "{whole}\n{divided}");
    }
}

#[test]
fn a_value_that_is_not_finite_is_found_at_the_same_place() {
    let found = |policy| {
        let mut network = Network::new(Options { check_finite: true, ..options(policy) });
        network.images[21 * IMAGE + 100] = f32::NAN;
        let Network { mut cpu, compiled, images, .. } = network;
        cpu.run(compiled, &[Feed::F32(&images)], &Scalars::default()).unwrap_err().to_string()
    };
    let whole = found(UNDIVIDED);
    assert!(whole.contains("conv") && whole.contains("wrote NaN at element "), "{whole}");
    assert_eq!(found(Policy::default()), whole);
}

#[test]
fn a_profile_has_a_time_for_every_step() {
    let Network { plan, mut cpu, compiled, images } = Network::new(options(Policy::default()));
    let times = cpu.profile(compiled, &[Feed::F32(&images)], &Scalars::default()).unwrap();
    assert_eq!(times.len(), plan.steps().len());
    for (time, step) in times.iter().zip(plan.steps()) {
        assert!(time.label == step.label() && time.ms > 0.0, "{} took {} ms\n{plan}", time.label, time.ms);
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
