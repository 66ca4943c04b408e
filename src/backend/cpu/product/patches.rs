//! The patches of the source that output pixels multiply, as the register tiles read them: through pointers.
//! [`Patches`] says how.
//!
//! Where windows overlap, what they see is copied with its padding (`frame.rs`), and there is one pointer
//! per pixel. Where they do not, there is one pointer per pixel and tap, which leads directly into the
//! source, or to zeros for padding. Two cases need a copy of the patches, in which all taps of a pixel are
//! one row (im2col). If the source has few channels, a tap is too short for a loop. If rows are a multiple
//! of half a page apart, they would evict each other from the L1 cache.

use super::frame;
use super::gather::Phase;
use super::pool::LINE;
use super::simd::{Simd, clear, copy, prefetch};
use super::tile::Piece;
use std::ops::Range;

/// How the rows of a phase are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patches {
    /// Rows are read in place: the offset of row 0 in the source, and the distance from one row to the next.
    InPlace { offset: usize, step: usize },
    /// Rows are read from a frame, one run of floats per row of taps.
    Framed,
    /// Rows are read from the source, tap by tap.
    Taps,
    /// Rows are read from a copy.
    Copied,
}

/// Number of pixels that the source is prefetched ahead while patches are copied, and most floats per pixel.
const PIXELS_AHEAD: usize = 2;
const PREFETCHED: usize = 512;

/// Fewest channels for which a tap is worth a loop.
const MIN_CHANNELS: usize = 16;

impl Patches {
    /// Chooses how the rows of a phase are read, with at most `max_taps` pointers per pixel, and frames of
    /// `pixels` pixels that have at most `frame` floats.
    pub(super) fn of(phase: &Phase, max_taps: usize, pixels: usize, frame: usize) -> Patches {
        let (k, channels) = (phase.k(), phase.gather.source_channels());
        let is_framed = || {
            let len = frame::max_len(phase, pixels);
            len <= frame && 2 * len <= pixels * k && phase.axes[0].taps <= max_taps
        };
        match phase.in_place() {
            Some((offset, step)) if step % 512 != 0 || k < 2 * LINE => Patches::InPlace { offset, step },
            None if is_framed() => Patches::Framed,
            None if channels >= MIN_CHANNELS && k <= max_taps * channels => Patches::Taps,
            _ => Patches::Copied,
        }
    }

    /// The pieces of k, in order.
    pub(super) fn pieces(&self, phase: &Phase) -> impl Iterator<Item = Piece> {
        let (patches, phase) = (*self, *phase);
        let (k, channels) = (phase.k(), phase.gather.source_channels());
        let (count, framed) = match patches {
            Patches::InPlace { .. } | Patches::Copied => (1, 0),
            Patches::Taps => (k / channels, 0),
            Patches::Framed => (phase.axes[0].taps, frame::row_len(&phase)),
        };
        let mut start = 0;
        (0..count).map(move |i| {
            let (tap, at, len) = match patches {
                Patches::InPlace { .. } | Patches::Copied => (0, 0, k),
                Patches::Taps => (i, 0, channels),
                Patches::Framed => {
                    let (low, high) = phase.run(i);
                    (0, i * framed + low * channels, (high - low) * channels)
                }
            };
            start += len;
            Piece { tap, at, k: start - len..start }
        })
    }

    /// Floats of each pixel that are read for it alone. Neighbouring pixels share all but one tap, unless
    /// patches are copied.
    pub(super) fn own_floats(&self, phase: &Phase) -> usize {
        match self {
            Patches::Framed | Patches::Taps => phase.gather.source_channels(),
            _ => phase.k(),
        }
    }
}

/// Distance between copied rows: an odd number of cache lines, so that neighbouring rows fall into different
/// sets.
pub(super) fn padded(k: usize) -> usize {
    (k.div_ceil(LINE) | 1) * LINE
}

/// Writes pointers to equally spaced rows into a table.
///
/// # Safety
/// `table` has room for `count` pointers.
#[inline(always)]
pub(super) unsafe fn point_at_rows(table: *mut *const f32, first: *const f32, step: usize, count: usize) {
    // The compiler makes vectors of this loop, but not if a pointer is the one before plus the step.
    for i in 0..count {
        // SAFETY: `i < count`, and the table has room for `count` pointers (contract of this function).
        unsafe { *table.add(i) = first.wrapping_add(i * step) };
    }
}

