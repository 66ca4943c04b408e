//! Launches of recurrences. They choose how many rows of the weights a block holds in shared memory, and its
//! number of threads.

use super::driver::LaunchShape;
use super::lowering::{Lowering, Ptr, kernel};
use crate::backend::args::{self, Rows, Sequence, word};
use crate::error::Result;

/// Rows of the batch that a block computes: `ROWS` of `lstm.cu`.
const ROWS: usize = 4;

/// Neighbouring cells that a thread of a scan computes: `CELLS` of `scan.cu`.
const CELLS: usize = 2;

/// Most threads of a block: `MOST_UNITS` of `lstm.cu`, `MOST_THREADS` of `scan.cu`.
const MOST_THREADS: usize = 512;

/// A block of whole warps for `items` items.
fn block(items: usize) -> [u32; 3] {
    [items.next_multiple_of(32).clamp(32, MOST_THREADS) as u32, 1, 1]
}

/// The part of the weights that a block holds in shared memory.
struct Held {
    /// Leading rows of the weights.
    rows: usize,
    /// Bytes of shared memory, those of other values included.
    shared_bytes: u32,
}

/// Matrices of the same extents, one after the other.
struct Matrices {
    count: usize,
    rows: usize,
    width: usize,
}

/// How many of `rows` rows of `width` floats fit into shared memory next to `taken` other floats, and the
/// bytes of all of them together.
fn held(l: &Lowering, taken: usize, rows: usize, width: usize) -> Held {
    let room = (l.card.shared_bytes as usize / 4).saturating_sub(taken);
    let rows = (room / width.max(1)).min(rows);
    Held { rows, shared_bytes: (4 * (taken + rows * width)) as u32 }
}

/// Transposes matrices into scratch.
fn transpose(l: &mut Lowering, from: Ptr, matrices: Matrices) -> Result<Ptr> {
    let Matrices { count, rows, width } = matrices;
    let to = l.scratch(count * rows * width)?;
    let args = Rows { rows: word(rows)?, width: word(width)?, others: word(count)?, eps: 0.0 };
    let grid = [word(width.div_ceil(32))?, word(rows.div_ceil(32))?, word(count)?];
    l.launch(kernel("lstm", "transpose"), LaunchShape { grid, block: [32, 8, 1], shared_bytes: 0 }, args, &[from, to])?;
    Ok(to)
}

/// `z, h0, c0, w_hh -> y, c_n, kept`
pub(super) fn lstm(l: &mut Lowering) -> Result<()> {
    let (z, h) = (l.shape(0), l.shape(1).last());
    let (steps, rows) = (z.dims()[0], z.dims()[1]);
    let Held { rows: held, shared_bytes } = held(l, 3 * ROWS * h, h, 4 * h);
    let args = Sequence { steps: word(steps)?, rows: word(rows)?, h: word(h)?, held: word(held)? };
    word(steps * rows * 5 * h)?;
    let pointers = [l.x(0), l.x(1), l.x(2), l.x(3), l.y(0), l.y(1), l.y(2)];
    let grid = [word(rows.div_ceil(ROWS))?, 1, 1];
    l.launch(kernel("lstm", "lstm"), LaunchShape { grid, block: block(h), shared_bytes }, args, &pointers)
}

/// `dy, dc_n, c0, w_hh, kept -> dz, dh0, dc0`
pub(super) fn lstm_bwd(l: &mut Lowering) -> Result<()> {
    let (dy, h) = (l.shape(0), l.shape(0).last());
    let (steps, rows) = (dy.dims()[0], dy.dims()[1]);
    let Held { rows: held, shared_bytes } = held(l, 10 * ROWS * h, 4 * h, h);
    let args = Sequence { steps: word(steps)?, rows: word(rows)?, h: word(h)?, held: word(held)? };
    word(steps * rows * 5 * h)?;
    let weights = l.x(3);
    let transposed = transpose(l, weights, Matrices { count: 1, rows: h, width: 4 * h })?;
    let pointers = [l.x(0), l.x(1), l.x(2), transposed, l.x(4), l.y(0), l.y(1), l.y(2)];
    let grid = [word(rows.div_ceil(ROWS))?, 1, 1];
    l.launch(kernel("lstm", "lstm_bwd"), LaunchShape { grid, block: block(h), shared_bytes }, args, &pointers)
}

/// The extents of a scan.
struct Extents {
    /// The arguments of its kernel, without the rows that a block holds.
    args: args::Scan,
    /// Number of cells of the line that sweeps over an image.
    cells: usize,
}

fn extents(l: &Lowering, reverse: bool) -> Result<Extents> {
    let (x, w) = (l.shape(0), l.shape(1));
    let d = w.dims()[2];
    let is_row = w.dims()[0] == 1;
    let taps = if is_row { w.dims()[1] } else { 2 };
    let [n, height, width] = [x.dims()[0], x.dims()[1], x.dims()[2]];
    word(n * height * width * 5 * d)?;
    let args = args::Scan {
        n: word(n)?,
        h: word(height)?,
        w: word(width)?,
        d: word(d)?,
        taps: word(taps)?,
        reverse: u32::from(reverse),
        ..args::Scan::default()
    };
    Ok(Extents { args, cells: if is_row { width } else { height } })
}

/// `z, w_ss -> y, kept`
pub(super) fn scan(l: &mut Lowering, name: &'static str, reverse: bool) -> Result<()> {
    let Extents { mut args, cells } = extents(l, reverse)?;
    let (d, taps) = (args.d as usize, args.taps as usize);
    let Held { rows: held, shared_bytes } = held(l, (2 * (cells + taps - 1) + cells) * d, taps * d, 4 * d);
    args.held = word(held)?;
    let pointers = [l.x(0), l.x(1), l.y(0), l.y(1)];
    let block = block(cells.div_ceil(CELLS) * d);
    let shape = LaunchShape { grid: [args.n, 1, 1], block, shared_bytes };
    l.launch(kernel("scan", name), shape, args, &pointers)
}

/// `dy, w_ss, kept -> dz`
pub(super) fn scan_bwd(l: &mut Lowering, name: &'static str, reverse: bool) -> Result<()> {
    let Extents { mut args, cells } = extents(l, reverse)?;
    let (d, taps) = (args.d as usize, args.taps as usize);
    let Held { rows: held, shared_bytes } = held(l, (8 * (cells + taps - 1) + cells) * d, taps * 4 * d, d);
    args.held = word(held)?;
    let weights = l.x(1);
    let transposed = transpose(l, weights, Matrices { count: taps, rows: d, width: 4 * d })?;
    let pointers = [l.x(0), transposed, l.x(2), l.y(0)];
    let block = block(cells.div_ceil(CELLS) * d);
    let shape = LaunchShape { grid: [args.n, 1, 1], block, shared_bytes };
    l.launch(kernel("scan", name), shape, args, &pointers)
}
