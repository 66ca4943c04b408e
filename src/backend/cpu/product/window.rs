//! A convolution, or rows times a matrix, that is computed window by window: a few pixels of every image of
//! a share at a time, while images are drawn pixel by pixel.
//!
//! Shapes: `[images x columns, K]` times `[K, channels]`. The rows are the patches of one pixel, or of
//! neighbouring pixels of a row, in all images. They are read in place, through one pointer per row of taps.
//! The taps of a row are adjacent in NHWC, so the channels under them are one run of floats. Taps in the
//! padding and closed channels are left out. Weights are packed once per batch of images, by groups of
//! output channels that see the same colours. Bound by the FMA units for 8 or more images, by the latency of
//! the sums for one.
//!
//! Contract: an output element has the same bits as in the whole convolution. `rows.rs` sums taps and
//! channels in one chain. `scatter.rs` sums one chain per tap, and adds these. The same chain is used here.
//! Zeros that are added there and left out here change nothing.

use super::gather::{Direction, Gather};
use super::isa::{Isa, Job, Target, dispatch};
use super::scatter::Scatter;
use super::simd::{MAX_MR, MAX_WIDTH, clear, prefetch};
use super::tile::{Along, Out, Right, Run, SumEpilogue, Tiles};
use crate::backend::cpu::epilogue::{self, EpilogueOp};
use crate::tape::geometry::ConvGeom;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Most rows of taps.
const MAX_TAP_ROWS: usize = 16;

/// A range of output channels that see the same channels under the centre tap.
#[derive(Clone, Debug)]
struct Group {
    channels: Range<usize>,
    /// Number of rows of weights that are open: all taps before the centre, and the open channels of the
    /// centre.
    k: usize,
    /// Offset of its panels in the packed weights.
    at: usize,
}

/// A part of the output: ranges of rows, columns and channels.
#[derive(Clone, Debug)]
pub(in crate::backend::cpu) struct Part {
    pub(in crate::backend::cpu) rows: Range<usize>,
    pub(in crate::backend::cpu) columns: Range<usize>,
    pub(in crate::backend::cpu) channels: Range<usize>,
}

/// A convolution that is computed window by window.
#[derive(Clone, Debug)]
pub(in crate::backend::cpu) struct WindowConv {
    isa: Isa,
    geom: ConvGeom,
    /// Whether the weights are stored as `[cout, cin]`, as in a matrix product with a transposed right side.
    transposed: bool,
    groups: Vec<Group>,
    packed_len: usize,
    /// Whether each tap has a chain of its own, as in `scatter.rs`.
    by_taps: bool,
    /// For each row of taps, the source column under its first tap, relative to the output column.
    first: [isize; MAX_TAP_ROWS],
    /// Floats from one output pixel to the next, and whether the sums are added to the output.
    into: (usize, bool),
}

impl WindowConv {
    /// Makes the convolution of this geometry.
    ///
    /// # Errors
    /// A clause of a sentence, if the kernel has too many rows.
    pub(in crate::backend::cpu) fn new(isa: Isa, geom: ConvGeom, transposed: bool) -> Result<Self, String> {
        if geom.kh > MAX_TAP_ROWS {
            return Err(format!("its kernel has {} rows; windows take {MAX_TAP_ROWS}", geom.kh));
        }
        let (mut groups, mut at): (Vec<Group>, usize) = (vec![], 0);
        let begins = |co: &usize| *co == 0 || geom.open_prefix(*co) != geom.open_prefix(co - 1);
        let starts: Vec<usize> = (0..geom.cout).filter(begins).chain([geom.cout]).collect();
        for bounds in starts.windows(2) {
            let (channels, k) = (bounds[0]..bounds[1], geom.open_prefix(bounds[0]));
            let len = k * channels.len().next_multiple_of(MAX_WIDTH);
            groups.push(Group { k, at, channels });
            at += len;
        }
        let by_taps = Scatter::choose(&Gather::new(&geom, Direction::Forward, true)).is_some();
        let (first, into) = ([-(geom.pad[1] as isize); MAX_TAP_ROWS], (geom.cout, false));
        // A tile may begin in the middle of a panel, so it may read beyond the last row of the last panel.
        Ok(WindowConv { isa, geom, transposed, groups, packed_len: at + MAX_WIDTH, by_taps, first, into })
    }

