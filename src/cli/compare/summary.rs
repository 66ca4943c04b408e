//! Draws from the runs that are compared, and measures what the summary shows of them.

use super::super::args::DataArgs;
use super::super::judge::classifier::{Judge, JudgeData, read_classifier};
use super::super::judge::print::with_interval;
use super::super::progress::{Busy, Drawing};
use super::super::trained::{Stored, Trained};
use super::{Args, Compared, DEFAULT_SAMPLES, of_run};
use crate::backend::DeviceInfo;
use crate::config::Distribution;
use crate::data::{Binarize, Identity, Images, Levels};
use crate::error::{Error, Result};
use crate::eval::{self, Quality};
use crate::models::Family;
use crate::pictures::grid::{Pictures, grid_png};
use crate::report::compare::Ranking;
use crate::report::run::median_speed;
use crate::report::summary::{
    Anchor, Choice, Kind, LatentFacts, RunEvidence, SetSummary, Setting, Summary, Training, by_seed,
};
use crate::sampling::{DrawOptions, Sampler};
use crate::store::{Row, RunDir};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The largest number of images that are drawn together.
const BATCH: usize = 64;

/// Images in the picture of a run.
const SHOWN: usize = 64;

/// The least time over which sampling is timed.
const LEAST_TIME: Duration = Duration::from_millis(500);

/// The summary, and the judge of each of its data sets.
pub(super) struct Found {
    pub summary: Summary,
    /// Empty if there is no classifier.
    pub judges: Vec<JudgeFacts>,
}

/// What is known of a classifier and of the images that it judges by.
pub(super) struct JudgeFacts {
    /// Where the weights come from, as JSON.
    pub provenance: serde_json::Value,
    pub sha256: String,
    pub accuracy: eval::Accuracy,
    pub binarisation: Binarize,
    pub train: Identity,
    pub test: Identity,
}

/// The images of a split in one binarisation. Runs of two of them are not compared.
#[derive(Clone, PartialEq)]
struct SetKey {
    sha256: String,
    binarisation: Binarize,
}

/// The runs of a data set, at least one.
struct RunsOfSet {
    key: SetKey,
    images: Arc<Images>,
    runs: Vec<Compared>,
}

/// Checks that whole images can be drawn from a model.
///
/// # Errors
/// If not: a sentence that says what it does instead.
pub(super) fn expect_drawable(stored: &Stored) -> Result<()> {
    let (model, name) = (&stored.model, stored.model.config.name());
    let instead = match &model.family {
        Family::Classifier(_) => "draws no images; give it by --classifier, not among the runs",
        Family::Sequence(net) if net.observations().distribution == Distribution::Normal => {
            "draws time series, not images; leave it out, or leave out --page, --table and --classifier"
        }
        _ if model.reduction().is_some() => {
            "draws only what an image lacks that it is given, so it has no samples to compare; leave it out, or leave out \
             --page, --table and --classifier"
        }
        _ => return Ok(()),
    };
    Err(Error::Failed(format!("{name} ({}) {instead}", stored.origin())))
}

/// Measures all runs, data set by data set.
pub(super) fn measure(args: &Args, compared: Vec<Compared>, rankings: Vec<Ranking>) -> Result<Found> {
    let sets = by_set(compared);
    let n = args.n.unwrap_or(DEFAULT_SAMPLES);
    let mut summary = Summary {
        samples: n,
        seed: args.seed.unwrap_or(0),
        device: in_words(&args.device.open()?.describe()),
        classifier: None,
        sets: vec![],
        rankings,
    };
    // Drawing may take long, so all classifiers come first.
    let judges = sets.iter().map(|set| judge_of(args, set)).collect::<Result<Vec<_>>>()?;
    let mut facts = vec![];
    for (set, mut judge) in sets.into_iter().zip(judges) {
        let title = title(&set, args);
        summary.classifier = summary.classifier.or(judge.as_ref().map(Judge::title));
        facts.extend(judge.as_ref().map(facts_of));
        let (judged_by, classes) =
            judge.as_ref().map(|judge| (judged_by(judge), judge.reference.counts().clone())).unzip();
        let anchors = anchors(args, &set, judge.as_mut(), n)?;
        let mut runs = vec![];
        for run in set.runs {
            let path = run.path.clone();
            runs.push(evidence(args, run, judge.as_mut(), n).map_err(|error| of_run(&path, error))?);
        }
        summary.sets.push(SetSummary { title, judged_by, classes, groups: by_seed(runs), anchors });
    }
    Ok(Found { summary, judges: facts })
}

/// Divides runs by their data, in the order of their first runs.
fn by_set(compared: Vec<Compared>) -> Vec<RunsOfSet> {
    let mut sets: Vec<RunsOfSet> = vec![];
    for run in compared {
        let images = run.images.clone().expect("a summary opens the images of every run");
        // As in a protocol: images that are binary already are one fixed sample.
        let is_binary = images.levels() == Levels::Binary;
        let binarisation = if is_binary { Binarize::Static } else { run.stored.model.config.binarize };
        let key = SetKey { sha256: images.sha256(), binarisation };
        match sets.iter_mut().find(|set| set.key == key) {
            Some(set) => set.runs.push(run),
            None => sets.push(RunsOfSet { key, images, runs: vec![run] }),
        }
    }
    sets
}

