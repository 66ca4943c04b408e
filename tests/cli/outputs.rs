//! The files that commands write: their names decide the format, they are checked before the work, and they
//! replace nothing that is still needed.

use super::{Place, draw_colour_folder, is_png, tiny};

/// Every command that writes a picture, with a run that it can be used on.
const PICTURES: [&str; 9] = [
    "sample plain",
    "complete plain -n 2",
    "colorize colours --data colour --split train -n 2",
    "superres details -n 2",
    "simulate series -n 2",
    "reconstruct latent -n 2",
    "interpolate latent --rows 1",
    "causality plain --set model.height=5 --set model.width=5",
    "data show glyphs",
];

/// A place with one run for each of these commands.
fn place() -> Place {
    let place = Place::new();
    draw_colour_folder(&place);
    let runs = [
        ("pixelcnn-mnist", "plain"),
        ("colorize-cifar", "colours"),
        ("superres-mnist", "details"),
        ("lstm-oscillator", "series"),
        ("vae-mlp-mnist", "latent"),
    ];
    for (preset, run) in runs {
        place.ok(&tiny(preset, 1, run));
    }
    place
}

/// Checks that a command is refused with this code before it has begun to work.
#[track_caller]
fn refused_at_once(place: &Place, code: i32, command: &str, parts: &[&str]) {
    let output = place.run(command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{command}: {said}");
    assert!(said.starts_with("error: ") && said.lines().count() <= 3, "{command}: {said}");
    let missing: Vec<_> = parts.iter().filter(|part| !said.contains(**part)).collect();
    assert!(missing.is_empty(), "{command}: {missing:?} is missing: {said}");
}

#[test]
fn the_ending_says_what_is_written() {
    let place = place();
    for command in PICTURES {
        for wrong in ["x.jpg", "x.npz", "x", "x.png.gz", ".png"] {
            refused_at_once(&place, 2, &format!("{command} --out {wrong}"), &[wrong, "ends in .png"]);
        }
    }
    for wrong in ["z.pt", "z.npz", "z", "z.png"] {
        refused_at_once(&place, 2, &format!("encode latent --out {wrong}"), &[wrong, "ends in .safetensors"]);
        refused_at_once(&place, 2, &format!("export latent {wrong}"), &[wrong, "ends in .safetensors"]);
    }
    refused_at_once(&place, 2, "sample plain --out x.pt", &[".png (picture)", ".safetensors (tensors)"]);
    place.ok("sample plain -n 2 --out A.PNG");
    place.ok("sample plain -n 2 --out A.SafeTensors");
    assert!(
        is_png(&place.bytes("A.PNG")) && safetensors::SafeTensors::deserialize(&place.bytes("A.SafeTensors")).is_ok()
    );
    assert!(!place.path("x").exists() && !place.path("z").exists());
}

#[test]
fn a_place_that_cannot_be_written_is_found_before_the_work() {
    let place = place();
    place.write("file", b"no folder");
    std::fs::create_dir(place.path("folder.png")).unwrap();
    std::fs::create_dir(place.path("folder.safetensors")).unwrap();
    let tensors = [("encode latent --out", "safetensors"), ("export latent", "safetensors")];
    let pictures = PICTURES.iter().map(|command| (format!("{command} --out"), "png"));
    for (command, ending) in tensors.map(|(command, ending)| (command.to_string(), ending)).into_iter().chain(pictures)
    {
        let refused = |name: &str, reason: &str| {
            refused_at_once(&place, 1, &format!("{command} {name}.{ending}"), &[name, reason]);
        };
        refused("nosuch/x", "there is no folder nosuch; make the folder");
        refused("file/x", "file is not a folder");
        refused("folder", "it is a folder; give the name of a file in it");
    }
    assert!(!place.path("nosuch").exists());
    refused_at_once(
        &place,
        1,
        &format!("sample plain --out {}.png", "x".repeat(300)),
        &["could not write it", "check the path"],
    );
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("loop.png", place.path("loop.png")).unwrap();
        refused_at_once(&place, 1, "sample plain --out loop.png", &["loop.png", "leads to itself"]);
    }
}

