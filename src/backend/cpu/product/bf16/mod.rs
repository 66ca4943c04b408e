//! Products whose operands are rounded to bf16 (8 bits of significand), with sums in f32.
//!
//! The operands are rounded into words of two numbers that are neighbours in the sum ([`words`]). Then the
//! same tasks, panels, pointers and tiles as for f32 compute a product of words: it has half as many steps,
//! each of which multiplies pairs ([`simd`]). So this folder says only what the words are, and which
//! convolution of words has the wanted result:
//!
//! | product | pairs | convolution of words |
//! |---|---|---|
//! | `conv` | input channels | half as many input channels |
//! | `conv_dx` | output channels | half as many output channels |
//! | `conv_dw` | neighbouring pixels of a row of dy | half as wide dy, twice the stride |
//! | `gemm` | k | half of k |
//!
//! Closed weights between open ones are zeros in the words. A product with fewer than [`FEWEST`] channels in
//! its sums is computed in f32, because it has little to gain: these are the layers that read or write
//! pixels.
//!
//! Order of a sum: as in f32, from word to word, with the upper number of a word first. Numbers below 2^-126
//! count as zero where the processor multiplies words. If a row of dy has an odd number of pixels, its last
//! one is paired with a zero, which makes a NaN of an infinite pixel of x there.
//!
//! Bound by the units that multiply words (twice the rate of f32 on AMD Zen 4), and by the rounding if there
//! are few output channels.

mod simd;
mod words;

#[cfg(target_arch = "x86_64")]
pub(super) use simd::Avx512Pairs;
pub(super) use simd::PortablePairs;

use super::gather::{Direction, Gather};
use super::isa::{Isa, Target};
use super::{Gemm, Weights, convolve, convolve_scratch_len, multiply, multiply_scratch_len, outer};
use crate::backend::cpu::epilogue::EpilogueOp;
use crate::tape::geometry::{ConvGeom, Mask};

/// Fewest channels of a sum whose operands are rounded.
const FEWEST: usize = 16;

/// Whether this product is computed in bf16.
pub(super) fn takes_gemm(s: &Gemm) -> bool {
    s.k >= FEWEST
}

/// Whether `conv` of this geometry is computed in bf16.
pub(super) fn takes_conv(g: &ConvGeom) -> bool {
    g.cin >= FEWEST
}

/// Whether `conv_dx` of this geometry is computed in bf16.
pub(super) fn takes_conv_dx(g: &ConvGeom) -> bool {
    g.cout >= FEWEST
}

/// Whether `conv_dw` of this geometry is computed in bf16. Its sums are over pixels; with few channels on
/// one side there is little to compute for each number that is rounded.
pub(super) fn takes_conv_dw(g: &ConvGeom) -> bool {
    g.cin >= FEWEST && g.cout >= FEWEST
}

/// The weights of a product as words. They are rounded once if they are packed.
#[derive(Clone, Copy)]
pub(super) enum WeightWords {
    /// The right side of a matrix product.
    Gemm(Gemm),
    /// The weights of `conv`.
    Conv(ConvGeom),
    /// The weights of `conv_dx`.
    ConvDx(ConvGeom),
}

impl WeightWords {
    /// What the product of words gathers.
    pub(super) fn gather(&self) -> Gather {
        match self {
            WeightWords::Gemm(s) => halved(s).gather(),
            WeightWords::Conv(g) => Gather::new(&of_conv(g), Direction::Forward, true),
            WeightWords::ConvDx(g) => Gather::new(&of_conv_dx(g), Direction::Backward, true),
        }
    }

    /// Number of words.
    pub(super) fn len(&self) -> usize {
        match self {
            // If the left side is transposed, the gather has the right side as its pixels.
            WeightWords::Gemm(s) => halved(s).k * s.n,
            WeightWords::Conv(_) | WeightWords::ConvDx(_) => self.gather().geom.w_shape().len(),
        }
    }

