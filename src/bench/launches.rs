//! The launches of a model's training step: every distinct one with its time within the step, and how often
//! the step has it.
//!
//! The step is replayed as training does it, so operands are in the caches that training finds them in.
//! [`kernels`](super::kernels) times kernels alone, on operands from memory.

use super::Options;
use super::machine::Limits;
use super::report::Entry;
use super::timing::{Effort, PeakMemory, Times, measure};
use super::workload::{Chosen, Running};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::tape::cost::{Cost, cost};
use crate::tape::op::Op;
use crate::tape::plan::{Operand, Plan, Step};

/// The kind of an entry that is the sum of all launches of a step.
const ALL: &str = "launches";

/// Launches that are the same computation on the same shapes.
struct Launch {
    name: String,
    shape: String,
    /// How often a step has it.
    calls: usize,
    /// The cost of one launch.
    cost: Cost,
    /// Milliseconds of one launch in each replay: the mean of all launches of the replay.
    ms: Vec<f64>,
}

impl Launch {
    /// The cost of all launches of a step.
    fn cost_of_step(&self) -> Cost {
        let (Cost { flops, bytes }, calls) = (self.cost, self.calls as u64);
        Cost { flops: flops * calls, bytes: bytes * calls }
    }
}

/// Times the launches of a training step of `model`, whose names contain one of the names that `options`
/// have. The launches that a step spends the most time on come first, and the sum of all is the last.
///
/// # Errors
/// [`Error::Usage`] if no launch has a name that is asked for. Also whatever the device reports, and a loss
/// that is not finite.
pub(super) fn time(model: &Config, options: &Options, limits: &Limits) -> Result<Vec<Entry>> {
    let peak = PeakMemory::watch();
    let chosen = Chosen::model(model);
    let mut running = Running::new(chosen.workload()?, options)?;
    let (mut launches, launch_of_step) = distinct(&running.workload.plans);
    check_names(&launches, &options.names)?;
    let mut replay = vec![0.0; launches.len()];
    let times = measure(Effort::STEP, |step| {
        replay.fill(0.0);
        let mut index = 0;
        running.step(step, |device, _, plan, feeds, scalars| {
            for time in device.profile(plan, feeds, scalars)? {
                replay[launch_of_step[index]] += time.ms;
                index += 1;
            }
            Ok(())
        })?;
        launches.iter_mut().zip(&replay).for_each(|(launch, ms)| launch.ms.push(ms / launch.calls as f64));
        Ok(replay.iter().sum())
    })?;
    if !running.loss()?.is_finite() {
        return Err(Error::Failed(format!("{}: the loss is not finite; its times mean nothing", chosen.name)));
    }
    let on_host = peak.bytes().filter(|_| running.device.describe().kind == "cpu");
    let peak_bytes = on_host.unwrap_or(running.device.memory_bytes() as u64);
    let cost = launches.iter().map(Launch::cost_of_step).sum();
    let calls = launches.iter().map(|launch| launch.calls).sum();
    let all = Entry::new(&format!("all {calls} launches"), ALL, running.workload.shape(), &times, cost, limits);
    let all = Entry { peak_bytes, calls: Some(calls), ..all.images(running.workload.images) };
    // The first replays were for warming up.
    let of_launch = |launch: &Launch| {
        let counted = launch.ms[launch.ms.len() - times.runs()..].to_vec();
        let entry = Entry::new(&launch.name, "kernel", launch.shape.clone(), &Times::new(counted), launch.cost, limits);
        Entry { calls: Some(launch.calls), ..entry }
    };
    let is_asked = |l: &&Launch| options.names.is_empty() || options.names.iter().any(|name| l.name.contains(name));
    let mut entries: Vec<Entry> = launches.iter().filter(is_asked).map(of_launch).collect();
    entries.sort_by(|a, b| b.ms_of_step().total_cmp(&a.ms_of_step()));
    entries.push(all);
    Ok(entries)
}

