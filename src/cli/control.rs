//! `pixtape control`: swings up a pendulum by planning in a learned model, and compares with other
//! planners.

use super::args::{DeviceArgs, count};
use super::output;
use super::progress::Busy;
use super::trained::{CheckpointArgs, Trained};
use crate::control::{self, HELD, Learned, MOST_EPISODES, Outcome, Planner, Random, STEPS, Task, TrueDynamics};
use crate::error::Result;
use crate::report::text::text_table;
use serde_json::{Value, json};
use std::time::Instant;

/// Swing a pendulum up by trying torques in a learned model of it
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: pixtape control runs/lstm-pendulum --episodes 20 --candidates 256\n\n\
    At every decision random sequences of torques are simulated, and the first torque of the best one is applied. Three\n\
    planners are compared: one that simulates in the model, one in the true equations, and random torques. The rod starts\n\
    hanging down. The reward of a step is -(angle² + speed²/10 + torque²/1000), where the angle is in radians from\n\
    upright. The rod counts as upright within 18 degrees.")]
pub(super) struct Args {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// Episodes of 200 steps (10 seconds)
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = count(MOST_EPISODES as u64))]
    episodes: usize,
    /// Seed of the starts and of the torques that are tried
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,
    /// Number of steps to look ahead
    #[arg(long, value_name = "STEPS", default_value_t = 40, value_parser = count(STEPS as u64))]
    horizon: usize,
    /// Torque sequences to try at every decision
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = count(1 << 16))]
    candidates: usize,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print one JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// The result of one planner.
struct Played {
    planner: &'static str,
    outcome: Outcome,
    seconds: f64,
}

pub(super) fn run(args: Args) -> Result<()> {
    let Trained { stored, mut backend } = Trained::open(&args.checkpoint, &args.device)?;
    let model = &stored.model;
    control::pendulum_model(model)?;
    let task = Task { episodes: args.episodes, seed: args.seed, horizon: args.horizon, candidates: args.candidates };
    let busy = Busy::new(&format!("swinging up {} pendulums", task.episodes));
    let mut learned = Learned::new(&mut *backend, model, &task)?;
    let planners: [(&'static str, &mut dyn Planner); 3] =
        [("random torques", &mut Random), ("learned model", &mut learned), ("true dynamics", &mut TrueDynamics)];
    let mut played: Vec<Played> = vec![];
    for (name, planner) in planners {
        let start = Instant::now();
        let outcome = control::play(&task, planner)?;
        played.push(Played { planner: name, outcome, seconds: start.elapsed().as_secs_f64() });
    }
    drop(busy);
    if args.json {
        let result = json!({
            "episodes": task.episodes,
            "seed": task.seed,
            "horizon": task.horizon,
            "candidates": task.candidates,
            "steps": STEPS,
            "held": HELD,
            "planners": played.iter().map(Played::to_json).collect::<Vec<_>>(),
        });
        return output::json(&output::merged(stored.provenance(&*backend), &result));
    }
    let Task { episodes, horizon, candidates, .. } = task;
    let rows: Vec<Vec<String>> = played.iter().map(Played::row).collect();
    output::print(&format!(
        "{episodes} episodes of {STEPS} steps; {candidates} sequences of torques over {horizon} steps simulated every {HELD} steps; \
         model: {}\n\n{}",
        stored.origin(),
        text_table(&["planner", "mean return", "+-", "upright at the end", "seconds"], &rows)
    ))
}

impl Played {
    fn row(&self) -> Vec<String> {
        let mean = control::mean(&self.outcome.returns);
        let upright = control::mean(&self.outcome.upright).value;
        vec![
            self.planner.to_string(),
            format!("{:.0}", mean.value),
            format!("{:.0}", mean.error),
            format!("{:.0} %", 100.0 * upright),
            format!("{:.1}", self.seconds),
        ]
    }

    fn to_json(&self) -> Value {
        let mean = control::mean(&self.outcome.returns);
        json!({
            "planner": self.planner,
            "mean_return": mean.value,
            "standard_error": mean.error,
            "upright": control::mean(&self.outcome.upright).value,
            "returns": self.outcome.returns,
            "seconds": self.seconds,
        })
    }
}
