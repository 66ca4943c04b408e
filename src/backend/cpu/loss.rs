//! Losses: elementwise ones, the softmax cross entropy and the KL divergence of a diagonal Gaussian.

use super::math;
use super::product::Isa;
use super::vector::{CHUNK, chunk_rows, largest, map, spread, sum_over, vectorized};
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

/// `y = -log softmax(logits)[target]` of each row of `k`; NaN where the target is out of range.
pub(super) fn softmax_cross_entropy(isa: Isa, k: usize, logits: &[f32], target: &[u32], y: &mut [f32]) {
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

/// `dlogits = dy (softmax(logits) - onehot(target))` of each row of `k`; NaN where the target is out of range.
pub(super) fn softmax_cross_entropy_bwd(
    isa: Isa,
    k: usize,
    dy: &[f32],
    logits: &[f32],
    target: &[u32],
    dlogits: &mut [f32],
) {
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
    let rows = chunk_rows(d);
    let inputs = mu.par_chunks(rows * d.max(1)).zip(logvar.par_chunks(rows * d.max(1)));
    if d == 0 {
        y.fill(0.0);
        return;
    }
    spread(y.par_chunks_mut(rows).zip(inputs), mu.len()).for_each(|(y, (mu, logvar))| kl_rows(isa, d, mu, logvar, y));
}

vectorized! {
    fn kl_rows(d: usize, mu: &[f32], logvar: &[f32], y: &mut [f32]) {
        for ((y, mu), logvar) in y.iter_mut().zip(mu.chunks_exact(d)).zip(logvar.chunks_exact(d)) {
            *y = 0.5 * sum_over!(mu, logvar => mu * mu + math::exp_minus_1_minus(logvar));
        }
    }
}
