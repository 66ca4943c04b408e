//! Binarisation: turns grey values into zeros and ones, by one fixed sample, by a new sample in every
//! epoch, or by a threshold.

use std::fmt;
use std::str::FromStr;
#[cfg(feature = "cli")]
use std::sync::Arc;

use super::images::{Images, Levels};
use crate::rng::{Stream, words};
use crate::{Error, Result};

/// The seed of [`Binarize::Static`]. It is part of the definition of "static binarisation" and never
/// changes.
const STATIC_SEED: u32 = 0x5b1a_27e5;

/// How grey values are turned into zeros and ones. Likelihoods under different binarisations are not
/// comparable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binarize {
    /// No binarisation: the values of the file.
    #[default]
    None,
    /// One fixed sample, the same for every seed. If the file is binary already (binarized-mnist), its
    /// values are used; otherwise every value is a Bernoulli sample with probability value / 255.
    Static,
    /// A Bernoulli sample with probability value / 255, drawn again in every epoch.
    Dynamic,
    /// 1 if the value is at least 128, else 0.
    Threshold,
}

impl Binarize {
    /// All binarisations, in the order in which they are listed.
    pub const ALL: [Binarize; 4] = [Binarize::None, Binarize::Static, Binarize::Dynamic, Binarize::Threshold];

    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Binarize::None => "none",
            Binarize::Static => "static",
            Binarize::Dynamic => "dynamic",
            Binarize::Threshold => "threshold",
        }
    }

    /// What the values mean after binarisation.
    ///
    /// # Errors
    /// If a binary data set is to be binarised dynamically: it has no grey values to sample from.
    pub(crate) fn levels(self, images: &Images) -> Result<Levels> {
        match (self, images.levels()) {
            (Binarize::Dynamic, Levels::Binary) => Err(Error::Usage(format!(
                "{} is binary already and has no grey values to sample from; use binarize = \"static\", or the grey set",
                images.name()
            ))),
            (Binarize::None, levels) => Ok(levels),
            _ => Ok(Levels::Binary),
        }
    }

    /// The images as their levels after binarisation, one byte 0 or 1 per value. Without binarisation, or if
    /// they are binary already, they are returned as they are. A dynamic sample is that of the first epoch.
    ///
    /// # Errors
    /// If a binary data set is to be binarised dynamically.
    #[cfg(feature = "cli")]
    pub(crate) fn apply_to(self, images: &Arc<Images>, seed: u32) -> Result<Arc<Images>> {
        if self.levels(images)? == images.levels() {
            return Ok(images.clone());
        }
        let mut levels = vec![0; images.pixels().len()];
        for (index, out) in levels.chunks_exact_mut(images.dims()).enumerate() {
            self.apply(images, index, seed, 0, out);
        }
        let labels = images.labels().map(<[u8]>::to_vec);
        Images::new(images.name(), images.size(), levels, labels, Levels::Binary).map(Arc::new)
    }

    /// Writes the levels of image `index` to `out`, `[height, width, channels]`. A dynamic sample depends
    /// only on `seed`, `epoch` and the index of the image.
    pub(super) fn apply(self, images: &Images, index: usize, seed: u32, epoch: u32, out: &mut [u8]) {
        let image = images.image(index);
        let origin = images.origin(index);
        match self {
            _ if images.levels() == Levels::Binary => out.copy_from_slice(image),
            Binarize::None => out.copy_from_slice(image),
            Binarize::Threshold => out.iter_mut().zip(image).for_each(|(bit, &value)| *bit = u8::from(value >= 128)),
            Binarize::Static => bernoulli(STATIC_SEED.wrapping_add(origin.part), origin.index, image, out),
            Binarize::Dynamic => bernoulli(epoch_seed(seed, epoch), index as u32, image, out),
        }
    }
}

/// The seed of the dynamic samples of one epoch. The counter of the generator only has room for image and
/// pixel, so the epoch is mixed into the key.
fn epoch_seed(seed: u32, epoch: u32) -> u32 {
    words(seed, Stream::Binarize, [epoch, u32::MAX])[0]
}

/// Sets each element of `out` to 1 with probability value / 255. Each block of random words serves two
/// pixels. The values 0 and 255 are exact.
fn bernoulli(seed: u32, image_index: u32, image: &[u8], out: &mut [u8]) {
    for (pair, (bits, values)) in out.chunks_mut(2).zip(image.chunks(2)).enumerate() {
        let draw = words(seed, Stream::Binarize, [image_index, pair as u32]);
        for ((bit, &value), word) in bits.iter_mut().zip(values).zip(draw) {
            // The integer form of word / 2^32 < value / 255.
            *bit = u8::from(u64::from(word) * 255 < u64::from(value) << 32);
        }
    }
}

