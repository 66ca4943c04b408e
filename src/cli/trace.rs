//! `train --trace`: the step to come, launch by launch, on the CPU.

use crate::backend::Backend;
use crate::backend::cpu::{Cpu, Options};
use crate::config::Config;
use crate::data::{Batches, Order, Split};
use crate::error::Result;
use crate::models::Model;
use crate::store::RunDir;
use crate::train::run::{self, RunOptions};
use crate::train::{exchange, trainer, weights};
use std::sync::Arc;

/// What every launch of the next step of the run writes: of its first step, or of the one after its newest checkpoint.
pub(super) fn first_step(config: &Config, options: &RunOptions) -> Result<String> {
    let model = Model::new(config)?;
    let images = run::open_images(&model, &options.data, Split::Train, options.data_dir.as_deref())?;
    let mut batches = Batches::new(Arc::new(images), model.batch_options(Order::Shuffled))?;
    let mut cpu = Cpu::new(Options { threads: options.threads, poison: true, ..Options::default() })?;
    weights::initialize(&mut cpu, &model.set, config.seed)?;
    let mut step = 0;
    if options.resume
        && let Some(latest) = RunDir::open(&options.out)?.latest()?
    {
        weights::load(&mut cpu, &model.set, &latest.checkpoint, &latest.path)?;
        batches.seek(run::parse_cursor(&latest.checkpoint, &latest.path)?)?;
        step = latest.checkpoint.step;
    }
    if let Some(path) = &options.init {
        exchange::import(&mut cpu, &model.set, path)?;
    }
    let plans = model.training();
    let per_epoch = (batches.per_epoch() as u64 / plans.len() as u64).max(1);
    let total = run::total_steps(config, per_epoch);
    let mut text = String::new();
    for (index, plan) in plans.iter().enumerate() {
        let scalars = trainer::scalars(config, [step, total], [index, plans.len()]);
        let compiled = cpu.compile(plan)?;
        text += &format!("plan {}, step {}\n", plan.name, step + 1);
        for row in cpu.trace(compiled, &batches.next_batch().feeds(plan), &scalars)? {
            text += &format!("{row}\n");
        }
    }
    Ok(text)
}
