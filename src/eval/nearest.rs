//! The nearest of many points, by matrix products on the device: of |q - r|² = |q|² - 2 qr + |r|² only the
//! last two terms depend on r, so the nearest point has the largest qr - |r|²/2.
//!
//! The sums of a product have a fixed order, and each query is compared by one thread, so the result does
//! not depend on the number of threads. f32 rounding may exchange points at nearly the same distance.

use crate::backend::{self, Backend, Feed, Scalars};
use crate::error::Result;
use crate::shape::Meta;
use crate::tape::Tape;
use crate::tape::plan::Plan;
use rayon::prelude::*;

/// Rows of each operand of a product.
const BLOCK: usize = 512;

/// The nearest point that a query has met so far.
#[derive(Clone, Copy)]
struct Best {
    /// qr - |r|²/2
    score: f32,
    index: u32,
}

/// For each number of `firsts`, in ascending order: the row of the nearest one among that many first
/// `points` for every query, the first one at a tie. `points` and `queries` are rows of `dims` numbers.
///
/// # Errors
/// Whatever the device reports.
///
/// # Panics
/// If a number of `firsts` is 0 or above the number of points.
pub(super) fn nearest_of_first(
    backend: &mut dyn Backend,
    pool: &rayon::ThreadPool,
    points: &[f32],
    queries: &[f32],
    dims: usize,
    firsts: &[usize],
) -> Result<Vec<Vec<u32>>> {
    let plan = {
        let t = Tape::new();
        let (q, r) = (t.input("queries", Meta::f32([BLOCK, dims])), t.input("points", Meta::f32([BLOCK, dims])));
        t.output("products", t.matmul(q, r, false, true));
        Plan::new("nearest", &t)
    };
    let compiled = backend.compile(&plan)?;
    let mut best = vec![Best { score: f32::NEG_INFINITY, index: 0 }; queries.len() / dims];
    let mut products = vec![0.0; BLOCK * BLOCK];
    let (mut found, mut from) = (vec![], 0);
    for first in firsts {
        assert!((1..=points.len() / dims).contains(first), "the nearest of the first {first} points");
        while from < *first {
            let count = BLOCK.min(first - from);
            let rows = &points[from * dims..][..count * dims];
            let halves: Vec<f32> = rows.chunks_exact(dims).map(half_square).collect();
            let rows = filled(rows, dims);
            for (queries, best) in queries.chunks(BLOCK * dims).zip(best.chunks_mut(BLOCK)) {
                let inputs = [Feed::F32(&filled(queries, dims)), Feed::F32(&rows)];
                backend.run(compiled, &inputs, &Scalars::default())?;
                backend::read(backend, compiled, plan.output("products"), &mut products)?;
                pool.install(|| {
                    let compare = |(best, products): (&mut Best, &[f32])| best.compare(products, &halves, from);
                    best.par_iter_mut().zip(products.par_chunks(BLOCK)).for_each(compare);
                });
            }
            from += count;
        }
        found.push(best.iter().map(|best| best.index).collect());
    }
    backend.free(compiled);
    Ok(found)
}

impl Best {
    /// Compares with the points whose first one has the row `from`.
    fn compare(&mut self, products: &[f32], halves: &[f32], from: usize) {
        for (i, (product, half)) in products.iter().zip(halves).enumerate() {
            let score = product - half;
            if score > self.score {
                *self = Best { score, index: (from + i) as u32 };
            }
        }
    }
}

/// |r|²/2
fn half_square(row: &[f32]) -> f32 {
    (0.5 * row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>()) as f32
}

/// Rows, and zeros up to [`BLOCK`] rows.
fn filled(rows: &[f32], dims: usize) -> Vec<f32> {
    let mut all = rows.to_vec();
    all.resize(BLOCK * dims, 0.0);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Stream, uniform};

    /// `n` points of whole numbers from 0 to 3, whose products and squares are exact.
    fn points(n: usize, dims: usize, seed: u32) -> Vec<f32> {
        (0..n * dims).map(|i| (4.0 * uniform(seed, Stream::Test, [0, i as u32])).floor()).collect()
    }

    /// By comparing all distances.
    fn brute_force(points: &[f32], queries: &[f32], dims: usize) -> Vec<u32> {
        let squared = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
        let nearest = |query: &[f32]| {
            let distances = points.chunks(dims).map(|point| squared(point, query));
            distances.enumerate().reduce(|a, b| if b.1 < a.1 { b } else { a }).unwrap().0 as u32
        };
        queries.chunks(dims).map(nearest).collect()
    }

    #[test]
    fn the_nearest_are_those_of_brute_force_with_any_number_of_threads() {
        let dims = 5;
        let (points, queries) = (points(1100, dims, 1), points(530, dims, 2));
        let on = |threads: usize| {
            let mut backend = backend::open("cpu", threads).unwrap();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            nearest_of_first(&mut *backend, &pool, &points, &queries, dims, &[1, 7, 600, 1100]).unwrap()
        };
        let found = on(1);
        assert!(found[0].iter().all(|index| *index == 0));
        for (first, found) in [7, 600, 1100].into_iter().zip(&found[1..]) {
            assert_eq!(*found, brute_force(&points[..first * dims], &queries, dims), "of the first {first}");
        }
        assert_eq!(found, on(3));
    }
}
