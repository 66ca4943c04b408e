//! LSTM scans over images (van den Oord et al. 2016, section 3). A line of cells moves over every image,
//! step by step.
//!
//! The line of a Row LSTM is a row of the image: at step s it is row s, and cell i is in column i. The line
//! of a Diagonal LSTM has one cell per row of the image. At step s, the cell of row r is in column s - r
//! (counted from the right in reverse), so the line is an anti-diagonal. Cells whose column is outside the
//! image are idle.
//!
//! The states of the line, with zeros around them, are a matrix `[cells + zeros, d]`. Cell i reads `taps`
//! neighbouring rows of it. So the gates of a step are one product of overlapping rows, `[cells, taps * d]`
//! times `[taps * d, 4d]`, which is written directly to the pixels.
//!
//! Images are independent, so a task computes a whole image, and threads synchronise once per scan. Bound by
//! the products if d is large, by the activations of the gates if d is 16.

use super::lstm::{cell, cell_bwd};
use super::product::{Addend, Isa, Panels};
use super::vector::{map, prefetch, spread, vectorized};
use rayon::prelude::*;
use std::ops::Range;

/// The line of cells that moves over an image.
#[derive(Clone, Copy, Debug)]
pub(super) enum Line {
    /// A row. A pixel reads `taps` states of the row above, centred on it; `taps` is odd.
    Row { taps: usize },
    /// An anti-diagonal. A pixel reads the states of the pixel above and of the pixel to its left (in
    /// reverse, to its right).
    Diagonal { reverse: bool },
}

/// Extents of a scan over images `[n, h, w]` with `d` units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sweep {
    pub(super) n: usize,
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) d: usize,
    pub(super) line: Line,
}

impl Sweep {
    fn taps(&self) -> usize {
        match self.line {
            Line::Row { taps } => taps,
            Line::Diagonal { .. } => 2,
        }
    }

    /// Number of cells before a cell that it reads: cell i reads the state of cell `i + j - before` through
    /// tap j.
    fn before(&self) -> usize {
        match self.line {
            Line::Row { taps } => taps / 2,
            Line::Diagonal { .. } => 1,
        }
    }

    fn cells(&self) -> usize {
        match self.line {
            Line::Row { .. } => self.w,
            Line::Diagonal { .. } => self.h,
        }
    }

    fn steps(&self) -> usize {
        match self.line {
            Line::Row { .. } => self.h,
            Line::Diagonal { .. } => self.h + self.w - 1,
        }
    }

    /// The cells that are inside the image at a step.
    fn span(&self, step: usize) -> Range<usize> {
        match self.line {
            Line::Row { .. } => 0..self.w,
            Line::Diagonal { .. } => (step + 1).saturating_sub(self.w)..self.h.min(step + 1),
        }
    }

    /// The pixel of a cell at a step, as an index in its image.
    fn pixel(&self, step: usize, cell: usize) -> usize {
        match self.line {
            Line::Row { .. } => step * self.w + cell,
            Line::Diagonal { reverse: false } => cell * self.w + step - cell,
            Line::Diagonal { reverse: true } => cell * self.w + self.w - 1 + cell - step,
        }
    }

    /// Number of pixels from a cell to the next one.
    fn stride(&self) -> usize {
        match self.line {
            Line::Row { .. } => 1,
            Line::Diagonal { reverse: false } => self.w - 1,
            Line::Diagonal { reverse: true } => self.w + 1,
        }
    }

    /// The pixel of a cell at another step, if it is inside the image then. It is used to prefetch data,
    /// because the hardware prefetcher cannot predict the path of the line.
    fn standing(&self, step: Option<usize>, cell: usize) -> Option<usize> {
        let step = step.filter(|step| *step < self.steps())?;
        self.span(step).contains(&cell).then(|| self.pixel(step, cell))
    }

    fn pixels(&self) -> usize {
        self.h * self.w
    }

    /// Number of cells of the line, with the zeros around it.
    fn padded(&self) -> usize {
        self.cells() + self.taps() - 1
    }

    /// Scratch per image: the states with zeros around them, and the cells.
    fn line_len(&self) -> usize {
        (self.padded() + self.cells()) * self.d
    }

    /// Scratch per image in the backward pass: dz with zeros around it, the gradients of the states and of
    /// the cells, and the gradient of one state.
    fn line_bwd_len(&self) -> usize {
        (4 * self.padded() + 2 * self.cells() + 1) * self.d
    }

