//! A matrix that is packed once for many products with few rows each, such as the steps of a recurrence.

use super::isa::{Isa, Job, dispatch};
use super::pack::transpose;
use super::pool::{Shared, parallel};
use super::simd::{MAX_MR, MAX_WIDTH, clear, copy};
use super::tile::{Along, Out, Right, Run, SumEpilogue, Tiles};
use std::ops::Range;

/// What is added to a product.
#[derive(Clone, Copy, Debug)]
pub(in crate::backend::cpu) enum Addend<'a> {
    /// Nothing: the product replaces c.
    Nothing,
    /// The old c.
    Old,
    /// A matrix with the layout of c.
    Matrix(&'a [f32]),
}

/// A matrix `[k, n]` as panels of columns, with zeros after the last column.
#[derive(Clone, Copy, Debug)]
pub(in crate::backend::cpu) struct Panels<'a> {
    isa: Isa,
    packed: &'a [f32],
    k: usize,
    n: usize,
}

impl<'a> Panels<'a> {
    /// Number of floats of the panels of a `[k, n]` matrix, whatever the instruction set.
    pub(in crate::backend::cpu) fn packed_len(k: usize, n: usize) -> usize {
        k * n.next_multiple_of(MAX_WIDTH)
    }

    /// Packs `w`, stored `[k, n]`, into the front of `packed`.
    ///
    /// # Panics
    /// Panics if `w` does not have the extents or `packed` is too short.
    pub(in crate::backend::cpu) fn pack(isa: Isa, w: &[f32], extents: [usize; 2], packed: &'a mut [f32]) -> Self {
        Panels::pack_from(isa, w, extents, Source::Rows, packed)
    }

    /// Packs the matrix `[k, n]` of a backward pass. It consists of the transposes of the `taps` matrices in
    /// `w`, stored `[taps][n, k / taps]`, one below the other, with the last one first.
    ///
    /// # Panics
    /// Panics if `w` does not have the extents or `packed` is too short.
    pub(in crate::backend::cpu) fn pack_transposed(
        isa: Isa,
        w: &[f32],
        taps: usize,
        extents: [usize; 2],
        packed: &'a mut [f32],
    ) -> Self {
        assert!(extents[0].is_multiple_of(taps), "{taps} taps share {} rows", extents[0]);
        Panels::pack_from(isa, w, extents, Source::Transposed { taps }, packed)
    }

    fn pack_from(isa: Isa, w: &[f32], [k, n]: [usize; 2], source: Source, packed: &'a mut [f32]) -> Self {
        assert!(w.len() == k * n, "a {k}x{n} matrix has {} elements", w.len());
        let packed = &mut packed[..Panels::packed_len(k, n)];
        let to = Shared(packed.as_mut_ptr());
        parallel(n.div_ceil(MAX_WIDTH), |i| {
            let columns = i * MAX_WIDTH..n.min((i + 1) * MAX_WIDTH);
            // SAFETY: w and the packed panels have the lengths that were checked above, and only this task
            // writes the panels of these columns.
            unsafe { dispatch(isa, Pack { w, k, n, source, packed: to, columns }) };
        });
        Panels { isa, packed, k, n }
    }

    /// Computes `c = a w + addend` on the calling thread. a is `[rows, k]`, c is `[rows, n]`. Rows of a
    /// begin `lda` floats apart and may overlap; rows of c begin `ldc` floats apart. Each sum is one chain
    /// in the order of k, to which the addend is added at last.
    ///
    /// # Panics
    /// Panics if a slice is too short, or rows of c overlap.
    pub(in crate::backend::cpu) fn multiply(
        &self,
        rows: usize,
        (a, lda): (&[f32], usize),
        (c, ldc): (&mut [f32], usize),
        addend: Addend,
    ) {
        if rows == 0 {
            return;
        }
        assert!(a.len() >= (rows - 1) * lda + self.k, "a holds {rows} rows");
        assert!(c.len() >= (rows - 1) * ldc + self.n && (rows == 1 || ldc >= self.n), "c holds {rows} rows");
        if let Addend::Matrix(addend) = addend {
            assert!(addend.len() >= (rows - 1) * ldc + self.n, "the addend holds {rows} rows");
        }
        // SAFETY: a, c and the addend hold all rows, and rows of c do not overlap, as asserted above.
        // `packed` holds the panels, as `pack` has made them for this instruction set.
        unsafe { dispatch(self.isa, Multiply { panels: *self, a, lda, c, ldc, rows, addend }) };
    }
}