    /// Changes the convolution for scans: the sums are added to the first channels of output pixels of
    /// `width` floats, and row `i` of the taps begins at the output's column plus `first[i]`.
    pub(in crate::backend::cpu) fn added_to(mut self, width: usize, first: &[isize]) -> Self {
        self.first[..first.len()].copy_from_slice(first);
        self.into = (width, true);
        self.by_taps = false;
        self
    }

    /// Floats of the packed weights.
    pub(in crate::backend::cpu) fn packed_len(&self) -> usize {
        self.packed_len
    }

    /// Packs the weights `[kh, kw, cin, cout]`, or `[cout, cin]` if they are transposed.
    ///
    /// # Panics
    /// Panics if `w` does not have the size of the geometry or `packed` is too short.
    pub(in crate::backend::cpu) fn pack(&self, w: &[f32], packed: &mut [f32]) {
        let ConvGeom { kh, kw, cin, cout, .. } = self.geom;
        assert!(w.len() == kh * kw * cin * cout, "the weights have {} elements", w.len());
        let (packed, width) = (&mut packed[..self.packed_len], Target::from(self.isa).width());
        packed.fill(0.0);
        for Group { channels, k, at, .. } in &self.groups {
            for first in (0..channels.len()).step_by(width) {
                let columns = channels.start + first..channels.end.min(channels.start + first + width);
                for row in 0..*k {
                    let to = &mut packed[at + first * k + row * width..][..columns.len()];
                    if self.transposed {
                        to.iter_mut().zip(columns.clone()).for_each(|(to, co)| *to = w[co * cin + row]);
                    } else {
                        to.copy_from_slice(&w[row * cout..][columns.clone()]);
                    }
                }
            }
        }
    }

    /// Computes a part of the output of each of `images` images, then the epilogue, on the calling thread.
    /// The elements of `source` that the part reads must have been computed before. `source`, `out` and the
    /// slices of the epilogue hold only these images.
    ///
    /// # Panics
    /// Panics if a slice is too short.
    pub(in crate::backend::cpu) fn run(
        &self,
        packed: &[f32],
        part: &Part,
        images: usize,
        source: &[f32],
        out: &mut [f32],
        epi: &[EpilogueOp],
    ) {
        let ConvGeom { h, w, cin, oh, ow, cout, .. } = self.geom;
        assert!(
            source.len() >= images * h * w * cin && out.len() >= images * oh * ow * self.into.0,
            "images are missing"
        );
        assert!(packed.len() >= self.packed_len, "the weights are not packed");
        for op in epi {
            let (has, wants) = match op {
                EpilogueOp::Bias(bias) => (bias.len(), cout),
                EpilogueOp::Add(other) | EpilogueOp::ActBwd(_, other) => (other.len(), images * oh * ow * cout),
                EpilogueOp::Act(_) => continue,
            };
            assert!(has >= wants, "an epilogue reads {has} elements instead of {wants}");
        }
        assert!(epi.is_empty() || self.into.0 == cout, "what is added to wider pixels has no epilogue");
        assert!(part.rows.end <= oh && part.columns.end <= ow && part.channels.end <= cout, "{part:?} is outside");
        let out = out.as_mut_ptr();
        // SAFETY: the slices hold the images and the packed weights, and the part is inside the output, as
        // asserted above. `out` is borrowed for the whole call.
        unsafe { dispatch(self.isa, Compute { conv: self, packed, part, images, source, out, epi }) };
    }

    /// The rows of taps that are open and, for this output row, inside the image.
    fn tap_rows(&self, row: usize) -> Range<usize> {
        let g = &self.geom;
        let open_rows = if g.is_masked() { g.centre()[0] + 1 } else { g.kh };
        inside(row * g.stride[0], g.pad[0], g.h, open_rows)
    }

