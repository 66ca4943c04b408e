//! LSTM cells and whole sequences (Hochreiter & Schmidhuber 1997, Gers et al. 2000). The order of the gates
//! is i, f, g, o.
//!
//! The rows of the batch are independent. So a task computes a block of rows through all steps, and threads
//! synchronise once per sequence instead of once per step. The recurrent weights are packed once for all
//! steps. While a task activates the gates of one step, it prefetches what the next step reads, because a
//! sequence is larger than the caches, and the rows of a block are short pieces of it.

use super::product::{Addend, Isa, Panels};
use super::team;
use super::vector::{chunk_rows, map, prefetch, spread, vectorized};
use crate::math;
use rayon::prelude::*;
use std::array;
use std::ops::Range;

/// `c' = f c + i g`, `h' = o tanh(c')`. `gates` is the activated z; a row of it has `4h` elements.
pub(super) fn lstm_cell(isa: Isa, h: usize, [z, c]: [&[f32]; 2], [h_next, c_next, gates]: [&mut [f32]; 3]) {
    let (rows, len) = (chunk_rows(4 * h), z.len());
    let outputs = h_next.par_chunks_mut(rows * h).zip(c_next.par_chunks_mut(rows * h));
    let inputs = z.par_chunks(rows * 4 * h).zip(c.par_chunks(rows * h));
    spread(gates.par_chunks_mut(rows * 4 * h).zip(outputs).zip(inputs), len).for_each(
        |((gates, (h_next, c_next)), (z, c))| {
            gates.copy_from_slice(z);
            cell_rows(isa, h, gates, c, c_next, h_next);
        },
    );
}

vectorized! {
    fn cell_rows(h: usize, gates: &mut [f32], c: &[f32], c_next: &mut [f32], h_next: &mut [f32]) {
        let states = c.chunks_exact(h).zip(c_next.chunks_exact_mut(h)).zip(h_next.chunks_exact_mut(h));
        for (gates, ((c, c_next), h_next)) in gates.chunks_exact_mut(4 * h).zip(states) {
            cell(gates, c, c_next, h_next);
        }
    }
}

/// Activates the gates of one row and steps its cell.
#[inline(always)]
pub(super) fn cell(gates: &mut [f32], c: &[f32], c_next: &mut [f32], h_next: &mut [f32]) {
    c_next.copy_from_slice(c);
    step_units(gates, 0..c.len(), c_next, h_next);
}

/// Activates the gates of some units of one row and steps their cells in place.
#[inline(always)]
fn step_units(gates: &mut [f32], units: Range<usize>, c: &mut [f32], h_next: &mut [f32]) {
    let (if_gates, go_gates) = gates.split_at_mut(2 * c.len());
    let ((i, f), (g, o)) = (if_gates.split_at_mut(c.len()), go_gates.split_at_mut(c.len()));
    let [i, f, g, o] = [i, f, g, o].map(|gate| &mut gate[units.clone()]);
    // Each loop writes only one slice, so LLVM need not prove that several slices are disjoint.
    i.iter_mut().for_each(|v| *v = math::sigmoid(*v));
    f.iter_mut().for_each(|v| *v = math::sigmoid(*v));
    g.iter_mut().for_each(|v| *v = math::tanh(*v));
    o.iter_mut().for_each(|v| *v = math::sigmoid(*v));
    step_cells([&*i, &*f, &*g, &*o], &mut c[units.clone()], &mut h_next[units]);
}

/// `c = f c + i g`, `h_next = o tanh(c)`.
#[inline(always)]
fn step_cells([i, f, g, o]: [&[f32]; 4], c: &mut [f32], h_next: &mut [f32]) {
    map!(c <- i, f, g: f * *c + i * g);
    let c = &*c;
    map!(h_next <- o, c: o * math::tanh(c));
}

vectorized! {
    /// Activates the gates of some units of a pixel and steps their cells, in place: `gates[4h]`, `c[h]`,
    /// `h_next[h]`.
    pub(super) fn cell_of_units(gates: &mut [f32], units: Range<usize>, c: &mut [f32], h_next: &mut [f32]) {
        step_units(gates, units, c, h_next);
    }
}

