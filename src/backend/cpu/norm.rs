//! Batch and layer normalisation.
//!
//! Statistics are two-pass within a chunk of rows that stays in the cache, and the chunks are joined in
//! double precision (Chan et al. 1979), so a large mean does not swallow a small variance. In f32 the mean
//! itself may be coarse compared with such a deviation. So its rounding error is carried along, in the
//! forward and the backward pass.

use super::product::Isa;
use super::reduce::add_rows;
use super::unary;
use super::vector::{chunk_rows, map, spread, sum_over, vectorized};
use crate::math;
use crate::tape::op::Unary;
use rayon::prelude::*;
use std::ops::Range;

/// Scratch of [`batch_norm`] and [`batch_norm_bwd`]: three rows of `c` for each chunk of rows, and three
/// more.
pub(super) fn batch_norm_scratch(rows: usize, c: usize) -> usize {
    3 * c * (rows.div_ceil(chunk_rows(c)) + 1)
}

/// Scratch of [`layer_norm_bwd`]: two rows of `d` for each chunk of rows.
pub(super) fn layer_norm_scratch(rows: usize, d: usize) -> usize {
    2 * d * rows.div_ceil(chunk_rows(d))
}

/// `y = act((x - mean) * inv_std * gamma + beta)` with mean and biased variance over all rows of c.
pub(super) fn batch_norm(
    isa: Isa,
    (eps, act): (f32, Option<Unary>),
    [x, gamma, beta]: [&[f32]; 3],
    [y, mean, inv_std]: [&mut [f32]; 3],
    scratch: &mut [f32],
) {
    let c = gamma.len();
    let (rows, chunk) = (x.len() / c, chunk_rows(c));
    let scratch = &mut scratch[..batch_norm_scratch(rows, c)];
    let (parts, tail) = scratch.split_at_mut(scratch.len() - 3 * c);
    spread(parts.par_chunks_mut(3 * c).zip(x.par_chunks(chunk * c)), x.len())
        .for_each(|(part, x)| statistics_of_chunk(isa, x, part));
    let (scale, shift) = tail.split_at_mut(c);
    for j in 0..c {
        let Statistics { mean: exact, variance } = join_statistics(parts, j..j + 1, c, rows, chunk);
        mean[j] = exact as f32;
        inv_std[j] = (1.0 / (variance + f64::from(eps)).sqrt()) as f32;
        scale[j] = gamma[j] * inv_std[j];
        shift[j] = beta[j] - (exact - f64::from(mean[j])) as f32 * scale[j];
    }
    let (mean, scale, shift, len) = (&*mean, &*scale, &shift[..c], x.len());
    spread(y.par_chunks_mut(chunk * c).zip(x.par_chunks(chunk * c)), len)
        .for_each(|(y, x)| normalize_rows(isa, act, x, mean, scale, shift, y));
}

vectorized! {
    /// Writes to `part`, for each column of x, the mean, then the sum and the sum of squares of the
    /// deviations from this mean.
    pub(super) fn statistics_of_chunk(x: &[f32], part: &mut [f32]) {
        let c = part.len() / 3;
        let (mean, rest) = part.split_at_mut(c);
        let (sum, squares) = rest.split_at_mut(c);
        mean.fill(0.0);
        add_rows(x, mean);
        let rows = (x.len() / c) as f32;
        mean.iter_mut().for_each(|m| *m /= rows);
        sum.fill(0.0);
        squares.fill(0.0);
        for x in x.chunks_exact(c) {
            for (((sum, squares), &mean), &x) in sum.iter_mut().zip(squares.iter_mut()).zip(&*mean).zip(x) {
                let d = x - mean;
                *sum += d;
                *squares += d * d;
            }
        }
    }
}

/// Statistics of some columns together.
pub(super) struct Statistics {
    pub(super) mean: f64,
    /// The biased variance.
    pub(super) variance: f64,
}

