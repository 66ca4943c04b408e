//! The built-in time series: an oscillator and a pendulum, as images with one channel whose rows are
//! observations.
//!
//! Series `index` depends only on the seed of the data set and the index. Values are bytes, so a density
//! of them refers to values that were rounded to multiples of 1/255. Sines, logarithms and normal numbers
//! come from this crate and use only operations that IEEE 754 defines to the last bit, so the sets have
//! the same bytes on every machine.

mod oscillator;
mod pendulum;

pub use pendulum::{Pendulum, held_torques};

use std::ops::Range;

use rayon::prelude::*;

use super::images::{Images, Levels, Split};
use crate::Result;
use crate::shape::ImageSize;

/// Observations per series.
const STEPS: usize = 100;

/// The seed of both data sets. It is part of their definition and never changes.
const SEED: u32 = 20_26;

/// The indices of the series of a split.
fn range(split: Split) -> Range<u32> {
    match split {
        Split::Train | Split::Fit => 0..8_000,
        Split::Valid => 8_000..9_000,
        Split::Test => 9_000..10_000,
    }
}

/// The oscillators of a split, `[n, 100, 1, 1]`.
pub(super) fn oscillators(split: Split) -> Result<Images> {
    draw("oscillator", 1, split, oscillator::draw)
}

/// The pendulums of a split, `[n, 100, 4, 1]`: cosine, sine and speed, followed by the torque.
pub(super) fn pendulums(split: Split) -> Result<Images> {
    draw("pendulum", Pendulum::WIDTH, split, pendulum::draw)
}

fn draw(name: &str, width: usize, split: Split, draw: fn(u32, &mut [u8])) -> Result<Images> {
    let indices = range(split);
    let mut values = vec![0; indices.len() * STEPS * width];
    values.par_chunks_exact_mut(STEPS * width).zip(indices).for_each(|(series, index)| draw(index, series));
    Images::new(name, ImageSize { height: STEPS, width, channels: 1 }, values, None, Levels::Grey256)
}

/// A value in 0 to 1, rounded to the nearest byte. Values outside are clipped.
fn to_byte(value: f32) -> u8 {
    (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FNV-1a, 32 bits.
    fn hash(bytes: &[u8]) -> u32 {
        bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
    }

    #[test]
    fn the_sets_are_the_same_bytes_everywhere() {
        let hashes = [oscillators(Split::Test), pendulums(Split::Test)].map(|images| hash(images.unwrap().pixels()));
        assert_eq!(hashes, [2_980_920_306, 2_537_278_368]);
    }

    #[test]
    fn splits_share_no_series_and_fill_the_range() {
        for draw in [oscillators, pendulums] {
            let [train, valid, test] = [Split::Train, Split::Valid, Split::Test].map(|split| draw(split).unwrap());
            assert_eq!([train.len(), valid.len(), test.len()], [8_000, 1_000, 1_000]);
            let seen: std::collections::HashSet<&[u8]> =
                [&train, &valid, &test].into_iter().flat_map(|set| set.pixels().chunks(set.dims())).collect();
            assert_eq!(seen.len(), 10_000, "{train:?}");
            let (low, high) = (train.pixels().iter().min(), train.pixels().iter().max());
            assert!(low < Some(&10) && high > Some(&245), "{train:?}: {low:?} to {high:?}");
        }
    }
}
