//! LSTM cells and whole sequences. Gates lie in the order i f g o (Hochreiter & Schmidhuber 1997, Gers et al. 2000).
//!
//! A sequence is independent in each row of the batch: a task takes a block of rows through all of time on its own, so
//! threads meet once a sequence rather than once a step.

use super::math;
use super::product::Isa;
use super::vector::{chunk_rows, map, spread, sum_over, vectorized};
use rayon::prelude::*;

/// `h' = o tanh(c')`, `c' = f c + i g` with gates = activated z, each row of `4h`.
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
    /// Activates the gates of each row and steps its cell.
    fn cell_rows(h: usize, gates: &mut [f32], c: &[f32], c_next: &mut [f32], h_next: &mut [f32]) {
        let states = c.chunks_exact(h).zip(c_next.chunks_exact_mut(h)).zip(h_next.chunks_exact_mut(h));
        for (gates, ((c, c_next), h_next)) in gates.chunks_exact_mut(4 * h).zip(states) {
            let (i, rest) = gates.split_at_mut(h);
            let (f, rest) = rest.split_at_mut(h);
            let (g, o) = rest.split_at_mut(h);
            let gates = i.iter_mut().zip(f).zip(g).zip(o);
            for ((((i, f), g), o), ((c, c_next), h_next)) in gates.zip(c.iter().zip(c_next).zip(h_next)) {
                (*i, *f, *g, *o) = (math::sigmoid(*i), math::sigmoid(*f), math::tanh(*g), math::sigmoid(*o));
                *c_next = *f * c + *i * *g;
                *h_next = *o * math::tanh(*c_next);
            }
        }
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
    /// `dc` comes in as the gradient of the new cell and leaves as that of the old one.
    fn cell_bwd_rows(h: usize, inputs: [&[f32]; 4], dz: &mut [f32], dc: &mut [f32]) {
        let [dh, c, c_next, gates] = inputs;
        let states = dh.chunks_exact(h).zip(c.chunks_exact(h)).zip(c_next.chunks_exact(h)).zip(dc.chunks_exact_mut(h));
        let rows = gates.chunks_exact(4 * h).zip(dz.chunks_exact_mut(4 * h));
        for ((gates, dz), (((dh, c), c_next), dc)) in rows.zip(states) {
            let ((i, f), (g, o)) = (gates[..2 * h].split_at(h), gates[2 * h..].split_at(h));
            let (dif, dgo) = dz.split_at_mut(2 * h);
            let ((di, df), (dg, d_o)) = (dif.split_at_mut(h), dgo.split_at_mut(h));
            let gates = i.iter().zip(f).zip(g).zip(o);
            let states = dh.iter().zip(c).zip(c_next).zip(dc);
            let gradients = di.iter_mut().zip(df).zip(dg).zip(d_o);
            for (((((di, df), dg), d_o), (((&i, &f), &g), &o)), (((&dh, &c), &c_next), dc)) in
                gradients.zip(gates).zip(states)
            {
                let t = math::tanh(c_next);
                let cell = *dc + dh * o * (1.0 - t * t);
                *di = cell * g * (i * (1.0 - i));
                *df = cell * c * (f * (1.0 - f));
                *dg = cell * i * (1.0 - g * g);
                *d_o = dh * t * (o * (1.0 - o));
                *dc = cell * f;
            }
        }
    }
}

/// Extents of a sequence: steps, rows of the batch, hidden units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequence {
    pub(super) steps: usize,
    pub(super) rows: usize,
    pub(super) h: usize,
}

/// Rows that a task takes through time.
const BLOCK: usize = 8;

/// Memory whose rows are shared out among tasks.
#[derive(Clone, Copy)]
struct Rows {
    at: *mut f32,
    len: usize,
    width: usize,
}

// SAFETY: tasks take disjoint rows, see the uses of `Rows::range`.
unsafe impl Send for Rows {}
// SAFETY: as above.
unsafe impl Sync for Rows {}

impl Rows {
    fn new(all: &mut [f32], width: usize) -> Self {
        Rows { at: all.as_mut_ptr(), len: all.len(), width }
    }

    /// `count` rows from `first` on.
    ///
    /// # Safety
    /// Nobody else holds any of these rows while the slice lives, which is no longer than the memory.
    unsafe fn range<'a>(self, first: usize, count: usize) -> &'a mut [f32] {
        assert!((first + count) * self.width <= self.len, "rows within the memory");
        // SAFETY: within the memory, as asserted; the caller vouches for exclusive use.
        unsafe { std::slice::from_raw_parts_mut(self.at.add(first * self.width), count * self.width) }
    }
}

