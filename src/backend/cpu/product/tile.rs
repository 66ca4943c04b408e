//! The register tile: the innermost loop of every product.
//!
//! Computes `c[i, j] (+)= sum over k of a(i, k) * b[k, j]` for up to `MR` rows and `2 * LANES` columns, all sums in
//! registers. A is read through pointers, one float at a time, and broadcast; B as vectors. There are two forms: k runs
//! [`Along`] what the pointers of A lead to (channels of a pixel: a convolution), or [`Across`] the pointers (pixels: a
//! weight gradient). Through pointers, patches of an image are rows of a matrix without being copied, and padding is a
//! pointer to zeros.
//!
//! Bound by the FMA units: a 14x32 step of AVX-512 does 28 FMAs (14 cycles on two units) against 16 loads, and reaches
//! 95 % and more of their peak with A and B in the L2 cache.
//!
//! Every element of C is one chain of FMAs in the order of k, whatever the tile: the choice of tile, block or thread
//! cannot change a bit of the result.

#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::simd::{Portable, Simd};

/// A range of k within one tap.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Run {
    /// Which of the pointers of a row.
    pub(super) tap: usize,
    /// First channel and the one after the last.
    pub(super) from: usize,
    pub(super) to: usize,
}

/// Ranges of k that one panel of columns sums over: closed channels in between are skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segments {
    ranges: [[usize; 2]; Segments::MAX],
    len: usize,
}

impl Segments {
    /// More ranges than this are joined (closed weights in between are zeros in B).
    pub(super) const MAX: usize = 6;

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

    /// The end of the last range.
    pub(super) fn end(&self) -> usize {
        self.ranges[..self.len].last().map_or(0, |range| range[1])
    }

    /// The ranges cut at the taps, of which there are `taps` with `channels` k each; at most `taps + MAX`.
    pub(super) fn runs<'a>(&self, taps: usize, channels: usize, runs: &'a mut [Run]) -> &'a [Run] {
        let mut count = 0;
        for tap in 0..taps {
            let (start, end) = (tap * channels, (tap + 1) * channels);
            for [low, high] in &self.ranges[..self.len] {
                let (low, high) = ((*low).max(start), (*high).min(end));
                if low < high {
                    runs[count] = Run { tap, from: low - start, to: high - start };
                    count += 1;
                }
            }
        }
        &runs[..count]
    }
}

/// Where a tile of C goes.
pub(super) struct Out<'a> {
    /// Where the columns of the tile start: row `i` begins at `c + rows[i]`.
    pub(super) c: *mut f32,
    /// Offset of each row; as many as the tile has rows.
    pub(super) rows: &'a [usize],
    /// Columns to write.
    pub(super) cols: usize,
    /// Whether to add to what is in C.
    pub(super) add: bool,
}

/// B as `[k, columns]`.
#[derive(Clone, Copy)]
pub(super) struct Right {
    /// `b[0, 0]`.
    pub(super) b: *const f32,
    /// Floats between rows; whole vectors are read from each.
    pub(super) ldb: usize,
}

/// A tile for which k runs along what the pointers of A lead to, tap after tap.
pub(super) struct Along<'a> {
    /// `a(i, tap t, channel c) = a[t * stride + i][c]`.
    pub(super) a: *const *const f32,
    pub(super) stride: usize,
    /// Rows of B for each tap.
    pub(super) channels: usize,
    /// What to sum over, in order.
    pub(super) runs: &'a [Run],
    pub(super) b: Right,
    pub(super) out: Out<'a>,
}

/// A tile for which k runs across the pointers of A.
pub(super) struct Across<'a> {
    /// `a(i, k) = a[k][first + i]`.
    pub(super) a: *const *const f32,
    pub(super) first: usize,
    /// How many k.
    pub(super) steps: usize,
    pub(super) b: Right,
    pub(super) out: Out<'a>,
}

