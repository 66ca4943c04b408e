//! The parts of k: which floats of A a register tile reads for them, and which of them a panel of columns
//! sums over.

use std::ops::Range;

/// A part of k whose floats of A are neighbours behind one pointer, for every row of a tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Index of the row's pointer.
    pub(super) tap: usize,
    /// The first float, counted from the pointer.
    pub(super) at: usize,
    pub(super) k: Range<usize>,
}

/// A range of k within one piece.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Run {
    /// Index of the row's pointer.
    pub(super) tap: usize,
    /// The first float behind the pointer, and the float after the last one.
    pub(super) from: usize,
    pub(super) to: usize,
    /// The row of B for the first float.
    pub(super) row: usize,
}

/// The ranges of k that a panel of columns sums over. The closed channels between them are skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segments {
    ranges: [[usize; 2]; Segments::MAX],
    len: usize,
}

impl Segments {
    /// Most ranges. If there are more, ranges are joined; the closed weights between them are zeros in B.
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

    /// The ranges, cut at the boundaries of pieces. There is at most one run more per range than there are
    /// pieces.
    pub(super) fn runs<'a>(&self, pieces: impl Iterator<Item = Piece>, runs: &'a mut [Run]) -> &'a [Run] {
        let mut count = 0;
        for Piece { tap, at, k } in pieces {
            for [low, high] in &self.ranges[..self.len] {
                let (low, high) = ((*low).max(k.start), (*high).min(k.end));
                if low < high {
                    runs[count] = Run { tap, from: at + low - k.start, to: at + high - k.start, row: low };
                    count += 1;
                }
            }
        }
        &runs[..count]
    }
}
