//! `pixtape traverse`: shows what the latent dimensions of a variational autoencoder change.

use super::args::{PictureArgs, above_zero, count};
use super::out_file::{OutFile, picture};
use super::output;
use super::sample::known_class;
use super::trained::{CheckpointArgs, Trained};
use crate::error::Result;
use crate::eval::{self, TraversalOptions};
use crate::pictures::grid::{Pictures, grid_png};
use clap::builder::RangedU64ValueParser;
use serde_json::{Value, json};

/// Images by which the latent dimensions are ordered.
const IMAGES: usize = 1000;

/// Show what each latent dimension of a variational autoencoder changes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    pixtape traverse runs/vae-mnist --rows 10 --out traverse.png\n  \
    pixtape traverse runs/plane --plane --steps 20\n\n\
    Each row starts at the latent vector of one image, which --seed selects, and changes one dimension. The dimensions with\n\
    the largest KL divergence from the prior, mean over 1000 images of the split, come first. With --plane, a model with two\n\
    latent dimensions (--set model.latent=2) is shown as a whole: equal parts of the prior, the first dimension from left to\n\
    right, the second one from the bottom to the top.")]
pub(super) struct Args {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// Latent dimensions, one row each
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = count(1024), conflicts_with = "plane")]
    rows: usize,
    /// Pictures per row; with --plane also per column (default: 9, with --plane 20)
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(2..=64))]
    steps: Option<usize>,
    /// The first and the last picture of a row have this value, with either sign, in its dimension
    #[arg(long, value_name = "R", default_value_t = 3.0, value_parser = above_zero, conflicts_with = "plane")]
    reach: f32,
    /// Show the plane of a model with two latent dimensions
    #[arg(long)]
    plane: bool,
    /// The class of all pictures, from 0 (class-conditional models; default: that of the image, with
    /// --plane 0)
    #[arg(long, value_name = "K")]
    class: Option<u32>,
    /// The picture to write
    #[arg(long, value_name = "FILE", default_value = "traverse.png", value_parser = picture())]
    out: OutFile,
    #[command(flatten)]
    picture: PictureArgs,
}

pub(super) fn run(args: Args) -> Result<()> {
    args.out.check(&[&args.checkpoint.checkpoint])?;
    let mut trained = Trained::open(&args.checkpoint, &args.picture.device)?;
    eval::check_encoder(&trained.stored.model)?;
    let class = args.class.map(|class| known_class(&trained.stored, class)).transpose()?;
    let drawn = if args.plane { plane(&args, &mut trained, class)? } else { rows(&args, &mut trained, class)? };
    let model = &trained.stored.model;
    let png = grid_png(Pictures::new(&drawn.pictures, model.image), Some(drawn.columns))?;
    output::write_png(&args.out, &png, &drawn.provenance)?;
    if args.picture.json {
        return output::json(&output::merged(drawn.provenance, &drawn.result));
    }
    output::line(&format!("{} by {} in {}", drawn.words, trained.stored.origin(), args.out.display()))
}

/// What is written and said.
struct Drawn {
    pictures: Vec<u8>,
    columns: usize,
    provenance: Value,
    result: Value,
    words: String,
}

fn plane(args: &Args, Trained { stored, backend }: &mut Trained, class: Option<u32>) -> Result<Drawn> {
    let side = args.steps.unwrap_or(20);
    let pictures = eval::latent_plane(&mut **backend, &stored.model, side, class.unwrap_or(0))?;
    let result = json!({"plane": side, "class": class, "out": args.out});
    let words = format!("the latent plane in {side} x {side} pictures");
    Ok(Drawn { pictures, columns: side, provenance: stored.provenance(&**backend), result, words })
}

fn rows(args: &Args, Trained { stored, backend }: &mut Trained, class: Option<u32>) -> Result<Drawn> {
    args.picture.keep_out(stored, &args.out)?;
    let (steps, reach) = (args.steps.unwrap_or(9), args.reach);
    let images = args.picture.choose(stored, IMAGES)?;
    let provenance = stored.provenance_with(&**backend, &images, args.picture.split);
    let how = TraversalOptions { rows: args.rows, steps, reach, class };
    let found = eval::traverse(&mut **backend, &stored.model, images, how)?;
    let dimensions: Vec<_> =
        found.rows.iter().map(|(dimension, kl)| json!({"dimension": dimension, "kl_nats": kl})).collect();
    let result = json!({"rows": dimensions, "steps": steps, "reach": reach, "class": class, "out": args.out});
    let told = found.rows.iter().map(|(dimension, kl)| format!("{dimension} ({kl:.2} nats)"));
    let words = format!("a traversal of the latent dimensions {}", told.collect::<Vec<_>>().join(", "));
    Ok(Drawn { pictures: found.pictures, columns: steps, provenance, result, words })
}
