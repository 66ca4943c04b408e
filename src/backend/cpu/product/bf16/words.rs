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
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Rounds slices into words.
trait Rounding {
    /// `words[i]` gets the numbers `2 i` and `2 i + 1`.
    ///
    /// # Safety
    /// The processor has the instructions of the implementation.
    unsafe fn neighbours(x: &[f32], words: &mut [u32]);

    /// `words[i]` gets the numbers `low[i]` and `high[i]`, or zero for a slice that is absent. The slices
    /// have the length of `words`.
    ///
    /// # Safety
    /// The processor has the instructions of the implementation.
    unsafe fn slices(low: Option<&[f32]>, high: Option<&[f32]>, words: &mut [u32]);
}

/// Integer arithmetic, which any processor has.
struct Plain;

/// The bf16 number nearest to `v`, ties to even, in the lower half of the word. A NaN stays one.
#[inline(always)]
fn round(v: f32) -> u32 {
    let bits = v.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    if v.is_nan() { bits >> 16 | 0x40 } else { rounded }
}

impl Rounding for Plain {
    #[inline(always)]
    unsafe fn neighbours(x: &[f32], words: &mut [u32]) {
        let (pairs, last) = x.as_chunks::<2>();
        for (word, [low, high]) in words.iter_mut().zip(pairs) {
            *word = round(*low) | round(*high) << 16;
        }
        if let ([low], Some(word)) = (last, words.last_mut()) {
            *word = round(*low);
        }
    }

    #[inline(always)]
    unsafe fn slices(low: Option<&[f32]>, high: Option<&[f32]>, words: &mut [u32]) {
        match (low, high) {
            (Some(low), Some(high)) => {
                for ((word, low), high) in words.iter_mut().zip(low).zip(high) {
                    *word = round(*low) | round(*high) << 16;
                }
            }
            (Some(low), None) => words.iter_mut().zip(low).for_each(|(word, low)| *word = round(*low)),
            (None, Some(high)) => words.iter_mut().zip(high).for_each(|(word, high)| *word = round(*high) << 16),
            (None, None) => words.fill(0),
        }
    }
}

/// AVX512-BF16: one instruction rounds 32 numbers. Numbers below 2^-126 become zero.
#[cfg(target_arch = "x86_64")]
struct Native;

/// The first `n` floats from `p` on, with zeros in the other lanes.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_first(p: *const f32, n: usize) -> __m512 {
    let lanes = if n >= 16 { !0 } else { (1u16 << n) - 1 };
    // SAFETY: the caller vouches for `n` readable floats. Masked lanes are not read.
    unsafe { _mm512_maskz_loadu_ps(lanes, p) }
}

/// Writes 16 words, or the first `n`.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store_first(p: *mut u32, words: __m512i, n: usize) {
    let lanes = if n >= 16 { !0 } else { (1u16 << n) - 1 };
    // SAFETY: the caller vouches for `n` writable words. Masked lanes are not written.
    unsafe { _mm512_mask_storeu_epi32(p.cast(), lanes, words) }
}

/// 32 rounded numbers: those of `low`, then those of `high`.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn round_32(low: __m512, high: __m512) -> __m512i {
    // SAFETY: both types are 512 bits that may have any value.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
}

#[cfg(target_arch = "x86_64")]
impl Rounding for Native {
    #[inline(always)]
    unsafe fn neighbours(x: &[f32], words: &mut [u32]) {
        let count = words.len().min(x.len().div_ceil(2));
        for i in (0..count).step_by(16) {
            let (at, left) = (2 * i, x.len() - 2 * i);
            // SAFETY: the caller vouches for the instructions. `left` floats follow the one at `at`, and
            // `count - i` words the one at `i`; no more are accessed.
            unsafe {
                let low = load_first(x.as_ptr().wrapping_add(at), left.min(16));
                let high = load_first(x.as_ptr().wrapping_add(at + 16), left.saturating_sub(16).min(16));
                store_first(words.as_mut_ptr().add(i), round_32(low, high), (count - i).min(16));
            }
        }
    }

    #[inline(always)]
    unsafe fn slices(low: Option<&[f32]>, high: Option<&[f32]>, words: &mut [u32]) {
        let len = |side: Option<&[f32]>| side.map_or(usize::MAX, <[f32]>::len);
        let count = words.len().min(len(low)).min(len(high));
        // SAFETY: the caller vouches for the instructions. All slices have `count` elements or more, and no
        // others are accessed.
        unsafe { interleave(low.map(<[f32]>::as_ptr), high.map(<[f32]>::as_ptr), words.as_mut_ptr(), count) }
    }
}

/// `words[i]` gets the numbers `low[i]` and `high[i]`, or zero for a side that is absent.
///
/// # Safety
/// The processor has the features. Both sides have `count` readable floats, and `words` has `count`
/// writable words.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn interleave(low: Option<*const f32>, high: Option<*const f32>, words: *mut u32, count: usize) {
    // Lane `i` of the words takes the numbers `i` and `16 + i`.
    let lanes: [u32; 16] = std::array::from_fn(|i| i as u32 | (16 + i as u32) << 16);
    // SAFETY: the caller vouches for `count` elements of each side, and no others are accessed. The table
    // has 16 words.
    unsafe {
        let order = _mm512_loadu_si512(lanes.as_ptr().cast());
        for i in (0..count).step_by(16) {
            let n = (count - i).min(16);
            let side = |side: Option<*const f32>| side.map_or(_mm512_setzero_ps(), |p| load_first(p.add(i), n));
            let numbers = round_32(side(low), side(high));
            store_first(words.add(i), _mm512_permutexvar_epi16(order, numbers), n);
        }
    }
}

