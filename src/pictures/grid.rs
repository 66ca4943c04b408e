//! Grids of pictures as PNG files: samples, and pictures before and after an operation.

use crate::error::{Error, Result};
use crate::shape::ImageSize;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

/// Pixels between two pictures.
const SEPARATOR: usize = 2;

/// Pixels between two sections of a row.
const SPACE: usize = 6;

/// Pixels between two groups of columns.
const GAP: usize = 12;

/// The largest number of rows of a before-and-after grid. More rows are split into groups of columns.
const GROUP_ROWS: usize = 8;

/// Small pictures are enlarged until the grid has about this width in pixels.
const TARGET_WIDTH: usize = 720;

/// The grey level between the pictures, which is visible next to black and next to white.
const BACKGROUND: u8 = 96;

/// Pictures of one size: `[n, height, width, channels]` bytes, grey (1 channel) or RGB (3 channels).
#[derive(Clone, Copy, Debug)]
pub struct Pictures<'a> {
    pixels: &'a [u8],
    height: usize,
    width: usize,
    channels: usize,
}

impl<'a> Pictures<'a> {
    /// Pictures of this size from their bytes.
    ///
    /// # Panics
    /// If the bytes are not a whole number of pictures, if a size is 0, or if there are not 1 or 3
    /// channels.
    #[track_caller]
    pub fn new(pixels: &'a [u8], size: impl Into<ImageSize>) -> Self {
        let size = size.into();
        let ImageSize { height, width, channels } = size;
        assert!(channels == 1 || channels == 3, "pictures have 1 or 3 channels, not {channels}");
        assert!(size.dims() > 0, "pictures of {height}x{width} have no pixels");
        assert_eq!(
            pixels.len() % size.dims(),
            0,
            "{} bytes are not a whole number of {height}x{width} pictures",
            pixels.len()
        );
        Pictures { pixels, height, width, channels }
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.pixels.len() / (self.height * self.width * self.channels)
    }

    /// Whether there are no pictures.
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }
}

/// Draws all pictures row by row as a PNG file. If `columns` is `None`, the grid is nearly square. Small
/// pictures are enlarged by an integer factor.
///
/// # Errors
/// [`Error::Failed`] if there is no picture, or if the grid is too large for a PNG file.
pub fn grid_png(pictures: Pictures, columns: Option<usize>) -> Result<Vec<u8>> {
    let count = pictures.len();
    let columns = columns.unwrap_or_else(|| (count as f64).sqrt().ceil() as usize).clamp(1, count.max(1));
    let xs = (0..columns).map(|column| column * (pictures.width + SEPARATOR)).collect();
    let cells =
        (0..count).map(|index| Cell { row: index / columns, column: index % columns, pictures, index }).collect();
    encode(Grid { xs, rows: count.div_ceil(columns), cells }, pictures)
}

/// Draws a PNG file in which row `i` shows picture `i` of every series, for example original, masked and
/// completed. Many rows are split into groups next to each other.
///
/// # Errors
/// [`Error::Failed`] if there is no picture, or if the grid is too large for a PNG file.
///
/// # Panics
/// If the series differ in the number or size of their pictures.
#[track_caller]
pub fn before_after_png(series: &[Pictures]) -> Result<Vec<u8>> {
    sections_png(&[series.to_vec()])
}

/// The same for series in sections, which a wider space separates.
///
/// # Errors
/// [`Error::Failed`] if there is no picture, or if the grid is too large for a PNG file.
///
/// # Panics
/// If the series differ in the number or size of their pictures.
#[track_caller]
pub(crate) fn sections_png(sections: &[Vec<Pictures>]) -> Result<Vec<u8>> {
    let series = sections.concat();
    let Some(first) = series.first() else {
        return Err(Error::Failed("there is no picture to show; ask for at least one".to_string()));
    };
    for other in &series {
        let same = (other.height, other.width, other.len()) == (first.height, first.width, first.len());
        assert!(same, "the pictures before and after differ in number or size");
    }
    let (count, step) = (first.len(), first.width + SEPARATOR);
    let groups = count.div_ceil(GROUP_ROWS);
    // Groups of equal height look better than a last group that is nearly empty.
    let rows = if groups == 0 { 0 } else { count.div_ceil(groups) };
    let section_of = sections.iter().enumerate().flat_map(|(nth, section)| vec![nth; section.len()]);
    let offsets: Vec<usize> =
        section_of.enumerate().map(|(column, section)| column * step + section * (SPACE - SEPARATOR)).collect();
    let group_width = offsets[offsets.len() - 1] + first.width + GAP;
    let xs = (0..groups).flat_map(|group| offsets.iter().map(move |offset| group * group_width + offset)).collect();
    let mut cells = Vec::new();
    for index in 0..count {
        for (nth, pictures) in series.iter().enumerate() {
            let column = index / rows * series.len() + nth;
            cells.push(Cell { row: index % rows, column, pictures: *pictures, index });
        }
    }
    encode(Grid { xs, rows, cells }, *first)
}

