//! Windowed sampling on the stand-in driver draws the same images as naive sampling there and as the CPU.
//!
//! Kernels and CPU code round in the same way here, so the images must be equal.

use crate::stand_in::StandIn;
use pixtape::backend::{self, Backend};
use pixtape::config::{PRESETS, preset};
use pixtape::models::{Family, Model};
use pixtape::rng::{self, Stream};
use pixtape::sampling::{DrawOptions, Sampler};
use pixtape::shape::ImageSize;
use pixtape::tape::InputRole;

/// Number of images that are drawn. The last batch is not full.
const IMAGES: usize = 4;
const BATCH: usize = 3;

/// Every autoregressive preset as a small network of 6 x 5 pixels, and one of them conditioned on a class.
fn models() -> Vec<(String, Model)> {
    let mut all = vec![];
    for (name, classes) in PRESETS.iter().map(|preset| (preset.name, None)).chain([("gated-pixelcnn-mnist", Some(10))])
    {
        let mut config = preset(name).unwrap();
        let Family::Autoregressive(_) = Model::new(&config).unwrap().family else { continue };
        for setting in ["model.height=6", "model.width=5", "model.hidden=6", "model.head=12"] {
            config.set(setting).unwrap();
        }
        let title = if classes.is_some() { format!("{name} by class") } else { name.to_string() };
        config.model.classes = classes.or(config.model.classes);
        all.push((title, Model::new(&config).unwrap()));
    }
    assert!(all.len() >= 11, "{} models", all.len());
    all
}

/// Writes weights that are large enough for draws to depend on earlier draws.
fn write(model: &Model, backend: &mut dyn Backend) {
    for spec in model.set.specs() {
        let values: Vec<f32> = spec.initial(3).iter().map(|v| 1.5 * v).collect();
        backend.write_param(spec.param.id, &values).unwrap();
    }
}

/// A reduced image for each image that is drawn; empty if the model does not use them.
fn reduced(model: &Model) -> Vec<f32> {
    let plan = &model.training()[0];
    let of_batch = plan.inputs().iter().find(|i| i.role == Some(InputRole::Reduced)).map_or(0, |i| i.meta.shape.len());
    (0..of_batch / model.config.batch * IMAGES).map(|i| rng::uniform(2, Stream::Test, [0, i as u32])).collect()
}

#[test]
fn windows_draw_what_the_plain_way_and_the_cpu_draw() {
    for (name, model) in models() {
        let Some(mut cuda) = StandIn::backend() else { return };
        let reduced = reduced(&model);
        let how = DrawOptions { seed: 5, reduced: &reduced, ..DrawOptions::default() };
        let mut cpu = backend::open("cpu", 2).unwrap();
        write(&model, &mut cuda);
        write(&model, &mut *cpu);
        let windows = Sampler::new(&mut cuda, &model, BATCH).unwrap().draw(&mut cuda, IMAGES, how).unwrap();
        let plain = Sampler::naive(&mut cuda, &model, BATCH).unwrap().draw(&mut cuda, IMAGES, how).unwrap();
        assert_eq!(windows, plain, "{name}: windows and the plain way");
        let there = Sampler::new(&mut *cpu, &model, BATCH).unwrap().draw(&mut *cpu, IMAGES, how).unwrap();
        assert_eq!(windows, there, "{name}: CUDA and CPU");
        let len = windows.len() / IMAGES;
        assert_ne!(windows[..len], windows[len..2 * len], "{name}: every image is the same");
    }
}

/// The given positions are kept, and the positions after them are drawn as on the CPU. Drawing starts in the
/// middle of a row, and in the middle of a pixel if it has colours.
#[test]
fn images_are_completed_as_the_cpu_completes_them() {
    for (name, model) in models() {
        let Some(mut cuda) = StandIn::backend() else { return };
        let ImageSize { height, width, channels: colours } = model.image;
        let (len, from) = (height * width * colours, (2 * width + 1) * colours + colours / 2);
        let reduced = reduced(&model);
        let how = DrawOptions { seed: 6, reduced: &reduced, ..DrawOptions::default() };
        let given: Vec<f32> = (0..IMAGES * len).map(|i| (i * 7 % 3 % 2) as f32).collect();
        let complete = |backend: &mut dyn Backend| {
            write(&model, backend);
            let sampler = Sampler::new(backend, &model, BATCH).unwrap();
            let mut images = given.clone();
            sampler.complete(backend, &mut images, from, how, &|_| {}).unwrap();
            images
        };
        let got = complete(&mut cuda);
        assert_eq!(got, complete(&mut *backend::open("cpu", 2).unwrap()), "{name}: CUDA and CPU");
        assert!(got.chunks(len).zip(given.chunks(len)).all(|(a, b)| a[..from] == b[..from]), "{name}");
        assert_ne!(got, given, "{name}: nothing was drawn");
    }
}
