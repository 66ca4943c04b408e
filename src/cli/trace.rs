//! `pixtape train --trace`: runs the next training step on the CPU and describes what each launch writes.

use crate::backend::Backend;
use crate::backend::cpu::{Cpu, Options};
use crate::config::Config;
use crate::error::Result;
use crate::train::run::RunOptions;
use crate::train::start::Start;
use crate::train::trainer;

/// Runs the next step of a run and describes the output of every launch. It is the first step of a new
/// run, or the one after the newest checkpoint of a resumed run.
pub(super) fn next_step(config: &Config, options: &RunOptions) -> Result<String> {
    let mut start = Start::new(config, options)?;
    let mut cpu = Cpu::new(Options { threads: options.threads, poison: true, ..Options::default() })?;
    start.write_params(&mut cpu, options, &mut |_| ())?;
    let mut text = String::new();
    for (index, plan) in start.plans.iter().enumerate() {
        text += &format!("plan {}, step {}\n", plan.name, start.steps.done + 1);
        let scalars = trainer::scalars(config, start.steps, index, start.plans.len());
        let compiled = cpu.compile(plan)?;
        for row in cpu.trace(compiled, &start.batches.next_batch().feeds(plan), &scalars)? {
            text += &format!("{row}\n");
        }
    }
    Ok(text)
}
