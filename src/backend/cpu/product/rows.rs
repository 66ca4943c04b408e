//! `conv`, `conv_dx`, and matrix products as 1x1 convolutions: the patch of each output pixel times the
//! weights.
//!
//! Shapes: pixels `[M, K]` times weights `[K, N]`, where M is the number of output pixels of a phase, K is
//! open taps times source channels, and N is the number of output channels. A task is a block of pixels. It
//! multiplies its patches with one panel of weights after another, and applies the epilogue while the block
//! is in the cache. Panels of weights come from the L2 cache, patches from the L1 cache.
//!
//! Bound by the FMA units if K and N are at least 64, by memory if K is small, and by the copy of the
//! patches if the source has few channels.

use super::Weights;
use super::frame;
use super::gather::{Gather, Phase};
use super::isa::{Job, Target, dispatch, l2_floats};
use super::pack;
use super::patches::{self, Patches, padded};
use super::pool::{LINE, Shared, aligned, parallel};
use super::simd::{MAX_MR, MAX_WIDTH, prefetch};
use super::tile::{Along, Out, Right, Run, Segments, SumEpilogue, Tiles};
use crate::backend::cpu::epilogue::{self, EpilogueOp};
use crate::backend::cpu::team;
use std::ops::Range;

/// Most rows of a block, and of one that multiplies a single panel. That one reads no row twice, so the
/// fewer blocks the better.
const MAX_ROWS: usize = 256;
const MAX_ROWS_OF_PANEL: usize = 1024;
/// Floats of a block of patches: five eighths of the L2 cache, within limits. Every block reads all weights,
/// mostly from beyond the L2 cache, so larger blocks read the weights fewer times. The rest of the cache is
/// for a panel of weights. The size cannot change a bit of the result, because every sum is one chain in the
/// order of k.
fn block() -> usize {
    (l2_floats() * 5 / 8).clamp(MIN_BLOCK, 320 * 1024)
}
const MIN_BLOCK: usize = 96 * 1024;
/// Longest rows of patches that are prefetched for the next tile. Longer rows give the hardware prefetcher
/// time to start.
const MAX_PREFETCHED: usize = 256;
/// Most taps that are read through pointers, and most runs of k of these taps and their segments.
const MAX_TAPS: usize = 64;
const MAX_RUNS: usize = MAX_TAPS + Segments::MAX;
/// Most pointers of a block, and the size of a pointer or an offset, in floats.
const POINTERS: usize = MAX_TAPS * MAX_ROWS;
const POINTER: usize = size_of::<*const f32>() / size_of::<f32>();
/// Floats of a buffer before the patches: the pointers of a block, and the offsets of its rows in the
/// output.
const TABLES: usize = (POINTERS + MAX_ROWS_OF_PANEL) * POINTER;
/// Tasks per thread, so that no thread waits long for the last one.
const TASKS: usize = 4;

/// Most rows of a block.
fn max_rows(gather: &Gather) -> usize {
    if gather.out_channels() <= MAX_WIDTH { MAX_ROWS_OF_PANEL } else { MAX_ROWS }
}

/// How the rows of a phase are read.
fn patches_of(phase: &Phase) -> Patches {
    let rows = max_rows(&phase.gather);
    Patches::of(phase, POINTERS / rows, rows, MIN_BLOCK)
}

/// The lengths of the parts of the scratch memory.
struct ScratchParts {
    /// Floats of the zeros to which the pointers of padding lead.
    zeros: usize,
    /// Floats of the packed weights of one phase.
    packed: usize,
    /// Floats of the buffer of one thread.
    buffer: usize,
    /// Floats of everything.
    total: usize,
}

impl ScratchParts {
    fn new(gather: &Gather, threads: usize) -> ScratchParts {
        let zeros = gather.source_channels().next_multiple_of(LINE);
        let k = (0..gather.phases()).map(|i| gather.phase(i).k()).max().unwrap_or(0);
        let packed = k * gather.out_channels().next_multiple_of(MAX_WIDTH);
        let buffer = TABLES + block().max(MAX_MR * padded(k));
        ScratchParts { zeros, packed, buffer, total: zeros + gather.phases() * packed + threads * buffer }
    }
}

/// Floats of scratch that [`run`] needs on `threads` threads, whatever the instruction set.
pub(super) fn scratch_len(gather: &Gather, threads: usize) -> usize {
    ScratchParts::new(gather, threads).total + LINE
}

