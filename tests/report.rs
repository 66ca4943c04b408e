//! The report of a run folder, from its files to the page.
//!
//! The runs are made up: curves, pictures and likelihoods are written by [`made_up_run`].
//! `PIXTAPE_TEST_REPORT` names a file to which a page is written.

use pixtape::config::preset;
use pixtape::likelihood::{Likelihood, Measurement, Source};
use pixtape::pictures::grid::{Pictures, grid_png};
use pixtape::report::compare::published;
use pixtape::report::html::{OpTime, Report};
use pixtape::report::run::RunReport;
use pixtape::store::Row;
use pixtape::store::RunDir;
use std::path::Path;

/// A run folder like one that training of `name` writes, with made-up curves and pictures.
fn made_up_run(folder: &Path, name: &str, terms: &[(&str, f64, f64)], channels: usize) -> RunDir {
    let mut config = preset(name).unwrap();
    config.set("steps=2000").unwrap();
    let run = RunDir::create(&folder.join(name), &config.to_toml()).unwrap();
    let mut writer = run.metrics_writer(0).unwrap();
    let mut noise = 1u32;
    for step in (20..=2000).step_by(20) {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let wobble = f64::from(noise >> 16) / 65536.0 - 0.5;
        let decay = (-(step as f64) / 300.0).exp();
        let losses = terms
            .iter()
            .map(|(term, end, drop)| (term.to_string(), end + drop * decay + end * 0.08 * wobble))
            .collect();
        let images_per_s = 2400.0 + 180.0 * wobble;
        writer.write(&Row { step, seconds: step as f64 * 0.053, images_per_s, learning_rate: None, losses }).unwrap();
    }
    for step in (100..=2000).step_by(100) {
        let sharp = 60.0 / (1.0 + step as f64 / 100.0);
        let mut pixels = Vec::new();
        for image in 0..64 {
            for at in 0..28 * 28 {
                let (x, y) = (at as f64 % 28.0 - 14.0, (at / 28) as f64 - 14.0);
                let radius = 4.0 + (image % 7) as f64;
                let ring = 255.0 * (-(x.hypot(y * 0.8) - radius).powi(2) / sharp.max(3.0)).exp();
                for c in 0..channels {
                    pixels.push((ring * if c == image % 3 { 1.0 } else { 0.6 }) as u8);
                }
            }
        }
        let png = grid_png(Pictures::new(&pixels, [28, 28, channels]), None).unwrap();
        run.write_sample(step, &png).unwrap();
    }
    run
}

fn likelihood(model: &str, nats: f64, like: usize) -> Likelihood {
    let protocol = published()[like].protocol.clone();
    let [weights, program, device] = ["raw", "0.1.0", "cpu"].map(String::from);
    let measurement = Measurement { run: format!("runs/{model}"), weights, program, device };
    Likelihood { model: model.into(), nats, protocol, source: Source::Run(measurement) }
}

fn op_times() -> Vec<OpTime> {
    let ops = [("conv 3x3 masked B 32->32", 7, 4.81, 6.1e9), ("conv_dw 3x3 masked B 32->32", 7, 5.52, 6.1e9)];
    let more = [("conv 1x1 64->32", 7, 1.93, 2.9e9), ("adam", 1, 0.31, 0.0), ("bce_with_logits", 1, 0.05, 2e6)];
    let op = |(name, calls, ms, flops): (&str, u64, f64, f64)| OpTime { name: name.into(), calls, ms, flops };
    ops.into_iter().chain(more).map(op).collect()
}

fn run_report<'a>(run: &'a RunDir, likelihoods: Vec<Likelihood>) -> RunReport<'a> {
    let facts = vec![("Parameters".to_string(), "182 401".to_string())];
    RunReport { run, device: "CPU, 2 threads, AVX-512".into(), facts, op_times: op_times(), likelihoods }
}

#[test]
fn a_run_folder_becomes_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let run = made_up_run(folder.path(), "pixelcnn-mnist", &[("nll", 82.0, 460.0)], 1);
    let report = run_report(&run, vec![likelihood("pixelcnn-mnist", 82.35, 0)]).page().unwrap();
    let headings: Vec<&str> = report.sections.iter().map(|section| section.heading.as_str()).collect();
    assert_eq!(headings, ["Samples", "Training", "Likelihood", "Time per operation", "Configuration"]);
    let html = report.to_html();
    for part in [
        "step 2000",
        "step 100<",
        "training step",
        "82.35",
        "81.30",
        "conv_dw 3x3",
        "preset = &quot;pixelcnn-mnist&quot;",
        "AVX-512",
        "182 401",
        "1 min 46 s",
        "data:image/png;base64,iVBORw0KGgo",
        "binarized-mnist (static binarisation), batches of 64, Adam at 0.001",
    ] {
        assert!(html.contains(part), "{part}");
    }
    assert!(!html.contains(folder.path().to_str().unwrap()), "the page names no path of this machine");
    assert_eq!(html.matches("<figure class=\"large\"><img alt=\"step 2000\"").count(), 1);
    assert_eq!(html.matches("<img").count(), 9);
    run.write_report(&html).unwrap();
    assert_eq!(std::fs::read_to_string(run.report_path()).unwrap(), html);
}

#[test]
fn three_families_share_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let pixelcnn = made_up_run(folder.path(), "pixelcnn-mnist", &[("nll", 82.0, 460.0)], 1);
    let terms = [("loss", 101.0, 450.0), ("reconstruction", 76.0, 470.0), ("kl", 25.0, -20.0)];
    let vae = made_up_run(folder.path(), "vae-mnist", &terms, 1);
    let gan = made_up_run(folder.path(), "dcgan-cifar", &[("critic", 0.9, 0.4), ("generator", -1.3, 0.6)], 3);
    let mut report = Report::new("Three families of generative models", "Trained on one machine by one engine");
    for (heading, run, likelihoods) in [
        ("Autoregressive", &pixelcnn, vec![likelihood("pixelcnn-mnist", 82.35, 0)]),
        ("Variational autoencoder", &vae, vec![likelihood("vae-mnist", 93.1, 4), likelihood("vae-mnist", 90.9, 5)]),
        ("Adversarial", &gan, vec![]),
    ] {
        report.sections.push(run_report(run, likelihoods).section(heading).unwrap());
    }
    report.summary = [("Device", "CPU, 2 threads, AVX-512"), ("Training time", "5 min 18 s")]
        .map(|(n, v)| (n.into(), v.into()))
        .into();
    let html = report.to_html();
    assert_eq!(html.matches("<section").count(), 3);
    assert_eq!(html.matches("Numbers in different tables").count(), 2);
    // Writes the page to a file, for somebody who changes its style.
    if let Some(path) = std::env::var_os("PIXTAPE_TEST_REPORT") {
        std::fs::write(path, html).unwrap();
    }
}

#[test]
fn a_run_that_has_just_begun_has_a_page_too() {
    let folder = tempfile::tempdir().unwrap();
    let config = preset("vae-mnist").unwrap().to_toml();
    let run = RunDir::create(&folder.path().join("new"), &config).unwrap();
    let report = RunReport { run: &run, device: "CPU".into(), facts: vec![], op_times: vec![], likelihoods: vec![] };
    let page = report.page().unwrap();
    assert_eq!(page.sections.len(), 1, "the configuration only");
    assert!(report.section("VAE").unwrap().elements.len() >= 2);
    std::fs::write(run.config_path(), "preset = 3").unwrap();
    assert!(report.page().unwrap_err().to_string().contains("config.toml"));
}
