//! Windowed sampling draws the same images as naive sampling, for every autoregressive model.
//!
//! Naive sampling replays the whole plan once per position. Both run on the CPU backend with poisoned slots.
//! The networks are the presets at small sizes and some with ops that no preset has.

use pixtape::backend::cpu::{Cpu, Options};
use pixtape::backend::{self, Backend, Compiled, Feed, Scalars};
use pixtape::config::{PRESETS, preset};
use pixtape::models::{Family, Model, TEMPERATURE};
use pixtape::nn::{Init, Layout, ParamSet};
use pixtape::rng::{self, Stream};
use pixtape::shape::{Meta, Shape};
use pixtape::tape::geometry::Mask;
use pixtape::tape::op::{Dist, Scalar};
use pixtape::tape::plan::Plan;
use pixtape::tape::record::ConvAttrs;
use pixtape::tape::window::SamplingPlan;
use pixtape::tape::{InputRole, InputSpec, Tape, Var};

fn cpu() -> Cpu {
    // Poisoned slots reveal a position that is read before it is computed.
    Cpu::new(Options { threads: 2, poison: true, ..Options::default() }).unwrap()
}

fn scalars(seed: u32, temperature: f32) -> Scalars {
    let mut scalars = Scalars::default();
    scalars.set_u32(Scalar::SEED, seed).set_u32(Scalar::FIRST_IMAGE, 40).set(TEMPERATURE, temperature);
    scalars
}

/// The feeds of a plan: images and, if the plan has such inputs, a class per image and floats that differ
/// between images.
struct PlanFeeds<'a> {
    plan: &'a Plan,
    x: &'a [f32],
    labels: Vec<u32>,
    floats: Vec<f32>,
}

impl<'a> PlanFeeds<'a> {
    fn new(plan: &'a Plan, x: &'a [f32]) -> Self {
        assert_eq!(plan.inputs()[0].role, Some(InputRole::Images));
        let images = plan.inputs()[0].meta.shape.dims()[0] as u32;
        let most = plan.inputs().iter().map(|input| input.meta.shape.len()).max().unwrap_or(0);
        let floats = (0..most).map(|i| rng::uniform(2, Stream::Test, [0, i as u32])).collect();
        PlanFeeds { plan, x, labels: (0..images).map(|i| (3 * i + 1) % 10).collect(), floats }
    }

    fn feeds(&self) -> Vec<Feed<'_>> {
        let feed = |input: &InputSpec| match input.role {
            Some(InputRole::Images) => Feed::F32(self.x),
            Some(InputRole::Labels) => Feed::U32(&self.labels),
            Some(InputRole::Reduced) | None => Feed::F32(&self.floats[..input.meta.shape.len()]),
        };
        self.plan.inputs().iter().map(feed).collect()
    }
}

/// Naive sampling: one replay of the whole plan per position.
fn naive(cpu: &mut Cpu, plan: &Plan, given: &[f32], from: usize, scalars: &Scalars) -> Vec<f32> {
    let compiled = cpu.compile(plan).unwrap();
    let (mut x, mut draws) = (given.to_vec(), vec![0.0; given.len()]);
    let len = given.len() / plan.inputs()[0].meta.shape.dims()[0];
    for position in from..len {
        cpu.run(compiled, &PlanFeeds::new(plan, &x).feeds(), scalars).unwrap();
        backend::read(cpu, compiled, plan.output("draw"), &mut draws).unwrap();
        for at in (position..x.len()).step_by(len) {
            x[at] = draws[at];
        }
    }
    x
}

fn windowed(cpu: &mut Cpu, plan: &SamplingPlan, given: &[f32], from: usize, scalars: &Scalars) -> Vec<f32> {
    let compiled: Compiled = cpu.compile_sampling(plan).unwrap().expect("the CPU samples by windows");
    let mut x = vec![0.0; given.len()];
    cpu.sample(compiled, &PlanFeeds::new(plan.plan(), given).feeds(), from, scalars, &|_| {}).unwrap();
    backend::read(cpu, compiled, SamplingPlan::IMAGES, &mut x).unwrap();
    x
}

/// The plan of a preset with other settings, and random weights that are large enough for draws to depend on
/// earlier draws. `None` if the model is not autoregressive.
fn plan(name: &str, settings: &[String], batch: usize, cpu: &mut Cpu) -> Option<Plan> {
    let mut config = preset(name).unwrap();
    settings.iter().for_each(|setting| config.set(setting).unwrap());
    let model = Model::new(&config).unwrap();
    let Family::Autoregressive(net) = &model.family else { return None };
    for spec in model.set.specs() {
        let values: Vec<f32> = spec.initial(3).iter().map(|v| 1.5 * v).collect();
        cpu.write_param(spec.param.id, &values).unwrap();
    }
    Some(net.draw(batch))
}

