//! A convolution, forwards or backwards, as the gather of patches: what row of a matrix each output pixel
//! multiplies.
//!
//! `conv` and `conv_dx` are the same sum seen from its two ends: an output pixel is the product of a row of
//! K floats, gathered from a window of the source image, with a `[K, channels]` matrix of weights. Only
//! three things differ, and they live here: where windows begin, which taps they meet, and in which order.
//!
//! Backwards with stride `s`, the outputs fall into `s * s` phases that meet different taps; within a phase
//! the window moves by one source pixel, so it is an ordinary dense convolution with the taps of that phase,
//! in descending order. No zero is inserted or multiplied. Where windows overhang the image so far that most
//! of their taps meet padding (a transposed convolution of a 1x1 image), every output row or column becomes
//! a phase of its own, with the taps it meets.
//!
//! K runs along the source in memory: tap rows, taps, channels; the floats of neighbouring taps are
//! neighbours in NHWC. Closed taps never appear in K.

use super::tile::Segments;
use crate::tape::geometry::ConvGeom;
use std::ops::Range;

/// Which end of a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// y from x.
    Forward,
    /// x (its gradient) from y (its gradient).
    Backward,
}

/// One spatial axis of one phase.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    /// Outputs on this axis.
    pub(super) count: usize,
    /// Output position of the first one, and from one to the next.
    first: usize,
    step: usize,
    /// Source position under the first tap of the first output (may be in the padding), and from one output
    /// to the next.
    pub(super) source: isize,
    pub(super) source_step: usize,
    /// Taps in ascending order of source position; the first one's index in the kernel, and from one to the
    /// next.
    pub(super) taps: usize,
    tap: usize,
    tap_step: isize,
}

impl Axis {
    /// Index in the kernel of the `t`-th tap.
    fn tap(&self, t: usize) -> usize {
        self.tap.wrapping_add_signed(t as isize * self.tap_step)
    }

    /// How many of the taps have an index below `limit`, as a range of positions in source order.
    fn below(&self, limit: usize) -> (usize, usize) {
        let stride = self.tap_step.unsigned_abs();
        if self.tap_step > 0 {
            (0, limit.saturating_sub(self.tap).div_ceil(stride).min(self.taps))
        } else if self.tap < limit {
            (0, self.taps)
        } else {
            (((self.tap - limit) / stride + 1).min(self.taps), self.taps)
        }
    }

    /// Drops taps that meet only padding.
    fn clip(mut self, source_len: usize) -> Axis {
        let last = self.source + (self.count.saturating_sub(1) * self.source_step) as isize;
        let low = (-last).clamp(0, self.taps as isize) as usize;
        let high = (source_len as isize - self.source).clamp(low as isize, self.taps as isize) as usize;
        if low < high {
            self.tap = self.tap(low);
        }
        self.source += low as isize;
        self.taps = high - low;
        self
    }
}

/// The extents of one axis, named from the computed end.
#[derive(Clone, Copy)]
struct Extent {
    direction: Direction,
    source: usize,
    out: usize,
    kernel: usize,
    stride: usize,
    pad: usize,
}

impl Extent {
    /// Whether more than half of the products would be with padding, if all outputs of a stride phase met
    /// the same taps.
    fn is_sparse(self) -> bool {
        let (mut used, mut total) = (0, 0);
        for i in 0..self.phases(false) {
            let axis = self.phase(false, i);
            total += axis.count * axis.taps;
            for q in 0..axis.count {
                let start = axis.source + (q * axis.source_step) as isize;
                let end = (start + axis.taps as isize).min(self.source as isize);
                used += (end - start.max(0)).max(0) as usize;
            }
        }
        2 * used < total
    }

    /// Number of phases. `split`: one for each output.
    fn phases(self, split: bool) -> usize {
        match self.direction {
            _ if split => self.out,
            Direction::Forward => 1,
            Direction::Backward => self.stride.min(self.out),
        }
    }

    fn phase(self, split: bool, index: usize) -> Axis {
        let Extent { kernel, stride, pad, out, .. } = self;
        let axis = match self.direction {
            Direction::Forward => Axis {
                count: if split { 1 } else { out },
                first: index,
                step: 1,
                source: (index * stride) as isize - pad as isize,
                source_step: stride,
                taps: kernel,
                tap: 0,
                tap_step: 1,
            },
            Direction::Backward => {
                // Output r meets the taps i with r + pad - i = stride * source row.
                let tap = (index + pad) % stride;
                let taps = kernel.saturating_sub(tap).div_ceil(stride);
                Axis {
                    count: if split { 1 } else { (out - index).div_ceil(stride) },
                    first: index,
                    step: stride,
                    source: ((index + pad) / stride) as isize - taps as isize + 1,
                    source_step: 1,
                    taps,
                    tap: tap + taps.saturating_sub(1) * stride,
                    tap_step: -(stride as isize),
                }
            }
        };
        axis.clip(self.source)
    }
}

