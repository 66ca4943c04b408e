//! The vector registers that the products are written in: one trait, three implementations.
//!
//! The code that uses it is generic over [`Simd`]. It is compiled once per implementation, inlined into a
//! function that enables the CPU features (`dispatch` in `isa.rs`, `tiles!` in `tile.rs`). So there is one
//! algorithm, not one per architecture.

#[cfg(target_arch = "x86_64")]
use super::avx512_steps;
use super::pool::LINE;
use super::tile::Right;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::ops::Range;

/// Most rows of a register tile on any instruction set: arrays of the rows of one tile have this length.
pub(super) const MAX_MR: usize = 14;
/// Widest panel of two vectors on any instruction set: packed matrices are padded to a multiple of this many
/// columns.
pub(super) const MAX_WIDTH: usize = 32;
/// Narrowest panel of two vectors on any instruction set.
pub(super) const MIN_WIDTH: usize = 8;

/// Whether the tile and the panel of `S` are within the limits above. Code that works through raw pointers
/// sizes its memory by these limits before it knows the instruction set.
const fn keeps_to_the_limits<S: Simd>() -> bool {
    let width = 2 * S::LANES;
    S::MR <= MAX_MR && MIN_WIDTH <= width && MAX_WIDTH.is_multiple_of(width)
}

#[cfg(target_arch = "x86_64")]
const _: () = assert!(keeps_to_the_limits::<Avx512>() && keeps_to_the_limits::<Avx2>());
const _: () = assert!(keeps_to_the_limits::<Portable>());

/// A vector of [`LANES`](Simd::LANES) floats and the shape of the register tile that suits the register
/// file.
///
/// Every method must be inlined into a function compiled for the features of the implementation.
pub(super) trait Simd: Copy + Send + Sync + 'static {
    /// The vector register.
    type V: Copy;
    /// Floats in one vector.
    const LANES: usize;
    /// Rows of the largest register tile. With two vectors per row, it fills the register file.
    const MR: usize;

    /// All lanes zero.
    ///
    /// # Safety
    /// The processor has the features of the implementation.
    unsafe fn zero() -> Self::V;

    /// `LANES` floats from memory, unaligned.
    ///
    /// # Safety
    /// The processor has the features, and the floats are readable.
    unsafe fn load(p: *const f32) -> Self::V;

    /// One float from memory in all lanes.
    ///
    /// # Safety
    /// The processor has the features, and the float is readable.
    unsafe fn splat(p: *const f32) -> Self::V;

    /// `LANES` floats to memory, unaligned.
    ///
    /// # Safety
    /// The processor has the features, and the floats are writable.
    unsafe fn store(p: *mut f32, v: Self::V);

    /// The first `n <= LANES` floats from memory, zeros in the other lanes.
    ///
    /// # Safety
    /// The processor has the features, and the `n` floats are readable.
    unsafe fn load_first(p: *const f32, n: usize) -> Self::V;

    /// The first `n <= LANES` floats to memory.
    ///
    /// # Safety
    /// The processor has the features, and the `n` floats are writable.
    unsafe fn store_first(p: *mut f32, v: Self::V, n: usize);

    /// `a + b`
    ///
    /// # Safety
    /// The processor has the features.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;

    /// `a * b + c`, rounded once if the machine has FMA.
    ///
    /// # Safety
    /// The processor has the features.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;

    /// `max(v, 0)`. NaN and the sign of a zero are kept.
    ///
    /// # Safety
    /// The processor has the features.
    unsafe fn relu(v: Self::V) -> Self::V;

    /// `v` where `gate > 0`, zero elsewhere.
    ///
    /// # Safety
    /// The processor has the features.
    unsafe fn where_positive(gate: Self::V, v: Self::V) -> Self::V;

    /// Computes the steps `k` of a tile with k along the pointers, in assembly:
    /// `sums[i][j] += a[i][k] * b[k - k.start][j]`. Returns false, and does nothing, if this instruction set
    /// has no such code for the size of the tile.
    ///
    /// # Safety
    /// The processor has the features; `a` leads to `MR` pointers, each to `k.end` readable floats; B has
    /// `k.len()` rows of `NV` vectors.
    #[inline(always)]
    unsafe fn steps_along<const MR: usize, const NV: usize>(
        _sums: &mut [[Self::V; NV]; MR],
        _a: *const *const f32,
        _b: Right,
        _k: Range<usize>,
    ) -> bool {
        false
    }

    /// Computes all steps of a tile with k across the pointers, in assembly:
    /// `sums[i][j] += a[k][first + i] * b[k][j]`. Returns false, and does nothing, if this instruction set
    /// has no such code for the size of the tile.
    ///
    /// # Safety
    /// The processor has the features; `a` leads to `steps` pointers, each to floats of which
    /// `first..first + MR` are readable; B has `steps` rows of `NV` vectors.
    #[inline(always)]
    unsafe fn steps_across<const MR: usize, const NV: usize>(
        _sums: &mut [[Self::V; NV]; MR],
        _a: *const *const f32,
        _first: usize,
        _b: Right,
        _steps: usize,
    ) -> bool {
        false
    }
}

