//! Adapters by number and name, and what is said where there is none.

use crate::wgpu;
use std::process::{Command, Output};

fn pixtape(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pixtape"));
    command.args(arguments).env("RUST_BACKTRACE", "1").output().unwrap()
}

/// No Vulkan driver at all.
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
