//! Checkpoints, configurations and folders that are damaged, of another program, or not writable: one
//! sentence, and files that were saved before are unchanged.

use super::{Place, refusal, tiny};
use std::path::Path;

const LAST: &str = "run/checkpoints/step-000002.safetensors";

/// A place with a finished run of two steps.
fn trained(preset: &str) -> Place {
    let place = Place::new();
    place.ok(&tiny(preset, 2, "run"));
    place
}

/// The checkpoint with a changed header. The length before the header is adapted.
fn with_header(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
    assert!(header.contains(from), "{header}");
    let header = header.replace(from, to);
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &bytes[8 + length..]].concat()
}

#[test]
fn checkpoints_that_are_damaged_or_too_new() {
    let place = trained("vae-mlp-mnist");
    let sound = place.bytes(LAST);
    let damaged = [
        ("cut", sound[..sound.len() / 2].to_vec(), "truncated"),
        ("header cut", sound[..100].to_vec(), "truncated"),
        ("empty", vec![], "truncated"),
        ("longer", [&sound[..], b"more"].concat(), "bytes after its end"),
        ("text", b"this is not a checkpoint, but it is long enough for a header".to_vec(), "not a safetensors file"),
        ("absurd header", [&u64::MAX.to_le_bytes()[..], &sound[8..]].concat(), "truncated"),
        ("newer", with_header(&sound, "\"version\":\"2\"", "\"version\":\"3\""), "newer pixtape (version 3)"),
        ("foreign", with_header(&sound, "\"format\":\"pixtape-checkpoint\"", "\"format\":\"other\""), "\"other\" file"),
        ("config", with_header(&sound, "preset = ", "preste = "), "the key preste"),
        ("preset", with_header(&sound, "vae-mlp-mnist", "vae-mlp-mnits"), "did you mean vae-mlp-mnist?"),
        ("model", with_header(&sound, "vae-mlp-mnist", "vae-mnist"), "the network of vae-mnist is vae, not vae-mlp"),
        ("sizes", with_header(&sound, "hidden = 8", "hidden = 9"), "not those of this model"),
    ];
    for (what, bytes, part) in damaged {
        place.write("bad.safetensors", &bytes);
        for command in ["sample bad.safetensors", "eval bad.safetensors", "export bad.safetensors out.safetensors"] {
            let sentence = place.refused(1, command, &["bad.safetensors"]);
            assert!(sentence.contains(part), "{what}: {sentence}");
        }
    }
    assert!(!place.path("samples.png").exists() && !place.path("out.safetensors").exists());
    place.refused(1, "sample nowhere.safetensors", &["nowhere.safetensors", "check the path"]);
    place.refused(1, "sample .", &["no config.toml"]);
}

#[test]
fn values_that_are_not_finite_are_not_drawn_from() {
    let place = trained("vae-mlp-mnist");
    let path = place.path(LAST);
    let mut checkpoint = pixtape::store::Checkpoint::load(&path).unwrap();
    checkpoint.tensors.get_mut("params/fc1.weight").unwrap().data[7] = f32::NAN;
    checkpoint.save(&path).unwrap();
    place.refused(1, "sample run", &["fc1.weight", "not finite", "earlier checkpoint"]);
}

#[test]
fn a_checkpoint_of_another_model_does_not_resume_a_run() {
    let place = trained("vae-mlp-mnist");
    place.ok(&tiny("gan-mnist", 2, "other"));
    let foreign = place.bytes("other/checkpoints/step-000002.safetensors");
    place.write(LAST, &foreign);
    place.refused(1, "train --resume run --steps 4", &["not those of this model", "missing", "extra"]);
    assert_eq!(place.bytes(LAST), foreign);
    place.write("weights.safetensors", b"not weights");
    place.refused(1, &format!("{} --init weights.safetensors", tiny("vae-mnist", 1, "new")), &["weights.safetensors"]);
    place.ok("export other gan.safetensors");
    let other = format!("{} --init gan.safetensors", tiny("vae-mnist", 1, "new"));
    place.refused(1, &other, &["gan.safetensors", "not one of this model"]);
    assert!(!place.path("new").exists());
}

