//! The judgement of a set of images by a classifier: how far its features are from those of the training
//! images, how the two cover each other, which classes it has, and whether it copies.
//!
//! [`Reference`] holds the training images as the classifier sees them, [`Quality`] what is measured of one
//! set of images. The samples of a model, the test images and noise are measured in the same way, so that
//! each number has a best and a worst one next to it.

use super::classification::{Accuracy, Judged};
use super::frechet::{Gaussian, Trend, shuffled};
use super::neighbours::{Points, PrecisionRecall, RealPoints};
use super::shares::ClassCounts;
use crate::data::Images;
use std::collections::HashSet;
use std::sync::Arc;

/// The neighbour that defines precision and recall (Kynkäänniemi et al. 2019).
pub(crate) const NEIGHBOUR: usize = 3;

/// The most images of a side whose distances from all of the other side are computed.
const MOST: usize = 10_000;

/// The least number of images that can be judged: a quarter of them must have a covariance, and all of them
/// more than [`NEIGHBOUR`] neighbours.
pub(crate) const LEAST: usize = 16;

/// The training images, as the classifier sees them.
pub(crate) struct Reference {
    images: Arc<Images>,
    /// Every training image.
    points: Points,
    gaussian: Gaussian,
    counts: ClassCounts,
    /// Rows of the training images, in a fixed random order.
    order: Vec<usize>,
}

/// What is measured of a set of images.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Quality {
    /// Number of images.
    pub images: usize,
    /// The Frechet distance from the training images.
    pub frechet: Trend,
    /// Next to as many training images.
    pub coverage: PrecisionRecall,
    /// Images of each side that precision and recall are computed of.
    pub compared: usize,
    /// The classes that the classifier sees.
    pub counts: ClassCounts,
    /// How often it sees the class of the label, if the images have labels.
    pub agreement: Option<Accuracy>,
    /// The median of the distance from an image to the nearest training image, in the space of features.
    pub nearest: f64,
    /// Images that are equal to a training image in every pixel.
    pub copies: usize,
}

impl Reference {
    /// The training images `images`, which have labels, and what the classifier says of them.
    pub fn new(images: Arc<Images>, judged: &Judged) -> Reference {
        Reference {
            points: points(judged, 0..images.len()),
            gaussian: Gaussian::of(&judged.features, judged.dims),
            counts: ClassCounts::of(&judged.labels, judged.classes),
            order: shuffled(images.len()),
            images,
        }
    }

    /// How often each class occurs among the labels.
    pub fn counts(&self) -> &ClassCounts {
        &self.counts
    }

    /// The images.
    pub fn images(&self) -> &Arc<Images> {
        &self.images
    }

    /// The features of every image.
    pub fn points(&self) -> &Points {
        &self.points
    }

    /// Measures a set of images.
    ///
    /// # Panics
    /// If it has fewer than [`LEAST`] images, or if there are fewer training images than that.
    pub fn measure(&self, images: &Images, judged: &Judged) -> Quality {
        let n = images.len();
        assert!(n >= LEAST && self.images.len() >= LEAST, "{n} images are too few");
        let compared = n.min(self.images.len()).min(MOST);
        let chosen = shuffled(n).into_iter().take(compared);
        let samples = points(judged, chosen);
        let real = self.order[..compared].iter().flat_map(|&row| self.points.values_of(row)).copied();
        let real = RealPoints::new(Points::new(real, self.points.dims()), NEIGHBOUR);
        let mut nearest: Vec<f64> =
            self.points.nearest(&samples, 1).iter().map(|found| found[0].squared.sqrt()).collect();
        nearest.sort_by(f64::total_cmp);
        let known: HashSet<&[u8]> = self.images.pixels().chunks_exact(self.images.dims()).collect();
        Quality {
            images: n,
            frechet: Trend::of(&judged.features, judged.dims, &self.gaussian),
            coverage: PrecisionRecall::of(&real, &samples),
            compared,
            counts: ClassCounts::of(&judged.predicted(), judged.classes),
            agreement: (!judged.labels.is_empty()).then(|| judged.accuracy()),
            nearest: nearest[nearest.len() / 2],
            copies: images.pixels().chunks_exact(images.dims()).filter(|image| known.contains(image)).count(),
        }
    }
}

/// The features of these rows.
pub(crate) fn points(judged: &Judged, rows: impl IntoIterator<Item = usize>) -> Points {
    let dims = judged.dims;
    let values = rows.into_iter().flat_map(|row| &judged.features[row * dims..][..dims]);
    Points::new(values.map(|value| f64::from(*value)), dims)
}
