//! Images that are no digits: noise, and glyphs that are spoilt in several ways. The judge learns to tell
//! them from glyphs, because a classifier that has only seen digits is often sure of its class whatever it
//! is shown (Hendrycks, Mazeika & Dietterich, "Deep anomaly detection with outlier exposure", ICLR 2019).
//!
//! Ink is what is at least half white, as in the images that the judge sees.

use crate::data::{Draws, Images, Levels};
use crate::error::Result;
use crate::rng::Stream;
use crate::shape::ImageSize;

/// How an image is spoilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoilt {
    /// White pixels at random, of any density.
    Noise,
    /// The pixels of a glyph in random order.
    Shuffled,
    /// A glyph without a band of rows or columns, which held a good part of its ink.
    Cut,
    /// A glyph that is partly outside of the image.
    Moved,
    /// The upper rows of a glyph above the lower rows of another digit, which are moved sideways.
    Joined,
    /// Two glyphs of different digits, one over the other.
    Overlaid,
    /// A glyph whose quarters are in another order.
    Quartered,
}

impl Spoilt {
    /// What the judge learns to reject.
    pub const LEARNT: [Spoilt; 6] =
        [Spoilt::Noise, Spoilt::Shuffled, Spoilt::Cut, Spoilt::Moved, Spoilt::Joined, Spoilt::Overlaid];

    /// What it is: the name of a row.
    pub fn name(self) -> &'static str {
        match self {
            Spoilt::Noise => "noise",
            Spoilt::Shuffled => "glyphs with shuffled pixels",
            Spoilt::Cut => "glyphs without a band",
            Spoilt::Moved => "glyphs half outside",
            Spoilt::Joined => "halves of two digits",
            Spoilt::Overlaid => "two digits in one place",
            Spoilt::Quartered => "glyphs with exchanged quarters (not learnt)",
        }
    }
}

/// The least fraction of a glyph's ink that a cut removes, and of each of two overlaid glyphs that the other
/// one does not cover.
const GOOD_PART: f64 = 0.35;

/// How often a random change is drawn again if it changes too little.
const TRIES: usize = 64;

/// `n` spoilt images, made of the labelled, grey `glyphs`. Image `i` is spoilt by `kinds[i % kinds.len()]`
/// and depends on the seed and on `i` alone.
///
/// # Errors
/// If `n` is 0.
pub(super) fn spoilt(glyphs: &Images, kinds: &[Spoilt], n: usize, seed: u32) -> Result<Images> {
    let mut pixels = Vec::with_capacity(n * glyphs.dims());
    for i in 0..n {
        let mut maker = Maker { glyphs, draws: Draws::new(seed, Stream::Counterexamples, i as u32) };
        pixels.extend(maker.make(kinds[i % kinds.len()]));
    }
    Images::new("counterexamples", glyphs.size(), pixels, None, Levels::Grey256)
}

/// Makes one image.
struct Maker<'a> {
    glyphs: &'a Images,
    draws: Draws,
}

