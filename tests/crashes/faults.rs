//! Every write, sync and rename of a training fails once: the disk is full (ENOSPC, and stays so) or broken
//! (EIO, once). The program says so in one sentence, and the run can be continued to the same bits.

use super::{Library, MODEL, Place, failed, logged_like, temporary_files};
use std::path::Path;
use std::process::Output;

const STEPS: u32 = 4;

fn train() -> String {
    format!(
        "train {MODEL} --data own --steps {STEPS} --threads 1 --no-eval --set checkpoint_every=2 --set sample_every=4 \
         --set log_every=2"
    )
}

impl Place {
    /// Runs a command in which the call number `at` on a file of the folder `run` fails, and returns the
    /// number of calls that it made, too.
    fn faulty(&self, library: &Library, arguments: &str, error: &str, at: u32) -> (Output, u32) {
        let count = self.path("count");
        let mut command = self.command(arguments);
        command.env("LD_PRELOAD", library.path()).env("FAULT_COUNT", &count);
        command.env("FAULT_FOLDER", self.path("run").canonicalize().unwrap_or(self.path("run")));
        command.env("FAULT_AT", at.to_string()).env("FAULT_ERROR", error);
        let output = command.output().unwrap();
        let calls = std::fs::read_to_string(count).unwrap().trim().parse().unwrap();
        (output, calls)
    }

    /// Checks what a fault left behind: the sentence, and that the run ends like an undisturbed one.
    fn survives(&self, output: &Output, error: &str, at: u32) {
        let sentence = failed(output);
        assert!(sentence.contains("run"), "call {at}, {error}: {sentence}");
        if error == "ENOSPC" {
            assert!(sentence.contains("free some disk space"), "call {at}: {sentence}");
        }
        self.finish("run", &train());
        assert!(self.last("run", STEPS) == self.last("whole", STEPS), "call {at}, {error}: the bits differ");
        logged_like(&self.path("run"), &self.path("whole"));
        assert_eq!(temporary_files(&self.path("run")), [""; 0].map(Path::new), "call {at}, {error}");
    }
}

#[test]
fn every_call_of_a_training_may_fail() {
    let Some(library) = Library::build() else { return };
    let place = Place::new();
    let whole = place.command(&format!("{} --out whole", train())).output().unwrap();
    super::succeeded(&whole);
    let start = format!("{} --out run", train());
    let (output, calls) = place.faulty(&library, &start, "EIO", 0);
    super::succeeded(&output);
    // At least four per file that is replaced (write, sync, rename, sync of the folder).
    assert!(calls > 30, "only {calls} calls are seen");
    for error in ["ENOSPC", "EIO"] {
        for at in 1..=calls {
            place.remove("run");
            let (output, _) = place.faulty(&library, &start, error, at);
            place.survives(&output, error, at);
        }
    }
    println!("2 x {calls} calls of a new training failed");
}

#[test]
fn every_call_of_a_resumed_training_may_fail() {
    let Some(library) = Library::build() else { return };
    let place = Place::new();
    place.ok(&format!("{} --out whole", train()));
    let half = || {
        place.remove("run");
        place.ok(&format!("{} --out run", train()));
        let last = format!("run/checkpoints/step-{STEPS:06}.safetensors");
        std::fs::remove_file(place.path(&last)).unwrap();
    };
    half();
    let (output, calls) = place.faulty(&library, "train --resume run --data own --no-eval", "EIO", 0);
    super::succeeded(&output);
    assert!(calls > 15, "only {calls} calls are seen");
    for at in 1..=calls {
        half();
        let (output, _) = place.faulty(&library, "train --resume run --data own --no-eval", "EIO", at);
        place.survives(&output, "EIO", at);
    }
    println!("{calls} calls of a resumed training failed");
}

#[test]
fn a_folder_that_cannot_be_locked_is_trained_in_with_a_warning() {
    let Some(library) = Library::build() else { return };
    let place = Place::new();
    let start = |out: &str| place.command(&format!("{} --out {out}", train()));
    super::succeeded(&start("whole").output().unwrap());
    std::fs::create_dir(place.path("run")).unwrap();
    let mut command = start("run");
    command.env("LD_PRELOAD", library.path()).env("FAULT_FOLDER", place.path("run").canonicalize().unwrap());
    let output = command.env("FAULT_LOCK", "1").output().unwrap();
    super::succeeded(&output);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("warning: run cannot be locked (No locks available"), "{said}");
    assert!(place.last("run", STEPS) == place.last("whole", STEPS));
}
