//! Drawing images from models with their initial weights: the time does not depend on what they have learned.

use super::Options;
use super::machine::Limits;
use super::report::Entry;
use super::timing::{Effort, PeakMemory, measure, stopwatch};
use crate::backend;
use crate::config::preset;
use crate::error::{Error, Result};
use crate::models::Model;
use crate::sampling::{Draw, Sampler};
use crate::tape::cost::Cost;
use crate::train::weights;

/// The presets that are sampled.
pub const NAMES: [&str; 3] = ["pixelcnn-mnist", "vae-mnist", "dcgan-cifar"];

/// Images in a batch.
const IMAGES: usize = 16;

/// Times one batch of images.
pub(super) fn time(name: &str, options: &Options, limits: &Limits) -> Result<Entry> {
    let peak = PeakMemory::watch();
    let mut device = backend::open(&options.device, options.threads)?;
    let model = Model::new(&preset(name)?)?;
    weights::initialize(&mut *device, &model.set, 1)?;
    let sampler = Sampler::new(&mut *device, &model, IMAGES)?;
    let mut images = vec![];
    let times = measure(Effort::SAMPLING, |run| {
        let how = Draw { seed: run as u32, temperature: 1.0 };
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
    let peak_bytes = peak.bytes().unwrap_or(device.memory_bytes() as u64);
    Ok(Entry { peak_bytes, ..entry.images(IMAGES) })
}