/// A convolution seen from the end that is computed.
#[derive(Clone, Copy)]
pub(super) struct Gather {
    pub(super) geom: ConvGeom,
    pub(super) direction: Direction,
    /// Whether rows, columns are split into single outputs.
    split: [bool; 2],
    axes: [Extent; 2],
    /// Columns of the centre row of taps that are open to any channel.
    centre_columns: usize,
}

impl Gather {
    /// `split`: whether to give outputs phases of their own where windows overhang far.
    pub(super) fn new(geom: &ConvGeom, direction: Direction, split: bool) -> Gather {
        let g = *geom;
        let extent = |x: usize, y: usize, kernel, stride, pad| match direction {
            Direction::Forward => Extent { direction, source: x, out: y, kernel, stride, pad },
            Direction::Backward => Extent { direction, source: y, out: x, kernel, stride, pad },
        };
        let axes = [extent(g.h, g.oh, g.kh, g.stride[0], g.pad[0]), extent(g.w, g.ow, g.kw, g.stride[1], g.pad[1])];
        let centre_columns = g.open_columns(g.centre()[0]);
        Gather { geom: g, direction, split: axes.map(|a| split && a.is_sparse()), axes, centre_columns }
    }

    /// Channels of the source.
    pub(super) fn source_channels(&self) -> usize {
        match self.direction {
            Direction::Forward => self.geom.cin,
            Direction::Backward => self.geom.cout,
        }
    }

    /// Channels of the output.
    pub(super) fn out_channels(&self) -> usize {
        match self.direction {
            Direction::Forward => self.geom.cout,
            Direction::Backward => self.geom.cin,
        }
    }

    /// Height and width of the source.
    pub(super) fn source_size(&self) -> [usize; 2] {
        self.axes.map(|a| a.source)
    }

    /// Number of phases.
    pub(super) fn phases(&self) -> usize {
        self.axes[0].phases(self.split[0]) * self.axes[1].phases(self.split[1])
    }

    /// A phase by its index.
    pub(super) fn phase(&self, index: usize) -> Phase {
        let columns = self.axes[1].phases(self.split[1]);
        let axes =
            [self.axes[0].phase(self.split[0], index / columns), self.axes[1].phase(self.split[1], index % columns)];
        Phase { gather: *self, axes }
    }
}

/// The outputs that meet the same taps.
#[derive(Clone, Copy)]
pub(super) struct Phase {
    pub(super) gather: Gather,
    pub(super) axes: [Axis; 2],
}

impl Phase {
    /// Output pixels, over all images.
    pub(super) fn pixels(&self) -> usize {
        self.gather.geom.n * self.axes[0].count * self.axes[1].count
    }

    /// Length of the row that each pixel multiplies.
    pub(super) fn k(&self) -> usize {
        let taps: usize = (0..self.axes[0].taps).map(|t| self.run(t)).map(|(lo, hi)| hi - lo).sum();
        taps * self.gather.source_channels()
    }

    /// The open taps of a tap row, as a range of positions in source order.
    pub(super) fn run(&self, t: usize) -> (usize, usize) {
        let g = &self.gather.geom;
        let row = self.axes[0].tap(t);
        // Kept from the start: to ask for it is a loop over all channels.
        let open = if row == g.centre()[0] { self.gather.centre_columns } else { g.open_columns(row) };
        self.axes[1].below(open)
    }

    /// Every open tap in the order of K: where it begins in K, and its row and column in the kernel.
    /// An iterator, for vector code cannot be inlined into a closure.
    pub(super) fn taps(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let [r, c] = self.axes;
        let channels = self.gather.source_channels();
        let runs = (0..r.taps).flat_map(move |t| (self.run(t).0..self.run(t).1).map(move |u| (r.tap(t), c.tap(u))));
        runs.enumerate().map(move |(tap, (i, j))| (tap * channels, i, j))
    }

    /// Where K meets the centre tap of a mask with colour groups: the only tap that can be partly open.
    pub(super) fn centre(&self) -> Option<usize> {
        let g = &self.gather.geom;
        let partial = g.has_partial_centre();
        self.taps().find(|&(_, i, j)| partial && [i, j] == g.centre()).map(|(k, _, _)| k)
    }

