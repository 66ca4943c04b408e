//! Rounds operands to bf16 and joins neighbours in the sum into words.
//!
//! A word holds two numbers `(k, k + 1)` of a sum, the first in its lower half. Instructions for bf16
//! multiply whole words, so a product of words is a product of floats with half as many steps. Which numbers
//! are neighbours depends on what is summed over:
//!
//! - [`along`]: the channels of a pixel, which are next to each other in memory;
//! - [`across`]: rows of a matrix;
//! - [`shifted`]: pixels of an image whose distance is the stride of a window.
//!
//! Where a number has no neighbour, the other half is zero. Bound by memory: 4 bytes are read per number,
//! and 2 or 4 are written.

use crate::backend::cpu::product::Isa;
use crate::backend::cpu::vector::{CHUNK, spread, vectorized};
use rayon::prelude::*;

/// The bf16 number nearest to `v`, ties to even, in the lower half of the word. A NaN stays one.
#[inline(always)]
fn round(v: f32) -> u32 {
    let bits = v.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    if v.is_nan() { bits >> 16 | 0x40 } else { rounded }
}

vectorized! {
    /// `words[i]` gets the numbers `2 i` and `2 i + 1`.
    fn pair_neighbours(x: &[f32], words: &mut [u32]) {
        let (pairs, last) = x.as_chunks::<2>();
        for (word, [low, high]) in words.iter_mut().zip(pairs) {
            *word = round(*low) | round(*high) << 16;
        }
        if let ([low], Some(word)) = (last, words.last_mut()) {
            *word = round(*low);
        }
    }
}

vectorized! {
    /// `words[i]` gets the numbers `low[i]` and `high[i]`.
    fn pair_slices(low: &[f32], high: &[f32], words: &mut [u32]) {
        for ((word, low), high) in words.iter_mut().zip(low).zip(high) {
            *word = round(*low) | round(*high) << 16;
        }
    }
}

vectorized! {
    /// `words[i]` gets the number `low[i]` and zero.
    fn only_low(low: &[f32], words: &mut [u32]) {
        words.iter_mut().zip(low).for_each(|(word, low)| *word = round(*low));
    }
}

vectorized! {
    /// `words[i]` gets zero and the number `high[i]`.
    fn only_high(high: &[f32], words: &mut [u32]) {
        words.iter_mut().zip(high).for_each(|(word, high)| *word = round(*high) << 16);
    }
}

/// Rows `[rows, k]` to words `[rows, k / 2]`, rounded up.
///
/// # Panics
/// Panics if `words` has another length.
#[track_caller]
pub(super) fn along(isa: Isa, x: &[f32], k: usize, words: &mut [u32]) {
    if x.is_empty() {
        return;
    }
    let per_row = k.div_ceil(2);
    assert!(words.len() == x.len() / k * per_row, "{} words do not hold rows of {k}", words.len());
    if k.is_multiple_of(2) {
        // Rows without an odd end are one long row.
        let tasks = words.par_chunks_mut(CHUNK / 2).zip(x.par_chunks(CHUNK));
        return spread(tasks, x.len()).for_each(|(words, x)| pair_neighbours(isa, x, words));
    }
    let rows = (CHUNK / k).max(1);
    let tasks = words.par_chunks_mut(rows * per_row).zip(x.par_chunks(rows * k));
    spread(tasks, x.len()).for_each(|(words, x)| {
        words.chunks_exact_mut(per_row).zip(x.chunks_exact(k)).for_each(|(words, x)| pair_neighbours(isa, x, words));
    });
}

/// Blocks of rows `[blocks, rows, n]` to words `[blocks, rows / 2, n]`, rounded up.
///
/// # Panics
/// Panics if `words` has another length.
#[track_caller]
pub(super) fn across(isa: Isa, x: &[f32], [rows, n]: [usize; 2], words: &mut [u32]) {
    if x.is_empty() {
        return;
    }
    let (of_x, of_words) = (rows * n, rows.div_ceil(2) * n);
    assert!(words.len() == x.len() / of_x * of_words, "{} words do not hold blocks of {rows}x{n}", words.len());
    let pairs = |words: &mut [u32], x: &[f32]| {
        for (words, pair) in words.chunks_mut(n).zip(x.chunks(2 * n)) {
            match pair.split_at_checked(n) {
                Some((low, high)) if !high.is_empty() => pair_slices(isa, low, high, words),
                _ => only_low(isa, pair, words),
            }
        }
    };
    if rows.is_multiple_of(2) {
        // Blocks without an odd end are one long block.
        let chunk = (CHUNK / (2 * n)).max(1);
        let tasks = words.par_chunks_mut(chunk * n).zip(x.par_chunks(2 * chunk * n));
        return spread(tasks, x.len()).for_each(|(words, x)| pairs(words, x));
    }
    let tasks = words.par_chunks_mut(of_words).zip(x.par_chunks(of_x));
    spread(tasks, x.len()).for_each(|(words, x)| pairs(words, x));
}

