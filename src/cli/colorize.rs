//! `pixtape colorize`: draws colours for grey images.

use super::out_file::{OutFile, picture};
use super::restore::{self, RestoreArgs};
use crate::data::Reduction;
use crate::error::Result;

/// Draw colours for grey images
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    pixtape colorize runs/colorize-cifar -n 8 --draws 3\n  \
    pixtape colorize runs/colorize-cifar --against runs/colorize-gan-cifar\n\n\
    A row of the picture shows the given image, the draws of each model, and the original. If a model of --against reads\n\
    the images in another way (binary, or of grey levels), what it is given and its original are shown too. `pixtape eval`\n\
    measures the likelihood of the originals, given the same.")]
pub(super) struct Args {
    #[command(flatten)]
    restore: RestoreArgs,
    /// The picture to write
    #[arg(long, value_name = "FILE", default_value = "colorize.png", value_parser = picture())]
    out: OutFile,
}

pub(super) fn run(args: Args) -> Result<()> {
    restore::run(&args.restore, Reduction::Grey, &args.out)
}
