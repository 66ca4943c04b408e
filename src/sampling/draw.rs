//! What a draw is asked for.

use crate::backend::Scalars;
use crate::tape::op::Scalar;

/// How images are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw<'a> {
    /// Seed of the draws.
    pub seed: u32,
    /// Divisor of the logits, or factor of the prior's spread; 1 is the model itself.
    pub temperature: f32,
    /// For a model with classes, the class of each image; where it is empty, image `i` is of class `i` modulo their number.
    pub classes: &'a [u32],
    /// For a model that is given reduced images, one for each image, `[n, h', w', c']` in 0 to 1.
    pub reduced: &'a [f32],
}

impl Default for Draw<'_> {
    /// Seed 0, temperature 1, every class in turn.
    fn default() -> Self {
        Draw { seed: 0, temperature: 1.0, classes: &[], reduced: &[] }
    }
}

impl Draw<'_> {
    /// The class that image `i` is drawn by, of a model that knows `known`.
    pub fn class(&self, i: usize, known: usize) -> u32 {
        match self.classes {
            [] => (i % known.max(1)) as u32,
            classes => classes.get(i).copied().unwrap_or(0),
        }
    }

    /// What the device is told for a batch that begins with image `first_image`.
    pub fn scalars(&self, first_image: usize) -> Scalars {
        let mut scalars = Scalars::default();
        scalars
            .set_u32(Scalar::Seed, self.seed)
            .set_u32(Scalar::FirstImage, first_image as u32)
            .set(Scalar::Temperature, self.temperature);
        scalars
    }
}