/// Floats that [`pack`] writes.
pub(super) fn packed_len(gather: &Gather) -> usize {
    gather.phases() * ScratchParts::new(gather, 0).packed
}

/// Packs the weights of `gather` for many calls of [`run`].
///
/// # Panics
/// Panics if `packed` is shorter than [`packed_len`].
#[track_caller]
pub(super) fn pack(target: Target, gather: &Gather, w: &[f32], packed: &mut [f32]) {
    assert!(packed.len() >= packed_len(gather), "there is too little room for the packed weights");
    let stride = ScratchParts::new(gather, 0).packed;
    PackedWeights { gather, plain: None, packed: Shared(packed.as_mut_ptr()), stride, target }.fill(w);
}

/// How the work is divided into tasks: for each phase, blocks of pixels times ranges of panels.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Rows of a block.
    rows: usize,
    /// Number of blocks of the largest phase.
    blocks: usize,
    /// Number of ranges of panels.
    ranges: usize,
}

impl Cut {
    /// The division that reads least. Every block reads all weights, and every range reads all rows.
    fn new(target: Target, gather: &Gather, threads: usize) -> Cut {
        let phases = (0..gather.phases()).map(|i| gather.phase(i));
        // The number of pixels, and the floats of each in the cache. If patches are read by taps,
        // neighbouring pixels share all but one tap.
        let (m, floats) = phases.fold((0, 0), |(m, floats), phase| {
            (phase.pixels().max(m), patches_of(&phase).own_floats(&phase).max(floats))
        });
        let n = gather.out_channels();
        let panels = n.div_ceil(target.width());
        let most_rows = (block() / padded(floats) / target.mr() * target.mr())
            .clamp(target.mr(), max_rows(gather) / target.mr() * target.mr());
        let wanted = if threads > 1 { (TASKS * threads).div_ceil(gather.phases()) } else { 1 };
        let cut = |ranges: usize| {
            let rows =
                m.div_ceil(wanted.div_ceil(ranges)).next_multiple_of(target.mr()).min(most_rows).max(target.mr());
            // Blocks have equal sizes, because a last block of few rows would read all weights for little
            // work.
            let rows = m.div_ceil(m.div_ceil(rows).max(1)).next_multiple_of(target.mr()).clamp(target.mr(), most_rows);
            Cut { rows, blocks: m.div_ceil(rows), ranges }
        };
        let cost = |cut: &Cut| (wanted.saturating_sub(cut.blocks * cut.ranges), cut.blocks * n + cut.ranges * m);
        (1..=panels).map(cut).min_by_key(cost).unwrap_or(Cut { rows: target.mr(), blocks: 0, ranges: 1 })
    }
}

/// The source of the pixels.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// As the geometry says.
    Pixels(&'a [f32]),
    /// The left side of a matrix product, stored `[k, m]`. Each block is transposed while it is copied.
    Transposed(&'a [f32]),
}

/// The data that the tasks of one call share.
struct Context<'a> {
    gather: &'a Gather,
    source: Source<'a>,
    weights: PackedWeights<'a>,
    out: Shared,
    epi: &'a [EpilogueOp<'a>],
    zeros: Shared,
    buffers: Shared,
    parts: ScratchParts,
    cut: Cut,
    target: Target,
}

/// Computes all output pixels of `gather`. Slices have the sizes of the geometry.
///
/// # Panics
/// Panics if the scratch is too small.
#[track_caller]
pub(super) fn run(
    target: Target,
    gather: &Gather,
    source: Source,
    w: Weights,
    out: &mut [f32],
    epi: &[EpilogueOp],
    scratch: &mut [f32],
) {
    if out.is_empty() {
        return;
    }
    let threads = team::threads();
    let parts = ScratchParts::new(gather, threads);
    let zeros = aligned(scratch, parts.total);
    // SAFETY: zeros, packed weights and buffers follow each other in the scratch, whose length `aligned` has
    // checked. Nothing else accesses the scratch during the call.
    let (packed, buffers) = unsafe {
        std::slice::from_raw_parts_mut(zeros.0, parts.zeros).fill(0.0);
        let packed = Shared(zeros.add(parts.zeros));
        (packed, Shared(packed.add(gather.phases() * parts.packed)))
    };
    let cut = Cut::new(target, gather, threads);
    let out = Shared(out.as_mut_ptr());
    let stride = parts.packed;
    let weights = match w {
        Weights::Plain(w) => {
            let weights = PackedWeights { gather, plain: Some(w), packed, stride, target };
            weights.fill(w);
            weights
        }
        Weights::Packed(packed) => {
            assert!(packed.len() >= gather.phases() * stride, "there are too few packed weights");
            // Packed weights are only read.
            PackedWeights { gather, plain: None, packed: Shared(packed.as_ptr().cast_mut()), stride, target }
        }
    };
    let context = &Context { gather, source, weights, out, epi, zeros, buffers, parts, cut, target };
    parallel(gather.phases() * cut.blocks * cut.ranges, |i| {
        let (phase, i) = (i / (cut.blocks * cut.ranges), i % (cut.blocks * cut.ranges));
        // SAFETY: the slices have the sizes of the geometry (`conv`, `conv_dx` and `gemm` check them), and
        // all panels are packed. Each task writes its own pixels and channels of the output, and the buffer
        // of its own thread.
        unsafe { dispatch(target, ComputeBlock { context, phase, block: i / cut.ranges, range: i % cut.ranges }) }
    });
}

