//! `pixtape demo`: all three families learn the built-in glyphs, and one page shows the results.
//!
//! [`run()`] trains one small model per family with the same code as `pixtape train`, evaluates and samples
//! it, and writes the page with `report`.

use crate::backend;
use crate::config::{Config, ScheduleKind, preset};
use crate::data::{Identity, Split};
use crate::error::{Error, Result};
use crate::eval;
use crate::likelihood::Likelihood;
use crate::models::Model;
use crate::parameters;
use crate::pictures::grid::{Pictures, grid_png};
use crate::pictures::png::with_text;
use crate::report::html::{Element, Picture, Report, Section};
use crate::report::op_times;
use crate::report::run::RunReport;
use crate::sampling::{DrawOptions, Sampler};
use crate::store::{RunDir, write_atomically};
use crate::train::images::open_images;
use crate::train::run::{self, Event, RunOptions, Summary};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

const DATA: &str = "glyphs";

/// One model of the demo: a preset that is small enough for a minute of training.
struct Act {
    family: &'static str,
    preset: &'static str,
    settings: &'static [&'static str],
    samples: usize,
}

const ACTS: [Act; 3] = [
    Act {
        family: "Autoregressive: PixelCNN",
        preset: "pixelcnn-mnist",
        // The network is narrow but deep, because a pixel has to see most of the digit above it.
        settings: &[
            "model.hidden=16",
            "model.blocks=12",
            "model.head=32",
            "steps=3500",
            "batch=32",
            "optimizer.lr=0.003",
        ],
        samples: 64,
    },
    Act {
        family: "Latent: variational autoencoder",
        preset: "vae-mnist",
        settings: &["steps=1500", "batch=64", "kl_warmup=200"],
        samples: 64,
    },
    Act {
        family: "Adversarial: DCGAN",
        preset: "gan-mnist",
        settings: &["model.channels=24", "steps=1500", "batch=32", "optimizer.lr=0.0005"],
        samples: 64,
    },
];

/// The results of one model.
#[derive(Clone, Debug)]
pub struct ActResult {
    /// Family and model.
    pub family: &'static str,
    /// Exact likelihood or bounds with their protocol; empty if the family has none.
    pub likelihoods: Vec<Likelihood>,
    /// Training images per second.
    pub train_images_per_s: f64,
    /// Sampled images per second.
    pub sample_images_per_s: f64,
}

/// The result of a finished demo.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The HTML page.
    pub page: PathBuf,
    /// The results of each model.
    pub results: Vec<ActResult>,
}