/// Joins the statistics of all chunks of `rows` rows, for some columns together.
pub(super) fn join_statistics(parts: &[f32], columns: Range<usize>, c: usize, rows: usize, chunk: usize) -> Statistics {
    let of_column = |i: usize, part: &[f32], j: usize| {
        let n = (rows - i * chunk).min(chunk) as f64;
        let (sum, squares) = (f64::from(part[c + j]), f64::from(part[2 * c + j]));
        (n, f64::from(part[j]) + sum / n, squares - sum * sum / n)
    };
    let all = (rows * columns.len()).max(1) as f64;
    let chunks = || parts.chunks_exact(3 * c).enumerate();
    let each = || chunks().flat_map(|(i, part)| columns.clone().map(move |j| of_column(i, part, j)));
    let mean = each().map(|(n, mean, _)| n * mean).sum::<f64>() / all;
    let squares = each().map(|(n, of, squares)| squares + n * (of - mean) * (of - mean)).sum::<f64>();
    Statistics { mean, variance: (squares / all).max(0.0) }
}

vectorized! {
    pub(super) fn normalize_rows(act: Option<Unary>, x: &[f32], mean: &[f32], scale: &[f32], shift: &[f32], y: &mut [f32]) {
        let c = mean.len();
        macro_rules! rows {
            ($v:ident => $e:expr) => {
                for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
                    for ((((y, &x), &mean), &scale), &shift) in y.iter_mut().zip(x).zip(mean).zip(scale).zip(shift) {
                        let $v = (x - mean) * scale + shift;
                        *y = $e;
                    }
                }
            };
        }
        match act {
            None => rows!(v => v),
            Some(f) => unary::specialize_unary!(f, f => rows!(v => unary::unary(f, v))),
        }
    }
}

/// With xhat = (x - mean) inv_std: `dbeta = sum dy`, `dgamma = sum dy xhat`,
/// `dx = gamma inv_std (dy - dbeta / n - xhat dgamma / n)`.
pub(super) fn batch_norm_bwd(
    isa: Isa,
    [dy, x, gamma, mean, inv_std]: [&[f32]; 5],
    [dx, dgamma, dbeta]: [&mut [f32]; 3],
    scratch: &mut [f32],
) {
    let c = gamma.len();
    let (rows, chunk) = (x.len() / c, chunk_rows(c));
    let scratch = &mut scratch[..batch_norm_scratch(rows, c)];
    let (parts, tail) = scratch.split_at_mut(scratch.len() - 3 * c);
    spread(parts.par_chunks_mut(3 * c).zip(dy.par_chunks(chunk * c)).zip(x.par_chunks(chunk * c)), 2 * x.len())
        .for_each(|((part, dy), x)| gradient_sums_of_chunk(isa, dy, x, mean, part));
    let (by_dy, rest) = tail.split_at_mut(c);
    let (by_x, shift) = rest.split_at_mut(c);
    let n = rows.max(1) as f64;
    for j in 0..c {
        let total = |k: usize| parts.chunks_exact(3 * c).map(|part| f64::from(part[k * c + j])).sum::<f64>();
        // `off` is the exact mean minus the rounded mean.
        let (sum, off) = (total(0), total(2) / n);
        let product = total(1) - sum * off;
        let (gamma, inv_std) = (f64::from(gamma[j]), f64::from(inv_std[j]));
        dbeta[j] = sum as f32;
        dgamma[j] = (product * inv_std) as f32;
        let a = gamma * inv_std;
        let b = -a * inv_std * inv_std * product / n;
        (by_dy[j], by_x[j], shift[j]) = (a as f32, b as f32, (-a * sum / n - b * off) as f32);
    }
    let (by_dy, by_x, shift, len) = (&*by_dy, &*by_x, &*shift, 2 * x.len());
    spread(dx.par_chunks_mut(chunk * c).zip(dy.par_chunks(chunk * c)).zip(x.par_chunks(chunk * c)), len)
        .for_each(|((dx, dy), x)| gradient_rows(isa, dy, x, mean, [by_dy, by_x, shift], dx));
}

