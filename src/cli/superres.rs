//! `pixtape superres`: draws images from versions with a quarter of their height and width.

use super::out_file::{OutFile, picture};
use super::restore::{self, RestoreArgs};
use crate::data::Reduction;
use crate::error::Result;

/// Draw images from a quarter of their height and width
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    pixtape superres runs/superres-mnist -n 8 --draws 3\n  \
    pixtape superres runs/superres-mnist --against runs/superres-gan-mnist\n\n\
    A row of the picture shows the given image, the draws of each model, and the original. If a model of --against reads\n\
    the images in another way (binary, or of grey levels), what it is given and its original are shown too. `pixtape eval`\n\
    measures the likelihood of the originals, given the same.")]
pub(super) struct Args {
    #[command(flatten)]
    restore: RestoreArgs,
    /// The picture to write
    #[arg(long, value_name = "FILE", default_value = "superres.png", value_parser = picture())]
    out: OutFile,
}

pub(super) fn run(args: Args) -> Result<()> {
    restore::run(&args.restore, Reduction::Small, &args.out)
}
