//! Training that is killed, whose disk fails or is full, and whose clock jumps. It always ends with the bits
//! of an undisturbed run.
//!
//! - `kills`: SIGKILL at random moments. `cargo test --release --test crashes -- --ignored thousand` kills
//!   1,000 times.
//! - `faults`: every write, sync and rename fails once, by the preloaded library `faults.c`.
//! - `full`: a small file system that is full. It needs the right to mount one.
//! - `clock`: clocks that jump, by the same library.
//! - `same_bits`: runs that are resumed at every step with other numbers of threads.
//!
//! The library needs a C compiler. Without one, or without the right to mount, tests print SKIP and the
//! reason. With `faults` in `PIXTAPE_REQUIRE` a missing compiler is a failure.
#![cfg(target_os = "linux")]

mod clock;
mod faults;
mod full;
mod kills;
mod same_bits;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A small model with a picture, and with checkpoints of 130 kB.
const MODEL: &str = "vae-mlp-mnist --batch 8 --seed 3 --device cpu --set model.hidden=8 --set model.latent=3 \
                     --set binarize=dynamic --set schedule.kind=cosine --set ema=0.9";

/// A temporary folder with a small data set, in which the program runs.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        let pixel = |i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8;
        for (part, count) in [("train", 60_u32), ("t10k", 12)] {
            let sizes = [2051, count, 28, 28].into_iter().flat_map(u32::to_be_bytes);
            let images = sizes.chain((0..count * 784).map(pixel)).collect::<Vec<u8>>();
            place.write(&format!("own/{part}-images-idx3-ubyte"), &images);
            let sizes = [2049, count].into_iter().flat_map(u32::to_be_bytes);
            let labels = sizes.chain((0..count).map(|i| (i % 10) as u8)).collect::<Vec<u8>>();
            place.write(&format!("own/{part}-labels-idx1-ubyte"), &labels);
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// The program, with arguments that are separated by spaces.
    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pixtape"));
        command.args(arguments.split_whitespace()).current_dir(self.0.path());
        command.env_remove("PIXTAPE_DATA").env("XDG_RUNTIME_DIR", self.0.path()).env("RUST_BACKTRACE", "1");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command that must succeed.
    #[track_caller]
    fn ok(&self, arguments: &str) {
        succeeded(&self.command(arguments).output().unwrap());
    }

    /// The last checkpoint of a run.
    fn last(&self, run: &str, step: u32) -> Vec<u8> {
        std::fs::read(self.path(run).join(format!("checkpoints/step-{step:06}.safetensors"))).unwrap()
    }

    /// Removes a run.
    fn remove(&self, run: &str) {
        let path = self.path(run);
        if path.exists() {
            std::fs::remove_dir_all(path).unwrap();
        }
    }

    /// Trains until the run in the folder `run` is done: continues it if it can be continued.
    #[track_caller]
    fn finish(&self, run: &str, train: &str) {
        self.ok(&next_command(&self.path(run), run, train));
    }
}

/// The command that continues a run, or starts it if it has not begun.
fn next_command(folder: &Path, run: &str, train: &str) -> String {
    if folder.join("config.toml").is_file() {
        format!("train --resume {run} --data own")
    } else {
        format!("{train} --out {run}")
    }
}

#[track_caller]
fn succeeded(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

/// Checks that a command failed with exit code 1 and one clear sentence, which it returns.
#[track_caller]
fn failed(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!said.contains("panicked") && !said.contains("bug in pixtape"), "{said}");
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors[..] else { panic!("{} errors: {said}", errors.len()) };
    assert!(!error.contains(".pixtape-") && error.len() < 330, "{error}");
    error.to_string()
}

/// The temporary files in a run folder.
fn temporary_files(folder: &Path) -> Vec<PathBuf> {
    let folders = [folder.to_path_buf(), folder.join("checkpoints"), folder.join("samples")];
    let files = folders.iter().flat_map(|folder| folder.read_dir().into_iter().flatten().flatten());
    files.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "partial")).collect()
}

/// The loss terms of each logged step, as text. Times and speeds differ between runs.
fn losses(folder: &Path) -> Vec<(u64, String)> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let row = |line: &str| {
        let mut row: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        row.remove("seconds");
        row.remove("images_per_s");
        (row["step"].as_u64().unwrap(), serde_json::Value::from(row).to_string())
    };
    text.lines().map(row).collect()
}

/// Checks that a run logged each step once and in order, and with the losses of an undisturbed run.
#[track_caller]
fn logged_like(run: &Path, whole: &Path) {
    let (run, whole) = (losses(run), losses(whole));
    assert!(run.is_sorted_by(|(a, _), (b, _)| a < b), "{run:?}");
    // A resumed run also logs the first step after the start.
    assert!(whole.iter().all(|row| run.contains(row)), "{run:?} lacks rows of {whole:?}");
}

/// The preloaded library, built in a folder that is removed with it.
struct Library(TempDir);

impl Library {
    fn build() -> Option<Library> {
        let library = Library(tempfile::tempdir().unwrap());
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crashes/faults.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-std=gnu11", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]);
        let Ok(built) = compiler.arg(library.path()).arg(source).arg("-ldl").output() else {
            let required = std::env::var("PIXTAPE_REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|what| what == "faults"), "PIXTAPE_REQUIRE asks for `faults`: no cc");
            println!("SKIP: there is no C compiler (cc) to build the library that makes calls fail");
            return None;
        };
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Some(library)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("libfaults.so")
    }
}
