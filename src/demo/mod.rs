//! `pixtape demo`: a judge and all three families learn the built-in glyphs, and one page shows what the
//! families draw and what the judge says of it.
//!
//! [`run()`] trains the judge (`judge`, which learns from glyphs and `counterexamples`), then one small
//! model per family with the same code as `pixtape train`. Each of them is measured, drawn from and judged.
//! `page` has the tables and the page.

mod counterexamples;
mod judge;
mod page;

use crate::backend::{self, DeviceInfo};
use crate::config::{Config, ScheduleKind, preset};
use crate::data::{Binarize, Identity, Images, Levels, Split};
use crate::error::{Error, Result};
use crate::eval;
use crate::likelihood::Likelihood;
use crate::models::Model;
use crate::parameters;
use crate::pictures::grid::{Pictures, grid_png};
use crate::pictures::png::with_text;
use crate::report::html::{Element, Picture, Section};
use crate::report::op_times;
use crate::report::run::RunReport;
use crate::sampling::{DrawOptions, Sampler};
use crate::store::{RunDir, write_atomically};
use crate::train::images::open_images;
use crate::train::run::{self, Event, RunOptions, Summary};
use judge::{Judge, Verdict};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

pub(crate) use judge::SURE;
pub(crate) use page::Table;

const DATA: &str = "glyphs";

/// Images that are drawn from each model and judged.
const SAMPLES: usize = 256;

/// Samples in the picture of a model.
const SHOWN: usize = 100;

/// Columns of pictures: one per digit, if the model draws the digits in turn.
const COLUMNS: usize = 10;

/// One model of the demo: a preset that is small enough for half a minute of training.
struct Act {
    family: &'static str,
    preset: &'static str,
    settings: &'static [&'static str],
    /// The temperature of its samples.
    temperature: f32,
}

/// All three draw a digit that they are told. The temperatures below 1 are those at which nearly all samples
/// are digits after so short a training.
const ACTS: [Act; 3] = [
    Act {
        family: "Autoregressive: Diagonal BiLSTM",
        preset: "diagonal-bilstm-mnist",
        // Each layer sees the whole digit above, so three are enough, and they learn at a high rate.
        settings: &[
            "model.classes=10",
            "model.layers=3",
            "model.hidden=16",
            "steps=3000",
            "batch=16",
            "ema=0.995",
            "optimizer.lr=0.01",
        ],
        temperature: 0.9,
    },
    Act {
        family: "Latent: variational autoencoder",
        preset: "vae-mnist",
        // Told the digit, few latent dimensions are enough for the style. A beta above 1 keeps their
        // distribution near the prior, from which samples are drawn.
        settings: &[
            "model.classes=10",
            "model.latent=6",
            "beta=3",
            "kl_warmup=250",
            "steps=1500",
            "batch=64",
            "optimizer.lr=0.002",
        ],
        temperature: 0.6,
    },
    Act {
        family: "Adversarial: DCGAN",
        preset: "gan-mnist",
        // At a rate of 0.001 the generator has not learnt what the classes are after as many steps.
        settings: &[
            "model.classes=10",
            "model.channels=16",
            "model.latent=16",
            "steps=1400",
            "batch=64",
            "ema=0.99",
            "optimizer.lr=0.003",
        ],
        temperature: 1.0,
    },
];

/// How the demo runs.
pub struct Options<'a> {
    /// The folder that it is written to.
    pub out: &'a Path,
    /// The name of the device.
    pub device: &'a str,
    /// Worker threads; 0 takes every core.
    pub threads: usize,
    /// Tests shorten the training: the number of steps is divided by this.
    pub divide: u32,
}

/// The results of one model.
pub struct ActResult {
    /// Family and model.
    family: &'static str,
    /// Exact likelihood or bounds with their protocol; empty if the family has none.
    likelihoods: Vec<Likelihood>,
    /// Training images per second.
    train_images_per_s: f64,
    /// Sampled images per second.
    sample_images_per_s: f64,
    /// What the judge says of its samples.
    verdict: Verdict,
}

/// The result of a finished demo.
pub struct Finished {
    /// The HTML page.
    pub page: PathBuf,
    /// The device that computed everything.
    pub device: DeviceInfo,
    /// How long it took.
    pub seconds: f64,
    /// What the judge says of the samples, and of images of which the answer is known.
    pub judged: Table,
    /// Likelihoods and speeds.
    pub measured: Table,
}

