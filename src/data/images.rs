//! Images in memory as bytes, with their labels, and the splits of a data set.
//!
//! [`Levels`] says what a byte means, [`Split`] which part of a data set is requested, and [`Images`]
//! holds the data.

use std::fmt;
use std::str::FromStr;

use crate::rng::{Stream, words};
use crate::shape::ImageSize;
use crate::{Error, Result};

/// What a byte of [`Images::pixels`] means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Levels {
    /// Intensities 0 to 255.
    Grey256,
    /// 0 or 1, as in the fixed binarisation of MNIST.
    Binary,
}

impl Levels {
    /// The largest level: 255 or 1.
    pub fn max(self) -> u8 {
        match self {
            Levels::Grey256 => 255,
            Levels::Binary => 1,
        }
    }

    /// The number of levels: 256 or 2.
    pub fn count(self) -> usize {
        usize::from(self.max()) + 1
    }
}

/// A part of a data set. Likelihoods are reported with data set, split and binarisation, so the contents
/// of each split are fixed:
///
/// | set | `Train` | `Fit` | `Valid` | `Test` |
/// |---|---|---|---|---|
/// | mnist, fashion-mnist | training file, 60,000 | its first 50,000 | its last 10,000 | test file |
/// | cifar-10 | training files, 50,000 | the first 45,000 | the last 5,000 | test file |
/// | binarized-mnist, glyphs, oscillator, pendulum | as published | `Train` | as published | as published |
/// | folder or file without parts | 90 % by a fixed hash | `Train` | 5 % | 5 % |
///
/// `Train` and `Valid` of the first two rows overlap. To select a model by its score on `Valid`, train it
/// on `Fit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// Everything that the publisher intended for training.
    Train,
    /// `Train` without the images of `Valid`.
    Fit,
    /// Validation images.
    Valid,
    /// Test images.
    Test,
}

impl Split {
    /// All splits, in the order in which they are listed.
    pub const ALL: [Split; 4] = [Split::Train, Split::Fit, Split::Valid, Split::Test];

    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Fit => "fit",
            Split::Valid => "valid",
            Split::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Split {
    type Err = Error;

    fn from_str(text: &str) -> Result<Split> {
        let found = Split::ALL.into_iter().find(|split| split.name() == text);
        found.ok_or_else(|| Error::Usage(format!("there is no split `{text}`; use train, fit, valid or test")))
    }
}

/// The position of an image in its publisher's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// The part of the data set: 0 for the training files, 1 for validation, 2 for test.
    pub(super) part: u32,
    /// The index within that part.
    pub(super) index: u32,
}

/// Images of one size in memory: channels last, one byte per value.
#[derive(Clone, PartialEq)]
pub struct Images {
    name: String,
    size: ImageSize,
    pixels: Vec<u8>,
    labels: Option<Vec<u8>>,
    /// The names of the classes in the order of their labels, if they have names.
    class_names: Option<Vec<String>>,
    levels: Levels,
    /// What the reader found, changed or left out, as sentences for the user.
    notices: Vec<String>,
    part: u32,
    first: u32,
    /// The original index of each image, if the images were selected from a larger set; `None` if they
    /// are contiguous.
    places: Option<Vec<u32>>,
    /// The hash of the images before their classes were renumbered.
    opened_as: Option<String>,
}

impl Images {
    /// Makes a set of images of one size. `pixels` is `[n, height, width, channels]`, and `labels` has one
    /// entry per image.
    ///
    /// # Errors
    /// If there is no image, if the lengths do not fit each other, or if a value is above the largest
    /// level.
    pub fn new(
        name: impl Into<String>,
        size: impl Into<ImageSize>,
        pixels: Vec<u8>,
        labels: Option<Vec<u8>>,
        levels: Levels,
    ) -> Result<Images> {
        let (name, size) = (name.into(), size.into());
        let one = size.dims();
        if one == 0 || pixels.is_empty() || !pixels.len().is_multiple_of(one) {
            let ImageSize { height, width, channels } = size;
            return Err(Error::Failed(format!(
                "{name}: {} bytes are not a whole number of {height} x {width} x {channels} images; check the data set",
                pixels.len()
            )));
        }
        let count = pixels.len() / one;
        if let Some(labels) = &labels
            && labels.len() != count
        {
            return Err(Error::Failed(format!(
                "{name}: there are {count} images but {} labels; the files do not belong together, fetch both again",
                labels.len()
            )));
        }
        if levels == Levels::Binary && pixels.iter().any(|&value| value > 1) {
            return Err(Error::Failed(format!("{name}: a binary image holds a value other than 0 and 1")));
        }
        Ok(Images {
            name,
            size,
            pixels,
            labels,
            class_names: None,
            levels,
            notices: vec![],
            part: 0,
            first: 0,
            places: None,
            opened_as: None,
        })
    }

