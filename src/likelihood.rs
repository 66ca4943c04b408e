//! A likelihood and how it was measured.

use crate::data::{Binarize, Reduction, Split};
use std::fmt;

/// What kind of number a likelihood is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Estimate {
    /// The negative log-likelihood itself.
    Exact,
    /// The negative log-likelihood given something of the image.
    ExactGiven(Condition),
    /// The negative evidence lower bound, which is at least that.
    Elbo,
    /// The importance-weighted bound with this many samples.
    Iwae(u32),
    /// The negative logarithm of a density itself, of values in 0 to 1: it may be below 0, and depends on that scale.
    Density,
}

impl Estimate {
    /// Whether it is no bound.
    pub fn is_exact(self) -> bool {
        matches!(self, Estimate::Exact | Estimate::ExactGiven(_) | Estimate::Density)
    }
}

/// What a conditional likelihood knows of an image beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Its class.
    Class,
    /// A reduced image of it.
    Reduced(Reduction),
}

impl Condition {
    /// All of them.
    pub const ALL: [Condition; 3] =
        [Condition::Class, Condition::Reduced(Reduction::Grey), Condition::Reduced(Reduction::Small)];

    /// In words, as in "exact given its class".
    pub fn name(self) -> &'static str {
        match self {
            Condition::Class => "its class",
            Condition::Reduced(Reduction::Grey) => "its grey image",
            Condition::Reduced(Reduction::Small) => "a quarter of its side",
        }
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Estimate::Exact => f.write_str("exact"),
            Estimate::ExactGiven(condition) => write!(f, "exact given {}", condition.name()),
            Estimate::Elbo => f.write_str("ELBO"),
            Estimate::Iwae(k) => write!(f, "IWAE-{k}"),
            Estimate::Density => f.write_str("exact Gaussian density of values in 0 to 1"),
        }
    }
}

/// How a likelihood was measured. Two numbers may be ranked if and only if their protocols are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Protocol {
    /// The data set's name.
    pub dataset: String,
    /// The split it was measured on.
    pub split: Split,
    /// How grey values became zeros and ones.
    pub binarisation: Binarize,
    /// What kind of number it is.
    pub estimate: Estimate,
    /// Dimensions of an image.
    pub dims: usize,
    /// Images it is the mean of: a part of a split is another test.
    pub images: usize,
}

impl Protocol {
    /// Whether such numbers are given in nats an image (binary images, densities) or in bits a dimension.
    fn in_nats(&self) -> bool {
        self.binarisation != Binarize::None || self.estimate == Estimate::Density
    }

    /// The unit that such numbers are given in.
    pub fn unit(&self) -> &'static str {
        if self.in_nats() { "nats" } else { "bits/dim" }
    }

    /// A number of nats an image in [`Protocol::unit`].
    pub fn in_unit(&self, nats: f64) -> f64 {
        if self.in_nats() { nats } else { nats / (self.dims as f64 * std::f64::consts::LN_2) }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.dataset, self.split)?;
        if self.binarisation != Binarize::None {
            write!(f, ", {} binarisation", self.binarisation.name())?;
        }
        let items = if self.estimate == Estimate::Density { "sequences" } else { "images" };
        write!(f, ", {}, {} {items} of {} dimensions", self.estimate, self.images, self.dims)
    }
}

/// Where a number comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A paper.
    Published(&'static str),
    /// A run or checkpoint of ours.
    Run(String),
}

/// A negative log-likelihood, or a bound on it, with its protocol.
#[derive(Clone, Debug, PartialEq)]
pub struct Likelihood {
    /// The model's name.
    pub model: String,
    /// Nats an image; lower is better.
    pub nats: f64,
    /// How it was measured.
    pub protocol: Protocol,
    /// Where it comes from.
    pub source: Source,
}

impl Likelihood {
    /// The number in the protocol's unit, with two decimals and the sign of a bound: `<= 87.41`.
    pub fn value(&self) -> String {
        if !self.nats.is_finite() {
            return "not finite".to_string();
        }
        let bound = if self.protocol.estimate.is_exact() { "" } else { "<= " };
        format!("{bound}{:.2}", self.protocol.in_unit(self.nats))
    }

    /// Whether it is a number of ours.
    pub fn is_ours(&self) -> bool {
        matches!(self.source, Source::Run(_))
    }

    /// Where it comes from, in words.
    pub fn origin(&self) -> &str {
        match &self.source {
            Source::Published(paper) => paper,
            Source::Run(run) => run,
        }
    }
}
