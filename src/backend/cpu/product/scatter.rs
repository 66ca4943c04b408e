//! `conv` and `conv_dx` with few output channels (such as the colours of an image). One product computes the
//! share of each source pixel in each tap. Then the shares of each output pixel are added up.
//!
//! Shapes: source `[pixels, C]` times weights `[C, taps * N]` gives shares `[pixels, taps * N]`. An output
//! pixel is the sum over taps of the share of the source pixel under the tap. This replaces the method of
//! `rows.rs`, which takes `taps * C` steps per output pixel with vectors of only N channels. Here vectors
//! hold taps times N columns, so they are full.
//!
//! A task is a band of output rows of one image. The shares of a band stay in the L2 cache. Bound by the
//! product (C steps) if C is large, else by adding up the shares.

use super::Weights;
use super::gather::{Direction, Gather};
use super::isa::{Job, Target, dispatch};
use super::pack;
use super::patches;
use super::pool::{LINE, Shared, aligned, parallel};
use super::simd::{MAX_MR, MAX_WIDTH, clear};
use super::tile::{Along, Out, Right, Run, SumEpilogue, Tiles};
use crate::backend::cpu::epilogue::{self, EpilogueOp};
use crate::backend::cpu::team;
use crate::tape::geometry::ConvGeom;
use std::ops::Range;

/// Most floats of the shares of a band.
const SHARES: usize = 64 * 1024;
/// Output pixels to which the epilogue is applied at a time.
const PIXELS: usize = 64;

/// A convolution by shares, in one direction.
#[derive(Clone, Copy)]
pub(super) struct Scatter {
    geom: ConvGeom,
    direction: Direction,
    /// Number of open taps, which are the first ones of the kernel, row by row.
    taps: usize,
    /// Number of output rows of a band.
    band: usize,
}

impl Scatter {
    /// The plan for this convolution, if this method is the faster one.
    pub(super) fn choose(gather: &Gather) -> Option<Scatter> {
        let (g, direction) = (gather.geom, gather.direction);
        let taps = g.open_taps();
        let (n, channels) = (gather.out_channels(), gather.source_channels());
        let plan = Scatter { geom: g, direction, taps, band: 1 };
        // Every share must be used. In the forward direction, a stride would skip most of them.
        let useful = direction == Direction::Backward || g.stride == [1, 1];
        let columns = taps * n;
        if !useful || taps < 2 || n == 0 || channels == 0 || plan.shares_len(1) > SHARES {
            return None;
        }
        // Costs in steps of the register tile with 16 lanes. Adding a share costs about one step.
        let [h, w] = gather.source_size();
        let shares = h * w * (channels * columns.div_ceil(16) + columns);
        let phases = (0..gather.phases()).map(|i| gather.phase(i));
        let rows: usize = phases.map(|p| p.axes[0].count * p.axes[1].count * p.k() * n.div_ceil(16)).sum();
        if shares >= rows {
            return None;
        }
        let band = (1..=plan.out_size()[0]).rev().find(|&band| plan.shares_len(band) <= SHARES)?;
        Some(Scatter { band, ..plan })
    }

    fn source_size(&self) -> [usize; 2] {
        let g = &self.geom;
        if self.direction == Direction::Forward { [g.h, g.w] } else { [g.oh, g.ow] }
    }

    fn out_size(&self) -> [usize; 2] {
        let g = &self.geom;
        if self.direction == Direction::Forward { [g.oh, g.ow] } else { [g.h, g.w] }
    }

    /// Channels of the source and of the output.
    fn channels(&self) -> [usize; 2] {
        let g = &self.geom;
        if self.direction == Direction::Forward { [g.cin, g.cout] } else { [g.cout, g.cin] }
    }

    /// Number of columns of the shares, and the distance between their rows.
    fn columns(&self) -> (usize, usize) {
        let columns = self.taps * self.channels()[1];
        (columns, columns.next_multiple_of(LINE))
    }

    /// Number of floats of the shares of a band of `band` output rows.
    fn shares_len(&self, band: usize) -> usize {
        let [h, w] = self.source_size();
        let rows = if self.direction == Direction::Forward {
            band + self.geom.kh
        } else {
            band.div_ceil(self.geom.stride[0]) + self.geom.kh
        };
        rows.min(h) * w * self.columns().1
    }

    /// Floats that [`Scatter::pack`] writes.
    pub(super) fn packed_len(&self) -> usize {
        self.channels()[0] * self.columns().0.next_multiple_of(MAX_WIDTH)
    }

    /// Packs weights for many calls of [`run`].
    ///
    /// # Panics
    /// Panics if `packed` is shorter than [`Scatter::packed_len`].
    #[track_caller]
    pub(super) fn pack(&self, target: Target, w: &[f32], packed: &mut [f32]) {
        assert!(packed.len() >= self.packed_len(), "there is too little room for the packed weights");
        // SAFETY: the weights have the size of the geometry, and there is room for the packed weights, as
        // asserted.
        unsafe { dispatch(target, Pack { plan: *self, w, packed: Shared(packed.as_mut_ptr()) }) };
    }

