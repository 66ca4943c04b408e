//! Windowed sampling on wgpu, compared with naive sampling there and with the CPU; completion; exact
//! likelihoods.
//!
//! The CPU fuses multiply-adds and a driver may not. If a uniform number is almost on the border between two
//! levels (a *tie*), two devices may draw different levels. They draw the same image up to its first tie.
//! After it the images differ, because later draws depend on the tie.

use crate::{open, wgpu};
use pixtape::backend::wgpu::Options;
use pixtape::backend::{self, Backend, Feed};
use pixtape::config::{PRESETS, preset};
use pixtape::data::BatchFeeds;
use pixtape::models::{Autoregressive, Family, Model};
use pixtape::nn::Env;
use pixtape::rng::{self, Stream};
use pixtape::sampling::{DrawOptions, Sampler};
use pixtape::tape::Tape;
use pixtape::tape::plan::Plan;
use pixtape::tape::window::SamplingPlan;
use std::process::Command;

/// A draw is a tie if the distance of its uniform number from the border between two levels is below this.
const TIE: f64 = 2e-5;

/// A model of a preset with other settings; `None` if it is not autoregressive.
fn model(name: &str, settings: &[&str]) -> Option<Model> {
    let mut config = preset(name).unwrap();
    let Family::Autoregressive(_) = Model::new(&config).unwrap().family else { return None };
    for setting in settings {
        config.set(setting).unwrap();
    }
    Some(Model::new(&config).unwrap())
}

fn network(model: &Model) -> &Autoregressive {
    let Family::Autoregressive(net) = &model.family else { panic!("{} is not autoregressive", model.config.name()) };
    net
}

/// Writes weights that are large enough for draws to depend on earlier draws.
fn write(model: &Model, backend: &mut dyn Backend) {
    for spec in model.set.specs() {
        let values: Vec<f32> = spec.initial(3).iter().map(|v| 1.5 * v).collect();
        backend.write_param(spec.param.id, &values).unwrap();
    }
}

/// The CPU with the same weights.
fn cpu(model: &Model) -> Box<dyn Backend> {
    let mut cpu = backend::open("cpu", 0).unwrap();
    write(model, &mut *cpu);
    cpu
}

/// Random reduced images for `n` images; empty if the model does not use them.
fn reduced(model: &Model, n: usize) -> Vec<f32> {
    let len = model.reduction().map_or(0, |reduction| reduction.size(model.image).dims());
    (0..n * len).map(|i| rng::uniform(2, Stream::Test, [0, i as u32])).collect()
}

/// Asserts that two sets of images are the same up to the first tie of each image, according to the CPU's
/// logits. Returns how many images are the same throughout.
fn same_up_to_ties(what: &str, model: &Model, [got, want]: [&[u8]; 2], how: DrawOptions) -> usize {
    let (net, mut cpu) = (network(model), cpu(model));
    let (levels, outputs, len) = (net.pixels().levels, net.pixels().logits_per_dimension(), net.pixels().dims());
    let t = Tape::new();
    let (x, given) = net.inputs(&t, 1);
    t.output("logits", net.network().logits(&Env::infer(&t, &model.set), x, given));
    let plan = Plan::new("logits", &t);
    let compiled = cpu.compile(&plan).unwrap();
    let (n, mut same) = (want.len() / len, 0);
    for (image, (got, want)) in got.chunks(len).zip(want.chunks(len)).enumerate() {
        let Some(at) = got.iter().zip(want).position(|(a, b)| a != b) else {
            same += 1;
            continue;
        };
        let pixels: Vec<f32> = want.iter().map(|byte| f32::from(*byte) / 255.0).collect();
        let class = [(image % model.classes().max(1)) as u32];
        let reduced = how.reduced.chunks((how.reduced.len() / n).max(1)).nth(image).unwrap_or(&[]);
        let feeds = BatchFeeds { images: &pixels, labels: &class, reduced }.in_order(plan.inputs());
        cpu.run(compiled, &feeds, &how.scalars(image)).unwrap();
        let mut logits = vec![0.0; len * outputs];
        backend::read(&mut *cpu, compiled, 0, &mut logits).unwrap();
        let u = f64::from(rng::uniform(how.seed, Stream::Pixel, [image as u32, at as u32]));
        let logits: Vec<f64> = logits[at * outputs..][..outputs].iter().map(|l| f64::from(*l)).collect();
        let below = |level: usize| match outputs {
            // A binary pixel is 1 if u is below its probability.
            1 => 1.0 / (1.0 + (-logits[0]).exp()),
            _ => logits[..=level].iter().map(|l| l.exp()).sum::<f64>() / logits.iter().map(|l| l.exp()).sum::<f64>(),
        };
        let level = |byte: u8| (f64::from(byte) / 255.0 * (levels - 1) as f64).round() as usize;
        let (low, high) = (level(got[at].min(want[at])), level(got[at].max(want[at])));
        for border in [below(low), below(high - 1)] {
            let off = (border - u).abs();
            assert!(off < TIE, "{what}: position {at} of image {image} is {high} or {low}, {off:.1e} from a tie");
        }
    }
    same
}