/// As another user than root, who may write everywhere.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_without_permission_is_found_before_the_work() {
    use std::os::unix::fs::PermissionsExt;
    let place = place();
    std::fs::create_dir(place.path("closed")).unwrap();
    for (name, mode) in [("", 0o755), ("closed", 0o555)] {
        std::fs::set_permissions(place.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let program = env!("CARGO_BIN_EXE_pixtape");
    let is_root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0;
    let nobody = if is_root { "setpriv --reuid=65534 --regid=65534 --clear-groups " } else { "" };
    let command = format!("{nobody}{program} sample plain/checkpoints/step-000001.safetensors --out closed/x.png");
    let output = place.run_program(std::path::Path::new("sh"), &["-c", &command]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with("error: closed/x.png: the folder closed cannot be written to (permission denied)"),
        "{said}"
    );
    assert!(!said.contains("partial") && !said.contains(".tmp"), "{said}");
}

#[test]
fn no_output_replaces_a_checkpoint_or_goes_into_a_run() {
    let place = place();
    let checkpoint = "plain/checkpoints/step-000001.safetensors";
    let before = place.bytes(checkpoint);
    std::fs::hard_link(place.path(checkpoint), place.path("hard.safetensors")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(checkpoint, place.path("soft.safetensors")).unwrap();
    place.write("copy.safetensors", &before);
    let same = "reads this file";
    for (command, reason) in [
        (format!("export {checkpoint} {checkpoint}"), same),
        (format!("export {checkpoint} ./plain/../{checkpoint}"), same),
        (format!("export {checkpoint} hard.safetensors"), same),
        ("export plain hard.safetensors".to_string(), "it is a checkpoint"),
        (format!("export plain {checkpoint}"), "it is a checkpoint"),
        (format!("export latent {checkpoint}"), "it is a checkpoint"),
        (format!("sample plain --out {checkpoint}"), "it is a checkpoint"),
        (format!("encode latent --out {checkpoint}"), "it is a checkpoint"),
        ("sample plain --out copy.safetensors".to_string(), "it is a checkpoint"),
        ("export plain plain/checkpoints/step-000009.safetensors".to_string(), "the folder of a run"),
        ("sample plain --out latent/samples/step-000001.png".to_string(), "the folder of a run"),
        #[cfg(unix)]
        (format!("export {checkpoint} soft.safetensors"), same),
        #[cfg(unix)]
        ("sample latent --out soft.safetensors".to_string(), "it is a checkpoint"),
    ] {
        refused_at_once(&place, 1, &command, &[reason, "choose another"]);
    }
    assert!(place.bytes(checkpoint) == before && place.bytes("copy.safetensors") == before);
    assert!(!place.path("plain/checkpoints/step-000009.safetensors").exists());
    place.ok("export plain weights.safetensors");
    // An earlier result is replaced, and the folder of a run may hold one.
    place.ok("export plain weights.safetensors");
    place.ok("sample plain -n 2 --out plain/mine.png");
}

#[test]
fn no_output_becomes_one_of_the_images() {
    let place = place();
    place.ok(&tiny("dcgan-cifar", 1, "gan"));
    let images = || place.path("colour").read_dir().unwrap().count();
    let before = (images(), place.bytes("colour/000.png"));
    let inside = "part of the images in";
    place.refused(1, "data show colour --out colour/000.png", &[inside, "choose another folder"]);
    place.refused(1, "data show ./colour --out colour/new.png", &[inside]);
    place.refused(1, "data show colour/../colour --out ./colour/new.png", &[inside]);
    place.refused(1, "colorize colours --data colour --split train --out colour/new.png", &[inside]);
    place.refused(1, "colorize colours --data ./colour/ --split train --out colour/000.png", &[inside]);
    assert!((images(), place.bytes("colour/000.png")) == before);
    place.ok("data show colour");
    assert!(is_png(&place.bytes("colour.png")));
}

#[cfg(target_os = "linux")]
#[test]
fn a_device_is_written_whatever_its_name_is() {
    let place = place();
    place.ok("sample plain -n 2 --out /dev/null");
    place.ok("export plain /dev/null");
    refused_at_once(&place, 1, "sample plain -n 2 --out /dev/../dev", &["it is a folder"]);
}