    /// Floats of scratch that [`run`] needs on `threads` threads, whatever the instruction set.
    pub(super) fn scratch_len(&self, threads: usize) -> usize {
        LINE + self.packed_len() + threads * self.shares_len(self.band).next_multiple_of(LINE)
    }

    /// The source rows that the output rows `out` use.
    fn source_rows(&self, out: Range<usize>) -> Range<usize> {
        let g = &self.geom;
        let [h, _] = self.source_size();
        let (start, end) = (out.start + g.pad[0], out.end - 1 + g.pad[0]);
        let rows = match self.direction {
            Direction::Forward => out.start.saturating_sub(g.pad[0])..(out.end - 1 + g.kh).saturating_sub(g.pad[0]),
            Direction::Backward => (start + 1).saturating_sub(g.kh).div_ceil(g.stride[0])..end / g.stride[0] + 1,
        };
        rows.start.min(h)..rows.end.min(h)
    }
}

/// The data that the tasks of one call share.
struct Context<'a> {
    plan: Scatter,
    source: &'a [f32],
    packed: Shared,
    buffers: Shared,
    out: Shared,
    epi: &'a [EpilogueOp<'a>],
}

/// Computes all output pixels. Slices have the sizes of the geometry.
///
/// # Panics
/// Panics if the scratch is too small.
#[track_caller]
pub(super) fn run(
    target: Target,
    plan: Scatter,
    source: &[f32],
    w: Weights,
    out: &mut [f32],
    epi: &[EpilogueOp],
    scratch: &mut [f32],
) {
    if out.is_empty() {
        return;
    }
    let packed = aligned(scratch, plan.scratch_len(team::threads()) - LINE);
    // SAFETY: the buffers follow the packed weights in the scratch, whose length `aligned` has checked.
    let buffers = Shared(unsafe { packed.add(plan.packed_len()) });
    let packed = match w {
        Weights::Plain(w) => {
            // SAFETY: the weights have the size of the geometry, and the scratch has room for the packed
            // weights (`packed_len`). No other task runs yet.
            unsafe { dispatch(target, Pack { plan, w, packed }) };
            packed
        }
        Weights::Packed(packed) => {
            assert!(packed.len() >= plan.packed_len(), "there are too few packed weights");
            // Packed weights are only read.
            Shared(packed.as_ptr().cast_mut())
        }
    };
    let context = &Context { plan, source, packed, buffers, out: Shared(out.as_mut_ptr()), epi };
    let bands = plan.out_size()[0].div_ceil(plan.band);
    parallel(plan.geom.n * bands, |i| {
        // SAFETY: source and output have the sizes of the geometry (`conv` and `conv_dx` check them). Each
        // task writes its own output rows, and the buffer of its own thread.
        unsafe { dispatch(target, Band { context, image: i / bands, band: i % bands }) }
    });
}

/// Packs the weights as panels of `[channels, columns]`.
struct Pack<'a> {
    plan: Scatter,
    w: &'a [f32],
    packed: Shared,
}

impl Job for Pack<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Tiles>(self) {
        let Pack { plan, w, packed } = self;
        let g = &plan.geom;
        let ([channels, n], width) = (plan.channels(), 2 * S::LANES);
        let columns = plan.columns().0;
        for start in (0..columns).step_by(width) {
            let cols = width.min(columns - start);
            // SAFETY: panels of `channels * width` floats follow each other, and the packed weights have
            // room for all of them. The weights have a row of `channels` floats per column. The processor
            // has the features of `S` (contract of `Job::run`).
            unsafe {
                let panel = packed.add(start * channels);
                if plan.direction == Direction::Backward {
                    // A row of the weights is a pair (tap, ci), which is a column of the panel.
                    pack::transpose::<S>(w.as_ptr().add(start * channels), channels, cols, channels, panel, width);
                }
                for c in 0..channels {
                    for column in start..start + cols {
                        let (tap, channel) = (column / n, column % n);
                        let at = panel.add(c * width + column - start);
                        let (ci, co) = if plan.direction == Direction::Forward { (c, channel) } else { (channel, c) };
                        if plan.direction == Direction::Forward {
                            *at = w[(tap * channels + c) * n + channel];
                        }
                        if g.is_masked() && tap == g.centre_tap() && ci >= g.centre_channels(co) {
                            *at = 0.0;
                        }
                    }
                    clear::<S>(panel.add(c * width + cols), width - cols);
                }
            }
        }
    }
}

/// A task: computes a band of output rows of one image.
struct Band<'a> {
    context: &'a Context<'a>,
    image: usize,
    band: usize,
}

