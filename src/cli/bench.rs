//! `pixtape bench`: times this machine, and compares it with its own limits and with other benchmark
//! files.

use super::args::{DeviceArgs, Precision};
use super::out_file::{self, OutFile};
use super::output;
use crate::bench::report::{Entry, Reference, ratio_table};
use crate::bench::{self, Kind, Options, steps};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::store::{Checkpoint, RunDir};
use clap::ValueEnum;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Time kernels, training steps or sampling, and compare them with the limits of the machine
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  pixtape bench steps vae-mnist dcgan-cifar --json > before.json\n  \
                        pixtape bench steps vae-mnist --against before.json\n  pixtape bench kernels conv3x3 matmul_1024\n  \
                        pixtape bench kernels --from-run runs/mine --batch 32\n  \
                        pixtape bench steps pixelcnn-mnist --batch 1,8,64,512 --size 16,32 --threads 1")]
pub(super) struct Args {
    /// What to time
    #[arg(value_name = "KIND")]
    kind: KindName,
    /// Names of workloads, or parts of the names of kernels (default: all)
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Time the model of this run (folder or checkpoint): with `kernels` every distinct launch of its
    /// training step, and how often the step has it; with `steps` the whole step
    #[arg(long, value_name = "DIR", conflicts_with = "profile")]
    from_run: Option<PathBuf>,
    /// Images per batch of training steps; several numbers give several results
    #[arg(long, value_name = "N,N", value_delimiter = ',', conflicts_with = "profile")]
    batch: Vec<usize>,
    /// Height and width of the images of training steps, for models of images of any size
    #[arg(long, value_name = "N,N", value_delimiter = ',', conflicts_with = "profile")]
    size: Vec<usize>,
    /// Repeat each kernel on the same operands, so that those of small kernels are in a cache, instead of on
    /// operands that no cache holds
    #[arg(long, conflicts_with_all = ["profile", "from_run"])]
    warm: bool,
    /// Compare with a benchmark file: our results divided by those of the file
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Write a roofline plot of the results: FLOPs per byte and GFLOP/s, under the limits of the machine
    #[arg(long, value_name = "FILE.svg", value_parser = out_file::plot(), conflicts_with = "profile")]
    roofline: Option<OutFile>,
    /// Show the time of each launch of training steps instead
    #[arg(long, conflicts_with = "against")]
    profile: bool,
    /// Precision of the operands of products (default: that of the run, otherwise f32)
    #[arg(long, value_name = "PRECISION")]
    precision: Option<Precision>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print a benchmark file: one JSON object on stdout (with --against also `ratios`; with --profile
    /// the launches of each step)
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindName {
    /// Single kernels
    Kernels,
    /// Whole training steps
    Steps,
    /// Sampling of images
    Sampling,
}

pub(super) fn run(args: Args) -> Result<()> {
    // The file is read before anything is timed, because an unreadable file should not cost minutes.
    let reference = args.against.as_deref().map(Reference::load).transpose()?;
    if let Some(file) = &args.roofline {
        let inputs: Vec<&Path> = [&args.against, &args.from_run].into_iter().flatten().map(PathBuf::as_path).collect();
        file.check(&inputs)?;
    }
    let kind = match args.kind {
        KindName::Kernels => Kind::Kernels,
        KindName::Steps => Kind::Steps,
        KindName::Sampling => Kind::Sampling,
    };
    let mut options = Options {
        device: args.device.name()?.to_string(),
        threads: args.device.threads,
        precision: args.precision.map(|precision| precision.key().operands()),
        names: args.names,
        model: args.from_run.as_deref().map(model_of).transpose()?,
        batches: args.batch,
        sides: args.size,
        is_warm: args.warm,
    };
    fit(kind, &mut options)?;
    if args.profile {
        return profile(kind, &options, args.json);
    }
    let progress = |entry: &Entry| output::note(&format!("{}: {:.3} ms", entry.name, entry.median_ms));
    let report = bench::run(kind, &options, &mut { progress })?;
    if let Some(file) = &args.roofline {
        output::write(file, report.roofline().to_svg().as_bytes())?;
        output::note(&format!("roofline: {}", file.display()));
    }
    let ratios = reference.map(|reference| reference.compare(&report));
    if args.json {
        let mut value = json!(report);
        if let Some(ratios) = ratios {
            value["ratios"] = json!(ratios);
        }
        return output::json(&value);
    }
    output::print(&report.to_string())?;
    ratios.map_or(Ok(()), |ratios| output::print(&format!("\n{}", ratio_table(&ratios))))
}

/// The configuration of a run folder or of a checkpoint.
fn model_of(run: &Path) -> Result<Config> {
    if run.exists() && !run.is_dir() {
        return Config::of_checkpoint(&Checkpoint::load(run)?.config, run);
    }
    let run = RunDir::open(run)?;
    Config::from_toml(&run.read_config()?, &run.config_path())
}

/// Checks that the kind has the options that are given. The launches of a model are those of one batch size,
/// which becomes that of the model.
fn fit(kind: Kind, options: &mut Options) -> Result<()> {
    let refuse = |what: &str| Err(Error::Usage(what.into()));
    if options.is_warm && kind != Kind::Kernels {
        return refuse("--warm is for kernels; training steps and sampling read what they have just written");
    }
    match (kind, &mut options.model) {
        (Kind::Steps, _) => Ok(()),
        (Kind::Kernels, Some(model)) => {
            match options.batches[..] {
                [] => {}
                [batch] => model.batch = batch,
                _ => return refuse("kernels --from-run takes one --batch; time several by several commands"),
            }
            match options.sides.is_empty() {
                true => model.validate(),
                false => refuse("--size is for steps; the kernels of a run are those of its images"),
            }
        }
        (Kind::Sampling, Some(_)) => refuse("--from-run is for kernels and steps"),
        (Kind::Kernels | Kind::Sampling, None) if !options.batches.is_empty() || !options.sides.is_empty() => {
            refuse("--batch and --size are for steps, and --batch for kernels --from-run")
        }
        (Kind::Kernels | Kind::Sampling, None) => Ok(()),
    }
}

fn profile(kind: Kind, options: &Options, as_json: bool) -> Result<()> {
    if kind != Kind::Steps || options.names.is_empty() {
        return Err(Error::Usage(
            "--profile needs the names of training steps: pixtape bench steps NAME --profile".into(),
        ));
    }
    let mut all = serde_json::Map::new();
    for name in &options.names {
        let launches = steps::profile(name, options)?;
        if as_json {
            all.insert(name.clone(), json!(launches));
        } else {
            output::print(&format!("{name}\n{}\n", steps::profile_table(&launches)))?;
        }
    }
    if as_json { output::json(&all.into()) } else { Ok(()) }
}
