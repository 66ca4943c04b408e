//! Launches of recurrences. They choose how many rows of the weights a block holds in shared memory, and its
//! number of threads.

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

/// How many of `rows` rows of `width` floats fit into shared memory next to `taken` other floats, and the
/// bytes of all of them together.
fn held(l: &Lowering, taken: usize, rows: usize, width: usize) -> (usize, u32) {
    let room = (l.card.shared_bytes as usize / 4).saturating_sub(taken);
    let held = (room / width.max(1)).min(rows);
    (held, (4 * (taken + held * width)) as u32)
}

/// Transposes `count` matrices `[rows, width]` into scratch.
fn transpose(l: &mut Lowering, from: Ptr, [count, rows, width]: [usize; 3]) -> Result<Ptr> {
    let to = l.scratch(count * rows * width)?;
    let args = Rows { rows: word(rows)?, width: word(width)?, others: word(count)?, eps: 0.0 };
    let grid = [word(width.div_ceil(32))?, word(rows.div_ceil(32))?, word(count)?];
    l.launch(kernel("lstm", "transpose"), (grid, [32, 8, 1], 0), args, &[from, to])?;
    Ok(to)
}

/// `z, h0, c0, w_hh -> y, c_n, kept`
pub(super) fn lstm(l: &mut Lowering) -> Result<()> {
    let (z, h) = (l.shape(0), l.shape(1).last());
    let (steps, rows) = (z.dims()[0], z.dims()[1]);
    let (held, shared) = held(l, 3 * ROWS * h, h, 4 * h);
    let args = Sequence { steps: word(steps)?, rows: word(rows)?, h: word(h)?, held: word(held)? };
    word(steps * rows * 5 * h)?;
    let pointers = [l.x(0), l.x(1), l.x(2), l.x(3), l.y(0), l.y(1), l.y(2)];
    let grid = [word(rows.div_ceil(ROWS))?, 1, 1];
    l.launch(kernel("lstm", "lstm"), (grid, block(h), shared), args, &pointers)
}

/// `dy, dc_n, c0, w_hh, kept -> dz, dh0, dc0`
pub(super) fn lstm_bwd(l: &mut Lowering) -> Result<()> {
    let (dy, h) = (l.shape(0), l.shape(0).last());
    let (steps, rows) = (dy.dims()[0], dy.dims()[1]);
    let (held, shared) = held(l, 10 * ROWS * h, 4 * h, h);
    let args = Sequence { steps: word(steps)?, rows: word(rows)?, h: word(h)?, held: word(held)? };
    word(steps * rows * 5 * h)?;
    let weights = l.x(3);
    let transposed = transpose(l, weights, [1, h, 4 * h])?;
    let pointers = [l.x(0), l.x(1), l.x(2), transposed, l.x(4), l.y(0), l.y(1), l.y(2)];
    let grid = [word(rows.div_ceil(ROWS))?, 1, 1];
    l.launch(kernel("lstm", "lstm_bwd"), (grid, block(h), shared), args, &pointers)
}

/// The arguments of a scan, and the number of cells of its line.
fn extents(l: &Lowering, reverse: bool) -> Result<(args::Scan, usize)> {
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
    Ok((args, if is_row { width } else { height }))
}

/// `z, w_ss -> y, kept`
pub(super) fn scan(l: &mut Lowering, name: &'static str, reverse: bool) -> Result<()> {
    let (mut args, cells) = extents(l, reverse)?;
    let (d, taps) = (args.d as usize, args.taps as usize);
    let (held, shared) = held(l, (2 * (cells + taps - 1) + cells) * d, taps * d, 4 * d);
    args.held = word(held)?;
    let pointers = [l.x(0), l.x(1), l.y(0), l.y(1)];
    let shape = ([args.n, 1, 1], block(cells.div_ceil(CELLS) * d), shared);
    l.launch(kernel("scan", name), shape, args, &pointers)
}

/// `dy, w_ss, kept -> dz`
pub(super) fn scan_bwd(l: &mut Lowering, name: &'static str, reverse: bool) -> Result<()> {
    let (mut args, cells) = extents(l, reverse)?;
    let (d, taps) = (args.d as usize, args.taps as usize);
    let (held, shared) = held(l, (8 * (cells + taps - 1) + cells) * d, taps * 4 * d, d);
    args.held = word(held)?;
    let weights = l.x(1);
    let transposed = transpose(l, weights, [taps, d, 4 * d])?;
    let pointers = [l.x(0), transposed, l.x(2), l.y(0)];
    let shape = ([args.n, 1, 1], block(cells.div_ceil(CELLS) * d), shared);
    l.launch(kernel("scan", name), shape, args, &pointers)
}
