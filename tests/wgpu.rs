//! The wgpu backend against the definition of every op and against the CPU: cases, presets, files, command line.
//!
//! It takes an adapter; software Vulkan (`mesa-vulkan-drivers`) will do. Where there is none these tests say SKIP and why;
//! with `wgpu` in `PIXTAPE_REQUIRE` they fail instead.
#![cfg(feature = "wgpu")]

mod common;

use common::cases::{for_each_case, given, truth_of};
use pixtape::backend::wgpu::{Options, Wgpu, adapters};
use pixtape::backend::{self, Backend};
use pixtape::check::case::{Case, Order};
use pixtape::check::cases::{cases, masked_geometries};
use pixtape::check::compare::{error_of, relative_error, within, worst_element};
use pixtape::check::reference::run_file;
use pixtape::config::{Config, OptimizerKind, PRESETS, preset};
use pixtape::data::Batch;
use pixtape::models::Model;
use pixtape::rng::{self, Stream};
use pixtape::train::trainer::Trainer;
use pixtape::train::weights;
use std::collections::HashSet;
use std::path::PathBuf;
use std::process::{Command, Output};

fn is_required(what: &str) -> bool {
    std::env::var("PIXTAPE_REQUIRE").unwrap_or_default().split(',').any(|r| r == what)
}

/// A device whose outputs are poisoned and whose buffers are guarded, or `None` with the reason printed.
fn guarded() -> Option<Wgpu> {
    open(Options { poison: true, guards: true, ..Default::default() })
}

fn open(options: Options) -> Option<Wgpu> {
    if adapters().is_empty() {
        assert!(!is_required("wgpu"), "PIXTAPE_REQUIRE asks for `wgpu`, but there is no adapter");
        println!("SKIP: there is no Vulkan, Metal or DX12 driver");
        return None;
    }
    Some(Wgpu::new(options).expect("the adapter opens"))
}

/// One case against its definition; whatever was there before is forgotten, but for the pipelines.
fn compare(case: &Case, order: Order, device: &mut Wgpu) -> Result<(), String> {
    device.clear();
    let problem = case.problem(order, 7, 0);
    let got = problem.run(&case.name, device).map_err(|e| e.to_string())?;
    let want = truth_of(&problem, &given(&problem));
    let tolerance = if order == Order::Zero { case.tol } else { case.grad_tol };
    for ((name, v), (got, want)) in problem.results.iter().zip(got.iter().zip(&want)) {
        let error = error_of(problem.tape.meta(*v).dtype, got, want);
        if !within(error, tolerance) {
            let worst = worst_element(got, want);
            return Err(format!("{name} is off by {error:.2e} (worst element, got, want: {worst:?})"));
        }
    }
    device.check_guards().map_err(|e| e.to_string())
}

#[test]
fn values_of_every_case() {
    let Some(mut device) = guarded() else { return };
    for_each_case(Order::Zero, |case| compare(case, Order::Zero, &mut device));
}

#[test]
fn gradients_of_every_case() {
    let Some(mut device) = guarded() else { return };
    for_each_case(Order::Once, |case| compare(case, Order::Once, &mut device));
}

/// A relative error would forgive a leak: a closed tap is exactly zero, or information flows.
#[test]
fn the_gradient_of_a_closed_weight_is_exactly_zero() {
    let Some(mut device) = guarded() else { return };
    let masked: HashSet<String> = masked_geometries().iter().map(|g| format!("conv_dw/{g}")).collect();
    let mut closed = 0;
    for case in cases().iter().filter(|c| masked.contains(&c.name)) {
        device.clear();
        let problem = case.problem(Order::Zero, 7, 0);
        let want = truth_of(&problem, &given(&problem));
        let got = problem.run(&case.name, &mut device).unwrap();
        for (got, want) in got[0].iter().zip(&want[0]).filter(|(_, want)| **want == 0.0) {
            assert_eq!(*got, 0.0, "{}: a closed weight has the gradient {got}, not {want}", case.name);
            closed += 1;
        }
    }
    assert!(closed > 1000, "{closed} closed weights");
}

#[test]
fn reference_cases_pass() {
    let Some(mut device) = open(Options::default()) else { return };
    let Some(path) = std::env::var_os("PIXTAPE_REFERENCE").map(PathBuf::from) else {
        assert!(!is_required("reference"), "PIXTAPE_REFERENCE is not set, but PIXTAPE_REQUIRE asks for it");
        println!("SKIP: PIXTAPE_REFERENCE is not set");
        return;
    };
    let ops = pixtape::check::reference::OPS.map(String::from);
    let report = run_file(&path, &ops, &mut device).unwrap();
    assert!(report.pass(), "{report}");
}

