//! Sums over any set of axes, and their counterpart, the expansion.

use super::product::Isa;
use super::vector::{CHUNK, add_lanes, spread, vectorized};
use crate::backend::axes::Axes;
use rayon::prelude::*;

impl Axes {
    /// Number of sums; each is a vector of `kept2` elements.
    fn sums(&self) -> usize {
        self.kept0 * self.kept1
    }

    /// Number of rows that each sum adds up.
    fn rows(&self) -> usize {
        self.folded0 * self.folded1
    }

    /// Rows per partial sum. It depends on the width alone, so the order of a sum does too.
    fn part_rows(&self) -> usize {
        (CHUNK / self.kept2.max(1)).max(1)
    }

    /// Number of partial sums per sum.
    fn parts(&self) -> usize {
        self.rows().div_ceil(self.part_rows()).max(1)
    }

    /// Scratch of [`sum`].
    pub(super) fn scratch_len(&self) -> usize {
        if self.parts() == 1 { 0 } else { self.sums() * self.parts() * self.kept2 }
    }
}

/// `y = sum of x` over the folded axes. A long sum is cut into partial sums over a fixed number of rows,
/// which are added in order.
pub(super) fn sum(isa: Isa, axes: Axes, x: &[f32], y: &mut [f32], scratch: &mut [f32]) {
    let (parts, width) = (axes.parts(), axes.kept2);
    if y.is_empty() {
        return;
    }
    let part_len = axes.part_rows().min(axes.rows()) * width;
    let group = (CHUNK / part_len.max(1)).max(1);
    if parts == 1 {
        spread(y.par_chunks_mut(group * width).enumerate(), x.len())
            .for_each(|(i, y)| partial_sums(isa, axes, i * group, x, y));
        return;
    }
    let partial = &mut scratch[..axes.scratch_len()];
    spread(partial.par_chunks_mut(group * width).enumerate(), x.len())
        .for_each(|(i, out)| partial_sums(isa, axes, i * group, x, out));
    spread(y.par_chunks_mut(width).zip(partial.par_chunks(parts * width)), partial.len())
        .for_each(|(y, parts)| sum_rows(isa, parts, y));
}

vectorized! {
    /// Computes partial sums from number `first` on, as many as `out` holds. The number of a partial sum is
    /// `sum * parts + part`.
    fn partial_sums(axes: Axes, first: usize, x: &[f32], out: &mut [f32]) {
        let Axes { folded0, kept1, folded1, kept2: width, .. } = axes;
        let (parts, part_rows, rows) = (axes.parts(), axes.part_rows(), axes.rows());
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            let (sum, part) = ((first + i) / parts, (first + i) % parts);
            let mut row = part * part_rows;
            let end = (row + part_rows).min(rows);
            out.fill(0.0);
            // Each run of rows is contiguous in memory.
            while row < end {
                let (outer, inner) = (row / folded1, row % folded1);
                let run = (folded1 - inner).min(end - row);
                let start = (((sum / kept1 * folded0) + outer) * kept1 + sum % kept1) * folded1 + inner;
                add_rows(&x[start * width..][..run * width], out);
                row += run;
            }
        }
    }
}

vectorized! {
    /// `out = sum of the rows of x`
    fn sum_rows(x: &[f32], out: &mut [f32]) {
        out.fill(0.0);
        add_rows(x, out);
    }
}

/// Number of independent sums if rows are narrow.
const WIDE: usize = 64;

