//! If a device is lost while the program uses it, the error says how to continue and is not reported as a
//! bug.
//!
//! The tests run the real program on Mesa's software driver. `lost_device.cpp` is a layer between the Vulkan
//! loader and that driver; it reports the device as lost after a given number of submissions.

use crate::{is_required, wgpu};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder with the driver that loses its device, and the library of the real driver.
struct Driver {
    folder: tempfile::TempDir,
    real: String,
}

/// Prints why the test does not run. Panics if `what` is required.
fn skip(what: &str, why: &str) -> Option<Driver> {
    assert!(!is_required(what), "PIXTAPE_REQUIRE asks for `{what}`: {why}");
    println!("SKIP: {why}");
    None
}

/// The manifest of Mesa's software driver, in the folder that distributions use.
fn software_driver() -> Option<PathBuf> {
    let drivers = std::fs::read_dir("/usr/share/vulkan/icd.d").ok()?;
    let mut drivers = drivers.filter_map(|entry| Some(entry.ok()?.path()));
    drivers.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("lvp_icd")))
}

impl Driver {
    fn build() -> Option<Driver> {
        wgpu()?;
        let Some(manifest) = software_driver() else {
            return skip("wgpu", "there is no software Vulkan (mesa-vulkan-drivers)");
        };
        let mut manifest: Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("liblost_device.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wgpu/lost_device.cpp");
        let mut compiler = Command::new("g++");
        compiler.args(["-std=c++17", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]).arg(&library).arg(source);
        let Ok(built) = compiler.arg("-ldl").output() else {
            return skip("wgpu", "there is no g++ to build a driver that loses its device");
        };
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let real = manifest["ICD"]["library_path"].as_str().unwrap().to_string();
        manifest["ICD"]["library_path"] = Value::from(library.to_str().unwrap());
        std::fs::write(folder.path().join("lost.json"), manifest.to_string()).unwrap();
        Some(Driver { folder, real })
    }

    /// Trains a small model on the device, which is lost after `submissions` submissions.
    fn train(&self, submissions: usize) -> Output {
        let run = self.folder.path().join(format!("run{submissions}"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_pixtape"));
        command.args(["train", "vae-mlp-mnist", "--data", "glyphs", "--steps", "6", "--device", "wgpu", "--no-eval"]);
        command.args(["--set", "model.hidden=8", "--set", "batch=4", "--out"]).arg(run);
        let manifest = self.folder.path().join("lost.json");
        command.env("VK_DRIVER_FILES", &manifest).env("VK_ICD_FILENAMES", &manifest);
        command.env("LOST_DRIVER", &self.real).env("LOST_AFTER", submissions.to_string());
        command.env("RUST_BACKTRACE", "1").output().unwrap()
    }
}

#[test]
fn a_lost_device_is_an_error_that_says_how_to_go_on() {
    let Some(driver) = Driver::build() else { return };
    let whole = driver.train(1_000_000);
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    let mut waited = false;
    for submissions in [20, 21, 22, 23, 24] {
        let output = driver.train(submissions);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{submissions}: {said}");
        assert!(said.contains("the device was lost") && said.contains("--resume"), "{submissions}: {said}");
        assert!(!said.contains("panicked") && !said.contains("bug in pixtape"), "{submissions}: {said}");
        waited |= said.contains("waiting for the device") || said.contains("while it was waited for");
    }
    assert!(waited, "the device is never lost while it is waited for");
}