impl Job for Band<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Tiles>(self) {
        let Context { plan, source, buffers, out, epi, .. } = *self.context;
        let ([h, w], [oh, ow]) = (plan.source_size(), plan.out_size());
        let [channels, n] = plan.channels();
        let rows = self.band * plan.band..oh.min((self.band + 1) * plan.band);
        let source_rows = plan.source_rows(rows.clone());
        // SAFETY: source and output have the sizes of the geometry (`conv` and `conv_dx` check them), so the
        // rows of the band are inside them. Only this task writes these output rows. The buffer of this
        // thread has room for the shares of a band. The processor has the features of `S` (contract of
        // `Job::run`).
        unsafe {
            let shares = buffers.add(team::thread() * plan.shares_len(plan.band).next_multiple_of(LINE));
            let pixels = source_rows.len() * w;
            let first = source.as_ptr().add((self.image * h + source_rows.start) * w * channels);
            self.shares::<S>(first, pixels, shares);
            for row in rows {
                let at = (self.image * oh + row) * ow * n;
                let line = out.add(at);
                clear::<S>(line, ow * n);
                match n {
                    1 => self.add_up(row, source_rows.clone(), shares, line, 1),
                    3 => self.add_up(row, source_rows.clone(), shares, line, 3),
                    n => self.add_up(row, source_rows.clone(), shares, line, n),
                }
                for start in (0..ow).step_by(PIXELS) {
                    let offsets: [usize; PIXELS] = std::array::from_fn(|i| at + (start + i) * n);
                    epilogue::apply(epi, out.0, &offsets[..PIXELS.min(ow - start)], 0..n, n);
                }
            }
        }
    }
}

impl Band<'_> {
    /// Computes the shares of `pixels` source pixels, from pixel `first` on.
    ///
    /// # Safety
    /// The processor has the features of `S`. `first` leads to `pixels` whole source pixels, and `shares` to
    /// room for their shares, which nothing else accesses.
    #[inline(always)]
    unsafe fn shares<S: Tiles>(&self, first: *const f32, pixels: usize, shares: *mut f32) {
        let Context { plan, packed, .. } = self.context;
        let ([channels, _], width) = (plan.channels(), 2 * S::LANES);
        let (columns, ld) = plan.columns();
        let tiles = pixels.div_ceil(S::MR);
        for start in (0..columns).step_by(width) {
            let cols = width.min(columns - start);
            for t in 0..tiles {
                let rows = pixels * t / tiles..pixels * (t + 1) / tiles;
                let a: [_; MAX_MR] = std::array::from_fn(|i| first.wrapping_add((rows.start + i) * channels));
                let offsets: [_; MAX_MR] = std::array::from_fn(|i| (rows.start + i) * ld + start);
                // SAFETY: the pointers lead to rows of the source, to a panel of the packed weights, and to
                // rows of the shares, for which the buffer has room. All are inside their memory for these
                // pixels. The processor has the features of `S`.
                unsafe {
                    S::along(rows.len(), cols.div_ceil(S::LANES))(&Along {
                        a: a.as_ptr(),
                        stride: MAX_MR,
                        runs: &[Run { tap: 0, from: 0, to: channels, row: 0 }],
                        b: Right { b: packed.add(start * channels), ldb: width },
                        out: Out { c: shares, rows: &offsets[..rows.len()], cols, add: false },
                        epilogue: SumEpilogue::NONE,
                    });
                }
            }
        }
    }

    /// Adds the shares of the source rows `source_rows` to the output row `row`, tap by tap.
    ///
    /// # Safety
    /// `shares` holds the shares of the source rows, and `line` leads to the whole output row, which nothing
    /// else accesses.
    #[inline(always)]
    unsafe fn add_up(&self, row: usize, source_rows: Range<usize>, shares: *const f32, line: *mut f32, n: usize) {
        let plan = &self.context.plan;
        let g = &plan.geom;
        let ([_, w], [_, ow], (_, ld)) = (plan.source_size(), plan.out_size(), plan.columns());
        for (i, j) in (0..plan.taps).map(|tap| (tap / g.kw, tap % g.kw)) {
            // The source row under tap row i, and the columns for which the tap is inside the source or the
            // output.
            let shift = j as isize - g.pad[1] as isize;
            let (y, inside) = match plan.direction {
                Direction::Forward => ((row + i).checked_sub(g.pad[0]), patches::fits(shift, 1, 1, w, ow)),
                Direction::Backward => {
                    let y = (row + g.pad[0]).checked_sub(i).filter(|y| y % g.stride[0] == 0);
                    (y.map(|y| y / g.stride[0]), patches::fits(shift, g.stride[1], 1, ow, w))
                }
            };
            // If the image is narrower than the kernel, a tap may not overlap any column.
            let Some(y) = y.filter(|y| source_rows.contains(y) && !inside.is_empty()) else { continue };
            let (to, from, step) = match plan.direction {
                Direction::Forward => (inside.start, inside.start.wrapping_add_signed(shift), 1),
                Direction::Backward => {
                    ((inside.start * g.stride[1]).wrapping_add_signed(shift), inside.start, g.stride[1])
                }
            };
            let from = (y - source_rows.start) * w + from;
            for q in 0..inside.len() {
                for c in 0..n {
                    // SAFETY: `inside` holds only columns that are inside the source and the output.
                    // `shares` and `line` hold them (contract of this function).
                    unsafe {
                        *line.add((to + q * step) * n + c) += *shares.add((from + q) * ld + (i * g.kw + j) * n + c)
                    };
                }
            }
        }
    }
}
