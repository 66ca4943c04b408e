//! `pixtape devices`: where can be computed.

use super::output;
use crate::backend::cpu::memory;
use crate::backend::{self, DEVICES};
use crate::error::Result;
use crate::report::text::text_table;
use serde_json::json;

/// List the devices of this machine
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: pixtape devices --json")]
pub(super) struct Args {
    /// Print one JSON object on stdout: devices, and not_in_this_build
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<()> {
    let cpu = backend::open("cpu", 0)?.describe();
    let memory = memory::total_bytes();
    let absent: Vec<&str> = DEVICES.into_iter().filter(|name| !["auto", "cpu"].contains(name)).collect();
    if args.json {
        let mut device = json!(cpu);
        device["memory_bytes"] = json!(memory);
        return output::json(&json!({"devices": [device], "not_in_this_build": absent}));
    }
    let memory = memory.map_or("unknown".to_string(), |bytes| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)));
    let row = vec![cpu.kind, cpu.name, cpu.detail, cpu.threads.to_string(), memory];
    let table = text_table(&["device", "name", "features", "threads", "memory"], &[row]);
    output::print(&format!("{table}\nNot in this build: {}. auto takes cpu.\n", absent.join(", ")))
}
