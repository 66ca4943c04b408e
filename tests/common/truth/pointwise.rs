//! Ops that are computed element by element.

use super::Tensor;
use super::functions::sigmoid;
use pixtape::tape::op::Binary;

pub fn binary(f: Binary, a: f64, b: f64) -> f64 {
    match f {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
    }
}

/// `x[.., 2c] -> tanh(first c) * sigmoid(last c)`
pub fn gated(x: Tensor) -> Vec<f64> {
    let c = x.shape.last() / 2;
    let mut y = vec![];
    for row in 0..x.shape.rows() {
        for k in 0..c {
            y.push(x.data[row * 2 * c + k].tanh() * sigmoid(x.data[row * 2 * c + c + k]));
        }
    }
    y
}

pub fn gated_bwd(dy: Tensor, x: Tensor) -> Vec<f64> {
    let c = x.shape.last() / 2;
    let mut dx = vec![0.0; x.data.len()];
    for row in 0..x.shape.rows() {
        for k in 0..c {
            let (first, last) = (row * 2 * c + k, row * 2 * c + c + k);
            let (t, s, dy) = (x.data[first].tanh(), sigmoid(x.data[last]), dy.data[row * c + k]);
            dx[first] = dy * (1.0 - t * t) * s;
            dx[last] = dy * t * s * (1.0 - s);
        }
    }
    dx
}

pub fn reparameterize(mu: Tensor, logvar: Tensor, eps: Tensor) -> Vec<f64> {
    (0..mu.data.len()).map(|i| mu.data[i] + (logvar.data[i] / 2.0).exp() * eps.data[i]).collect()
}
