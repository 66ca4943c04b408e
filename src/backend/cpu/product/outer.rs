//! `conv_dw`, and products with a transposed left side: the transposed patches of all pixels times the
//! gradients.
//!
//! Shapes: `dw[K, N] = patches[P, K]^T dy[P, N]`, where P is the number of all output pixels, K is open taps
//! times cin, and N is cout. The pixels are cut into chunks that depend on the geometry alone. A task
//! computes a range of K for one chunk. It adds the products of [`PIXELS`] pixels at a time to its sums; the
//! register tile reads both sides in place. Then the sums of the chunks are added in order.
//!
//! Bound by the FMA units if K and N are at least 64, else by reading x and dy.

use super::frame;
use super::gather::{Gather, Phase};
use super::isa::{Job, Target, dispatch};
use super::patches::{self, Patches, padded};
use super::pool::{LINE, Shared, aligned, parallel};
use super::simd::{MAX_MR, MIN_WIDTH, Simd, clear, copy, prefetch};
use super::tile::{Across, Out, Piece, Right, Tiles};
use crate::backend::cpu::epilogue::{self, EpilogueOp};
use crate::backend::cpu::team;
use std::ops::Range;

/// Pixels that a tile sums over before it writes its sums to memory.
const PIXELS: usize = 128;
/// Most columns of dy that are packed at a time.
const COLUMNS: usize = 256;
/// Number of pixels that dy is prefetched ahead while it is packed.
const PIXELS_AHEAD: usize = 2;
/// Longest range of K that is copied.
const RANGE: usize = 512;
/// Fewest pixels of each of several chunks, and most floats of their sums together.
const CHUNK: usize = 1024;
const SUMS: usize = 1 << 20;
/// Most chunks.
const MAX_CHUNKS: usize = 16;
/// Floats of x and dy in a part of the pixels that several ranges read one after another.
const PART: usize = 2 << 20;
/// Tasks per thread, so that no thread waits long for the last one.
const TASKS: usize = 4;

/// Floats of the buffers of a thread: panels of dy, copied patches, pointers.
const POINTERS: usize = PIXELS * size_of::<*const f32>() / size_of::<f32>();
const PATCHES: usize = PIXELS * (RANGE + 2 * LINE);
const BUFFER: usize = PIXELS * COLUMNS + PATCHES + POINTERS;

/// Number of chunks of pixels. It depends on the geometry alone.
fn chunks(phase: &Phase) -> usize {
    let sums = phase.k() * phase.gather.geom.cout;
    (phase.pixels() / CHUNK).min(SUMS / sums.max(1)).clamp(1, MAX_CHUNKS)
}

/// Floats of scratch that [`run`] needs on `threads` threads, whatever the instruction set.
pub(super) fn scratch_len(gather: &Gather, threads: usize) -> usize {
    let phase = gather.phase(0);
    let zeros = gather.geom.cin.next_multiple_of(LINE);
    let sums = (chunks(&phase) * phase.k() * gather.geom.cout).next_multiple_of(LINE);
    LINE + zeros + sums + threads * BUFFER
}

/// The data that the tasks of one call share.
struct Context<'a> {
    phase: Phase,
    x: &'a [f32],
    dy: &'a [f32],
    zeros: Shared,
    sums: Shared,
    buffers: Shared,
    /// Whether there is a single chunk whose sums are written directly to the result.
    direct: bool,
    chunks: usize,
    ranges: usize,
    patches: Patches,
    /// Whether the products are added to what the result holds.
    add: bool,
    epi: &'a [EpilogueOp<'a>],
}