/// A preset with two images a batch, narrow and shallow enough for software, as far as it has such a size.
fn small(name: &str) -> Config {
    let mut config = preset(name).unwrap();
    config.batch = 2;
    config.seed = 3;
    for size in ["blocks=2", "layers=2", "hidden=12", "head=24", "channels=8", "height=12", "width=12"] {
        let _ = config.set(&format!("model.{size}"));
    }
    config
}

/// Two images of discs for every preset: levels, pixels in its range, labels.
fn batch(model: &Model) -> Batch {
    let x = model.training()[0].inputs.iter().find(|i| i.name == "x").map(|i| i.meta.shape).unwrap();
    let &[n, h, w, c] = x.dims() else { panic!("images have four dimensions, not {x}") };
    let inside = |i: usize| {
        let (row, column) = (i / c / w % h, i / c % w);
        row.abs_diff(h / 2).pow(2) + column.abs_diff(w / 2).pow(2) < (4 + 3 * (i / c / w / h)).pow(2)
    };
    let noise = |i: usize| rng::uniform(1, Stream::Test, [3, i as u32]);
    let value = |i: usize| {
        let level = if noise(i) < 0.1 { !inside(i) } else { inside(i) };
        if c == 1 { f32::from(level) } else { (255.0 * (0.2 + 0.6 * f32::from(level))).round() / 255.0 }
    };
    let pixels = (0..n * h * w * c).map(value).collect();
    let labels = (0..n as u32).map(|i| i % model.classes().max(1) as u32).collect();
    let reduced = model.training()[0].inputs.iter().find(|i| i.name == "reduced").map_or(0, |i| i.meta.shape.len());
    let reduced = (0..reduced).map(noise).collect();
    Batch { pixels, labels, reduced, indices: vec![0, 1], ..Batch::default() }
}

fn trainer(config: &Config, device: Box<dyn Backend>) -> (Trainer, Batch) {
    let model = Model::new(config).unwrap();
    let batch = batch(&model);
    (Trainer::new(model, device, 20).unwrap(), batch)
}

fn wgpu() -> Option<Box<dyn Backend>> {
    open(Options::default()).map(|device| Box::new(device) as Box<dyn Backend>)
}

/// With plain gradient descent the momentum buffers hold the gradients, so that all of them are compared.
#[test]
fn one_step_of_every_preset_gives_the_gradients_of_the_cpu() {
    for (name, ..) in PRESETS {
        let mut config = small(name);
        config.optimizer.kind = OptimizerKind::Sgd;
        let Some(device) = wgpu() else { return };
        let [want, got] = [backend::open("cpu", 0).unwrap(), device].map(|device| {
            let (mut trainer, batch) = trainer(&config, device);
            trainer.advance(|run| run(&batch)).unwrap();
            weights::snapshot(&mut *trainer.backend, &trainer.model.set).unwrap()
        });
        let wide = |x: &[f32]| x.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        for (path, want) in &want {
            let error = relative_error(&wide(&got[path].data), &wide(&want.data));
            assert!(within(error, 1e-4), "{name}: {path} is off by {error:.1e}");
        }
    }
}

#[test]
fn every_preset_trains_like_the_cpu_and_twice_the_same() {
    for (name, ..) in PRESETS {
        let config = small(name);
        let losses = |device: Box<dyn Backend>, steps: usize| {
            let (mut trainer, batch) = trainer(&config, device);
            let mut all = vec![];
            for _ in 0..steps {
                trainer.advance(|run| run(&batch)).unwrap();
                all.extend(trainer.losses().unwrap().into_iter().map(|(_, loss)| loss));
            }
            all
        };
        let (Some(device), Some(again)) = (wgpu(), wgpu()) else { return };
        let got = losses(device, 20);
        for (i, (got, want)) in got.iter().zip(losses(backend::open("cpu", 0).unwrap(), 20)).enumerate() {
            assert!((got - want).abs() <= 1e-3 * want.abs(), "{name}: loss {i} is {got}, not {want}");
        }
        let again = losses(again, 2);
        assert_eq!(got[..again.len()], again, "{name}");
    }
}

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
