//! `pixtape bench`: times this machine, and compares it with its own limits and with other benchmark
//! files.

use super::args::DeviceArgs;
use super::output;
use crate::bench::report::{Entry, Reference, ratio_table};
use crate::bench::{self, Kind, Options, steps};
use crate::error::{Error, Result};
use clap::ValueEnum;
use serde_json::json;
use std::path::PathBuf;

/// Time kernels, training steps or sampling, and compare them with the limits of the machine
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  pixtape bench steps vae-mnist dcgan-cifar --json > before.json\n  \
                        pixtape bench steps vae-mnist --against before.json\n  pixtape bench kernels conv3x3 matmul_1024")]
pub(super) struct Args {
    /// What to time
    #[arg(value_name = "KIND")]
    kind: KindName,
    /// Names of workloads, or parts of the names of kernels (default: all)
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Compare with a benchmark file: our results divided by those of the file
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Show the time of each launch of training steps instead
    #[arg(long, conflicts_with = "against")]
    profile: bool,
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
    let kind = match args.kind {
        KindName::Kernels => Kind::Kernels,
        KindName::Steps => Kind::Steps,
        KindName::Sampling => Kind::Sampling,
    };
    let options = Options { device: args.device.name()?.to_string(), threads: args.device.threads, names: args.names };
    if args.profile {
        return profile(kind, &options, args.json);
    }
    let progress = |entry: &Entry| output::note(&format!("{}: {:.3} ms", entry.name, entry.median_ms));
    let report = bench::run(kind, &options, &mut { progress })?;
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
