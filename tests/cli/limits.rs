//! Pipes and devices in the place of files, and limits on memory: one sentence, at once.
#![cfg(unix)]

use super::{Place, refusal, tiny};
use std::path::Path;
use std::process::Output;
use std::time::Instant;

fn make_pipe(place: &Place, name: &str) {
    let path = place.path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn link_to_zeros(place: &Place, name: &str) {
    let path = place.path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/zero", path).unwrap();
}

/// Commands that read a file of this name, each with the file.
fn readers(file: &str) -> Vec<String> {
    let train = tiny("vae-mlp-mnist", 1, "new");
    let of_checkpoints =
        "sample eval complete colorize superres simulate control reconstruct interpolate traverse encode compare";
    let of_checkpoints = of_checkpoints.split(' ').map(|command| format!("{command} {file}.safetensors"));
    let others = [
        format!("export {file}.safetensors weights.safetensors"),
        format!("causality {file}.safetensors"),
        format!("train {file}.toml"),
        format!("plan {file}.toml"),
        format!("bench kernels --against {file}.json"),
        format!("bench kernels --from-run {file}.safetensors"),
        format!("{train} --init {file}.safetensors"),
        format!("data show {file}-idx3-ubyte"),
        format!("data show {file}.amat"),
        format!("data show {file}.bin"),
        format!("check {file}.safetensors"),
        format!("data show {file}-folder"),
    ];
    of_checkpoints.chain(others).collect()
}

#[test]
fn pipes_and_devices_are_refused_by_every_reader() {
    let place = Place::new();
    for ending in [".safetensors", ".toml", ".json", "-idx3-ubyte", ".amat", ".bin", "-folder/train/x.png"] {
        make_pipe(&place, &format!("pipe{ending}"));
        link_to_zeros(&place, &format!("zero{ending}"));
    }
    let start = Instant::now();
    for (file, kind) in [("pipe", "it is a pipe, not a file"), ("zero", "it is a device, not a file")] {
        for command in readers(file) {
            place.refused(1, &command, &[file, kind]);
        }
    }
    assert!(start.elapsed().as_secs() < 300 && !place.path("new").exists());
}

#[test]
fn pipes_and_devices_in_a_run_folder_are_refused() {
    for name in ["metrics.jsonl", "checkpoints/step-000003.safetensors", "samples/step-000001.png"] {
        let place = Place::new();
        place.ok(&tiny("vae-mlp-mnist", 1, "run"));
        let path = place.path(&format!("run/{name}"));
        let _ = std::fs::remove_file(&path);
        make_pipe(&place, &format!("run/{name}"));
        let output = place.run("train --resume run --steps 2 --no-eval");
        // A checkpoint that cannot be read is skipped with a warning, like a damaged one.
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(&format!("{name}: it is a pipe, not a file")), "{name}: {said}");
    }
}

#[test]
fn a_pipe_in_place_of_stored_likelihoods_does_not_block() {
    let place = Place::new();
    place.ok(&tiny("vae-mlp-mnist", 1, "run"));
    make_pipe(&place, "run/likelihood.json");
    let output = place.run("compare run --iwae 1 --split valid");
    assert!(output.status.code().is_some(), "it was ended by the time limit");
}

/// Runs a command that may use this number of KiB of address space.
fn limited(place: &Place, kibibytes: u32, arguments: &str) -> Output {
    let program = env!("CARGO_BIN_EXE_pixtape");
    place.run_program(Path::new("/bin/sh"), &["-c", &format!("ulimit -v {kibibytes}; exec {program} {arguments}")])
}

#[cfg(target_os = "linux")]
#[test]
fn a_plan_beyond_the_limit_of_the_process_is_refused() {
    let place = Place::new();
    let train = "train vae-mnist --data glyphs --batch 10000 --steps 1 --out run --device cpu --threads 1 --no-eval";
    let text = refusal(&limited(&place, 1_000_000, train), 1, &["of memory and", "ulimit -v allows no more"]);
    assert!(text.contains("choose a smaller batch or model"), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn memory_that_runs_out_ends_with_one_sentence_at_any_limit() {
    let place = Place::new();
    let train =
        "train vae-mnist --data glyphs --steps 1 --out run --device cpu --threads 2 --no-eval --set sample_every=0";
    let mut refused = 0;
    for kibibytes in (50_000..550_000).step_by(100_000) {
        let _ = std::fs::remove_dir_all(place.path("run"));
        let output = limited(&place, kibibytes, train);
        if !output.status.success() {
            // A thread that cannot be started is a lack of memory, too.
            refusal(&output, 1, &[]);
            refused += 1;
        }
    }
    assert!(refused > 0, "no limit was too low");
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_does_not_fit_into_memory_is_refused_before_it_is_decoded() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("own/train")).unwrap();
    image::RgbImage::new(4000, 4000).save(place.path("own/train/0.png")).unwrap();
    for i in 1..40 {
        std::fs::hard_link(place.path("own/train/0.png"), place.path(&format!("own/train/{i}.png"))).unwrap();
    }
    let start = Instant::now();
    let output = limited(&place, 1_500_000, "data show own");
    refusal(&output, 1, &["reading the images in own needs", "ulimit -v", "scale them down, or use fewer"]);
    assert!(start.elapsed().as_secs() < 60, "the images were decoded");
}
