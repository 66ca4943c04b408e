//! Benchmarks of training steps: forward pass, backward pass and optimiser on one batch.
//!
//! `time` measures whole steps, [`profile`] each launch of a step.

use super::Options;
use super::machine::Limits;
use super::report::Entry;
use super::timing::{Effort, PeakMemory, measure, stopwatch};
use super::workload::{Chosen, Running, Workload, names};
use crate::backend::{Backend, StepTime};
use crate::error::{Error, Result};
use crate::report::text::text_table;
use crate::tape::cost::{Cost, total};
use crate::tape::plan::Buffer;
use serde::Serialize;
use std::collections::HashSet;

/// Number of replays when a step is profiled.
const PROFILED: usize = 20;

/// Times one workload.
pub(super) fn time(chosen: &Chosen, options: &Options, limits: &Limits) -> Result<Entry> {
    let (name, peak) = (&chosen.name, PeakMemory::watch());
    let mut running = Running::new(chosen.workload()?, options)?;
    let mut loss = f32::NAN;
    let times = measure(Effort::STEP, |step| {
        stopwatch(|| {
            running.step(step, |device, _, plan, feeds, scalars| device.run(plan, feeds, scalars))?;
            loss = running.loss()?;
            Ok(())
        })
    })?;
    let Running { mut device, workload, .. } = running;
    validate(chosen, &workload, &mut *device, loss)?;
    let cost: Cost = workload.plans.iter().map(total).sum();
    // Memory of a graphics card does not count as memory of the process.
    let on_host = peak.bytes().filter(|_| device.describe().kind == "cpu");
    let peak_bytes = on_host.unwrap_or(device.memory_bytes() as u64);
    let entry = Entry::new(name, "step", workload.shape(), &times, cost, limits);
    Ok(Entry { peak_bytes, ..entry.images(workload.images) })
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
    let mut running = Running::new(Workload::reference(name)?, options)?;
    let limits = Limits::of(&mut *running.device, options.precision())?;
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
/// weight matrix and kernel has changed, if it is a reference workload. Other models may have layers of
/// few units, which all can be off. A bias may stay the same: the loss of WGAN is a difference of two
/// means of the critic, in which its last bias cancels.
fn validate(chosen: &Chosen, workload: &Workload, device: &mut dyn Backend, loss: f32) -> Result<()> {
    let name = &chosen.name;
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
        if chosen.is_reference() && spec.param.shape.rank() > 1 && value == spec.initial(1) {
            return fail(format!("{} has not moved", spec.param.path));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_names_every_launch() {
        let options = Options::on_cpu(1);
        let launches = profile("vae-mlp-mnist", &options).unwrap();
        let plan = &Workload::reference("vae-mlp-mnist").unwrap().plans[0];
        assert_eq!(launches.len(), plan.steps.len());
        let table = profile_table(&launches);
        assert!(table.contains("fc4") && table.contains(&format!("{} launches", plan.steps.len())), "{table}");
        assert_eq!(profile("vae", &options).unwrap_err().exit_code(), 2);
    }
}
