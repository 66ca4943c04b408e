//! A frame: the rows of the source under the windows of some neighbouring pixels, copied with zeros in place
//! of the padding.
//!
//! In a frame, all windows have the same form: the taps of a row are one run of floats, and the distance
//! from one row of taps to the next is the same for all pixels. So there is one pointer per pixel instead of
//! one per pixel and tap, none of them depends on whether a tap is in the padding, and a register tile sums
//! over long runs even if the source has few channels.
//!
//! Shapes: per image, `[rows + taps - 1, columns + taps - 1, channels]` for windows that move by one pixel.
//! Bound by the stores of the copy. It pays if windows overlap: then a frame is much smaller than the
//! patches.

use super::gather::Phase;
use super::simd::{Simd, copy};
use std::hint::black_box;
use std::ops::Range;

/// Floats of a row of a frame.
pub(super) fn row_len(phase: &Phase) -> usize {
    let [_, c] = &phase.axes;
    (c.count.saturating_sub(1) * c.source_step + c.taps) * phase.gather.source_channels()
}

/// Most floats of a frame of `pixels` neighbouring pixels.
pub(super) fn max_len(phase: &Phase, pixels: usize) -> usize {
    let [r, c] = phase.axes.map(|a| (a.count.max(1), a.source_step, a.taps));
    // The first pixel may be the last one of its line, and the first line the last one of its image.
    let lines = (pixels + c.0 - 2) / c.0 + 1;
    let images = (lines + r.0 - 2) / r.0 + 1;
    (lines * r.1 + images * r.2) * row_len(phase)
}

/// Copies the frame of `pixels` to `frame`, and writes a pointer to the first float of each pixel's window
/// to `table`.
///
/// # Safety
/// The processor has the features of `S`. `source` is a whole source tensor. `frame` has room for
/// [`max_len`] floats, and `table` for a pointer per pixel.
#[inline(always)]
pub(super) unsafe fn fill<S: Simd>(
    phase: &Phase,
    source: *const f32,
    pixels: Range<usize>,
    frame: *mut f32,
    table: *mut *const f32,
) {
    let [r, c] = &phase.axes;
    let [h, w] = phase.gather.source_size();
    let channels = phase.gather.source_channels();
    let ld = row_len(phase);
    // The part of each row that is inside the source.
    let left = ((-c.source).max(0) as usize * channels).min(ld);
    let right = ((w as isize - c.source).max(0) as usize * channels).clamp(left, ld);
    let step = c.source_step * channels;
    // The image that is being copied: where its rows begin, the output row of its first window, and how many
    // rows are there.
    let (mut image, mut base, mut first, mut rows) = (usize::MAX, frame, 0, 0);
    // SAFETY: rows of a frame follow each other, as many as the windows of the pixels meet, for which
    // `frame` has room. Only the part of a row that is inside the source is read. The table has a place for
    // each pixel. The processor has the features of `S`.
    unsafe {
        // If the compiler knew that these are zeros, it would call `memset` for each run of them.
        let zero = black_box(S::zero());
        for line in phase.lines(pixels) {
            if line.image != image {
                (image, base, first, rows) = (line.image, base.add(rows * ld), line.row, 0);
            }
            let row = (line.row - first) * r.source_step;
            while rows < row + r.taps {
                let y = r.source + (first * r.source_step + rows) as isize;
                let to = base.add(rows * ld);
                if (0..h as isize).contains(&y) {
                    let from = source.wrapping_add((image * h + y as usize) * w * channels);
                    let from = from.wrapping_offset(c.source * channels as isize).wrapping_add(left);
                    fill_with::<S>(to, left, zero);
                    copy::<S>(to.add(left), from, right - left);
                    fill_with::<S>(to.add(right), ld - right, zero);
                } else {
                    fill_with::<S>(to, ld, zero);
                }
                rows += 1;
            }
            let window = base.add(row * ld).wrapping_add(line.column * step).cast_const();
            super::patches::point_at_rows(table.add(line.pixels.start), window, step, line.pixels.len());
        }
    }
}

