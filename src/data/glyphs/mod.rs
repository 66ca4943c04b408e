//! The built-in data set `glyphs`: random handwritten digits as grey images of 28 x 28 pixels. As in
//! MNIST, the ink fills about 20 x 20 pixels in the middle.
//!
//! A glyph starts as strokes of control points (`skeletons`), which are bent and slanted at random and
//! then drawn with a round pen (`pen`). Image `index` depends only on the seed and the index. The code
//! uses nothing but additions, products, quotients and square roots, which IEEE 754 defines to the last
//! bit, so the set has the same bytes on every machine.

mod pen;
mod skeletons;

use std::ops::Range;

use rayon::prelude::*;

use self::pen::Point;
use super::draws::Draws;
use super::images::{Images, Levels, Split};
use crate::Result;
use crate::rng::{Stream, unit};
use crate::shape::ImageSize;

/// Height and width of a glyph in pixels.
pub(super) const SIDE: usize = 28;

/// The seed of the data set. It is part of the definition of `glyphs` and never changes.
const SEED: u32 = 20_26;

/// The indices of the glyphs of a split.
fn range(split: Split) -> Range<u32> {
    match split {
        Split::Train | Split::Fit => 0..10_000,
        Split::Valid => 10_000..11_000,
        Split::Test => 11_000..13_000,
    }
}

/// Draws all images of a split.
pub(super) fn draw_split(split: Split) -> Result<Images> {
    let indices = range(split);
    let mut pixels = vec![0; indices.len() * SIDE * SIDE];
    pixels.par_chunks_exact_mut(SIDE * SIDE).zip(indices.clone()).for_each(|(image, index)| draw(SEED, index, image));
    let labels = indices.map(label).collect();
    let size = ImageSize { height: SIDE, width: SIDE, channels: 1 };
    Images::new("glyphs", size, pixels, Some(labels), Levels::Grey256)
}

/// The digit of glyph `index`. All ten digits are equally frequent.
fn label(index: u32) -> u8 {
    (index % 10) as u8
}

/// An approximately normal number with standard deviation 1 and a magnitude below 3.5: the sum of four
/// uniform numbers.
fn normal(draws: &mut Draws) -> f32 {
    let sum: f32 = [draws.words(), draws.words()].as_flattened().iter().map(|&word| unit(word) - 0.5).sum();
    sum * 1.732_050_8
}

/// Draws glyph `index` into `image`, [`SIDE`] x [`SIDE`].
fn draw(seed: u32, index: u32, image: &mut [u8]) {
    let draws = &mut Draws::new(seed, Stream::Glyphs, index);
    let styles = skeletons::of(label(index));
    let style = styles[((u64::from(draws.words()[0]) * styles.len() as u64) >> 32) as usize];
    let bend = Bend::new(draws);
    let strokes: Vec<Vec<Vec<Point>>> = style.iter().map(|stroke| shaken(stroke, &bend, draws)).collect();
    let mut lines: Vec<Vec<Point>> = strokes.iter().map(|pieces| pen::spline(pieces)).collect();
    fit(&mut lines, draws);
    let nib =
        pen::Nib { radius: 0.8 + 0.28 * normal(draws).abs() + draws.uniform(0.0, 0.4), edge: draws.uniform(0.9, 1.3) };
    let mut ink = [0.0; SIDE * SIDE];
    for line in &lines {
        let pressure = pen::Pressure { slope: normal(draws) * 0.12, bow: normal(draws) * 0.12 };
        pen::ink(line, nib, pressure, &mut ink);
    }
    image.iter_mut().zip(ink).for_each(|(value, ink)| *value = (ink * 255.0 + 0.5) as u8);
}

/// The control points of a stroke after random displacement (larger at its ends) and bending. A point
/// that occurs twice in a row is a corner: it splits the stroke into pieces that meet there.
fn shaken(stroke: &[Point], bend: &Bend, draws: &mut Draws) -> Vec<Vec<Point>> {
    let mut pieces: Vec<Vec<Point>> = vec![Vec::new()];
    let mut before = None;
    for (at, &point) in stroke.iter().enumerate() {
        if before == Some(point) {
            let corner = pieces.last().and_then(|piece| piece.last()).copied();
            pieces.push(corner.into_iter().collect());
            continue;
        }
        before = Some(point);
        let spread = if at == 0 || at + 1 == stroke.len() { 0.04 } else { 0.024 };
        let moved = [point[0] + spread * normal(draws), point[1] + spread * normal(draws)];
        if let Some(piece) = pieces.last_mut() {
            piece.push(bend.apply(moved));
        }
    }
    pieces
}

/// A random affine map with a small quadratic distortion.
struct Bend {
    /// Cosine and sine of the angle by which the glyph is turned.
    cosine: f32,
    sine: f32,
    slant: f32,
    stretch: f32,
    /// Coefficients of x², xy and y²: three for the change of x, three for the change of y.
    warp: [f32; 6],
}

impl Bend {
    fn new(draws: &mut Draws) -> Bend {
        // The cosine and sine of an angle follow from the tangent of half of it, without a trigonometric
        // function. A tangent of 0.07 means an angle of 8 degrees.
        let half = (0.035 * normal(draws)).clamp(-0.09, 0.09);
        let norm = 1.0 + half * half;
        let (cosine, sine) = ((1.0 - half * half) / norm, 2.0 * half / norm);
        let slant = 0.12 + 0.2 * normal(draws);
        let stretch = (1.0 + 0.17 * normal(draws)).clamp(0.62, 1.45);
        let warp = std::array::from_fn(|_| 0.07 * normal(draws));
        Bend { cosine, sine, slant, stretch, warp }
    }