/// The gradients of z and c.
pub(super) fn lstm_cell_bwd(
    isa: Isa,
    h: usize,
    [dh_next, dc_next, c, c_next, gates]: [&[f32]; 5],
    [dz, dc]: [&mut [f32]; 2],
) {
    let (rows, len) = (chunk_rows(4 * h), gates.len());
    let cells = c.par_chunks(rows * h).zip(c_next.par_chunks(rows * h)).zip(gates.par_chunks(rows * 4 * h));
    let gradients = dh_next.par_chunks(rows * h).zip(dc_next.par_chunks(rows * h));
    spread(dz.par_chunks_mut(rows * 4 * h).zip(dc.par_chunks_mut(rows * h)).zip(gradients).zip(cells), len).for_each(
        |(((dz, dc), (dh_next, dc_next)), ((c, c_next), gates))| {
            dc.copy_from_slice(dc_next);
            cell_bwd_rows(isa, h, [dh_next, c, c_next, gates], dz, dc);
        },
    );
}

vectorized! {
    fn cell_bwd_rows(h: usize, inputs: [&[f32]; 4], dz: &mut [f32], dc: &mut [f32]) {
        let [dh, c, c_next, gates] = inputs;
        let states = dh.chunks_exact(h).zip(c.chunks_exact(h)).zip(c_next.chunks_exact(h)).zip(dc.chunks_exact_mut(h));
        let rows = gates.chunks_exact(4 * h).zip(dz.chunks_exact_mut(4 * h));
        for ((gates, dz), (((dh, c), c_next), dc)) in rows.zip(states) {
            cell_bwd(dh, c, c_next, gates, dz, dc);
        }
    }
}

/// The gradients of one row. `dc` is the gradient of the new cell before the call, and of the old cell after
/// it.
#[inline(always)]
pub(super) fn cell_bwd(dh: &[f32], c: &[f32], c_next: &[f32], gates: &[f32], dz: &mut [f32], dc: &mut [f32]) {
    let h = c.len();
    // The last quarter of dz holds tanh(c') until the gradients replace it.
    let t = &mut dz[3 * h..];
    map!(t <- c_next: math::tanh(c_next));
    let blocks = h / UNITS;
    for block in 0..blocks {
        units_bwd::<UNITS>(block * UNITS, [dh, c, gates], dz, dc);
    }
    for unit in blocks * UNITS..h {
        units_bwd::<1>(unit, [dh, c, gates], dz, dc);
    }
}

/// Units whose gradients are computed at once, as arrays, which LLVM turns into vectors. In a loop over
/// slices, so few elements would mostly fall to the scalar remainder loop.
const UNITS: usize = 16;

/// The gradients of `N` units of a row from unit `at` on.
#[inline(always)]
fn units_bwd<const N: usize>(at: usize, inputs: [&[f32]; 3], dz: &mut [f32], dc: &mut [f32]) {
    let ([dh, c, gates], h) = (inputs, dc.len());
    let of = |x: &[f32], from: usize| -> [f32; N] { *x[from..].first_chunk().expect("units of the row") };
    let [i, f, g, o] = [0, 1, 2, 3].map(|gate| of(gates, gate * h + at));
    let (dh, c, t, dc_next) = (of(dh, at), of(c, at), of(dz, 3 * h + at), of(dc, at));
    // With t = tanh(c'), h' is o t, so the gradient of the new cell is dc' + dh o (1 - t^2).
    let cell: [f32; N] = array::from_fn(|k| dc_next[k] + dh[k] * o[k] * (1.0 - t[k] * t[k]));
    let mut gate = |gate: usize, of: [f32; N]| dz[gate * h + at..][..N].copy_from_slice(&of);
    gate(0, array::from_fn(|k| cell[k] * g[k] * (i[k] * (1.0 - i[k]))));
    gate(1, array::from_fn(|k| cell[k] * c[k] * (f[k] * (1.0 - f[k]))));
    gate(2, array::from_fn(|k| cell[k] * i[k] * (1.0 - g[k] * g[k])));
    gate(3, array::from_fn(|k| dh[k] * t[k] * (o[k] * (1.0 - o[k]))));
    dc[at..][..N].copy_from_slice(&array::from_fn::<f32, N, _>(|k| cell[k] * f[k]));
}

/// Extents of a sequence: steps, rows of the batch, hidden units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequence {
    pub(super) steps: usize,
    pub(super) rows: usize,
    pub(super) h: usize,
}

impl Sequence {
    /// Scratch of [`lstm`]: the packed weights and the gates of one step before activation.
    pub(super) fn scratch_len(&self) -> usize {
        Panels::packed_len(self.h, 4 * self.h) + self.rows * 4 * self.h
    }

    /// Scratch of [`lstm_bwd`]: the packed weights.
    pub(super) fn scratch_bwd_len(&self) -> usize {
        Panels::packed_len(4 * self.h, self.h)
    }
}

/// Most rows of a task, so that the states of a step stay in the L2 cache.
const MAX_BLOCK: usize = 128;