impl fmt::Display for Binarize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Binarize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Binarize> {
        let found = Binarize::ALL.into_iter().find(|binarize| binarize.name() == text);
        found.ok_or_else(|| {
            Error::Usage(format!("there is no binarisation `{text}`; use none, static, dynamic or threshold"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp() -> Images {
        let pixels = (0..2 * 16 * 16).map(|i| (i % 256) as u8).collect();
        Images::new("ramp", [16, 16, 1], pixels, None, Levels::Grey256).unwrap()
    }

    fn bits(how: Binarize, index: usize, seed: u32, epoch: u32) -> Vec<u8> {
        let mut out = vec![9; 256];
        how.apply(&ramp(), index, seed, epoch, &mut out);
        out
    }

    #[test]
    fn black_and_white_stay_and_grey_is_as_often_one_as_it_is_bright() {
        let mut ones = vec![0u32; 256];
        for epoch in 0..2000 {
            let sample = bits(Binarize::Dynamic, 0, 7, epoch);
            ones.iter_mut().zip(sample).for_each(|(sum, bit)| *sum += u32::from(bit));
        }
        assert_eq!((ones[0], ones[255]), (0, 2000));
        for (value, &count) in ones.iter().enumerate() {
            let p = value as f64 / 255.0;
            let deviation = (2000.0 * p * (1.0 - p)).sqrt();
            assert!((f64::from(count) - 2000.0 * p).abs() <= 4.5 * deviation, "value {value}: {count} of 2000");
        }
    }

    #[test]
    fn dynamic_changes_with_epoch_seed_and_image_and_static_only_with_the_image() {
        let base = bits(Binarize::Dynamic, 0, 7, 3);
        assert_eq!(base, bits(Binarize::Dynamic, 0, 7, 3));
        assert_ne!(base, bits(Binarize::Dynamic, 0, 7, 4));
        assert_ne!(base, bits(Binarize::Dynamic, 0, 8, 3));
        assert_ne!(base, bits(Binarize::Dynamic, 1, 7, 3));
        assert_eq!(bits(Binarize::Static, 0, 7, 3), bits(Binarize::Static, 0, 8, 4));
        assert_ne!(bits(Binarize::Static, 0, 7, 3), bits(Binarize::Static, 1, 7, 3));
    }

    #[test]
    fn static_sample_of_an_image_is_the_same_in_every_split() {
        let mut out = vec![0; 256];
        Binarize::Static.apply(&ramp().slice(1, 2), 0, 0, 0, &mut out);
        assert_eq!(out, bits(Binarize::Static, 1, 0, 0));
        let ramp = ramp();
        let chosen = ramp.sample(2, 5);
        assert_eq!(chosen, ramp.sample(2, 5));
        for index in 0..2 {
            Binarize::Static.apply(&chosen, index, 0, 0, &mut out);
            let place = chosen.origin(index).index as usize;
            assert_eq!(out, bits(Binarize::Static, place, 0, 0));
            Binarize::Static.apply(&ramp.sample(2, 5).slice(index, index + 1), 0, 0, 0, &mut out);
            assert_eq!(out, bits(Binarize::Static, place, 0, 0));
        }
        assert_ne!(chosen.origin(0), chosen.origin(1));
    }

    #[cfg(feature = "cli")]
    #[test]
    fn whole_sets_are_binarised_image_by_image_and_keep_their_labels() {
        let grey =
            Arc::new(Images::new("g", [1, 2, 1], vec![127, 128, 255, 0], Some(vec![4, 5]), Levels::Grey256).unwrap());
        let binary = Binarize::Threshold.apply_to(&grey, 0).unwrap();
        assert_eq!(
            (binary.pixels(), binary.labels(), binary.levels()),
            (&[0, 1, 1, 0][..], Some(&[4, 5][..]), Levels::Binary)
        );
        assert!(Arc::ptr_eq(&grey, &Binarize::None.apply_to(&grey, 0).unwrap()));
        assert!(Arc::ptr_eq(&binary, &Binarize::Static.apply_to(&binary, 0).unwrap()));
        assert!(Binarize::Dynamic.apply_to(&binary, 0).is_err());
        let ramp = Arc::new(ramp());
        let sample = Binarize::Static.apply_to(&ramp, 3).unwrap();
        assert_eq!(sample.image(1), bits(Binarize::Static, 1, 0, 0));
    }

    #[test]
    fn threshold_is_at_128() {
        let sample = bits(Binarize::Threshold, 0, 0, 0);
        assert_eq!((sample[127], sample[128]), (0, 1));
    }

    #[test]
    fn a_binary_set_keeps_its_bits_and_refuses_dynamic() {
        let images = Images::new("b", [1, 2, 1], vec![0, 1], None, Levels::Binary).unwrap();
        for how in [Binarize::None, Binarize::Static, Binarize::Threshold] {
            let mut out = [9; 2];
            how.apply(&images, 0, 1, 1, &mut out);
            assert_eq!((out, how.levels(&images).unwrap()), ([0, 1], Levels::Binary));
        }
        assert!(Binarize::Dynamic.levels(&images).unwrap_err().to_string().contains("binary already"));
    }
}
