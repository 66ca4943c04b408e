//! Drawing images from models with their initial weights: the time does not depend on what they have learned.

use super::Options;
use super::machine::Limits;
use super::report::Entry;
use super::timing::{Effort, PeakMemory, measure, stopwatch};
use crate::backend;
use crate::config::{Config, preset};
use crate::error::{Error, Result};
use crate::models::Model;
use crate::sampling::{Draw, Sampler};
use crate::tape::cost::Cost;
use crate::train::weights;

/// What is sampled: a name, a preset, and the side of its images where it is not the preset's own. The time of a model that
/// draws pixel by pixel has to grow with the area, like that of one forward pass.
const WORKLOADS: [(&str, &str, Option<usize>); 11] = [
    ("pixelcnn-mnist", "pixelcnn-mnist", None),
    ("pixelcnn-cifar", "pixelcnn-cifar", None),
    ("gated-pixelcnn-mnist", "gated-pixelcnn-mnist", None),
    ("row-lstm-mnist", "row-lstm-mnist", None),
    ("diagonal-bilstm-mnist", "diagonal-bilstm-mnist", None),
    ("vae-mnist", "vae-mnist", None),
    ("dcgan-cifar", "dcgan-cifar", None),
    ("pixelcnn-8x8", "pixelcnn-mnist", Some(8)),
    ("pixelcnn-16x16", "pixelcnn-mnist", Some(16)),
    ("pixelcnn-32x32", "pixelcnn-mnist", Some(32)),
    ("pixelcnn-64x64", "pixelcnn-mnist", Some(64)),
];

/// Images in a batch.
const IMAGES: usize = 16;

/// The names of all workloads.
pub fn names() -> Vec<String> {
    WORKLOADS.iter().map(|(name, ..)| name.to_string()).collect()
}

/// The configuration of a workload.
fn config(name: &str) -> Result<Config> {
    let (_, known, side) = WORKLOADS
        .iter()
        .find(|(known, ..)| *known == name)
        .ok_or_else(|| Error::Usage(format!("there is no sampling benchmark called {name:?}")))?;
    let mut config = preset(known)?;
    if side.is_some() {
        (config.model.height, config.model.width) = (*side, *side);
    }
    Ok(config)
}

/// Times one batch of images.
pub(super) fn time(name: &str, options: &Options, limits: &Limits) -> Result<Entry> {
    let peak = PeakMemory::watch();
    let mut device = backend::open(&options.device, options.threads)?;
    let model = Model::new(&config(name)?)?;
    weights::initialize(&mut *device, &model.set, 1)?;
    let sampler = Sampler::new(&mut *device, &model, IMAGES)?;
    let mut images = vec![];
    let times = measure(Effort::SAMPLING, |run| {
        let how = Draw { seed: run as u32, ..Draw::default() };
        stopwatch(|| {
            images = sampler.draw(&mut *device, IMAGES, how)?;
            Ok(())
        })
    })?;
    if images.iter().all(|byte| *byte == images[0]) {
        return Err(Error::Failed(format!("{name}: the images drawn are empty; their times mean nothing")));
    }
    let Cost { flops, bytes } = sampler.cost();
    let [h, w, c] = model.image;
    let entry = Entry::new(name, "sampling", format!("[{IMAGES}x{h}x{w}x{c}]"), &times, Cost { flops, bytes }, limits);
    // The memory of a card is not that of the process.
    let on_host = peak.bytes().filter(|_| device.describe().kind == "cpu");
    let peak_bytes = on_host.unwrap_or(device.memory_bytes() as u64);
    Ok(Entry { peak_bytes, ..entry.images(IMAGES) })
}