#[test]
fn a_run_folder_is_not_overwritten_and_a_foreign_folder_not_resumed() {
    let place = trained("vae-mlp-mnist");
    let before = place.bytes(LAST);
    place.refused(1, &tiny("vae-mlp-mnist", 5, "run"), &["already holds the checkpoints", "--resume run", "--out"]);
    assert_eq!(place.bytes(LAST), before);
    place.refused(1, "train --resume nowhere", &["nowhere", "no such folder"]);
    std::fs::create_dir(place.path("folder")).unwrap();
    place.refused(1, "train --resume folder", &["no config.toml"]);
    place.refused(1, "sample folder", &["no config.toml"]);
    place.write("fresh/config.toml", &place.bytes("run/config.toml"));
    place.refused(1, "sample fresh", &["no checkpoint yet"]);
}

#[test]
fn configurations_that_are_wrong() {
    let place = Place::new();
    let wrong = [
        ("preset = \"vae-mnist\"\nbatsh = 3\n", "line 2: vae-mnist has no key \"batsh\", did you mean batch?"),
        ("preset = \"vae-mnist\"\n[optimizer]\nrate = 3\n", "line 3"),
        ("preset = \"vae-mnits\"\n", "did you mean vae-mnist?"),
        ("preset = \"vae-mnist\"\nbatch = 0\n", "batch must be at least 1"),
        ("preset = \"vae-mnist\"\nbatch = -3\n", "batch takes a whole number"),
        ("preset = \"vae-mnist\"\nbatch = \"many\"\n", "batch takes a whole number"),
        ("preset = \"vae-mnist\"\nsteps = 1\nepochs = 1\n", "only one of steps and epochs"),
        ("preset = \"vae-mnist\"\nbinarize = \"often\"\n", "line 2"),
        ("batch = 3\n", "it has no preset"),
        ("preset = vae", "not valid TOML"),
        ("", "it has no preset"),
    ];
    for (text, part) in wrong {
        place.write("wrong.toml", text.as_bytes());
        place.refused(1, "train wrong.toml", &["wrong.toml", part]);
        place.refused(1, "plan wrong.toml", &["wrong.toml", part]);
    }
    place.write("wrong.toml", b"preset = \"\xff\xfe\"");
    place.refused(1, "train wrong.toml", &["wrong.toml", "not text"]);
    place.refused(1, "train nowhere.toml", &["nowhere.toml", "check the path"]);
    place.refused(1, "train ./", &["it is a folder", "give a preset"]);
    assert!(!place.path("runs").exists());
}

#[test]
fn places_that_cannot_be_written_to() {
    let place = trained("vae-mlp-mnist");
    place.write("file", b"a file where a folder should be");
    place.refused(1, &tiny("vae-mlp-mnist", 1, "file/run"), &["file/run", "check the path"]);
    place.refused(1, "sample run --out file/samples.png", &["file/samples.png", "check the path"]);
    place.refused(1, "sample run --out nowhere/samples.png", &["nowhere/samples.png", "check the path"]);
    place.refused(1, "export run .", &["it is a folder"]);
    place.refused(1, "encode run --out file/z.safetensors", &["file/z.safetensors"]);
    place.refused(1, "data show glyphs --out file/g.png", &["file/g.png"]);
    assert_eq!(place.bytes("file"), b"a file where a folder should be");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() {
    let place = trained("vae-mlp-mnist");
    place.refused(1, "sample run --out /dev/full", &["/dev/full", "free some disk space"]);
    place.refused(1, "export run /dev/full", &["/dev/full", "free some disk space"]);
    assert!(!Path::new("/dev/full").is_file());
    // The limit is far below the size of a checkpoint and above the size of the small files next to it.
    let before = place.bytes(LAST);
    assert!(before.len() > 100_000);
    let program = env!("CARGO_BIN_EXE_pixtape");
    let limited = format!("trap '' XFSZ; ulimit -f 100; exec {program} train --resume run --steps 4 --no-eval");
    let output = place.run_program(Path::new("sh"), &["-c", &limited]);
    refusal(&output, 1, &["step-000004.safetensors", "could not write it"]);
    assert_eq!(place.bytes(LAST), before);
    let names: Vec<_> = place.path("run/checkpoints").read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["step-000002.safetensors"], "nothing half-written is left");
    // With enough space again, the run continues from the checkpoint that it has.
    place.ok("train --resume run --steps 4 --no-eval");
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_command_quietly() {
    let place = Place::new();
    let program = env!("CARGO_BIN_EXE_pixtape");
    let output = place.run_program(Path::new("sh"), &["-c", &format!("{program} plan gan-mnist | head -n 1")]);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