/// Writes pointers to the channels under the taps `taps` (counted along K) of the patches of `pixels`. The
/// pointer for tap `t` of pixel `p` is `table[(t - taps.start) * stride + p - pixels.start]`. If the tap is
/// in the padding, the pointer is `zeros`.
///
/// # Safety
/// `table` has room for them; `source` is a whole source tensor.
#[inline(always)]
pub(super) unsafe fn point_at_taps(
    phase: &Phase,
    source: *const f32,
    zeros: *const f32,
    pixels: Range<usize>,
    taps: Range<usize>,
    table: *mut *const f32,
    stride: usize,
) {
    let [r, c] = &phase.axes;
    let [h, w] = phase.gather.source_size();
    let channels = phase.gather.source_channels();
    let mut next = 0;
    for t in 0..r.taps {
        let (low, high) = phase.run(t);
        let first = next;
        next += high - low;
        let taps_of_row = taps.start.max(first)..taps.end.min(next);
        if taps_of_row.is_empty() {
            continue;
        }
        for line in phase.lines(pixels.clone()) {
            let y = r.source + (line.row * r.source_step + t) as isize;
            let is_inside = (0..h as isize).contains(&y);
            let row = source.wrapping_offset(((line.image * h) as isize + y) * (w * channels) as isize);
            for tap in taps_of_row.clone() {
                let x = c.source + (line.column * c.source_step + low + tap - first) as isize;
                let inside = if is_inside { fits(x, c.source_step, 1, w, line.pixels.len()) } else { 0..0 };
                // SAFETY: each pixel of the line has its own place in the table, which has room for all of
                // them (contract of this function). Pointers are only computed here, not dereferenced; those
                // of taps inside the image stay inside the source.
                unsafe {
                    let table = table.add((tap - taps.start) * stride + line.pixels.start);
                    let first = row.wrapping_offset(x * channels as isize);
                    point_at_rows(table, first, c.source_step * channels, line.pixels.len());
                    (0..inside.start).for_each(|i| *table.add(i) = zeros);
                    (inside.end..line.pixels.len()).for_each(|i| *table.add(i) = zeros);
                }
            }
        }
    }
}

/// The range of those of `count` windows that are inside an image of width `w`. Each window has `len`
/// columns. The first one begins at `x`, and each next one `step` columns further right.
#[inline(always)]
pub(super) fn fits(x: isize, step: usize, len: usize, w: usize, count: usize) -> Range<usize> {
    // A division takes longer than the rest, and most steps are 1.
    let steps = |columns: usize| if step == 1 { columns } else { columns / step };
    let low = steps((-x).max(0) as usize + step - 1).min(count);
    let room = w as isize - len as isize - x;
    let high = if room < 0 { low } else { (steps(room as usize) + 1).clamp(low, count) };
    low..high
}

/// Copies the part `k` of the patches of `pixels` from `source` to rows of `dst` that are `ld` floats apart,
/// with zeros for the padding.
///
/// # Safety
/// The processor has the features of `S`; `source` is a whole source tensor; `dst` has `pixels.len()` rows.
#[inline(always)]
pub(super) unsafe fn im2col<S: Simd>(
    phase: &Phase,
    source: *const f32,
    pixels: Range<usize>,
    k: Range<usize>,
    dst: *mut f32,
    ld: usize,
) {
    let [r, c] = &phase.axes;
    let [h, w] = phase.gather.source_size();
    let channels = phase.gather.source_channels();
    for line in phase.lines(pixels) {
        let mut next = 0;
        for t in 0..r.taps {
            // The taps of a row of the kernel are one run of floats, in K and in the source.
            let (low, high) = phase.run(t);
            let run = next..next + (high - low) * channels;
            next = run.end;
            let from = k.start.max(run.start);
            let to = k.end.min(run.end);
            if from >= to {
                continue;
            }
            let part = from - run.start..to - run.start;
            let y = r.source + (line.row * r.source_step + t) as isize;
            let x = c.source + (line.column * c.source_step + low) as isize;
            // SAFETY: `dst` has a row for each pixel (contract of this function), and copies are clipped to
            // the row of the image. The processor has the features of `S`.
            unsafe {
                let dst = dst.add(line.pixels.start * ld + from - k.start);
                if y < 0 || y >= h as isize {
                    for i in 0..line.pixels.len() {
                        clear::<S>(dst.add(i * ld), part.len());
                    }
                    continue;
                }
                let row = source.add((line.image * h + y as usize) * w * channels);
                let inside = fits(x, c.source_step, high - low, w, line.pixels.len());
                for i in (0..inside.start).chain(inside.end..line.pixels.len()) {
                    let start = (x + (i * c.source_step) as isize) * channels as isize;
                    copy_clipped::<S>(row, w * channels, start, part.clone(), dst.add(i * ld));
                }
                let first = row.wrapping_offset(x * channels as isize).wrapping_add(part.start);
                for i in inside {
                    let ahead = first.wrapping_add((i + PIXELS_AHEAD) * c.source_step * channels);
                    prefetch(ahead, part.len().min(PREFETCHED));
                    copy::<S>(dst.add(i * ld), first.wrapping_add(i * c.source_step * channels), part.len());
                }
            }
        }
    }
}

/// Copies the floats `part` of a run that begins at position `start` of a row of `len` floats. Writes zeros
/// for floats outside the row.
///
/// # Safety
/// The processor has the features of `S`; `row` has `len` floats, `dst` room for the part.
#[inline(always)]
unsafe fn copy_clipped<S: Simd>(row: *const f32, len: usize, start: isize, part: Range<usize>, dst: *mut f32) {
    let (from, to) = (part.start as isize, part.end as isize);
    let begin = (-start).clamp(from, to);
    let end = (len as isize - start).clamp(begin, to);
    // SAFETY: `from <= begin <= end <= to`, so writes are inside the part, for which `dst` has room. The
    // range `start + begin..start + end` is inside the row unless it is empty. The processor has the
    // features of `S`.
    unsafe {
        clear::<S>(dst, (begin - from) as usize);
        copy::<S>(dst.offset(begin - from), row.wrapping_offset(start + begin), (end - begin) as usize);
        clear::<S>(dst.offset(end - from), (to - end) as usize);
    }
}