fn sized(side: usize) -> Vec<String> {
    vec![format!("model.height={side}"), format!("model.width={side}")]
}

/// Draws both ways and compares the images. If the plan has logits, it compares these bit by bit too.
#[track_caller]
fn same_draws(what: &str, cpu: &mut Cpu, plan: &Plan, given: &[f32], from: usize) {
    let how = scalars(7, 1.0);
    let sampling = SamplingPlan::new(plan).unwrap();
    let want = naive(cpu, plan, given, from, &how);
    let got = windowed(cpu, &sampling, given, from, &how);
    if plan.outputs().iter().any(|(name, _)| name == "logits") {
        // Compares the logits of the whole plan on the finished images with those that the windows have left
        // in their slot.
        let [whole, windows] = [cpu.compile(plan).unwrap(), cpu.compile_sampling(&sampling).unwrap().unwrap()];
        cpu.run(whole, &PlanFeeds::new(plan, &want).feeds(), &how).unwrap();
        cpu.sample(windows, &PlanFeeds::new(plan, given).feeds(), from, &how, &|_| {}).unwrap();
        let [mut a, mut b] = [vec![f32::NAN; want.len()], vec![0.0; want.len()]];
        backend::read(cpu, whole, plan.output("logits"), &mut a).unwrap();
        backend::read(cpu, windows, sampling.plan().output("logits"), &mut b).unwrap();
        assert_eq!(a, b, "{what}");
    }
    let differ = want.iter().zip(&got).filter(|(a, b)| a != b).count();
    assert_eq!(differ, 0, "{what}: {differ} of {} draws differ", want.len());
    let len = want.len() / sampling.images();
    assert_ne!(want[..len], want[len..2 * len], "{what}: every image is the same");
}

fn autoregressive() -> Vec<&'static str> {
    let is = |name: &&str| plan(name, &[], 1, &mut cpu()).is_some();
    PRESETS.iter().map(|preset| preset.name).filter(is).collect()
}

#[test]
fn windows_draw_what_the_plain_way_draws() {
    let names = autoregressive();
    assert!(names.contains(&"pixelcnn-mnist") && names.contains(&"pixelcnn-cifar"), "{names:?}");
    for name in names {
        let mut cpu = cpu();
        let plan = plan(name, &sized(8), 3, &mut cpu).unwrap();
        let given = vec![0.0; plan.inputs()[0].meta.shape.len()];
        same_draws(name, &mut cpu, &plan, &given, 0);
    }
}

#[test]
fn whole_digits_are_the_same_too() {
    for name in autoregressive() {
        let mut cpu = cpu();
        let config = preset(name).unwrap();
        if config.model.colours != Some(1) {
            continue;
        }
        // The networks are narrow, because naive sampling replays the whole plan 784 times.
        let settings = [sized(28), vec!["model.hidden=8".into(), "model.head=8".into()]].concat();
        let plan = plan(name, &settings, 3, &mut cpu).unwrap();
        let given = vec![0.0; plan.inputs()[0].meta.shape.len()];
        same_draws(name, &mut cpu, &plan, &given, 0);
    }
}

#[test]
fn one_image_and_images_that_are_not_square() {
    for (name, batch) in autoregressive().into_iter().flat_map(|name| [(name, 1), (name, 2), (name, 20)]) {
        let mut cpu = cpu();
        let size = vec!["model.height=3".into(), "model.width=5".into()];
        let plan = plan(name, &size, batch, &mut cpu).unwrap();
        let given = vec![0.0; plan.inputs()[0].meta.shape.len()];
        let (sampling, how) = (SamplingPlan::new(&plan).unwrap(), scalars(1, 0.7));
        let want = naive(&mut cpu, &plan, &given, 0, &how);
        assert_eq!(windowed(&mut cpu, &sampling, &given, 0, &how), want, "{name}, batch of {batch}");
    }
}

#[test]
fn classes_and_wider_kernels_are_drawn_in_windows_too() {
    let networks = [
        ("gated-pixelcnn-mnist", vec!["model.kernel=5".into()]),
        ("row-lstm-mnist", vec![]),
        ("diagonal-bilstm-cifar", vec!["model.height=9".into()]),
    ];
    for ((name, more), batch) in networks.iter().flat_map(|network| [(network, 1), (network, 3)]) {
        let settings = [sized(8), vec!["model.classes=10".into()], more.clone()].concat();
        let mut cpu = cpu();
        let plan = plan(name, &settings, batch, &mut cpu).unwrap();
        let given = vec![0.0; plan.inputs()[0].meta.shape.len()];
        let (sampling, how) = (SamplingPlan::new(&plan).unwrap(), scalars(1, 1.0));
        let want = naive(&mut cpu, &plan, &given, 0, &how);
        assert_eq!(windowed(&mut cpu, &sampling, &given, 0, &how), want, "{name}, batch of {batch}");
    }
}

