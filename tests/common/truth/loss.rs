//! Losses.

use super::Tensor;
use super::functions::softplus;

/// max(l, 0) - l t + log(1 + exp(-|l|))
pub fn bce_with_logits(l: f64, t: f64) -> f64 {
    l.max(0.0) - l * t + softplus(-l.abs())
}

/// log softmax of a row.
fn log_softmax(row: &[f64]) -> Vec<f64> {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = row.iter().map(|l| (l - max).exp()).sum::<f64>().ln();
    row.iter().map(|l| l - max - log_sum).collect()
}

fn row<'a>(x: &Tensor<'a>, r: usize) -> &'a [f64] {
    let k = x.shape.last();
    &x.data[r * k..(r + 1) * k]
}

pub fn softmax_cross_entropy(logits: Tensor, target: Tensor) -> Vec<f64> {
    target.data.iter().enumerate().map(|(r, t)| -log_softmax(row(&logits, r))[*t as usize]).collect()
}

/// dl = dy (softmax(l) - onehot(target))
pub fn softmax_cross_entropy_bwd(dy: Tensor, logits: Tensor, target: Tensor) -> Vec<f64> {
    let mut dl = vec![];
    for (r, t) in target.data.iter().enumerate() {
        for (k, log_p) in log_softmax(row(&logits, r)).into_iter().enumerate() {
            dl.push(dy.data[r] * (log_p.exp() - f64::from(k == *t as usize)));
        }
    }
    dl
}

/// sum (mu^2 + exp(lv) - 1 - lv) / 2 over each row
pub fn gaussian_kl(mu: Tensor, logvar: Tensor) -> Vec<f64> {
    let of = |r| row(&mu, r).iter().zip(row(&logvar, r)).map(|(m, lv)| 0.5 * (m * m + lv.exp() - 1.0 - lv)).sum();
    (0..mu.shape.rows()).map(of).collect()
}
