//! `pixtape plan`: prints the launches of a training step.

use super::args::{self, FlagOfKey, Precision, check_given_once, configuration};
use super::output;
use crate::error::Result;
use crate::models::Model;
use crate::tape::cost::cost;
use crate::tape::divide::{Divided, Policy, Stretch};
use crate::tape::plan::Plan;
use serde_json::{Value, json};
use std::num::NonZero;

/// Print the plans of a training step: every launch with its operands and buffers
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: pixtape plan vae-mlp-mnist --batch 16 --set model.hidden=64")]
pub(super) struct Args {
    /// Preset, network, or configuration file
    #[arg(value_name = "PRESET|NETWORK|CONFIG.toml", value_parser = args::text())]
    what: String,
    /// Images per step
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Precision of the operands of products: f32 or bf16
    #[arg(long, value_name = "PRECISION")]
    precision: Option<Precision>,
    /// Change a key of the configuration
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print one JSON array on stdout, with one object per plan
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<()> {
    check_given_once(
        &args.set,
        &[
            FlagOfKey { flag: "--batch", key: "batch", is_given: args.batch.is_some() },
            FlagOfKey { flag: "--precision", key: "precision", is_given: args.precision.is_some() },
        ],
    )?;
    let mut config = configuration(&args.what)?;
    if let Some(batch) = args.batch {
        config.batch = batch;
        config.validate()?;
    }
    config.precision = args.precision.map_or(config.precision, Precision::key);
    args.set.iter().try_for_each(|assignment| config.set(assignment))?;
    let plans = Model::new(&config)?.training();
    if args.json { output::json(&plans.iter().map(to_json).collect()) } else { output::print(&text(&plans)) }
}

fn flops(plan: &Plan) -> u64 {
    plan.steps.iter().map(|step| cost(step).flops).sum()
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

fn stretch(stretch: &Stretch) -> Value {
    let Stretch { images, groups, unit, microbatch, local_len, sums_len, .. } = *stretch;
    let steps: Vec<usize> = stretch.pieces.iter().map(|piece| piece.index).collect();
    json!({
        "steps": steps,
        "images": images,
        "groups": groups,
        "unit": unit,
        "microbatch": microbatch,
        "thread_bytes": 4 * local_len,
        "group_bytes": 4 * sums_len,
    })
}

fn to_json(plan: &Plan) -> Value {
    let divided = Divided::new(plan, &Policy::default());
    let step = |step: &crate::tape::plan::Step| {
        let floor = cost(step);
        json!({"scope": *step.scope, "label": step.label(), "flops": floor.flops, "bytes": floor.bytes})
    };
    json!({
        "name": plan.name,
        "steps": plan.steps.iter().map(step).collect::<Vec<_>>(),
        "slots": plan.slots.len(),
        "slot_bytes": plan.slot_bytes(),
        "flops": flops(plan),
        "divided": divided.stretches().map(stretch).collect::<Vec<_>>(),
        "divided_bytes": divided.bytes(threads()),
    })
}

fn text(plans: &[Plan]) -> String {
    let mut text = String::new();
    for plan in plans {
        let (mebibytes, gigaflops) = (plan.slot_bytes() as f64 / f64::from(1 << 20), flops(plan) as f64 / 1e9);
        text += &format!("{plan}{mebibytes:.1} MiB of slots at the peak, {gigaflops:.3} GFLOP per replay\n");
        let divided = Divided::new(plan, &Policy::default());
        if divided.stretches().next().is_some() {
            let (threads, mebibytes) = (threads(), divided.bytes(threads()) as f64 / f64::from(1 << 20));
            text += &format!("on the CPU:\n{divided}  {mebibytes:.1} MiB with {threads} threads\n");
        }
        text += "\n";
    }
    text
}