#[test]
fn a_given_beginning_stays_and_what_lies_behind_it_does_not_matter() {
    for name in autoregressive() {
        let mut cpu = cpu();
        let plan = plan(name, &sized(8), 3, &mut cpu).unwrap();
        let (len, from) = (plan.inputs()[0].meta.shape.len() / 3, 8 * 3 + 5);
        let given: Vec<f32> = (0..3 * len).map(|i| (i * 7 % 3 % 2) as f32).collect();
        same_draws(name, &mut cpu, &plan, &given, from);
        let sampling = SamplingPlan::new(&plan).unwrap();
        let drawn = windowed(&mut cpu, &sampling, &given, from, &scalars(7, 1.0));
        let mut other = given.clone();
        other.chunks_mut(len).for_each(|image| image[from..].fill(f32::NAN));
        assert_eq!(windowed(&mut cpu, &sampling, &other, from, &scalars(7, 1.0)), drawn, "{name}");
        assert!(drawn.chunks(len).zip(given.chunks(len)).all(|(a, b)| a[..from] == b[..from]), "{name}");
        assert_ne!(drawn, given, "{name}");
    }
}

/// A small PixelRNN of one layer: `x -> draw`.
fn recurrent(layer: &str, size: [usize; 3], batch: usize, cpu: &mut Cpu) -> Plan {
    let ([h, w, colours], t, mut set) = (size, Tape::new(), ParamSet::new());
    let d = 4 * colours;
    let mut conv = |name: &str, x: Var, kernel: usize, to: usize, mask: Mask, blocks: usize| {
        let shape = [kernel, kernel, t.shape(x).last(), to];
        let weight = set.weight(name, shape, Init::Uniform(0.7), Layout::Conv);
        t.conv(x, t.param(&weight), ConvAttrs { blocks, ..ConvAttrs::masked(mask, kernel, colours) })
    };
    let x = t.input_of(InputRole::Images, Meta::f32([batch, h, w, colours]));
    let y = conv("first", x, 3, d, Mask::A, 1);
    let z = [conv("z", y, 1, 4 * d, Mask::B, 4), conv("z_right", y, 1, 4 * d, Mask::B, 4)];
    let mut states = |name: &str, kernel: [usize; 2]| {
        let shape = [kernel[0], kernel[1], d, 4 * d];
        t.param(&set.weight(name, shape, Init::Uniform(0.5), Layout::Conv))
    };
    let y = match layer {
        "row" => t.row_lstm(z[0], states("row", [1, 3])),
        "diagonal" => t.diagonal_lstm(z[0], states("left", [2, 1]), false),
        _ => {
            let left = t.diagonal_lstm(z[0], states("left", [2, 1]), false);
            let right = t.diagonal_lstm(z[1], states("right", [2, 1]), true);
            t.add(left, t.shift_down(right))
        }
    };
    let head = set.weight("head", [1, 1, d, colours], Init::Uniform(3.0), Layout::Conv);
    let logits = t.conv(y, t.param(&head), ConvAttrs::masked(Mask::B, 1, colours));
    draw_bits(layer, &t, &set, logits, cpu)
}

/// Ends a plan with draws from `logits[n, h, w, c]`, and sets random weights.
fn draw_bits(name: &str, t: &Tape, set: &ParamSet, logits: Var, cpu: &mut Cpu) -> Plan {
    let u = t.random_by_image(Dist::Uniform, Stream::Pixel, t.shape(logits));
    t.output("logits", logits);
    t.output("draw", t.bernoulli(logits, u, t.scalar(TEMPERATURE)));
    for spec in set.specs() {
        cpu.write_param(spec.param.id, &spec.initial(5)).unwrap();
    }
    Plan::new(name, t)
}

