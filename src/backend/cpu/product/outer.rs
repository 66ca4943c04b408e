//! `conv_dw` (and products with a transposed left side): the gathered rows of all pixels, transposed, times the gradients.
//!
//! Shapes: `dw[K, N] = rows[P, K]^T dy[P, N]`, P all output pixels, K open taps x cin, N = cout. The pixels are cut into
//! chunks that depend on the geometry alone; tasks are chunks times ranges of K. A task gathers the rows of a few hundred
//! pixels at a time into a buffer that fits the L2 cache (or reads them in place) and adds their products to the chunk's
//! sums; the register tile reads both sides as they lie, k running across rows. The chunks' sums are added in order.
//!
//! Bound by the FMA units where K and N are 64 or more, else by reading x and dy.

use super::gather::{Gather, Phase};
use super::isa::{Isa, Job, dispatch};
use super::pool::{LINE, Shared, aligned, parallel, thread};
use super::simd::{Simd, clear, copy};
use super::tile::{Tile, Tiles};
use crate::backend::cpu::epilogue::{self, EpilogueOp};
use std::ops::Range;

/// Pixels that are gathered at a time.
const PIXELS: usize = 192;
/// Floats of gathered rows.
const BLOCK: usize = 96 * 1024;
/// Longest range of K of a task: `PIXELS` of them fill the block.
const RANGE: usize = BLOCK / PIXELS - 2 * LINE;
/// Fewest pixels and most floats of sums (all chunks together) that allow a further chunk.
const CHUNK: usize = 1024;
const SUMS: usize = 1 << 20;
/// Most chunks.
const MAX_CHUNKS: usize = 16;
/// Widest panel on any instruction set.
const MAX_WIDTH: usize = 32;
/// Tasks for each thread, so that no thread waits long for the last one.
const TASKS: usize = 4;

/// Distance between gathered rows: an odd number of cache lines, so that neighbouring rows fall into different sets.
fn padded(k: usize) -> usize {
    (k.div_ceil(LINE) | 1) * LINE
}

/// Floats of the buffers of one thread: gathered rows and a panel of dy.
const BUFFER: usize = BLOCK + PIXELS * MAX_WIDTH;

/// The pixels cut into chunks, by the geometry alone.
fn chunks(phase: &Phase) -> usize {
    let sums = phase.k() * phase.gather.geom.cout;
    (phase.pixels() / CHUNK).min(SUMS / sums.max(1)).clamp(1, MAX_CHUNKS)
}

/// Floats of scratch that [`run`] needs on `threads` threads, whatever the instruction set.
pub(super) fn scratch_len(gather: &Gather, threads: usize) -> usize {
    let phase = gather.phase(0);
    LINE + chunks(&phase) * phase.k() * gather.geom.cout + threads * BUFFER
}

/// What the tasks of one call share.
struct Context<'a> {
    phase: Phase,
    x: &'a [f32],
    dy: &'a [f32],
    sums: Shared,
    buffers: Shared,
    /// Whether the sums of the only chunk are the result itself.
    direct: bool,
    chunks: usize,
    ranges: usize,
    epi: &'a [EpilogueOp<'a>],
    isa: Isa,
}

/// Computes all weight gradients of `gather` (forward). Slices have the sizes of the geometry.
///
/// # Panics
/// If the scratch is too small.
#[track_caller]
pub(super) fn run(
    isa: Isa,
    gather: &Gather,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    epi: &[EpilogueOp],
    scratch: &mut [f32],
) {
    if dw.is_empty() {
        return;
    }
    let threads = rayon::current_num_threads();
    let sums = aligned(scratch, scratch_len(gather, threads) - LINE);
    let phase = gather.phase(0);
    let (k, n) = (phase.k(), gather.geom.cout);
    let chunks = chunks(&phase);
    // SAFETY: the buffers follow the sums, within the length that was checked.
    let buffers = Shared(unsafe { sums.add(chunks * k * n) });
    let rows = dw.len() / n;
    let dw = Shared(dw.as_mut_ptr());
    let direct = phase.weight_row().filter(|_| chunks == 1 && phase.pixels() > 0);
    // SAFETY: K begins at that row of dw and runs along it.
    let sums = direct.map_or(sums, |row| Shared(unsafe { dw.add(row * n) }));
    let wanted = if threads > 1 { (TASKS * threads).div_ceil(chunks) } else { 1 };
    let ranges = k.div_ceil(RANGE).max(wanted.min(k / (2 * isa.mr()))).max(1);
    let direct = direct.is_some();
    let context = &Context { phase, x, dy, sums, buffers, direct, chunks, ranges, epi, isa };
    if k > 0 && phase.pixels() > 0 {
        parallel(chunks * ranges, |i| {
            // SAFETY: every task writes sums of its own.
            unsafe { dispatch(isa, Outer { context, chunk: i / ranges, range: i % ranges }) }
        });
    }
    let parts = if k * n < 1 << 14 { 1 } else { TASKS * threads };
    parallel(parts, |i| {
        let rows = rows * i / parts..rows * (i + 1) / parts;
        // SAFETY: every task writes rows of its own.
        unsafe { dispatch(isa, Reduce { context, dw, rows }) }
    });
}

