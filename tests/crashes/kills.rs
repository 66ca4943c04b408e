//! SIGKILL at random moments of a training: while it starts, in its first step, while a checkpoint, a row of
//! metrics, a picture or the report is written, and while the likelihood is measured.

use super::{MODEL, Place, logged_like, next_command, succeeded, temporary_files};
use pixtape::rng::{Stream, uniform};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

const STEPS: u32 = 24;

/// Where a run was killed, as far as its folder shows.
fn phase(folder: &Path) -> &'static str {
    let last = folder.join(format!("checkpoints/step-{STEPS:06}.safetensors"));
    let has_checkpoints = folder.join("checkpoints").read_dir().is_ok_and(|mut names| {
        names.any(|name| name.unwrap().path().extension().is_some_and(|end| end == "safetensors"))
    });
    if !folder.join("config.toml").is_file() {
        "before the configuration was written"
    } else if !temporary_files(folder).is_empty() {
        "while a file was written"
    } else if last.is_file() {
        "after the last step"
    } else if has_checkpoints {
        "between checkpoints"
    } else {
        "before the first checkpoint"
    }
}

/// Kills trainings `wanted` times. Whenever one is done, its bits are compared and the next one begins.
fn kill(wanted: u32, seed: u32) {
    let place = Place::new();
    let train = format!(
        "train {MODEL} --data own --steps {STEPS} --threads 2 --set checkpoint_every=3 --set sample_every=8 \
         --set log_every=2"
    );
    let start = Instant::now();
    place.ok(&format!("{train} --out whole"));
    let whole = start.elapsed();
    let (mut kills, mut done, mut draws) = (0, 0, 0);
    let mut phases: BTreeMap<&str, u32> = BTreeMap::new();
    let check = |kills: u32| {
        assert!(place.last("run", STEPS) == place.last("whole", STEPS), "after {kills} kills the bits differ");
        logged_like(&place.path("run"), &place.path("whole"));
        assert_eq!(temporary_files(&place.path("run")), [""; 0].map(Path::new));
    };
    let run = place.path("run");
    while kills < wanted {
        let mut child = place.command(&next_command(&run, "run", &train)).spawn().unwrap();
        draws += 1;
        std::thread::sleep(whole.mul_f32(uniform(seed, Stream::Test, [draws, 0])));
        if child.try_wait().unwrap().is_some() {
            succeeded(&child.wait_with_output().unwrap());
            check(kills);
            done += 1;
            place.remove("run");
            continue;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        *phases.entry(phase(&run)).or_default() += 1;
    }
    place.finish("run", &train);
    check(kills);
    done += 1;
    println!("{kills} kills, {done} trainings with the same bits, {:.0} s: {phases:?}", start.elapsed().as_secs_f32());
    assert!(start.elapsed() > Duration::from_millis(1) && phases.len() >= 3, "the kills hit only {phases:?}");
}

#[test]
fn twenty_five_kills() {
    kill(25, 1);
}

#[test]
#[ignore = "takes minutes"]
fn thousand_kills() {
    kill(1000, 2);
}
