//! `pixtape demo`: trains one model of each of three families on the built-in digits and writes a page
//! about them.

use super::args::DeviceArgs;
use super::output;
use super::progress::Progress;
use super::signals::stop_on_signals;
use crate::demo::{self, Finished};
use crate::error::Result;
use crate::report::text::text_table;
use serde_json::json;
use std::path::PathBuf;

/// Train one model of each of three families on the built-in digits in a few minutes, and write a report
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: pixtape demo && xdg-open runs/demo/report.html")]
pub(super) struct Args {
    /// Folder of the demo; the results of an earlier demo in it are replaced
    #[arg(long, value_name = "DIR", default_value = "runs/demo")]
    out: PathBuf,
    /// Divide the number of training steps by this
    #[arg(long, value_name = "N", default_value_t = 1, hide = true, value_parser = clap::value_parser!(u32).range(1..))]
    divide: u32,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print one JSON object on stdout at the end
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<()> {
    let stop = stop_on_signals()?;
    let (mut act, mut progress) = ("", Progress::new());
    let device = args.device.name()?;
    let finished = demo::run(&args.out, device, args.device.threads, args.divide, &stop, &mut |family, event| {
        if act != family {
            progress.end();
            (act, progress) = (family, Progress::new());
            output::note(&format!("\n{family}"));
        }
        progress.show(&event);
    })?;
    progress.end();
    let Some(Finished { page, results }) = finished else {
        output::note("the demo was stopped; run it again for the whole page");
        return Ok(());
    };
    let rows = demo::rows(&results);
    if args.json {
        let models: Vec<_> = rows
            .iter()
            .map(|row| json!(demo::header().into_iter().zip(row).collect::<std::collections::BTreeMap<_, _>>()))
            .collect();
        return output::json(&json!({ "report": output::path(&page), "models": models }));
    }
    let header = demo::header();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    output::print(&format!("\n{}\nreport: {}\n", text_table(&header, &rows), page.display()))
}