/// Runs the demo. `None` if `stop` was set before the page was finished.
///
/// # Errors
/// The errors of training, evaluation and sampling, and of files that cannot be written.
pub fn run(options: &Options, stop: &AtomicBool, on: &mut dyn FnMut(&'static str, Event)) -> Result<Option<Finished>> {
    let start = Instant::now();
    let Some(mut judge) = Judge::train(options, stop, &mut |event| on(judge::NAME, event))? else { return Ok(None) };
    let (mut results, mut sections) = (vec![], vec![]);
    for act in &ACTS {
        let config = act.config(options)?;
        let dir = options.out.join(act.preset);
        RunDir::remove(&dir, Config::complete)?;
        let threads = options.threads;
        let how = RunOptions { out: dir, data: DATA.into(), threads, ..Default::default() };
        let summary = run::run(&config, &how, stop, &mut |event| on(act.family, event))?;
        if summary.interrupted {
            return Ok(None);
        }
        let (result, section) = finish(act, &config, &summary, threads, &mut judge)?;
        results.push(result);
        sections.push(section);
    }
    let anchors = judge.anchors()?;
    let device = judge.device();
    let judged = page::judged(&results, &anchors.verdicts);
    let measured = page::measured(&results);
    let seconds = start.elapsed().as_secs_f64();
    let report = page::report(&device, seconds, &judged, &measured, anchors.picture, sections);
    let page = options.out.join("report.html");
    write_atomically(&page, |file| file.write_all(report.to_html().as_bytes()))?;
    Ok(Some(Finished { page, device, seconds, judged, measured }))
}

impl Act {
    /// The configuration of its training run.
    fn config(&self, options: &Options) -> Result<Config> {
        let mut config = preset(self.preset)?;
        (config.data, config.device) = (DATA.to_string(), options.device.to_string());
        if config.binarize == Binarize::Static {
            // The glyphs are grey. A minute is too short to also learn the noise of randomly binarised
            // edges.
            config.binarize = Binarize::Threshold;
        }
        self.settings.iter().try_for_each(|setting| config.set(setting))?;
        (config.schedule.kind, config.schedule.final_lr) = (ScheduleKind::Cosine, 0.0);
        let steps = shortened(&config, options.divide);
        config.steps = Some(steps);
        (config.sample_every, config.checkpoint_every) = ((steps / 2).max(1), 0);
        Ok(config)
    }
}

/// The steps of a run that tests shorten.
fn shortened(config: &Config, divide: u32) -> u32 {
    (config.steps.unwrap_or(1) / divide.max(1)).max(2)
}

/// Measures the trained model, draws from it and has the samples judged; makes its part of the page.
fn finish(
    act: &Act,
    config: &Config,
    summary: &Summary,
    threads: usize,
    judge: &mut Judge,
) -> Result<(ActResult, Section)> {
    let (model, dir) = (Model::new(config)?, &summary.dir);
    let mut backend = backend::open(&config.device, threads)?;
    let latest = dir.latest()?.ok_or_else(|| Error::file(dir.path(), "it has no checkpoint", "run the demo again"))?;
    parameters::load(&mut *backend, &model.set, &latest.checkpoint, &latest.path)?;
    let likelihoods = if eval::has_likelihood(&model) {
        let images = Arc::new(open_images(&model, DATA, Split::Test, None)?);
        eval::evaluate(&mut *backend, &model, images, Split::Test, 10, act.preset)?.likelihoods
    } else {
        vec![]
    };
    let sampler = Sampler::new(&mut *backend, &model, SAMPLES)?;
    let start = Instant::now();
    let how = DrawOptions { seed: 1, temperature: act.temperature, ..DrawOptions::default() };
    let pixels = sampler.draw(&mut *backend, SAMPLES, how)?;
    let sample_images_per_s = SAMPLES as f64 / start.elapsed().as_secs_f64().max(1e-9);
    sampler.release(&mut *backend);
    let provenance = serde_json::json!({
        "model": model.config.name(),
        "step": latest.checkpoint.step,
        "weights": model.weights(),
        "trained_on": latest.checkpoint.data.as_deref().and_then(|text| serde_json::from_str::<Identity>(text).ok()),
        "temperature": act.temperature,
        "program": env!("CARGO_PKG_VERSION"),
        "device": backend.describe().kind,
    });
    let shown = &pixels[..SHOWN * model.image.dims()];
    let png = with_text(&grid_png(Pictures::new(shown, model.image), Some(COLUMNS))?, &provenance.to_string());
    let path = dir.path().join("samples.png");
    write_atomically(&path, |file| file.write_all(&png))?;
    let told = (0..SAMPLES).map(|i| how.class(i, model.classes()) as u8).collect();
    let images = Arc::new(Images::new("samples", model.image, pixels, Some(told), Levels::Grey256)?);
    let verdict = judge.verdict(act.family, images.clone())?;
    let report = RunReport {
        run: dir,
        device: backend.describe().name,
        facts: vec![
            ("Recognised by the judge".into(), page::percent(verdict.share())),
            ("Temperature of the samples".into(), act.temperature.to_string()),
            ("Images a second, sampling".into(), format!("{sample_images_per_s:.1}")),
        ],
        op_times: op_times::by_operation(&summary.profile),
        likelihoods: likelihoods.clone(),
    };
    let mut section = report.section(act.family)?;
    let mut pictures = vec![Picture { caption: format!("{SHOWN} samples after training"), png, large: true }];
    pictures.extend(page::rejected(&verdict, &images)?);
    section.elements.insert(1, Element::Pictures(pictures));
    let train_images_per_s = summary.images_per_s;
    let result = ActResult { family: act.family, likelihoods, train_images_per_s, sample_images_per_s, verdict };
    Ok((result, section))
}