    /// Rounds the numbers `w`.
    pub(super) fn round(&self, isa: Isa, w: &[f32], words: &mut [f32]) {
        let words: &mut [u32] = bytemuck::cast_slice_mut(words);
        match self {
            WeightWords::Gemm(Gemm { k, tb: true, .. }) => words::along(isa, w, *k, words),
            WeightWords::Gemm(Gemm { k, n, .. }) => words::across(isa, w, [*k, *n], words),
            WeightWords::Conv(g) => {
                words::across(isa, w, [g.cin, g.cout], words);
                close(g, |ci, co| (ci / 2 * g.cout + co, ci % 2), g.cin.div_ceil(2) * g.cout, words);
            }
            WeightWords::ConvDx(g) => {
                words::along(isa, w, g.cout, words);
                let per_row = g.cout.div_ceil(2);
                close(g, |ci, co| (ci * per_row + co / 2, co % 2), g.cin * per_row, words);
            }
        }
    }
}

/// Writes zeros in place of the closed weights of a tap that is open between other channels. `place` gives
/// the word of a weight within its tap, and which half of the word it is; a tap has `len` words.
fn close(g: &ConvGeom, place: impl Fn(usize, usize) -> (usize, usize), len: usize, words: &mut [u32]) {
    if !g.has_partial_centre() {
        return;
    }
    let centre = &mut words[g.centre_tap() * len..][..len];
    for co in 0..g.cout {
        for ci in g.centre_channels(co)..g.cin {
            let (word, half) = place(ci, co);
            centre[word] &= [0xffff_0000, 0x0000_ffff][half];
        }
    }
}

/// The convolution of words that `conv` is. A tap that is open to a number of channels is open to half as
/// many words, rounded up, as for all channels.
fn of_conv(g: &ConvGeom) -> ConvGeom {
    ConvGeom { cin: g.cin.div_ceil(2), ..*g }
}

/// The convolution of words that `conv_dx` is. Words may have a number of each of two colours. The mask
/// cannot say that, so then the whole centre is open, and its closed weights are zeros.
fn of_conv_dx(g: &ConvGeom) -> ConvGeom {
    let words = ConvGeom { cout: g.cout.div_ceil(2), ..*g };
    if !g.has_partial_centre() {
        ConvGeom { groups: 1, blocks: 1, ..words }
    } else if g.cout.is_multiple_of(2 * g.blocks * g.groups) {
        words
    } else {
        ConvGeom { mask: Mask::B, groups: 1, blocks: 1, ..words }
    }
}

/// The convolution of words whose `conv_dw` has the same result, and the zeros before each line of x. A word
/// of x has two pixels whose distance is the stride, and a word of dy two neighbouring pixels. If a window
/// has one column and moves by one pixel, the words of x are made like those of dy (`None`), half as many.
fn of_conv_dw(g: &ConvGeom) -> (ConvGeom, Option<usize>) {
    let [rows, columns] = g.stride;
    let ow = g.ow.div_ceil(2);
    if (g.kw, columns, g.pad[1], g.ow) == (1, 1, 0, g.w) {
        return (ConvGeom { w: ow, ow, ..*g }, None);
    }
    let front = g.pad[1].min(columns);
    let (pad, stride) = ([g.pad[0], g.pad[1] - front], [rows, 2 * columns]);
    (ConvGeom { w: front + g.w, ow, stride, pad, ..*g }, Some(front))
}

/// The first `len` floats of the scratch, and the others.
#[track_caller]
fn take(scratch: &mut [f32], len: usize) -> (&mut [f32], &mut [f32]) {
    let floats = scratch.len();
    scratch.split_at_mut_checked(len).unwrap_or_else(|| panic!("scratch of {floats} floats has no room for the words"))
}

/// Weights as words: those that are packed already, or rounded into `words`.
fn rounded<'a>(isa: Isa, weights: WeightWords, w: Weights<'a>, words: &'a mut [f32]) -> Weights<'a> {
    let Weights::Plain(w) = w else { return w };
    weights.round(isa, w, words);
    Weights::Plain(words)
}

