//! Kernels that move elements: pad, slice, gather, scatter.

use super::product::Isa;
use super::vector::{chunk_rows, map, spread, vectorized};
use rayon::prelude::*;

/// A region of `inner` extents in a tensor of `outer` extents. Its first element is at position `before`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    outer: [usize; 4],
    inner: [usize; 4],
    before: [usize; 4],
}

impl Region {
    /// Makes a region. The innermost axes that the region fills completely are merged, so that rows are
    /// longer and copies fewer.
    pub(super) fn new(mut outer: [usize; 4], mut inner: [usize; 4], mut before: [usize; 4]) -> Self {
        for _ in 0..3 {
            if outer[3] == inner[3] {
                let width = outer[3];
                outer = [1, outer[0], outer[1], outer[2] * width];
                inner = [1, inner[0], inner[1], inner[2] * width];
                before = [0, before[0], before[1], before[2] * width];
            }
        }
        Region { outer, inner, before }
    }
}

/// The row of the region that is part of a row of the outer tensor, if there is one.
fn row_inside(Region { outer, inner, before }: Region, row: usize) -> Option<usize> {
    let at = [row / outer[2] / outer[1], row / outer[2] % outer[1], row % outer[2]];
    let mut index = 0;
    for axis in 0..3 {
        let i = at[axis].checked_sub(before[axis]).filter(|i| *i < inner[axis])?;
        index = index * inner[axis] + i;
    }
    Some(index)
}

/// Writes x into the region of y, and zeros around it.
pub(super) fn pad(region: Region, x: &[f32], y: &mut [f32]) {
    let Region { outer, inner, before } = region;
    let (len, width, rows) = (y.len(), outer[3], chunk_rows(outer[3]));
    spread(y.par_chunks_mut(rows * width).enumerate(), len).for_each(|(chunk, y)| {
        for (i, y) in y.chunks_exact_mut(width).enumerate() {
            match row_inside(region, chunk * rows + i) {
                None => y.fill(0.0),
                Some(row) => {
                    let (left, right) = (before[3], before[3] + inner[3]);
                    y[..left].fill(0.0);
                    y[left..right].copy_from_slice(&x[row * inner[3]..][..inner[3]]);
                    y[right..].fill(0.0);
                }
            }
        }
    });
}

/// Copies the region of x to y.
pub(super) fn slice(Region { outer, inner, before }: Region, x: &[f32], y: &mut [f32]) {
    let (len, width, rows) = (y.len(), inner[3], chunk_rows(inner[3]));
    spread(y.par_chunks_mut(rows * width).enumerate(), len).for_each(|(chunk, y)| {
        for (i, y) in y.chunks_exact_mut(width).enumerate() {
            let row = chunk * rows + i;
            let at = [row / inner[2] / inner[1], row / inner[2] % inner[1], row % inner[2]];
            let from = (0..3).fold(0, |index, axis| index * outer[axis] + at[axis] + before[axis]);
            y.copy_from_slice(&x[from * outer[3] + before[3]..][..width]);
        }
    });
}

/// `y[i] = table[index[i]]`, for rows of `width` elements; NaN if the index is out of range.
pub(super) fn gather(table: &[f32], index: &[u32], width: usize, y: &mut [f32]) {
    let (len, rows) = (y.len(), chunk_rows(width));
    spread(y.par_chunks_mut(rows * width).zip(index.par_chunks(rows)), len).for_each(|(y, index)| {
        for (y, &i) in y.chunks_exact_mut(width).zip(index) {
            match table.chunks_exact(width).nth(i as usize) {
                Some(row) => y.copy_from_slice(row),
                None => y.fill(f32::NAN),
            }
        }
    });
}

/// `y[index[i]] += dy[i]` in order of i, for rows of `width` elements. If any index is out of range, all of
/// y becomes NaN, because there is no row that could show the error.
pub(super) fn scatter(isa: Isa, dy: &[f32], index: &[u32], width: usize, y: &mut [f32]) {
    let rows = y.len() / width;
    let start = if index.iter().all(|i| (*i as usize) < rows) { 0.0 } else { f32::NAN };
    // Each task owns a range of y's rows and goes through all indices, so that each row is summed in the
    // order of i.
    let own = rows.div_ceil(8).max(1);
    spread(y.par_chunks_mut(own * width).enumerate(), dy.len()).for_each(|(chunk, y)| {
        y.fill(start);
        for (dy, &i) in dy.chunks_exact(width).zip(index) {
            let row = (i as usize).wrapping_sub(chunk * own);
            if row < y.len() / width {
                add(isa, dy, &mut y[row * width..][..width]);
            }
        }
    });
}

vectorized! {
    fn add(x: &[f32], y: &mut [f32]) {
        map!(y <- x: *y + x)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{numbers, same_bits};
    use super::*;

    #[test]
    fn pad_puts_a_region_where_slice_finds_it() {
        for (inner, before, after) in [
            ([2, 3, 5, 7], [1, 0, 2, 3], [0, 2, 1, 1]),
            ([3, 17, 5, 33], [0, 1, 2, 0], [0, 1, 2, 0]),
            ([3, 1, 40, 130], [2, 0, 0, 0], [1, 0, 0, 0]),
            ([1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 3]),
            ([4, 4, 4, 4], [0; 4], [0; 4]),
        ] {
            let outer: [usize; 4] = std::array::from_fn(|i| before[i] + inner[i] + after[i]);
            let (size, region) = (inner.iter().product::<usize>(), Region::new(outer, inner, before));
            let x = numbers(1, size, 1.0, 2.0);
            let y = same_bits(outer.iter().product(), 0, |_, y, _| pad(region, &x, y));
            let mut taken = 0;
            for (i, y) in y.iter().enumerate() {
                let [_, b, c, d] = outer;
                let at = [i / (b * c * d), i / (c * d) % b, i / d % c, i % d];
                let inside = (0..4).all(|a| (before[a]..before[a] + inner[a]).contains(&at[a]));
                assert_eq!(*y, if inside { x[taken] } else { 0.0 });
                taken += usize::from(inside);
            }
            assert_eq!(same_bits(size, 0, |_, x, _| slice(region, &y, x)), x);
        }
    }

    #[test]
    fn rows_by_index() {
        let table = numbers(1, 5 * 17, -1.0, 1.0);
        let index = [4, 0, 4, 5, 2, u32::MAX];
        let y = same_bits(6 * 17, 0, |_, y, _| gather(&table, &index, 17, y));
        for (y, i) in y.chunks(17).zip(index) {
            match table.chunks(17).nth(i as usize) {
                Some(row) => assert_eq!(y, row),
                None => assert!(y.iter().all(|v| v.is_nan())),
            }
        }
        let back = |index: &[u32]| same_bits(5 * 17, 0, |isa, y, _| scatter(isa, &table[..51], index, 17, y));
        let sum = back(&[4, 0, 4]);
        assert!((0..17).all(|j| sum[4 * 17 + j] == table[j] + table[34 + j] && sum[j] == table[17 + j]));
        assert!(sum[17..4 * 17].iter().all(|v| *v == 0.0));
        assert!(back(&[4, 5, 0]).iter().all(|v| v.is_nan()));
    }
}
