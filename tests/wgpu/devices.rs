//! Adapters by number and name, the messages for a missing or insufficient adapter, and the limits of an
//! adapter.

use crate::wgpu;
use pixtape::shape::Meta;
use pixtape::tape::Tape;
use pixtape::tape::plan::Plan;
use std::process::{Command, Output};

fn pixtape(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pixtape"));
    command.args(arguments).env("RUST_BACKTRACE", "1").output().unwrap()
}

/// Runs the program without any Vulkan driver.
#[cfg(target_os = "linux")]
#[test]
fn without_a_driver_one_sentence_names_the_package() {
    let without = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pixtape"));
        let none = [("VK_DRIVER_FILES", "/no/such/driver.json"), ("VK_ICD_FILENAMES", "/no/such/driver.json")];
        command.args(arguments).envs(none).output().unwrap()
    };
    let refused = without(&["check", "--only", "sgd", "--device", "wgpu"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("mesa-vulkan-drivers") && !said.contains("panicked"), "{said}");
    let automatic = without(&["check", "--only", "sgd", "--device", "auto"]);
    let said = String::from_utf8_lossy(&automatic.stderr);
    assert_eq!(automatic.status.code(), Some(0), "{said}");
    assert!(said.contains("device: cpu") && said.contains("graphics card"), "{said}");
}

#[test]
fn adapters_are_listed_and_chosen_by_number_and_name() {
    if wgpu().is_none() {
        return;
    }
    let listed = pixtape(&["devices", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let first = listed["devices"].as_array().unwrap().iter().find(|d| d["device"] == "wgpu:0").unwrap();
    let name = first["name"].as_str().unwrap();
    for device in ["wgpu:0", &format!("wgpu:{}", name.to_uppercase())] {
        let checked = pixtape(&["check", "--only", "sgd", "--device", device]);
        let said = String::from_utf8_lossy(&checked.stderr);
        assert_eq!(checked.status.code(), Some(0), "{said}");
        let software = first["detail"].as_str().unwrap().contains("software");
        assert_eq!(said.contains("warning: "), software, "{said}");
    }
    let missing = pixtape(&["check", "--only", "sgd", "--device", "wgpu:77"]);
    let said = String::from_utf8_lossy(&missing.stderr);
    assert_eq!(missing.status.code(), Some(1), "{said}");
    assert!(said.contains("0 is ") && said.contains(name), "{said}");
}

#[test]
fn a_plan_that_is_too_large_is_refused_by_name() {
    let Some(mut device) = wgpu() else { return };
    let t = Tape::new();
    // No device gets more than 2 GiB in one binding.
    let x = t.input("pixels", Meta::f32([(1 << 29) + 1]));
    t.output("mean", t.mean(x));
    let why = device.compile(&Plan::new("large", &t)).unwrap_err().to_string();
    assert!(why.contains("input pixels of the plan large takes 2049 MiB"), "{why}");
    assert!(why.contains("smaller batch") && why.contains("--device cpu"), "{why}");
}

/// The bench reports each kernel as a fraction of the limit that it measures for the device.
#[test]
fn kernels_are_held_against_the_limits_of_the_device() {
    if wgpu().is_none() {
        return;
    }
    let timed = pixtape(&["bench", "kernels", "relu_64x64x28x28/fwd", "--device", "wgpu", "--json"]);
    assert_eq!(timed.status.code(), Some(0), "{}", String::from_utf8_lossy(&timed.stderr));
    let report: serde_json::Value = serde_json::from_slice(&timed.stdout).unwrap();
    let fraction = report["results"][0]["limit_fraction"].as_f64().unwrap();
    // The size of the fraction depends on the load of the machine, so only its sign is tested.
    assert!(fraction > 0.0 && fraction.is_finite(), "{fraction} of the limit");
}

#[cfg(target_os = "linux")]
#[test]
fn nothing_is_said_of_a_screen_that_is_not_there() {
    if wgpu().is_none() {
        return;
    }
    let listed =
        Command::new(env!("CARGO_BIN_EXE_pixtape")).arg("devices").env_remove("XDG_RUNTIME_DIR").output().unwrap();
    let said = String::from_utf8_lossy(&listed.stderr);
    assert!(listed.status.success() && !said.contains("XDG_RUNTIME_DIR"), "{said}");
}
