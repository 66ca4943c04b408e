//! Benchmarks of sampling. The models have their initial weights, because the time does not depend on
//! what they have learned.

use super::Options;
use super::machine::Limits;
use super::report::Entry;
use super::timing::{Effort, PeakMemory, measure, stopwatch};
use crate::backend;
use crate::config::{Config, preset};
use crate::error::{Error, Result};
use crate::models::Model;
use crate::parameters;
use crate::sampling::{DrawOptions, Sampler};
use crate::tape::cost::Cost;

/// A model that is sampled.
struct Workload {
    name: &'static str,
    preset: &'static str,
    /// Height and width of the images, if they differ from the preset's.
    side: Option<usize>,
}

impl Workload {
    /// An unchanged preset under its own name.
    const fn preset(name: &'static str) -> Self {
        Workload { name, preset: name, side: None }
    }

    /// A PixelCNN for images of another size. The time of a model that draws pixel by pixel should grow
    /// with the area, like that of one forward pass.
    const fn pixelcnn(name: &'static str, side: usize) -> Self {
        Workload { name, preset: "pixelcnn-mnist", side: Some(side) }
    }
}

const WORKLOADS: [Workload; 11] = [
    Workload::preset("pixelcnn-mnist"),
    Workload::preset("pixelcnn-cifar"),
    Workload::preset("gated-pixelcnn-mnist"),
    Workload::preset("row-lstm-mnist"),
    Workload::preset("diagonal-bilstm-mnist"),
    Workload::preset("vae-mnist"),
    Workload::preset("dcgan-cifar"),
    Workload::pixelcnn("pixelcnn-8x8", 8),
    Workload::pixelcnn("pixelcnn-16x16", 16),
    Workload::pixelcnn("pixelcnn-32x32", 32),
    Workload::pixelcnn("pixelcnn-64x64", 64),
];

/// Images per batch.
const IMAGES: usize = 16;

/// The names of all workloads.
pub fn names() -> Vec<String> {
    WORKLOADS.iter().map(|workload| workload.name.to_string()).collect()
}

/// The configuration of a workload.
fn config(name: &str) -> Result<Config> {
    let workload = WORKLOADS
        .iter()
        .find(|workload| workload.name == name)
        .ok_or_else(|| Error::Usage(format!("there is no sampling benchmark called {name:?}")))?;
    let mut config = preset(workload.preset)?;
    if workload.side.is_some() {
        (config.model.height, config.model.width) = (workload.side, workload.side);
    }
    Ok(config)
}

/// Times one batch of images.
pub(super) fn time(name: &str, options: &Options, limits: &Limits) -> Result<Entry> {
    let peak = PeakMemory::watch();
    let mut device = backend::open(&options.device, options.threads)?;
    let model = Model::new(&config(name)?)?;
    parameters::initialize(&mut *device, &model.set, 1)?;
    let sampler = Sampler::new(&mut *device, &model, IMAGES)?;
    let mut images = vec![];
    let times = measure(Effort::SAMPLING, |run| {
        let how = DrawOptions { seed: run as u32, ..DrawOptions::default() };
        stopwatch(|| {
            images = sampler.draw(&mut *device, IMAGES, how)?;
            Ok(())
        })
    })?;
    if images.iter().all(|byte| *byte == images[0]) {
        return Err(Error::Failed(format!("{name}: the images drawn are empty; their times mean nothing")));
    }
    let Cost { flops, bytes } = sampler.cost();
    let entry =
        Entry::new(name, "sampling", format!("[{IMAGES}x{}]", model.image), &times, Cost { flops, bytes }, limits);
    // Memory of a graphics card does not count as memory of the process.
    let on_host = peak.bytes().filter(|_| device.describe().kind == "cpu");
    let peak_bytes = on_host.unwrap_or(device.memory_bytes() as u64);
    Ok(Entry { peak_bytes, ..entry.images(IMAGES) })
}
