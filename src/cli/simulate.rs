//! `pixtape simulate`: a sequence model goes on with sequences whose beginning it is given.

use super::args::{ChoiceArgs, DeviceArgs, above_zero, count};
use super::output;
use super::progress::Busy;
use super::trained::{CheckpointArgs, Trained};
use crate::config::Distribution;
use crate::data::Split;
use crate::error::{Error, Result};
use crate::eval;
use crate::pictures::sequences;
use crate::report::text::text_table;
use crate::sampling::{self, Redraw, Redrawn};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

/// Let a sequence model go on with sequences, and measure how well it foresees them
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: pixtape simulate runs/lstm-oscillator --prefix 40 -n 6 --futures 5 --out simulate.png\n\n\
    Of a time series the picture has a panel for each sequence and value: black what was given, orange what really followed,\n\
    blue the futures drawn. Of images read row by row a row shows an image, what was given of it, and the futures drawn.\n\
    The table is of the whole split: nats a step of the true futures, each step given all before it, beside a distribution of\n\
    each value alone that was fitted to the training set."
)]
pub(super) struct Args {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// Steps that are given (default: half of them)
    #[arg(long, value_name = "STEPS")]
    prefix: Option<usize>,
    /// How many sequences
    #[arg(short = 'n', value_name = "N", default_value_t = 6, value_parser = count(1024))]
    n: usize,
    /// Futures of each sequence
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = count(64))]
    futures: usize,
    /// Below 1 likelier and less varied futures, above 1 the reverse
    #[arg(long, value_name = "T", default_value_t = 1.0, value_parser = above_zero)]
    temperature: f32,
    /// The picture to write
    #[arg(long, value_name = "FILE", default_value = "simulate.png")]
    out: PathBuf,
    #[command(flatten)]
    choice: ChoiceArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print one JSON object on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<()> {
    let Trained { stored, mut backend } = Trained::open(&args.checkpoint, &args.device)?;
    let model = &stored.model;
    let net = eval::sequence_of(model)?;
    let steps = net.observations().steps;
    let given = args.prefix.unwrap_or(steps / 2);
    if given >= steps {
        return Err(Error::Usage(format!("--prefix {given} leaves no future; give fewer than {steps} steps")));
    }
    let held_out = args.choice.open(model, args.choice.split)?;
    let training = args.choice.open(model, Split::Train)?;
    let chosen = Arc::new(held_out.sample(args.n, args.choice.seed));
    let n = chosen.len();
    let truth = model.batch_of(chosen)?.pixels;
    let busy = Busy::new(&format!("simulating {n} sequences"));
    let how = Redraw { draws: args.futures, seed: args.choice.seed, temperature: args.temperature };
    let drawn = sampling::draw_futures(&mut *backend, net, &truth, given, &how)?;
    let found = eval::futures(&mut *backend, model, held_out, training, given)?;
    drop(busy);
    let picture = match net.observations().distribution {
        Distribution::Normal => sequences::futures_png(net.observations(), &truth, &drawn, given)?,
        Distribution::Bernoulli => {
            let given = given * net.observations().width;
            Redrawn::after_beginning(model.image, &truth, &drawn, given).original_first_png()?
        }
    };
    output::write(&args.out, &picture)?;
    if args.json {
        return output::json(&json!({
            "model": model.config.name(),
            "step": stored.checkpoint.step,
            "sequences": n,
            "prefix": given,
            "futures": args.futures,
            "measured": found.sequences,
            "nll_nats_a_step": found.future,
            "baseline_nats_a_step": found.baseline,
            "out": args.out,
        }));
    }
    let row = |name: &str, nats: f64| vec![name.to_string(), format!("{nats:.3}")];
    let rows = [row(model.config.name(), found.future), row("each value alone", found.baseline)];
    let head =
        format!("the last {} of {steps} steps, {} {} sequences", steps - given, found.sequences, args.choice.split);
    let (futures, origin, place) = (args.futures, stored.origin(), args.out.display());
    output::print(&format!(
        "{n} sequences with {futures} futures each by {origin} in {place}\n\n{}",
        text_table(&[&head, "nats a step"], &rows)
    ))
}
