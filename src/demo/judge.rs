//! The judge of the demo: a classifier that knows eleven classes, the ten digits and "no digit".
//!
//! It learns from the training glyphs and from half as many counterexamples (`counterexamples`). An image
//! is recognised if the classifier gives one of the digits a probability above [`SURE`]; the eleventh class
//! takes its share of the probability like the others. Every image is thresholded at half white first, as
//! the images are that the autoregressive and the latent model learn from, so that soft and hard edges are
//! judged alike.

use super::counterexamples::{Spoilt, spoilt};
use super::{COLUMNS, DATA, Options, shortened};
use crate::backend::{self, DeviceInfo};
use crate::config::preset;
use crate::data::{self, Batches, Binarize, Identity, Images, Levels, Loader, Order, Split};
use crate::error::Result;
use crate::eval::{self, ClassCounts, Judged};
use crate::models::Model;
use crate::optim::schedule::learning_rate;
use crate::pictures::grid::{Pictures, grid_png};
use crate::report::html::Picture;
use crate::store::Row;
use crate::train::run::Event;
use crate::train::trainer::Trainer;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What the judge is called.
pub(super) const NAME: &str = "The judge: a classifier of digits";

/// An image is recognised if a digit has more than this probability.
pub(crate) const SURE: f64 = 0.9;

/// The digits. The class after them is "no digit".
const DIGITS: usize = 10;

/// Images of each kind of counterexample that are judged.
const ANCHORS: usize = 1000;

/// What the judge's configuration changes in `classifier-mnist`.
const SETTINGS: [&str; 5] = ["model.channels=12", "model.classes=11", "batch=64", "steps=1200", "shift=2"];

/// A trained classifier.
pub(super) struct Judge {
    trainer: Trainer,
}

/// What the judge says of a set of images.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What the images are.
    pub name: String,
    /// The digit that each image is recognised as, if it is.
    pub digits: Vec<Option<u32>>,
    /// Images that are recognised as the digit of their label, if they have labels.
    pub right: Option<usize>,
}

impl Judge {
    /// Trains the judge. `None` if `stop` was set before the end.
    ///
    /// # Errors
    /// Whatever training reports.
    pub fn train(options: &Options, stop: &AtomicBool, on: &mut dyn FnMut(Event)) -> Result<Option<Judge>> {
        let mut config = preset("classifier-mnist")?;
        (config.data, config.device) = (DATA.to_string(), options.device.to_string());
        SETTINGS.iter().try_for_each(|setting| config.set(setting))?;
        config.binarize = Binarize::Threshold;
        config.steps = Some(shortened(&config, options.divide));
        let model = Model::new(&config)?;
        let images = lessons(&data::open(&config.data, Split::Train, None)?)?;
        let identity = Identity::of(&images, Split::Train);
        let batches = Batches::new(Arc::new(images), model.batch_options(Order::Shuffled))?;
        let (total, per_epoch) = (u64::from(config.steps.unwrap_or(1)), batches.per_epoch() as u64);
        let mut trainer = Trainer::new(model, backend::open(&config.device, options.threads)?, total)?;
        let device = trainer.backend.describe();
        on(Event::Start {
            device: format!("{} ({}, {})", device.kind, device.name, device.detail),
            data: &identity,
            parameters: trainer.model.set.weights().map(|w| w.shape.len()).sum(),
            step: 0,
            total,
            per_epoch,
        });
        let mut loader = Loader::new(batches)?;
        let start = Instant::now();
        while trainer.steps().done < total {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let rate = learning_rate(&config, trainer.steps());
            trainer.step(&mut loader)?;
            let step = trainer.steps().done;
            let is_due = step.is_multiple_of(u64::from(config.log_every)) || step == total;
            let row = match is_due {
                false => None,
                true => {
                    let seconds = start.elapsed().as_secs_f64();
                    let images_per_s = (step * config.batch as u64) as f64 / seconds.max(1e-9);
                    Some(Row { step, seconds, images_per_s, learning_rate: Some(rate), losses: trainer.losses()? })
                }
            };
            on(Event::Step { step, row: row.as_ref() });
        }
        Ok(Some(Judge { trainer }))
    }