vectorized! {
    /// Writes to `part`, for each column, the sums of dy, of dy (x - mean) and of x - mean.
    pub(super) fn gradient_sums_of_chunk(dy: &[f32], x: &[f32], mean: &[f32], part: &mut [f32]) {
        let c = mean.len();
        part.fill(0.0);
        let (sum, rest) = part.split_at_mut(c);
        let (product, deviation) = rest.split_at_mut(c);
        for (dy, x) in dy.chunks_exact(c).zip(x.chunks_exact(c)) {
            let sums = sum.iter_mut().zip(product.iter_mut()).zip(deviation.iter_mut());
            for ((((sum, product), deviation), &mean), (&dy, &x)) in sums.zip(mean).zip(dy.iter().zip(x)) {
                let d = x - mean;
                *sum += dy;
                *product += dy * d;
                *deviation += d;
            }
        }
    }
}

vectorized! {
    pub(super) fn gradient_rows(dy: &[f32], x: &[f32], mean: &[f32], factors: [&[f32]; 3], dx: &mut [f32]) {
        let c = mean.len();
        let [by_dy, by_x, shift] = factors;
        for ((dx, dy), x) in dx.chunks_exact_mut(c).zip(dy.chunks_exact(c)).zip(x.chunks_exact(c)) {
            let columns = mean.iter().zip(by_dy).zip(by_x).zip(shift);
            for (((dx, &dy), &x), (((&mean, &by_dy), &by_x), &shift)) in dx.iter_mut().zip(dy).zip(x).zip(columns) {
                *dx = by_dy * dy + (by_x * (x - mean) + shift);
            }
        }
    }
}

/// `y = (x - mean) / sqrt(var + eps) * gamma + beta`. The first two rows of scratch hold the factors.
pub(super) fn batch_norm_infer(
    isa: Isa,
    eps: f32,
    [x, gamma, beta, mean, var]: [&[f32]; 5],
    y: &mut [f32],
    scratch: &mut [f32],
) {
    let c = gamma.len();
    let scale = &mut scratch[..c];
    for ((scale, gamma), var) in scale.iter_mut().zip(gamma).zip(var) {
        *scale = gamma / (var + eps).sqrt();
    }
    let (scale, chunk, len) = (&*scale, chunk_rows(c), x.len());
    spread(y.par_chunks_mut(chunk * c).zip(x.par_chunks(chunk * c)), len)
        .for_each(|(y, x)| normalize_rows(isa, None, x, mean, scale, beta, y));
}

/// `y = (x - mean) * inv_std * gamma + beta` with mean and biased variance of each row.
pub(super) fn layer_norm(isa: Isa, eps: f32, [x, gamma, beta]: [&[f32]; 3], [y, mean, inv_std]: [&mut [f32]; 3]) {
    let d = gamma.len();
    if d == 0 {
        mean.fill(0.0);
        inv_std.fill(1.0 / eps.sqrt());
        return;
    }
    let (chunk, len) = (chunk_rows(d), x.len());
    let statistics = mean.par_chunks_mut(chunk).zip(inv_std.par_chunks_mut(chunk));
    spread(y.par_chunks_mut(chunk * d).zip(x.par_chunks(chunk * d)).zip(statistics), len)
        .for_each(|((y, x), (mean, inv_std))| layer_norm_rows(isa, eps, [x, gamma, beta], [y, mean, inv_std]));
}

vectorized! {
    fn layer_norm_rows(eps: f32, inputs: [&[f32]; 3], outputs: [&mut [f32]; 3]) {
        let ([x, gamma, beta], [y, mean, inv_std]) = (inputs, outputs);
        let d = gamma.len();
        let n = d as f32;
        let statistics = mean.iter_mut().zip(inv_std);
        for ((y, x), (mean, inv_std)) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(statistics) {
            let m = sum_over!(x => x) / n;
            let off = sum_over!(x => x - m) / n;
            let squares = sum_over!(x => (x - m) * (x - m)) / n;
            // Rounding may give a negative variance, which becomes 0. NaN stays NaN.
            let inv = 1.0 / (math::relu(squares - off * off) + eps).sqrt();
            *mean = m + off;
            *inv_std = inv;
            map!(y <- x, gamma, beta: ((x - m) - off) * inv * gamma + beta);
        }
    }
}