    /// Scratch of [`scan`]: the packed weights and the lines.
    pub(super) fn scratch_len(&self) -> usize {
        Panels::packed_len(self.taps() * self.d, 4 * self.d) + self.n * self.line_len()
    }

    /// Scratch of [`scan_bwd`].
    pub(super) fn scratch_bwd_len(&self) -> usize {
        Panels::packed_len(self.taps() * 4 * self.d, self.d) + self.n * self.line_bwd_len()
    }
}

/// Computes the gates of all pixels from z and the states that a pixel reads, then the cells and states.
/// `kept` gets the activated gates and the cell.
pub(super) fn scan(isa: Isa, sweep: Sweep, [z, w_ss]: [&[f32]; 2], [y, kept]: [&mut [f32]; 2], scratch: &mut [f32]) {
    let (d, k, pixels) = (sweep.d, sweep.taps() * sweep.d, sweep.pixels());
    let (packed, lines) = scratch.split_at_mut(Panels::packed_len(k, 4 * d));
    let weights = Panels::pack(isa, w_ss, [k, 4 * d], packed);
    let outputs = y.par_chunks_mut(pixels * d).zip(kept.par_chunks_mut(pixels * 5 * d));
    let images = outputs.zip(z.par_chunks(pixels * 4 * d)).zip(lines.par_chunks_mut(sweep.line_len()));
    spread(images, z.len() * k).for_each(|(((y, kept), z), line)| {
        line.fill(0.0);
        let (states, cells) = line.split_at_mut(sweep.padded() * d);
        for step in 0..sweep.steps() {
            let span = sweep.span(step);
            for cell in span.clone() {
                let at = sweep.pixel(step, cell);
                kept[at * 5 * d..][..4 * d].copy_from_slice(&z[at * 4 * d..][..4 * d]);
            }
            // Before the first step all states are zero.
            if step > 0 {
                let gates = &mut kept[sweep.pixel(step, span.start) * 5 * d..];
                weights.multiply(
                    span.len(),
                    (&states[span.start * d..], d),
                    (gates, sweep.stride() * 5 * d),
                    Addend::Old,
                );
            }
            step_line(isa, sweep, step, z, [kept, y], [states, cells]);
        }
    });
}

vectorized! {
    /// Activates the gates of a step, and leaves the new states and cells in the line.
    fn step_line(
        sweep: Sweep,
        step: usize,
        z: &[f32],
        outputs: [&mut [f32]; 2],
        line: [&mut [f32]; 2],
    ) {
        let (d, [kept, y], [states, cells]) = (sweep.d, outputs, line);
        for i in sweep.span(step) {
            if let Some(next) = sweep.standing(Some(step + 1), i) {
                prefetch(&z[next * 4 * d..][..4 * d]);
                prefetch(&kept[next * 5 * d..][..5 * d]);
                prefetch(&y[next * d..][..d]);
            }
            let at = sweep.pixel(step, i);
            let (gates, c_next) = kept[at * 5 * d..][..5 * d].split_at_mut(4 * d);
            let (c, h) = (&mut cells[i * d..][..d], &mut y[at * d..][..d]);
            cell(gates, c, c_next, h);
            c.copy_from_slice(c_next);
            states[(sweep.before() + i) * d..][..d].copy_from_slice(h);
        }
    }
}

/// The backward pass through all steps. The gradient that the states of a line get from the next step is
/// also one product: `taps` neighbouring rows of that step's dz, times the transposed weights with the last
/// tap first.
pub(super) fn scan_bwd(isa: Isa, sweep: Sweep, [dy, w_ss, kept]: [&[f32]; 3], dz: &mut [f32], scratch: &mut [f32]) {
    let (d, k, pixels) = (sweep.d, sweep.taps() * 4 * sweep.d, sweep.pixels());
    let (packed, lines) = scratch.split_at_mut(Panels::packed_len(k, d));
    let weights = Panels::pack_transposed(isa, w_ss, sweep.taps(), [k, d], packed);
    let elements = dz.len() * k;
    let inputs = dy.par_chunks(pixels * d).zip(kept.par_chunks(pixels * 5 * d));
    let images = dz.par_chunks_mut(pixels * 4 * d).zip(inputs).zip(lines.par_chunks_mut(sweep.line_bwd_len()));
    spread(images, elements).for_each(|((dz, (dy, kept)), line)| {
        line.fill(0.0);
        let (dz_line, line) = line.split_at_mut(sweep.padded() * 4 * d);
        let (later, line) = line.split_at_mut(sweep.cells() * d);
        for step in (0..sweep.steps()).rev() {
            let span = sweep.span(step);
            // The last step gets no gradient from a later step.
            if step + 1 < sweep.steps() {
                let from = &dz_line[span.start * 4 * d..];
                weights.multiply(span.len(), (from, 4 * d), (&mut later[span.start * d..], d), Addend::Nothing);
            }
            step_line_bwd(isa, sweep, step, [dy, kept, later], dz, dz_line, line);
        }
    });
}