/// Rows of a task: an equal share for every thread. Each task reads all weights in each step, and large
/// weights do not fit into the L2 cache, so fewer tasks read less. Rows do not depend on each other, so the
/// number of threads cannot change a bit of the result.
fn block_rows(rows: usize) -> usize {
    rows.div_ceil(team::threads()).clamp(1, MAX_BLOCK)
}

/// Memory whose rows are distributed among tasks.
#[derive(Clone, Copy)]
struct Rows {
    at: *mut f32,
    len: usize,
    width: usize,
}

// SAFETY: `Rows` is a pointer with extents. Its memory is only accessed through `Rows::range`, whose
// contract excludes that two tasks hold the same rows.
unsafe impl Send for Rows {}
// SAFETY: `Rows` is not changed after it was made. Its memory is only accessed through `Rows::range`, whose
// contract excludes that two tasks hold the same rows.
unsafe impl Sync for Rows {}

impl Rows {
    fn new(all: &mut [f32], width: usize) -> Self {
        Rows { at: all.as_mut_ptr(), len: all.len(), width }
    }

    /// The `count` rows from `first` on, mutable.
    ///
    /// # Safety
    /// While the slice lives, nothing else accesses these rows. The slice does not outlive the memory.
    unsafe fn range<'a>(self, first: usize, count: usize) -> &'a mut [f32] {
        assert!((first + count) * self.width <= self.len, "rows within the memory");
        // SAFETY: the rows are inside the memory, as asserted above. By the contract of this function, the
        // memory outlives the slice and nothing else accesses these rows.
        unsafe { std::slice::from_raw_parts_mut(self.at.add(first * self.width), count * self.width) }
    }
}

/// Computes the gates from `z_t + h_{t-1} w_hh`, and the new cells and states, for all steps. `kept` gets
/// the activated gates and the cell.
pub(super) fn lstm(
    isa: Isa,
    sequence: Sequence,
    [z, h0, c0, w_hh]: [&[f32]; 4],
    [y, c_n, kept]: [&mut [f32]; 3],
    scratch: &mut [f32],
) {
    let Sequence { steps, rows, h } = sequence;
    let block_rows = block_rows(rows);
    let (packed, sums) = scratch.split_at_mut(Panels::packed_len(h, 4 * h));
    let weights = Panels::pack(isa, w_hh, [h, 4 * h], packed);
    let (y, kept) = (Rows::new(y, h), Rows::new(kept, 5 * h));
    let blocks = c_n.par_chunks_mut(block_rows * h).zip(sums[..rows * 4 * h].par_chunks_mut(block_rows * 4 * h));
    spread(blocks.enumerate(), z.len() * h).for_each(|(block, (c_n, sums))| {
        let (first, count) = (block * block_rows, c_n.len() / h);
        c_n.copy_from_slice(&c0[first * h..][..count * h]);
        let mut h_before = &h0[first * h..][..count * h];
        for t in 0..steps {
            let at = t * rows + first;
            // SAFETY: `y` and `kept` are borrowed for the whole call. Only this task accesses the rows of
            // its block, at any step. The rows of this step are not those of the step before, which
            // `h_before` still borrows.
            let (h_now, kept) = unsafe { (y.range(at, count), kept.range(at, count)) };
            let z_now = Addend::Matrix(&z[at * 4 * h..][..count * 4 * h]);
            weights.multiply(count, (h_before, h), (sums, 4 * h), z_now);
            let z_next = z.get((at + rows) * 4 * h..).unwrap_or_default();
            sequence_rows(isa, h, sums, z_next, kept, c_n, h_now);
            h_before = h_now;
        }
    });
}

vectorized! {
    /// Computes one step of each row. `sums` has the gates before activation; `kept` gets the activated
    /// gates and the cell. `c` holds the old cells and gets the new ones.
    fn sequence_rows(h: usize, sums: &[f32], z_next: &[f32], kept: &mut [f32], c: &mut [f32], h_next: &mut [f32]) {
        let states = sums.chunks_exact(4 * h).zip(c.chunks_exact_mut(h)).zip(h_next.chunks_exact_mut(h));
        for (row, ((sums, c), h_next)) in states.enumerate() {
            prefetch(z_next.get(row * 4 * h..(row + 1) * 4 * h).unwrap_or_default());
            prefetch(kept.get((row + 1) * 5 * h..(row + 2) * 5 * h).unwrap_or_default());
            let (gates, c_next) = kept[row * 5 * h..][..5 * h].split_at_mut(4 * h);
            let (if_gates, go_gates) = gates.split_at_mut(2 * h);
            let ((i, f), (g, o)) = (if_gates.split_at_mut(h), go_gates.split_at_mut(h));
            let of = |gate: usize| &sums[gate * h..][..h];
            let (i_sums, f_sums, g_sums, o_sums) = (of(0), of(1), of(2), of(3));
            map!(i <- i_sums: math::sigmoid(i_sums));
            map!(f <- f_sums: math::sigmoid(f_sums));
            map!(g <- g_sums: math::tanh(g_sums));
            map!(o <- o_sums: math::sigmoid(o_sums));
            step_cells([&*i, &*f, &*g, &*o], c, h_next);
            c_next.copy_from_slice(c);
        }
    }
}