    /// Gives the classes names, in the order of their labels.
    #[doc(hidden)]
    pub fn with_class_names(mut self, names: Vec<String>) -> Images {
        self.class_names = Some(names);
        self
    }

    /// The name of the data set: a known name, or the last component of the path that it came from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The size of every image.
    pub(crate) fn size(&self) -> ImageSize {
        self.size
    }

    /// Rows of an image.
    pub fn height(&self) -> usize {
        self.size.height
    }

    /// Columns of an image.
    pub fn width(&self) -> usize {
        self.size.width
    }

    /// Channels of an image: 1 (grey) or 3 (RGB).
    pub fn channels(&self) -> usize {
        self.size.channels
    }

    /// Values per image: height x width x channels. These are the dimensions of "bits per dimension".
    pub fn dims(&self) -> usize {
        self.size.dims()
    }

    /// Number of images, at least 1.
    pub fn len(&self) -> usize {
        self.pixels.len() / self.dims()
    }

    /// Always false: an empty set is refused when it is read.
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    /// All values, `[n, height, width, channels]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The values of image `index`, `[height, width, channels]`.
    pub fn image(&self, index: usize) -> &[u8] {
        &self.pixels[index * self.dims()..(index + 1) * self.dims()]
    }

    /// One label per image, if the data set has labels.
    pub fn labels(&self) -> Option<&[u8]> {
        self.labels.as_deref()
    }

    /// Number of classes: the number of class names if they have names, otherwise the largest label plus
    /// one, or 0 without labels.
    pub fn classes(&self) -> usize {
        let largest = self.labels.iter().flatten().max();
        let named = self.class_names.as_ref().map_or(0, Vec::len);
        largest.map_or(0, |&label| named.max(usize::from(label) + 1))
    }

    /// The names of the classes in the order of their labels. `None` if the classes are numbered or if
    /// there are no labels.
    #[doc(hidden)]
    pub fn class_names(&self) -> Option<&[String]> {
        self.class_names.as_deref()
    }

    /// The hash that was computed before the classes were renumbered, if they were.
    pub(super) fn opened_as(&self) -> Option<&str> {
        self.opened_as.as_deref()
    }

    /// Renumbers the classes: label `i` becomes the class that `names[i]` names. A class without a name is
    /// called by its number. The identity of the images stays that of the images before.
    ///
    /// # Errors
    /// A class that has images and is not in `names`: its name.
    #[doc(hidden)]
    pub fn renumbered(mut self, names: &[String]) -> Result<Images, String> {
        let Some(labels) = &self.labels else { return Ok(self) };
        let mut new_labels = [None; 256];
        for &label in labels {
            let new = &mut new_labels[usize::from(label)];
            if new.is_none() {
                let name = self.class_names.as_ref().and_then(|own| own.get(usize::from(label)).cloned());
                let name = name.unwrap_or_else(|| label.to_string());
                let found = names.iter().position(|known| *known == name).and_then(|index| u8::try_from(index).ok());
                *new = Some(found.ok_or(name)?);
            }
        }
        let changed = labels.iter().filter_map(|&label| new_labels[usize::from(label)]).collect();
        self.opened_as = Some(self.sha256());
        (self.labels, self.class_names) = (Some(changed), Some(names.to_vec()));
        Ok(self)
    }

    /// Whether each of these images is also one of `others`, pixel by pixel.
    #[cfg(feature = "cli")]
    pub(crate) fn all_among(&self, others: &Images) -> bool {
        let known: std::collections::HashSet<&[u8]> = others.pixels.chunks_exact(others.dims()).collect();
        self.pixels.chunks_exact(self.dims()).all(|image| known.contains(image))
    }

