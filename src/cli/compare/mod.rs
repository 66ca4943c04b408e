//! `pixtape compare`: ranks runs by their likelihoods, together with published results; and, if asked for a
//! page, a table or the judgement of a classifier, compares everything that families of models differ in.
//!
//! The rankings need no draws and recall what was measured before. `summary` draws and measures the rest,
//! `json` is its JSON object. The tables and the page are made in `src/report/summary/`.

mod json;
mod summary;

use super::args::{DataArgs, DeviceArgs, split};
use super::out_file::{OutFile, markdown, page};
use super::progress::Busy;
use super::trained::{CheckpointArgs, Stored, Trained, Weights, is_used};
use super::{held_out, measured, output};
use crate::data::{Images, Split};
use crate::error::{Error, Result};
use crate::eval::{self, LEAST};
use crate::likelihood::Likelihood;
use crate::models::Family;
use crate::report::compare::{Ranking, beside_published, to_json, to_text};
use crate::report::summary as summary_of;
use clap::ArgGroup;
use clap::builder::RangedU64ValueParser;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Samples of the importance-weighted bound if neither the user nor an earlier measurement says how many.
const DEFAULT_IWAE: u32 = 50;

/// Samples per run, if the arguments do not say how many.
const DEFAULT_SAMPLES: usize = 1000;

/// Rank runs by their likelihoods, or compare all that families differ in: samples, speed, latent vectors
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("summary").multiple(true).args(["classifier", "page", "table"])))]
#[command(after_help = "Examples:\n  \
    pixtape compare runs/pixelcnn-mnist runs/vae-mnist\n  \
    pixtape compare runs/pixelcnn-mnist runs/vae-0 runs/vae-1 --classifier runs/classifier-mnist --page compare.html\n\n\
    Results that `train` or `eval` has measured for the same checkpoint on the same images are reused. Images are known by\n\
    their content, not by their name or path. Only numbers of equal protocols are ranked.\n\n\
    With --page, --table or --classifier, samples are drawn from every run (-n, --seed), which takes time, and compared:\n\
    their sharpness next to that of the data and of blurred data, their quality by the features of the classifier, the\n\
    speed of training and sampling, and the error of reconstructions. Runs that differ in their seed alone are one row,\n\
    mean and standard deviation. Each data set and binarisation has tables of its own. docs/judging.md explains all\n\
    numbers.\n\n\
    --json prints one object: rankings, without_likelihood, and with the options above summary (samples, seed, device,\n\
    sets with judge, groups of runs and anchors).")]
pub(super) struct Args {
    /// Run folders or checkpoints
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Weights to use (default: the moving averages if there are any)
    #[arg(long, value_name = "WHICH")]
    weights: Option<Weights>,
    /// Split to measure on: train, fit, valid or test
    #[arg(long, value_name = "SPLIT", default_value = "test", value_parser = split)]
    split: Split,
    /// Samples of the importance-weighted bound of latent models (default: the bounds that are known, or 50
    /// if a model has to be measured)
    #[arg(long, value_name = "K", value_parser = RangedU64ValueParser::<u32>::new().range(1..=100_000))]
    iwae: Option<u32>,
    /// Draw samples and judge them by this checkpoint or run of a classifier
    #[arg(long, value_name = "CKPT")]
    classifier: Option<PathBuf>,
    /// Draw samples and write a page with pictures and all tables
    #[arg(long, value_name = "FILE.html", value_parser = page())]
    page: Option<OutFile>,
    /// Draw samples and write all numbers as a Markdown table
    #[arg(long, value_name = "FILE.md", value_parser = markdown())]
    table: Option<OutFile>,
    /// How many samples to draw from each run (default: 1000)
    #[arg(short = 'n', value_name = "N", requires = "summary", value_parser = RangedU64ValueParser::<usize>::new().range(LEAST as u64..=65536))]
    n: Option<usize>,
    /// Seed of the samples (default: 0)
    #[arg(long, value_name = "N", requires = "summary")]
    seed: Option<u32>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print one JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// A run with its likelihoods.
struct Compared {
    stored: Stored,
    /// As it was given.
    path: PathBuf,
    /// The images of the split, if samples are compared.
    images: Option<Arc<Images>>,
    likelihoods: Vec<Likelihood>,
}

impl Args {
    /// Whether samples are drawn and compared.
    fn is_summary(&self) -> bool {
        self.classifier.is_some() || self.outputs().next().is_some()
    }

