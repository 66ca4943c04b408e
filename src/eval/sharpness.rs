//! How sharp images are: the variance of their Laplacian, a focus measure of microscopy (Pech-Pacheco et
//! al., "Diatom autofocusing in brightfield microscopy: a comparative study", ICPR 2000).
//!
//! The Laplacian of a pixel is the sum of the differences to its four neighbours. A neighbour outside of the
//! image counts as equal to the pixel, so the edge of an image is no edge in it, and the mean of the
//! Laplacian is exactly 0. With this border the discrete cosine transform diagonalises the Laplacian and the
//! blur of [`blurred`] alike, and the blur's eigenvalues are in 0 to 1. So blurring lowers the variance of
//! every image that is not constant (up to the rounding to bytes).
//!
//! The number falls with blur, and it rises with noise: images of noise have a far larger one than
//! photographs and digits. It is therefore read next to that of the data, which is neither the least nor the
//! most.

use crate::data::{Images, Levels};
use crate::error::Result;
use crate::shape::ImageSize;

/// The mean over images and channels of the variance of the Laplacian, with the values of the images in 0 to
/// 1. It is 0 for constant images and at most 16.
pub(crate) fn sharpness(images: &Images) -> f64 {
    let size = images.size();
    let scale = f64::from(images.levels().max());
    let total: f64 = images.pixels().chunks_exact(size.dims()).map(|image| squares(image, size)).sum();
    total / images.pixels().len() as f64 / (scale * scale)
}

/// The sum over pixels and channels of the squared Laplacian, in levels.
fn squares(image: &[u8], size: ImageSize) -> f64 {
    let mut sum = 0;
    for_each_neighbourhood(size, |at, neighbours| {
        let laplacian: i64 = neighbours.iter().map(|next| i64::from(image[*next]) - i64::from(image[at])).sum();
        sum += laplacian * laplacian;
    });
    sum as f64
}

/// Calls `f` with each element of an image and its neighbours to the left, to the right, above and below.
/// Outside of the image the element itself takes their place.
fn for_each_neighbourhood(size: ImageSize, mut f: impl FnMut(usize, [usize; 4])) {
    let ImageSize { height, width, channels } = size;
    let at = |row: usize, column: usize, channel: usize| (row * width + column) * channels + channel;
    for row in 0..height {
        for column in 0..width {
            let (left, right) = (column.saturating_sub(1), (column + 1).min(width - 1));
            let (above, below) = (row.saturating_sub(1), (row + 1).min(height - 1));
            for c in 0..channels {
                f(
                    at(row, column, c),
                    [at(row, left, c), at(row, right, c), at(above, column, c), at(below, column, c)],
                );
            }
        }
    }
}

