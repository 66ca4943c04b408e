//! A likelihood and how it was measured. [`Protocol`] describes the measurement, [`Estimate`] the kind of
//! number, and [`Likelihood`] is a number with its protocol.

use crate::data::{Binarize, Reduction, Split, short};
use std::fmt;

/// The kind of a likelihood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Estimate {
    /// The exact negative log-likelihood.
    Exact,
    /// The exact negative log-likelihood, given some information about the image.
    ExactGiven(Condition),
    /// The negative evidence lower bound. It is at least the negative log-likelihood.
    Elbo,
    /// The same bound, given some information about the image.
    ElboGiven(Condition),
    /// The importance-weighted bound with this number of samples.
    Iwae(u32),
    /// The same bound, given some information about the image.
    IwaeGiven(u32, Condition),
    /// The exact negative log density of values in 0 to 1. It can be below 0, and it depends on the scale
    /// of the values.
    Density,
}

impl Estimate {
    /// Whether the number is exact and not a bound.
    pub fn is_exact(self) -> bool {
        matches!(self, Estimate::Exact | Estimate::ExactGiven(_) | Estimate::Density)
    }

    /// The number of samples, if it is an importance-weighted bound.
    #[cfg(feature = "cli")]
    pub(crate) fn importance_samples(self) -> Option<u32> {
        match self {
            Estimate::Iwae(k) | Estimate::IwaeGiven(k, _) => Some(k),
            _ => None,
        }
    }

    /// The estimate whose name this is.
    #[cfg(feature = "cli")]
    pub(crate) fn named(name: &str) -> Option<Estimate> {
        let known = |estimate: &Estimate| estimate.to_string() == name;
        let plain = [Estimate::Exact, Estimate::Density, Estimate::Elbo];
        let given = Condition::ALL.into_iter().flat_map(|c| [Estimate::ExactGiven(c), Estimate::ElboGiven(c)]);
        let k = name.strip_prefix("IWAE-").and_then(|rest| rest.split(' ').next()?.parse().ok());
        let weighted = k.into_iter().flat_map(|k| {
            let given = Condition::ALL.map(|condition| Estimate::IwaeGiven(k, condition));
            given.into_iter().chain([Estimate::Iwae(k)])
        });
        plain.into_iter().chain(given).chain(weighted).find(known)
    }
}

/// The information about an image that a conditional likelihood is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Its class.
    Class,
    /// A reduced image of it.
    Reduced(Reduction),
}

impl Condition {
    /// All conditions.
    pub const ALL: [Condition; 3] =
        [Condition::Class, Condition::Reduced(Reduction::Grey), Condition::Reduced(Reduction::Small)];

    /// The condition in words, as in "exact given its class".
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
            Estimate::ElboGiven(condition) => write!(f, "ELBO given {}", condition.name()),
            Estimate::Iwae(k) => write!(f, "IWAE-{k}"),
            Estimate::IwaeGiven(k, condition) => write!(f, "IWAE-{k} given {}", condition.name()),
            Estimate::Density => f.write_str("exact Gaussian density of values in 0 to 1"),
        }
    }
}

/// How a likelihood was measured. Two numbers may be ranked if and only if their protocols are
/// [comparable](Protocol::is_comparable).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Protocol {
    /// The data set's name. It decides nothing: the same images may have several names.
    pub dataset: String,
    /// The hash of the content of the images, 64 hexadecimal digits.
    pub sha256: String,
    /// The split on which it was measured.
    pub split: Split,
    /// How grey values were binarised.
    pub binarisation: Binarize,
    /// The kind of the number.
    pub estimate: Estimate,
    /// Dimensions per image.
    pub dims: usize,
    /// Number of images of the mean. A part of a split is a different test.
    pub images: usize,
}

impl Protocol {
    /// Whether numbers of the two protocols may be ranked: everything but the name of the data set is equal.
    #[doc(hidden)]
    pub fn is_comparable(&self, other: &Protocol) -> bool {
        *self == Protocol { dataset: self.dataset.clone(), ..other.clone() }
    }

    /// Whether such numbers are given in nats per image (binary images, densities) or in bits per
    /// dimension.
    fn in_nats(&self) -> bool {
        self.binarisation != Binarize::None || self.estimate == Estimate::Density
    }

    /// The unit of such numbers.
    pub fn unit(&self) -> &'static str {
        if self.in_nats() { "nats" } else { "bits/dim" }
    }

    /// Converts nats per image to [`Protocol::unit`].
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
        write!(f, ", {}, {} {items} of {} dimensions", self.estimate, self.images, self.dims)?;
        write!(f, ", content {}", short(&self.sha256))
    }
}

/// The source of a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A paper.
    Published(&'static str),
    /// A run or checkpoint of this program.
    Run(Measurement),
}

/// What was measured by this program, and by which version of it.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// The run or checkpoint.
    pub run: String,
    /// The weights: `raw` or `averaged`.
    pub weights: String,
    /// The version of the program.
    pub program: String,
    /// The kind of device: `cpu`, `cuda` or `wgpu`.
    pub device: String,
}

/// A negative log-likelihood, or a bound on it, with its protocol.
#[derive(Clone, Debug, PartialEq)]
pub struct Likelihood {
    /// The model's name.
    pub model: String,
    /// Nats per image; lower is better.
    pub nats: f64,
    /// How it was measured.
    pub protocol: Protocol,
    /// Where it comes from.
    pub source: Source,
}

impl Likelihood {
    /// The number in the unit of its protocol with two decimals, and with the sign of a bound: `<=
    /// 87.41`.
    pub fn value(&self) -> String {
        if !self.nats.is_finite() {
            return "not finite".to_string();
        }
        let bound = if self.protocol.estimate.is_exact() { "" } else { "<= " };
        format!("{bound}{:.2}", self.protocol.in_unit(self.nats))
    }

    /// Whether it was measured by this program.
    pub fn is_ours(&self) -> bool {
        matches!(self.source, Source::Run(_))
    }

    /// The source in words.
    pub fn origin(&self) -> String {
        match &self.source {
            Source::Published(paper) => paper.to_string(),
            Source::Run(Measurement { run, weights, program, device }) => {
                format!("{run} ({weights} weights, pixtape {program}, {device})")
            }
        }
    }
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;

    #[test]
    fn every_estimate_is_found_by_its_name() {
        let given = Condition::ALL.into_iter();
        let given = given.flat_map(|c| [Estimate::ExactGiven(c), Estimate::ElboGiven(c), Estimate::IwaeGiven(50, c)]);
        let plain = [Estimate::Exact, Estimate::Elbo, Estimate::Iwae(1), Estimate::Iwae(5000), Estimate::Density];
        for estimate in given.chain(plain) {
            assert_eq!(Estimate::named(&estimate.to_string()), Some(estimate));
        }
        for name in ["", "IWAE", "IWAE-", "IWAE-5 given nothing", "exact given", "IWAE-05"] {
            assert_eq!(Estimate::named(name), None, "{name}");
        }
    }
}
