//! Windowed sampling draws what the plain way draws, in every autoregressive model.

use pixtape::backend::cpu::{Cpu, Options};
use pixtape::backend::{self, Backend, Compiled, Feed, Scalars};
use pixtape::config::{PRESETS, preset};
use pixtape::models::{Family, Model};
use pixtape::tape::op::Scalar;
use pixtape::tape::plan::Plan;
use pixtape::tape::window::SamplingPlan;

fn cpu() -> Cpu {
    // Poison shows a position that is read before it is computed.
    Cpu::new(Options { threads: 2, poison: true, ..Options::default() }).unwrap()
}

fn scalars(seed: u32, temperature: f32) -> Scalars {
    let mut scalars = Scalars::default();
    scalars.set_u32(Scalar::Seed, seed).set_u32(Scalar::FirstImage, 40).set(Scalar::Temperature, temperature);
    scalars
}

/// What a plan is fed: images, and the class of each where it asks for one.
struct Given<'a> {
    x: &'a [f32],
    labels: Vec<u32>,
}

impl<'a> Given<'a> {
    fn new(plan: &Plan, x: &'a [f32]) -> Self {
        assert_eq!(plan.inputs[0].name, "x");
        let images = plan.inputs[0].meta.shape.dims()[0] as u32;
        let labels = if plan.inputs.len() > 1 { (0..images).map(|i| (3 * i + 1) % 10).collect() } else { vec![] };
        Given { x, labels }
    }

    fn feeds(&self) -> Vec<Feed<'_>> {
        let labels = (!self.labels.is_empty()).then_some(Feed::U32(&self.labels));
        [Feed::F32(self.x)].into_iter().chain(labels).collect()
    }
}

/// The plain way: one replay of the whole plan for each position.
fn naive(cpu: &mut Cpu, plan: &Plan, given: &[f32], from: usize, scalars: &Scalars) -> Vec<f32> {
    let compiled = cpu.compile(plan).unwrap();
    let (mut x, mut draws) = (given.to_vec(), vec![0.0; given.len()]);
    let len = given.len() / plan.inputs[0].meta.shape.dims()[0];
    for position in from..len {
        cpu.run(compiled, &Given::new(plan, &x).feeds(), scalars).unwrap();
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
    cpu.sample(compiled, &Given::new(&plan.plan, given).feeds(), from, scalars, &|_| {}).unwrap();
    backend::read(cpu, compiled, SamplingPlan::IMAGES, &mut x).unwrap();
    x
}

/// A preset with other settings, and random weights that are large enough for draws to depend on what was drawn before.
/// `None` where the model is not autoregressive.
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

/// Draws both ways and compares.
#[track_caller]
fn same_draws(what: &str, cpu: &mut Cpu, plan: &Plan, given: &[f32], from: usize) {
    let how = scalars(7, 1.0);
    let sampling = SamplingPlan::new(plan).unwrap();
    let want = naive(cpu, plan, given, from, &how);
    let got = windowed(cpu, &sampling, given, from, &how);
    let differ = want.iter().zip(&got).filter(|(a, b)| a != b).count();
    assert_eq!(differ, 0, "{what}: {differ} of {} draws differ", want.len());
    let len = want.len() / sampling.images;
    assert_ne!(want[..len], want[len..2 * len], "{what}: every image is the same");
}

fn autoregressive() -> Vec<&'static str> {
    let is = |name: &&str| plan(name, &[], 1, &mut cpu()).is_some();
    PRESETS.iter().map(|(name, ..)| *name).filter(is).collect()
}

#[test]
fn windows_draw_what_the_plain_way_draws() {
    let names = autoregressive();
    assert!(names.contains(&"pixelcnn-mnist") && names.contains(&"pixelcnn-cifar"), "{names:?}");
    for name in names {
        let mut cpu = cpu();
        let plan = plan(name, &sized(8), 3, &mut cpu).unwrap();
        let given = vec![0.0; plan.inputs[0].meta.shape.len()];
        same_draws(name, &mut cpu, &plan, &given, 0);
    }
}
