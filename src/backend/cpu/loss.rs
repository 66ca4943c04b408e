//! Losses: elementwise ones, the softmax cross entropy and the KL divergence of a diagonal Gaussian.

use super::product::Isa;
use super::vector::{CHUNK, chunk_rows, largest, map, spread, sum_over, vectorized};
use crate::math;
use rayon::prelude::*;

/// `y = max(l, 0) - l t + log(1 + exp(-|l|))`
pub(super) fn bce_with_logits(isa: Isa, logits: &[f32], target: &[f32], y: &mut [f32]) {
    let len = y.len();
    spread(y.par_chunks_mut(CHUNK).zip(logits.par_chunks(CHUNK)).zip(target.par_chunks(CHUNK)), len)
        .for_each(|((y, l), t)| bce_chunk(isa, l, t, y));
}

vectorized! {
    fn bce_chunk(l: &[f32], t: &[f32], y: &mut [f32]) {
        map!(y <- l, t: (math::relu(l) - l * t) + math::softplus_of_minus_abs(l))
    }
}

/// `y = (x - target)^2`
pub(super) fn mse(isa: Isa, x: &[f32], target: &[f32], y: &mut [f32]) {
    let len = y.len();
    spread(y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).zip(target.par_chunks(CHUNK)), len)
        .for_each(|((y, x), t)| mse_chunk(isa, x, t, y));
}

vectorized! {
    fn mse_chunk(x: &[f32], t: &[f32], y: &mut [f32]) {
        map!(y <- x, t: (x - t) * (x - t))
    }
}

/// `y = -log softmax(logits)[target]` of each row of `k` logits; NaN if the target is out of range.
pub(super) fn softmax_cross_entropy(isa: Isa, k: usize, logits: &[f32], target: &[u32], y: &mut [f32]) {
    if k == 0 {
        y.fill(f32::NAN);
        return;
    }
    let rows = chunk_rows(k);
    spread(y.par_chunks_mut(rows).zip(logits.par_chunks(rows * k)).zip(target.par_chunks(rows)), logits.len())
        .for_each(|((y, logits), target)| softmax_cross_entropy_rows(isa, k, logits, target, y));
}

vectorized! {
    fn softmax_cross_entropy_rows(k: usize, logits: &[f32], target: &[u32], y: &mut [f32]) {
        for ((y, l), &target) in y.iter_mut().zip(logits.chunks_exact(k)).zip(target) {
            let max = largest(l);
            let sum = sum_over!(l => math::exp(l - max));
            *y = match l.get(target as usize) {
                Some(of_target) => (max - of_target) + math::log(sum),
                None => f32::NAN,
            };
        }
    }
}

/// `dlogits = dy (softmax(logits) - onehot(target))` of each row of `k` logits; NaN if the target is out of
/// range.
pub(super) fn softmax_cross_entropy_bwd(
    isa: Isa,
    k: usize,
    dy: &[f32],
    logits: &[f32],
    target: &[u32],
    dlogits: &mut [f32],
) {
    if dlogits.is_empty() {
        return;
    }
    let (rows, len) = (chunk_rows(k), logits.len());
    let inputs = logits.par_chunks(rows * k).zip(dy.par_chunks(rows)).zip(target.par_chunks(rows));
    spread(dlogits.par_chunks_mut(rows * k).zip(inputs), len)
        .for_each(|(dl, ((logits, dy), target))| softmax_cross_entropy_bwd_rows(isa, k, dy, logits, target, dl));
}

vectorized! {
    fn softmax_cross_entropy_bwd_rows(k: usize, dy: &[f32], logits: &[f32], target: &[u32], dlogits: &mut [f32]) {
        let rows = dlogits.chunks_exact_mut(k).zip(logits.chunks_exact(k));
        for ((dl, l), (&dy, &target)) in rows.zip(dy.iter().zip(target)) {
            let max = largest(l);
            map!(dl <- l: math::exp(l - max));
            let e = &*dl;
            let scale = dy / sum_over!(e => e);
            dl.iter_mut().for_each(|d| *d *= scale);
            match dl.get_mut(target as usize) {
                Some(of_target) => *of_target -= dy,
                None => dl.fill(f32::NAN),
            }
        }
    }
}

/// `y = sum of (mu^2 + exp(logvar) - 1 - logvar) / 2` over each row of `d`
pub(super) fn gaussian_kl(isa: Isa, d: usize, mu: &[f32], logvar: &[f32], y: &mut [f32]) {
    if d == 0 {
        y.fill(0.0);
        return;
    }
    let rows = chunk_rows(d);
    let inputs = mu.par_chunks(rows * d).zip(logvar.par_chunks(rows * d));
    spread(y.par_chunks_mut(rows).zip(inputs), mu.len()).for_each(|(y, (mu, logvar))| kl_rows(isa, d, mu, logvar, y));
}

