//! Elementwise functions.

use super::Tensor;
use pixtape::tape::op::Unary;

pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// log(1 + exp(x)) without overflow.
pub fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

pub fn unary(f: Unary, x: f64) -> f64 {
    match f {
        Unary::Relu => x.max(0.0),
        Unary::LeakyRelu(slope) => {
            if x > 0.0 {
                x
            } else {
                f64::from(slope) * x
            }
        }
        Unary::Elu => {
            if x > 0.0 {
                x
            } else {
                x.exp_m1()
            }
        }
        Unary::Tanh => x.tanh(),
        Unary::Sigmoid => sigmoid(x),
        Unary::Softplus => softplus(x),
        Unary::Silu => x * sigmoid(x),
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sqrt => x.sqrt(),
        Unary::Square => x * x,
        Unary::Recip => 1.0 / x,
    }
}

/// f' from what f saves: its output for those above the line, its input for those below.
pub fn slope(f: Unary, saved: f64) -> f64 {
    let (y, x) = (saved, saved);
    match f {
        Unary::Relu => {
            if y > 0.0 {
                1.0
            } else {
                0.0
            }
        }
        Unary::LeakyRelu(slope) => {
            if y > 0.0 {
                1.0
            } else {
                f64::from(slope)
            }
        }
        Unary::Elu => {
            if y > 0.0 {
                1.0
            } else {
                y + 1.0
            }
        }
        Unary::Tanh => 1.0 - y * y,
        Unary::Sigmoid => y * (1.0 - y),
        Unary::Exp => y,
        Unary::Sqrt => 0.5 / y,
        Unary::Recip => -y * y,

        Unary::Softplus => sigmoid(x),
        Unary::Silu => sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x))),
        Unary::Log => 1.0 / x,
        Unary::Square => 2.0 * x,
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
