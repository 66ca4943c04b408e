//! The options of a draw.

use crate::backend::Scalars;
use crate::models::TEMPERATURE;
use crate::tape::op::Scalar;

/// How images are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DrawOptions<'a> {
    /// Seed of the draws.
    pub seed: u32,
    /// Divides the logits, or scales the deviation of the prior; 1 is the model itself.
    pub temperature: f32,
    /// The class of each image, if the model has classes. If this is empty, image `i` is of class `i` modulo
    /// their number.
    pub classes: &'a [u32],
    /// One reduced image per image, `[n, h', w', c']` in 0 to 1, if the model is given reduced images.
    pub reduced: &'a [f32],
}

impl Default for DrawOptions<'_> {
    /// Seed 0, temperature 1, every class in turn.
    fn default() -> Self {
        DrawOptions { seed: 0, temperature: 1.0, classes: &[], reduced: &[] }
    }
}

impl DrawOptions<'_> {
    /// The class of image `i`, for a model with `known` classes.
    pub fn class(&self, i: usize, known: usize) -> u32 {
        match self.classes {
            [] => (i % known.max(1)) as u32,
            classes => classes.get(i).copied().unwrap_or(0),
        }
    }

    /// The scalars for a batch that begins with image `first_image`.
    #[doc(hidden)]
    pub fn scalars(&self, first_image: usize) -> Scalars {
        let mut scalars = Scalars::default();
        scalars
            .set_u32(Scalar::SEED, self.seed)
            .set_u32(Scalar::FIRST_IMAGE, first_image as u32)
            .set(TEMPERATURE, self.temperature);
        scalars
    }
}
