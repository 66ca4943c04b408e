//! The checkpoint file and the run folder: round trips, damaged files, full disks and killed processes.
//!
//! A save must keep either the old file or the new one, and a damaged file must give an error, never a
//! panic.

use pixtape::config::Averaging;
use pixtape::shape::Shape;
use pixtape::store::{Checkpoint, Row, RunDir, StepFile, Tensor, fuzz_parse};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// A small checkpoint with a tensor in each group.
fn sample(step: u64) -> Checkpoint {
    let mut checkpoint = Checkpoint {
        config: "preset = \"vae-mnist\"\n[model]\nlatent = 2\n".to_string(),
        step,
        rng: "seed=7 replays=12".to_string(),
        data_cursor: "epoch=1 batch=3".to_string(),
        data: Some("{\"name\":\"glyphs\"}".to_string()),
        program: Some("0.1.0".to_string()),
        device: Some("cpu".to_string()),
        ..Checkpoint::default()
    };
    let values: Vec<f32> = (0..6).map(|i| i as f32 - 2.5).collect();
    checkpoint.insert("params/enc/weight", [2, 3], values.clone());
    checkpoint.insert("params/enc/bias", [3], vec![0.0, -0.0, 1e-40]);
    checkpoint.insert("optim/m/enc/weight", [2, 3], values.clone());
    checkpoint.insert("ema/enc/weight", [2, 3], values);
    checkpoint.insert("state/bn/mean", Shape::new(&[]), vec![3.0]);
    checkpoint
}

fn parse(bytes: &[u8]) -> Result<Checkpoint, String> {
    Checkpoint::parse(Path::new("x.safetensors"), bytes).map_err(|error| error.to_string())
}

fn file_names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A safetensors file from a header and a body.
fn file(header: &str, body: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), body].concat()
}

#[test]
fn a_checkpoint_survives_the_disk_and_its_bytes_are_the_same_every_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("step-000012.safetensors");
    let saved = sample(12);
    saved.save(&path).unwrap();
    assert_eq!(Checkpoint::load(&path).unwrap(), saved);
    assert_eq!(std::fs::read(&path).unwrap(), sample(12).to_bytes());
    assert_eq!(file_names(folder.path()), ["step-000012.safetensors"]);
}

#[test]
fn the_reference_library_reads_it() {
    let bytes = sample(12).to_bytes();
    let (length, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(length % 8, 0);
    let metadata = header.metadata().as_ref().unwrap();
    assert_eq!(metadata["format"], "pixtape-checkpoint");
    assert_eq!((metadata["version"].as_str(), metadata["step"].as_str()), ("2", "12"));
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.len(), 5);
    assert_eq!(tensors.tensor("params/enc/weight").unwrap().shape(), [2, 3]);
    assert_eq!(tensors.tensor("state/bn/mean").unwrap().data(), 3.0f32.to_le_bytes());
}

#[test]
fn a_run_with_the_old_rule_of_averages_keeps_the_version_that_says_so() {
    let old = Checkpoint { averaging: Averaging::Constant, ..sample(12) };
    let bytes = old.to_bytes();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["version"], "1");
    assert_eq!(parse(&bytes).unwrap(), old);
    assert_eq!(parse(&sample(12).to_bytes()).unwrap().averaging, Averaging::WarmedUp);
}