/// Like [`batch_norm_bwd`], with the statistics of each row of `d` elements for dx; dgamma and dbeta are
/// sums over all rows.
pub(super) fn layer_norm_bwd(
    isa: Isa,
    [dy, x, gamma, mean, inv_std]: [&[f32]; 5],
    [dx, dgamma, dbeta]: [&mut [f32]; 3],
    scratch: &mut [f32],
) {
    let d = gamma.len();
    let (chunk, len) = (chunk_rows(d), 2 * x.len());
    let parts = &mut scratch[..layer_norm_scratch(x.len() / d, d)];
    let rows = dy.par_chunks(chunk * d).zip(x.par_chunks(chunk * d));
    let statistics = mean.par_chunks(chunk).zip(inv_std.par_chunks(chunk));
    spread(dx.par_chunks_mut(chunk * d).zip(parts.par_chunks_mut(2 * d)).zip(rows.zip(statistics)), len).for_each(
        |((dx, part), ((dy, x), (mean, inv_std)))| layer_norm_bwd_rows(isa, [dy, x, gamma, mean, inv_std], dx, part),
    );
    dgamma.fill(0.0);
    dbeta.fill(0.0);
    for part in parts.chunks_exact(2 * d) {
        let (a, b) = part.split_at(d);
        map!(dgamma <- a: *dgamma + a);
        map!(dbeta <- b: *dbeta + b);
    }
}

