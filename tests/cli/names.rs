//! File names that are not UTF-8: they are files like all others, and a name that cannot be kept is refused
//! in one sentence.

use super::{Place, draw_colour_folder, tiny, words};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output};

/// The name `bad`, a byte that is no UTF-8, and this ending.
fn odd(ending: &str) -> OsString {
    OsStr::from_bytes(&[b"bad\xff", ending.as_bytes()].concat()).to_os_string()
}

/// Runs `pixtape`. The word `ODD.ending` in a command stands for an odd name with this ending.
fn run(place: &Place, command: &str) -> Output {
    let word = |word: &str| word.strip_prefix("ODD").map_or(OsString::from(word), odd);
    let mut program = Command::new(env!("CARGO_BIN_EXE_pixtape"));
    program.args(words(command).into_iter().map(word)).current_dir(place.path("")).env_remove("PIXTAPE_DATA");
    program.env("XDG_RUNTIME_DIR", place.path("")).output().unwrap()
}

#[track_caller]
fn json(place: &Place, command: &str) -> Value {
    let output = run(place, &format!("{command} --json"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{command}: {said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{command}: {error}"))
}

#[test]
fn every_command_writes_a_file_whose_name_is_not_utf8() {
    let place = Place::new();
    draw_colour_folder(&place);
    for (preset, run) in [
        ("pixelcnn-mnist", "plain"),
        ("colorize-cifar", "colours"),
        ("superres-mnist", "details"),
        ("lstm-oscillator", "series"),
        ("vae-mlp-mnist", "latent"),
    ] {
        place.ok(&tiny(preset, 1, run));
    }
    for (command, ending) in [
        ("sample plain -n 2 --out", ".png"),
        ("sample plain -n 2 --out", ".safetensors"),
        ("complete plain -n 2 --draws 1 --out", ".png"),
        ("colorize colours --data colour --split train -n 2 --draws 1 --out", ".png"),
        ("superres details -n 2 --draws 1 --out", ".png"),
        ("simulate series -n 2 --futures 1 --out", ".png"),
        ("reconstruct latent -n 2 --out", ".png"),
        ("interpolate latent --rows 1 --out", ".png"),
        ("causality plain --set model.height=5 --set model.width=5 --out", ".png"),
        ("data show glyphs -n 2 --out", ".png"),
        ("encode latent --no-probe --out", ".safetensors"),
        ("export latent", ".safetensors"),
    ] {
        let path = place.path("").join(odd(ending));
        let _ = std::fs::remove_file(&path);
        let result = json(&place, &format!("{command} ODD{ending}"));
        assert_eq!(result["out"], format!("bad\u{fffd}{ending}"), "{command}");
        assert!(path.metadata().unwrap().len() > 0, "{command}");
    }
}

#[test]
fn a_run_in_a_folder_whose_name_is_not_utf8_is_trained_and_used() {
    let place = Place::new();
    let train = tiny("vae-mlp-mnist", 2, "ODD").replace("--no-eval", "");
    assert_eq!(json(&place, &train)["run"], "bad\u{fffd}");
    assert_eq!(json(&place, "train --resume ODD --steps 3 --no-eval")["step"], 3);
    assert_eq!(json(&place, "eval ODD --images 10 --iwae 1")["images"], 10);
    assert!(json(&place, "compare ODD")["rankings"].is_array());
    place.ok(&tiny("gan-mnist", 1, "gan"));
    std::fs::rename(place.path("gan"), place.path("").join(odd("gan"))).unwrap();
    assert_eq!(json(&place, "compare ODDgan")["without_likelihood"][0]["source"], "bad\u{fffd}gan");
}

#[test]
fn a_name_that_a_configuration_cannot_hold_is_refused_in_one_sentence() {
    let place = Place::new();
    draw_colour_folder(&place);
    std::fs::rename(place.path("colour"), place.path("").join(odd(""))).unwrap();
    let train = tiny("dcgan-cifar", 1, "run").replace("--data colour", "--data ODD");
    for command in [&train, "data show ODD", "train ODD.toml", "plan ODD.toml", "causality ODD.toml"] {
        let output = run(&place, command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        assert!(said.contains("not UTF-8") && said.contains("give a link to it"), "{command}: {said}");
        assert!(said.lines().count() <= 3, "{said}");
    }
    // The remedy works.
    std::os::unix::fs::symlink(odd(""), place.path("colour")).unwrap();
    place.ok(&tiny("dcgan-cifar", 1, "run"));
}