/// Adds up the products of one chunk of pixels for a range of K.
struct Outer<'a> {
    context: &'a Context<'a>,
    chunk: usize,
    range: usize,
}

impl Job for Outer<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Tiles>(self) {
        let Context { phase, x, dy, chunks, ranges, isa, .. } = *self.context;
        let (k, n, width) = (phase.k(), phase.gather.geom.cout, isa.width());
        let chunk = self.chunk;
        let first = phase.pixels() * chunk / chunks;
        let end = phase.pixels() * (chunk + 1) / chunks;
        let ks = k * self.range / ranges..k * (self.range + 1) / ranges;
        let tiles = ks.len().div_ceil(S::MR);
        // SAFETY: inputs have the sizes of the geometry; the sums of this chunk and range, and this thread's buffers,
        // belong to this task.
        unsafe {
            let sums = self.context.sums.add((chunk * k + ks.start) * n);
            let buffer = self.context.buffers.add(thread() * BUFFER);
            let panel_buffer = buffer.add(BLOCK);
            for start in (first..end).step_by(PIXELS) {
                let pixels = start..end.min(start + PIXELS);
                let (a, lda) = match phase.in_place() {
                    Some((offset, ld)) => (x.as_ptr().add(offset + start * ld + ks.start), ld),
                    None => {
                        let ld = padded(ks.len());
                        phase.im2col::<S>(x.as_ptr(), pixels.clone(), ks.clone(), buffer, ld);
                        (buffer.cast_const(), ld)
                    }
                };
                for column in (0..n).step_by(width) {
                    let columns = column..n.min(column + width);
                    let (b, ldb) = if columns.len() == width && n <= 2 * width {
                        (dy.as_ptr().add(start * n + column), n)
                    } else {
                        for (i, p) in pixels.clone().enumerate() {
                            let row = panel_buffer.add(i * width);
                            copy::<S>(row, dy.as_ptr().add(p * n + column), columns.len());
                            clear::<S>(row.add(columns.len()), width - columns.len());
                        }
                        (panel_buffer.cast_const(), width)
                    };
                    // Closed channels are the last rows of what these columns see: no tile begins there.
                    let (open, _) = phase.segments(columns.clone());
                    let open = open.as_slice().last().map_or(0, |range| range[1]);
                    for t in 0..tiles {
                        let rows = ks.len() * t / tiles..ks.len() * (t + 1) / tiles;
                        if ks.start + rows.start >= open {
                            break;
                        }
                        let offsets: [usize; 16] = std::array::from_fn(|i| (rows.start + i) * n + column);
                        S::tile(rows.len(), columns.len().div_ceil(S::LANES), true)(&Tile {
                            a: a.add(rows.start),
                            lda,
                            b,
                            ldb,
                            c: sums,
                            rows: &offsets[..rows.len()],
                            cols: columns.len(),
                            segments: &[[0, pixels.len()]],
                            resume: start > first,
                        });
                    }
                }
            }
        }
    }
}

/// Adds up the chunks of some rows of dw, with zeros for everything closed.
struct Reduce<'a> {
    context: &'a Context<'a>,
    dw: Shared,
    rows: Range<usize>,
}

impl Job for Reduce<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Tiles>(self) {
        let Context { phase, chunks, direct, epi, .. } = *self.context;
        let g = &phase.gather.geom;
        let (n, stride) = (g.cout, phase.k() * g.cout);
        let chunks = if phase.pixels() == 0 { 0 } else { chunks };
        let centre = phase.centre();
        let mut next = self.rows.start;
        // SAFETY: the rows belong to this task; sums hold `chunks` times K rows.
        unsafe {
            phase.for_each_tap(|k, i, j| {
                let tap = (i * g.kw + j) * g.cin;
                let start = tap.clamp(next, self.rows.end);
                let end = (tap + g.cin).clamp(start, self.rows.end);
                clear::<S>(self.dw.add(next * n), (start - next) * n);
                if !direct && start < end {
                    let sums = self.context.sums.add((k + start - tap) * n);
                    add_up::<S>(self.dw.add(start * n), sums, (end - start) * n, chunks, stride);
                }
                if centre == Some(k) {
                    for (row, co) in (start..end).flat_map(|row| (0..n).map(move |co| (row, co))) {
                        if row - tap >= g.open_channels(i, j, co) {
                            *self.dw.add(row * n + co) = 0.0;
                        }
                    }
                }
                next = end.max(next);
            });
            clear::<S>(self.dw.add(next * n), (self.rows.end - next) * n);
            if !epi.is_empty() {
                self.rows.for_each(|row| epilogue::apply(epi, self.dw.0, &[row * n], 0..n, n));
            }
        }
    }
}

/// `dst[i] = sums[i] + sums[i + stride] + ..`, `count` terms in order.
#[inline(always)]
unsafe fn add_up<S: Simd>(dst: *mut f32, sums: *const f32, len: usize, count: usize, stride: usize) {
    // SAFETY: the caller vouches for `len` floats of dst and of every chunk.
    unsafe {
        let dst = std::slice::from_raw_parts_mut(dst, len);
        dst.fill(0.0);
        for chunk in 0..count {
            let sums = std::slice::from_raw_parts(sums.add(chunk * stride), len);
            dst.iter_mut().zip(sums).for_each(|(d, s)| *d += s);
        }
    }
}