    /// The taps of row `i` that are inside the image for this output column.
    fn tap_columns(&self, i: usize, column: usize) -> Range<usize> {
        let at = (column * self.geom.stride[1]) as isize + self.first[i];
        inside(at.max(0) as usize, (-at).max(0) as usize, self.geom.w, self.geom.kw)
    }

    /// The floats under the taps `columns` of the tap row `i` that are open for a group.
    fn open(&self, i: usize, columns: &Range<usize>, group: &Group) -> Range<usize> {
        let g = &self.geom;
        let (start, end) = (columns.start * g.cin, columns.end * g.cin);
        // The open weights of the group are the first `k`, over all rows of taps.
        let open = group.k.saturating_sub(i * g.kw * g.cin);
        start..end.min(open).max(start)
    }
}

/// The range of those of `taps` taps that are inside an axis of length `len`. The first tap is at
/// `at - pad`.
fn inside(at: usize, pad: usize, len: usize, taps: usize) -> Range<usize> {
    let start = pad.saturating_sub(at).min(taps);
    start..(len + pad).saturating_sub(at).clamp(start, taps)
}

/// Computes a part.
struct Compute<'a> {
    conv: &'a WindowConv,
    packed: &'a [f32],
    part: &'a Part,
    images: usize,
    source: &'a [f32],
    out: *mut f32,
    epi: &'a [EpilogueOp<'a>],
}

impl Job for Compute<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Tiles>(self) {
        let Part { rows, columns, .. } = self.part;
        for row in rows.clone() {
            let taps = self.conv.tap_rows(row);
            let mut start = columns.start;
            while start < columns.end {
                // Neighbouring pixels with the same taps inside the image are rows of one product.
                let within = |i: usize, column: usize| self.conv.tap_columns(i, column);
                let alike = |end: &usize| taps.clone().all(|i| within(i, *end) == within(i, start));
                let end = (start + 1..columns.end).take_while(alike).last().unwrap_or(start) + 1;
                let pixels = self.images * (end - start);
                let tiles = pixels.div_ceil(S::MR);
                for t in 0..tiles {
                    let pixels = pixels * t / tiles..pixels * (t + 1) / tiles;
                    // SAFETY: the contract of `Job::run` gives the features of `S`, and `WindowConv::run`
                    // has checked the slices and the part. The pixels of the range have the same taps inside
                    // the image, and there are at most `MR` of them.
                    unsafe { self.tile::<S>(row, start..end, pixels, &taps) };
                }
                start = end;
            }
        }
    }
}