#[test]
fn windows_draw_what_the_plain_way_and_the_cpu_draw() {
    let small = ["model.height=5", "model.width=4", "model.hidden=6", "model.head=12"];
    let classes = ("gated-pixelcnn-mnist", &["model.classes=10"][..]);
    let mut models = 0;
    for (name, more) in PRESETS.iter().map(|preset| (preset.name, &[][..])).chain([classes]) {
        let Some(model) = model(name, &[&small, more].concat()) else { continue };
        // The last batch is not full.
        let (n, batch) = (4, 3);
        let reduced = reduced(&model, n);
        let how = DrawOptions { seed: 5, reduced: &reduced, ..DrawOptions::default() };
        let Some(mut device) = open(Options { poison: true, guards: true, ..Default::default() }) else { return };
        write(&model, &mut device);
        let sampler = Sampler::new(&mut device, &model, batch).unwrap();
        assert_eq!(sampler.batch(), batch);
        let windows = sampler.draw(&mut device, n, how).unwrap();
        device.check_guards().unwrap();
        let plain = Sampler::naive(&mut device, &model, batch).unwrap().draw(&mut device, n, how).unwrap();
        assert_eq!(windows, plain, "{name}: windows and the plain way");
        let mut cpu = cpu(&model);
        let there = Sampler::new(&mut *cpu, &model, batch).unwrap().draw(&mut *cpu, n, how).unwrap();
        assert!(same_up_to_ties(name, &model, [&windows, &there], how) + 1 >= n, "{name}: wgpu and CPU");
        let len = windows.len() / n;
        assert_ne!(windows[..len], windows[len..2 * len], "{name}: every image is the same");
        models += 1;
    }
    assert!(models >= 11, "{models} models were sampled");
}

/// At the size of the preset both devices draw the same images, except a few that differ from a tie on.
#[test]
fn of_64_digits_at_least_62_are_those_of_the_cpu() {
    let Some(mut device) = wgpu() else { return };
    let model = model("pixelcnn-mnist", &[]).unwrap();
    write(&model, &mut *device);
    let mut cpu = cpu(&model);
    let (n, how) = (64, DrawOptions { seed: 7, ..DrawOptions::default() });
    let [there, here] = [&mut device, &mut cpu].map(|backend| {
        let sampler = Sampler::new(&mut **backend, &model, n).unwrap();
        sampler.draw(&mut **backend, n, how).unwrap()
    });
    let lit = here.iter().filter(|byte| **byte > 0).count();
    assert!((here.len() / 10..here.len() * 9 / 10).contains(&lit), "{lit} of {} pixels are lit", here.len());
    let same = same_up_to_ties("pixelcnn-mnist", &model, [&there, &here], how);
    assert!(same >= 62, "{same} of 64 images are the same");
}

#[test]
fn a_given_beginning_stays_and_what_lies_behind_it_does_not_matter() {
    let sizes = ["model.height=7", "model.width=6", "model.hidden=6", "model.head=12"];
    for name in ["pixelcnn-mnist", "pixelcnn-cifar", "gated-pixelcnn-mnist", "diagonal-bilstm-mnist"] {
        let Some(mut device) = wgpu() else { return };
        let model = model(name, &sizes).unwrap();
        write(&model, &mut *device);
        let mut cpu = cpu(&model);
        let (n, len, colours) = (5, model.image.dims(), model.image.channels);
        // Drawing starts in the middle of a row.
        let from = (3 * 6 + 2) * colours;
        let given: Vec<f32> = (0..n * len).map(|i| (i * 7 % 3 % 2) as f32).collect();
        let how = DrawOptions { seed: 9, ..DrawOptions::default() };
        let complete = |backend: &mut dyn Backend, behind: f32| {
            let mut images = given.clone();
            images.chunks_mut(len).for_each(|image| image[from..].fill(behind));
            let sampler = Sampler::new(backend, &model, 2).unwrap();
            sampler.complete(backend, &mut images, from, how, &|_| {}).unwrap();
            images
        };
        let drawn = complete(&mut *device, 0.0);
        assert_eq!(complete(&mut *device, 0.5), drawn, "{name}");
        assert!(drawn.chunks(len).zip(given.chunks(len)).all(|(a, b)| a[..from] == b[..from]), "{name}");
        let bytes = |images: &[f32]| images.iter().map(|v| (255.0 * v).round() as u8).collect::<Vec<u8>>();
        let [there, here] = [bytes(&drawn), bytes(&complete(&mut *cpu, 0.0))];
        assert!(same_up_to_ties(name, &model, [&there, &here], how) + 1 >= n, "{name}");
        assert_ne!(drawn, given, "{name}");
    }
}

