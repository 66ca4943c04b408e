//! Augmentation: training images are mirrored and shifted at random, anew in every epoch.

use crate::rng::{Stream, words};
use crate::shape::ImageSize;

/// Which random changes are made to training images. The default makes none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Augment {
    /// Whether half of the images are mirrored from left to right.
    pub flip: bool,
    /// The most pixels by which an image is shifted along each axis, in both directions. What moves in from
    /// outside is level 0.
    pub shift: usize,
}

/// The change of one image in one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    is_flipped: bool,
    /// Rows down.
    down: isize,
    /// Columns to the right.
    right: isize,
}

impl Augment {
    /// Whether it changes anything.
    pub(super) fn is_active(self) -> bool {
        self != Augment::default()
    }

    /// The change of image `index` in epoch `epoch`. It depends on nothing else but the seed, so a resumed
    /// run sees the same images.
    pub(super) fn draw(self, seed: u32, epoch: u32, index: u32) -> Change {
        let [first, second] = words(seed, Stream::Augment, [epoch, index]);
        // The lowest bit decides on mirroring, the others on shifting.
        let offset = |word: u32| {
            let positions = 2 * self.shift as u64 + 1;
            ((u64::from(word) * positions) >> 32) as isize - self.shift as isize
        };
        let is_flipped = self.flip && first & 1 == 1;
        Change { is_flipped, down: offset(first & !1), right: offset(second) }
    }
}

impl Change {
    /// `out = the changed image`; both are `[height, width, channels]`.
    pub(super) fn apply(self, image: &[u32], size: ImageSize, out: &mut [u32]) {
        let ImageSize { height, width, channels } = size;
        for (row, line) in out.chunks_exact_mut(width * channels).enumerate() {
            let from_row = row.checked_add_signed(-self.down).filter(|row| *row < height);
            for (column, pixel) in line.chunks_exact_mut(channels).enumerate() {
                let from_column = column.checked_add_signed(-self.right).filter(|column| *column < width);
                match from_row.zip(from_column) {
                    Some((row, column)) => {
                        let column = if self.is_flipped { width - 1 - column } else { column };
                        pixel.copy_from_slice(&image[(row * width + column) * channels..][..channels]);
                    }
                    None => pixel.fill(0),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: ImageSize = ImageSize { height: 2, width: 3, channels: 2 };
    const IMAGE: [u32; 12] = [1, 11, 2, 12, 3, 13, 4, 14, 5, 15, 6, 16];

    fn changed(is_flipped: bool, down: isize, right: isize) -> [u32; 12] {
        let mut out = [99; 12];
        Change { is_flipped, down, right }.apply(&IMAGE, SIZE, &mut out);
        out
    }

    #[test]
    fn images_are_mirrored_before_they_are_shifted_and_filled_with_level_0() {
        assert_eq!(changed(false, 0, 0), IMAGE);
        assert_eq!(changed(true, 0, 0), [3, 13, 2, 12, 1, 11, 6, 16, 5, 15, 4, 14]);
        assert_eq!(changed(false, 1, -1), [0, 0, 0, 0, 0, 0, 2, 12, 3, 13, 0, 0]);
        assert_eq!(changed(true, -1, 2), [0, 0, 0, 0, 6, 16, 0, 0, 0, 0, 0, 0]);
        assert_eq!(changed(false, 5, 0), [0; 12]);
    }

    #[test]
    fn every_change_is_equally_frequent_and_depends_on_seed_epoch_and_image() {
        let augment = Augment { flip: true, shift: 1 };
        let mut counts = std::collections::BTreeMap::new();
        for index in 0..18_000 {
            let Change { is_flipped, down, right } = augment.draw(7, 3, index);
            *counts.entry((is_flipped, down, right)).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 18);
        // 1000 are expected of each; the standard deviation is 31.
        assert!(counts.values().all(|count| (870..1130).contains(count)), "{counts:?}");
        let draws = |seed, epoch| (0..64).map(|index| augment.draw(seed, epoch, index)).collect::<Vec<_>>();
        assert_eq!(draws(7, 3), draws(7, 3));
        assert!(draws(7, 3) != draws(7, 4) && draws(7, 3) != draws(8, 3));
    }

    #[test]
    fn what_is_not_asked_for_is_not_done() {
        assert!(!Augment::default().is_active());
        let change = |augment: Augment| (0..200).map(|index| augment.draw(1, 0, index)).collect::<Vec<_>>();
        assert!(change(Augment { flip: false, shift: 2 }).iter().all(|change| !change.is_flipped));
        let flips = change(Augment { flip: true, shift: 0 });
        assert!(flips.iter().all(|change| (change.down, change.right) == (0, 0)));
    }
}
