//! Benchmarks of training steps of the reference workloads: forward pass, backward pass and optimiser on
//! one batch.
//!
//! A `Workload` has the plans of a step and random inputs, a `Running` one is compiled on a device.
//! `time` measures whole steps, [`profile`] each launch of a step.

use super::Options;
use super::layers::{self, LayerStep};
use super::machine::Limits;
use super::report::Entry;
use super::timing::{Effort, PeakMemory, measure, stopwatch};
use crate::backend::{self, Backend, Compiled, Feed, Scalars, StepTime};
use crate::config::{Config, Objective, preset};
use crate::error::{Error, Result};
use crate::models::{CRITIC_STEP, Family, Model};
use crate::nn::ParamSet;
use crate::optim::{LEARNING_RATE, STEP};
use crate::report::text::text_table;
use crate::rng::{self, Stream};
use crate::tape::cost::{Cost, total};
use crate::tape::op::Scalar;
use crate::tape::plan::{Buffer, Plan};
use crate::train::parameters;
use serde::Serialize;
use std::collections::HashSet;

/// A layer that is a reference workload by itself.
struct Layer {
    name: &'static str,
    /// Records a training step with the optimiser of a configuration.
    step: fn(&Config) -> LayerStep,
    /// What the layer reads.
    pixels: Pixels,
}

/// The values of every input of every plan of one step.
type StepInputs = Vec<Vec<Vec<f32>>>;

/// The presets that are reference workloads.
const FROM_PRESETS: [&str; 6] =
    ["pixelcnn-mnist", "pixelcnn-cifar", "gated-pixelcnn-mnist", "vae-mnist", "vae-mlp-mnist", "dcgan-cifar"];
const LAYERS: [Layer; 3] = [
    Layer { name: "row-lstm-layer", step: layers::row_lstm, pixels: Pixels::Symmetric },
    Layer { name: "diagonal-bilstm-layer", step: layers::diagonal_bilstm, pixels: Pixels::Symmetric },
    Layer { name: "lstm-784", step: layers::lstm, pixels: Pixels::Binary },
];
const WGAN_GP: &str = "wgan-gp-critic";

/// Number of replays when a step is profiled.
const PROFILED: usize = 20;

/// Number of batches that are used in turn, so that no run finds its images in a cache.
const BATCHES: usize = 4;

/// The workloads of this version, in the order in which they are timed.
pub fn names() -> Vec<String> {
    let layers = LAYERS.iter().map(|layer| &layer.name);
    FROM_PRESETS.iter().chain(layers).chain(&[WGAN_GP]).map(|name| name.to_string()).collect()
}

/// The plans of a step, and the parameters that they share.
struct Workload {
    set: ParamSet,
    plans: Vec<Plan>,
    images: usize,
    /// The kind of values that its inputs are filled with.
    pixels: Pixels,
}

/// The kind of values that inputs are filled with.
#[derive(Clone, Copy)]
enum Pixels {
    /// 1 with probability 0.3, else 0.
    Binary,
    /// Uniform in [0, 1).
    Unit,
    /// Uniform in [-1, 1).
    Symmetric,
}

impl Workload {
    fn new(name: &str) -> Result<Workload> {
        if let Some(layer) = LAYERS.iter().find(|layer| layer.name == name) {
            let LayerStep { set, plan } = (layer.step)(&preset(FROM_PRESETS[0])?);
            return Ok(Workload { set, plans: vec![plan], images: layers::IMAGES, pixels: layer.pixels });
        }
        if name == WGAN_GP {
            let mut config = preset("dcgan-cifar")?;
            config.objective = Some(Objective::WganGp);
            (config.optimizer.beta1, config.optimizer.beta2) = (0.0, 0.9);
            let model = Model::new(&config)?;
            let Family::Adversarial(gan) = &model.family else {
                return Err(Error::Failed(format!("{name} needs an adversarial network")));
            };
            let plans = vec![gan.critic_on_given(config.batch)];
            return Ok(Workload { set: model.set, plans, images: config.batch, pixels: Pixels::Symmetric });
        }
        let config = preset(name)?;
        let model = Model::new(&config)?;
        let pixels = match &model.family {
            Family::Adversarial(_) => Pixels::Symmetric,
            Family::Autoregressive(net) if net.pixels().levels > 2 => Pixels::Unit,
            Family::Sequence(_) => Pixels::Unit,
            Family::Autoregressive(_) | Family::Latent(_) => Pixels::Binary,
        };
        Ok(Workload { plans: model.training(), set: model.set, images: config.batch, pixels })
    }