fn title(set: &RunsOfSet, args: &Args) -> String {
    let identity = Identity::of(&set.images, args.split);
    let how = match set.key.binarisation {
        Binarize::None => String::new(),
        how => format!(", {} binarisation", how.name()),
    };
    let Identity { name, split, count, .. } = &identity;
    format!("{name} {split}{how}, {count} images of {}, content {}", set.images.size(), identity.short())
}

/// The device in words.
fn in_words(device: &DeviceInfo) -> String {
    let DeviceInfo { kind, name, detail, threads } = device;
    let threads = match threads {
        0 => String::new(),
        1 => ", 1 thread".to_string(),
        many => format!(", {many} threads"),
    };
    format!("{kind} ({name}, {detail}{threads})")
}

/// The binarisation for a judge. A dynamic one would be another one in every epoch.
fn for_judge(how: Binarize) -> Binarize {
    if how == Binarize::Dynamic { Binarize::Static } else { how }
}

/// The classifier with the labelled images that it judges by: those of the data set, or, if they have no
/// labels, those that the classifier was trained on.
fn judge_of(args: &Args, set: &RunsOfSet) -> Result<Option<Judge>> {
    let Some(path) = &args.classifier else { return Ok(None) };
    let classifier = read_classifier(path)?;
    let (size, wanted) = (set.images.size(), classifier.model.image);
    if size != wanted {
        let name = classifier.model.config.name();
        return Err(Error::Failed(format!(
            "{} has images of {size}, but {name} judges images of {wanted}; give a classifier of that size",
            set.images.name()
        )));
    }
    let is_labelled = set.images.labels().is_some();
    let name = if is_labelled { Some(args.data.name_for(&set.runs[0].stored)?) } else { None };
    let data = JudgeData::open(&classifier, &DataArgs { data: name, data_dir: args.data.data_dir.clone() })?;
    Judge::new(classifier, data, for_judge(set.key.binarisation), &args.device).map(Some)
}

fn judged_by(judge: &Judge) -> String {
    let how = match judge.binarisation {
        Binarize::None => String::new(),
        how => format!(", all images in {} binarisation", how.name()),
    };
    format!("Judged next to {}{how}; the classifier is right on {}.", judge.train, with_interval(&judge.accuracy))
}

fn facts_of(judge: &Judge) -> JudgeFacts {
    JudgeFacts {
        provenance: judge.stored().provenance_of_weights(),
        sha256: judge.sha256_of_weights(),
        accuracy: judge.accuracy,
        binarisation: judge.binarisation,
        train: judge.train.clone(),
        test: judge.test.clone(),
    }
}

/// The images of the data as the models read them, the same blurred, and noise.
fn anchors(args: &Args, set: &RunsOfSet, judge: Option<&mut Judge>, n: usize) -> Result<Vec<Anchor>> {
    let read = Arc::new(set.key.binarisation.apply_to(&set.images, 0)?.sample(n, 0));
    let blurred = Arc::new(eval::blurred(&read)?);
    let name = format!("{} images", args.split);
    let anchor = |name: String, quality, images: &Images| -> Result<Anchor> {
        let (sharpness, png) = (Some(eval::sharpness(images)), Some(png_of(images)?));
        Ok(Anchor { name, quality, sharpness, error: None, png })
    };
    let has_encoder = set.runs.iter().any(|run| matches!(run.stored.model.family, Family::Latent(_)));
    let error_of_mean = has_encoder.then(|| eval::error_of_mean(&read));
    let mut anchors = vec![anchor(name.clone(), None, &read)?, anchor(format!("{name}, blurred"), None, &blurred)?];
    if let Some(judge) = judge {
        let test = judge.test_images(n);
        let of_test = quality(judge, &test, "test images")?;
        // Other splits have a row of their own.
        match anchors.iter_mut().find(|anchor| anchor.name == "test images") {
            Some(anchor) => anchor.quality = Some(of_test),
            None => anchors.push(Anchor {
                name: "test images".to_string(),
                quality: Some(of_test),
                sharpness: None,
                error: None,
                png: None,
            }),
        }
        anchors[1].quality = Some(quality(judge, &blurred, "blurred images")?);
        let noise = judge.noise(n)?;
        anchors.push(Anchor {
            name: "noise".to_string(),
            sharpness: Some(eval::sharpness(&noise)),
            quality: Some(quality(judge, &noise, "images of noise")?),
            error: None,
            png: None,
        });
    }
    anchors.extend(error_of_mean.map(|error| Anchor {
        name: "the mean image".to_string(),
        quality: None,
        sharpness: None,
        error: Some(error),
        png: None,
    }));
    Ok(anchors)
}

