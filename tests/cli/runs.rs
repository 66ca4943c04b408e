//! The run folder: one training at a time, nothing of others is replaced, and what a run has is kept.

use super::resume::{saved, spawn};
use super::{Place, is_png, tiny};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Waits until `is_so`, for at most two minutes.
#[track_caller]
fn wait_until(is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(120), "it did not come to that");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The steps of the checkpoints that a run has, in order.
pub fn steps(place: &Place, run: &str) -> Vec<u64> {
    let files = pixtape::store::RunDir::open(&place.path(run)).unwrap().checkpoints().unwrap();
    files.into_iter().map(|file| file.step).collect()
}

/// The rows of metrics of a run.
fn rows(place: &Place, run: &str) -> Vec<Value> {
    let text = String::from_utf8(place.bytes(&format!("{run}/metrics.jsonl"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn one_folder_has_one_training_at_a_time() {
    let place = Place::new();
    let endless = format!("{} --set checkpoint_every=20", tiny("vae-mlp-mnist", 1_000_000, "run"));
    let mut child = spawn(&place, &endless);
    let who = format!("process {} is training in this folder", child.id());
    // The folder is locked from the moment on when it has its configuration.
    wait_until(|| place.path("run/config.toml").exists());
    for second in [&tiny("gan-mnist", 5, "run"), "train --resume run", "train --resume run --steps 1000001"] {
        let sentence = place.refused(1, second, &["run: ", &who, "wait until it ends"]);
        assert!(!sentence.contains(".toml"), "{sentence}");
    }
    wait_until(|| saved(&place.path("run")) > 0);
    place.refused(1, &tiny("gan-mnist", 5, "run"), &[&who]);
    // Reading is possible all the time.
    place.ok("sample run -n 4");
    assert!(is_png(&place.bytes("samples.png")));
    place.ok("compare run --split valid --data glyphs --iwae 1");
    assert!(child.try_wait().unwrap().is_none(), "the first training goes on");
    child.kill().unwrap();
    child.wait().unwrap();
    // The lock ends with the process, although its file stays.
    assert!(place.path("run/lock").exists());
    let config = String::from_utf8(place.bytes("run/config.toml")).unwrap();
    assert!(config.contains("preset = \"vae-mlp-mnist\""), "{config}");
    let next = saved(&place.path("run")) + 2;
    place.ok(&format!("train --resume run --no-eval --steps {next}"));
}

#[test]
fn files_of_others_are_not_replaced() {
    let place = Place::new();
    let foreign = [
        ("config.toml", "title = \"my site\"\n"),
        ("report.html", "<p>my report</p>"),
        ("metrics.jsonl", "{\"mine\":1}\n"),
        ("likelihood.json", "{}"),
        ("lock", "not the number of a process"),
        ("samples/step-000001.png", "a picture"),
    ];
    for (name, text) in foreign {
        let folder = format!("site-{}", name.replace(['/', '.'], "-"));
        place.write(&format!("{folder}/{name}"), text.as_bytes());
        place.refused(1, &tiny("vae-mlp-mnist", 1, &folder), &[&format!("{folder}/{name}: "), "--out"]);
        assert_eq!(place.bytes(&format!("{folder}/{name}")), text.as_bytes());
        assert!(!place.path(&format!("{folder}/checkpoints")).exists(), "{folder}");
    }
    // A folder with other files is fine, and so is one that an unfinished run left.
    place.write("notes/notes.txt", b"mine");
    place.ok(&tiny("vae-mlp-mnist", 1, "notes"));
    assert_eq!(place.bytes("notes/notes.txt"), b"mine");
    std::fs::remove_dir_all(place.path("notes/checkpoints")).unwrap();
    std::fs::create_dir(place.path("notes/checkpoints")).unwrap();
    place.ok(&tiny("vae-mlp-mnist", 2, "notes"));
    assert_eq!(steps(&place, "notes"), [2]);
}

#[test]
fn the_comments_of_a_configuration_in_the_folder_of_its_run_are_kept() {
    let place = Place::new();
    let own = "# My experiment.\npreset = \"vae-mlp-mnist\"\ndata = \"glyphs\"\nbatch = 8\nsteps = 2\nsample_every = 0\n\
               [model]\nhidden = 8 # few\nlatent = 3\n";
    place.write("my/config.toml", own.as_bytes());
    let other = "train my/config.toml --out my --no-eval --steps 3";
    place.refused(1, other, &["my/config.toml: ", "another configuration", "--out"]);
    place.ok("train my/config.toml --out my --no-eval");
    assert_eq!(place.bytes("my/config.toml"), own.as_bytes());
    place.ok("train --resume my --no-eval");
    assert_eq!(place.bytes("my/config.toml"), own.as_bytes());
    // Another length is another configuration, which the file then says.
    place.ok("train --resume my --no-eval --steps 3");
    assert!(String::from_utf8(place.bytes("my/config.toml")).unwrap().contains("steps = 3"));
}

#[test]
fn the_newest_checkpoints_and_the_best_one_are_kept() {
    let place = Place::new();
    let train = |out: &str, keep: &str| {
        // A rate that is too high at the end makes an early checkpoint the best one.
        let more = "--set checkpoint_every=2 --set log_every=2 --set optimizer.lr=0.3";
        place.ok(&format!("{} {more} --set keep_checkpoints={keep}", tiny("vae-mlp-mnist", 40, out)));
        steps(&place, out)
    };
    let all: Vec<u64> = (1..=20).map(|i| 2 * i).collect();
    assert_eq!(train("all", "0"), all);
    let elbo = |step: u64| {
        let row = rows(&place, "all").into_iter().find(|row| row["step"] == step).unwrap();
        row["elbo"].as_f64().unwrap()
    };
    let best = all.iter().copied().max_by(|a, b| elbo(*a).total_cmp(&elbo(*b))).unwrap();
    let kept = train("some", "2");
    let mut expected = vec![best, 38, 40];
    expected.sort();
    expected.dedup();
    assert_eq!(kept, expected);
    assert_eq!(expected.len(), 3, "the best checkpoint has to be an early one for this test, not that of step {best}");
    for step in kept {
        let tensors = |run: &str| {
            let path = place.path(&format!("{run}/checkpoints/step-{step:06}.safetensors"));
            pixtape::store::Checkpoint::load(&path).unwrap().tensors
        };
        assert_eq!(tensors("some"), tensors("all"));
    }
    // Three are kept if the configuration does not say how many.
    place.ok(&format!("{} --set checkpoint_every=1", tiny("gan-mnist", 6, "default")));
    assert_eq!(steps(&place, "default"), [4, 5, 6]);
}

#[test]
fn a_run_that_began_before_pruning_keeps_all_its_checkpoints() {
    let place = Place::new();
    let old = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/old_runs/vae-mnist");
    let read = |name: &str| std::fs::read(old.join(name)).unwrap();
    let config = String::from_utf8(read("config.toml")).unwrap();
    place.write("run/config.toml", config.replace("checkpoint_every = 500", "checkpoint_every = 2").as_bytes());
    place.write("run/metrics.jsonl", &read("metrics.jsonl"));
    place.write("run/checkpoints/step-000040.safetensors", &read("checkpoints/step-000040.safetensors"));
    for (last, count) in [(50, 6), (60, 11)] {
        place.ok(&format!("train --resume run --no-eval --steps {last}"));
        assert_eq!(steps(&place, "run").len(), count);
    }
    assert!(String::from_utf8(place.bytes("run/config.toml")).unwrap().contains("keep_checkpoints = 0"));
}

#[test]
fn a_run_with_nothing_to_do_keeps_its_report() {
    let place = Place::new();
    place.ok(&tiny("vae-mlp-mnist", 3, "run").replace("--no-eval", ""));
    let report = place.bytes("run/report.html");
    assert!(String::from_utf8_lossy(&report).contains("Time per operation"));
    place.ok("train --resume run --no-eval");
    assert!(place.bytes("run/report.html") == report, "the report has lost sections");
    std::fs::remove_file(place.path("run/report.html")).unwrap();
    place.ok("train --resume run --no-eval");
    assert!(place.path("run/report.html").exists());
}

#[test]
fn lines_of_metrics_keep_their_bytes_and_new_ones_have_the_learning_rate() {
    let place = Place::new();
    place.ok(&format!("{} --set log_every=1", tiny("vae-mlp-mnist", 3, "run")));
    assert!(rows(&place, "run").iter().all(|row| row["learning_rate"] == 0.001));
    // Lines of an earlier version, whose numbers have many digits.
    let old = "{\"step\":1,\"seconds\":0.09969062300000002,\"images_per_s\":1613.2863470760562,\"elbo\":-1.0}\n\
               {\"step\":3,\"seconds\":0.23715962499999999,\"images_per_s\":689.8629889441378,\"elbo\":-5e-324}\n";
    place.write("run/metrics.jsonl", old.as_bytes());
    place.ok("train --resume run --steps 5 --no-eval");
    let text = String::from_utf8(place.bytes("run/metrics.jsonl")).unwrap();
    assert!(text.starts_with(old), "{text}");
    assert_eq!(rows(&place, "run").iter().map(|row| row["step"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 3, 4, 5]);
    assert!(rows(&place, "run")[3]["seconds"].as_f64().unwrap() > 0.237);
}

#[test]
fn a_longer_run_says_that_its_learning_rate_jumps() {
    let place = Place::new();
    let warned = |arguments: &str| {
        let output = place.run(arguments);
        assert!(output.status.success());
        let said = String::from_utf8(output.stderr).unwrap();
        said.lines().find(|line| line.contains("learning rate")).map(str::to_string)
    };
    assert_eq!(warned(&format!("{} --set schedule.kind=cosine", tiny("vae-mlp-mnist", 20, "run"))), None);
    let told = warned("train --resume run --no-eval --steps 40").expect("a warning");
    for part in ["rises from 0e0 to", "at step 21", "from 20 to 40 steps"] {
        assert!(told.contains(part), "{told}");
    }
    let rates: Vec<f64> = rows(&place, "run").iter().map(|row| row["learning_rate"].as_f64().unwrap()).collect();
    // Half of the way along the cosine the rate is half of its peak.
    let after = 0.5 * 1e-3 * (1.0 + (std::f64::consts::PI * 20.0 / 39.0).cos());
    assert!(rates.iter().any(|rate| (rate - after).abs() < 1e-8), "{rates:?}");
    // A constant rate does not jump.
    assert_eq!(warned(&tiny("vae-mlp-mnist", 4, "constant")), None);
    assert_eq!(warned("train --resume constant --no-eval --steps 8"), None);
}

#[test]
fn checkpoints_stand_in_for_a_missing_configuration() {
    let place = Place::new();
    place.ok(&tiny("vae-mlp-mnist", 2, "run"));
    let config = place.bytes("run/config.toml");
    std::fs::remove_file(place.path("run/config.toml")).unwrap();
    place.ok("sample run -n 4");
    place.ok("train --resume run --no-eval --data glyphs");
    let same = |text: &[u8]| String::from_utf8(text.to_vec()).unwrap().replace("steps = 3", "steps = 2");
    assert_eq!(same(&place.bytes("run/config.toml")), same(&config));
    std::fs::remove_file(place.path("run/config.toml")).unwrap();
    place.ok("train --resume run --no-eval --data glyphs --steps 3");
    assert_eq!(same(&place.bytes("run/config.toml")), same(&config));
}

#[test]
fn configurations_of_other_editors_and_of_newer_versions_are_named() {
    let place = Place::new();
    place.ok(&tiny("vae-mlp-mnist", 2, "run"));
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain("preset".bytes().flat_map(|byte| [byte, 0])).collect();
    place.write("utf16.toml", &utf16);
    place.refused(1, "train utf16.toml", &["utf16.toml: ", "UTF-16", "save it as UTF-8"]);
    let config = place.bytes("run/config.toml");
    place.write("run/config.toml", &utf16);
    let sentence = place.refused(1, "train --resume run", &["run/config.toml: ", "UTF-16", "save it as UTF-8"]);
    assert!(!sentence.contains("check the disk"), "{sentence}");
    // A byte order mark of UTF-8 is not a mistake.
    place.write("run/config.toml", &[b"\xef\xbb\xbf", &config[..]].concat());
    place.ok("train --resume run --no-eval --steps 3");
    let path = place.path("run/checkpoints/step-000003.safetensors");
    let mut checkpoint = pixtape::store::Checkpoint::load(&path).unwrap();
    checkpoint.config = checkpoint.config.replace("sample_every", "sample_never = 1\nsample_every");
    checkpoint.save(&path).unwrap();
    let sentence = place.refused(1, "sample run", &["step-000003.safetensors: ", "sample_never", "update pixtape"]);
    assert!(!sentence.contains("did you mean"), "{sentence}");
}

#[cfg(unix)]
#[test]
fn links_and_permissions_of_a_file_that_is_replaced_stay() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let place = Place::new();
    place.ok(&tiny("vae-mlp-mnist", 1, "run"));
    place.write("elsewhere/real.png", b"old");
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(place.path("elsewhere/real.png"), private).unwrap();
    symlink("elsewhere/real.png", place.path("link.png")).unwrap();
    symlink("link.png", place.path("link-to-link.png")).unwrap();
    symlink("elsewhere/new.png", place.path("to-nothing.png")).unwrap();
    place.ok("sample run -n 4 --out link-to-link.png");
    place.ok("sample run -n 4 --out to-nothing.png");
    assert!(is_png(&place.bytes("elsewhere/real.png")) && is_png(&place.bytes("elsewhere/new.png")));
    for link in ["link.png", "link-to-link.png", "to-nothing.png"] {
        assert!(std::fs::symlink_metadata(place.path(link)).unwrap().is_symlink(), "{link}");
    }
    let mode = std::fs::metadata(place.path("elsewhere/real.png")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    symlink("ring.png", place.path("ring.png")).unwrap();
    place.refused(1, "sample run -n 4 --out ring.png", &["ring.png", "leads to itself"]);
    #[cfg(target_os = "linux")]
    {
        let sentence = place.refused(1, "sample run -n 4 --out /proc/x.png", &["/proc/x.png"]);
        assert!(!sentence.contains(".pixtape-"), "{sentence}");
    }
}