/// Register tiles compiled for one instruction set and size.
pub(super) type AlongFn = unsafe fn(&Along<'_>);
/// Register tiles compiled for one instruction set and size.
pub(super) type AcrossFn = unsafe fn(&Across<'_>);

/// A [`Simd`] with its register tiles, of `mr` rows (1 to `MR`) and `nv` vectors (1 or 2) a row.
pub(super) trait Tiles: Simd {
    /// The tile with k along the pointers.
    fn along(mr: usize, nv: usize) -> AlongFn;
    /// The tile with k across the pointers.
    fn across(mr: usize, nv: usize) -> AcrossFn;
}

/// Repeats a block for each row of the tile with a constant index, so that the sums are registers and never an array.
macro_rules! each_row {
    ($mr:expr, $i:ident, $body:block) => { each_row!(@ $mr, $i, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13) };
    (@ $mr:expr, $i:ident, $body:block, $($n:literal)*) => {
        $({
            let $i: usize = $n;
            if $i < $mr $body
        })*
    };
}

/// One step of k: `$acc[i][j] += $a(i) * b[j]`. Not unrolled: a step is long enough to hide the loop, and the compiler
/// would hoist the broadcasts of later steps and push sums out of the registers.
macro_rules! step {
    ($s:ty, $mr:ident, $nv:ident, $acc:ident, $b:expr, |$i:ident| $a:expr) => {{
        let b: [<$s>::V; $nv] = std::array::from_fn(|j| <$s>::load($b.add(j * <$s>::LANES)));
        each_row!($mr, $i, {
            let a = <$s>::splat($a);
            for j in 0..$nv {
                $acc[$i][j] = <$s>::fma(a, b[j], $acc[$i][j]);
            }
        });
    }};
}

#[inline(always)]
unsafe fn along<S: Simd, const MR: usize, const NV: usize>(t: &Along<'_>) {
    // SAFETY: the caller vouches for A, B and C.
    unsafe {
        let mut acc = [[S::zero(); NV]; MR];
        for run in t.runs {
            let table = t.a.add(run.tap * t.stride);
            let mut b = t.b.b.add((run.tap * t.channels + run.from) * t.b.ldb);
            if S::steps_along(&mut acc, table, Right { b, ..t.b }, run.from..run.to) {
                continue;
            }
            let mut a = [std::ptr::null(); MR];
            each_row!(MR, i, {
                a[i] = *table.add(i);
            });
            for k in run.from..run.to {
                step!(S, MR, NV, acc, b, |i| a[i].add(k));
                b = b.add(t.b.ldb);
            }
        }
        finish::<S, MR, NV>(acc, &t.out);
    }
}

#[inline(always)]
unsafe fn across<S: Simd, const MR: usize, const NV: usize>(t: &Across<'_>) {
    // SAFETY: the caller vouches for A, B and C.
    unsafe {
        let mut acc = [[S::zero(); NV]; MR];
        if !S::steps_across(&mut acc, t.a, t.first, t.b, t.steps) {
            let mut b = t.b.b;
            for k in 0..t.steps {
                let a = (*t.a.add(k)).wrapping_add(t.first);
                step!(S, MR, NV, acc, b, |i| a.add(i));
                b = b.add(t.b.ldb);
            }
        }
        finish::<S, MR, NV>(acc, &t.out);
    }
}

/// Writes the sums, or adds them.
#[inline(always)]
unsafe fn finish<S: Simd, const MR: usize, const NV: usize>(acc: [[S::V; NV]; MR], out: &Out<'_>) {
    assert!(out.rows.len() == MR && out.cols <= NV * S::LANES && out.cols > (NV - 1) * S::LANES);
    let tail = out.cols - (NV - 1) * S::LANES;
    // SAFETY: the caller vouches for C; `rows` has MR entries.
    unsafe {
        each_row!(MR, i, {
            for (j, sum) in acc[i].into_iter().enumerate() {
                let p = out.c.add(out.rows[i] + j * S::LANES);
                if tail == S::LANES || j + 1 < NV {
                    S::store(p, if out.add { S::add(S::load(p), sum) } else { sum });
                } else {
                    let sum = if out.add { S::add(S::load_first(p, tail), sum) } else { sum };
                    S::store_first(p, sum, tail);
                }
            }
        });
    }
}

/// Implements [`Tiles`]: one function for each number of rows up to `MR`, compiled with the features.
macro_rules! tiles {
    ($isa:ident, $feature:meta, $($mr:literal)*) => {
        impl Tiles for $isa {
            #[inline(always)]
            fn along(mr: usize, nv: usize) -> AlongFn {
                #[$feature]
                unsafe fn run<const MR: usize, const NV: usize>(t: &Along<'_>) {
                    // SAFETY: passed on to the caller; the features are enabled here.
                    unsafe { along::<$isa, MR, NV>(t) }
                }
                static TABLE: [[AlongFn; $isa::MR]; 2] = [[$(run::<$mr, 1>),*], [$(run::<$mr, 2>),*]];
                TABLE[nv - 1][mr - 1]
            }

            #[inline(always)]
            fn across(mr: usize, nv: usize) -> AcrossFn {
                #[$feature]
                unsafe fn run<const MR: usize, const NV: usize>(t: &Across<'_>) {
                    // SAFETY: passed on to the caller; the features are enabled here.
                    unsafe { across::<$isa, MR, NV>(t) }
                }
                static TABLE: [[AcrossFn; $isa::MR]; 2] = [[$(run::<$mr, 1>),*], [$(run::<$mr, 2>),*]];
                TABLE[nv - 1][mr - 1]
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
tiles!(Avx512, target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"), 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
#[cfg(target_arch = "x86_64")]
tiles!(Avx2, target_feature(enable = "avx2,fma"), 1 2 3 4 5 6);
tiles!(Portable, inline, 1 2 3 4);