    fn apply(&self, point: Point) -> Point {
        let [x, y] = [point[0] - 0.5, point[1] - 0.5];
        let [a, b, c, d, e, f] = self.warp;
        let warped = [x + a * x * x + b * x * y + c * y * y, y + d * x * x + e * x * y + f * y * y];
        let [x, y] = [warped[0] * self.stretch - self.slant * warped[1], warped[1]];
        [self.cosine * x - self.sine * y, self.sine * x + self.cosine * y]
    }
}

/// Scales the lines so that the longer side of their bounding box is about 18 pixels (the pen adds about
/// 2), and moves their centre of mass to the middle of the image. MNIST was made in the same way.
fn fit(lines: &mut [Vec<Point>], draws: &mut Draws) {
    let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
    let (mut mass, mut centre) = (0.0, [0.0; 2]);
    for line in lines.iter() {
        for &[x, y] in line {
            low = [low[0].min(x), low[1].min(y)];
            high = [high[0].max(x), high[1].max(y)];
        }
        for ends in line.windows(2) {
            let [dx, dy] = [ends[1][0] - ends[0][0], ends[1][1] - ends[0][1]];
            let length = (dx * dx + dy * dy).sqrt();
            mass += length;
            centre = std::array::from_fn(|axis| centre[axis] + length * 0.5 * (ends[0][axis] + ends[1][axis]));
        }
    }
    let scale = draws.uniform(16.8, 18.4) / (high[0] - low[0]).max(high[1] - low[1]);
    let shift: Point = std::array::from_fn(|axis| {
        let middle = SIDE as f32 / 2.0 + draws.uniform(-0.6, 0.6);
        // Without this limit a 7, which is top-heavy, would leave the image: the pen needs 3 pixels on
        // each side.
        let room = [3.0 - scale * low[axis], SIDE as f32 - 3.0 - scale * high[axis]];
        (middle - scale * centre[axis] / mass).clamp(room[0], room[1])
    });
    for point in lines.iter_mut().flatten() {
        *point = std::array::from_fn(|axis| shift[axis] + scale * point[axis]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glyph_depends_on_seed_and_index_alone() {
        let images = draw_split(Split::Valid).unwrap();
        let mut image = vec![0; SIDE * SIDE];
        for index in [0, 7, 999] {
            draw(SEED, 10_000 + index, &mut image);
            assert_eq!(images.image(index as usize), image);
        }
        draw(SEED + 1, 10_000, &mut image);
        assert_ne!(images.image(0), image);
    }

    #[test]
    fn the_set_never_changes() {
        use sha2::{Digest, Sha256};
        let sum = Sha256::digest(draw_split(Split::Test).unwrap().pixels());
        let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sum, "6582bcba71ec797b03ecef3a02f9083c88d418e13960eefc99736c431e0fc937");
    }

    #[test]
    fn ink_fills_20_by_20_in_the_middle_and_no_two_are_alike() {
        let images = draw_split(Split::Train).unwrap();
        assert_eq!((images.len(), images.classes()), (10_000, 10));
        assert!((25.0..40.0).contains(&images.mean()), "mean {}", images.mean());
        let mut seen = std::collections::HashSet::new();
        let mut sides = 0.0;
        for index in 0..images.len() {
            let image = images.image(index);
            assert!(seen.insert(image), "glyph {index} is there twice");
            let inked = |line: &dyn Fn(usize) -> usize| {
                let hit = |at: &usize| (0..SIDE).any(|other| image[line(at * SIDE + other)] > 127);
                let (first, last) = ((0..SIDE).find(hit), (0..SIDE).rev().find(hit));
                last.unwrap() - first.unwrap() + 1
            };
            let (height, width) = (inked(&|at| at), inked(&|at| at % SIDE * SIDE + at / SIDE));
            assert!((16..=24).contains(&height.max(width)), "glyph {index} is {height} x {width}");
            sides += height.max(width) as f64;
            let rim = (0..SIDE).flat_map(|at| [at, (SIDE - 1) * SIDE + at, at * SIDE, at * SIDE + SIDE - 1]);
            assert!(rim.map(|at| image[at]).max() < Some(128), "glyph {index} touches the rim");
        }
        let mean = sides / images.len() as f64;
        assert!((19.0..21.0).contains(&mean), "mean larger side {mean}");
    }

    /// Digits must be recognisable, but must not be so similar that their mean images classify all of
    /// them. MNIST scores 0.82 here.
    #[test]
    fn the_nearest_mean_image_names_most_digits_but_not_all() {
        let (train, test) = (draw_split(Split::Train).unwrap(), draw_split(Split::Test).unwrap());
        let mut means = vec![vec![0.0; SIDE * SIDE]; 10];
        for (image, &label) in train.pixels().chunks(SIDE * SIDE).zip(train.labels().unwrap()) {
            let mean = &mut means[usize::from(label)];
            mean.iter_mut().zip(image).for_each(|(sum, &value)| *sum += f32::from(value) / 1000.0);
        }
        let distance = |mean: &[f32], image: &[u8]| -> f32 {
            mean.iter().zip(image).map(|(&mean, &value)| (mean - f32::from(value)).powi(2)).sum()
        };
        let right = |(image, &label): (&[u8], &u8)| {
            let nearest = (0..10).min_by(|&a, &b| distance(&means[a], image).total_cmp(&distance(&means[b], image)));
            nearest == Some(usize::from(label))
        };
        let right = test.pixels().chunks(SIDE * SIDE).zip(test.labels().unwrap()).filter(|&pair| right(pair)).count();
        let score = right as f64 / test.len() as f64;
        assert!((0.6..0.95).contains(&score), "{score}");
    }
}
