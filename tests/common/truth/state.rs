//! Optimisers.

use super::Tensor;

/// Kingma & Ba 2015, algorithm 1.
pub fn adam(x: &[Tensor], [beta1, beta2, eps]: [f64; 3]) -> Vec<Vec<f64>> {
    let [param, grad, m, v] = [x[0], x[1], x[2], x[3]];
    let (lr, step) = (x[4].data[0], x[5].data[0]);
    let m = m.zip(&grad, |m, g| beta1 * m + (1.0 - beta1) * g);
    let v = v.zip(&grad, |v, g| beta2 * v + (1.0 - beta2) * g * g);
    let moved = |i: usize| {
        let (m_hat, v_hat) = (m[i] / (1.0 - beta1.powf(step)), v[i] / (1.0 - beta2.powf(step)));
        param.data[i] - lr * m_hat / (v_hat.sqrt() + eps)
    };
    vec![(0..m.len()).map(moved).collect(), m, v]
}

pub fn rmsprop(x: &[Tensor], alpha: f64, eps: f64) -> Vec<Vec<f64>> {
    let [param, grad, v, lr] = [x[0], x[1], x[2], x[3]];
    let v = v.zip(&grad, |v, g| alpha * v + (1.0 - alpha) * g * g);
    let moved = |i: usize| param.data[i] - lr.data[0] * grad.data[i] / (v[i].sqrt() + eps);
    vec![(0..v.len()).map(moved).collect(), v]
}

pub fn sgd(x: &[Tensor], momentum: f64) -> Vec<Vec<f64>> {
    let [param, grad, buf, lr] = [x[0], x[1], x[2], x[3]];
    let buf = buf.zip(&grad, |buf, g| momentum * buf + g);
    let moved = |i: usize| param.data[i] - lr.data[0] * buf[i];
    vec![(0..buf.len()).map(moved).collect(), buf]
}
