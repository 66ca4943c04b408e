//! A missing, too old or broken tool, device or file is reported in one sentence, with exit code 1 and no
//! panic.

use crate::stand_in::{Build, StandIn, text};
use std::collections::BTreeMap;
use std::process::Command;

/// Runs a command and expects exit code 1 and a sentence with these words.
#[track_caller]
fn refuses(command: &mut Command, words: &[&str]) {
    let output = command.output().unwrap();
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(error.lines().filter(|l| l.starts_with("error:")).count(), 1, "{printed}");
    assert!(!printed.contains("panicked"), "{printed}");
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {printed}");
    }
}

const CHECK: &str = "check --device cuda --only unary,matmul";

fn stand_in(variable: &str, value: &str) -> Option<Command> {
    let mut command = StandIn::get(Build::Plain)?.pixtape(CHECK);
    command.env(variable, value);
    Some(command)
}

#[test]
fn no_driver() {
    if std::path::Path::new("/dev/nvidia0").exists() {
        println!("SKIP: this machine has a card");
        return;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_pixtape"));
    command.args(CHECK.split(' ')).env_remove("LD_LIBRARY_PATH");
    refuses(&mut command, &["no CUDA driver", "install the NVIDIA driver", "--device cpu"]);
}

#[test]
fn no_card() {
    let Some(mut command) = stand_in("CUDA_ON_CPU_DEVICES", "0") else { return };
    refuses(&mut command, &["CUDA_ERROR_NO_DEVICE", "nvidia-smi"]);
}

#[test]
fn too_old_a_driver() {
    let Some(mut command) = stand_in("CUDA_ON_CPU_DRIVER", "11080") else { return };
    refuses(&mut command, &["CUDA 11.8", "12.0 is needed", "update it"]);
}

#[test]
fn no_compiler() {
    let Some(mut command) = stand_in("PIXTAPE_NVRTC", "/nowhere/libnvrtc.so.12") else { return };
    refuses(&mut command, &["NVRTC", "cuda-nvrtc", "PIXTAPE_NVRTC"]);
}

#[test]
fn a_card_that_is_too_small() {
    let Some(stand_in) = StandIn::get(Build::Plain) else { return };
    let mut command = stand_in.pixtape("bench steps pixelcnn-mnist --device cuda");
    refuses(command.env("CUDA_ON_CPU_MEMORY", "9000000"), &["needs", "GiB", "are free", "smaller batch"]);
}

#[test]
fn a_fault_of_a_kernel() {
    let Some(stand_in) = StandIn::get(Build::Plain) else { return };
    let output = stand_in.pixtape(CHECK).env("CUDA_ON_CPU_FAULT", "5").output().unwrap();
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    // The first failure, and every later one, names the error.
    assert!(printed.contains("CUDA_ERROR_ILLEGAL_ADDRESS") && printed.contains("compute-sanitizer"), "{printed}");
    assert!(!printed.contains("panicked"), "{printed}");
}

/// Every later call fails with the first error, whichever it was, and does not try the card again.
#[test]
fn an_error_after_which_the_card_is_unusable() {
    let Some(stand_in) = StandIn::get(Build::Plain) else { return };
    for (code, name) in [("700", "ILLEGAL_ADDRESS"), ("709", "CONTEXT_IS_DESTROYED"), ("999", "UNKNOWN")] {
        let mut command = stand_in.pixtape(CHECK);
        let output = command.env("CUDA_ON_CPU_FAULT", "5").env("CUDA_ON_CPU_ERROR", code).output().unwrap();
        let printed = text(&output);
        assert_eq!(output.status.code(), Some(1), "{printed}");
        let failures = printed.lines().filter_map(|line| line.split_once("the CUDA driver could not"));
        let sentences: Vec<&str> = failures.map(|(_, sentence)| sentence).collect();
        assert!(sentences.len() > 1, "{printed}");
        assert!(sentences[0].contains(name) && sentences[0].contains("cannot be used any more"), "{printed}");
        assert!(sentences.iter().all(|sentence| sentence == &sentences[0]), "{code}: {printed}");
    }
}

#[test]
fn a_stub_in_place_of_the_driver() {
    let Some(mut command) = stand_in("CUDA_ON_CPU_START", "34") else { return };
    refuses(&mut command, &["CUDA_ERROR_STUB_LIBRARY", "stub of the CUDA toolkit", "LD_LIBRARY_PATH"]);
}

#[test]
fn a_damaged_cache_is_made_anew() {
    let Some(stand_in) = StandIn::get(Build::Plain) else { return };
    let cache = tempfile::tempdir().unwrap();
    let check = || {
        let output = stand_in.pixtape(CHECK).env("PIXTAPE_CACHE", cache.path()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    };
    let files = || {
        let all = std::fs::read_dir(cache.path().join("kernels")).unwrap().map(|f| f.unwrap().path());
        all.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect::<BTreeMap<_, _>>()
    };
    check();
    let whole = files();
    assert!(whole.len() > 1, "nothing was kept");
    for (i, (path, bytes)) in whole.iter().enumerate() {
        std::fs::write(path, if i == 0 { &bytes[..bytes.len() / 2] } else { b"" }).unwrap();
    }
    check();
    // The bytes may differ, because the compiler chooses among schedules at random.
    let again = files();
    assert!(again.keys().eq(whole.keys()), "other files than before");
    assert!(again.iter().all(|(path, bytes)| bytes.len() > whole[path].len() / 2), "a file is still damaged");
}

#[test]
fn the_program_links_no_library_of_cuda() {
    let output = Command::new("ldd").arg(env!("CARGO_BIN_EXE_pixtape")).output();
    let Ok(output) = output else {
        println!("SKIP: there is no ldd");
        return;
    };
    let printed = text(&output);
    assert!(!printed.contains("cuda") && !printed.contains("nvrtc"), "{printed}");
}
