//! Shape ops, reductions and normalisations.

use super::{Tensor, flat, indices};
use pixtape::shape::Shape;

/// Pads with zeros: the output element at `at` is the input element at `at - before`.
pub fn pad(x: Tensor, before: [usize; 4], out: Shape) -> Vec<f64> {
    let mut y = vec![0.0; out.len()];
    for at in indices(x.shape.padded()) {
        let to = std::array::from_fn(|i| at[i] + before[i]);
        y[flat(out.padded(), to)] = x.data[flat(x.shape.padded(), at)];
    }
    y
}

pub fn slice(x: Tensor, before: [usize; 4], out: Shape) -> Vec<f64> {
    let from = |at: [usize; 4]| flat(x.shape.padded(), std::array::from_fn(|i| at[i] + before[i]));
    indices(out.padded()).map(|at| x.data[from(at)]).collect()
}

pub fn gather(table: Tensor, index: Tensor) -> Vec<f64> {
    let d = table.shape.last();
    index.data.iter().flat_map(|i| &table.data[*i as usize * d..(*i as usize + 1) * d]).copied().collect()
}

pub fn scatter(dy: Tensor, index: Tensor, rows: usize) -> Vec<f64> {
    let d = dy.shape.last();
    let mut out = vec![0.0; rows * d];
    for (row, i) in index.data.iter().enumerate() {
        for k in 0..d {
            out[*i as usize * d + k] += dy.data[row * d + k];
        }
    }
    out
}

/// Maps an index of the full shape to the shape `ones`, in which some dimensions are 1.
fn onto(ones: [usize; 4], at: [usize; 4]) -> [usize; 4] {
    std::array::from_fn(|i| if ones[i] == 1 { 0 } else { at[i] })
}

pub fn sum(x: Tensor, to: Shape) -> Vec<f64> {
    let mut y = vec![0.0; to.len()];
    for at in indices(x.shape.padded()) {
        y[flat(to.padded(), onto(to.padded(), at))] += x.data[flat(x.shape.padded(), at)];
    }
    y
}

pub fn expand(x: Tensor, to: Shape) -> Vec<f64> {
    let from = x.shape.padded();
    indices(to.padded()).map(|at| x.data[flat(from, onto(from, at))]).collect()
}

/// The mean and 1 / sqrt(biased variance + eps).
fn statistics(values: &[f64], eps: f64) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let var = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
    (mean, 1.0 / (var + eps).sqrt())
}

/// Statistics of each channel over all rows.
pub fn batch_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: f64) -> Vec<Vec<f64>> {
    let (rows, c) = (x.shape.rows(), x.shape.last());
    let (mut y, mut mean, mut inv_std) = (vec![0.0; rows * c], vec![], vec![]);
    for k in 0..c {
        let channel: Vec<f64> = (0..rows).map(|r| x.data[r * c + k]).collect();
        let (m, s) = statistics(&channel, eps);
        for r in 0..rows {
            y[r * c + k] = (channel[r] - m) * s * gamma.data[k] + beta.data[k];
        }
        mean.push(m);
        inv_std.push(s);
    }
    vec![y, mean, inv_std]
}

/// With x^ = (x - mean) s over the N rows: dx = gamma s (dy - (sum dy + x^ sum dy x^) / N).
pub fn batch_norm_bwd(x: &[Tensor]) -> Vec<Vec<f64>> {
    let [dy, x, gamma, mean, inv_std] = [x[0], x[1], x[2], x[3], x[4]];
    let (rows, c) = (x.shape.rows(), x.shape.last());
    let (mut dx, mut dgamma, mut dbeta) = (vec![0.0; rows * c], vec![0.0; c], vec![0.0; c]);
    for k in 0..c {
        let x_hat = |r: usize| (x.data[r * c + k] - mean.data[k]) * inv_std.data[k];
        for r in 0..rows {
            dbeta[k] += dy.data[r * c + k];
            dgamma[k] += dy.data[r * c + k] * x_hat(r);
        }
        for r in 0..rows {
            let centred = dy.data[r * c + k] - (dbeta[k] + x_hat(r) * dgamma[k]) / rows as f64;
            dx[r * c + k] = gamma.data[k] * inv_std.data[k] * centred;
        }
    }
    vec![dx, dgamma, dbeta]
}

pub fn batch_norm_infer(x: &[Tensor], eps: f64) -> Vec<f64> {
    let [x, gamma, beta, mean, var] = [x[0], x[1], x[2], x[3], x[4]];
    let c = x.shape.last();
    let of = |i: usize| {
        let k = i % c;
        (x.data[i] - mean.data[k]) / (var.data[k] + eps).sqrt() * gamma.data[k] + beta.data[k]
    };
    (0..x.data.len()).map(of).collect()
}

