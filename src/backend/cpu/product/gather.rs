//! A convolution, forward or backward, as a gather of patches: defines the row of a matrix that each output
//! pixel multiplies.
//!
//! `conv` and `conv_dx` have the same form: an output pixel is the product of a row of K floats, gathered
//! from a window of the source image, and a `[K, channels]` matrix of weights. Only three things differ, and
//! this file defines them: where windows begin, which taps they use, and in which order.
//!
//! In the backward direction with stride `s`, the outputs form `s * s` phases that use different taps.
//! Within a phase the window moves by one source pixel. So a phase is an ordinary dense convolution with the
//! taps of that phase, in descending order. No zeros are inserted or multiplied. If windows overhang the
//! image so far that most of their taps are in the padding (a transposed convolution of a 1x1 image), every
//! output row or column becomes a phase of its own, with only the taps that it uses.
//!
//! K runs in the order of the source in memory: tap rows, taps, channels. The floats of neighbouring taps
//! are neighbours in NHWC. Closed taps are not part of K.

use super::tile::Segments;
use crate::tape::geometry::ConvGeom;
use std::ops::Range;

/// The direction of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// Computes y from x.
    Forward,
    /// Computes the gradient of x from the gradient of y.
    Backward,
}

/// One spatial axis of one phase.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    /// Number of outputs on this axis.
    pub(super) count: usize,
    /// Output position of the first output, and the distance from one to the next.
    first: usize,
    step: usize,
    /// Source position under the first tap of the first output (may be in the padding), and the distance
    /// from one output to the next.
    pub(super) source: isize,
    pub(super) source_step: usize,
    /// Number of taps, in ascending order of source position; the index of the first one in the kernel, and
    /// the distance from one to the next.
    pub(super) taps: usize,
    tap: usize,
    tap_step: isize,
}

impl Axis {
    /// Index in the kernel of the `t`-th tap.
    fn tap(&self, t: usize) -> usize {
        self.tap.wrapping_add_signed(t as isize * self.tap_step)
    }

    /// The taps whose index in the kernel is below `limit`, as a range of positions in source order.
    fn below(&self, limit: usize) -> (usize, usize) {
        let stride = self.tap_step.unsigned_abs();
        if (self.tap_step, self.tap) == (1, 0) {
            (0, limit.min(self.taps))
        } else if self.tap_step > 0 {
            (0, limit.saturating_sub(self.tap).div_ceil(stride).min(self.taps))
        } else if self.tap < limit {
            (0, self.taps)
        } else {
            (((self.tap - limit) / stride + 1).min(self.taps), self.taps)
        }
    }