/// A network of ops that no preset combines: a residual before an activation, rows times matrices,
/// elementwise functions of two values, a large kernel with few output channels, shifts down and right.
fn miscellany([h, w]: [usize; 2], batch: usize, cpu: &mut Cpu) -> Plan {
    let (t, mut set) = (Tape::new(), ParamSet::new());
    let mut weight = |name: &str, shape: [usize; 4]| {
        let shape: Vec<usize> = shape.into_iter().filter(|d| *d > 0).collect();
        t.param(&set.weight(name, Shape::new(&shape), Init::Uniform(0.5), Layout::Same))
    };
    let blocks = |blocks: usize| ConvAttrs { blocks, ..ConvAttrs::masked(Mask::B, 3, 1) };
    let x = t.input_of(InputRole::Images, Meta::f32([batch, h, w, 1]));
    let y = t.conv(x, weight("first", [5, 5, 1, 16]), ConvAttrs::masked(Mask::A, 5, 1));
    let y = t.clamp(t.affine(t.add_bias(y, weight("bias", [16, 0, 0, 0])), 0.8, 0.1), -1.0, 1.0);
    let g = t.gated(t.conv(y, weight("gates", [3, 3, 16, 32]), blocks(2)));
    let rows = |v: Var| t.reshape(v, [batch * h * w, 16]);
    let m = t.matmul(rows(g), weight("m", [16, 16, 0, 0]), false, true);
    let m = t.tanh(t.add(t.matmul(m, weight("m2", [16, 16, 0, 0]), false, false), rows(y)));
    let m = t.reshape(m, [batch, h, w, 16]);
    let right = t.slice(t.pad(m, [0, 0, 1, 0], [0; 4]), [0; 4], [0, 0, 1, 0]);
    let z = t.div(t.sub(t.mul(m, y), t.shift_down(right)), t.affine(t.square(y), 1.0, 1.0));
    let logits = t.conv(z, weight("last", [5, 5, 16, 1]), ConvAttrs::masked(Mask::B, 5, 1));
    draw_bits("miscellany", &t, &set, logits, cpu)
}

#[test]
fn ops_that_no_preset_has() {
    for (size, batch) in [([6, 7], 3), ([9, 4], 17), ([1, 5], 2), ([5, 1], 2)] {
        let mut cpu = cpu();
        let plan = miscellany(size, batch, &mut cpu);
        let given = vec![0.0; plan.inputs()[0].meta.shape.len()];
        same_draws(&format!("{size:?}, {batch}"), &mut cpu, &plan, &given, 0);
    }
    let mut cpu = cpu();
    let plan = miscellany([6, 7], 1, &mut cpu);
    let (given, how) = (vec![0.0; 42], scalars(7, 1.0));
    let sampling = SamplingPlan::new(&plan).unwrap();
    assert_eq!(windowed(&mut cpu, &sampling, &given, 0, &how), naive(&mut cpu, &plan, &given, 0, &how));
}

#[test]
fn scans_go_on_from_where_they_were_left() {
    for layer in ["row", "diagonal", "both ways"] {
        for (size, batch) in [([6, 7, 1], 3), ([7, 5, 3], 3), ([1, 4, 2], 2), ([4, 1, 1], 2), ([5, 5, 3], 17)] {
            let mut cpu = cpu();
            let plan = recurrent(layer, size, batch, &mut cpu);
            let given = vec![0.0; plan.inputs()[0].meta.shape.len()];
            same_draws(&format!("{layer}, {size:?}, {batch}"), &mut cpu, &plan, &given, 0);
        }
    }
}

#[test]
fn weights_that_have_changed_are_packed_anew() {
    let mut cpu = cpu();
    let plan = plan("pixelcnn-mnist", &sized(8), 3, &mut cpu).unwrap();
    let (given, how) = (vec![0.0; plan.inputs()[0].meta.shape.len()], scalars(7, 1.0));
    let compiled = cpu.compile_sampling(&SamplingPlan::new(&plan).unwrap()).unwrap().unwrap();
    let draw = |cpu: &mut Cpu| {
        let mut x = vec![0.0; given.len()];
        cpu.sample(compiled, &[Feed::F32(&given)], 0, &how, &|_| {}).unwrap();
        backend::read(cpu, compiled, SamplingPlan::IMAGES, &mut x).unwrap();
        x
    };
    let before = draw(&mut cpu);
    for param in plan.params() {
        cpu.write_param(param.id, &vec![0.02; param.meta.shape.len()]).unwrap();
    }
    assert_ne!(draw(&mut cpu), before);
    let want = naive(&mut cpu, &plan, &given, 0, &how);
    assert_eq!(draw(&mut cpu), want);
}

#[test]
fn what_reads_the_whole_image_is_refused_with_a_sentence() {
    let t = Tape::new();
    let x = t.input_of(InputRole::Images, Meta::f32([3, 4, 5, 2]));
    let ones = t.fill(1.0, [2]);
    let logits = t.group_norm(x, ones, ones, 2, 1e-5);
    let u = t.random_by_image(Dist::Uniform, Stream::Pixel, t.shape(logits));
    t.output("draw", t.bernoulli(logits, u, t.scalar(TEMPERATURE)));
    let why = SamplingPlan::new(&Plan::new("grouped", &t)).unwrap_err().to_string();
    let told = why.starts_with("plan grouped cannot be sampled window by window: group_norm");
    assert!(told && why.ends_with("it reads the whole image"), "{why}");
}