impl Compute<'_> {
    /// Computes the output pixels `pixels`, counted over (image, column). They have the same taps inside the
    /// image, in the rows `tap_rows`.
    ///
    /// # Safety
    /// The processor has the features of `S`. The slices and the part are as [`WindowConv::run`] has checked
    /// them. There are at most `MR` pixels, all inside the part.
    #[inline(always)]
    unsafe fn tile<S: Tiles>(&self, row: usize, columns: Range<usize>, pixels: Range<usize>, tap_rows: &Range<usize>) {
        let Compute { conv, packed, part, source, out, epi, .. } = *self;
        let ConvGeom { h, w, cin, oh, ow, kw, stride, pad, .. } = conv.geom;
        let (total, add) = conv.into;
        // Most of the table stays unused, so it is not initialised.
        let mut table = [MaybeUninit::<*const f32>::uninit(); MAX_TAP_ROWS * MAX_MR];
        let mut offsets = [0; MAX_MR];
        // Where a row of taps and a pixel begin in the source and the output. A pointer may lead to a tap
        // outside the image; only taps inside the image are read.
        let window = |image: usize, column: usize, i: usize| {
            let x = (column * stride[1]).wrapping_add_signed(conv.first[i]);
            let y = image * h + row * stride[0] + i - pad[0];
            source.as_ptr().wrapping_add((y * w).wrapping_add(x).wrapping_mul(cin))
        };
        let place = |image: usize, column: usize| ((image * oh + row) * ow + column) * total;
        let count = pixels.len();
        if columns.len() == 1 {
            // The pixels are one per image, so they are at equal distances. All entries are written, because
            // the compiler makes vectors of a fixed number.
            let at = place(pixels.start, columns.start);
            offsets = std::array::from_fn(|p| at + p * (oh * ow * total));
            for i in tap_rows.clone() {
                let first = window(pixels.start, columns.start, i);
                for (p, to) in table[i * MAX_MR..][..MAX_MR].iter_mut().enumerate() {
                    to.write(first.wrapping_add(p * (h * w * cin)));
                }
            }
            // The next window reads one more column of the rows above, which were written long ago.
            for i in tap_rows.start..tap_rows.end.min(pad[0]) {
                let next = window(pixels.start, columns.start, i).wrapping_add(kw * cin);
                for p in 0..count {
                    prefetch(next.wrapping_add(p * (h * w * cin)), stride[1] * cin);
                }
            }
        } else {
            for (p, (pixel, offset)) in pixels.zip(&mut offsets).enumerate() {
                let (image, column) = (pixel / columns.len(), columns.start + pixel % columns.len());
                *offset = place(image, column);
                for i in tap_rows.clone() {
                    table[i * MAX_MR + p].write(window(image, column, i));
                }
            }
        }
        let offsets = &offsets[..count];
        // The next windows write the next pixels. Without a prefetch, every store would wait for memory.
        for offset in offsets {
            let next = out.wrapping_add(offset + columns.len() * total + part.channels.start);
            prefetch(next, part.channels.len());
        }
        // Sums of taps are added up in the output, so nothing else may change it before the last of them.
        let (epilogue, rest) = if conv.by_taps { (SumEpilogue::NONE, epi) } else { SumEpilogue::split(epi) };
        let width = 2 * S::LANES;
        let run =
            |i, open: Range<usize>| Run { tap: i, from: open.start, to: open.end, row: i * kw * cin + open.start };
        for group in &conv.groups {
            let start = part.channels.start.max(group.channels.start);
            let end = part.channels.end.min(group.channels.end);
            let mut runs = [Run::default(); MAX_TAP_ROWS];
            for (to, i) in runs.iter_mut().zip(tap_rows.clone()).filter(|_| start < end) {
                *to = run(i, conv.open(i, &conv.tap_columns(i, columns.start), group));
            }
            let mut next = start;
            while next < end {
                let in_panel = (next - group.channels.start) % width;
                let panel = next - group.channels.start - in_panel;
                let cols = (width - in_panel).min(end - next);
                // SAFETY: the panels have `k * width` floats each, and at least the floats of a row follow
                // the last panel (`packed_len`), so whole vectors are readable. The rows of source and
                // output are inside the images. The table has a pointer for each pixel and each of the rows
                // of taps that the runs name; others are not read. The processor has the features of `S`.
                unsafe {
                    let right = Right { b: packed.as_ptr().add(group.at + panel * group.k + in_panel), ldb: width };
                    let tile = |runs: &[Run], add: bool| {
                        let out = Out { c: out.add(next), rows: offsets, cols, add };
                        let (a, epilogue) = (table.as_ptr().cast(), epilogue.at_column(next));
                        let tile = Along { a, stride: MAX_MR, runs, b: right, out, epilogue };
                        S::along(offsets.len(), cols.div_ceil(S::LANES))(&tile);
                    };
                    if conv.by_taps {
                        for offset in offsets.iter() {
                            clear::<S>(out.add(offset + next), cols);
                        }
                        for i in tap_rows.clone() {
                            for j in conv.tap_columns(i, columns.start) {
                                let open = conv.open(i, &(j..j + 1), group);
                                tile(&[run(i, open)], true);
                            }
                        }
                    } else {
                        tile(&runs[..tap_rows.len()], add);
                    }
                }
                next += cols;
            }
        }
        // SAFETY: this thread has just written these elements of `out`, and nothing else accesses them.
        unsafe { epilogue::apply(rest, out, offsets, part.channels.clone(), total) };
    }
}