/// The positions of all pictures before enlarging.
struct Grid<'a> {
    /// The left edge of every column, in pixels of the original pictures.
    xs: Vec<usize>,
    /// Number of rows.
    rows: usize,
    cells: Vec<Cell<'a>>,
}

/// A position in the grid, and the picture that is shown there.
struct Cell<'a> {
    row: usize,
    column: usize,
    pictures: Pictures<'a>,
    /// Index of the picture.
    index: usize,
}

fn encode(grid: Grid, one: Pictures) -> Result<Vec<u8>> {
    let Some(last) = grid.xs.last().filter(|_| !grid.cells.is_empty()) else {
        return Err(Error::Failed("there is no picture to show; ask for at least one".to_string()));
    };
    let scale = (TARGET_WIDTH / (last + one.width)).clamp(1, 8);
    // Separators keep their width at every scale.
    let stretch = |position: usize, index: usize, size: usize| index * size * scale + (position - index * size);
    let width = stretch(*last, grid.xs.len() - 1, one.width) + one.width * scale;
    let height = grid.rows * (one.height * scale + SEPARATOR) - SEPARATOR;
    let (Ok(png_width), Ok(png_height)) = (u32::try_from(width), u32::try_from(height)) else {
        return Err(Error::Failed(format!("a grid of {width}x{height} pixels is too large; ask for fewer pictures")));
    };
    // One series may be grey and another one RGB.
    let colour = grid.cells.iter().any(|cell| cell.pictures.channels == 3);
    let channels = if colour { 3 } else { 1 };
    let mut canvas = vec![BACKGROUND; width * height * channels];
    for &Cell { row, column, pictures, index } in &grid.cells {
        let left = stretch(grid.xs[column], column, one.width);
        let top = row * (one.height * scale + SEPARATOR);
        let size = one.height * one.width * pictures.channels;
        let picture = &pictures.pixels[index * size..][..size];
        for y in 0..one.height * scale {
            let start = ((top + y) * width + left) * channels;
            let line = &mut canvas[start..][..one.width * scale * channels];
            for (x, pixel) in line.chunks_exact_mut(channels).enumerate() {
                let from = (y / scale * one.width + x / scale) * pictures.channels;
                for (c, byte) in pixel.iter_mut().enumerate() {
                    *byte = picture[from + c % pictures.channels];
                }
            }
        }
    }
    let kind = if colour { ExtendedColorType::Rgb8 } else { ExtendedColorType::L8 };
    let mut png = Vec::new();
    PngEncoder::new(&mut png)
        .write_image(&canvas, png_width, png_height, kind)
        .map_err(|error| Error::Failed(format!("the pictures could not be written as PNG ({error})")).because(error))?;
    Ok(png)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(png: &[u8]) -> image::DynamicImage {
        image::load_from_memory_with_format(png, image::ImageFormat::Png).unwrap()
    }

    #[test]
    fn pictures_stand_row_by_row_enlarged_and_separated() {
        // Five pictures of 100 x 200 pixels in two columns are 402 pixels wide, too wide to be enlarged.
        let pixels: Vec<u8> = (0..5).flat_map(|i| vec![i * 10; 100 * 200]).collect();
        let grid = decode(&grid_png(Pictures::new(&pixels, [100, 200, 1]), Some(2)).unwrap()).into_luma8();
        assert_eq!(grid.dimensions(), (402, 304));
        let at = |x, y| grid.get_pixel(x, y).0[0];
        assert_eq!((at(0, 0), at(199, 99), at(202, 0), at(0, 102), at(401, 201), at(0, 303)), (0, 0, 10, 20, 30, 40));
        assert_eq!((at(200, 0), at(201, 50), at(0, 100), at(0, 101), at(202, 204)), (96, 96, 96, 96, 96));
    }

    #[test]
    fn enlarging_repeats_pixels_and_keeps_separators() {
        let pixels = [0, 50, 100, 150, 200, 250, 255, 5];
        let grid = decode(&grid_png(Pictures::new(&pixels, [2, 2, 1]), Some(2)).unwrap()).into_luma8();
        assert_eq!(grid.dimensions(), (2 * 16 + 2, 16));
        let at = |x, y| grid.get_pixel(x, y).0[0];
        assert_eq!((at(0, 0), at(7, 7), at(8, 0), at(0, 8), at(15, 15)), (0, 0, 50, 100, 150));
        assert_eq!((at(16, 3), at(17, 3), at(18, 0), at(33, 15)), (96, 96, 200, 5));
    }

    #[test]
    fn a_grid_without_columns_is_nearly_square() {
        for (count, columns, rows) in [(1, 1, 1), (2, 2, 1), (5, 3, 2), (64, 8, 8), (65, 9, 8)] {
            let pixels = vec![7; count * 400];
            let grid = decode(&grid_png(Pictures::new(&pixels, [20, 20, 1]), None).unwrap());
            let scale = (grid.width() + 2) / columns - 2;
            assert_eq!((grid.width(), grid.height()), (columns * (scale + 2) - 2, rows * (scale + 2) - 2), "{count}");
        }
    }

    #[test]
    fn colours_stay_what_they_are() {
        let pixels = [255, 0, 0, 0, 255, 0];
        let grid = decode(&grid_png(Pictures::new(&pixels, [1, 1, 3]), Some(2)).unwrap()).into_rgb8();
        assert_eq!((grid.get_pixel(0, 0).0, grid.get_pixel(10, 0).0), ([255, 0, 0], [0, 255, 0]));
    }

    #[test]
    fn before_and_after_stand_in_one_row_and_groups_side_by_side() {
        let before: Vec<u8> = (0..9).collect();
        let after: Vec<u8> = (100..109).flat_map(|i| [i, 0, 0]).collect();
        let series = [Pictures::new(&before, [1, 1, 1]), Pictures::new(&after, [1, 1, 3])];
        let grid = decode(&before_after_png(&series).unwrap()).into_rgb8();
        // There are two groups of five rows. A group is two pictures of 8 pixels and a separator,
        // followed by the gap.
        assert_eq!(grid.dimensions(), (2 * 18 + 12, 5 * 10 - 2));
        let at = |x, y| grid.get_pixel(x, y).0;
        assert_eq!((at(0, 0), at(10, 0)), ([0, 0, 0], [100, 0, 0]));
        assert_eq!((at(0, 40), at(10, 40)), ([4, 4, 4], [104, 0, 0]));
        assert_eq!((at(30, 0), at(40, 0)), ([5, 5, 5], [105, 0, 0]));
        assert_eq!((at(18, 0), at(29, 0), at(30, 40)), ([96; 3], [96; 3], [96; 3]));
    }

    #[test]
    fn sections_are_farther_apart_than_pictures() {
        let pixels: Vec<u8> = (0..9).collect();
        let one = Pictures::new(&pixels, [1, 1, 1]);
        let grid = decode(&sections_png(&[vec![one, one], vec![one]]).unwrap()).into_luma8();
        // A group is two pictures of 8 pixels, a separator, a space, and a third picture.
        assert_eq!(grid.dimensions(), (2 * (3 * 8 + 2 + 6) + 12, 5 * 10 - 2));
        let row = |from: u32| [0, 10, 24].map(|x| grid.get_pixel(from + x, 10).0[0]);
        assert_eq!((row(0), row(44)), ([1; 3], [6; 3]));
        assert!((18..24).all(|x| grid.get_pixel(x, 0).0[0] == 96));
        assert_eq!(sections_png(&[vec![one, one]]).unwrap(), before_after_png(&[one, one]).unwrap());
    }

    #[test]
    fn no_picture_is_a_sentence() {
        assert!(grid_png(Pictures::new(&[], [28, 28, 1]), None).is_err());
        assert!(before_after_png(&[]).is_err());
        assert!(before_after_png(&[Pictures::new(&[], [28, 28, 1])]).is_err());
    }

    #[test]
    #[should_panic(expected = "not a whole number")]
    fn torn_pictures_are_a_mistake_of_the_caller() {
        Pictures::new(&[0; 5], [2, 2, 1]);
    }
}
