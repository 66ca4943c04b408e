//! `pixtape simulate`: continues sequences with a sequence model, and measures its predictions.

use super::args::{PictureArgs, above_zero, count};
use super::out_file::{OutFile, picture};
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
use std::sync::Arc;

/// Continue sequences with a sequence model, and measure how well it predicts them
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: pixtape simulate runs/lstm-oscillator --prefix 40 -n 6 --futures 5 --out simulate.png\n\n\
    For a time series the picture has one panel per sequence and value: the given part in black, the true continuation in\n\
    orange, sampled continuations in blue. For images that are read row by row, a row of the picture shows an image, its\n\
    given part, and the sampled continuations. The table is for the whole split: nats per step of the true continuations,\n\
    each step given all steps before it, and as a baseline a separate distribution of each value, fitted to the training\n\
    set."
)]
pub(super) struct Args {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// Number of steps that are given (default: half of them)
    #[arg(long, value_name = "STEPS")]
    prefix: Option<usize>,
    /// How many sequences
    #[arg(short = 'n', value_name = "N", default_value_t = 6, value_parser = count(1024))]
    n: usize,
    /// Number of continuations of each sequence
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = count(64))]
    futures: usize,
    /// Temperature: below 1 continuations are more likely and less varied, above 1 the reverse
    #[arg(long, value_name = "T", default_value_t = 1.0, value_parser = above_zero)]
    temperature: f32,
    /// The picture to write
    #[arg(long, value_name = "FILE", default_value = "simulate.png", value_parser = picture())]
    out: OutFile,
    #[command(flatten)]
    picture: PictureArgs,
}

pub(super) fn run(args: Args) -> Result<()> {
    args.out.check(&[&args.checkpoint.checkpoint])?;
    let Trained { stored, mut backend } = Trained::open(&args.checkpoint, &args.picture.device)?;
    args.picture.keep_out(&stored, &args.out)?;
    let model = &stored.model;
    let net = eval::sequence_of(model)?;
    let steps = net.observations().steps;
    let given = args.prefix.unwrap_or(steps / 2);
    if given >= steps {
        return Err(Error::Usage(format!("--prefix {given} leaves nothing to predict; give fewer than {steps} steps")));
    }
    let held_out = args.picture.open(&stored, args.picture.split)?;
    let training = args.picture.open(&stored, Split::Train)?;
    let chosen = Arc::new(held_out.sample(args.n, args.picture.seed));
    let n = chosen.len();
    let provenance = stored.provenance_with(&*backend, &held_out, args.picture.split);
    let truth = model.batch_of(chosen)?.pixels;
    let busy = Busy::new(&format!("simulating {n} sequences"));
    let how = Redraw { draws: args.futures, seed: args.picture.seed, temperature: args.temperature };
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
    output::write_png(&args.out, &picture, &provenance)?;
    if args.picture.json {
        let result = json!({
            "sequences": n,
            "prefix": given,
            "futures": args.futures,
            "measured": found.sequences,
            "nll_nats_a_step": found.future,
            "baseline_nats_a_step": found.baseline,
            "out": args.out,
        });
        return output::json(&output::merged(provenance, &result));
    }
    let row = |name: &str, nats: f64| vec![name.to_string(), format!("{nats:.3}")];
    let rows = [row(model.config.name(), found.future), row("each value separately", found.baseline)];
    let head =
        format!("the last {} of {steps} steps, {} {} sequences", steps - given, found.sequences, args.picture.split);
    let (futures, origin, place) = (args.futures, stored.origin(), args.out.display());
    output::print(&format!(
        "{n} sequences with {futures} continuations each by {origin} in {place}\n\n{}",
        text_table(&[&head, "nats per step"], &rows)
    ))
}
