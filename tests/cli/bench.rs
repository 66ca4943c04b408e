//! `pixtape bench` with a model of one's own: its launches, its batch sizes, and the plot of the limits.

use super::{Place, tiny};
use serde_json::Value;

/// The results of a benchmark file.
fn results(report: &Value) -> &Vec<Value> {
    report["results"].as_array().unwrap()
}

/// Checks that arguments are wrong by themselves. Such a message ends with a pointer to the help.
#[track_caller]
fn refused_by_the_parser(place: &Place, command: &str, part: &str) {
    let output = place.run(command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.starts_with("error: ") && said.contains(part), "{said}");
}

#[test]
fn the_launches_of_a_run_are_timed_by_shape() {
    let place = Place::new();
    place.ok(&tiny("pixelcnn-mnist", 1, "run"));
    let command = "bench kernels --from-run run --threads 1 --device cpu";
    let report = place.json(command);
    let (all, launches) = results(&report).split_last().unwrap();
    let number = |value: &Value, key: &str| value[key].as_f64().unwrap_or_else(|| panic!("{key} in {value}"));
    assert_eq!(all["kind"], "launches");
    for key in ["calls", "flops", "bytes"] {
        let calls = |launch: &Value| if key == "calls" { 1.0 } else { number(launch, "calls") };
        let sum: f64 = launches.iter().map(|launch| number(launch, key) * calls(launch)).sum();
        assert_eq!(number(all, key), sum, "{key}");
    }
    // The batch of the run is 8, and that of another command may be another.
    let first = |report: &Value| {
        let is_first = |name: &str| name.starts_with("conv ") && name.contains(", 7x7");
        let conv = results(report).iter().find(|launch| is_first(launch["name"].as_str().unwrap()));
        conv.unwrap_or_else(|| panic!("{report:#}")).clone()
    };
    let small = first(&place.json(&format!("{command} --batch 2 conv")));
    assert_eq!(number(&first(&report), "flops"), 4.0 * number(&small, "flops"));
    // A checkpoint, and a run folder whose configuration is only in its checkpoint.
    let checkpoint = "run/checkpoints/step-000001.safetensors";
    let plans = number(all, "flops");
    let of_file = place.json(&format!("bench kernels adam --from-run {checkpoint} --threads 1 --device cpu"));
    assert_eq!(number(results(&of_file).last().unwrap(), "flops"), plans);
    std::fs::remove_file(place.path("run/config.toml")).unwrap();
    assert_eq!(number(results(&place.json(command)).last().unwrap(), "flops"), plans);
    let text = place.ok(command);
    for part in ["% of step", "% of peak", "% of memory", "from memory", "all "] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_model_that_is_given_classes_or_steps_its_critic_twice_is_timed() {
    let place = Place::new();
    for (preset, plans) in [("gated-pixelcnn-mnist", 1), ("gan-mnist", 2), ("lstm-rows-mnist", 1)] {
        place.ok(&tiny(preset, 1, preset));
        let report = place.json(&format!("bench steps --from-run {preset} --threads 1 --device cpu"));
        let [step] = &results(&report)[..] else { panic!("{report:#}") };
        assert_eq!((step["name"].as_str(), step["kind"].as_str()), (Some(preset), Some("step")));
        let images = step["images_per_s"].as_f64().unwrap() * step["median_ms"].as_f64().unwrap() / 1e3;
        assert!((images - f64::from(8 * plans)).abs() < 0.01, "{preset}: {images} images");
    }
}

#[test]
fn a_folder_that_is_no_run_and_sizes_that_do_not_fit_are_refused() {
    let place = Place::new();
    std::fs::create_dir(place.path("empty")).unwrap();
    place.write("wrong/config.toml", b"preset = \"vae-mnits\"\n");
    place.write("text.safetensors", b"this is not a checkpoint, but it is long enough for a header");
    for kind in ["kernels", "steps"] {
        let from = format!("bench {kind} --from-run");
        place.refused(1, &format!("{from} nowhere"), &["nowhere: there is no such folder", "pixtape train"]);
        place.refused(1, &format!("{from} empty"), &["empty: it has no config.toml"]);
        place.refused(1, &format!("{from} wrong"), &["wrong/config.toml", "did you mean vae-mnist?"]);
        place.refused(1, &format!("{from} text.safetensors"), &["not a safetensors file"]);
    }
    place.ok(&tiny("vae-mlp-mnist", 1, "run"));
    place.refused(2, "bench kernels --from-run run --batch 1,2", &["one --batch"]);
    place.refused(2, "bench kernels --from-run run --size 8", &["--size is for steps"]);
    place.refused(2, "bench kernels --from-run run --batch 0", &["batch"]);
    place.refused(2, "bench kernels --from-run run nothing", &["no launch", "nothing"]);
    place.refused(2, "bench sampling --from-run run", &["--from-run is for kernels and steps"]);
    place.refused(2, "bench kernels --batch 8", &["--batch"]);
    place.ok(&tiny("lstm-rows-mnist", 1, "rows"));
    place.refused(2, "bench steps --from-run rows --size 8", &["one size"]);
    place.refused(2, "bench steps vae-mnist --from-run run", &["either"]);
    place.refused(2, "bench steps lstm-784 --batch 8", &["lstm-784 has one size"]);
    refused_by_the_parser(&place, "bench steps --profile --from-run run", "cannot be used with '--from-run");
}

#[test]
fn a_step_is_timed_at_every_size_that_is_asked_for() {
    let place = Place::new();
    place.ok(&tiny("pixelcnn-mnist", 1, "run"));
    let report = place.json("bench steps --from-run run --batch 1,2 --size 4,8 --threads 1 --device cpu");
    let names: Vec<&str> = results(&report).iter().map(|step| step["name"].as_str().unwrap()).collect();
    let expected = ["4x4 batch 1", "4x4 batch 2", "8x8 batch 1", "8x8 batch 2"];
    assert_eq!(names, expected.map(|size| format!("pixelcnn-mnist {size}")));
    let shapes: Vec<&str> = results(&report).iter().map(|step| step["shape"].as_str().unwrap()).collect();
    assert_eq!(shapes, ["[1x4x4x1]", "[2x4x4x1]", "[1x8x8x1]", "[2x8x8x1]"]);
}

#[test]
fn a_roofline_has_a_mark_per_result_and_replaces_nothing_that_is_needed() {
    let place = Place::new();
    place.ok(&tiny("vae-mlp-mnist", 1, "run"));
    let command = "bench steps --from-run run --batch 2,4 --threads 1 --device cpu --roofline";
    let report = place.json(&format!("{command} plot.svg"));
    let svg = String::from_utf8(place.bytes("plot.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.matches("<circle").count() == 2, "{svg}");
    assert!(svg.contains("vae-mlp-mnist batch 4") && svg.contains("FLOPs per byte"), "{svg}");
    let peak = report["machine"]["peak_gflops"].as_f64().unwrap();
    assert!(peak > 0.0 && svg.contains("peak, "), "{peak}");
    refused_by_the_parser(&place, &format!("{command} plot.png"), "ends in .svg");
    place.refused(1, &format!("{command} nowhere/plot.svg"), &["there is no folder nowhere"]);
    place.refused(1, &format!("{command} run/samples/plot.svg"), &["the folder of a run"]);
    std::fs::write(place.path("before.svg"), report.to_string()).unwrap();
    let same = "bench steps vae-mlp-mnist --against before.svg --roofline before.svg";
    place.refused(1, same, &["the command reads this file"]);
}