/// Computes all weight gradients of `gather` (forward), or adds them to `dw`, which then holds earlier ones.
/// Slices have the sizes of the geometry.
///
/// # Panics
/// Panics if the scratch is too small.
#[track_caller]
pub(super) fn run(
    target: Target,
    gather: &Gather,
    x: &[f32],
    dy: &[f32],
    (dw, add): (&mut [f32], bool),
    epi: &[EpilogueOp],
    scratch: &mut [f32],
) {
    if dw.is_empty() {
        return;
    }
    let threads = team::threads();
    let zeros = aligned(scratch, scratch_len(gather, threads) - LINE);
    let phase = gather.phase(0);
    let (k, n) = (phase.k(), gather.geom.cout);
    let chunks = chunks(&phase);
    let zeros_len = gather.geom.cin.next_multiple_of(LINE);
    // SAFETY: zeros, sums and buffers follow each other in the scratch, whose length `aligned` has checked.
    // Nothing else accesses the scratch during the call.
    let (sums, buffers) = unsafe {
        std::slice::from_raw_parts_mut(zeros.0, zeros_len).fill(0.0);
        let sums = Shared(zeros.add(zeros_len));
        (sums, Shared(sums.add((chunks * k * n).next_multiple_of(LINE))))
    };
    let rows = dw.len() / n;
    let dw = Shared(dw.as_mut_ptr());
    let direct = phase.weight_row().filter(|_| chunks == 1 && phase.pixels() > 0);
    // SAFETY: row `row` is inside dw, because `weight_row` returns the row of the weights at which K begins.
    let sums = direct.map_or(sums, |row| Shared(unsafe { dw.add(row * n) }));
    let direct = direct.is_some();
    let patches = Patches::of(&phase, usize::MAX / gather.geom.cin.max(1), PIXELS, PATCHES);
    let wanted = if threads > 1 { (TASKS * threads).div_ceil(chunks).min(k / (2 * target.mr())) } else { 1 };
    let ranges = wanted.max(if patches == Patches::Copied { k.div_ceil(RANGE - 2 * MAX_MR) } else { 1 });
    let context = &Context { phase, x, dy, zeros, sums, buffers, direct, chunks, ranges, patches, add, epi };
    if k > 0 && phase.pixels() > 0 {
        // Every range reads dy, and every group of columns reads x. So all of them take a part of the pixels
        // that the L3 cache holds before any of them takes the next part, unless the sums, which every part
        // reads and writes, are larger than that.
        let longest = phase.pixels().div_ceil(chunks);
        let floats = PART.max(2 * k * n);
        let part = if ranges > 1 { (floats / (gather.geom.cin + n)).next_multiple_of(PIXELS) } else { longest };
        for start in (0..longest).step_by(part) {
            let part = start..start + part;
            parallel(chunks * ranges, |i| {
                let (chunk, range, part) = (i / ranges, i % ranges, part.clone());
                // SAFETY: the slices have the sizes of the geometry (`conv_dw` and `gemm` check them), and
                // the buffers are as long as `scratch_len` says. Each task writes the sums of its own
                // chunk and range, and the buffer of its own thread.
                unsafe { dispatch(target, Outer { context, chunk, range, part }) }
            });
        }
    }
    let parts = if k * n < 1 << 14 { 1 } else { TASKS * threads };
    parallel(parts, |i| {
        let rows = rows * i / parts..rows * (i + 1) / parts;
        // SAFETY: each task writes its own rows of dw. The sums are complete, because all tasks above are
        // done.
        unsafe { dispatch(target, Reduce { context, dw, rows }) }
    });
}

/// A task: sums the products of a part of one chunk of pixels for a range of K.
struct Outer<'a> {
    context: &'a Context<'a>,
    chunk: usize,
    range: usize,
    /// The pixels of the part, counted from the first one of the chunk. It may end after the chunk.
    part: Range<usize>,
}