    /// Drops taps that are in the padding for every output.
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

/// The extents of one axis, named from the side that is computed.
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
    /// Whether more than half of the products would be with padding if all outputs of a stride phase used
    /// the same taps.
    fn is_sparse(self) -> bool {
        // Windows around every pixel overhang by at most `pad` taps, and only the `pad` windows at either
        // end do.
        let Extent { source, out, kernel, stride, pad, .. } = self;
        let is_same = (stride, source, kernel) == (1, out, 2 * pad + 1);
        if is_same && 2 * pad * (pad + 1) <= kernel * out {
            return false;
        }
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

    /// Number of phases. With `split`, there is one phase per output.
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
                // Output r uses the taps i with r + pad - i = stride * source row.
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

/// A convolution in one direction.
#[derive(Clone, Copy)]
pub(super) struct Gather {
    pub(super) geom: ConvGeom,
    pub(super) direction: Direction,
    /// Whether the rows and the columns are split into single outputs.
    split: [bool; 2],
    axes: [Extent; 2],
    /// Columns of the centre row of taps that are open to any channel.
    centre_columns: usize,
}

impl Gather {
    /// Makes the gather. With `split`, outputs get phases of their own if windows overhang far.
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

    /// Floats of one image of the source.
    pub(super) fn source_len(&self) -> usize {
        self.axes[0].source * self.axes[1].source * self.source_channels()
    }

    /// Number of phases.
    pub(super) fn phases(&self) -> usize {
        self.axes[0].phases(self.split[0]) * self.axes[1].phases(self.split[1])
    }

    /// A phase by its index.
    pub(super) fn phase(&self, index: usize) -> Phase {
        let columns = self.axes[1].phases(self.split[1]);
        let (row, column) = if columns == 1 { (index, 0) } else { (index / columns, index % columns) };
        let axes = [self.axes[0].phase(self.split[0], row), self.axes[1].phase(self.split[1], column)];
        let mut phase = Phase { gather: *self, axes, k: 0 };
        let taps: usize = (0..axes[0].taps).map(|t| phase.run(t)).map(|(lo, hi)| hi - lo).sum();
        phase.k = taps * self.source_channels();
        phase
    }
}

/// The outputs that use the same taps.
#[derive(Clone, Copy)]
pub(super) struct Phase {
    pub(super) gather: Gather,
    pub(super) axes: [Axis; 2],
    /// Length of the row that each pixel multiplies.
    k: usize,
}

impl Phase {
    /// Number of output pixels, over all images.
    pub(super) fn pixels(&self) -> usize {
        self.gather.geom.n * self.axes[0].count * self.axes[1].count
    }

    /// Length K of the row that each pixel multiplies.
    pub(super) fn k(&self) -> usize {
        self.k
    }

    /// The open taps of a tap row, as a range of positions in source order.
    pub(super) fn run(&self, t: usize) -> (usize, usize) {
        let g = &self.gather.geom;
        let row = self.axes[0].tap(t);
        // For the centre row, the number was computed once in `new`, because it takes a loop over all
        // channels.
        let open = if row == g.centre()[0] { self.gather.centre_columns } else { g.open_columns(row) };
        self.axes[1].below(open)
    }

    /// Every open tap in the order of K: its beginning in K, and its row and column in the kernel. It is an
    /// iterator and not a function with a callback, because vector code cannot be inlined into a closure.
    pub(super) fn taps(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let [r, c] = self.axes;
        let channels = self.gather.source_channels();
        let runs = (0..r.taps).flat_map(move |t| (self.run(t).0..self.run(t).1).map(move |u| (r.tap(t), c.tap(u))));
        runs.enumerate().map(move |(tap, (i, j))| (tap * channels, i, j))
    }

    /// The beginning in K of the centre tap of a mask with colour groups, which is the only tap that can be
    /// partly open.
    pub(super) fn centre(&self) -> Option<usize> {
        let g = &self.gather.geom;
        let partial = g.has_partial_centre();
        self.taps().find(|&(_, i, j)| partial && [i, j] == g.centre()).map(|(k, _, _)| k)
    }

    /// The part of K that the output channels `columns` need, and whether it contains closed weights, which
    /// are zeros in the packed panel.
    pub(super) fn segments(&self, columns: Range<usize>) -> (Segments, bool) {
        let (g, k) = (&self.gather.geom, self.k());
        let Some(centre) = self.centre() else { return (Segments::one(0, k), false) };
        let open = |co| g.centre_channels(co);
        let mut all = Segments::EMPTY;
        match self.gather.direction {
            Direction::Forward => {
                // The centre is the last tap, and each column uses a prefix of its channels.
                let most = columns.clone().map(open).max().unwrap_or(0);
                all.push(0, centre + most);
                (all, columns.clone().any(|co| open(co) < most))
            }
            Direction::Backward => {
                // The centre is the first tap, and each column uses a suffix of each block of its channels.
                let block = g.cout / g.blocks;
                // Zeros are also needed where ranges are joined.
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

    /// If the gathered rows are rows of the source in memory, the source offset of pixel 0 and the distance
    /// from one pixel to the next. This holds for a 1x1 convolution without stride or padding, and for
    /// windows that are as wide as the image, with one window per image.
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

    /// If K runs along the weights `[kh * kw * cin, cout]` in memory, the row of the weights at which K
    /// begins.
    pub(super) fn weight_row(&self) -> Option<usize> {
        let g = &self.gather.geom;
        let [r, c] = &self.axes;
        let along = self.gather.direction == Direction::Forward && c.taps == g.kw;
        along.then(|| r.tap * g.kw * g.cin)
    }

    /// The pixels of a range, cut at the ends of output rows.
    pub(super) fn lines(&self, pixels: Range<usize>) -> impl Iterator<Item = Line> {
        // Divisions take long, so there are only those of the first line. No pixel means no line.
        let [rows, columns] = self.axes.map(|a| a.count.max(1));
        let (mut image, mut row, mut column) =
            (pixels.start / columns / rows, pixels.start / columns % rows, pixels.start % columns);
        let mut at = 0;
        std::iter::from_fn(move || {
            (at < pixels.len()).then(|| {
                let len = (columns - column).min(pixels.len() - at);
                let line = Line { pixels: at..at + len, image, row, column };
                (at, row, column) = (at + len, row + 1, 0);
                if row == rows {
                    (image, row) = (image + 1, 0);
                }
                line
            })
        })
    }

    /// Writes the offset in the output of the first channel of each pixel, from pixel `start` on.
    #[inline(always)]
    pub(super) fn out_offsets(&self, start: usize, offsets: &mut [usize]) {
        let [r, c] = &self.axes;
        let [h, w] = self.gather.axes.map(|a| a.out);
        if (r.count, c.count) == (h, w) {
            // The phase has all pixels.
            let channels = self.gather.out_channels();
            for (i, offset) in offsets.iter_mut().enumerate() {
                *offset = (start + i) * channels;
            }
            return;
        }
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
    /// The pixels, counted from the first pixel of the range that was cut.
    pub(super) pixels: Range<usize>,
    pub(super) image: usize,
    /// Row and first column on the axes of the phase.
    pub(super) row: usize,
    pub(super) column: usize,
}