/// `out += sum of the rows of x`; the rows are as wide as `out`.
#[inline(always)]
pub(super) fn add_rows(x: &[f32], out: &mut [f32]) {
    let width = out.len();
    let (wide, rest) = x.as_chunks::<WIDE>();
    if width == 1 {
        let mut lanes = [0f32; WIDE];
        for block in wide {
            for (l, v) in lanes.iter_mut().zip(block) {
                *l += v;
            }
        }
        for (l, v) in lanes.iter_mut().zip(rest) {
            *l += v;
        }
        out[0] += add_lanes(std::array::from_fn(|l| lanes[l] + lanes[l + WIDE / 2]));
    } else if WIDE.is_multiple_of(width) {
        let mut lanes = [0f32; WIDE];
        for block in wide {
            for (l, v) in lanes.iter_mut().zip(block) {
                *l += v;
            }
        }
        for row in lanes.chunks_exact(width).chain(rest.chunks_exact(width)) {
            for (o, v) in out.iter_mut().zip(row) {
                *o += v;
            }
        }
    } else {
        // Four rows at a time, so that the sums are read and written once per four rows.
        let mut fours = x.chunks_exact(4 * width);
        for four in &mut fours {
            let ((a, b), (c, d)) = (four[..2 * width].split_at(width), four[2 * width..].split_at(width));
            for ((((o, a), b), c), d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *o += (a + b) + (c + d);
            }
        }
        for row in fours.remainder().chunks_exact(width) {
            for (o, v) in out.iter_mut().zip(row) {
                *o += v;
            }
        }
    }
}

/// `y = x` repeated along the folded axes.
pub(super) fn expand(axes: Axes, x: &[f32], y: &mut [f32]) {
    let Axes { folded0, kept1, folded1, kept2: width, .. } = axes;
    let (len, rows) = (y.len(), (CHUNK / width.max(1)).max(1));
    spread(y.par_chunks_mut(rows * width.max(1)).enumerate(), len).for_each(|(chunk, mut y)| {
        let mut row = chunk * rows;
        while !y.is_empty() {
            // The rows of this run repeat the same row of x.
            let (outer, inner) = (row / folded1, row % folded1);
            let run = (folded1 - inner).min(y.len() / width);
            let source = &x[(outer / (kept1 * folded0) * kept1 + outer % kept1) * width..][..width];
            let (repeats, rest) = y.split_at_mut(run * width);
            match source {
                [value] => repeats.fill(*value),
                _ => repeats.chunks_exact_mut(width).for_each(|y| y.copy_from_slice(source)),
            }
            (row, y) = (row + run, rest);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, numbers, same_bits};
    use super::*;
    use crate::shape::Shape;

    /// Position in the small tensor of element `i` of the large one.
    fn small_index(large: &[usize], small: &[usize], i: usize) -> usize {
        let (mut rest, mut index, mut stride) = (i, 0, 1);
        for (d, s) in large.iter().zip(small).rev() {
            index += if *s == 1 { 0 } else { rest % d * stride };
            (rest, stride) = (rest / d, stride * s);
        }
        index
    }

    fn check(large: &[usize], small: &[usize]) {
        let (of, to) = (Shape::new(large), Shape::new(small));
        let axes = Axes::new(of, to);
        let x = numbers(3, of.len(), -1.0, 2.0);
        let y = same_bits(to.len(), axes.scratch_len(), |isa, y, scratch| sum(isa, axes, &x, y, scratch));
        let mut want = vec![0f64; to.len()];
        for (i, x) in x.iter().enumerate() {
            want[small_index(large, small, i)] += f64::from(*x);
        }
        close(&y, &want, 1e-6);
        let back = same_bits(of.len(), 0, |_, back, _| expand(axes, &y, back));
        assert!(back.iter().enumerate().all(|(i, b)| *b == y[small_index(large, small, i)]));
    }

    #[test]
    fn every_set_of_axes() {
        for large in [[2, 3, 5, 7], [33, 1, 17, 130], [1, 70, 2, 64], [3, 40, 41, 1], [0, 3, 2, 5]] {
            for mask in 0..16 {
                let small: Vec<usize> = (0..4).map(|i| if mask >> i & 1 == 1 { 1 } else { large[i] }).collect();
                check(&large, &small);
            }
        }
    }

    #[test]
    fn long_sums() {
        check(&[100_003], &[1]);
        check(&[5000, 64], &[1, 64]);
        check(&[5000, 33], &[1, 33]);
        check(&[3, 70_000], &[3, 1]);
        check(&[2, 40_000, 3], &[2, 1, 3]);
        check(&[50, 2, 9000], &[1, 2, 1]);
        check(&[], &[]);
    }
}
