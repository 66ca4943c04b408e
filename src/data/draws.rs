//! Numbered random draws: what a built-in data set makes one of its items of.

use crate::rng::{Stream, unit, words};

/// Draws that depend on a seed, a stream and an item's index; each is another one.
pub(super) struct Draws {
    seed: u32,
    stream: Stream,
    index: u32,
    next: u32,
}

impl Draws {
    pub(super) fn new(seed: u32, stream: Stream, index: u32) -> Self {
        Draws { seed, stream, index, next: 0 }
    }

    /// Two random words.
    pub(super) fn words(&mut self) -> [u32; 2] {
        self.next += 1;
        words(self.seed, self.stream, [self.index, self.next - 1])
    }

    /// Uniform in `low..high`.
    pub(super) fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * unit(self.words()[0])
    }
}