/// The backward pass through all steps. `dz w_hh^T` is the gradient that a step passes to the step before
/// it.
pub(super) fn lstm_bwd(
    isa: Isa,
    sequence: Sequence,
    [dy, dc_n, c0, w_hh, kept]: [&[f32]; 5],
    [dz, dh0, dc0]: [&mut [f32]; 3],
    scratch: &mut [f32],
) {
    let Sequence { steps, rows, h } = sequence;
    let block_rows = block_rows(rows);
    let weights = Panels::pack_transposed(isa, w_hh, 1, [4 * h, h], scratch);
    let elements = dz.len() * h;
    let dz = Rows::new(dz, 4 * h);
    let states = dh0.par_chunks_mut(block_rows * h).zip(dc0.par_chunks_mut(block_rows * h));
    spread(states.enumerate(), elements).for_each(|(block, (dh, dc))| {
        // `dh` is the gradient of the states of a step, from its output and from the later steps; `dc` is
        // that of the cells.
        let (first, count) = (block * block_rows, dc.len() / h);
        let of_step = |t: usize| &dy[(t * rows + first) * h..][..count * h];
        dh.fill(0.0);
        if steps > 0 {
            let dy = of_step(steps - 1);
            map!(dh <- dy: dy + 0.0);
        }
        dc.copy_from_slice(&dc_n[first * h..][..count * h]);
        for t in (0..steps).rev() {
            let at = t * rows + first;
            let now = &kept[at * 5 * h..][..count * 5 * h];
            let (before, stride) = match t {
                0 => (&c0[first * h..], h),
                _ => (&kept[(at - rows) * 5 * h + 4 * h..], 5 * h),
            };
            // SAFETY: `dz` is borrowed for the whole call. Only this task accesses the rows of its block,
            // and it holds one slice at a time.
            let dz = unsafe { dz.range(at, count) };
            let next = if t > 0 { &kept[(at - rows) * 5 * h..][..count * 5 * h] } else { &[] };
            sequence_bwd_rows(isa, h, [dh, now, before, next], stride, dz, dc);
            let earlier = if t > 0 { Addend::Matrix(of_step(t - 1)) } else { Addend::Nothing };
            weights.multiply(count, (dz, 4 * h), (dh, h), earlier);
        }
    });
}

