//! How many layers an image needs: the maps between a latent vector and an image.
//!
//! A base map of about 4x4 is doubled in height and width, stage by stage, until it has the size of the
//! image. 32x32 has three stages, and 64x64 has the four of Radford et al. 2016, figure 1.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::models::images_of;
use crate::shape::ImageSize;

/// The least and the greatest height and width of an image.
const SIDES: [usize; 2] = [8, 128];
/// The longest a side of the base map may be that belongs to the shorter side of the image.
const BASE: usize = 4;
/// The width of the widest map, as a multiple of that of the map next to the image.
const WIDEST: usize = 8;

/// The maps of a generator from the base map on; those of a critic are the same in reverse order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stages {
    /// The size of an image with its padding: the base map, doubled by every stage.
    pub padded: ImageSize,
    /// Height and width of the base map.
    pub base: [usize; 2],
    /// Channels of the map that each stage enlarges. The first is the base map, the last one has
    /// `model.channels`.
    pub widths: Vec<usize>,
}

impl Stages {
    /// The stages for images of this size, with `channels` in the map next to the image.
    ///
    /// The shorter side decides how many there are: as few as leave at most 4 rows or columns for the base
    /// map. The base map is rounded up to whole rows and columns, so images whose sides are not multiples of
    /// 2^stages are padded.
    pub fn new(image: ImageSize, channels: usize) -> Stages {
        let shorter = image.height.min(image.width);
        let count = shorter.div_ceil(BASE).next_power_of_two().ilog2();
        let factor = 1 << count;
        let base = [image.height.div_ceil(factor), image.width.div_ceil(factor)];
        let padded = ImageSize { height: base[0] * factor, width: base[1] * factor, ..image };
        let widths = (0..count).rev().map(|doublings| channels * WIDEST.min(1 << doublings)).collect();
        Stages { padded, base, widths }
    }
}

/// The size of the images that `config` describes by `model.height`, `model.width` and `model.colours`.
///
/// # Errors
/// [`Error::Usage`] for a side that is too short or too long.
pub(super) fn image_of(config: &Config) -> Result<ImageSize> {
    let ImageSize { height, width, channels } = images_of(config)?;
    let [least, most] = SIDES;
    if [height, width].iter().any(|side| !(least..=most).contains(side)) {
        let name = config.name();
        return Err(Error::Usage(format!(
            "{name} draws images of {least}x{least} to {most}x{most}, not {height}x{width}; set model.height and \
             model.width, or scale the images"
        )));
    }
    Ok(ImageSize { height, width, channels })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages(height: usize, width: usize) -> Stages {
        Stages::new(ImageSize { height, width, channels: 3 }, 64)
    }

    #[test]
    fn the_sizes_of_the_presets_and_of_the_paper() {
        for digits in [stages(28, 28), stages(32, 32)] {
            assert_eq!((digits.base, digits.widths, digits.padded), ([4, 4], vec![256, 128, 64], [32, 32, 3].into()));
        }
        let paper = stages(64, 64);
        assert_eq!((paper.base, paper.widths, paper.padded), ([4, 4], vec![512, 256, 128, 64], [64, 64, 3].into()));
    }

    #[test]
    fn the_smallest_the_largest_and_oblong_images() {
        assert_eq!((stages(8, 8).base, stages(8, 8).widths), ([4, 4], vec![64]));
        assert_eq!((stages(128, 128).base, stages(128, 128).widths), ([4, 4], vec![512, 512, 256, 128, 64]));
        assert_eq!((stages(40, 28).base, stages(40, 28).padded), ([5, 4], [40, 32, 3].into()));
        assert_eq!((stages(8, 128).base, stages(8, 128).widths), ([4, 64], vec![64]));
    }

    #[test]
    fn every_size_is_padded_by_less_than_a_row_or_column_of_the_base_map() {
        for (height, width) in (8..=128).flat_map(|height| (8..=128).map(move |width| (height, width))) {
            let Stages { padded, base, widths } = stages(height, width);
            let factor = 1 << widths.len();
            assert_eq!([padded.height, padded.width], base.map(|side| side * factor));
            assert!((height..height + factor).contains(&padded.height), "{height}x{width}: {padded}");
            assert!((width..width + factor).contains(&padded.width), "{height}x{width}: {padded}");
            assert!((3..=4).contains(&base[0].min(base[1])), "{height}x{width}: {base:?}");
        }
    }
}
