//! A sheet of images, for `pixtape data show`.

use super::images::{Images, Levels};

/// Dark pixels between the images of a sheet.
const GAP: usize = 2;

/// Images side by side, as bytes for a picture file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sheet {
    /// Rows of pixels.
    pub height: usize,
    /// Columns of pixels.
    pub width: usize,
    /// 1 (grey) or 3 (RGB).
    pub channels: usize,
    /// 0 to 255, `[height, width, channels]`.
    pub pixels: Vec<u8>,
}

/// The first `count` images (fewer where there are fewer) in rows of `columns`; zeros and ones become black and white.
pub fn sheet(images: &Images, count: usize, columns: usize) -> Sheet {
    let count = count.clamp(1, images.len());
    let columns = columns.clamp(1, count);
    let (tall, wide, channels) = (images.height(), images.width(), images.channels());
    let height = count.div_ceil(columns) * (tall + GAP) - GAP;
    let width = columns * (wide + GAP) - GAP;
    let mut pixels = vec![0; height * width * channels];
    let factor = if images.levels() == Levels::Binary { 255 } else { 1 };
    for index in 0..count {
        let (top, left) = (index / columns * (tall + GAP), index % columns * (wide + GAP));
        for (y, row) in images.image(index).chunks_exact(wide * channels).enumerate() {
            let start = ((top + y) * width + left) * channels;
            pixels[start..start + row.len()].iter_mut().zip(row).for_each(|(to, &from)| *to = from * factor);
        }
    }
    Sheet { height, width, channels, pixels }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_lie_in_rows_with_gaps() {
        let images = Images::new("t", [1, 2, 1], vec![1, 0, 1, 1, 0, 1], None, Levels::Binary).unwrap();
        let sheet = sheet(&images, 9, 2);
        assert_eq!((sheet.height, sheet.width, sheet.channels), (4, 6, 1));
        assert_eq!(sheet.pixels[..6], [255, 0, 0, 0, 255, 255]);
        assert_eq!(sheet.pixels[18..], [0, 255, 0, 0, 0, 0]);
        assert!(sheet.pixels[6..18].iter().all(|&value| value == 0));
    }
}