/// The images blurred by the 3x3 binomial kernel (1 2 1; 2 4 2; 1 2 1) / 16, as bytes in 0 to 255. Pixels
/// outside of an image have the value of the nearest one in it.
///
/// # Errors
/// Never for sound images.
pub(crate) fn blurred(images: &Images) -> Result<Images> {
    let (size, scale) = (images.size(), 255 / u16::from(images.levels().max()));
    let ImageSize { height, width, channels } = size;
    let at = |row: usize, column: usize, channel: usize| (row * width + column) * channels + channel;
    let weighted = |before: u16, here: u16, after: u16| before + 2 * here + after;
    let mut pixels = Vec::with_capacity(images.pixels().len());
    for image in images.pixels().chunks_exact(size.dims()) {
        let value = |row, column, c| u16::from(image[at(row, column, c)]) * scale;
        for row in 0..height {
            let (above, below) = (row.saturating_sub(1), (row + 1).min(height - 1));
            for column in 0..width {
                let (left, right) = (column.saturating_sub(1), (column + 1).min(width - 1));
                for c in 0..channels {
                    let line = |row| weighted(value(row, left, c), value(row, column, c), value(row, right, c));
                    pixels.push(((weighted(line(above), line(row), line(below)) + 8) / 16) as u8);
                }
            }
        }
    }
    let name = format!("{}, blurred", images.name());
    Images::new(name, size, pixels, images.labels().map(<[u8]>::to_vec), Levels::Grey256)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Stream, words};

    fn grey(size: [usize; 3], pixels: Vec<u8>) -> Images {
        Images::new("test", size, pixels, None, Levels::Grey256).unwrap()
    }

    fn binary(size: [usize; 3], pixels: Vec<u8>) -> Images {
        Images::new("test", size, pixels, None, Levels::Binary).unwrap()
    }

    #[test]
    fn small_images_have_the_sharpness_of_pencil_and_paper() {
        // A pixel in the middle has the Laplacian -4, its four neighbours have 1: (16 + 4) / 9.
        assert_eq!(sharpness(&binary([3, 3, 1], vec![0, 0, 0, 0, 1, 0, 0, 0, 0])), 20.0 / 9.0);
        // A pixel in a corner has only two neighbours: (4 + 1 + 1) / 9.
        assert_eq!(sharpness(&binary([3, 3, 1], vec![1, 0, 0, 0, 0, 0, 0, 0, 0])), 6.0 / 9.0);
        // A straight edge: 1 and -1 next to it and 0 elsewhere.
        assert_eq!(sharpness(&binary([2, 4, 1], vec![0, 0, 1, 1, 0, 0, 1, 1])), 0.5);
        assert_eq!(sharpness(&grey([2, 2, 1], vec![77; 4])), 0.0);
        assert_eq!(sharpness(&binary([1, 2, 1], vec![0, 1])), 1.0);
    }

    #[test]
    fn bytes_and_bits_of_the_same_picture_are_equally_sharp_and_contrast_counts_squared() {
        let bits: Vec<u8> = (0..2 * 25).map(|i| (words(1, Stream::Test, [0, i])[0] & 1) as u8).collect();
        let expected = sharpness(&binary([5, 5, 1], bits.clone()));
        let bytes = |top: u8| sharpness(&grey([5, 5, 1], bits.iter().map(|bit| bit * top).collect()));
        assert!((bytes(255) - expected).abs() < 1e-12 && expected > 1.0, "{expected}");
        assert!((bytes(51) - expected / 25.0).abs() < 1e-12);
    }

    #[test]
    fn it_is_the_mean_over_images_and_channels() {
        let one = [0, 0, 0, 0, 1, 0, 0, 0, 0];
        let two: Vec<u8> = one.iter().copied().chain([0; 9]).collect();
        assert_eq!(sharpness(&binary([3, 3, 1], two)), 10.0 / 9.0);
        let colours: Vec<u8> = one.iter().flat_map(|bit| [bit * 255, 0, 0]).collect();
        assert!((sharpness(&grey([3, 3, 3], colours)) - 20.0 / 27.0).abs() < 1e-12);
    }

    #[test]
    fn the_blur_is_the_binomial_kernel_with_the_nearest_pixel_outside() {
        let dot = blurred(&binary([3, 3, 1], vec![0, 0, 0, 0, 1, 0, 0, 0, 0])).unwrap();
        assert_eq!((dot.pixels(), dot.levels()), (&[16, 32, 16, 32, 64, 32, 16, 32, 16][..], Levels::Grey256));
        let corner = blurred(&grey([2, 2, 1], vec![160, 0, 0, 0])).unwrap();
        // 9, 3, 3 and 1 of 16 parts.
        assert_eq!(corner.pixels(), [90, 30, 30, 10]);
        let colours: Vec<u8> = [[16, 0, 32], [0, 0, 0]].concat();
        assert_eq!(blurred(&grey([1, 2, 3], colours)).unwrap().pixels(), [12, 0, 24, 4, 0, 8]);
        assert_eq!(blurred(&grey([4, 3, 1], vec![201; 12])).unwrap().pixels(), [201; 12]);
    }

    #[test]
    fn every_blur_lowers_it_and_noise_is_sharpest() {
        let noise = |i: u32| words(2, Stream::Test, [1, i])[0] as u8;
        let edges = |i: u32| if (i / 4 + i / 64).is_multiple_of(2) { 255 } else { 0 };
        let ramp = |i: u32| (i % 16 * 15) as u8;
        let kinds: [&dyn Fn(u32) -> u8; 3] = [&noise, &edges, &ramp];
        let mut first = vec![];
        for kind in kinds {
            let mut images = grey([16, 16, 1], (0..256).map(kind).collect());
            first.push(sharpness(&images));
            for _ in 0..4 {
                let next = blurred(&images).unwrap();
                assert!(sharpness(&next) < sharpness(&images), "{} {}", sharpness(&next), sharpness(&images));
                images = next;
            }
        }
        assert!(first.is_sorted_by(|a, b| a > b), "{first:?}");
    }
}