/// Lines of pixels `[lines, w, c]` to words `[lines, front + w, c]`: word `q` of a line has the pixels
/// `q - front` and `q - front + stride`, which are zero outside of the line. `front` is at most `stride`.
///
/// # Panics
/// Panics if `words` has another length.
#[track_caller]
pub(super) fn shifted(isa: Isa, x: &[f32], [w, c]: [usize; 2], [front, stride]: [usize; 2], words: &mut [u32]) {
    if x.is_empty() {
        return;
    }
    let (of_x, of_words) = (w * c, (front + w) * c);
    assert!(words.len() == x.len() / of_x * of_words, "{} words do not hold lines of {w}x{c}", words.len());
    let line = |words: &mut [u32], x: &[f32]| {
        // First words without a lower half, last ones without an upper half; in a short line, words between
        // them that have neither.
        let (before, inside) = words.split_at_mut(front * c);
        let ahead = &x[(stride - front).min(w) * c..];
        let (high, empty) = before.split_at_mut(before.len().min(ahead.len()));
        only_high(isa, ahead, high);
        empty.fill(0);
        let ahead = &x[stride.min(w) * c..];
        let (both, low) = inside.split_at_mut(ahead.len());
        pair_slices(isa, &x[..ahead.len()], ahead, both);
        only_low(isa, &x[ahead.len()..], low);
    };
    let tasks = words.par_chunks_mut(of_words).zip(x.par_chunks(of_x));
    spread(tasks, x.len()).for_each(|(words, x)| line(words, x));
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    /// Numbers whose rounding is hard: ties, carries into the exponent, both zeros, infinities.
    fn numbers(len: usize) -> Vec<f32> {
        let special = [0.0, -0.0, 1.0, f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY];
        let ties = [0x3f80_8000, 0x3f81_8000, 0x3f80_8001, 0x3fff_ffff, 0x7f7f_8000].map(f32::from_bits);
        let more = (0..u32::MAX).map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b9) >> 1 | i << 31));
        special.into_iter().chain(ties).chain(more.filter(|v| !v.is_nan())).take(len).collect()
    }

    fn half_of(v: Option<&f32>) -> u32 {
        u32::from(v.map_or(bf16::ZERO, |v| bf16::from_f32(*v)).to_bits())
    }

    /// Compares `words` with pairs of numbers, of which those outside of their row are missing.
    #[track_caller]
    fn assert_pairs<'a>(words: &[u32], pairs: impl Iterator<Item = (Option<&'a f32>, Option<&'a f32>)>) {
        let expected: Vec<u32> = pairs.map(|(low, high)| half_of(low) | half_of(high) << 16).collect();
        assert_eq!(words, expected);
    }

    #[test]
    fn numbers_are_rounded_to_the_nearest_and_ties_to_even() {
        for v in numbers(100_000) {
            assert_eq!(round(v), half_of(Some(&v)), "{v:e}");
        }
        assert!(bf16::from_bits(round(f32::NAN) as u16).is_nan());
        assert!(bf16::from_bits(round(f32::from_bits(0xff80_0001)) as u16).is_nan());
    }

    #[test]
    fn channels_are_paired_along_rows() {
        for isa in Isa::available() {
            for (rows, k) in [(1, 1), (3, 17), (5, 64), (700, 130), (0, 8)] {
                let x = numbers(rows * k);
                let mut words = vec![u32::MAX; rows * k.div_ceil(2)];
                along(isa, &x, k, &mut words);
                let row = |x: &'_ [f32]| x.to_vec();
                let rows: Vec<Vec<f32>> = x.chunks_exact(k).map(row).collect();
                let pairs = rows.iter().flat_map(|row| row.chunks(2).map(|pair| (pair.first(), pair.get(1))));
                assert_pairs(&words, pairs);
            }
        }
    }

    #[test]
    fn rows_are_paired_across_them() {
        for isa in Isa::available() {
            for (blocks, rows, n) in [(1, 1, 1), (2, 3, 17), (9, 64, 33), (2, 130, 3), (0, 2, 2), (40, 7, 130)] {
                let x = numbers(blocks * rows * n);
                let mut words = vec![u32::MAX; blocks * rows.div_ceil(2) * n];
                across(isa, &x, [rows, n], &mut words);
                let pairs = x.chunks_exact(rows * n).flat_map(|block| {
                    block.chunks(2 * n).flat_map(move |pair| (0..n).map(move |j| (pair.get(j), pair.get(n + j))))
                });
                assert_pairs(&words, pairs);
            }
        }
    }

    #[test]
    fn pixels_are_paired_at_the_distance_of_the_stride() {
        for isa in Isa::available() {
            for (lines, w, c) in [(1, 1, 1), (3, 5, 17), (40, 28, 33), (2, 2, 16)] {
                for [front, stride] in [[0, 1], [1, 1], [1, 2], [2, 2], [3, 4], [0, 3]] {
                    let x = numbers(lines * w * c);
                    let mut words = vec![u32::MAX; lines * (front + w) * c];
                    shifted(isa, &x, [w, c], [front, stride], &mut words);
                    let pairs = x.chunks_exact(w * c).flat_map(|line| {
                        let at = move |q: usize, j| {
                            let pixel = q.checked_sub(front).filter(|pixel| *pixel < w)?;
                            line.get(pixel * c + j)
                        };
                        (0..front + w).flat_map(move |q| (0..c).map(move |j| (at(q, j), at(q + stride, j))))
                    });
                    assert_pairs(&words, pairs);
                }
            }
        }
    }
}