vectorized! {
    /// Computes the gradients of a step's gates, and writes them to the image and to the line. `line` holds
    /// the gradients of the cells, then room for the gradient of one state.
    fn step_line_bwd(
        sweep: Sweep,
        step: usize,
        inputs: [&[f32]; 3],
        dz: &mut [f32],
        dz_line: &mut [f32],
        line: &mut [f32],
    ) {
        let ([dy, kept, later], d) = (inputs, sweep.d);
        let (cells, rest) = line.split_at_mut(sweep.cells() * d);
        let (dh, ahead) = (&mut rest[..d], sweep.taps() - 1 - sweep.before());
        let span_before = if step > 0 { sweep.span(step - 1) } else { 0..0 };
        for i in sweep.span(step) {
            if let Some(next) = sweep.standing(step.checked_sub(1), i) {
                prefetch(&dy[next * d..][..d]);
                prefetch(&dz[next * 4 * d..][..4 * d]);
            }
            // This step already reads the cell of the step before, so the one before that is prefetched.
            if let Some(next) = sweep.standing(step.checked_sub(2), i) {
                prefetch(&kept[next * 5 * d..][..5 * d]);
            }
            let at = sweep.pixel(step, i);
            let (dy, later) = (&dy[at * d..][..d], &later[i * d..][..d]);
            map!(dh <- dy, later: dy + later);
            let dc = &mut cells[i * d..][..d];
            let dz = &mut dz[at * 4 * d..][..4 * d];
            let (gates, c_next) = kept[at * 5 * d..][..5 * d].split_at(4 * d);
            let dz_here = &mut dz_line[(ahead + i) * 4 * d..][..4 * d];
            if span_before.contains(&i) {
                let before = sweep.pixel(step - 1, i);
                cell_bwd(dh, &kept[before * 5 * d + 4 * d..][..d], c_next, gates, dz, dc);
            } else {
                // This is the first pixel of the cell, so the old cell is zero.
                dz_here.fill(0.0);
                cell_bwd(dh, &dz_here[..d], c_next, gates, dz, dc);
            }
            dz_here.copy_from_slice(dz);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, numbers};
    use super::*;

    /// All instruction sets give the same result up to rounding. One thread and three threads give the same
    /// bits.
    #[test]
    fn threads_and_instruction_sets_agree() {
        let lines = [Line::Row { taps: 3 }, Line::Diagonal { reverse: false }, Line::Diagonal { reverse: true }];
        for line in lines {
            for (n, h, w, d) in [(1, 1, 1, 1), (5, 3, 17, 3), (3, 17, 2, 33), (2, 1, 5, 16), (40, 9, 9, 16)] {
                agree(Sweep { n, h, w, d, line });
            }
        }
    }

    fn agree(sweep: Sweep) {
        let (values, taps) = (sweep.n * sweep.pixels() * sweep.d, sweep.taps());
        let (z, dy) = (numbers(1, 4 * values, -2.0, 2.0), numbers(2, values, -1.0, 1.0));
        let w_ss = numbers(3, taps * 4 * sweep.d * sweep.d, -0.3, 0.3);
        let run = |isa: Isa, threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
            let mut scratch = vec![f32::NAN; sweep.scratch_len().max(sweep.scratch_bwd_len())];
            let [mut y, mut kept, mut dz] = [1, 5, 4].map(|parts| vec![f32::NAN; parts * values]);
            pool.install(|| {
                scan(isa, sweep, [&z, &w_ss], [&mut y, &mut kept], &mut scratch);
                scratch.fill(f32::NAN);
                scan_bwd(isa, sweep, [&dy, &w_ss, &kept], &mut dz, &mut scratch);
            });
            [y, kept, dz]
        };
        let want = run(Isa::Portable, 1).map(|v| v.into_iter().map(f64::from).collect::<Vec<_>>());
        for isa in Isa::available() {
            let [one, three] = [1, 3].map(|threads| run(isa, threads));
            assert_eq!(one, three, "{isa}, {sweep:?}");
            for (got, want) in one.iter().zip(&want) {
                close(got, want, 1e-5);
            }
        }
    }
}
