//! Random numbers for the built-in data sets: a counter-based sequence for each item.

use crate::rng::{Stream, unit, words};

/// A sequence of random numbers that depends only on the seed, the stream and the index of the item.
pub(crate) struct Draws {
    seed: u32,
    stream: Stream,
    index: u32,
    next: u32,
}

impl Draws {
    pub(crate) fn new(seed: u32, stream: Stream, index: u32) -> Self {
        Draws { seed, stream, index, next: 0 }
    }

    /// The next two random words.
    pub(crate) fn words(&mut self) -> [u32; 2] {
        self.next += 1;
        words(self.seed, self.stream, [self.index, self.next - 1])
    }

    /// The next number, uniform in `low..high`.
    pub(crate) fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * unit(self.words()[0])
    }
}
