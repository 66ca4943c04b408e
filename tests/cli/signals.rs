//! Signals during training: the checkpoint is saved, and the exit code names the signal.

use super::resume::saved;
use super::{Place, tiny, words};
use pixtape::store::Checkpoint;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// More steps than any of these runs gets to.
const FAR: u32 = 1_000_000;

/// The signals by name with the exit codes that they lead to.
const SIGNALS: [(&str, i32); 3] = [("HUP", 129), ("INT", 130), ("TERM", 143)];

/// A training in the background, whose stderr is read line by line.
struct Training {
    child: Child,
    said: BufReader<std::process::ChildStderr>,
}

impl Training {
    /// Starts `pixtape` with these arguments. Signals have their default action, whatever this test has
    /// inherited.
    fn start(place: &Place, arguments: &str) -> Self {
        Training::of(place, "env --default-signal=HUP,INT,TERM", arguments)
    }

    /// The same, started by another command.
    fn of(place: &Place, starter: &str, arguments: &str) -> Self {
        let starter = words(starter);
        let mut child = Command::new(starter[0])
            .args(&starter[1..])
            .arg(env!("CARGO_BIN_EXE_pixtape"))
            .args(words(arguments))
            .current_dir(place.path(""))
            .env("XDG_RUNTIME_DIR", place.path(""))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        Training { child, said }
    }

    fn send(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Reads lines until one contains `part`.
    fn wait_for_line(&mut self, part: &str) {
        let mut line = String::new();
        while !line.contains(part) {
            line.clear();
            assert!(self.said.read_line(&mut line).unwrap() > 0, "it ended before it said \"{part}\"");
        }
    }

    /// Waits until the run has saved a step above `step`.
    fn wait_for_checkpoint(&mut self, place: &Place, step: u32) {
        let start = Instant::now();
        while saved(&place.path("run")) <= step {
            assert!(start.elapsed() < Duration::from_secs(120), "nothing is saved");
            assert!(self.child.try_wait().unwrap().is_none(), "it ended by itself");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end. Returns the status, stdout, and the rest of stderr.
    fn end(mut self) -> (ExitStatus, String, String) {
        let mut said = String::new();
        self.said.read_to_string(&mut said).unwrap();
        let output = self.child.wait_with_output().unwrap();
        (output.status, String::from_utf8(output.stdout).unwrap(), said)
    }
}

/// A run that saves a checkpoint every 20 steps and does not end by itself.
fn endless() -> String {
    format!("{} --set checkpoint_every=20", tiny("vae-mlp-mnist", FAR, "run"))
}

/// A run whose first step takes seconds.
fn slow() -> String {
    let sizes = "--set model.hidden=32 --set model.blocks=4 --set model.head=32 --threads 1 --device cpu";
    format!("train pixelcnn-mnist --data glyphs --batch 500 --steps {FAR} --out run --no-eval {sizes}")
}

#[test]
fn each_signal_saves_a_checkpoint_and_has_its_own_exit_code() {
    for (signal, code) in SIGNALS {
        let place = Place::new();
        let mut training = Training::start(&place, &endless());
        training.wait_for_checkpoint(&place, 0);
        let before = saved(&place.path("run"));
        training.send(signal);
        let (status, told, said) = training.end();
        assert_eq!(status.code(), Some(code), "{signal}: {said}");
        assert!(said.contains("a second signal stops at once"), "{said}");
        assert!(told.contains("stopped at step") && told.contains("pixtape train --resume run"), "{told}");
        let step = saved(&place.path("run"));
        assert!(step >= before && step < FAR);
        let checkpoint = Checkpoint::load(&place.path(&format!("run/checkpoints/step-{step:06}.safetensors")));
        assert_eq!(checkpoint.unwrap().step, u64::from(step));
        assert!(place.path("run/report.html").is_file());
        let done = place.json(&format!("train --resume run --steps {} --no-eval", step + 3));
        assert_eq!((&done["step"], &done["interrupted"]), (&(step + 3).into(), &false.into()));
    }
}

#[test]
fn a_second_signal_ends_a_training_at_once() {
    let place = Place::new();
    let mut training = Training::start(&place, &slow());
    training.wait_for_line("parameters");
    training.send("INT");
    training.wait_for_line("stopping after this step");
    training.send("TERM");
    let (status, told, said) = training.end();
    assert_eq!(status.code(), Some(143), "{said}");
    assert!(told.is_empty(), "{told}");
    assert_eq!(saved(&place.path("run")), 0, "a step was waited for");
}

#[test]
fn a_run_that_must_outlive_its_terminal_does() {
    let place = Place::new();
    let mut training = Training::of(&place, "env --default-signal=INT,TERM --ignore-signal=HUP", &endless());
    training.wait_for_checkpoint(&place, 0);
    training.send("HUP");
    let at = saved(&place.path("run"));
    training.wait_for_checkpoint(&place, at + 20);
    training.send("TERM");
    assert_eq!(training.end().0.code(), Some(143));
}

#[test]
fn a_reader_that_a_signal_ends_too_does_not_change_the_exit_code() {
    let place = Place::new();
    let mut training = Training::start(&place, &format!("{} --json", endless()));
    training.wait_for_checkpoint(&place, 0);
    drop(training.child.stdout.take());
    training.send("INT");
    let (status, _, said) = training.end();
    assert_eq!(status.code(), Some(130), "{said}");
}

#[test]
fn a_demo_that_is_stopped_says_so() {
    let place = Place::new();
    let mut demo = Training::start(&place, "demo --out demo --device cpu");
    demo.wait_for_line("parameters");
    demo.send("TERM");
    let (status, told, said) = demo.end();
    assert_eq!((status.code(), told.as_str()), (Some(143), ""), "{said}");
    assert!(said.contains("the demo was stopped") && !said.contains("error"), "{said}");
}

#[test]
fn the_help_documents_the_exit_codes() {
    let place = Place::new();
    for command in ["--help", "train --help"] {
        let help = place.ok(command);
        assert!(help.contains("Exit codes: 0 "), "{help}");
        assert!(["129", "130", "143"].iter().all(|code| help.contains(code)), "{help}");
    }
}