impl Maker<'_> {
    fn make(&mut self, kind: Spoilt) -> Vec<u8> {
        let (first, second) = self.two_digits();
        let size = self.glyphs.size();
        match kind {
            Spoilt::Noise => {
                let density = self.draws.uniform(0.0, 1.0);
                first.iter().map(|_| if self.draws.uniform(0.0, 1.0) < density { 255 } else { 0 }).collect()
            }
            Spoilt::Shuffled => {
                let mut image = first.to_vec();
                (1..image.len()).rev().for_each(|at| image.swap(at, self.below(at + 1)));
                image
            }
            Spoilt::Cut => self.retried(&first, |maker| maker.cut(&first)),
            Spoilt::Moved => self.retried(&first, |maker| {
                let [down, right] = [12, 12].map(|most| maker.between(-most, most));
                moved(&first, size, [down, right])
            }),
            Spoilt::Joined => {
                let row = size.height / 2 - 3 + self.below(7);
                let sideways = self.between(5, 9) * if self.below(2) == 0 { -1 } else { 1 };
                let lower = moved(&second, size, [0, sideways]);
                let at = row * size.width * size.channels;
                [&first[..at], &lower[at..]].concat()
            }
            Spoilt::Overlaid => self.overlaid(),
            Spoilt::Quartered => {
                let order = [[1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]][self.below(3)];
                quartered(&first, size, order)
            }
        }
    }

    /// A change of `image` that has lost a good part of its ink, or else the last one that was tried.
    fn retried(&mut self, image: &[u8], mut change: impl FnMut(&mut Self) -> Vec<u8>) -> Vec<u8> {
        let mut changed = change(self);
        for _ in 1..TRIES {
            if ink(&changed) <= (1.0 - GOOD_PART) * ink(image) {
                break;
            }
            changed = change(self);
        }
        changed
    }

    /// Without 5 to 14 rows or columns.
    fn cut(&mut self, image: &[u8]) -> Vec<u8> {
        let size = self.glyphs.size();
        let (is_row, band) = (self.below(2) == 0, 5 + self.below(10));
        let first = self.below(size.height.max(size.width) - band);
        let is_cut = |at: usize| {
            let pixel = at / size.channels;
            let line = if is_row { pixel / size.width } else { pixel % size.width };
            (first..first + band).contains(&line)
        };
        image.iter().enumerate().map(|(at, &value)| if is_cut(at) { 0 } else { value }).collect()
    }

    /// The brighter one of both at each pixel. Neither glyph covers most of the other: a 3 and an 8 would
    /// make an 8.
    fn overlaid(&mut self) -> Vec<u8> {
        let mut image = vec![];
        for _ in 0..TRIES {
            let (first, second) = self.two_digits();
            image = first.iter().zip(&second).map(|(&a, &b)| a.max(b)).collect();
            let least = ink(&first).max(ink(&second)) + GOOD_PART * ink(&first).min(ink(&second));
            if ink(&image) >= least {
                break;
            }
        }
        image
    }

    /// Two glyphs of different digits.
    fn two_digits(&mut self) -> (Vec<u8>, Vec<u8>) {
        let labels = self.glyphs.labels().unwrap_or_default();
        let first = self.below(self.glyphs.len());
        let mut second = self.below(self.glyphs.len());
        while labels.get(second) == labels.get(first) && labels.iter().any(|label| *label != labels[first]) {
            second = (second + 1) % self.glyphs.len();
        }
        (self.glyphs.image(first).to_vec(), self.glyphs.image(second).to_vec())
    }

    /// A random number below `n`.
    fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.draws.words()[0]) * n as u64) >> 32) as usize
    }

    /// A random number from `low` to `high`.
    fn between(&mut self, low: isize, high: isize) -> isize {
        low + self.below((high - low + 1) as usize) as isize
    }
}

/// Number of pixels that are at least half white.
fn ink(image: &[u8]) -> f64 {
    image.iter().filter(|value| **value >= 128).count() as f64
}

/// The image moved by this many pixels down and to the right; what leaves it is lost.
fn moved(image: &[u8], size: ImageSize, [down, right]: [isize; 2]) -> Vec<u8> {
    let ImageSize { height, width, channels } = size;
    let mut out = vec![0; image.len()];
    for (at, value) in out.iter_mut().enumerate() {
        let (pixel, channel) = (at / channels, at % channels);
        let row = (pixel / width).checked_add_signed(-down).filter(|row| *row < height);
        let column = (pixel % width).checked_add_signed(-right).filter(|column| *column < width);
        if let (Some(row), Some(column)) = (row, column) {
            *value = image[(row * width + column) * channels + channel];
        }
    }
    out
}