/// One panel of weights.
struct Panel {
    columns: Range<usize>,
    segments: Segments,
    right: Right,
    /// Whether the panel is in the packed weights, or else in the weights as given.
    packed: bool,
}

/// The weights as panels.
#[derive(Clone, Copy)]
struct PackedWeights<'a> {
    gather: &'a Gather,
    /// The weights as given, from which panels are read that need no packing. `None` if all are packed.
    plain: Option<&'a [f32]>,
    packed: Shared,
    /// Floats of the packed weights of a phase.
    stride: usize,
    target: Target,
}

impl PackedWeights<'_> {
    fn panel(&self, index: usize, phase: &Phase, panel: usize) -> Panel {
        let (n, width) = (self.gather.out_channels(), self.target.width());
        let columns = panel * width..((panel + 1) * width).min(n);
        let (segments, closed) = phase.segments(columns.clone());
        // Packing for a single call pays only if the panel is read often.
        let few = n == width || phase.pixels() <= 4 * self.target.mr();
        match phase.weight_row().zip(self.plain) {
            Some((row, w)) if few && !closed && columns.len() == width => {
                let b = w[(row * n + columns.start).min(w.len())..].as_ptr();
                Panel { columns, segments, right: Right { b, ldb: n }, packed: false }
            }
            _ => {
                let at = index * self.stride + panel * width * phase.k();
                // SAFETY: the panel is inside the packed weights of its phase, for which there is room
                // (`ScratchParts`; `run` and `pack` check it).
                let right = Right { b: unsafe { self.packed.add(at) }, ldb: width };
                Panel { columns, segments, right, packed: true }
            }
        }
    }

    /// Packs the panels that need packing from `w`.
    fn fill(&self, w: &[f32]) {
        let panels = self.gather.out_channels().div_ceil(self.target.width());
        parallel(self.gather.phases() * panels, |i| {
            // SAFETY: the weights have the size of the geometry, and there is room for the packed weights.
            // Each task writes its own panel.
            unsafe { dispatch(self.target, Pack { weights: self, w, phase: i / panels, panel: i % panels }) }
        });
    }
}

/// A task: packs one panel of weights, if it needs packing.
struct Pack<'a> {
    weights: &'a PackedWeights<'a>,
    w: &'a [f32],
    phase: usize,
    panel: usize,
}

impl Job for Pack<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Tiles>(self) {
        let phase = self.weights.gather.phase(self.phase);
        let panel = self.weights.panel(self.phase, &phase, self.panel);
        if panel.packed {
            let Right { b, ldb } = panel.right;
            // SAFETY: the weights have the size of the geometry. The packed weights have room for the panel,
            // and only this task writes it. The processor has the features of `S` (contract of `Job::run`).
            unsafe { pack::panel::<S>(&phase, self.w.as_ptr(), panel.columns, b.cast_mut(), ldb) };
        }
    }
}

/// A task: computes a block of pixels for a range of panels.
struct ComputeBlock<'a> {
    context: &'a Context<'a>,
    phase: usize,
    block: usize,
    range: usize,
}

