//! `pixtape check`: checks the kernels of a device by reference cases.

use super::args::DeviceArgs;
use super::output;
use super::progress::Busy;
use crate::check::builtin::run_builtin;
use crate::check::reference::{Report, run_file};
use crate::error::{Error, Result};
use serde_json::json;
use std::path::PathBuf;

/// Check the kernels of a device by reference cases
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: pixtape check cases.safetensors --only conv2d,lstm --json\n\n\
    docs/reference-cases.md describes how to write such a file with PyTorch, JAX or NumPy.")]
pub(super) struct Args {
    /// Files of reference cases (default: the cases built into the program)
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Ops to check, separated by commas (default: all)
    #[arg(long, value_name = "OP,...", value_delimiter = ',')]
    only: Vec<String>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print one JSON object on stdout: device, precision, cases
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<()> {
    let mut backend = args.device.open()?;
    let busy = Busy::new("checking");
    let report = match args.files.as_slice() {
        [] => run_builtin(&args.only, &mut *backend)?,
        files => {
            let mut all = Report::new(&*backend);
            for file in files {
                all.cases.extend(run_file(file, &args.only, &mut *backend)?.cases);
            }
            all
        }
    };
    drop(busy);
    if args.json {
        output::json(&json!(report))?
    } else {
        output::line(&report.to_string())?
    }
    if report.pass() {
        return Ok(());
    }
    let failed = report.cases.iter().filter(|case| !case.pass).count();
    Err(Error::Failed(format!("{failed} of {} cases failed; their lines show by how much", report.cases.len())))
}
