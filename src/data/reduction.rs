//! Reductions: what is removed from an image before a model restores it, either its colour or its detail.

use crate::shape::ImageSize;

/// [`Reduction::Small`] reduces this many pixels of a side to one.
const FACTOR: usize = 4;

/// The weights of red, green and blue in Rec. 601, in thousandths.
const LUMA: [u32; 3] = [299, 587, 114];

/// How a reduced image is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// One channel: the luma of red, green and blue (Rec. 601), or the mean of other channels.
    Grey,
    /// A quarter of the height and width: the mean of each block of 4 x 4 pixels. Blocks are cut off at
    /// the lower and right border.
    Small,
}

impl Reduction {
    /// The size of the reduced version of an image of this size.
    #[doc(hidden)]
    pub fn size(self, whole: ImageSize) -> ImageSize {
        let ImageSize { height, width, channels } = whole;
        match self {
            Reduction::Grey => ImageSize { channels: 1, ..whole },
            Reduction::Small => ImageSize { height: height.div_ceil(FACTOR), width: width.div_ceil(FACTOR), channels },
        }
    }

    /// How many pixels of a side of the original become one.
    pub(crate) fn factor(self) -> usize {
        match self {
            Reduction::Grey => 1,
            Reduction::Small => FACTOR,
        }
    }

    /// The reduced version of an image `[height, width, channels]` of levels from 0 to `top`, as bytes
    /// from 0 to 255.
    pub(crate) fn apply(self, image: &[u32], size: ImageSize, top: u32) -> Vec<u8> {
        let ImageSize { height, width, channels } = size;
        // The mean on the scale of a byte, rounded to the nearest integer.
        let byte =
            |sum: u64, weight: u64| ((2 * 255 * sum + weight * u64::from(top)) / (2 * weight * u64::from(top))) as u8;
        match self {
            Reduction::Grey => image
                .chunks_exact(channels)
                .map(|pixel| {
                    let weights: &[u32] = if channels == LUMA.len() { &LUMA } else { &[1; LUMA.len()] };
                    let weights = weights.iter().copied().cycle().take(channels);
                    let sums =
                        pixel.iter().zip(weights).map(|(level, weight)| (u64::from(level * weight), u64::from(weight)));
                    let (sum, weight) = sums.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
                    byte(sum, weight)
                })
                .collect(),
            Reduction::Small => {
                let reduced = self.size(size);
                let mut small = Vec::with_capacity(reduced.dims());
                for (top_row, left) in
                    (0..reduced.height).flat_map(|r| (0..reduced.width).map(move |c| (r * FACTOR, c * FACTOR)))
                {
                    let rows = top_row..(top_row + FACTOR).min(height);
                    let columns = left..(left + FACTOR).min(width);
                    for channel in 0..channels {
                        let block = rows.clone().flat_map(|r| columns.clone().map(move |c| (r * width + c) * channels));
                        let levels = block.map(|at| u64::from(image[at + channel]));
                        small.push(byte(levels.sum(), (rows.len() * columns.len()) as u64));
                    }
                }
                small
            }
        }
    }

    /// The reduced image enlarged to the size of the original, for pictures: every pixel is repeated.
    pub(crate) fn enlarged(self, reduced: &[u8], size: ImageSize) -> Vec<u8> {
        let ImageSize { height, width, .. } = size;
        let small = self.size(size);
        let place = |at: usize, from: usize, to: usize| if from == to { at } else { at / FACTOR };
        let pixels = (0..height).flat_map(|r| (0..width).map(move |c| (r, c)));
        pixels
            .flat_map(|(r, c)| {
                let at = place(r, small.height, height) * small.width + place(c, small.width, width);
                reduced[at * small.channels..(at + 1) * small.channels].iter().copied()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_is_luma_of_three_colours_and_the_mean_of_others() {
        let pixels = [255, 255, 255, 255, 0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0];
        assert_eq!(Reduction::Grey.apply(&pixels, [1, 5, 3].into(), 255), [255, 76, 150, 29, 0]);
        assert_eq!(Reduction::Grey.apply(&[0, 1, 1, 1], [1, 2, 2].into(), 1), [128, 255]);
        assert_eq!(Reduction::Grey.size([32, 30, 3].into()), [32, 30, 1].into());
    }

    #[test]
    fn a_quarter_is_the_mean_of_blocks_cut_off_at_the_border() {
        // One channel of 5 x 6 pixels has blocks of 4x4, 4x2, 1x4 and 1x2 pixels.
        let image: Vec<u32> = (0..30).map(|i| if i / 6 < 4 { i % 6 } else { 100 }).collect();
        assert_eq!(Reduction::Small.size([5, 6, 1].into()), [2, 2, 1].into());
        assert_eq!(Reduction::Small.apply(&image, [5, 6, 1].into(), 255), [2, 5, 100, 100]);
        let two = [[1, 0]; 16].concat();
        assert_eq!(Reduction::Small.apply(&two, [4, 4, 2].into(), 1), [255, 0]);
        let bits: Vec<u32> = (0..16).map(|i| u32::from(i < 4)).collect();
        assert_eq!(Reduction::Small.apply(&bits, [4, 4, 1].into(), 1), [64]);
    }

    #[test]
    fn enlarging_repeats_what_stands_for_several_pixels() {
        assert_eq!(Reduction::Small.enlarged(&[1, 2], [1, 6, 1].into()), [1, 1, 1, 1, 2, 2]);
        assert_eq!(Reduction::Grey.enlarged(&[1, 2], [1, 2, 3].into()), [1, 2]);
    }
}