/// AVX-512: 32 registers of 16 floats, a 14x32 tile (28 sums, two vectors of B, a broadcast).
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx512;

#[cfg(target_arch = "x86_64")]
impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const MR: usize = 14;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: the caller vouches for AVX-512.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        // SAFETY: the caller vouches for AVX-512 and for 16 readable floats.
        unsafe { _mm512_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn splat(p: *const f32) -> __m512 {
        // SAFETY: the caller vouches for AVX-512 and for a readable float.
        unsafe { _mm512_set1_ps(*p) }
    }

    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m512) {
        // SAFETY: the caller vouches for AVX-512 and for 16 writable floats.
        unsafe { _mm512_storeu_ps(p, v) }
    }

    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> __m512 {
        // SAFETY: the caller vouches for AVX-512 and for `n` readable floats. Masked lanes are not read.
        unsafe { _mm512_maskz_loadu_ps(((1u32 << n) - 1) as __mmask16, p) }
    }

    #[inline(always)]
    unsafe fn store_first(p: *mut f32, v: __m512, n: usize) {
        // SAFETY: the caller vouches for AVX-512 and for `n` writable floats. Masked lanes are not written.
        unsafe { _mm512_mask_storeu_ps(p, ((1u32 << n) - 1) as __mmask16, v) }
    }

    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller vouches for AVX-512.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the caller vouches for AVX-512.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn relu(v: __m512) -> __m512 {
        // SAFETY: the caller vouches for AVX-512. The second operand is the result if one is NaN or if both
        // are zeros.
        unsafe { _mm512_max_ps(_mm512_setzero_ps(), v) }
    }

    #[inline(always)]
    unsafe fn where_positive(gate: __m512, v: __m512) -> __m512 {
        // SAFETY: the caller vouches for AVX-512.
        unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(gate, _mm512_setzero_ps()), v) }
    }

    #[inline(always)]
    unsafe fn steps_along<const MR: usize, const NV: usize>(
        sums: &mut [[__m512; NV]; MR],
        a: *const *const f32,
        b: Right,
        k: Range<usize>,
    ) -> bool {
        // SAFETY: the caller vouches for AVX-512 and for the pointers of A and the rows of B, as the
        // contract of this method says. It is the contract of the call.
        unsafe { avx512_steps::along(sums, a, b, k) }
    }

    #[inline(always)]
    unsafe fn steps_across<const MR: usize, const NV: usize>(
        sums: &mut [[__m512; NV]; MR],
        a: *const *const f32,
        first: usize,
        b: Right,
        steps: usize,
    ) -> bool {
        // SAFETY: the caller vouches for AVX-512 and for the pointers of A and the rows of B, as the
        // contract of this method says. It is the contract of the call.
        unsafe { avx512_steps::across(sums, a, first, b, steps) }
    }
}

/// AVX2 and FMA: 16 registers of 8 floats, a 6x16 tile.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx2;

/// Eight ones and eight zeros. The eight words from `8 - n` on are the mask of the first `n` lanes.
#[cfg(target_arch = "x86_64")]
static AVX2_MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[cfg(target_arch = "x86_64")]
impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const MR: usize = 6;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: the caller vouches for AVX2.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m256 {
        // SAFETY: the caller vouches for AVX2 and for 8 readable floats.
        unsafe { _mm256_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn splat(p: *const f32) -> __m256 {
        // SAFETY: the caller vouches for AVX2 and for a readable float.
        unsafe { _mm256_set1_ps(*p) }
    }

    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m256) {
        // SAFETY: the caller vouches for AVX2 and for 8 writable floats.
        unsafe { _mm256_storeu_ps(p, v) }
    }

    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> __m256 {
        // SAFETY: the caller vouches for AVX2 and for `n` readable floats. As `n <= 8`, the mask is inside
        // the table. Masked lanes are not read.
        unsafe { _mm256_maskload_ps(p, _mm256_loadu_si256(AVX2_MASKS.as_ptr().add(8 - n).cast())) }
    }

    #[inline(always)]
    unsafe fn store_first(p: *mut f32, v: __m256, n: usize) {
        // SAFETY: the caller vouches for AVX2 and for `n` writable floats. As `n <= 8`, the mask is inside
        // the table. Masked lanes are not written.
        unsafe { _mm256_maskstore_ps(p, _mm256_loadu_si256(AVX2_MASKS.as_ptr().add(8 - n).cast()), v) }
    }

    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller vouches for AVX2.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the caller vouches for FMA.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn relu(v: __m256) -> __m256 {
        // SAFETY: the caller vouches for AVX2. The second operand is the result if one is NaN or if both are
        // zeros.
        unsafe { _mm256_max_ps(_mm256_setzero_ps(), v) }
    }

    #[inline(always)]
    unsafe fn where_positive(gate: __m256, v: __m256) -> __m256 {
        // SAFETY: the caller vouches for AVX2.
        unsafe { _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(gate, _mm256_setzero_ps()), v) }
    }
}