/// The distinct launches of some plans, and for each step of each plan in order the index of its launch.
fn distinct(plans: &[Plan]) -> (Vec<Launch>, Vec<usize>) {
    let mut launches: Vec<Launch> = vec![];
    let mut launch_of_step = vec![];
    for step in plans.iter().flat_map(|plan| &plan.steps) {
        let (name, shape) = (name(step), shapes(&step.reads()) + " -> " + &shapes(&step.outputs));
        let known = launches.iter().position(|launch| launch.name == name && launch.shape == shape);
        let index = known.unwrap_or_else(|| {
            launches.push(Launch { name, shape, calls: 0, cost: cost(step), ms: vec![] });
            launches.len() - 1
        });
        launches[index].calls += 1;
        launch_of_step.push(index);
    }
    (launches, launch_of_step)
}

/// What a step computes and on which shapes. The label of a convolution has its geometry; other labels are
/// followed by the shapes of what the op reads and of what it writes.
fn name(step: &Step) -> String {
    let label = step.label();
    match step.op {
        Op::Conv(_) | Op::ConvDx(_) | Op::ConvDw(_) => label,
        _ => match (shapes(&step.inputs), shapes(&step.outputs)) {
            (_, to) if to.is_empty() => label,
            (from, to) => format!("{label} {from} -> {to}"),
        },
    }
}

/// The shapes of some operands, without scalars. If all are the same, only one.
fn shapes(operands: &[Operand]) -> String {
    let mut all: Vec<String> =
        operands.iter().map(|o| o.meta.shape).filter(|s| s.rank() > 0).map(|s| s.to_string()).collect();
    if all.iter().all(|shape| *shape == all[0]) {
        all.truncate(1);
    }
    all.join(" ")
}

/// Checks that every name is part of the name of a launch.
fn check_names(launches: &[Launch], names: &[String]) -> Result<()> {
    match names.iter().find(|name| !launches.iter().any(|launch| launch.name.contains(name.as_str()))) {
        None => Ok(()),
        Some(unknown) => Err(Error::Usage(format!(
            "no launch of the training step has {unknown:?} in its name; leave the names out to see all"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::preset;

    /// A model whose blocks are equal, so that launches occur several times.
    fn small() -> Config {
        let mut config = preset("pixelcnn-mnist").unwrap();
        (config.batch, config.model.hidden, config.model.head, config.model.blocks) = (2, Some(2), Some(4), Some(3));
        config
    }

    #[test]
    fn equal_launches_are_one_and_no_launch_is_lost() {
        let plans = Chosen::model(&small()).workload().unwrap().plans;
        let (launches, launch_of_step) = distinct(&plans);
        let steps: Vec<&Step> = plans.iter().flat_map(|plan| &plan.steps).collect();
        assert_eq!(launch_of_step.len(), steps.len());
        assert_eq!(launches.iter().map(|launch| launch.calls).sum::<usize>(), steps.len());
        let whole: Cost = steps.iter().map(|step| cost(step)).sum();
        assert_eq!(launches.iter().map(Launch::cost_of_step).sum::<Cost>(), whole);
        // One 3x3 convolution per block, each with the same shapes and epilogue.
        let middle = launches.iter().find(|l| l.name.starts_with("conv ") && l.name.contains(", 3x3")).unwrap();
        assert_eq!(middle.calls, 3, "{}", middle.name);
    }

    #[test]
    fn the_sum_is_last_and_the_longest_launch_first() {
        let limits = Limits { peak_gflops: 100.0, peak_gbs: 10.0, l3: None };
        let options = Options::on_cpu(1);
        let entries = time(&small(), &options, &limits).unwrap();
        let (all, launches) = entries.split_last().unwrap();
        assert_eq!((all.kind, all.calls), (ALL, launches.iter().map(|e| e.calls.unwrap()).sum::<usize>().into()));
        assert!(launches.is_sorted_by(|a, b| a.ms_of_step() >= b.ms_of_step()));
        assert!(entries.iter().all(|entry| entry.ms_of_step() > 0.0 && entry.median_ms.is_finite()));
        let only = Options { names: vec!["adam".into()], ..options.clone() };
        assert!(time(&small(), &only, &limits).unwrap().iter().all(|e| e.kind == ALL || e.name.starts_with("adam")));
        let unknown = Options { names: vec!["no such".into()], ..options };
        assert_eq!(time(&small(), &unknown, &limits).unwrap_err().exit_code(), 2);
    }
}
