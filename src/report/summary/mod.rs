//! The summary of `pixtape compare`: likelihood, quality and sharpness of samples, speed, and latent vectors
//! of several runs, next to each other.
//!
//! A [`Summary`] has one [`SetSummary`] per data set, in which runs that differ in their seed alone are
//! one [`SeedGroup`] (`seeds`). `ranks` says which numbers may be ranked, and why others may not. `tables`
//! makes the tables, which `page` and `markdown` write; the page also has the curves of `training`. What
//! each column means is in `docs/judging.md`.

mod markdown;
mod page;
mod ranks;
mod seeds;
mod tables;
mod training;

use crate::eval::{ClassCounts, Quality};
use crate::likelihood::Likelihood;
use crate::models::{Family, Model};
use crate::report::compare::Ranking;
use crate::store::Row;
pub(crate) use markdown::to_markdown;
pub(crate) use page::to_page;
pub(crate) use ranks::{Measured, Rank, Standing, standings};
pub(crate) use seeds::{Choice, Setting, Spread, by_seed};
pub(crate) use tables::{Measure, to_text};

/// A class counts as covered if it has this fraction of its share in the data.
pub(crate) const LEAST_SHARE: f64 = 0.25;

/// What is measured of several runs.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    /// Samples per run.
    pub samples: usize,
    /// The seed of the samples.
    pub seed: u32,
    /// The device that drew them, in words.
    pub device: String,
    /// The classifier in words, if there is one.
    pub classifier: Option<String>,
    /// In the order in which the runs are given.
    pub sets: Vec<SetSummary>,
    /// All likelihoods, next to the published ones.
    pub rankings: Vec<Ranking>,
}

/// The runs of one data set in one binarisation. Nothing is compared between two of them.
#[derive(Clone, Debug)]
pub(crate) struct SetSummary {
    /// The images: name, split, binarisation, number, size and content.
    pub title: String,
    /// The images by whose features samples are judged, if there is a classifier, and how often it is right.
    pub judged_by: Option<String>,
    /// The classes of the training images, if there is a classifier.
    pub classes: Option<ClassCounts>,
    pub groups: Vec<SeedGroup>,
    /// Images that are no samples, measured in the same way.
    pub anchors: Vec<Anchor>,
}

/// Runs of one configuration that differ in their seed alone.
#[derive(Clone, Debug)]
pub(crate) struct SeedGroup {
    /// At least one; their seeds differ.
    pub runs: Vec<RunEvidence>,
}

/// What is measured of one run.
#[derive(Clone, Debug)]
pub(crate) struct RunEvidence {
    /// The name of the preset or network.
    pub model: String,
    pub kind: Kind,
    /// The run folder or checkpoint.
    pub run: String,
    /// What runs of one group have in common.
    pub setting: Setting,
    /// The seed of the training.
    pub seed: u32,
    /// Training steps of the checkpoint.
    pub step: u64,
    /// Empty if the model has none.
    pub likelihoods: Vec<Likelihood>,
    /// Of the samples, if there is a classifier.
    pub quality: Option<Quality>,
    /// Of the samples.
    pub sharpness: f64,
    /// Samples per second.
    pub sampling: f64,
    /// `None` if there is no run folder with metrics.
    pub training: Option<Training>,
    /// The metrics of the training up to the checkpoint; empty if there is no run folder.
    pub metrics: Vec<Row>,
    /// `None` if the model has no encoder.
    pub latents: Option<LatentFacts>,
    /// A picture of the first samples.
    pub png: Vec<u8>,
}

/// How fast a run was trained.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Training {
    /// The median of the run's metrics.
    pub images_per_s: f64,
    /// Seconds of training up to the checkpoint.
    pub seconds: f64,
    /// The kind of device, if the checkpoint says it.
    pub device: Option<String>,
}

/// The latent vectors of a model with an encoder.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LatentFacts {
    /// Dimensions per vector.
    pub dims: usize,
    /// The mean squared error of reconstructions per value in 0 to 1.
    pub error: f64,
}

/// Images that samples are compared with.
#[derive(Clone, Debug)]
pub(crate) struct Anchor {
    pub name: String,
    pub quality: Option<Quality>,
    pub sharpness: Option<f64>,
    /// The error of reconstructing the images by the best constant image.
    pub error: Option<f64>,
    /// A picture of them, if the page shows one.
    pub png: Option<Vec<u8>>,
}

/// What a model can do by its construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Autoregressive,
    Variational,
    Autoencoder,
    Adversarial,
    Sequence,
}

impl Kind {
    /// The kind of a model; `None` for a classifier, which draws nothing.
    pub fn of(model: &Model) -> Option<Kind> {
        match &model.family {
            Family::Autoregressive(_) => Some(Kind::Autoregressive),
            Family::Latent(net) if net.is_variational() => Some(Kind::Variational),
            Family::Latent(_) => Some(Kind::Autoencoder),
            Family::Adversarial(_) => Some(Kind::Adversarial),
            Family::Sequence(_) => Some(Kind::Sequence),
            Family::Classifier(_) => None,
        }
    }