    /// The files to write.
    fn outputs(&self) -> impl Iterator<Item = &OutFile> {
        self.page.iter().chain(&self.table)
    }
}

pub(super) fn run(args: Args) -> Result<()> {
    args.device.name()?;
    let inputs: Vec<&Path> = args.runs.iter().chain(&args.classifier).map(PathBuf::as_path).collect();
    args.outputs().try_for_each(|out| out.check(&inputs))?;
    let read = |path: &PathBuf| Stored::read(&CheckpointArgs { checkpoint: path.clone(), weights: args.weights });
    if args.is_summary() {
        // Measuring may take long, so every run is looked at first.
        for path in &args.runs {
            let stored = read(path)?;
            summary::expect_drawable(&stored)?;
            args.outputs().try_for_each(|out| args.data.keep_out(&stored, out))?;
        }
    }
    let mut compared = vec![];
    for path in &args.runs {
        compared.push(compare(&args, read(path)?, path).map_err(|error| of_run(path, error))?);
    }
    let rows: Vec<Likelihood> = compared.iter().flat_map(|run| run.likelihoods.clone()).collect();
    let rankings = beside_published(&rows);
    let without: Vec<&Compared> = compared.iter().filter(|run| !eval::has_likelihood(&run.stored.model)).collect();
    let (text, mut value) = (rankings_text(&rankings, &without), rankings_json(&rankings, &without));
    if !args.is_summary() {
        return if args.json { output::json(&value) } else { output::print(&text) };
    }
    let found = summary::measure(&args, compared, rankings)?;
    if let Some(out) = &args.page {
        output::write(out, summary_of::to_page(&found.summary).to_html().as_bytes())?;
    }
    if let Some(out) = &args.table {
        output::write(out, summary_of::to_markdown(&found.summary).as_bytes())?;
    }
    if args.json {
        value["summary"] = json::of_summary(&found);
        return output::json(&value);
    }
    let files = args.outputs().map(|out| format!("{}\n", out.display())).collect::<String>();
    output::print(&format!("{text}\n{}{files}", summary_of::to_text(&found.summary)))
}

/// The error of one of several runs.
fn of_run(path: &Path, error: Error) -> Error {
    Error::Failed(format!("the run {} could not be compared: {error}", path.display())).because(error)
}

fn rankings_text(rankings: &[Ranking], without: &[&Compared]) -> String {
    let mut text = to_text(rankings);
    for Compared { stored, path, .. } in without {
        let (name, instead) = (stored.model.config.name(), eval::instead_of_likelihood(&stored.model));
        text += &format!("{name} ({}) has no likelihood; {instead}\n", path.display());
    }
    text
}

fn rankings_json(rankings: &[Ranking], without: &[&Compared]) -> Value {
    let of_run = |run: &&Compared| json!({"model": run.stored.model.config.name(), "source": output::path(&run.path)});
    json!({"rankings": to_json(rankings), "without_likelihood": without.iter().map(of_run).collect::<Vec<_>>()})
}

/// Opens the images of a run, if something is measured on them, and recalls or measures its likelihoods.
fn compare(args: &Args, stored: Stored, path: &Path) -> Result<Compared> {
    let has_likelihood = eval::has_likelihood(&stored.model);
    let is_opened = has_likelihood || args.is_summary();
    let images = if is_opened { Some(args.data.open(&stored, args.split)?) } else { None };
    let (mut stored, likelihoods) = match &images {
        Some(images) if has_likelihood => likelihoods(args, stored, images)?,
        _ => (stored, vec![]),
    };
    // There may be many runs, so only what is drawn from is kept.
    stored.checkpoint.tensors.retain(|name, _| args.is_summary() && is_used(name));
    let images = images.filter(|_| args.is_summary());
    Ok(Compared { stored, path: path.to_path_buf(), images, likelihoods })
}

/// The likelihoods of a run, which are recalled if they are known.
fn likelihoods(args: &Args, stored: Stored, images: &Arc<Images>) -> Result<(Stored, Vec<Likelihood>)> {
    held_out::warn_if_trained_on(&stored, &args.data, images, args.split);
    let mut known = measured::recall(&stored, images, args.split);
    if let (Some(wanted), true) = (args.iwae, has_bounds(&stored)) {
        let samples = |row: &Likelihood| row.protocol.estimate.importance_samples();
        known.retain(|row| samples(row).is_none_or(|k| k == wanted));
        if !known.iter().any(|row| samples(row) == Some(wanted)) {
            known.clear();
        }
    }
    if !known.is_empty() {
        return Ok((stored, known));
    }
    let mut trained = Trained::of(stored, &args.device)?;
    let busy = Busy::new(&format!("measuring {}", trained.stored.origin()));
    let k = args.iwae.unwrap_or(DEFAULT_IWAE);
    let found = measured::measure(&mut trained, images.clone(), args.split, k)?;
    drop(busy);
    measured::keep(&trained.stored, &found.likelihoods);
    Ok((trained.stored, found.likelihoods))
}

/// Whether the model is measured by the bounds ELBO and IWAE-K.
fn has_bounds(stored: &Stored) -> bool {
    matches!(stored.model.family, Family::Latent(_))
}