/// Defines a function that runs `$body::<R>` with the fastest [`Rounding`] of an instruction set.
macro_rules! rounding {
    ($name:ident, $body:ident($($arg:ident: $ty:ty),*)) => {
        fn $name(isa: Isa, $($arg: $ty),*) {
            vectorized! {
                fn plain($($arg: $ty),*) {
                    // SAFETY: integer arithmetic needs no instructions that a processor may lack.
                    unsafe { $body::<Plain>($($arg),*) }
                }
            }
            #[cfg(target_arch = "x86_64")]
            if isa.has_bf16() {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
                fn native($($arg: $ty),*) {
                    // SAFETY: this function enables the features.
                    unsafe { $body::<Native>($($arg),*) }
                }
                // SAFETY: the processor has the features, because it has instructions for bf16.
                return unsafe { native($($arg),*) };
            }
            plain(isa, $($arg),*);
        }
    };
}

rounding!(pair_neighbours, neighbours_of_rows(x: &[f32], k: usize, words: &mut [u32]));
rounding!(pair_rows, rows_in_pairs(x: &[f32], n: usize, words: &mut [u32]));
rounding!(pair_line, line_with_itself(x: &[f32], c: usize, front_stride: [usize; 2], words: &mut [u32]));

/// Rows of `k` numbers to rows of words.
///
/// # Safety
/// The processor has the instructions of `R`.
#[inline(always)]
unsafe fn neighbours_of_rows<R: Rounding>(x: &[f32], k: usize, words: &mut [u32]) {
    for (words, x) in words.chunks_exact_mut(k.div_ceil(2)).zip(x.chunks_exact(k)) {
        // SAFETY: the contract of this function.
        unsafe { R::neighbours(x, words) };
    }
}

/// Rows of `n` numbers to half as many rows of words.
///
/// # Safety
/// The processor has the instructions of `R`.
#[inline(always)]
unsafe fn rows_in_pairs<R: Rounding>(x: &[f32], n: usize, words: &mut [u32]) {
    for (words, pair) in words.chunks_exact_mut(n).zip(x.chunks(2 * n)) {
        let (low, high) = pair.split_at(n);
        let high = Some(high).filter(|high| !high.is_empty());
        // SAFETY: the contract of this function.
        unsafe { R::slices(Some(low), high, words) };
    }
}

/// A line of pixels of `c` channels to words, see [`shifted`].
///
/// # Safety
/// The processor has the instructions of `R`.
#[inline(always)]
unsafe fn line_with_itself<R: Rounding>(x: &[f32], c: usize, [front, stride]: [usize; 2], words: &mut [u32]) {
    // First words without a lower half, last ones without an upper half; in a short line, words between them
    // that have neither.
    let (before, inside) = words.split_at_mut(front * c);
    let ahead = &x[((stride - front) * c).min(x.len())..];
    let (high, empty) = before.split_at_mut(before.len().min(ahead.len()));
    empty.fill(0);
    let (ahead, high_only) = (&x[(stride * c).min(x.len())..], &ahead[..high.len()]);
    let (both, low) = inside.split_at_mut(ahead.len());
    // SAFETY: the contract of this function.
    unsafe {
        R::slices(None, Some(high_only), high);
        R::slices(Some(&x[..ahead.len()]), Some(ahead), both);
        R::slices(Some(&x[ahead.len()..]), None, low);
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
        return spread(tasks, x.len()).for_each(|(words, x)| pair_neighbours(isa, x, x.len(), words));
    }
    let rows = (CHUNK / k).max(1);
    let tasks = words.par_chunks_mut(rows * per_row).zip(x.par_chunks(rows * k));
    spread(tasks, x.len()).for_each(|(words, x)| pair_neighbours(isa, x, k, words));
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
    if rows.is_multiple_of(2) {
        // Blocks without an odd end are one long block.
        let chunk = (CHUNK / (2 * n)).max(1);
        let tasks = words.par_chunks_mut(chunk * n).zip(x.par_chunks(2 * chunk * n));
        return spread(tasks, x.len()).for_each(|(words, x)| pair_rows(isa, x, n, words));
    }
    let tasks = words.par_chunks_mut(of_words).zip(x.par_chunks(of_x));
    spread(tasks, x.len()).for_each(|(words, x)| pair_rows(isa, x, n, words));
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
    let tasks = words.par_chunks_mut(of_words).zip(x.par_chunks(of_x));
    spread(tasks, x.len()).for_each(|(words, x)| pair_line(isa, x, c, [front, stride], words));
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    /// Numbers whose rounding is hard: ties, carries into the exponent, both zeros, infinities. None is
    /// below 2^-126, which processors round to zero.
    fn numbers(len: usize) -> Vec<f32> {
        let special = [0.0, -0.0, 1.0, f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY];
        let ties = [0x3f80_8000, 0x3f81_8000, 0x3f80_8001, 0x3fff_ffff, 0x7f7f_8000].map(f32::from_bits);
        let more = (0..u32::MAX).map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b9) >> 1 | i << 31));
        special.into_iter().chain(ties).chain(more.filter(|v| !v.is_nan() && !v.is_subnormal())).take(len).collect()
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