vectorized! {
    fn layer_norm_bwd_rows(inputs: [&[f32]; 5], dx: &mut [f32], part: &mut [f32]) {
        let [dy, x, gamma, mean, inv_std] = inputs;
        let d = gamma.len();
        let n = d as f32;
        part.fill(0.0);
        let (dgamma, dbeta) = part.split_at_mut(d);
        let statistics = mean.iter().zip(inv_std);
        let rows = dx.chunks_exact_mut(d).zip(dy.chunks_exact(d)).zip(x.chunks_exact(d));
        for (((dx, dy), x), (&mean, &inv)) in rows.zip(statistics) {
            let off = sum_over!(x => x - mean) / n;
            let g = sum_over!(dy, gamma => dy * gamma) / n;
            let product = sum_over!(dy, gamma, x => dy * gamma * ((x - mean) - off)) / n;
            let k = inv * inv * product;
            map!(dx <- dy, gamma, x: inv * ((dy * gamma - g) - ((x - mean) - off) * k));
            for (((dgamma, dbeta), &dy), &x) in dgamma.iter_mut().zip(dbeta.iter_mut()).zip(dy).zip(x) {
                *dgamma += dy * (((x - mean) - off) * inv);
                *dbeta += dy;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, numbers, same_bits};
    use super::*;

    /// xhat and inv_std of numbers that share their statistics.
    fn normalized(x: &[f64], eps: f64) -> (Vec<f64>, f64) {
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let var = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
        let inv = 1.0 / (var + eps).sqrt();
        (x.iter().map(|v| (v - mean) * inv).collect(), inv)
    }

    /// dx of numbers that share their statistics; g is dy * gamma.
    fn gradient(xhat: &[f64], inv: f64, g: &[f64]) -> Vec<f64> {
        let n = xhat.len() as f64;
        let (sum, product) = (g.iter().sum::<f64>(), g.iter().zip(xhat).map(|(g, x)| g * x).sum::<f64>());
        g.iter().zip(xhat).map(|(g, x)| inv * (g - sum / n - x * product / n)).collect()
    }

    /// Compares y, mean, inv_std, dx, dgamma and dbeta of batch norm (`by_column`) or layer norm with a
    /// computation in double precision.
    fn check(by_column: bool, [rows, c]: [usize; 2], [mean, spread]: [f32; 2], tolerance: f64) {
        let len = rows * c;
        let x = numbers(1, len, mean - 1.7 * spread, mean + 1.7 * spread);
        let (dy, gamma, beta) = (numbers(2, len, -1.0, 1.5), numbers(3, c, 0.5, 1.5), numbers(4, c, -0.5, 0.5));
        let eps = 1e-5 * spread * spread;
        let (groups, size) = if by_column { (c, rows) } else { (rows, c) };
        let lengths = [len, groups, groups, len, c, c];
        let total = lengths.iter().sum();
        let got = same_bits(total, batch_norm_scratch(rows, c), |isa, mut out, scratch| {
            let [y, m, inv, dx, dgamma, dbeta] = lengths.map(|n| out.split_off_mut(..n).expect("room for each output"));
            if by_column {
                batch_norm(isa, (eps, None), [&x, &gamma, &beta], [y, m, inv], scratch);
                scratch.fill(f32::NAN);
                batch_norm_bwd(isa, [&dy, &x, &gamma, m, inv], [dx, dgamma, dbeta], scratch);
            } else {
                layer_norm(isa, eps, [&x, &gamma, &beta], [y, m, inv]);
                layer_norm_bwd(isa, [&dy, &x, &gamma, m, inv], [dx, dgamma, dbeta], scratch);
            }
        });
        let mut want = lengths.map(|n| vec![0f64; n]);
        for group in 0..groups {
            let at: Vec<usize> = (0..size).map(|i| if by_column { i * c + group } else { group * c + i }).collect();
            let of: Vec<f64> = at.iter().map(|i| f64::from(x[*i])).collect();
            let (xhat, inv) = normalized(&of, f64::from(eps));
            let g: Vec<f64> = at.iter().map(|i| f64::from(dy[*i]) * f64::from(gamma[i % c])).collect();
            for ((i, xhat), dx) in at.iter().zip(&xhat).zip(gradient(&xhat, inv, &g)) {
                want[0][*i] = xhat * f64::from(gamma[i % c]) + f64::from(beta[i % c]);
                want[3][*i] = dx;
                want[4][i % c] += f64::from(dy[*i]) * xhat;
                want[5][i % c] += f64::from(dy[*i]);
            }
            (want[1][group], want[2][group]) = (of.iter().sum::<f64>() / size as f64, inv);
        }
        let mut rest = got.as_slice();
        for want in &want {
            let (part, after) = rest.split_at(want.len());
            close(part, want, tolerance);
            rest = after;
        }
    }

    #[test]
    fn odd_sizes() {
        for by_column in [true, false] {
            for extents in [[1, 3], [17, 1], [33, 17], [130, 33], [5000, 5], [3, 5000]] {
                check(by_column, extents, [0.3, 1.0], 5e-6);
            }
        }
    }

    #[test]
    fn a_large_mean_does_not_swallow_a_small_variance() {
        // Floats around 1e4 are 1e-3 apart. The data are coarse, but the results must still be accurate for
        // these data.
        for by_column in [true, false] {
            check(by_column, [3000, 33], [1e4, 1e-2], 1e-5);
            check(by_column, [300, 330], [-3e5, 1.0], 1e-5);
        }
    }

    #[test]
    fn no_rows_or_no_columns() {
        let (mut mean, mut inv) = ([f32::NAN; 2], [f32::NAN; 2]);
        layer_norm(Isa::detect(), 0.25, [&[], &[], &[]], [&mut [], &mut mean, &mut inv]);
        assert_eq!((mean, inv), ([0.0; 2], [2.0; 2]));
        let (gamma, beta) = ([1.0, 2.0], [0.0, 0.5]);
        let (mut mean, mut inv) = ([f32::NAN; 2], [f32::NAN; 2]);
        let mut scratch = vec![f32::NAN; batch_norm_scratch(0, 2)];
        batch_norm(Isa::detect(), (0.25, None), [&[], &gamma, &beta], [&mut [], &mut mean, &mut inv], &mut scratch);
        assert_eq!((mean, inv), ([0.0; 2], [2.0; 2]));
        let (mut dgamma, mut dbeta) = ([f32::NAN; 2], [f32::NAN; 2]);
        let inputs = [&[][..], &[], &gamma, &mean, &inv];
        batch_norm_bwd(Isa::detect(), inputs, [&mut [], &mut dgamma, &mut dbeta], &mut scratch);
        assert_eq!((dgamma, dbeta), ([0.0; 2], [0.0; 2]));
        layer_norm_bwd(Isa::detect(), [&[], &[], &gamma, &[], &[]], [&mut [], &mut dgamma, &mut dbeta], &mut scratch);
        assert_eq!((dgamma, dbeta), ([0.0; 2], [0.0; 2]));
    }
}