impl Job for Outer<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Tiles>(self) {
        let Context { phase, x, chunks, ranges, patches, .. } = *self.context;
        let first = phase.pixels() * self.chunk / chunks;
        let end = phase.pixels() * (self.chunk + 1) / chunks;
        let part = (first + self.part.start).min(end)..(first + self.part.end).min(end);
        let (k, n, width) = (phase.k(), phase.gather.geom.cout, 2 * S::LANES);
        // K is divided into tiles, none of which spans two pieces.
        let tiles_of = |piece: &Piece| piece.k.len().div_ceil(S::MR);
        let tiles: usize = patches.pieces(&phase).map(|piece| tiles_of(&piece)).sum();
        let (tiles, all) = (tiles * self.range / ranges..tiles * (self.range + 1) / ranges, tiles.max(1));
        // Copied patches are a single piece.
        let first_row = |tile: usize| tile * (k / all) + tile.min(k % all);
        let copied = first_row(tiles.start)..first_row(tiles.end);
        // SAFETY: x and dy have the sizes of the geometry (`conv_dw` and `gemm` check them), so all pixels
        // of the chunk are inside them. Only this task accesses the sums of its chunk and range, and the
        // buffers of its thread. The processor has the features of `S` (contract of `Job::run`).
        unsafe {
            let right = self.context.buffers.add(team::thread() * BUFFER);
            let copy = right.add(PIXELS * COLUMNS);
            let table = copy.add(PATCHES).cast::<*const f32>();
            for group in (0..n).step_by(COLUMNS) {
                let group = group..n.min(group + COLUMNS);
                // The closed channels of a panel are at the end of K, so K ends earlier for it.
                let mut ends = [0; COLUMNS / MIN_WIDTH];
                for (end, column) in ends.iter_mut().zip(group.clone().step_by(width)) {
                    *end = phase.segments(column..n.min(column + width)).0.end();
                }
                for start in part.clone().step_by(PIXELS) {
                    let pixels = start..part.end.min(start + PIXELS);
                    match patches {
                        Patches::InPlace { offset, step } => {
                            patches::point_at_rows(table, x.as_ptr().add(offset + start * step), step, pixels.len());
                        }
                        Patches::Copied => {
                            let ld = padded(copied.len());
                            patches::im2col::<S>(&phase, x.as_ptr(), pixels.clone(), copied.clone(), copy, ld);
                            patches::point_at_rows(table, copy.wrapping_sub(copied.start), ld, pixels.len());
                        }
                        Patches::Framed => frame::fill::<S>(&phase, x.as_ptr(), pixels.clone(), copy, table),
                        Patches::Taps => {}
                    }
                    let right = self.right::<S>(pixels.clone(), group.clone(), right);
                    let mut first_tile = 0;
                    for piece in patches.pieces(&phase) {
                        let of_piece = tiles_of(&piece);
                        let own = tiles.start.max(first_tile)..tiles.end.min(first_tile + of_piece);
                        if patches == Patches::Taps && !own.is_empty() {
                            let (zeros, tap) = (self.context.zeros.0, piece.tap..piece.tap + 1);
                            patches::point_at_taps(&phase, x.as_ptr(), zeros, pixels.clone(), tap, table, PIXELS);
                        }
                        let (each, longer) = (piece.k.len() / of_piece.max(1), piece.k.len() % of_piece.max(1));
                        for tile in own {
                            let tile = tile - first_tile;
                            let low = tile * each + tile.min(longer);
                            let high = low + each + usize::from(tile < longer);
                            let row = piece.k.start + low;
                            let offsets: [usize; MAX_MR] = std::array::from_fn(|i| (self.chunk * k + row + i) * n);
                            for (panel, column) in group.clone().step_by(width).enumerate() {
                                if row >= ends[panel] {
                                    continue;
                                }
                                let cols = width.min(group.end - column);
                                S::across(high - low, cols.div_ceil(S::LANES))(&Across {
                                    a: table,
                                    first: piece.at + low,
                                    steps: pixels.len(),
                                    b: Right { b: right.first.b.add(panel * right.step), ldb: right.first.ldb },
                                    out: Out {
                                        c: self.context.sums.add(column),
                                        rows: &offsets[..high - low],
                                        cols,
                                        add: start > first || (self.context.direct && self.context.add),
                                    },
                                });
                            }
                        }
                        first_tile += of_piece;
                    }
                }
            }
        }
    }
}

/// Some columns of dy, as panels of `2 * LANES` columns: the first panel, and the distance to the next one.
#[derive(Clone, Copy)]
struct ColumnPanels {
    first: Right,
    step: usize,
}

impl Outer<'_> {
    /// The columns `group` of dy. They are read in place if they are whole vectors, unless dy has many
    /// columns and its rows are a multiple of half a page apart: then they would evict each other from the
    /// L1 cache, and are packed into `buffer`.
    ///
    /// # Safety
    /// The processor has the features of `S` and `buffer` holds the columns of the pixels.
    #[inline(always)]
    unsafe fn right<S: Tiles>(&self, pixels: Range<usize>, group: Range<usize>, buffer: *mut f32) -> ColumnPanels {
        let (n, width) = (self.context.phase.gather.geom.cout, 2 * S::LANES);
        // SAFETY: dy has a row of n floats for each pixel, and `buffer` has room for the columns of the
        // pixels (contract of this function). The processor has the features of `S`.
        unsafe {
            let dy = self.context.dy.as_ptr().add(pixels.start * n);
            if n % S::LANES == 0 && (n <= 2 * width || n % 512 != 0) {
                return ColumnPanels { first: Right { b: dy.add(group.start), ldb: n }, step: width };
            }
            // Pixel by pixel, because the processor prefetches the neighbouring lines of a row.
            for i in 0..pixels.len() {
                prefetch(dy.wrapping_add((i + PIXELS_AHEAD) * n + group.start), group.len());
                for (panel, column) in group.clone().step_by(width).enumerate() {
                    let columns = width.min(group.end - column);
                    // Tiles read whole vectors, so the last one is filled up with zeros.
                    let (row, from) = (buffer.add((panel * PIXELS + i) * width), dy.add(i * n + column));
                    let whole = columns / S::LANES * S::LANES;
                    copy::<S>(row, from, whole);
                    if whole < columns {
                        S::store(row.add(whole), S::load_first(from.add(whole), columns - whole));
                    }
                }
            }
            ColumnPanels { first: Right { b: buffer, ldb: width }, step: PIXELS * width }
        }
    }
}

