//! `pixtape demo`: trains one model of each of three families on the built-in digits and writes a page
//! about them.

use super::args::DeviceArgs;
use super::output;
use super::progress::Progress;
use super::signals::stop_on_signals;
use crate::demo::{self, Finished, Table};
use crate::error::Result;
use crate::report::text::text_table;
use serde_json::json;
use std::path::PathBuf;

/// Train one model of each of three families on the built-in digits in two minutes, and write a report
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: pixtape demo && xdg-open runs/demo/report.html\n\n\
    A classifier, which is trained first, judges what the models draw. It is sure of an image if it gives one of the\n\
    digits more than 0.9 of the probability; its eleventh class is \"no digit\".")]
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
    let (out, device) = (&*args.out, args.device.name()?);
    let options = demo::Options { out, device, threads: args.device.threads, divide: args.divide };
    let finished = demo::run(&options, &stop, &mut |name, event| {
        if act != name {
            progress.end();
            (act, progress) = (name, Progress::new());
            output::note(&format!("\n{name}"));
        }
        progress.show(&event);
    })?;
    progress.end();
    let Some(Finished { page, device, seconds, judged, measured }) = finished else {
        output::note("the demo was stopped; run it again for the whole page");
        return Ok(());
    };
    if args.json {
        return output::json(&json!({
            "report": output::path(&page),
            "device": device,
            "seconds": seconds,
            "judged": judged.to_json(),
            "models": measured.to_json(),
        }));
    }
    output::print(&format!(
        "\n{}\nrecognised: the judge, a classifier that also knows \"no digit\", gives a digit more than {} of the\n\
        probability; the rows below the models show how far it can be trusted\n\n{}\n{}, {seconds:.0} s\nreport: {}\n",
        as_text(&judged),
        demo::SURE,
        as_text(&measured),
        device.name,
        page.display()
    ))
}

fn as_text(table: &Table) -> String {
    let head: Vec<&str> = table.head.iter().map(String::as_str).collect();
    text_table(&head, &table.rows)
}