    /// What the reader found, changed or left out: sentences that a user should see. They are the same for
    /// every split, except where they count images.
    #[doc(hidden)]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// What the values mean.
    pub fn levels(&self) -> Levels {
        self.levels
    }

    /// Mean value over all images, in levels.
    pub fn mean(&self) -> f64 {
        self.pixels.iter().map(|&value| u64::from(value)).sum::<u64>() as f64 / self.pixels.len() as f64
    }

    /// A random selection of `n` images that depends only on `seed`; all images if there are no more than
    /// `n`. The first images of a file would be a poor sample if it is sorted by label.
    pub fn sample(&self, n: usize, seed: u32) -> Images {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_cached_key(|&index| (words(seed, Stream::Shuffle, [u32::MAX, index as u32]), index));
        order.truncate(n.max(1));
        self.select(&order)
    }

    /// The original position of image `index`. The static binarisation uses it, so that an image has the
    /// same binary version in every split and selection.
    pub(super) fn origin(&self, index: usize) -> Origin {
        let index = self.places.as_ref().map_or(index as u32, |places| places[index]);
        Origin { part: self.part, index: self.first + index }
    }

    /// Marks the images as part `part` of their data set (0 for the training files, 1 for validation, 2
    /// for test).
    pub(super) fn with_part(mut self, part: u32) -> Images {
        self.part = part;
        self
    }

    /// Adds sentences to [`Images::notices`].
    pub(crate) fn with_notices(mut self, notices: impl IntoIterator<Item = String>) -> Images {
        self.notices.extend(notices);
        self
    }

    /// The size of an image, with one channel if every pixel of every image is grey.
    pub(crate) fn natural_size(&self) -> ImageSize {
        let channels = if self.is_grey() { 1 } else { self.size.channels };
        ImageSize { channels, ..self.size }
    }

    fn is_grey(&self) -> bool {
        let (pixels, rest) = self.pixels.as_chunks::<3>();
        self.size.channels == 1 || (rest.is_empty() && pixels.iter().all(|[r, g, b]| r == g && g == b))
    }

    /// The same images with one channel, if they have three and in every pixel all three are equal.
    pub(crate) fn as_grey(&self) -> Option<Images> {
        (self.size.channels == 3 && self.is_grey()).then(|| {
            let (pixels, _) = self.pixels.as_chunks::<3>();
            let notice = format!("{}: every pixel is grey although it is stored in colour; read as grey", self.name);
            let size = ImageSize { channels: 1, ..self.size };
            let pixels = pixels.iter().map(|[grey, ..]| *grey).collect();
            let (labels, class_names, places) = (self.labels.clone(), self.class_names.clone(), self.places.clone());
            let notices = self.notices.iter().cloned().chain([notice]).collect();
            let opened_as = Some(self.sha256());
            Images { name: self.name.clone(), size, pixels, labels, class_names, notices, places, opened_as, ..*self }
        })
    }

    /// The images at `indices`.
    pub(super) fn select(&self, indices: &[usize]) -> Images {
        let pixels = indices.iter().flat_map(|&index| self.image(index)).copied().collect();
        let labels = self.labels.as_ref().map(|labels| indices.iter().map(|&index| labels[index]).collect());
        let places = Some(indices.iter().map(|&index| self.origin(index).index).collect());
        let (name, class_names, notices) = (self.name.clone(), self.class_names.clone(), self.notices.clone());
        Images { name, pixels, labels, class_names, notices, first: 0, places, opened_as: None, ..*self }
    }

    /// Images `start..end` of these.
    pub(super) fn slice(mut self, start: usize, end: usize) -> Images {
        let one = self.dims();
        self.opened_as = None;
        self.pixels.truncate(end * one);
        self.pixels.drain(..start * one);
        self.pixels.shrink_to_fit();
        if let Some(labels) = &mut self.labels {
            labels.truncate(end);
            labels.drain(..start);
        }
        match &mut self.places {
            None => self.first += start as u32,
            Some(places) => {
                places.truncate(end);
                places.drain(..start);
            }
        }
        self
    }
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Images({}: {} of {})", self.name, self.len(), self.size)
    }
}