#[test]
fn every_bit_of_a_float_is_kept() {
    let words = [0u32, 0x8000_0000, 1, 0x7f80_0000, 0xff80_0000, 0x7fc0_0000, 0x7f80_0001, 0xffff_ffff];
    let mut checkpoint = sample(1);
    checkpoint.insert("params/odd", [8], words.map(f32::from_bits).to_vec());
    let read = parse(&checkpoint.to_bytes()).unwrap();
    let bits: Vec<u32> = read.tensors["params/odd"].data.iter().map(|x| x.to_bits()).collect();
    assert_eq!(bits, words);
    assert_eq!(read.first_non_finite(), Some("params/odd"));
    assert_eq!(sample(1).first_non_finite(), None);
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = sample(12).to_bytes();
    for length in 0..bytes.len() {
        let message = parse(&bytes[..length]).expect_err("a part of a checkpoint is none");
        assert!(message.contains("truncated"), "{length}: {message}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(parse(&longer).unwrap_err().contains("bytes after its end"));
}

#[test]
fn a_header_larger_than_the_file_is_refused_before_anything_is_read() {
    for claimed in [u64::MAX, 1 << 40, 100_000_001, 9] {
        let bytes = [&claimed.to_le_bytes()[..], b"{}"].concat();
        let message = parse(&bytes).unwrap_err();
        assert!(message.contains(&format!("a header of {claimed} bytes in a file of 10 bytes")), "{message}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        std::fs::write(&path, &bytes).unwrap();
        assert!(Checkpoint::load(&path).unwrap_err().to_string().contains("truncated"));
    }
}

#[test]
fn damaged_headers_are_sentences() {
    let meta = r#""__metadata__":{"format":"pixtape-checkpoint","version":"1","config":"","step":"1","rng":"","data_cursor":""}"#;
    let cases: &[(String, &str)] = &[
        ("nonsense".into(), "damaged"),
        ("[1,2]".into(), "damaged"),
        ("{}".into(), "not a checkpoint of pixtape"),
        (r#"{"__metadata__":{"format":"pixtape-cases","version":"1"}}"#.into(), "it is a \"pixtape-cases\" file"),
        (r#"{"__metadata__":{"format":"pixtape-checkpoint"}}"#.into(), "no version"),
        (r#"{"__metadata__":{"format":"pixtape-checkpoint","version":"zero"}}"#.into(), "no version"),
        (
            r#"{"__metadata__":{"format":"pixtape-checkpoint","version":"3"}}"#.into(),
            "it was written by a newer pixtape (version 3); update pixtape",
        ),
        (meta.replace(r#""rng":"","#, ""), "no `rng`"),
        (meta.replace(r#""step":"1""#, r#""step":"-1""#), "its step is \"-1\""),
        (meta.replace(r#""step":"1""#, r#""step":1"#), "damaged"),
        (format!(r#"{meta},"a":{{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}"#), "its tensor a is F16"),
        (format!(r#"{meta},"a":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#), "impossible shape [0]"),
        (
            format!(r#"{meta},"a":{{"dtype":"F32","shape":[1,1,1,1,1],"data_offsets":[0,4]}}"#),
            "impossible shape [1, 1, 1, 1, 1]",
        ),
        (format!(r#"{meta},"a":{{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#), "damaged"),
        (format!(r#"{meta},"a":{{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#), "damaged"),
        (format!(r#"{meta},"a":{{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#), "damaged"),
    ];
    for (header, want) in cases {
        let header = if header.starts_with('"') { format!("{{{header}}}") } else { header.clone() };
        // The body has as many bytes as the header's last offset says, so that the intended mistake is the
        // only one.
        let body = if header.contains("[0,4]") {
            4
        } else if header.contains("[0,2]") {
            2
        } else {
            0
        };
        let message = parse(&file(&header, &vec![0; body])).expect_err(&header);
        assert!(message.contains(want), "{header}: {message}");
        assert!(message.starts_with("x.safetensors: ") && message.contains("; "), "{message}");
    }
}

#[test]
fn what_is_no_file_is_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Checkpoint::load(folder.path()).unwrap_err().to_string().contains("it is a folder, not a file"));
    let missing = folder.path().join("missing.safetensors");
    assert!(Checkpoint::load(&missing).unwrap_err().to_string().contains("check the path"));
    #[cfg(unix)]
    assert!(Checkpoint::load(Path::new("/dev/zero")).unwrap_err().to_string().contains("it is a device, not a file"));
}

#[test]
fn a_checkpoint_of_another_model_lists_what_differs() {
    let checkpoint = sample(1);
    let path = Path::new("run/step-000001.safetensors");
    let groups = ["params", "state"];
    let mut expected: BTreeMap<String, Shape> = checkpoint
        .tensors
        .iter()
        .filter(|(name, _)| name.starts_with("params/") || name.starts_with("state/"))
        .map(|(name, tensor)| (name.clone(), tensor.shape))
        .collect();
    checkpoint.expect(path, &groups, &expected).unwrap();

    expected.remove("params/enc/bias");
    expected.insert("params/enc/weight".into(), Shape::new(&[3, 2]));
    for i in 0..6 {
        expected.insert(format!("params/dec{i}/weight"), Shape::new(&[1]));
    }
    let message = checkpoint.expect(path, &groups, &expected).unwrap_err().to_string();
    for part in [
        "6 missing: params/dec0/weight, params/dec1/weight and 4 more",
        "1 extra: params/enc/bias",
        "1 misshapen: params/enc/weight is [2x3], not [3x2]",
        "run/step-000001.safetensors",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_group_is_listed_without_its_prefix() {
    let checkpoint = sample(1);
    let names: Vec<&str> = checkpoint.group("params").map(|(name, _)| name).collect();
    assert_eq!(names, ["enc/bias", "enc/weight"]);
    assert_eq!(checkpoint.group("optim").next().unwrap().0, "m/enc/weight");
    assert_eq!(checkpoint.group("param").count(), 0);
}

#[test]
fn a_read_only_folder_is_a_sentence() {
    // The superuser can write to any existing folder. No user can write to a folder that cannot exist.
    let message = sample(1).save(Path::new("/proc/no/step-000001.safetensors")).unwrap_err().to_string();
    assert!(message.contains("could not write it"), "{message}");
}

/// [`a_full_disk_keeps_what_was_there`] runs this in a process of its own, with a limit on the size of
/// files.
#[test]
#[ignore = "a helper process of another test"]
fn helper_saves_too_much() {
    let Ok(path) = std::env::var("PIXTAPE_TEST_SAVE") else { return };
    let mut large = sample(2);
    large.insert("params/large", [1 << 20], vec![1.0; 1 << 20]);
    let message = large.save(Path::new(&path)).unwrap_err().to_string();
    assert!(message.contains("could not write it"), "{message}");
}

#[cfg(unix)]
#[test]
fn a_full_disk_keeps_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("step-000002.safetensors");
    sample(2).save(&path).unwrap();
    // If the signal is ignored, a write beyond the limit fails like a write to a full disk.
    let status = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" --ignored --exact helper_saves_too_much"])
        .arg(std::env::current_exe().unwrap())
        .env("PIXTAPE_TEST_SAVE", &path)
        .output()
        .unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stdout));
    assert!(String::from_utf8_lossy(&status.stdout).contains("1 passed"));
    assert_eq!(Checkpoint::load(&path).unwrap(), sample(2));
    assert_eq!(file_names(folder.path()), ["step-000002.safetensors"]);
}

/// [`a_save_killed_half_way_leaves_the_earlier_file`] runs this; it saves until it is killed.
#[test]
#[ignore = "a helper process of another test"]
fn helper_saves_for_ever() {
    let Ok(path) = std::env::var("PIXTAPE_TEST_SAVE") else { return };
    let mut large = sample(2);
    large.insert("params/large", [1 << 22], vec![1.0; 1 << 22]);
    loop {
        large.save(Path::new(&path)).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_save_killed_half_way_leaves_the_earlier_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("step-000002.safetensors");
    let mut torn = 0;
    for round in 0..4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "helper_saves_for_ever"])
            .env("PIXTAPE_TEST_SAVE", &path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // The process is killed as soon as a temporary file exists, which is in the middle of a save.
        let start = std::time::Instant::now();
        while start.elapsed().as_secs() < 20 && !file_names(folder.path()).iter().any(|n| n.ends_with(".partial")) {
            std::thread::sleep(std::time::Duration::from_millis(1 + round));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        torn += file_names(folder.path()).iter().filter(|name| name.ends_with(".partial")).count();
        if path.exists() {
            Checkpoint::load(&path).unwrap();
        }
    }
    assert!(torn > 0, "no save was hit half way");
    sample(3).save(&path).unwrap();
    assert_eq!(file_names(folder.path()), ["step-000002.safetensors"]);
}

#[test]
fn a_new_run_does_not_overwrite_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs/a");
    let run = RunDir::create(&path, "preset = \"vae-mnist\"\n").unwrap();
    assert_eq!(run.read_config().unwrap(), "preset = \"vae-mnist\"\n");
    run.write_sample(500, b"png").unwrap();
    run.metrics_writer(0)
        .unwrap()
        .write(&Row { step: 1, seconds: 0.0, images_per_s: 0.0, learning_rate: None, losses: vec![] })
        .unwrap();
    // The run has no checkpoint yet, so it may be started again, after the first one has released its lock.
    // A process that another test is starting at this moment holds the lock too, until it is replaced.
    drop(run);
    let again = || {
        std::thread::sleep(std::time::Duration::from_millis(10));
        RunDir::create(&path, "preset = \"vae-mnist\"\n").ok()
    };
    let run = (0..100).find_map(|_| again()).expect("the lock is released");
    assert_eq!((run.samples().unwrap().len(), run.metrics().unwrap().len()), (0, 0));
    run.save_checkpoint(&sample(500)).unwrap();
    drop(run);
    let refused = |_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        let message = RunDir::create(&path, "").unwrap_err().to_string();
        (!message.contains("is training")).then_some(message)
    };
    let message = (0..100).find_map(refused).expect("the lock is released");
    assert!(message.contains("--resume") && message.contains("--out"), "{message}");
    assert!(RunDir::open(&path).unwrap().latest().unwrap().is_some());
}

#[test]
fn only_a_run_folder_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let missing = RunDir::open(&folder.path().join("no")).unwrap_err().to_string();
    assert!(missing.contains("there is no such folder"), "{missing}");
    let empty = RunDir::open(folder.path()).unwrap_err().to_string();
    assert!(empty.contains("it has no config.toml"), "{empty}");
    assert_eq!(file_names(folder.path()), [""; 0]);
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(RunDir::create(&file, "").is_err());
}

#[test]
fn the_latest_sound_checkpoint_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(&folder.path().join("run"), "").unwrap();
    assert!(run.latest().unwrap().is_none());
    for step in [500, 1000, 1_000_000] {
        run.save_checkpoint(&sample(step)).unwrap();
    }
    std::fs::write(run.path().join("checkpoints/notes.txt"), "").unwrap();
    std::fs::write(run.path().join("checkpoints/step-x.safetensors"), "").unwrap();
    std::fs::write(run.path().join("checkpoints/.pixtape-abc.partial"), "half").unwrap();
    let steps: Vec<u64> = run.checkpoints().unwrap().iter().map(|file| file.step).collect();
    assert_eq!(steps, [500, 1000, 1_000_000]);
    assert!(run.checkpoint_path(500).ends_with("checkpoints/step-000500.safetensors"));

    let newest = run.checkpoint_path(1_000_000);
    let bytes = std::fs::read(&newest).unwrap();
    std::fs::write(&newest, &bytes[..bytes.len() - 3]).unwrap();
    let latest = run.latest().unwrap().unwrap();
    assert_eq!((latest.checkpoint.step, latest.warnings.len()), (1000, 1));
    assert!(latest.warnings[0].contains("step 1000000 is passed over"), "{:?}", latest.warnings);

    // A renamed checkpoint, whose name has the wrong step, is not used.
    std::fs::rename(run.checkpoint_path(500), &newest).unwrap();
    assert_eq!(run.latest().unwrap().unwrap().checkpoint.step, 1000);

    for StepFile { path, .. } in run.checkpoints().unwrap() {
        std::fs::write(path, "damaged").unwrap();
    }
    let message = run.latest().unwrap_err().to_string();
    assert!(message.contains("step-1000000.safetensors"), "{message}");
}

fn any_tensor() -> impl Strategy<Value = Tensor> {
    prop::collection::vec(1usize..4, 0..=4).prop_flat_map(|dims| {
        let shape = Shape::new(&dims);
        prop::collection::vec(any::<u32>(), shape.len())
            .prop_map(move |words| Tensor::new(shape, words.into_iter().map(f32::from_bits).collect()))
    })
}

fn any_checkpoint() -> impl Strategy<Value = Checkpoint> {
    let tensors = prop::collection::btree_map("(params|optim|ema|state)/[a-z\"\\\\é/]{1,8}", any_tensor(), 0..6);
    (tensors, any::<String>(), any::<u64>(), any::<String>(), any::<String>(), any::<bool>()).prop_map(
        |(tensors, config, step, rng, data_cursor, old)| {
            let averaging = if old { Averaging::Constant } else { Averaging::WarmedUp };
            let provenance = Checkpoint { data: (!old).then(|| rng.clone()), ..Checkpoint::default() };
            Checkpoint { tensors, config, step, rng, data_cursor, averaging, ..provenance }
        },
    )
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = fuzz_parse(&bytes);
    }

    #[test]
    fn a_flipped_byte_is_survived(checkpoint in any_checkpoint(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = checkpoint.to_bytes();
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _ = fuzz_parse(&bytes);
    }

    #[test]
    fn a_round_trip_keeps_every_bit(checkpoint in any_checkpoint()) {
        let bytes = checkpoint.to_bytes();
        let read = parse(&bytes).unwrap();
        prop_assert_eq!(read.to_bytes(), bytes);
        prop_assert_eq!((read.step, read.config, read.rng), (checkpoint.step, checkpoint.config, checkpoint.rng));
        prop_assert_eq!(
            read.tensors.keys().collect::<Vec<_>>(),
            checkpoint.tensors.keys().collect::<Vec<_>>()
        );
    }
}