/// A task: adds up the chunks of some rows of dw, and writes zeros for closed weights.
struct Reduce<'a> {
    context: &'a Context<'a>,
    dw: Shared,
    rows: Range<usize>,
}

impl Job for Reduce<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Tiles>(self) {
        let Context { phase, chunks, direct, add, epi, .. } = *self.context;
        let g = &phase.gather.geom;
        let (n, stride) = (g.cout, phase.k() * g.cout);
        let chunks = if phase.pixels() == 0 { 0 } else { chunks };
        let centre = phase.centre();
        let mut next = self.rows.start;
        // SAFETY: only this task writes these rows of dw, which are inside it. The sums have K rows per
        // chunk, and nothing writes them any more. The processor has the features of `S` (contract of
        // `Job::run`).
        unsafe {
            for (k, i, j) in phase.taps() {
                let tap = (i * g.kw + j) * g.cin;
                let start = tap.clamp(next, self.rows.end);
                let end = (tap + g.cin).clamp(start, self.rows.end);
                // What earlier gradients wrote to closed weights is zero.
                if !add {
                    clear::<S>(self.dw.add(next * n), (start - next) * n);
                }
                if !direct && start < end {
                    let sums = self.context.sums.add((k + start - tap) * n);
                    let dw = self.dw.add(start * n);
                    if !add {
                        clear::<S>(dw, (end - start) * n);
                    }
                    add_up::<S>(dw, sums, (end - start) * n, chunks, stride);
                }
                if centre == Some(k) {
                    self.close::<S>(tap, start..end);
                }
                next = end.max(next);
            }
            if !add {
                clear::<S>(self.dw.add(next * n), (self.rows.end - next) * n);
            }
            if !epi.is_empty() {
                for row in self.rows {
                    epilogue::apply(epi, self.dw.0, &[row * n], 0..n, n);
                }
            }
        }
    }
}

impl Reduce<'_> {
    /// Writes zeros to the closed weights of the centre tap in `rows` of dw. The tap begins at row `tap`.
    ///
    /// # Safety
    /// The processor has the features of `S`. The rows are inside dw, and only this task accesses them.
    #[inline(always)]
    unsafe fn close<S: Simd>(&self, tap: usize, rows: Range<usize>) {
        let g = &self.context.phase.gather.geom;
        let mut first = 0;
        while first < g.cout {
            // Neighbouring output channels mostly see the same input channels.
            let open = g.centre_channels(first);
            let len = (first..g.cout).take_while(|&co| g.centre_channels(co) == open).count();
            for row in rows.start.max(tap + open)..rows.end {
                // SAFETY: the row is inside dw, and the channels are inside the row. The caller vouches for
                // the features and for exclusive access.
                unsafe { clear::<S>(self.dw.add(row * g.cout + first), len) };
            }
            first += len;
        }
    }
}

/// `dst[i] += sums[i]`, then `sums[i + stride]`, and so on: `count` terms in order.
#[inline(always)]
unsafe fn add_up<S: Simd>(dst: *mut f32, sums: *const f32, len: usize, count: usize, stride: usize) {
    // SAFETY: the caller vouches for `len` floats of dst and of every chunk, and dst does not overlap the
    // sums.
    unsafe {
        let dst = std::slice::from_raw_parts_mut(dst, len);
        for chunk in 0..count {
            let sums = std::slice::from_raw_parts(sums.add(chunk * stride), len);
            dst.iter_mut().zip(sums).for_each(|(d, s)| *d += s);
        }
    }
}
