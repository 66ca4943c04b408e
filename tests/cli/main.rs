//! The command line as a person uses it: its commands, its error messages, and runs that survive a kill.
//!
//! Each test runs the program `pixtape` in a temporary folder ([`Place`]) and reads its output and its
//! files. The models are presets with tiny sizes ([`TINY`]). The modules have one subject each.

mod autoregressive;
mod averages;
mod bad_data;
mod bad_files;
mod bad_usage;
mod bench;
mod classes;
mod classifier;
mod compare;
mod demo;
mod diverged;
mod few_labels;
mod folders;
mod held_out;
mod identity;
mod init;
mod judge;
mod latent;
mod limits;
#[cfg(target_os = "linux")]
mod long;
#[cfg(target_os = "linux")]
mod names;
mod outputs;
mod precision;
mod presets;
#[cfg(target_os = "linux")]
mod progress;
mod provenance;
mod resume;
mod runs;
mod sequences;
#[cfg(target_os = "linux")]
mod signals;
mod use_it;
mod validation;

use assert_cmd::Command;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;
use tempfile::TempDir;

/// The presets with sizes that train in a moment.
const TINY: [(&str, &str); 23] = [
    ("autoencoder-mnist", "--set model.channels=2 --set model.hidden=8 --set model.latent=3"),
    ("vae-mnist", "--set model.channels=2 --set model.hidden=8 --set model.latent=3"),
    ("vae-mlp-mnist", "--set model.hidden=8 --set model.latent=3"),
    ("pixelcnn-mnist", "--set model.hidden=2 --set model.blocks=1 --set model.head=4"),
    // With a schedule that falls towards the last step, prolonged training would differ from training in one
    // go.
    ("pixelcnn-cifar", "--set schedule.kind=constant --set model.hidden=3 --set model.blocks=1 --set model.head=6"),
    ("gated-pixelcnn-mnist", "--set model.hidden=2 --set model.layers=2 --set model.head=4 --set model.classes=10"),
    ("row-lstm-mnist", "--set model.hidden=2 --set model.layers=2 --set model.head=4"),
    ("diagonal-bilstm-mnist", "--set model.hidden=2 --set model.layers=2 --set model.head=4"),
    ("row-lstm-cifar", "--set model.hidden=3 --set model.layers=1 --set model.head=6"),
    ("diagonal-bilstm-cifar", "--set model.hidden=3 --set model.layers=1 --set model.head=6"),
    ("colorize-cifar", "--set model.hidden=3 --set model.blocks=1 --set model.head=6"),
    ("superres-mnist", "--set model.hidden=2 --set model.blocks=1 --set model.head=4"),
    ("superres-cifar", "--set model.hidden=3 --set model.blocks=1 --set model.head=6"),
    ("lstm-oscillator", "--set model.hidden=4"),
    ("lstm-pendulum", "--set model.hidden=4"),
    ("lstm-rows-mnist", "--set model.hidden=4"),
    ("gan-mnist", "--set model.channels=2 --set model.latent=4 --set critic_steps=2 --set ema=0.5"),
    ("dcgan-cifar", "--set model.channels=2 --set model.latent=4"),
    ("colorize-gan-cifar", "--set model.channels=2 --set model.latent=4"),
    ("superres-gan-mnist", "--set model.channels=2 --set model.latent=4"),
    ("classifier-mnist", "--set schedule.kind=constant --set model.channels=2 --set model.hidden=4"),
    ("classifier-fashion-mnist", "--set schedule.kind=constant --set model.channels=2 --set model.hidden=4"),
    ("classifier-cifar", "--set schedule.kind=constant --set model.channels=2 --set model.hidden=4"),
];

/// A temporary folder in which the commands of a test run.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Runs `pixtape` with arguments that are separated by spaces.
    fn run(&self, arguments: &str) -> Output {
        self.run_program(Path::new(env!("CARGO_BIN_EXE_pixtape")), &words(arguments))
    }

    fn run_program(&self, program: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.0.path()).env_remove("PIXTAPE_DATA").env("RUST_BACKTRACE", "1");
        // If it is not set, graphics drivers complain on stderr.
        command.env("XDG_RUNTIME_DIR", self.0.path());
        let output = command.timeout(Duration::from_secs(600)).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked") && !said.contains("bug in pixtape"), "{arguments:?}: {said}");
        output
    }

    /// Runs a command that must succeed, and returns its stdout.
    #[track_caller]
    fn ok(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command with `--json`, whose stdout must be one JSON value.
    #[track_caller]
    fn json(&self, arguments: &str) -> Value {
        let text = self.ok(&format!("{arguments} --json"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments}: {error} in {text}"))
    }

    /// Runs a command that must fail with this exit code and one sentence that contains all of `parts`.
    #[track_caller]
    fn refused(&self, code: i32, arguments: &str, parts: &[&str]) -> String {
        refusal(&self.run(arguments), code, parts)
    }
}

/// Returns the one sentence of a failed command.
#[track_caller]
fn refusal(output: &Output, code: i32, parts: &[&str]) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    // Training prints its progress on stderr. The error is the last line, and the only error.
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors[..] else { panic!("{} errors: {said}", errors.len()) };
    assert_eq!(said.lines().last(), Some(error), "{said}");
    assert!(error.chars().count() <= 3 * 110, "more than three lines of a terminal: {error}");
    assert!(!error.contains(".partial"), "a temporary name: {error}");
    for part in parts {
        assert!(error.contains(part), "\"{part}\" is missing: {error}");
    }
    error.to_string()
}

/// The words of a line.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// The arguments that train a tiny model of this preset for some steps into `out`.
fn tiny(preset: &str, steps: u32, out: &str) -> String {
    let (_, sizes) = TINY.into_iter().find(|(name, _)| *name == preset).unwrap();
    let data = data_of(preset);
    format!(
        "train {preset} --data {data} --batch 8 --steps {steps} --seed 3 --out {out} --no-eval --set sample_every=0 {sizes}"
    )
}

/// The data set of a tiny model of this preset.
fn data_of(preset: &str) -> &'static str {
    match preset {
        "lstm-oscillator" => "oscillator",
        "lstm-pendulum" => "pendulum",
        "classifier-cifar" => "labelled",
        _ if preset.ends_with("-cifar") => "colour",
        _ => "glyphs",
    }
}

/// A folder `colour` of 32x32 RGB pictures, and a folder `labelled` of the same pictures in two classes.
fn draw_colour_folder(place: &Place) {
    for folder in ["colour", "labelled/even", "labelled/odd"] {
        std::fs::create_dir_all(place.path(folder)).unwrap();
    }
    for i in 0..60_u32 {
        let pixel = |x: u32, y: u32| image::Rgb([(x * 8 + i) as u8, (y * 8) as u8, ((x ^ y) * i) as u8]);
        let picture = image::RgbImage::from_fn(32, 32, pixel);
        let class = if i % 2 == 0 { "even" } else { "odd" };
        for folder in ["colour", &format!("labelled/{class}")] {
            picture.save(place.path(&format!("{folder}/{i:03}.png"))).unwrap();
        }
    }
}

fn is_png(bytes: &[u8]) -> bool {
    image::load_from_memory_with_format(bytes, image::ImageFormat::Png).is_ok()
}
