//! Clocks that jump: the time of the day by a year, forwards and back, and the steady clock by hours. Only
//! the printed times change.

use super::{Library, MODEL, Place, logged_like, succeeded};
use std::time::{Duration, Instant};

const STEPS: u32 = 12;

#[test]
fn only_the_printed_times_change_if_the_clocks_jump() {
    let Some(library) = Library::build() else { return };
    let place = Place::new();
    let train = format!("train {MODEL} --data own --steps {STEPS} --set checkpoint_every=5 --set log_every=1");
    place.ok(&format!("{train} --out whole"));
    let mut command = place.command(&format!("{train} --out run"));
    let start = Instant::now();
    succeeded(&command.env("LD_PRELOAD", library.path()).env("FAULT_CLOCK", "1").output().unwrap());
    assert!(start.elapsed() < Duration::from_secs(300), "it waited for the clock");
    assert!(place.last("run", STEPS) == place.last("whole", STEPS), "the clock changes the bits");
    logged_like(&place.path("run"), &place.path("whole"));
    let config = |run: &str| std::fs::read(place.path(run).join("config.toml")).unwrap();
    assert_eq!(config("run"), config("whole"));
    // The jumps did arrive: the run has taken hours.
    let metrics = std::fs::read_to_string(place.path("run/metrics.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    assert!(last["seconds"].as_f64().unwrap() > 3600.0, "{last}");
}