/// Judges images that have the size of the classifier's.
fn quality(judge: &mut Judge, images: &Arc<Images>, what: &str) -> Result<Quality> {
    let images = judge.prepare(images)?;
    let seen = judge.see(&images, what)?;
    let _busy = Busy::new("comparing features");
    Ok(judge.measure(&images, &seen))
}

/// Draws from a run and measures it.
fn evidence(args: &Args, run: Compared, judge: Option<&mut Judge>, n: usize) -> Result<RunEvidence> {
    let Compared { stored, path, images, likelihoods } = run;
    let kind = Kind::of(&stored.model).expect("classifiers are refused");
    let mut trained = Trained::of(stored, &args.device)?;
    let Drawn { images: drawn, images_per_s } = draw(&mut trained, n, args.seed.unwrap_or(0))?;
    let latents = latents(&mut trained, images.as_deref(), n)?;
    let quality = judge.map(|judge| quality(judge, &drawn, "samples")).transpose()?;
    let stored = &trained.stored;
    let (config, metrics) = (stored.model.config.clone(), metrics(stored)?);
    // A folder stands for its best checkpoint, if the run has measured validation images.
    let choice = match path.is_dir() && config.validate_every.is_some_and(|every| every > 0) {
        true => Choice::BestValidated,
        false => Choice::Step(stored.checkpoint.step),
    };
    Ok(RunEvidence {
        model: config.name().to_string(),
        kind,
        run: path.display().to_string(),
        seed: config.seed,
        step: stored.checkpoint.step,
        setting: Setting {
            config,
            choice,
            weights: stored.weights.name().to_string(),
            trained_on: stored.trained_on().map(|identity| identity.sha256),
        },
        likelihoods,
        quality,
        sharpness: eval::sharpness(&drawn),
        sampling: images_per_s,
        training: training(stored, &metrics),
        metrics,
        latents,
        png: png_of(&drawn)?,
    })
}

/// Samples and the speed at which they were drawn.
struct Drawn {
    images: Arc<Images>,
    images_per_s: f64,
}

/// Draws `n` images. They are drawn again until [`LEAST_TIME`] is over, so that the speed of fast models is
/// no accident.
fn draw(trained: &mut Trained, n: usize, seed: u32) -> Result<Drawn> {
    let Trained { stored, backend } = trained;
    let sampler = Sampler::new(&mut **backend, &stored.model, n.min(BATCH))?;
    let how = DrawOptions { seed, ..DrawOptions::default() };
    let busy = Drawing::new(&format!("drawing {n} images of {}", stored.origin()), n);
    let start = Instant::now();
    let pixels = sampler.draw_with(&mut **backend, n, how, &|images| busy.advance(images))?;
    let mut drawn = n;
    while start.elapsed() < LEAST_TIME {
        sampler.draw(&mut **backend, n, how)?;
        drawn += n;
    }
    let images_per_s = drawn as f64 / start.elapsed().as_secs_f64();
    drop(busy);
    sampler.release(&mut **backend);
    let images = Images::new("samples", stored.model.image, pixels, None, Levels::Grey256)?;
    Ok(Drawn { images: Arc::new(images), images_per_s })
}

/// What the encoder is worth, if there is one, on `n` of the images.
fn latents(trained: &mut Trained, images: Option<&Images>, n: usize) -> Result<Option<LatentFacts>> {
    let Trained { stored, backend } = trained;
    let (Family::Latent(net), Some(images)) = (&stored.model.family, images) else { return Ok(None) };
    let _busy = Busy::new(&format!("reconstructing images by {}", stored.origin()));
    let error = eval::reconstruction_error(&mut **backend, &stored.model, Arc::new(images.sample(n, 0)))?;
    Ok(Some(LatentFacts { dims: net.dims, error }))
}

/// The metrics of a run up to the checkpoint. None if there is no run folder.
fn metrics(stored: &Stored) -> Result<Vec<Row>> {
    let Some(folder) = &stored.run else { return Ok(vec![]) };
    let mut rows = RunDir::open(folder)?.metrics()?;
    rows.retain(|row| row.step <= stored.checkpoint.step);
    Ok(rows)
}

/// How fast a run was trained, by its metrics.
fn training(stored: &Stored, metrics: &[Row]) -> Option<Training> {
    let (last, images_per_s) = (metrics.last()?, median_speed(metrics)?);
    Some(Training { images_per_s, seconds: last.seconds, device: stored.checkpoint.device.clone() })
}

/// A picture of the first images.
fn png_of(images: &Images) -> Result<Vec<u8>> {
    let scale = 255 / images.levels().max();
    let shown = &images.pixels()[..SHOWN.min(images.len()) * images.dims()];
    let pixels: Vec<u8> = shown.iter().map(|level| level * scale).collect();
    grid_png(Pictures::new(&pixels, images.size()), None)
}