    /// The batches that are used in turn.
    fn batches(&self) -> Vec<StepInputs> {
        let mut next = 0;
        let mut draw = |len: usize| {
            next += 1;
            let value = |i| match (self.pixels, rng::uniform(1, Stream::Test, [next, i])) {
                (Pixels::Binary, u) => f32::from(u < 0.3),
                (Pixels::Unit, u) => u,
                (Pixels::Symmetric, u) => 2.0 * u - 1.0,
            };
            (0..len as u32).map(value).collect()
        };
        let mut plan = |plan: &Plan| plan.inputs.iter().map(|i| draw(i.meta.shape.len())).collect();
        (0..BATCHES).map(|_| self.plans.iter().map(&mut plan).collect()).collect()
    }
}

/// A workload that is compiled on a device.
struct Running {
    device: Box<dyn Backend>,
    workload: Workload,
    compiled: Vec<Compiled>,
    batches: Vec<StepInputs>,
}

impl Running {
    fn new(name: &str, options: &Options) -> Result<Running> {
        let mut device = backend::open(&options.device, options.threads)?;
        let workload = Workload::new(name)?;
        parameters::initialize(&mut *device, &workload.set, 1)?;
        let compiled = workload.plans.iter().map(|p| device.compile(p)).collect::<Result<_>>()?;
        Ok(Running { batches: workload.batches(), device, workload, compiled })
    }

    /// Calls `act` for each plan of step number `step`.
    fn step(
        &mut self,
        step: usize,
        mut act: impl FnMut(&mut dyn Backend, usize, Compiled, &[Feed], &Scalars) -> Result<()>,
    ) -> Result<()> {
        let mut scalars = Scalars::default();
        scalars
            .set(LEARNING_RATE, 1e-4)
            .set(STEP, (step + 1) as f32)
            .set(CRITIC_STEP, (step + 1) as f32)
            .set_u32(Scalar::REPLAY, step as u32);
        for (index, (plan, inputs)) in self.compiled.iter().zip(&self.batches[step % BATCHES]).enumerate() {
            let feeds: Vec<Feed> = inputs.iter().map(|values| Feed::F32(values)).collect();
            act(&mut *self.device, index, *plan, &feeds, &scalars)?;
        }
        Ok(())
    }

    /// Waits for the device and reads the loss of the last step.
    fn loss(&mut self) -> Result<f32> {
        let last = *self.compiled.last().expect("a step has a plan");
        let mut loss = [f32::NAN];
        backend::read(&mut *self.device, last, 0, &mut loss)?;
        Ok(loss[0])
    }
}

/// Times one workload.
pub(super) fn time(name: &str, options: &Options, limits: &Limits) -> Result<Entry> {
    let peak = PeakMemory::watch();
    let mut running = Running::new(name, options)?;
    let mut loss = f32::NAN;
    let times = measure(Effort::STEP, |step| {
        stopwatch(|| {
            running.step(step, |device, _, plan, feeds, scalars| device.run(plan, feeds, scalars))?;
            loss = running.loss()?;
            Ok(())
        })
    })?;
    let Running { mut device, workload, .. } = running;
    validate(name, &workload, &mut *device, loss)?;
    let cost: Cost = workload.plans.iter().map(total).sum();
    let shape = workload.plans[0].inputs.iter().map(|i| i.meta.shape.to_string()).collect::<Vec<_>>().join(" ");
    // Memory of a graphics card does not count as memory of the process.
    let on_host = peak.bytes().filter(|_| device.describe().kind == "cpu");
    let peak_bytes = on_host.unwrap_or(device.memory_bytes() as u64);
    Ok(Entry { peak_bytes, ..Entry::new(name, "step", shape, &times, cost, limits).images(workload.images) })
}

/// One launch of a step, with its shortest time in several replays.
#[derive(Clone, Debug, Serialize)]
pub struct Launch {
    /// The layer; `'` marks a part of a gradient.
    pub scope: String,
    /// The op with its attributes and epilogue.
    pub label: String,
    /// Milliseconds.
    pub ms: f64,
    /// The lower bound of the machine in milliseconds.
    pub floor_ms: f64,
}

/// Measures each launch of one step, in the order in which they run.
///
/// # Errors
/// [`Error::Usage`] for an unknown workload, and whatever the device reports.
pub fn profile(name: &str, options: &Options) -> Result<Vec<Launch>> {
    super::select(&names(), &[name.to_string()])?;
    let mut running = Running::new(name, options)?;
    let limits = Limits::measure(running.device.describe().threads);
    let mut launches: Vec<Vec<Launch>> = vec![vec![]; running.compiled.len()];
    for step in 0..PROFILED {
        running.step(step, |device, index, plan, feeds, scalars| {
            let times = device.profile(plan, feeds, scalars)?;
            let launch = |t: StepTime| {
                let StepTime { scope, label, ms, cost, .. } = t;
                Launch { scope, label, ms, floor_ms: limits.floor_ms(cost) }
            };
            if launches[index].is_empty() {
                launches[index] = times.into_iter().map(launch).collect();
            } else {
                launches[index].iter_mut().zip(times).for_each(|(l, t)| l.ms = l.ms.min(t.ms));
            }
            Ok(())
        })?;
    }
    Ok(launches.into_iter().flatten().collect())
}

