//! Vectors of words, each of which is a pair of bf16 numbers: [`Pairs`].
//!
//! Words have the size of floats, and they are loaded, broadcast and copied like floats. Only the
//! multiply-add differs: it multiplies both numbers of a word with both of the other and adds the two
//! products to an f32 sum. So the tiles, panels and pointers of f32 products serve bf16 as well.

use super::super::simd::{Portable, Simd};
use super::super::tile::Right;
#[cfg(target_arch = "x86_64")]
use super::super::{avx512_steps, simd::Avx512};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::ops::Range;

/// An instruction set that multiplies words.
pub(in super::super) trait MultipliesPairs: Simd {
    /// `a.low * b.low + (a.high * b.high + c)` for each word: each product is added to the sum with one
    /// rounding.
    ///
    /// # Safety
    /// The processor has the features of the implementation and its instructions for bf16.
    unsafe fn multiply_pairs(a: Self::V, b: Self::V, c: Self::V) -> Self::V;

    /// As [`Simd::steps_along`], on words.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn pair_steps_along<const MR: usize, const NV: usize>(
        _sums: &mut [[Self::V; NV]; MR],
        _a: *const *const f32,
        _b: Right,
        _k: Range<usize>,
    ) -> bool {
        false
    }

    /// As [`Simd::steps_across`], on words.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn pair_steps_across<const MR: usize, const NV: usize>(
        _sums: &mut [[Self::V; NV]; MR],
        _a: *const *const f32,
        _first: usize,
        _b: Right,
        _steps: usize,
    ) -> bool {
        false
    }
}

/// The vectors of `S`, with words in place of the floats that are multiplied. Sums are floats.
#[derive(Clone, Copy)]
pub(in super::super) struct Pairs<S>(PhantomData<S>);

/// AVX-512 with BF16.
#[cfg(target_arch = "x86_64")]
pub(in super::super) type Avx512Pairs = Pairs<Avx512>;
/// Plain Rust, for tests on machines without instructions for bf16.
pub(in super::super) type PortablePairs = Pairs<Portable>;

impl<S: MultipliesPairs> Simd for Pairs<S> {
    type V = S::V;
    const LANES: usize = S::LANES;
    const MR: usize = S::MR;

    #[inline(always)]
    unsafe fn zero() -> S::V {
        // SAFETY: the contract is that of the method of `S`.
        unsafe { S::zero() }
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> S::V {
        // SAFETY: the contract is that of the method of `S`.
        unsafe { S::load(p) }
    }

    #[inline(always)]
    unsafe fn splat(p: *const f32) -> S::V {
        // SAFETY: the contract is that of the method of `S`.
        unsafe { S::splat(p) }
    }

    #[inline(always)]
    unsafe fn store(p: *mut f32, v: S::V) {
        // SAFETY: the contract is that of the method of `S`.
        unsafe { S::store(p, v) }
    }

    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> S::V {
        // SAFETY: the contract is that of the method of `S`.
        unsafe { S::load_first(p, n) }
    }

    #[inline(always)]
    unsafe fn store_first(p: *mut f32, v: S::V, n: usize) {
        // SAFETY: the contract is that of the method of `S`.
        unsafe { S::store_first(p, v, n) }
    }

    #[inline(always)]
    unsafe fn add(a: S::V, b: S::V) -> S::V {
        // SAFETY: the contract is that of the method of `S`.
        unsafe { S::add(a, b) }
    }

    #[inline(always)]
    unsafe fn fma(a: S::V, b: S::V, c: S::V) -> S::V {
        // SAFETY: the caller vouches for the features, of which the instructions for bf16 are a part.
        unsafe { S::multiply_pairs(a, b, c) }
    }

    #[inline(always)]
    unsafe fn relu(v: S::V) -> S::V {
        // SAFETY: the contract is that of the method of `S`.
        unsafe { S::relu(v) }
    }

    #[inline(always)]
    unsafe fn where_positive(gate: S::V, v: S::V) -> S::V {
        // SAFETY: the contract is that of the method of `S`.
        unsafe { S::where_positive(gate, v) }
    }

    #[inline(always)]
    unsafe fn steps_along<const MR: usize, const NV: usize>(
        sums: &mut [[S::V; NV]; MR],
        a: *const *const f32,
        b: Right,
        k: Range<usize>,
    ) -> bool {
        // SAFETY: the contract is the same.
        unsafe { S::pair_steps_along(sums, a, b, k) }
    }

    #[inline(always)]
    unsafe fn steps_across<const MR: usize, const NV: usize>(
        sums: &mut [[S::V; NV]; MR],
        a: *const *const f32,
        first: usize,
        b: Right,
        steps: usize,
    ) -> bool {
        // SAFETY: the contract is the same.
        unsafe { S::pair_steps_across(sums, a, first, b, steps) }
    }
}

#[cfg(target_arch = "x86_64")]
impl MultipliesPairs for Avx512 {
    #[inline(always)]
    unsafe fn multiply_pairs(a: __m512, b: __m512, c: __m512) -> __m512 {
        #[target_feature(enable = "avx512f,avx512bf16")]
        #[inline]
        fn multiply(a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: both types are 512 bits that may have any value.
            let words = |v: __m512| unsafe { std::mem::transmute::<__m512, __m512bh>(v) };
            _mm512_dpbf16_ps(c, words(a), words(b))
        }
        // SAFETY: the caller vouches for AVX-512 and its instructions for bf16.
        unsafe { multiply(a, b, c) }
    }

    #[inline(always)]
    unsafe fn pair_steps_along<const MR: usize, const NV: usize>(
        sums: &mut [[__m512; NV]; MR],
        a: *const *const f32,
        b: Right,
        k: Range<usize>,
    ) -> bool {
        // SAFETY: the caller vouches for the features, the pointers of A and the rows of B, as the contract
        // of this method says. It is the contract of the call.
        unsafe { avx512_steps::pairs_along(sums, a, b, k) }
    }

    #[inline(always)]
    unsafe fn pair_steps_across<const MR: usize, const NV: usize>(
        sums: &mut [[__m512; NV]; MR],
        a: *const *const f32,
        first: usize,
        b: Right,
        steps: usize,
    ) -> bool {
        // SAFETY: the caller vouches for the features, the pointers of A and the rows of B, as the contract
        // of this method says. It is the contract of the call.
        unsafe { avx512_steps::pairs_across(sums, a, first, b, steps) }
    }
}

impl MultipliesPairs for Portable {
    #[inline(always)]
    unsafe fn multiply_pairs(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        let low = |v: f32| f32::from_bits(v.to_bits() << 16);
        let high = |v: f32| f32::from_bits(v.to_bits() & 0xffff_0000);
        // A product of two bf16 numbers has at most 16 bits of significand, so it is exact in f32, and each
        // addition is the only rounding.
        std::array::from_fn(|i| low(a[i]) * low(b[i]) + (high(a[i]) * high(b[i]) + c[i]))
    }
}