/// As [`super::gemm`], for products that [`takes_gemm`] takes.
#[track_caller]
pub(super) fn gemm(isa: Isa, s: Gemm, a: &[f32], b: Weights, c: &mut [f32], epi: &[EpilogueOp], scratch: &mut [f32]) {
    let (of_words, weights) = (halved(&s), WeightWords::Gemm(s));
    let (left, scratch) = take(scratch, of_words.m * of_words.k);
    let (words, scratch) = take(scratch, weights.len());
    if s.ta {
        words::across(isa, a, [s.k, s.m], bytemuck::cast_slice_mut(left));
    } else {
        words::along(isa, a, s.k, bytemuck::cast_slice_mut(left));
    }
    multiply(Target::pairs(isa), of_words, left, rounded(isa, weights, b, words), c, epi, scratch);
}

/// The product of words that a product is.
fn halved(s: &Gemm) -> Gemm {
    Gemm { k: s.k.div_ceil(2), ..*s }
}

/// Floats of scratch that [`gemm`] needs in a pool of `threads` threads.
pub(super) fn gemm_scratch_len(s: Gemm, threads: usize) -> usize {
    let of_words = halved(&s);
    of_words.m * of_words.k + WeightWords::Gemm(s).len() + multiply_scratch_len(of_words, threads)
}

/// As [`super::conv`] or [`super::conv_dx`], for convolutions that [`takes_conv`] or [`takes_conv_dx`]
/// takes. The source has `channels` channels.
#[track_caller]
pub(super) fn conv(
    isa: Isa,
    (weights, channels): (WeightWords, usize),
    source: &[f32],
    w: Weights,
    out: &mut [f32],
    epi: &[EpilogueOp],
    scratch: &mut [f32],
) {
    let gather = weights.gather();
    let (left, scratch) = take(scratch, gather.geom.n * gather.source_len());
    let (words, scratch) = take(scratch, gather.geom.w_shape().len());
    words::along(isa, source, channels, bytemuck::cast_slice_mut(left));
    convolve(Target::pairs(isa), gather, left, rounded(isa, weights, w, words), out, epi, scratch);
}

/// Floats of scratch that [`conv`] needs in a pool of `threads` threads.
pub(super) fn conv_scratch_len(weights: WeightWords, threads: usize) -> usize {
    let gather = weights.gather();
    gather.geom.n * gather.source_len() + gather.geom.w_shape().len() + convolve_scratch_len(gather, threads)
}

/// As [`super::conv_dw`], for convolutions that [`takes_conv_dw`] takes.
#[track_caller]
pub(super) fn conv_dw(isa: Isa, g: &ConvGeom, x: &[f32], dy: &[f32], dw: (&mut [f32], bool), scratch: &mut [f32]) {
    let (words, front) = of_conv_dw(g);
    let (left, scratch) = take(scratch, words.x_shape().len());
    let (right, scratch) = take(scratch, words.y_shape().len());
    let words_of_x = bytemuck::cast_slice_mut(left);
    match front {
        Some(front) => words::shifted(isa, x, [g.w, g.cin], [front, g.stride[1]], words_of_x),
        None => words::across(isa, x, [g.w, g.cin], words_of_x),
    }
    words::across(isa, dy, [g.ow, g.cout], bytemuck::cast_slice_mut(right));
    outer::run(Target::pairs(isa), &Gather::new(&words, Direction::Forward, false), left, right, dw, &[], scratch);
}

/// Floats of scratch that [`conv_dw`] needs in a pool of `threads` threads.
pub(super) fn conv_dw_scratch_len(g: &ConvGeom, threads: usize) -> usize {
    let (words, _) = of_conv_dw(g);
    let products = outer::scratch_len(&Gather::new(&words, Direction::Forward, false), threads);
    words.x_shape().len() + words.y_shape().len() + products
}
