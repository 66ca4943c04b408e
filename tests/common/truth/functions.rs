//! The elementwise functions and their derivatives.

use pixtape::tape::op::Unary;

pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// log(1 + exp(x)) without overflow.
pub fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// f at v; and f' if v is the value that f saves, its output or its input.
pub fn unary(f: Unary, v: f64) -> [f64; 2] {
    let positive = |yes: f64, no: f64| if v > 0.0 { yes } else { no };
    match f {
        Unary::Relu => [v.max(0.0), positive(1.0, 0.0)],
        Unary::LeakyRelu(slope) => [positive(v, slope * v), positive(1.0, slope)],
        Unary::Elu => [positive(v, v.exp_m1()), positive(1.0, v + 1.0)],
        Unary::Tanh => [v.tanh(), 1.0 - v * v],
        Unary::Sigmoid => [sigmoid(v), v * (1.0 - v)],
        Unary::Softplus => [softplus(v), sigmoid(v)],
        Unary::Silu => [v * sigmoid(v), sigmoid(v) * (1.0 + v * (1.0 - sigmoid(v)))],
        Unary::Exp => [v.exp(), v],
        Unary::Log => [v.ln(), 1.0 / v],
        Unary::Sqrt => [v.sqrt(), 0.5 / v],
        Unary::Square => [v * v, 2.0 * v],
        Unary::Recip => [1.0 / v, -v * v],
        Unary::Gelu => {
            let c = (2.0 / std::f64::consts::PI).sqrt();
            let t = (c * (v + 0.044715 * v * v * v)).tanh();
            let slope = c * (1.0 + 3.0 * 0.044715 * v * v);
            [0.5 * v * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * v * (1.0 - t * t) * slope]
        }
    }
}
