//! The register tile: the innermost loop of every product.
//!
//! Computes `c[i, j] (+)= sum over k of a(i, k) * b[k, j]` for up to `MR` rows and `2 * LANES` columns, all sums in
//! registers. A is read one float at a time and broadcast, in either order (rows of pixels for a product, columns of
//! pixels for a weight gradient), B as vectors. Nothing is transposed or interleaved beforehand.
//!
//! Bound by the FMA units: a 14x32 step of AVX-512 does 28 FMAs (14 cycles on two units) against 16 loads.
//!
//! Every element of C is one chain of FMAs in the order of k, whatever the tile: the choice of tile, block or thread
//! cannot change a bit of the result.

#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::simd::{Portable, Simd};

/// Ranges of k that one panel of columns sums over: closed channels in between are skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segments {
    ranges: [[usize; 2]; Segments::MAX],
    len: usize,
}

impl Segments {
    /// More ranges than this are joined (closed weights in between are zeros in B).
    const MAX: usize = 6;

    /// No k at all.
    pub(super) const EMPTY: Segments = Segments { ranges: [[0; 2]; Segments::MAX], len: 0 };

    /// One range.
    pub(super) fn one(start: usize, end: usize) -> Segments {
        let mut all = Segments::EMPTY;
        all.push(start, end);
        all
    }

    /// Appends a range that starts at or after the end of the last one.
    pub(super) fn push(&mut self, start: usize, end: usize) {
        if start >= end {
            return;
        }
        match self.ranges[..self.len].last_mut() {
            Some(last) if last[1] == start || self.len == Segments::MAX => last[1] = end,
            _ => {
                self.ranges[self.len] = [start, end];
                self.len += 1;
            }
        }
    }

    /// The ranges in order.
    pub(super) fn as_slice(&self) -> &[[usize; 2]] {
        &self.ranges[..self.len]
    }
}

/// One call of the register tile.
pub(super) struct Tile<'a> {
    /// `a(0, 0)`.
    pub(super) a: *const f32,
    /// Floats between rows of A as stored: pixels where k runs along the row, steps of k where it runs across.
    pub(super) lda: usize,
    /// `b[0, 0]`.
    pub(super) b: *const f32,
    /// Floats between rows of B; whole vectors are read from each.
    pub(super) ldb: usize,
    /// Where the columns of C start: row `i` begins at `c + rows[i]`.
    pub(super) c: *mut f32,
    /// Offset of each row of C; one for each row of the tile.
    pub(super) rows: &'a [usize],
    /// Columns to write.
    pub(super) cols: usize,
    /// What to sum over.
    pub(super) segments: &'a [[usize; 2]],
    /// Whether to start from what is in C rather than from zero.
    pub(super) resume: bool,
}

/// A register tile compiled for one instruction set and size.
pub(super) type TileFn = unsafe fn(&Tile<'_>);

/// A [`Simd`] with its register tiles.
pub(super) trait Tiles: Simd {
    /// The tile of `mr` rows (1 to `MR`) and `nv` vectors (1 or 2) a row. `across`: k runs across the rows of A as stored.
    fn tile(mr: usize, nv: usize, across: bool) -> TileFn;
}

#[inline(always)]
unsafe fn tile<S: Simd, const MR: usize, const NV: usize, const ACROSS: bool>(t: &Tile<'_>) {
    debug_assert!(t.rows.len() == MR && t.cols <= NV * S::LANES);
    // SAFETY: the caller vouches for A, B and C; `rows` has MR entries.
    unsafe {
        let mut acc = [[S::zero(); NV]; MR];
        let full = t.cols == NV * S::LANES;
        let tail = t.cols - (NV - 1) * S::LANES;
        if t.resume {
            for (sums, &row) in acc.iter_mut().zip(t.rows) {
                for (j, sum) in sums.iter_mut().enumerate() {
                    let p = t.c.add(row + j * S::LANES);
                    *sum = if full || j + 1 < NV { S::load(p) } else { S::load_first(p, tail) };
                }
            }
        }
        let step = |acc: &mut [[S::V; NV]; MR], a: *const f32, b: *const f32| {
            let b: [S::V; NV] = std::array::from_fn(|j| S::load(b.add(j * S::LANES)));
            for (i, sums) in acc.iter_mut().enumerate() {
                let a = S::splat(if ACROSS { a.add(i) } else { a.add(i * t.lda) });
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum = S::fma(a, b, *sum);
                }
            }
        };
        let a_step = if ACROSS { t.lda } else { 1 };
        for &[start, end] in t.segments {
            let (mut a, mut b) = (t.a.add(start * a_step), t.b.add(start * t.ldb));
            for _ in 0..(end - start) / 4 {
                for u in 0..4 {
                    step(&mut acc, a.add(u * a_step), b.add(u * t.ldb));
                }
                (a, b) = (a.add(4 * a_step), b.add(4 * t.ldb));
            }
            for u in 0..(end - start) % 4 {
                step(&mut acc, a.add(u * a_step), b.add(u * t.ldb));
            }
        }
        for (sums, &row) in acc.iter().zip(t.rows) {
            for (j, &sum) in sums.iter().enumerate() {
                let p = t.c.add(row + j * S::LANES);
                if full || j + 1 < NV { S::store(p, sum) } else { S::store_first(p, sum, tail) }
            }
        }
    }
}

/// Implements [`Tiles`]: one function for each number of rows up to `MR`, compiled with the features.
macro_rules! tiles {
    ($isa:ident, $feature:meta, $($mr:literal)*) => {
        impl Tiles for $isa {
            #[inline(always)]
            fn tile(mr: usize, nv: usize, across: bool) -> TileFn {
                #[$feature]
                unsafe fn run<const MR: usize, const NV: usize, const ACROSS: bool>(t: &Tile<'_>) {
                    // SAFETY: passed on to the caller; the features are enabled here.
                    unsafe { tile::<$isa, MR, NV, ACROSS>(t) }
                }
                static TABLE: [[[TileFn; $isa::MR]; 2]; 2] = [
                    [[$(run::<$mr, 1, false>),*], [$(run::<$mr, 2, false>),*]],
                    [[$(run::<$mr, 1, true>),*], [$(run::<$mr, 2, true>),*]],
                ];
                TABLE[usize::from(across)][nv - 1][mr - 1]
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
tiles!(Avx512, target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"), 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
#[cfg(target_arch = "x86_64")]
tiles!(Avx2, target_feature(enable = "avx2,fma"), 1 2 3 4 5 6);
tiles!(Portable, inline, 1 2 3 4);