vectorized! {
    /// The backward pass through one step of each row. Old cells of neighbouring rows are `stride` floats
    /// apart. `next` is what the next call reads as `kept`.
    fn sequence_bwd_rows(h: usize, inputs: [&[f32]; 4], stride: usize, dz: &mut [f32], dc: &mut [f32]) {
        let [dh, kept, before, next] = inputs;
        let states = dh.chunks_exact(h).zip(dc.chunks_exact_mut(h)).zip(before.chunks(stride));
        for (row, (kept, ((dh, dc), before))) in kept.chunks_exact(5 * h).zip(states).enumerate() {
            prefetch(next.get(row * 5 * h..(row + 1) * 5 * h).unwrap_or_default());
            prefetch(dz.get((row + 1) * 4 * h..(row + 2) * 4 * h).unwrap_or_default());
            let (gates, c_next) = kept.split_at(4 * h);
            cell_bwd(dh, &before[..h], c_next, gates, &mut dz[row * 4 * h..][..4 * h], dc);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, numbers, same_bits};
    use super::*;

    /// Compares the sequence with single cells, for each instruction set by itself, because FMA makes the
    /// results of the sets differ in the last bits.
    #[test]
    fn a_sequence_is_cells_one_after_another() {
        for (steps, rows, h) in [(1, 1, 1), (3, 17, 5), (4, 3, 33), (2, 33, 17), (0, 2, 3)] {
            let all = steps * rows;
            let (z, w) = (numbers(1, all * 4 * h, -2.0, 2.0), numbers(2, h * 4 * h, -0.5, 0.5));
            let (h0, c0) = (numbers(3, rows * h, -1.0, 1.0), numbers(4, rows * h, -1.0, 1.0));
            let (dy, dc_n) = (numbers(5, all * h, -1.0, 1.0), numbers(6, rows * h, -1.0, 1.0));
            for isa in Isa::available() {
                check(isa, Sequence { steps, rows, h }, [&z, &h0, &c0, &w], [&dy, &dc_n]);
            }
        }
    }

    fn check(isa: Isa, sequence: Sequence, inputs: [&[f32]; 4], cotangents: [&[f32]; 2]) {
        let (Sequence { steps, rows, h }, [z, h0, c0, w], [dy, dc_n]) = (sequence, inputs, cotangents);
        let (all, n) = (steps * rows, rows * h);
        let [mut y, mut c_n, mut kept] = [all * h, n, all * 5 * h].map(|len| vec![f32::NAN; len]);
        let [mut dz, mut dh0, mut dc0] = [all * 4 * h, n, n].map(|len| vec![f32::NAN; len]);
        let mut scratch = vec![f32::NAN; sequence.scratch_len().max(sequence.scratch_bwd_len())];
        lstm(isa, sequence, inputs, [&mut y, &mut c_n, &mut kept], &mut scratch);
        scratch.fill(f32::NAN);
        lstm_bwd(isa, sequence, [dy, dc_n, c0, w, &kept], [&mut dz, &mut dh0, &mut dc0], &mut scratch);

        let wide = |x: &[f32]| x.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let (mut state, mut cell, w) = (wide(h0), wide(c0), wide(w));
        let (mut want_y, mut gates, mut cells) = (vec![], vec![], vec![cell.clone()]);
        for t in 0..steps {
            let mut now = wide(&z[t * rows * 4 * h..][..rows * 4 * h]);
            for (i, z) in now.iter_mut().enumerate() {
                let (row, column) = (i / (4 * h), i % (4 * h));
                *z += (0..h).map(|k| state[row * h + k] * w[k * 4 * h + column]).sum::<f64>();
                *z = if column / h == 2 { z.tanh() } else { sigmoid(*z) };
            }
            for i in 0..n {
                let gate = |k: usize| now[i / h * 4 * h + k * h + i % h];
                cell[i] = gate(1) * cell[i] + gate(0) * gate(2);
                state[i] = gate(3) * cell[i].tanh();
            }
            want_y.extend(&state);
            gates.push(now);
            cells.push(cell.clone());
        }
        close(&y, &want_y, 1e-6);
        close(&c_n, &cell, 1e-6);

        let (mut later, mut dc, mut want_dz) = (vec![0.0; n], wide(dc_n), vec![0.0; all * 4 * h]);
        for t in (0..steps).rev() {
            let dz = &mut want_dz[t * rows * 4 * h..][..rows * 4 * h];
            for i in 0..n {
                let at = |k: usize| i / h * 4 * h + k * h + i % h;
                let [i_, f, g, o] = [0, 1, 2, 3].map(|k| gates[t][at(k)]);
                let (dh, th) = (f64::from(dy[t * n + i]) + later[i], cells[t + 1][i].tanh());
                let d = dc[i] + dh * o * (1.0 - th * th);
                dz[at(0)] = d * g * i_ * (1.0 - i_);
                dz[at(1)] = d * cells[t][i] * f * (1.0 - f);
                dz[at(2)] = d * i_ * (1.0 - g * g);
                dz[at(3)] = dh * th * o * (1.0 - o);
                dc[i] = d * f;
            }
            for (i, later) in later.iter_mut().enumerate() {
                *later = (0..4 * h).map(|j| dz[i / h * 4 * h + j] * w[i % h * 4 * h + j]).sum();
            }
        }
        close(&dz, &want_dz, 1e-6);
        close(&dh0, &later, 1e-6);
        close(&dc0, &dc, 1e-6);
    }

    #[test]
    fn threads_and_instruction_sets_agree_on_cells() {
        for (n, h) in [(1, 1), (17, 3), (130, 33), (2000, 32)] {
            let (z, c) = (numbers(1, n * 4 * h, -2.0, 2.0), numbers(2, n * h, -1.0, 1.0));
            let lengths = [n * h, n * h, n * 4 * h, n * 4 * h, n * h];
            same_bits(lengths.iter().sum(), 0, |isa, mut out, _| {
                let [h_next, c_next, gates, dz, dc] =
                    lengths.map(|len| out.split_off_mut(..len).expect("room for each output"));
                lstm_cell(isa, h, [&z, &c], [h_next, c_next, gates]);
                lstm_cell_bwd(isa, h, [h_next, c_next, &c, c_next, gates], [dz, dc]);
            });
        }
    }
}
