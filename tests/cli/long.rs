//! Long trainings: memory, threads and open files do not grow with the number of steps.

use super::resume::spawn;
use super::runs::steps;
use super::{Place, tiny};
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

/// What a process has at a moment.
#[derive(Debug, PartialEq)]
struct Held {
    resident_kib: u64,
    threads: u64,
    files: usize,
}

/// `None` if the process has ended.
fn held(process: u32) -> Option<Held> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let number = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let files = fs::read_dir(format!("/proc/{process}/fd")).ok()?.count();
    Some(Held { resident_kib: number("VmRSS:")?, threads: number("Threads:")?, files })
}

/// The least of several moments: while a file is written, there are more open ones.
fn least(process: u32) -> Held {
    let mut least = held(process).expect("it trains");
    for _ in 0..50 {
        std::thread::sleep(Duration::from_millis(1));
        let Held { resident_kib, threads, files } = held(process).expect("it trains");
        least.resident_kib = least.resident_kib.min(resident_kib);
        least.threads = least.threads.min(threads);
        least.files = least.files.min(files);
    }
    least
}

/// Trains for this number of steps and compares what the process holds at step 1 000 and at the last one.
/// Checkpoints, pictures and metrics are written all the time.
fn trains_without_growing(total: u32) {
    let place = Place::new();
    let often = "--threads 2 --device cpu --set checkpoint_every=250 --set log_every=10";
    let train = tiny("vae-mlp-mnist", 10 * total, "run").replace("sample_every=0", "sample_every=500");
    let mut child = spawn(&place, &format!("{train} {often}"));
    let pictures = place.path("run/samples");
    let mut held_at = |step: u32| {
        let (picture, start) = (pictures.join(format!("step-{step:06}.png")), Instant::now());
        while !picture.exists() {
            assert!(child.try_wait().unwrap().is_none() && start.elapsed().as_secs() < 3600, "it ends before {step}");
            std::thread::sleep(Duration::from_millis(1));
        }
        least(child.id())
    };
    let (early, late) = (held_at(1000), held_at(total));
    // An interrupt makes it write its report.
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    child.wait().unwrap();
    println!("step 1000: {early:?}, step {total}: {late:?}");
    assert_eq!((late.threads, late.files), (early.threads, early.files));
    assert!(late.resident_kib <= early.resident_kib + 2048, "{early:?}, then {late:?}");
    assert!((3..=4).contains(&steps(&place, "run").len()));
    let size = |name: &str| fs::metadata(place.path(name)).unwrap().len();
    assert!(size("run/metrics.jsonl") < 250 * u64::from(total));
    assert!(size("run/report.html") < 1 << 20);
}

#[test]
fn ten_thousand_steps_hold_what_one_thousand_steps_hold() {
    trains_without_growing(10_000);
}

#[test]
#[ignore = "takes minutes"]
fn a_hundred_thousand_steps_hold_what_one_thousand_steps_hold() {
    trains_without_growing(100_000);
}