/// How the matrix to pack is stored.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// `[k, n]`
    Rows,
    /// `[taps][n, k / taps]`, the last tap first.
    Transposed { taps: usize },
}

/// Packs the panels of some columns, which begin at the first column of a panel.
struct Pack<'a> {
    w: &'a [f32],
    k: usize,
    n: usize,
    source: Source,
    packed: Shared,
    columns: Range<usize>,
}

impl Job for Pack<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Tiles>(self) {
        let Pack { w, k, n, source, packed, columns } = self;
        let width = 2 * S::LANES;
        for column in columns.clone().step_by(width) {
            let cols = width.min(columns.end - column);
            // SAFETY: `packed` holds `k * n.next_multiple_of(width)` floats, because `width` divides
            // `MAX_WIDTH`, and w holds `k * n` (`pack_from` checks both). Only this task writes these
            // panels. The processor has the features of `S` (contract of `Job::run`).
            unsafe {
                let dst = packed.add(column * k);
                match source {
                    Source::Transposed { taps } => {
                        let k = k / taps;
                        for tap in 0..taps {
                            let from = w.as_ptr().add(((taps - 1 - tap) * n + column) * k);
                            transpose::<S>(from, k, cols, k, dst.add(tap * k * width), width);
                        }
                    }
                    Source::Rows => {
                        for row in 0..k {
                            copy::<S>(dst.add(row * width), w.as_ptr().add(row * n + column), cols);
                            clear::<S>(dst.add(row * width + cols), width - cols);
                        }
                    }
                }
            }
        }
    }
}

struct Multiply<'a> {
    panels: Panels<'a>,
    a: &'a [f32],
    lda: usize,
    c: &'a mut [f32],
    ldc: usize,
    rows: usize,
    addend: Addend<'a>,
}

impl Job for Multiply<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Tiles>(self) {
        let Multiply { panels: Panels { packed, k, n, .. }, a, lda, c, ldc, rows, addend } = self;
        let width = 2 * S::LANES;
        // Tiles of equal height are faster than full tiles followed by one of few rows.
        let height = rows.div_ceil(rows.div_ceil(S::MR));
        let offsets: [usize; MAX_MR] = std::array::from_fn(|i| i * ldc);
        let runs = [Run { tap: 0, from: 0, to: k, row: 0 }];
        for column in (0..n).step_by(width) {
            let cols = width.min(n - column);
            for row in (0..rows).step_by(height) {
                let count = height.min(rows - row);
                let a: [*const f32; MAX_MR] = std::array::from_fn(|i| a.as_ptr().wrapping_add((row + i) * lda));
                // SAFETY: the tile reads the rows `row..row + count` of a and the panel of `column`, with
                // the zeros after its last column. It writes `cols` columns of these rows of c and reads
                // those of the addend. `multiply` has asserted that a, c and the addend hold them. The
                // processor has the features of `S` (contract of `Job::run`).
                unsafe {
                    let b = Right { b: packed.as_ptr().add(column * k), ldb: width };
                    let at = row * ldc + column;
                    let (add, epilogue) = match addend {
                        Addend::Nothing => (false, SumEpilogue::NONE),
                        Addend::Old => (true, SumEpilogue::NONE),
                        Addend::Matrix(addend) => (false, SumEpilogue::adding(addend.as_ptr().add(at))),
                    };
                    let out = Out { c: c.as_mut_ptr().add(at), rows: &offsets[..count], cols, add };
                    let tile = Along { a: a.as_ptr(), stride: 0, runs: &runs, b, out, epilogue };
                    S::along(count, cols.div_ceil(S::LANES))(&tile);
                }
            }
        }
    }
}