/// Formats the launches as a table. Launches that take less than 0.2 % of the time are summed in one
/// line.
pub fn profile_table(launches: &[Launch]) -> String {
    let total: f64 = launches.iter().map(|l| l.ms).sum();
    let row = |scope: &str, label: &str, ms: f64, floor: f64| {
        let cells = [format!("{ms:.3}"), format!("{:.1}", 100.0 * ms / total), format!("{floor:.3}")];
        [scope.to_string(), label.to_string()].into_iter().chain(cells).collect::<Vec<String>>()
    };
    let (large, small): (Vec<&Launch>, Vec<&Launch>) = launches.iter().partition(|l| l.ms >= total / 500.0);
    let mut rows: Vec<Vec<String>> = large.iter().map(|l| row(&l.scope, &l.label, l.ms, l.floor_ms)).collect();
    let sum = |all: &[&Launch]| all.iter().fold((0.0, 0.0), |(ms, floor), l| (ms + l.ms, floor + l.floor_ms));
    for (what, all) in [("short launches", &small), ("all", &launches.iter().collect())] {
        let (ms, floor) = sum(all);
        rows.push(row(what, &format!("{} launches", all.len()), ms, floor));
    }
    text_table(&["layer", "launch", "ms", "%", "floor ms"], &rows)
}

/// Checks that the timed steps have trained: the loss and all written parameters are finite, and every
/// weight matrix and kernel has changed. A bias may stay the same: the loss of WGAN is a difference of
/// two means of the critic, in which its last bias cancels.
fn validate(name: &str, workload: &Workload, device: &mut dyn Backend, loss: f32) -> Result<()> {
    let fail =
        |what: String| Err(Error::Failed(format!("{name}: {what} after the timed steps; its times mean nothing")));
    if !loss.is_finite() {
        return fail(format!("the loss is {loss}"));
    }
    let steps = workload.plans.iter().flat_map(|plan| &plan.steps);
    let written: HashSet<Buffer> = steps.flat_map(|step| &step.outputs).map(|o| o.buffer).collect();
    let specs = workload.set.specs().iter().filter(|s| s.param.path.starts_with("params/"));
    for spec in specs.filter(|s| written.contains(&Buffer::Param(s.param.id))) {
        let mut value = vec![0.0; spec.param.shape.len()];
        device.read_param(spec.param.id, &mut value)?;
        if value.iter().any(|v| !v.is_finite()) {
            return fail(format!("{} is not finite", spec.param.path));
        }
        if spec.param.shape.rank() > 1 && value == spec.initial(1) {
            return fail(format!("{} has not moved", spec.param.path));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PRESETS;

    #[test]
    fn every_workload_records_a_step_of_the_size_that_was_agreed() {
        // GFLOP per step on the reference page. Ours differ by elementwise operations and by skipped
        // padding. For the diagonal layer the page has 2.82, which includes the empty positions of a
        // skewed copy; this crate needs no such copy.
        let agreed = [
            ("pixelcnn-mnist", 20.9),
            ("pixelcnn-cifar", 84.3),
            ("gated-pixelcnn-mnist", 189.0),
            ("vae-mnist", 3.85),
            ("vae-mlp-mnist", 0.42),
            ("dcgan-cifar", 26.9),
            ("row-lstm-layer", 20.4),
            ("diagonal-bilstm-layer", 1.64),
            ("lstm-784", 19.9),
            (WGAN_GP, 26.8),
        ];
        assert_eq!(names(), agreed.map(|(name, _)| name.to_string()));
        assert!(FROM_PRESETS.iter().all(|name| PRESETS.iter().any(|preset| preset.name == *name)));
        for (name, gflop) in agreed {
            let workload = Workload::new(name).unwrap();
            let cost: Cost = workload.plans.iter().map(total).sum();
            let ratio = cost.flops as f64 / 1e9 / gflop;
            assert!((0.75..1.25).contains(&ratio), "{name}: {:.2} GFLOP, not {gflop}", cost.flops as f64 / 1e9);
        }
    }

    #[test]
    fn a_profile_names_every_launch() {
        let options = Options { device: "cpu".into(), threads: 1, names: vec![] };
        let launches = profile("vae-mlp-mnist", &options).unwrap();
        let plan = &Workload::new("vae-mlp-mnist").unwrap().plans[0];
        assert_eq!(launches.len(), plan.steps.len());
        let table = profile_table(&launches);
        assert!(table.contains("fc4") && table.contains(&format!("{} launches", plan.steps.len())), "{table}");
        assert_eq!(profile("vae", &options).unwrap_err().exit_code(), 2);
    }
}