    /// The part of K that the output channels `columns` need; closed weights inside it are zeros in the
    /// packed panel. The flag tells whether there are any.
    pub(super) fn segments(&self, columns: Range<usize>) -> (Segments, bool) {
        let (g, k) = (&self.gather.geom, self.k());
        let Some(centre) = self.centre() else { return (Segments::one(0, k), false) };
        let open = |co| g.centre_channels(co);
        let mut all = Segments::EMPTY;
        match self.gather.direction {
            Direction::Forward => {
                // The centre is the last tap, and each column sees a prefix of its channels.
                let most = columns.clone().map(open).max().unwrap_or(0);
                all.push(0, centre + most);
                (all, columns.clone().any(|co| open(co) < most))
            }
            Direction::Backward => {
                // The centre is the first tap, and each column is seen by a suffix of each block of its
                // channels.
                let block = g.cout / g.blocks;
                // Zeros are needed in ranges that are joined, too.
                let closed = (0..g.cout).any(|co| open(co) < columns.end);
                for start in (0..g.cout).step_by(block) {
                    let end = (start + block).min(g.cout);
                    let seen = (start..end).find(|&co| open(co) > columns.start).unwrap_or(end);
                    all.push(centre + seen, centre + end);
                }
                all.push(centre + g.cout, k);
                (all, closed)
            }
        }
    }

    /// Rows in memory order: the source offset of pixel 0 and the distance to the next, where the gathered
    /// rows simply are the source (a 1x1 convolution without stride or padding; windows as wide as the
    /// image, one an image).
    pub(super) fn in_place(&self) -> Option<(usize, usize)> {
        let [r, c] = &self.axes;
        let [h, w] = self.gather.source_size();
        let channels = self.gather.source_channels();
        let inside = r.source >= 0 && r.source as usize + r.taps <= h && c.source == 0;
        let pointwise = (r.taps, c.taps) == (1, 1) && (r.count, c.count) == (h, w) && r.source == 0;
        let pointwise = pointwise && (r.source_step == 1 || h == 1) && (c.source_step == 1 || w == 1);
        let whole = (r.count, c.count) == (1, 1) && c.taps == w;
        let dense = self.k() == r.taps * c.taps * channels;
        if inside && dense && pointwise {
            Some((0, channels))
        } else if inside && dense && whole {
            Some((r.source as usize * w * channels, h * w * channels))
        } else {
            None
        }
    }

    /// Row of the weights `[kh * kw * cin, cout]` that K = 0 multiplies, where K runs along the weights in
    /// memory.
    pub(super) fn weight_row(&self) -> Option<usize> {
        let g = &self.gather.geom;
        let [r, c] = &self.axes;
        let along = self.gather.direction == Direction::Forward && c.taps == g.kw;
        along.then(|| r.tap * g.kw * g.cin)
    }

    /// The pixels of a range, cut where an output row ends.
    pub(super) fn lines(&self, pixels: Range<usize>) -> impl Iterator<Item = Line> {
        let [rows, columns] = self.axes.map(|a| a.count);
        let mut at = pixels.start;
        std::iter::from_fn(move || {
            (at < pixels.end).then(|| {
                let column = at % columns;
                let len = (columns - column).min(pixels.end - at);
                let line = Line {
                    pixels: at - pixels.start..at - pixels.start + len,
                    image: at / columns / rows,
                    row: at / columns % rows,
                    column,
                };
                at += len;
                line
            })
        })
    }

    /// Offset in the output of the first channel of each pixel from `start` on.
    pub(super) fn out_offsets(&self, start: usize, offsets: &mut [usize]) {
        let [r, c] = &self.axes;
        let [h, w] = self.gather.axes.map(|a| a.out);
        for line in self.lines(start..start + offsets.len()) {
            let first = (line.image * h + r.first + line.row * r.step) * w + c.first + line.column * c.step;
            for (i, offset) in offsets[line.pixels].iter_mut().enumerate() {
                *offset = (first + i * c.step) * self.gather.out_channels();
            }
        }
    }
}

/// Neighbouring pixels of one output row of a phase.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// Which they are, counted from the first pixel of the range that was cut.
    pub(super) pixels: Range<usize>,
    pub(super) image: usize,
    /// Row and first column on the axes of the phase.
    pub(super) row: usize,
    pub(super) column: usize,
}
