//! The rows of patches that output pixels multiply, as the register tiles read them: through pointers, one
//! for each pixel and tap, straight into the source. Padding is a pointer to zeros. So nothing is copied.
//!
//! Two cases need a copy. With fewer channels than a vector has lanes (the first layer) a tap is too short
//! to loop over, and all taps of a pixel are copied into one row (im2col). And rows that lie a multiple of
//! half a page apart would evict each other from the L1 cache.

use super::gather::Phase;
use super::pool::LINE;
use super::simd::{Simd, clear, copy, prefetch};
use std::ops::Range;

/// How the rows of a phase are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patches {
    /// As they lie in the source: the offset of row 0, and from one to the next.
    InPlace { offset: usize, step: usize },
    /// Tap by tap from the source.
    Taps,
    /// From a copy.
    Copied,
}

/// How many pixels ahead the source is prefetched while patches are copied, and the most floats of each.
const PIXELS_AHEAD: usize = 2;
const PREFETCHED: usize = 512;

/// Fewest channels for which a tap is worth a loop.
const MIN_CHANNELS: usize = 16;

impl Patches {
    /// The way for a phase that has at most `max_taps` pointers for each pixel.
    pub(super) fn of(phase: &Phase, max_taps: usize) -> Patches {
        let (k, channels) = (phase.k(), phase.gather.source_channels());
        match phase.in_place() {
            Some((offset, step)) if step % 512 != 0 || k < 2 * LINE => Patches::InPlace { offset, step },
            None if channels >= MIN_CHANNELS && k <= max_taps * channels => Patches::Taps,
            _ => Patches::Copied,
        }
    }

    /// Pointers for each pixel, and how many floats each leads to.
    pub(super) fn taps(&self, phase: &Phase) -> (usize, usize) {
        let (k, channels) = (phase.k(), phase.gather.source_channels());
        match self {
            Patches::Taps => (k / channels, channels),
            _ => (1, k),
        }
    }
}

/// Distance between copied rows: an odd number of cache lines, so that neighbouring rows fall into different
/// sets.
pub(super) fn padded(k: usize) -> usize {
    (k.div_ceil(LINE) | 1) * LINE
}

/// Pointers to equally spaced rows.
///
/// # Safety
/// `table` has room for `count` pointers.
pub(super) unsafe fn point_at_rows(table: *mut *const f32, first: *const f32, step: usize, count: usize) {
    for i in 0..count {
        // SAFETY: within the table.
        unsafe { *table.add(i) = first.wrapping_add(i * step) };
    }
}

/// Pointers to the channels under the taps `taps` (counted along K) of the patches of `pixels`: tap `t` of
/// pixel `p` goes to `table[(t - taps.start) * stride + p - pixels.start]`; where it is padding, it is
/// `zeros`.
///
/// # Safety
/// `table` has room for them; `source` is a whole source tensor.
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
    let mut tap = 0;
    for t in 0..r.taps {
        let (low, high) = phase.run(t);
        for u in low..high {
            tap += 1;
            if !taps.contains(&(tap - 1)) {
                continue;
            }
            for line in phase.lines(pixels.clone()) {
                let y = r.source + (line.row * r.source_step + t) as isize;
                let x = c.source + (line.column * c.source_step + u) as isize;
                let inside =
                    if y < 0 || y >= h as isize { 0..0 } else { fits(x, c.source_step, 1, w, line.pixels.len()) };
                // SAFETY: one place of the table for each pixel; pointers of pixels inside stay in the
                // source.
                unsafe {
                    let table = table.add((tap - 1 - taps.start) * stride + line.pixels.start);
                    (0..inside.start).for_each(|i| *table.add(i) = zeros);
                    let row = (line.image * h) as isize + y;
                    let first = source.wrapping_offset((row * w as isize + x) * channels as isize);
                    for i in inside.clone() {
                        *table.add(i) = first.wrapping_add(i * c.source_step * channels);
                    }
                    (inside.end..line.pixels.len()).for_each(|i| *table.add(i) = zeros);
                }
            }
        }
    }
}

/// Which of `count` windows of `len` columns lie inside an image of width `w`, if the first begins at `x`
/// and each next one `step` further.
pub(super) fn fits(x: isize, step: usize, len: usize, w: usize, count: usize) -> Range<usize> {
    let low = ((-x).max(0) as usize).div_ceil(step).min(count);
    let room = w as isize - len as isize - x;
    let high = if room < 0 { low } else { (room as usize / step + 1).clamp(low, count) };
    low..high
}

/// Copies the part `k` of the rows of `pixels` from `source` to `dst`, `ld` floats apart, zeros for the
/// padding.
///
/// # Safety
/// The features of `S` are there; `source` is a whole source tensor; `dst` has `pixels.len()` rows.
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
            // A row of taps is one run of floats in K and in the source.
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
            // SAFETY: one row of dst for each pixel; copies are clipped to the image.
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

/// Copies the floats `part` of a run that begins at `start` of a row of `len` floats; zeros for what is
/// outside.
///
/// # Safety
/// The features of `S` are there; `row` has `len` floats, `dst` room for the part.
#[inline(always)]
unsafe fn copy_clipped<S: Simd>(row: *const f32, len: usize, start: isize, part: Range<usize>, dst: *mut f32) {
    let (from, to) = (part.start as isize, part.end as isize);
    let begin = (-start).clamp(from, to);
    let end = (len as isize - start).clamp(begin, to);
    // SAFETY: `from <= begin <= end <= to`, and `start + begin..start + end` is inside the row unless empty.
    unsafe {
        clear::<S>(dst, (begin - from) as usize);
        copy::<S>(dst.offset(begin - from), row.wrapping_offset(start + begin), (end - begin) as usize);
        clear::<S>(dst.offset(end - from), (to - end) as usize);
    }
}
