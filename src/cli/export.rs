//! `pixtape export`: writes weights in PyTorch's layout for other programs.

use super::out_file::{OutFile, tensors};
use super::output;
use super::trained::{CheckpointArgs, Stored};
use crate::error::Result;
use crate::train::exchange;
use serde_json::json;

/// Write the weights of a model in PyTorch's layout, with the names of docs/models.md
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: pixtape export runs/vae-mnist weights.safetensors\n\n\
    `pixtape train PRESET --init weights.safetensors` starts from such a file.")]
pub(super) struct Args {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// The safetensors file to write
    #[arg(value_name = "OUT", value_parser = tensors())]
    out: OutFile,
    /// Print one JSON object on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<()> {
    args.out.check(&[&args.checkpoint.checkpoint])?;
    let stored = Stored::read(&args.checkpoint)?;
    let provenance = stored.provenance_of_weights();
    let count = exchange::export(&stored.model.set, &stored.checkpoint, &provenance.to_string(), &args.out)?;
    if args.json {
        return output::json(&output::merged(provenance, &json!({"tensors": count, "out": args.out})));
    }
    let weights = stored.weights.name();
    output::line(&format!("{count} tensors ({weights} weights) of {} in {}", stored.origin(), args.out.display()))
}