/// The image with its quarters (upper left, upper right, lower left, lower right) in another order. The
/// height and the width are even.
fn quartered(image: &[u8], size: ImageSize, order: [usize; 4]) -> Vec<u8> {
    let ImageSize { height, width, channels } = size;
    let (half_height, half_width) = (height / 2, width / 2);
    let value = |at: usize| {
        let (pixel, channel) = (at / channels, at % channels);
        let (row, column) = (pixel / width, pixel % width);
        let from = order[row / half_height * 2 + column / half_width];
        let (row, column) = (from / 2 * half_height + row % half_height, from % 2 * half_width + column % half_width);
        image[(row * width + column) * channels + channel]
    };
    (0..image.len()).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{self, Split};

    const SIDE: usize = 28;

    /// Some glyphs, and which of their pixels are ink.
    fn glyphs() -> Images {
        data::open("glyphs", Split::Valid, None).unwrap().sample(40, 0)
    }

    fn of(kind: Spoilt, seed: u32) -> (Images, Images) {
        let glyphs = glyphs();
        let images = spoilt(&glyphs, &[kind], 30, seed).unwrap();
        (glyphs, images)
    }

    /// Whether every spoilt image is `made_of` one of the glyphs.
    fn each_is(kind: Spoilt, made_of: impl Fn(&[u8], &[u8]) -> bool) {
        let (glyphs, images) = of(kind, 3);
        for i in 0..images.len() {
            let is_found = (0..glyphs.len()).any(|g| made_of(images.image(i), glyphs.image(g)));
            assert!(is_found, "{kind:?}: image {i} is made of no glyph");
        }
    }

    #[test]
    fn an_image_depends_on_its_number_and_the_seed_alone() {
        let glyphs = glyphs();
        let all = spoilt(&glyphs, &Spoilt::LEARNT, 24, 0).unwrap();
        assert_eq!(spoilt(&glyphs, &Spoilt::LEARNT, 7, 0).unwrap().pixels(), &all.pixels()[..7 * SIDE * SIDE]);
        let other = spoilt(&glyphs, &Spoilt::LEARNT, 24, 1).unwrap();
        // A cut may take all ink of a glyph, so some images of both seeds are black.
        let differing = (0..24).filter(|i| all.image(*i) != other.image(*i)).count();
        assert!((20..=24).contains(&differing), "{differing} of 24 images differ");
        // Image 8 is of the third kind, as if there were no other.
        let cut = spoilt(&glyphs, &[Spoilt::Cut], 24, 0).unwrap();
        assert_eq!(cut.image(8), all.image(8));
    }

    #[test]
    fn noise_is_of_any_density() {
        let (_, images) = of(Spoilt::Noise, 0);
        let densities: Vec<f64> = (0..30).map(|i| ink(images.image(i)) / (SIDE * SIDE) as f64).collect();
        assert!(densities.iter().any(|d| *d < 0.25) && densities.iter().any(|d| *d > 0.75), "{densities:?}");
        assert!(images.pixels().iter().all(|value| [0, 255].contains(value)));
    }

    #[test]
    fn shuffling_and_exchanging_quarters_keep_the_pixels() {
        for kind in [Spoilt::Shuffled, Spoilt::Quartered] {
            let sorted = |image: &[u8]| {
                let mut values = image.to_vec();
                values.sort_unstable();
                values
            };
            each_is(kind, |image, glyph| sorted(image) == sorted(glyph) && image != glyph);
        }
    }

    #[test]
    fn a_cut_glyph_lacks_a_good_part_of_its_ink_and_has_nothing_else() {
        each_is(Spoilt::Cut, |image, glyph| {
            let is_part = image.iter().zip(glyph).all(|(cut, whole)| *cut == 0 || cut == whole);
            is_part && ink(image) <= (1.0 - GOOD_PART) * ink(glyph) && image != glyph
        });
    }

    #[test]
    fn a_moved_glyph_has_left_the_image_by_a_good_part_of_its_ink() {
        let size = ImageSize { height: SIDE, width: SIDE, channels: 1 };
        let ways = || (-12..=12).flat_map(|down| (-12..=12).map(move |right| [down, right]));
        each_is(Spoilt::Moved, |image, glyph| {
            ink(image) <= (1.0 - GOOD_PART) * ink(glyph) && ways().any(|way| moved(glyph, size, way) == image)
        });
        let image: Vec<u8> = (0..6).collect();
        let size = ImageSize { height: 2, width: 3, channels: 1 };
        assert_eq!(moved(&image, size, [1, -1]), [0, 0, 0, 1, 2, 0]);
        assert_eq!(
            quartered(&[1, 2, 3, 4], ImageSize { height: 2, width: 2, channels: 1 }, [2, 3, 0, 1]),
            [3, 4, 1, 2]
        );
    }

    #[test]
    fn joined_images_have_the_upper_rows_of_a_glyph_and_others_below() {
        let rows = |image: &[u8]| image[..(SIDE / 2 - 3) * SIDE].to_vec();
        each_is(Spoilt::Joined, |image, glyph| rows(image) == rows(glyph) && image != glyph);
    }

    #[test]
    fn overlaid_images_have_the_ink_of_two_glyphs() {
        let (glyphs, images) = of(Spoilt::Overlaid, 3);
        let labels = glyphs.labels().unwrap();
        let is_within = |glyph: &[u8], image: &[u8]| glyph.iter().zip(image).all(|(part, whole)| part <= whole);
        for i in 0..images.len() {
            let image = images.image(i);
            let within: Vec<usize> = (0..glyphs.len()).filter(|g| is_within(glyphs.image(*g), image)).collect();
            let has_two = within.iter().any(|a| within.iter().any(|b| labels[*a] != labels[*b]));
            assert!(has_two, "image {i} has no two digits");
        }
    }
}