/// Statistics of each row over its elements.
pub fn layer_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: f64) -> Vec<Vec<f64>> {
    let (rows, d) = (x.shape.rows(), x.shape.last());
    let (mut y, mut mean, mut inv_std) = (vec![], vec![], vec![]);
    for r in 0..rows {
        let row = &x.data[r * d..(r + 1) * d];
        let (m, s) = statistics(row, eps);
        y.extend((0..d).map(|k| (row[k] - m) * s * gamma.data[k] + beta.data[k]));
        mean.push(m);
        inv_std.push(s);
    }
    vec![y, mean, inv_std]
}

/// With g = dy gamma and x^ = (x - mean) s: dx = s (g - (sum g + x^ sum g x^) / D).
pub fn layer_norm_bwd(x: &[Tensor]) -> Vec<Vec<f64>> {
    let [dy, x, gamma, mean, inv_std] = [x[0], x[1], x[2], x[3], x[4]];
    let (rows, d) = (x.shape.rows(), x.shape.last());
    let (mut dx, mut dgamma, mut dbeta) = (vec![], vec![0.0; d], vec![0.0; d]);
    for r in 0..rows {
        let x_hat = |k: usize| (x.data[r * d + k] - mean.data[r]) * inv_std.data[r];
        let g = |k: usize| dy.data[r * d + k] * gamma.data[k];
        let sum_g: f64 = (0..d).map(g).sum();
        let sum_gx: f64 = (0..d).map(|k| g(k) * x_hat(k)).sum();
        for k in 0..d {
            dx.push(inv_std.data[r] * (g(k) - (sum_g + x_hat(k) * sum_gx) / d as f64));
            dgamma[k] += dy.data[r * d + k] * x_hat(k);
            dbeta[k] += dy.data[r * d + k];
        }
    }
    vec![dx, dgamma, dbeta]
}

/// The indices of image `n` of x `[images, pixels, c]` in the channels of group `g`.
fn group_of(x: Shape, groups: usize, n: usize, g: usize) -> impl Iterator<Item = usize> {
    let (pixels, c) = (x.rows() / x.dims()[0], x.last());
    let share = c / groups;
    (0..pixels).flat_map(move |p| (0..share).map(move |k| (n * pixels + p) * c + g * share + k))
}

/// Statistics of each image within each group of channels.
pub fn group_norm(x: &[Tensor], groups: usize, eps: f64) -> Vec<Vec<f64>> {
    let [x, gamma, beta] = [x[0], x[1], x[2]];
    let (mut y, mut mean, mut inv_std) = (vec![0.0; x.data.len()], vec![], vec![]);
    for (n, g) in (0..x.shape.dims()[0]).flat_map(|n| (0..groups).map(move |g| (n, g))) {
        let values: Vec<f64> = group_of(x.shape, groups, n, g).map(|i| x.data[i]).collect();
        let (m, s) = statistics(&values, eps);
        for i in group_of(x.shape, groups, n, g) {
            let k = i % x.shape.last();
            y[i] = (x.data[i] - m) * s * gamma.data[k] + beta.data[k];
        }
        mean.push(m);
        inv_std.push(s);
    }
    vec![y, mean, inv_std]
}

/// With g = dy gamma and x^ = (x - mean) s over the N elements of a group: dx = s (g - (sum g + x^ sum g x^)
/// / N).
pub fn group_norm_bwd(x: &[Tensor]) -> Vec<Vec<f64>> {
    let [dy, x, gamma, mean, inv_std] = [x[0], x[1], x[2], x[3], x[4]];
    let (c, groups) = (x.shape.last(), mean.shape.last());
    let (mut dx, mut dgamma, mut dbeta) = (vec![0.0; x.data.len()], vec![0.0; c], vec![0.0; c]);
    for (n, group) in (0..x.shape.dims()[0]).flat_map(|n| (0..groups).map(move |g| (n, g))) {
        let (m, s) = (mean.data[n * groups + group], inv_std.data[n * groups + group]);
        let all: Vec<usize> = group_of(x.shape, groups, n, group).collect();
        let x_hat = |i: usize| (x.data[i] - m) * s;
        let g = |i: usize| dy.data[i] * gamma.data[i % c];
        let sum_g: f64 = all.iter().map(|i| g(*i)).sum();
        let sum_gx: f64 = all.iter().map(|i| g(*i) * x_hat(*i)).sum();
        for i in all.iter().copied() {
            dx[i] = s * (g(i) - (sum_g + x_hat(i) * sum_gx) / all.len() as f64);
            dgamma[i % c] += dy.data[i] * x_hat(i);
            dbeta[i % c] += dy.data[i];
        }
    }
    vec![dx, dgamma, dbeta]
}