/// Writes `len` floats of a vector whose lanes are all alike.
///
/// # Safety
/// The processor has the features of `S`, and `len` floats are writable.
#[inline(always)]
unsafe fn fill_with<S: Simd>(dst: *mut f32, len: usize, value: S::V) {
    let mut i = 0;
    while i + S::LANES <= len {
        // SAFETY: `i + LANES <= len`, so the vector is inside the floats for which the caller vouches. The
        // caller vouches for the features too.
        unsafe { S::store(dst.add(i), value) };
        i += S::LANES;
    }
    if i < len {
        // SAFETY: the last `len - i < LANES` floats are inside the floats for which the caller vouches. The
        // caller vouches for the features too.
        unsafe { S::store_first(dst.add(i), value, len - i) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::gather::{Direction, Gather};
    use super::super::simd::Portable;
    use super::*;
    use crate::tape::geometry::{ConvGeom, Mask};

    /// Compares every float of every window of a frame with the source.
    fn check(g: &ConvGeom, direction: Direction) {
        let gather = Gather::new(g, direction, true);
        let ([h, w], channels) = (gather.source_size(), gather.source_channels());
        let source: Vec<f32> = (1..=g.n * h * w * channels).map(|i| i as f32).collect();
        for phase in (0..gather.phases()).map(|i| gather.phase(i)) {
            let all = phase.pixels();
            for pixels in [0..all, all / 3..all, 1..all - 1, all / 2..all / 2 + 1] {
                let room = max_len(&phase, pixels.len());
                let mut frame = vec![f32::NAN; room + 1];
                let mut table = vec![std::ptr::null(); pixels.len()];
                // SAFETY: `Portable` needs no features. The source has the size of the geometry, and the
                // frame and the table have the room that is asked for.
                unsafe {
                    fill::<Portable>(&phase, source.as_ptr(), pixels.clone(), frame.as_mut_ptr(), table.as_mut_ptr());
                }
                assert!(frame[room].is_nan(), "a frame of {pixels:?} is longer than max_len, {g}");
                let [r, c] = &phase.axes;
                for line in phase.lines(pixels.clone()) {
                    for (i, t, u, channel) in line
                        .pixels
                        .clone()
                        .flat_map(|i| (0..r.taps).map(move |t| (i, t)))
                        .flat_map(|(i, t)| (0..c.taps).map(move |u| (i, t, u)))
                        .flat_map(|(i, t, u)| (0..channels).map(move |channel| (i, t, u, channel)))
                    {
                        let column = line.column + i - line.pixels.start;
                        let y = r.source + (line.row * r.source_step + t) as isize;
                        let x = c.source + (column * c.source_step + u) as isize;
                        let inside = (0..h as isize).contains(&y) && (0..w as isize).contains(&x);
                        let at = ((line.image * h) as isize + y) * w as isize + x;
                        let want = if inside { source[at as usize * channels + channel] } else { 0.0 };
                        let start = frame.as_ptr().addr();
                        let window = (table[i].addr() - start) / size_of::<f32>();
                        let has = frame[window + t * row_len(&phase) + u * channels + channel];
                        assert!(has == want, "pixel {i} of {pixels:?}, tap {t} {u}: {has}, not {want}, {g}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_frame_has_the_floats_under_every_window() {
        let geom = |h, w, cin, oh, ow, kernel, stride, pad: usize, mask| {
            let (cout, kh, kw, stride, pad) = (5, kernel, kernel, [stride; 2], [pad; 2]);
            ConvGeom { n: 3, h, w, cin, oh, ow, cout, kh, kw, stride, pad, mask, groups: 1, blocks: 1 }
        };
        for g in [
            geom(6, 7, 4, 6, 7, 3, 1, 1, Mask::None),
            geom(6, 7, 4, 6, 7, 3, 1, 1, Mask::B),
            geom(9, 5, 1, 9, 5, 7, 1, 3, Mask::A),
            geom(8, 8, 3, 4, 4, 4, 2, 1, Mask::None),
            geom(7, 9, 2, 3, 4, 3, 2, 0, Mask::None),
            geom(2, 3, 2, 2, 3, 5, 1, 2, Mask::None),
        ] {
            check(&g, Direction::Forward);
            check(&g, Direction::Backward);
        }
    }
}