/// Plain Rust: a 4x8 tile, which the compiler can keep in the registers of any machine with 128-bit vectors.
#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Simd for Portable {
    type V = [f32; 4];
    const LANES: usize = 4;
    const MR: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> [f32; 4] {
        [0.0; 4]
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> [f32; 4] {
        // SAFETY: the caller vouches for 4 readable floats.
        unsafe { p.cast::<[f32; 4]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn splat(p: *const f32) -> [f32; 4] {
        // SAFETY: the caller vouches for a readable float.
        [unsafe { *p }; 4]
    }

    #[inline(always)]
    unsafe fn store(p: *mut f32, v: [f32; 4]) {
        // SAFETY: the caller vouches for 4 writable floats.
        unsafe { p.cast::<[f32; 4]>().write_unaligned(v) }
    }

    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> [f32; 4] {
        // SAFETY: only the first `n` floats are read, and the caller vouches for them.
        std::array::from_fn(|i| if i < n { unsafe { *p.add(i) } } else { 0.0 })
    }

    #[inline(always)]
    unsafe fn store_first(p: *mut f32, v: [f32; 4], n: usize) {
        for (i, lane) in v.into_iter().enumerate().take(n) {
            // SAFETY: only the first `n` floats are written, and the caller vouches for them.
            unsafe { *p.add(i) = lane }
        }
    }

    #[inline(always)]
    unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    unsafe fn fma(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        // Not `mul_add`, which is a library call if the target has no FMA.
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    unsafe fn relu(v: [f32; 4]) -> [f32; 4] {
        v.map(|v| if v < 0.0 { 0.0 } else { v })
    }

    #[inline(always)]
    unsafe fn where_positive(gate: [f32; 4], v: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| if gate[i] > 0.0 { v[i] } else { 0.0 })
    }
}

/// Copies `len` floats. It is inlined, because the runs of an im2col are too short for a call to `memcpy`.
///
/// # Safety
/// The processor has the features of `S`. `len` floats are readable at `src` and writable at `dst`, and the
/// two do not overlap.
#[inline(always)]
pub(super) unsafe fn copy<S: Simd>(dst: *mut f32, src: *const f32, len: usize) {
    let mut i = 0;
    while i + S::LANES <= len {
        // SAFETY: `i + LANES <= len`, so a whole vector from `i` on is inside the floats for which the
        // caller vouches. The caller vouches for the features too.
        unsafe { S::store(dst.add(i), S::load(src.add(i))) };
        i += S::LANES;
    }
    if i < len {
        // SAFETY: the last `len - i < LANES` floats are inside the floats for which the caller vouches. The
        // caller vouches for the features too.
        unsafe { S::store_first(dst.add(i), S::load_first(src.add(i), len - i), len - i) };
    }
}

/// Prefetches the cache lines of `len` floats into the L1 cache. The memory need not be readable: a prefetch
/// of an invalid address does nothing.
#[inline(always)]
pub(super) fn prefetch(p: *const f32, len: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..len).step_by(LINE) {
        // SAFETY: every x86-64 processor has the instruction. It has no effect on memory and never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.wrapping_add(line).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (p, len);
}

/// Writes `len` zeros.
///
/// # Safety
/// The processor has the features of `S` and `len` floats are writable.
#[inline(always)]
pub(super) unsafe fn clear<S: Simd>(dst: *mut f32, len: usize) {
    let mut i = 0;
    while i + S::LANES <= len {
        // SAFETY: `i + LANES <= len`, so a whole vector from `i` on is inside the floats for which the
        // caller vouches. The caller vouches for the features too.
        unsafe { S::store(dst.add(i), S::zero()) };
        i += S::LANES;
    }
    if i < len {
        // SAFETY: the last `len - i < LANES` floats are inside the floats for which the caller vouches. The
        // caller vouches for the features too.
        unsafe { S::store_first(dst.add(i), S::zero(), len - i) };
    }
}