    /// The family in words.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Autoregressive => "autoregressive",
            Kind::Variational => "variational autoencoder",
            Kind::Autoencoder => "autoencoder",
            Kind::Adversarial => "adversarial",
            Kind::Sequence => "sequence",
        }
    }

    /// Why a model of this kind has no likelihood, if it has none.
    pub fn without_likelihood(self) -> Option<&'static str> {
        match self {
            Kind::Autoregressive | Kind::Variational | Kind::Sequence => None,
            Kind::Autoencoder => Some("a plain autoencoder has no density"),
            Kind::Adversarial => Some("a generator has no density that could be computed"),
        }
    }

    /// What its samples are.
    pub fn samples(self) -> &'static str {
        match self {
            Kind::Autoregressive => "pixels drawn one by one",
            Kind::Variational => "decoded means of latent vectors from the prior",
            Kind::Autoencoder => "decoded standard normal vectors, which it was not trained on",
            Kind::Adversarial => "outputs of the generator",
            Kind::Sequence => "observations drawn one by one",
        }
    }

    /// Why no latent vectors can be inferred, if that is so.
    pub fn without_latents(self) -> Option<&'static str> {
        match self {
            Kind::Variational | Kind::Autoencoder => None,
            Kind::Autoregressive | Kind::Sequence => Some("no: it has no latent vectors"),
            Kind::Adversarial => Some("no: it has latent vectors, but no encoder"),
        }
    }
}

impl SeedGroup {
    /// The first run, which stands for the group where one is shown.
    pub fn first(&self) -> &RunEvidence {
        &self.runs[0]
    }

    /// The name of the model, with the number of seeds if there are several.
    pub fn title(&self) -> String {
        let name = &self.first().model;
        if self.runs.len() == 1 { name.clone() } else { format!("{name} ({} seeds)", self.runs.len()) }
    }

    /// The spread of a number over the runs that have it.
    pub fn spread(&self, of: impl Fn(&RunEvidence) -> Option<f64>) -> Option<Spread> {
        let values: Vec<f64> = self.runs.iter().filter_map(of).collect();
        (!values.is_empty()).then(|| Spread::of(values))
    }
}

#[cfg(test)]
pub(crate) mod made_up {
    //! Runs that nobody has trained, for the tests of this folder.

    use super::*;
    use crate::config::preset;
    use crate::data::{Binarize, Split};
    use crate::likelihood::{Estimate, Measurement, Protocol, Source};

    /// A run of this preset and seed with these likelihoods in nats.
    pub(crate) fn run(name: &str, kind: Kind, seed: u32, likelihoods: &[(Estimate, f64)]) -> RunEvidence {
        let [run, weights, program, device] = [&format!("runs/{name}-{seed}"), "raw", "0.1.0", "cpu"].map(String::from);
        let likelihood = |(estimate, nats): &(Estimate, f64)| Likelihood {
            model: name.to_string(),
            nats: *nats,
            protocol: Protocol {
                dataset: "glyphs".to_string(),
                sha256: "ab".repeat(32),
                split: Split::Test,
                binarisation: Binarize::Static,
                estimate: *estimate,
                dims: 784,
                images: 2000,
            },
            source: Source::Run(Measurement {
                run: run.clone(),
                weights: weights.clone(),
                program: program.clone(),
                device: device.clone(),
            }),
        };
        let mut config = preset(name).unwrap();
        config.seed = seed;
        RunEvidence {
            model: name.to_string(),
            kind,
            run: run.clone(),
            step: 10,
            setting: Setting { config, choice: Choice::Step(10), weights: weights.clone(), trained_on: None },
            seed,
            likelihoods: likelihoods.iter().map(likelihood).collect(),
            quality: None,
            sharpness: 0.5,
            sampling: 100.0,
            training: None,
            metrics: vec![],
            latents: None,
            png: b"PNG".to_vec(),
        }
    }

    /// A summary of these runs on one data set.
    pub(crate) fn summary(runs: Vec<RunEvidence>) -> Summary {
        let anchor = |name: &str, sharpness| Anchor {
            name: name.to_string(),
            quality: None,
            sharpness: Some(sharpness),
            error: None,
            png: None,
        };
        let set = SetSummary {
            title: "glyphs test, static binarisation".to_string(),
            judged_by: None,
            classes: None,
            groups: by_seed(runs),
            anchors: vec![anchor("test images", 2.0), anchor("test images, blurred", 0.25)],
        };
        let device = "cpu, one thread".to_string();
        Summary { samples: 64, seed: 1, device, classifier: None, sets: vec![set], rankings: vec![] }
    }
}