impl Job for ComputeBlock<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Tiles>(self) {
        let context = self.context;
        let cut = context.cut;
        let phase = context.gather.phase(self.phase);
        let pixels = self.block * cut.rows..((self.block + 1) * cut.rows).min(phase.pixels());
        if pixels.is_empty() {
            return;
        }
        let n = context.gather.out_channels();
        let panels = n.div_ceil(context.target.width());
        let panels = panels * self.range / cut.ranges..panels * (self.range + 1) / cut.ranges;
        let (patches, k) = (patches_of(&phase), phase.k());
        let (Source::Pixels(source) | Source::Transposed(source)) = context.source;
        let is_transposed = matches!(context.source, Source::Transposed(_));
        let source = source.as_ptr();
        // SAFETY: source, weights, output and the slices of the epilogue have the sizes of the geometry
        // (`conv`, `conv_dx` and `gemm` check them). Only this task writes these pixels and channels. The
        // buffer of this thread has room for the pointers and the copy of a block. The processor has the
        // features of `S` (contract of `Job::run`).
        unsafe {
            let buffer = context.buffers.add(team::thread() * context.parts.buffer);
            let (table, stride) = (buffer.cast::<*const f32>(), pixels.len());
            let offsets = std::slice::from_raw_parts_mut(table.add(POINTERS).cast::<usize>(), stride);
            phase.out_offsets(pixels.start, offsets);
            match patches {
                _ if is_transposed => {
                    let (copy, ld) = (buffer.add(TABLES), padded(k));
                    pack::transpose::<S>(source.add(pixels.start), phase.pixels(), k, stride, copy, ld);
                    patches::point_at_rows(table, copy, ld, stride);
                }
                Patches::InPlace { offset, step } => {
                    patches::point_at_rows(table, source.add(offset + pixels.start * step), step, stride);
                }
                Patches::Framed => frame::fill::<S>(&phase, source, pixels.clone(), buffer.add(TABLES), table),
                Patches::Taps => {
                    let (zeros, taps) = (context.zeros.0, 0..k / context.gather.source_channels());
                    patches::point_at_taps(&phase, source, zeros, pixels.clone(), taps, table, stride);
                }
                Patches::Copied => {
                    let (copy, ld) = (buffer.add(TABLES), padded(k));
                    patches::im2col::<S>(&phase, source, pixels.clone(), 0..k, copy, ld);
                    patches::point_at_rows(table, copy, ld, stride);
                }
            }
            let (epilogue, rest) = SumEpilogue::split(context.epi);
            let is_in_place = matches!(patches, Patches::InPlace { .. }) && !is_transposed;
            let is_beyond_l2 = context.gather.geom.n * context.gather.source_len() > l2_floats() / 2;
            let prefetches = is_in_place && is_beyond_l2 && k <= MAX_PREFETCHED;
            // Tiles have equal sizes, because a last tile of one row would waste most of its steps. The
            // first tiles have one row more than the others.
            let tiles = stride.div_ceil(S::MR);
            let (each, longer) = (stride / tiles, stride % tiles);
            let parts = [(0..longer * (each + 1), each + 1), (longer * (each + 1)..stride, each)];
            let mut runs = [Run::default(); MAX_RUNS];
            for panel in panels.clone() {
                let is_first = panel == panels.start;
                let panel = context.weights.panel(self.phase, &phase, panel);
                let runs = panel.segments.runs(patches.pieces(&phase), &mut runs);
                let nv = panel.columns.len().div_ceil(S::LANES);
                let tiles = |rows: Range<usize>, height: usize| {
                    S::along(height, nv)(&Along {
                        a: table.add(rows.start),
                        stride,
                        runs,
                        b: panel.right,
                        out: Out {
                            c: context.out.add(panel.columns.start),
                            rows: &offsets[rows],
                            cols: panel.columns.len(),
                            add: false,
                        },
                        epilogue: epilogue.at_column(panel.columns.start),
                    });
                };
                for (rows, height) in parts.clone().into_iter().filter(|(rows, _)| !rows.is_empty()) {
                    if !(prefetches && is_first) {
                        tiles(rows, height);
                        continue;
                    }
                    for start in rows.step_by(height) {
                        // Prefetches the rows of the next tile, unless the L2 cache has them. Rows this
                        // short are read faster than the hardware prefetcher starts.
                        let end = start + height;
                        for row in end..(end + S::MR).min(stride) {
                            prefetch(*table.add(row), k);
                        }
                        tiles(start..end, height);
                    }
                }
            }
            let channels = panels.start * context.target.width()..n.min(panels.end * context.target.width());
            epilogue::apply(rest, context.out.0, offsets, channels, n);
        }
    }
}