/// Runs the demo on `device` and writes it to the folder `out`. Tests shorten the training: the number of
/// steps is divided by `divide`. `None` if `stop` was set before the page was finished.
///
/// # Errors
/// The errors of training, evaluation and sampling, and of files that cannot be written.
pub fn run(
    out: &Path,
    device: &str,
    threads: usize,
    divide: u32,
    stop: &AtomicBool,
    on: &mut dyn FnMut(&'static str, Event),
) -> Result<Option<Finished>> {
    let (mut results, mut sections) = (vec![], vec![]);
    for act in &ACTS {
        let mut config = preset(act.preset)?;
        config.data = DATA.to_string();
        config.device = device.to_string();
        if config.binarize == crate::data::Binarize::Static {
            // The glyphs are grey. A minute is too short to also learn the noise of randomly binarised
            // edges.
            config.binarize = crate::data::Binarize::Threshold;
        }
        for setting in act.settings {
            config.set(setting)?;
        }
        (config.schedule.kind, config.schedule.final_lr) = (ScheduleKind::Cosine, 0.0);
        let steps = (config.steps.unwrap_or(1) / divide.max(1)).max(2);
        config.steps = Some(steps);
        (config.sample_every, config.checkpoint_every) = ((steps / 2).max(1), 0);
        let dir = out.join(act.preset);
        RunDir::remove(&dir, Config::complete)?;
        let options = RunOptions { out: dir.clone(), data: DATA.into(), threads, ..Default::default() };
        let summary = run::run(&config, &options, stop, &mut |event| on(act.family, event))?;
        if summary.interrupted {
            return Ok(None);
        }
        let FinishedAct { result, section } = finish(act, &config, &summary.dir, &summary, threads)?;
        results.push(result);
        sections.push(section);
    }
    let mut report = Report::new("pixtape demo", "Three families of generative models learn the built-in digits.");
    report.sections.push(Section {
        heading: "Side by side".into(),
        elements: vec![Element::Table { head: header(), rows: rows(&results) }],
    });
    report.sections.extend(sections);
    let page = out.join("report.html");
    write_atomically(&page, |file| file.write_all(report.to_html().as_bytes()))?;
    Ok(Some(Finished { page, results }))
}

/// A trained and measured model.
struct FinishedAct {
    result: ActResult,
    /// Its part of the page.
    section: Section,
}

/// Evaluates and samples the trained model, and makes its part of the page.
fn finish(act: &Act, config: &Config, dir: &RunDir, summary: &Summary, threads: usize) -> Result<FinishedAct> {
    let model = Model::new(config)?;
    let mut backend = backend::open(&config.device, threads)?;
    let latest = dir.latest()?.ok_or_else(|| Error::file(dir.path(), "it has no checkpoint", "run the demo again"))?;
    parameters::load(&mut *backend, &model.set, &latest.checkpoint, &latest.path)?;
    let likelihoods = if eval::has_likelihood(&model) {
        let images = Arc::new(open_images(&model, DATA, Split::Test, None)?);
        eval::evaluate(&mut *backend, &model, images, Split::Test, 10, act.preset)?.likelihoods
    } else {
        vec![]
    };
    let sampler = Sampler::new(&mut *backend, &model, act.samples)?;
    let start = Instant::now();
    let images = sampler.draw(&mut *backend, act.samples, DrawOptions { seed: 1, ..DrawOptions::default() })?;
    let sample_images_per_s = act.samples as f64 / start.elapsed().as_secs_f64().max(1e-9);
    sampler.release(&mut *backend);
    let provenance = serde_json::json!({
        "model": model.config.name(),
        "step": latest.checkpoint.step,
        "weights": model.weights(),
        "trained_on": latest.checkpoint.data.as_deref().and_then(|text| serde_json::from_str::<Identity>(text).ok()),
        "program": env!("CARGO_PKG_VERSION"),
        "device": backend.describe().kind,
    });
    let png = with_text(&grid_png(Pictures::new(&images, model.image), None)?, &provenance.to_string());
    let path = dir.path().join("samples.png");
    write_atomically(&path, |file| file.write_all(&png))?;
    let report = RunReport {
        run: dir,
        device: backend.describe().name,
        facts: vec![("Images a second, sampling".into(), format!("{sample_images_per_s:.1}"))],
        op_times: op_times::by_operation(&summary.profile),
        likelihoods: likelihoods.clone(),
    };
    let mut section = report.section(act.family)?;
    let picture = Picture { caption: format!("{} samples after training", act.samples), png, large: true };
    section.elements.insert(1, Element::Pictures(vec![picture]));
    let train_images_per_s = summary.images_per_s;
    let result = ActResult { family: act.family, likelihoods, train_images_per_s, sample_images_per_s };
    Ok(FinishedAct { result, section })
}

/// The columns of the table that compares the families.
pub fn header() -> Vec<String> {
    ["model", "likelihood", "protocol", "training images/s", "sampling images/s"].map(String::from).to_vec()
}

/// One row per likelihood. A model without a likelihood has one row too.
pub fn rows(results: &[ActResult]) -> Vec<Vec<String>> {
    let row = |r: &ActResult, value: String, protocol: String| {
        let speeds = [r.train_images_per_s, r.sample_images_per_s].map(|s| format!("{s:.1}"));
        let [train, sample] = speeds;
        vec![r.family.to_string(), value, protocol, train, sample]
    };
    let of = |r: &ActResult| match &r.likelihoods[..] {
        [] => vec![row(r, "none".into(), "implicit: it has no density".into())],
        all => {
            all.iter().map(|l| row(r, format!("{} {}", l.value(), l.protocol.unit()), l.protocol.to_string())).collect()
        }
    };
    results.iter().flat_map(of).collect()
}