    /// The device that it computes on.
    pub fn device(&self) -> DeviceInfo {
        self.trainer.backend.describe()
    }

    /// Judges images of the size of glyphs.
    ///
    /// # Errors
    /// Whatever the device reports.
    pub fn verdict(&mut self, name: &str, images: Arc<Images>) -> Result<Verdict> {
        let Trainer { model, backend, .. } = &mut self.trainer;
        let judged = eval::judge(&mut **backend, model, images)?;
        let digits = recognised(&judged);
        let is_right = |(digit, label): &(&Option<u32>, &u32)| **digit == Some(**label);
        let right = (!judged.labels.is_empty()).then(|| digits.iter().zip(&judged.labels).filter(is_right).count());
        Ok(Verdict { name: name.to_string(), digits, right })
    }

    /// Judges images of which the answer is known: glyphs that no model has learnt from, which should be
    /// recognised, and images that are no digits, which should not.
    ///
    /// # Errors
    /// Whatever the device reports.
    pub fn anchors(&mut self) -> Result<Anchors> {
        let glyphs = Arc::new(data::open(DATA, Split::Test, None)?);
        let mut sets = vec![("held-out glyphs", glyphs.clone())];
        for kind in Spoilt::LEARNT.into_iter().chain([Spoilt::Quartered]) {
            sets.push((kind.name(), Arc::new(spoilt(&glyphs, &[kind], ANCHORS, 1)?)));
        }
        let shown: Vec<&[u8]> = sets.iter().map(|(_, images)| &images.pixels()[..COLUMNS * images.dims()]).collect();
        let png = grid_png(Pictures::new(&shown.concat(), glyphs.size()), Some(COLUMNS))?;
        let verdicts = sets.iter().map(|(name, images)| self.verdict(name, images.clone())).collect::<Result<_>>()?;
        let caption = "one row of each kind of image, from held-out glyphs on".to_string();
        Ok(Anchors { verdicts, picture: Picture { caption, png, large: true } })
    }
}

/// Images of which it is known whether they are digits.
pub(super) struct Anchors {
    /// What the judge says of each kind.
    pub verdicts: Vec<Verdict>,
    /// Some of each kind.
    pub picture: Picture,
}

/// The glyphs with their labels, then half as many counterexamples.
fn lessons(glyphs: &Images) -> Result<Images> {
    let others = spoilt(glyphs, &Spoilt::LEARNT, glyphs.len() / 2, 0)?;
    let labels = glyphs.labels().unwrap_or_default().iter().copied();
    let labels = labels.chain((0..others.len()).map(|_| DIGITS as u8)).collect();
    let pixels = [glyphs.pixels(), others.pixels()].concat();
    Images::new("glyphs and counterexamples", glyphs.size(), pixels, Some(labels), Levels::Grey256)
}

/// The digit of each image to which the classifier gives a probability above [`SURE`].
fn recognised(judged: &Judged) -> Vec<Option<u32>> {
    let digit = |(row, class): (&[f32], u32)| {
        let largest = row[class as usize];
        let sum: f64 = row.iter().map(|logit| f64::from(logit - largest).exp()).sum();
        ((class as usize) < DIGITS && 1.0 / sum > SURE).then_some(class)
    };
    judged.logits.chunks_exact(judged.classes).zip(judged.predicted()).map(digit).collect()
}

impl Verdict {
    /// The fraction of the images that are recognised.
    pub fn share(&self) -> f64 {
        self.part(self.digits.iter().flatten().count())
    }

    /// The fraction of the images that are recognised as the digit of their label, if they have labels.
    pub fn right_share(&self) -> Option<f64> {
        self.right.map(|right| self.part(right))
    }

    fn part(&self, images: usize) -> f64 {
        images as f64 / self.digits.len() as f64
    }

