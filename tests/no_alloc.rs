//! A replay of a compiled plan allocates no memory, and neither does sampling.
//!
//! The global allocator of this test program counts the allocations of all threads.

use pixtape::backend::cpu::{Cpu, Options};
use pixtape::backend::{Backend, Feed, Scalars};
use pixtape::config::preset;
use pixtape::models::{Family, Model};
use pixtape::nn::{Init, Layout, ParamSet};
use pixtape::optim::{LEARNING_RATE, STEP};
use pixtape::rng::Stream;
use pixtape::shape::Meta;
use pixtape::tape::divide::Policy;
use pixtape::tape::op::{Dist, Op, Param, Scalar};
use pixtape::tape::plan::Plan;
use pixtape::tape::record::ConvAttrs;
use pixtape::tape::window::SamplingPlan;
use pixtape::tape::{Tape, Var};
use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts allocations of all threads.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: both methods forward their arguments to `System`, which fulfils the contract of `GlobalAlloc`.
// Counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Memory) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller of `alloc` passes a layout of non-zero size, as `System.alloc` requires.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Memory) {
        // SAFETY: the caller of `dealloc` passes a block that `alloc` returned for this layout. `alloc` got
        // it from `System`, so `System.dealloc` may free it.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// One Adam step on every parameter.
fn adam(t: &Tape, set: &mut ParamSet, params: &[Param], loss: Var) {
    let vars: Vec<Var> = params.iter().map(|p| t.param(p)).collect();
    for ((p, v), g) in params.iter().zip(&vars).zip(t.grad(loss, &vars)) {
        let state = |slot: &str, set: &mut ParamSet| set.state(&format!("{slot}.{}", p.path), p.shape, Init::Fill(0.0));
        let (m, s) = (state("m", set), state("v", set));
        let inputs = [*v, g, t.param(&m), t.param(&s), t.scalar(LEARNING_RATE), t.scalar(STEP)];
        let new = t.record(Op::Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8 }, &inputs);
        t.store(p, new);
        t.store(&m, t.output_of(new, 1));
        t.store(&s, t.output_of(new, 2));
    }
}

/// This is one test, because the counter would also count the allocations of a test that runs in parallel.
#[test]
fn replays_and_sampling_allocate_nothing() {
    // The plan as it is, and divided wherever that is possible.
    for most_groups in [0, 4] {
        a_training_step_allocates_nothing(Policy { most_groups, always: true, ..Policy::default() });
    }
    sampling_by_windows_allocates_nothing();
}

fn a_training_step_allocates_nothing(policy: Policy) {
    let mut set = ParamSet::new();
    let normal = Init::Normal(0.0, 0.1);
    let conv = set.weight("conv.weight", [3, 3, 4, 32], normal, Layout::Conv);
    let (bias, gamma) = (
        set.weight("conv.bias", [32], Init::Fill(0.0), Layout::Same),
        set.weight("gamma", [32], Init::Fill(1.0), Layout::Same),
    );
    let beta = set.weight("beta", [32], Init::Fill(0.0), Layout::Same);
    let linear = set.weight("linear.weight", [32 * 64, 10], normal, Layout::Linear);
    let (up, w_hh) = (
        set.weight("up.weight", [10, 64], normal, Layout::Linear),
        set.weight("w_hh", [16, 64], normal, Layout::Linear),
    );
    let params = [conv.clone(), bias.clone(), gamma.clone(), beta.clone(), linear.clone(), up.clone(), w_hh.clone()];

    let t = Tape::new();
    let x = t.input("x", Meta::f32([16, 8, 8, 4]));
    let target = t.input("target", Meta::u32([16]));
    let noise = t.random(Dist::Normal, Stream::Latent, [16, 8, 8, 4]);
    let y = t.tanh(t.add_bias(t.conv(t.add(x, noise), t.param(&conv), ConvAttrs::new(1, 1)), t.param(&bias)));
    let [y, mean, _] = t.batch_norm(y, t.param(&gamma), t.param(&beta), 1e-5);
    let logits = t.matmul(t.reshape(t.relu(y), [16, 32 * 64]), t.param(&linear), false, false);
    let z = t.reshape(t.matmul(logits, t.param(&up), false, false), [4, 4, 64]);
    let zeros = t.fill(0.0, [4, 16]);
    let [h, _] = t.lstm(z, zeros, zeros, t.param(&w_hh));
    let loss = t.add(t.mean(t.softmax_cross_entropy(logits, target)), t.mean(t.square(h)));
    t.output("loss", loss);
    t.output("mean", mean);
    adam(&t, &mut set, &params, loss);
    let plan = Plan::new("step", &t);

    let mut cpu = Cpu::new(Options { threads: 2, poison: true, policy, ..Default::default() }).unwrap();
    for spec in set.specs() {
        cpu.write_param(spec.param.id, &spec.initial(1)).unwrap();
    }
    let compiled = cpu.compile(&plan).unwrap();
    let images: Vec<f32> = (0..16 * 64 * 4).map(|i| (i % 17) as f32 / 17.0).collect();
    let labels: Vec<u32> = (0..16).map(|i| i % 10).collect();
    let mut scalars = Scalars::default();
    let mut step = |cpu: &mut Cpu, i: u32| {
        scalars.set(LEARNING_RATE, 1e-2).set(STEP, i as f32).set_u32(Scalar::REPLAY, i);
        cpu.run(compiled, &[Feed::F32(&images), Feed::U32(&labels)], &scalars).unwrap();
        let mut loss = [0.0];
        pixtape::backend::read(cpu, compiled, 0, &mut loss).unwrap();
        loss[0]
    };
    let start = step(&mut cpu, 1);
    (2..5).for_each(|i| _ = step(&mut cpu, i));
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let end = (5..30).map(|i| step(&mut cpu, i)).last().unwrap();
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
    assert!(end < 0.5 * start, "the step does not learn: {start} -> {end}");
}

fn sampling_by_windows_allocates_nothing() {
    let mut config = preset("pixelcnn-cifar").unwrap();
    (config.model.height, config.model.width, config.model.hidden) = (Some(6), Some(6), Some(8));
    let model = Model::new(&config).unwrap();
    let Family::Autoregressive(net) = &model.family else { panic!("a PixelCNN is autoregressive") };
    let mut cpu = Cpu::new(Options { threads: 2, ..Default::default() }).unwrap();
    for spec in model.set.specs() {
        cpu.write_param(spec.param.id, &spec.initial(1)).unwrap();
    }
    let plan = SamplingPlan::new(&net.draw(5)).unwrap();
    let compiled = cpu.compile_sampling(&plan).unwrap().expect("the CPU samples by windows");
    let mut x = vec![0.0; 5 * 6 * 6 * 3];
    let mut draw = |cpu: &mut Cpu| {
        cpu.sample(compiled, &[Feed::F32(&x)], 0, &Scalars::default(), &|_| {}).unwrap();
        pixtape::backend::read(cpu, compiled, SamplingPlan::IMAGES, &mut x).unwrap();
    };
    (0..3).for_each(|_| draw(&mut cpu));
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    (0..3).for_each(|_| draw(&mut cpu));
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
}