vectorized! {
    fn kl_rows(d: usize, mu: &[f32], logvar: &[f32], y: &mut [f32]) {
        for ((y, mu), logvar) in y.iter_mut().zip(mu.chunks_exact(d)).zip(logvar.chunks_exact(d)) {
            *y = kl(mu, logvar);
        }
    }
}

/// The divergence of one row. The function is inlined, so that it is compiled for the caller's instruction
/// set.
#[inline(always)]
pub(super) fn kl(mu: &[f32], logvar: &[f32]) -> f32 {
    0.5 * sum_over!(mu, logvar => mu * mu + math::exp_minus_1_minus(logvar))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, numbers, same_bits};
    use super::*;

    fn cross_entropy(k: usize, logits: &[f32], target: &[u32], dy: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let y = same_bits(target.len(), 0, |isa, y, _| softmax_cross_entropy(isa, k, logits, target, y));
        let dl = same_bits(logits.len(), 0, |isa, dl, _| softmax_cross_entropy_bwd(isa, k, dy, logits, target, dl));
        (y, dl)
    }

    #[test]
    fn cross_entropy_of_odd_sizes_and_extremes() {
        for (rows, k) in [(1, 1), (3, 2), (17, 33), (130, 256), (9, 1000)] {
            for size in [1.0, 30.0, 1e4] {
                let logits = numbers(1, rows * k, -size, size);
                let (dy, target) =
                    (numbers(2, rows, -1.0, 1.0), (0..rows).map(|r| (r * 7 % k) as u32).collect::<Vec<_>>());
                let (y, dl) = cross_entropy(k, &logits, &target, &dy);
                let (mut want_y, mut want_dl) = (vec![], vec![]);
                for ((l, t), dy) in logits.chunks(k).zip(&target).zip(&dy) {
                    let max = l.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let e: Vec<f64> = l.iter().map(|l| (f64::from(*l) - f64::from(max)).exp()).collect();
                    let sum: f64 = e.iter().sum();
                    want_y.push(sum.ln() + f64::from(max) - f64::from(l[*t as usize]));
                    let hot = |i: usize| f64::from(u8::from(i == *t as usize));
                    want_dl.extend(e.iter().enumerate().map(|(i, e)| f64::from(*dy) * (e / sum - hot(i))));
                }
                close(&y, &want_y, 1e-6);
                close(&dl, &want_dl, 1e-6);
            }
        }
    }

    #[test]
    fn opposite_extremes_stay_finite() {
        let logits = [1e4, -1e4, 0.0, -1e4, -1e4, -1e4];
        let (y, dl) = cross_entropy(3, &logits, &[1, 2], &[1.0, 1.0]);
        assert_eq!(y, [2e4, 3f32.ln()]);
        close(&dl, &[1.0, -1.0, 0.0, 1.0 / 3.0, 1.0 / 3.0, -2.0 / 3.0], 1e-6);
        let y = same_bits(4, 0, |isa, y, _| bce_with_logits(isa, &[1e4, -1e4, 1e4, -1e4], &[1.0, 0.0, 0.0, 1.0], y));
        assert_eq!(y, [0.0, 0.0, 1e4, 1e4]);
    }

    #[test]
    fn a_class_that_does_not_exist_is_not_a_number() {
        let (y, dl) = cross_entropy(3, &[0.0; 9], &[0, 3, u32::MAX], &[1.0; 3]);
        assert!(y[0].is_finite() && y[1].is_nan() && y[2].is_nan());
        assert!(cross_entropy(0, &[], &[0, 1], &[1.0; 2]).0.iter().all(|v| v.is_nan()));
        assert!(dl[..3].iter().all(|v| v.is_finite()) && dl[3..].iter().all(|v| v.is_nan()));
    }

    #[test]
    fn divergence_of_nearly_standard_gaussians_is_exact() {
        let (n, d) = (33, 17);
        for size in [1e-3, 1.0, 20.0] {
            let (mu, logvar) = (numbers(1, n * d, -size, size), numbers(2, n * d, -size, size));
            let y = same_bits(n, 0, |isa, y, _| gaussian_kl(isa, d, &mu, &logvar, y));
            let term = |i: usize| {
                let (m, l) = (f64::from(mu[i]), f64::from(logvar[i]));
                0.5 * (m * m + (l.exp_m1() - l))
            };
            let want: Vec<f64> = (0..n).map(|r| (r * d..(r + 1) * d).map(term).sum()).collect();
            close(&y, &want, 1e-6);
        }
        let y = same_bits(2, 0, |isa, y, _| gaussian_kl(isa, 0, &[], &[], y));
        assert_eq!(y, [0.0; 2]);
    }
}