/// `z_t + h_{t-1} w_hh` through the gates, for all steps. `kept` takes the activated gates and the cell.
pub(super) fn lstm(
    isa: Isa,
    Sequence { steps, rows, h }: Sequence,
    [z, h0, c0, w_hh]: [&[f32]; 4],
    [y, c_n, kept]: [&mut [f32]; 3],
) {
    let elements = z.len() * h;
    let (y, kept) = (Rows::new(y, h), Rows::new(kept, 5 * h));
    spread(c_n.par_chunks_mut(BLOCK * h).enumerate(), elements).for_each(|(block, c_n)| {
        let first = block * BLOCK;
        for r in 0..c_n.len() / h {
            let (row, cell) = (first + r, &mut c_n[r * h..][..h]);
            cell.copy_from_slice(&c0[row * h..][..h]);
            for t in 0..steps {
                let at = t * rows + row;
                // SAFETY: rows of this batch row belong to this task; the previous step's row is another one.
                let (h_now, kept) = unsafe { (y.range(at, 1), kept.range(at, 1)) };
                // SAFETY: as above.
                let before = if t == 0 { &h0[row * h..][..h] } else { unsafe { y.range(at - rows, 1) } };
                let (gates, kept_cell) = kept.split_at_mut(4 * h);
                gates.copy_from_slice(&z[at * 4 * h..][..4 * h]);
                add_product(isa, before, w_hh, gates);
                cell_rows(isa, h, gates, cell, kept_cell, h_now);
                cell.copy_from_slice(kept_cell);
            }
        }
    });
}

vectorized! {
    /// `y += x w`, w `[x, y]`
    fn add_product(x: &[f32], w: &[f32], y: &mut [f32]) {
        for (&x, w) in x.iter().zip(w.chunks_exact(y.len())) {
            map!(y <- w: *y + x * w);
        }
    }
}

vectorized! {
    /// `y = x w^T`, w `[y, x]`
    fn product_transposed(x: &[f32], w: &[f32], y: &mut [f32]) {
        for (y, w) in y.iter_mut().zip(w.chunks_exact(x.len())) {
            *y = sum_over!(x, w => x * w);
        }
    }
}

/// Back through all steps; `dz w_hh^T` is the gradient that a step passes to the one before it.
pub(super) fn lstm_bwd(
    isa: Isa,
    Sequence { steps, rows, h }: Sequence,
    [dy, dc_n, c0, w_hh, kept]: [&[f32]; 5],
    [dz, dh0, dc0]: [&mut [f32]; 3],
    scratch: &mut [f32],
) {
    let elements = dz.len() * h;
    let dz = Rows::new(dz, 4 * h);
    let states = dh0.par_chunks_mut(BLOCK * h).zip(dc0.par_chunks_mut(BLOCK * h));
    let temporary = scratch.par_chunks_mut(BLOCK * h);
    spread(states.zip(temporary).enumerate(), elements).for_each(|(block, ((dh0, dc0), dh))| {
        let first = block * BLOCK;
        for r in 0..dh0.len() / h {
            let row = first + r;
            // The gradient of h that comes from later steps, and that of the cell.
            let (later, dc, dh) = (&mut dh0[r * h..][..h], &mut dc0[r * h..][..h], &mut dh[r * h..][..h]);
            later.fill(0.0);
            dc.copy_from_slice(&dc_n[row * h..][..h]);
            for t in (0..steps).rev() {
                let at = t * rows + row;
                let (gates, cell) = kept[at * 5 * h..][..5 * h].split_at(4 * h);
                let before = if t == 0 { &c0[row * h..][..h] } else { &kept[(at - rows) * 5 * h..][4 * h..5 * h] };
                let (dy, later_now) = (&dy[at * h..][..h], &*later);
                for ((dh, dy), later) in dh.iter_mut().zip(dy).zip(later_now) {
                    *dh = dy + later;
                }
                // SAFETY: rows of this batch row belong to this task.
                let dz = unsafe { dz.range(at, 1) };
                cell_bwd_rows(isa, h, [dh, before, cell, gates], dz, dc);
                product_transposed(isa, dz, w_hh, later);
            }
        }
    });
}
