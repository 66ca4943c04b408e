//! Threefry-2x32 with 20 rounds (Salmon et al. 2011) generates every random number of the crate, with the
//! same bits on every device.
//!
//! A random number is a function of a key (seed, stream) and a counter (replay or image index, element
//! index). It is indexed by element, never by thread, so it does not depend on how the work is split.
//! `kernels/rng.cuh` and `shaders/random.wgsl` compute the same words.

/// The purpose of a draw. Streams under one seed are independent of each other. Checkpoints rely on the
/// numbers, so they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Stream {
    /// Initial weights. The key's seed is mixed with a hash of the parameter's name; the counter is (0,
    /// element index).
    Init = 0,
    /// Order of the training images.
    Shuffle = 1,
    /// Dynamic binarisation of training images.
    Binarize = 2,
    /// Noise of reparameterised latent vectors.
    Latent = 3,
    /// Draws from the prior, which a generator or decoder starts from.
    Prior = 4,
    /// Draws of pixels.
    Pixel = 5,
    /// Interpolation points of the gradient penalty.
    Penalty = 6,
    /// The built-in glyphs.
    Glyphs = 7,
    /// Random test inputs.
    Test = 8,
    /// The built-in time series.
    Series = 9,
    /// The initial states of the episodes of a controlled system, and the actions that a planner tries.
    Control = 10,
    /// How training images are mirrored and shifted.
    Augment = 11,
    /// Images of noise, with which samples are compared.
    Noise = 12,
    /// Which training images are labelled, where features are compared.
    Labels = 13,
    /// Images that are no digits, from which the judge of the demo learns.
    Counterexamples = 14,
}

/// One block of Threefry-2x32-20: two random words from a key and a counter.
#[inline(always)]
#[doc(hidden)]
pub fn threefry2x32(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    const ROTATIONS: [u32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];
    let keys = [key[0], key[1], 0x1BD1_1BDA ^ key[0] ^ key[1]];
    let mut x = [counter[0].wrapping_add(keys[0]), counter[1].wrapping_add(keys[1])];
    for group in 0..5 {
        for round in 0..4 {
            x[0] = x[0].wrapping_add(x[1]);
            x[1] = x[1].rotate_left(ROTATIONS[(group % 2) * 4 + round]) ^ x[0];
        }
        let inject = group + 1;
        x[0] = x[0].wrapping_add(keys[inject % 3]);
        x[1] = x[1].wrapping_add(keys[(inject + 1) % 3]).wrapping_add(inject as u32);
    }
    x
}

/// The two random words of element `counter` in `stream` under `seed`.
#[inline(always)]
pub fn words(seed: u32, stream: Stream, counter: [u32; 2]) -> [u32; 2] {
    threefry2x32([seed, stream as u32], counter)
}

/// Converts a word to a uniform number in [0, 1): its top 24 bits times 2^-24.
#[inline(always)]
pub fn unit(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// A uniform draw in [0, 1).
pub fn uniform(seed: u32, stream: Stream, counter: [u32; 2]) -> f32 {
    unit(words(seed, stream, counter)[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_random123() {
        assert_eq!(threefry2x32([0, 0], [0, 0]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(threefry2x32([!0, !0], [!0, !0]), [0x1cb9_96fc, 0xbb00_2be7]);
        assert_eq!(threefry2x32([0x1319_8a2e, 0x0370_7344], [0x243f_6a88, 0x85a3_08d3]), [0xc492_3a9c, 0x483d_f7a0]);
    }
}