#[test]
fn weights_seed_and_temperature_are_read_anew() {
    let Some(mut device) = wgpu() else { return };
    let model = model("pixelcnn-mnist", &["model.height=6", "model.width=6", "model.hidden=6"]).unwrap();
    write(&model, &mut *device);
    let (sampler, n) = (Sampler::new(&mut *device, &model, 4).unwrap(), 4);
    let draw = |backend: &mut dyn Backend, seed, temperature| {
        sampler.draw(backend, n, DrawOptions { seed, temperature, ..DrawOptions::default() }).unwrap()
    };
    let first = draw(&mut *device, 1, 1.0);
    assert_ne!(draw(&mut *device, 2, 1.0), first, "another seed");
    assert_ne!(draw(&mut *device, 1, 50.0), first, "another temperature");
    assert_eq!(draw(&mut *device, 1, 1.0), first, "the same once more");
    for spec in model.set.specs() {
        device.write_param(spec.param.id, &vec![0.02; spec.initial(3).len()]).unwrap();
    }
    let other = draw(&mut *device, 1, 1.0);
    assert_ne!(other, first, "other weights");
    assert_eq!(
        Sampler::naive(&mut *device, &model, n)
            .unwrap()
            .draw(&mut *device, n, DrawOptions { seed: 1, ..DrawOptions::default() })
            .unwrap(),
        other
    );
}

/// The size of a binding is limited. Batches shrink to fit. If a single image does not fit, naive sampling
/// is used.
#[test]
fn a_small_binding_takes_fewer_images_and_none_the_plain_way() {
    let sizes = ["model.height=6", "model.width=6", "model.hidden=6", "model.head=6"];
    let model = model("pixelcnn-mnist", &sizes).unwrap();
    let net = network(&model);
    let (n, how) = (5, DrawOptions { seed: 3, ..DrawOptions::default() });
    let mut drawn = vec![];
    let each = SamplingPlan::new(&net.draw(1)).unwrap().bytes_per_image() as u64;
    for largest in [None, Some(4 * each), Some(each / 2)] {
        let Some(mut device) = open(Options { largest, ..Options::default() }) else { return };
        write(&model, &mut device);
        let sampler = Sampler::new(&mut device, &model, n).unwrap();
        let too_many = device.compile_sampling(&SamplingPlan::new(&net.draw(n)).unwrap());
        let one = device.compile_sampling(&SamplingPlan::new(&net.draw(1)).unwrap()).unwrap();
        match largest {
            None => assert!(sampler.batch() == n && too_many.is_ok()),
            Some(_) => {
                let said = too_many.unwrap_err().to_string();
                assert!(said.contains("values of the plan pixelcnn.draw") && said.contains("smaller batch"), "{said}");
                assert_eq!(one.is_some(), sampler.batch() < n, "{} images", sampler.batch());
            }
        }
        drawn.push(sampler.draw(&mut device, n, how).unwrap());
    }
    assert!(drawn.iter().all(|images| *images == drawn[0]));
}

#[test]
fn a_plan_that_is_not_sampled_says_so() {
    let Some(mut device) = wgpu() else { return };
    let model = model("pixelcnn-mnist", &["model.height=6", "model.width=6", "model.hidden=6"]).unwrap();
    write(&model, &mut *device);
    let plan = network(&model).draw(1);
    let compiled = device.compile(&plan).unwrap();
    let refused = device.sample(compiled, &[Feed::F32(&[0.0; 36])], 0, &DrawOptions::default().scalars(0), &|_| {});
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("pixelcnn.draw was not compiled for sampling"), "{said}");
}

/// Runs the commands on checkpoints that the CPU has written.
#[test]
fn commands_draw_and_measure_like_the_cpu() {
    if wgpu().is_none() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let pixtape = |line: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pixtape"));
        let output = command.args(line.split_whitespace()).current_dir(place.path()).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let sizes = "--set model.hidden=4 --set model.blocks=1 --set model.head=4";
    for preset in ["pixelcnn-mnist", "superres-mnist"] {
        let options = format!("--data glyphs --batch 16 --steps 20 --no-eval --set sample_every=0 {sizes}");
        pixtape(&format!("train {preset} --device cpu --out {preset} {options}"));
    }
    let [there, here] = ["wgpu", "cpu"].map(|device| {
        let draw = |command: &str| {
            pixtape(&format!("{command} --device {device} --out drawn.png"));
            // The pixels. The file also says on which kind of device they were drawn.
            image::open(place.path().join("drawn.png")).unwrap().into_bytes()
        };
        let pictures = [
            draw("sample pixelcnn-mnist -n 8 --seed 7"),
            draw("complete pixelcnn-mnist -n 4 --draws 2"),
            draw("superres superres-mnist -n 4 --draws 2"),
        ];
        let measured = pixtape(&format!("eval pixelcnn-mnist --images 100 --json --device {device}"));
        let measured: serde_json::Value = serde_json::from_str(&measured).unwrap();
        (pictures, measured["nll_nats"].as_f64().unwrap())
    });
    assert!(there.0 == here.0, "the pictures differ");
    assert!((there.1 - here.1).abs() <= 1e-4 * here.1, "{} nats on wgpu, {} on the CPU", there.1, here.1);
}
