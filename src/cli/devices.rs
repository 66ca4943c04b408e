//! `pixtape devices`: lists the devices that this program can compute on.

use super::output;
use crate::backend::{self, DeviceInfo};
use crate::error::Result;
use crate::memory;
use crate::report::text::text_table;
use serde_json::json;
use std::collections::BTreeMap;

/// List the devices of this machine
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: pixtape devices --json")]
pub(super) struct Args {
    /// Print one JSON object on stdout: devices, unusable, and not_in_this_build
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<()> {
    let devices = backend::devices()?;
    let memory = memory::total_bytes();
    let absent = backend::not_in_this_build();
    if args.json {
        let object = |(name, info): &(String, DeviceInfo)| {
            let mut device = json!(info);
            device["device"] = json!(name);
            if info.kind == "cpu" {
                device["memory_bytes"] = json!(memory);
            }
            device
        };
        let devices: Vec<_> = devices.iter().map(object).collect();
        let unusable: BTreeMap<&str, String> = backend::unusable().into_iter().collect();
        return output::json(&json!({"devices": devices, "unusable": unusable, "not_in_this_build": absent}));
    }
    let memory = memory.map_or("unknown".to_string(), |bytes| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)));
    let row = |(name, info): (String, DeviceInfo)| {
        let of_cpu = |text: String| if info.kind == "cpu" { text } else { String::new() };
        let (threads, memory) = (of_cpu(info.threads.to_string()), of_cpu(memory.clone()));
        vec![name, info.name, info.detail, threads, memory]
    };
    let rows: Vec<_> = devices.into_iter().map(row).collect();
    let mut text = text_table(&["device", "name", "features", "threads", "memory"], &rows);
    for (name, why) in backend::unusable() {
        text += &format!("\nNo {name}: {why}.\n");
    }
    if !absent.is_empty() {
        text += &format!("\nNot in this build: {}.\n", absent.join(", "));
    }
    output::print(&text)
}
