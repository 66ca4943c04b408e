//! The networks by name. What a model computes follows from its network and from the other keys of its
//! configuration.

use crate::data::Reduction;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The network of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum NetworkKind {
    /// Masked convolutions (van den Oord et al. 2016).
    PixelCnn,
    /// Gated convolutions in two stacks (van den Oord et al. 2016b).
    GatedPixelCnn,
    /// Row LSTM layers (van den Oord et al. 2016).
    RowLstm,
    /// Diagonal BiLSTM layers (van den Oord et al. 2016).
    DiagonalBiLstm,
    /// Convolutional variational autoencoder (Kingma & Welling 2014).
    Vae,
    /// Variational autoencoder with one hidden layer on each side (Kingma & Welling 2014).
    VaeMlp,
    /// Convolutional autoencoder with squared error.
    Autoencoder,
    /// Generator and critic of convolutions (Radford et al. 2016).
    Dcgan,
    /// An LSTM over the observations of a sequence (Graves 2013).
    Lstm,
    /// Convolutions and a layer of features that tell classes apart.
    Classifier,
}

impl NetworkKind {
    /// All networks, in the order in which they are listed.
    pub const ALL: [NetworkKind; 10] = [
        NetworkKind::PixelCnn,
        NetworkKind::GatedPixelCnn,
        NetworkKind::RowLstm,
        NetworkKind::DiagonalBiLstm,
        NetworkKind::Vae,
        NetworkKind::VaeMlp,
        NetworkKind::Autoencoder,
        NetworkKind::Dcgan,
        NetworkKind::Lstm,
        NetworkKind::Classifier,
    ];

    /// The name that the key `network` and `pixtape train` take.
    pub const fn name(self) -> &'static str {
        match self {
            NetworkKind::PixelCnn => "pixelcnn",
            NetworkKind::GatedPixelCnn => "gated-pixelcnn",
            NetworkKind::RowLstm => "row-lstm",
            NetworkKind::DiagonalBiLstm => "diagonal-bilstm",
            NetworkKind::Vae => "vae",
            NetworkKind::VaeMlp => "vae-mlp",
            NetworkKind::Autoencoder => "autoencoder",
            NetworkKind::Dcgan => "dcgan",
            NetworkKind::Lstm => "lstm",
            NetworkKind::Classifier => "classifier",
        }
    }

    /// The network of this name.
    pub fn named(name: &str) -> Option<NetworkKind> {
        NetworkKind::ALL.into_iter().find(|network| network.name() == name)
    }
}

impl fmt::Display for NetworkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<NetworkKind> for &'static str {
    fn from(network: NetworkKind) -> Self {
        network.name()
    }
}

impl TryFrom<String> for NetworkKind {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        NetworkKind::named(&name).ok_or_else(|| unknown_network(&name))
    }
}

/// The sentence about a name that is no network.
pub(super) fn unknown_network(name: &str) -> String {
    let known = NetworkKind::ALL.map(NetworkKind::name);
    format!("there is no network \"{name}\", did you mean {}? (networks: {})", nearest(name, &known), known.join(", "))
}

/// The known name that looks most like `name`.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> &'a str {
    let likeness = |candidate: &str| strsim::jaro_winkler(candidate, name);
    known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).unwrap_or_default()
}

/// The reduced image that a model is given whole, as a condition on what it draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReducedImage {
    /// The model is given no image.
    None,
    /// The grey image: the model draws its colours.
    Grey,
    /// The image at a quarter of its height and width: the model draws its details.
    Small,
}

impl ReducedImage {
    /// How the reduced image is made of a whole one, if the model is given one.
    pub fn reduction(self) -> Option<Reduction> {
        match self {
            ReducedImage::None => None,
            ReducedImage::Grey => Some(Reduction::Grey),
            ReducedImage::Small => Some(Reduction::Small),
        }
    }
}

/// How a colour of a pixel is distributed, given the latent vector of its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DecoderKind {
    /// Bernoulli: 0 or 1.
    Bernoulli,
    /// Normal, with a mean and a variance of each colour of each pixel; a bound for the 256 levels of a
    /// byte.
    Gaussian,
    /// Normal, with a fixed variance.
    GaussianFixed,
    /// The 256 levels of a byte under a logistic distribution (Salimans et al. 2017).
    Logistic,
}

/// How each value of an observation is distributed, given the observations before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// Bernoulli: 0 or 1.
    Bernoulli,
    /// Normal, with a mean and a variance.
    Normal,
}