    /// How many of the ten digits occur, each with at least a quarter of an equal share.
    pub fn covered(&self) -> usize {
        let digits: Vec<u32> = self.digits.iter().flatten().copied().collect();
        ClassCounts::of(&digits, DIGITS).covered(&ClassCounts::uniform(DIGITS), 0.25)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn verdict(digits: Vec<Option<u32>>) -> Verdict {
        Verdict { name: "images".to_string(), right: None, digits }
    }

    #[test]
    fn an_image_is_recognised_if_one_digit_has_most_of_the_probability() {
        let row = |entries: &[(usize, f32)]| {
            let mut row = vec![-20.0; DIGITS + 1];
            entries.iter().for_each(|(class, logit)| row[*class] = *logit);
            row
        };
        // With two classes of logits z and 0 the first one has the probability 1 / (1 + exp -z).
        let limit = (SURE / (1.0 - SURE)).ln() as f32;
        let rows = [
            (row(&[(3, 5.0)]), Some(3)),
            (row(&[(9, limit + 0.01), (2, 0.0)]), Some(9)),
            (row(&[(9, limit - 0.01), (2, 0.0)]), None),
            // The class "no digit" takes its share, and is no digit itself.
            (row(&[(0, limit - 0.01), (DIGITS, 0.0)]), None),
            (row(&[(DIGITS, 9.0)]), None),
        ];
        let logits = rows.iter().flat_map(|(row, _)| row.clone()).collect();
        let judged = Judged { dims: 0, classes: DIGITS + 1, features: vec![], logits, labels: vec![] };
        assert_eq!(recognised(&judged), rows.map(|(_, digit)| digit));
    }

    #[test]
    fn a_verdict_counts_images_and_digits() {
        let one = verdict(vec![Some(1), None, Some(1), Some(4)]);
        assert_eq!((one.share(), one.covered(), one.right_share()), (0.75, 2, None));
        assert_eq!(Verdict { right: Some(1), ..one }.right_share(), Some(0.25));
        // 100 images, of which 2 are less than a quarter of a tenth.
        let most = verdict((0..98).map(|i| Some(i % 9)).chain([Some(9), Some(9)]).collect());
        let none = verdict(vec![None; 3]);
        assert_eq!((most.share(), none.share()), (1.0, 0.0));
        assert_eq!((most.covered(), none.covered()), (9, 0));
    }

    #[test]
    fn the_judge_learns_from_glyphs_and_half_as_many_counterexamples() {
        let glyphs = data::open(DATA, Split::Valid, None).unwrap();
        let images = lessons(&glyphs).unwrap();
        let labels = images.labels().unwrap();
        assert_eq!((images.len(), images.classes()), (1500, DIGITS + 1));
        assert_eq!(&labels[..1000], glyphs.labels().unwrap());
        assert_eq!(images.image(999), glyphs.image(999));
        assert!(labels[1000..].iter().all(|label| usize::from(*label) == DIGITS));
    }

    /// A quarter of the training is enough to recognise most glyphs and little else.
    #[test]
    fn a_judge_that_has_learnt_a_little_prefers_glyphs_to_everything_else() {
        let options = Options { out: Path::new(""), device: "cpu", threads: 0, divide: 4 };
        let mut events = vec![];
        let judge = Judge::train(&options, &AtomicBool::new(false), &mut |event| {
            events.push(matches!(event, Event::Start { .. } | Event::Step { row: Some(_), .. }));
        });
        let Anchors { verdicts, picture } = judge.unwrap().unwrap().anchors().unwrap();
        assert!(events[0] && *events.last().unwrap(), "the first event is the start, and the last step has a row");
        let shares: Vec<(&str, f64)> = verdicts.iter().map(|v| (&*v.name, v.share())).collect();
        assert_eq!((shares[0].0, shares.len()), ("held-out glyphs", 2 + Spoilt::LEARNT.len()));
        assert!(shares[1..].iter().all(|(_, share)| *share < 0.5 * shares[0].1), "{shares:?}");
        // Nearly every glyph that is recognised is recognised as what it is.
        assert!(verdicts[0].right_share().unwrap() > 0.9 * shares[0].1, "{:?}", verdicts[0].right);
        assert!(verdicts[1..].iter().all(|verdict| verdict.right.is_none()));
        assert!(picture.png.starts_with(b"\x89PNG"));
        let stopped = Judge::train(&options, &AtomicBool::new(true), &mut |_| {}).unwrap();
        assert!(stopped.is_none());
    }
}
