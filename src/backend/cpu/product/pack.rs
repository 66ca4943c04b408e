//! Packs weights into panels: blocks `[K, 2 * LANES]` of consecutive output channels, with zeros after the
//! last channel and in place of closed weights. Weights are read once and written once per call, so packing
//! is bound by memory.

use super::gather::{Direction, Phase};
use super::isa::{Job, Target, dispatch};
use super::pool::{Shared, parallel};
use super::simd::{Simd, clear, copy, prefetch};
use super::tile::Tiles;
use crate::backend::cpu::team;
use crate::tape::geometry::ConvGeom;
use std::ops::Range;

/// Number of rows that weights are prefetched ahead. Their rows can be a page or more apart, and the
/// hardware prefetcher does not cross pages.
const ROWS_AHEAD: usize = 16;

/// Packs the output channels `columns` of a phase: `dst[k * width + column]`.
///
/// # Safety
/// The processor has the features of `S`; `w` is a whole weight tensor; `dst` has `phase.k() * width` floats
/// and `columns.len() <= width`.
#[inline(always)]
pub(super) unsafe fn panel<S: Simd>(phase: &Phase, w: *const f32, columns: Range<usize>, dst: *mut f32, width: usize) {
    let g = phase.gather.geom;
    let cols = columns.len();
    for (k, i, j) in phase.taps() {
        let tap = (i * g.kw + j) * g.cin;
        // SAFETY: the accesses are to the tap's channels, which are inside w and, at `k * width`, inside the
        // panel (contract of this function). The processor has the features of `S`.
        unsafe {
            let dst = dst.add(k * width);
            match phase.gather.direction {
                Direction::Forward => {
                    for ci in 0..g.cin {
                        prefetch(w.wrapping_add((tap + ci + ROWS_AHEAD) * g.cout + columns.start), cols);
                        copy::<S>(dst.add(ci * width), w.add((tap + ci) * g.cout + columns.start), cols);
                        clear::<S>(dst.add(ci * width + cols), width - cols);
                    }
                }
                Direction::Backward => {
                    transpose::<S>(w.add((tap + columns.start) * g.cout), g.cout, cols, g.cout, dst, width);
                }
            }
        }
    }
    let (_, closed) = phase.segments(columns.clone());
    if let Some(k) = phase.centre().filter(|_| closed) {
        // SAFETY: the centre tap's rows of the panel begin at `k * width` and are inside `dst` (contract of
        // this function). The processor has the features of `S`.
        unsafe { close::<S>(&phase.gather.geom, phase.gather.direction, columns, dst.add(k * width), width) };
    }
}

/// Writes zeros in place of the closed weights of the centre tap.
#[inline(always)]
unsafe fn close<S: Simd>(g: &ConvGeom, direction: Direction, columns: Range<usize>, dst: *mut f32, width: usize) {
    let open = |co| g.centre_channels(co);
    // SAFETY: the caller's panel has the rows of all source channels of the centre tap, and the processor
    // has the features of `S`.
    unsafe {
        match direction {
            Direction::Forward => {
                for (j, co) in columns.enumerate() {
                    for ci in open(co)..g.cin {
                        *dst.add(ci * width + j) = 0.0;
                    }
                }
            }
            Direction::Backward => {
                for co in 0..g.cout {
                    let first = open(co).clamp(columns.start, columns.end);
                    clear::<S>(dst.add(co * width + first - columns.start), columns.end - first);
                }
            }
        }
    }
}

/// `dst[c * width + r] = src[r * ld + c]`, zeros for the rows up to `width`.
///
/// # Safety
/// The processor has the features of `S`; `src` has `rows` rows of `cols` floats, `dst` `cols` rows of
/// `width >= rows`.
#[inline(always)]
pub(super) unsafe fn transpose<S: Simd>(
    src: *const f32,
    ld: usize,
    rows: usize,
    cols: usize,
    dst: *mut f32,
    width: usize,
) {
    // SAFETY: all indices are below the extents `rows`, `cols` and `width`, for which the caller vouches.
    // The processor has the features of `S`.
    unsafe {
        for c0 in (0..cols).step_by(16) {
            for r in 0..rows {
                for c in c0..(c0 + 16).min(cols) {
                    *dst.add(c * width + r) = *src.add(r * ld + c);
                }
            }
        }
        for c in 0..cols {
            clear::<S>(dst.add(c * width + rows), width - rows);
        }
    }
}

/// `dst[c, r] = src[r, c]` for a whole matrix of `[rows, cols]`, in parallel.
///
/// # Panics
/// Panics if a slice is too short.
#[track_caller]
pub(super) fn transpose_all(target: Target, src: &[f32], [rows, cols]: [usize; 2], dst: &mut [f32]) {
    assert!(src.len() >= rows * cols && dst.len() >= rows * cols, "a matrix to transpose is too short");
    let dst = Shared(dst.as_mut_ptr());
    let columns = cols.div_ceil(team::threads()).next_multiple_of(16).max(16);
    parallel(cols.div_ceil(columns), |i| {
        let columns = i * columns..cols.min((i + 1) * columns);
        // SAFETY: `src` and `dst` hold the whole matrix, as asserted above, and each task writes other rows
        // of dst.
        unsafe { dispatch(target, Transpose { src, rows, cols, dst, columns }) }
    });
}

/// Transposes some columns of a matrix.
struct Transpose<'a> {
    src: &'a [f32],
    rows: usize,
    cols: usize,
    dst: Shared,
    columns: Range<usize>,
}

impl Job for Transpose<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Tiles>(self) {
        let Transpose { src, rows, cols, dst, columns } = self;
        let start = columns.start;
        // SAFETY: the caller has checked the lengths of both matrices, and only this task writes these rows
        // of dst. The processor has the features of `S` (contract of `Job::run`).
        unsafe {
            transpose::<S>(src.as_ptr().add(start), cols, rows, columns.len(), dst.add(start * rows), rows);
        }
    }
}
