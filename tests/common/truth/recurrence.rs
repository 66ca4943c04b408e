//! LSTM: gates in the order i f g o.

use super::Tensor;
use super::pointwise::sigmoid;

pub fn lstm_cell(z: Tensor, c: Tensor) -> Vec<Vec<f64>> {
    let (n, h) = (c.shape.dims()[0], c.shape.dims()[1]);
    let (mut h_next, mut c_next, mut gates) = (vec![0.0; n * h], vec![0.0; n * h], vec![0.0; n * 4 * h]);
    for row in 0..n {
        for k in 0..h {
            let z = |gate: usize| z.data[row * 4 * h + gate * h + k];
            let [i, f, g, o] = [sigmoid(z(0)), sigmoid(z(1)), z(2).tanh(), sigmoid(z(3))];
            let next = f * c.data[row * h + k] + i * g;
            c_next[row * h + k] = next;
            h_next[row * h + k] = o * next.tanh();
            for (gate, value) in [i, f, g, o].into_iter().enumerate() {
                gates[row * 4 * h + gate * h + k] = value;
            }
        }
    }
    vec![h_next, c_next, gates]
}

/// Gradients of one unit: (dz of the four gates, dc of the cell before).
fn unit_bwd(dh: f64, dc_next: f64, c: f64, c_next: f64, [i, f, g, o]: [f64; 4]) -> ([f64; 4], f64) {
    let t = c_next.tanh();
    let dc = dc_next + dh * o * (1.0 - t * t);
    let dz = [dc * g * i * (1.0 - i), dc * c * f * (1.0 - f), dc * i * (1.0 - g * g), dh * t * o * (1.0 - o)];
    (dz, dc * f)
}

pub fn lstm_cell_bwd(x: &[Tensor]) -> Vec<Vec<f64>> {
    let [dh, dc_next, c, c_next, gates] = [x[0], x[1], x[2], x[3], x[4]];
    let (n, h) = (c.shape.dims()[0], c.shape.dims()[1]);
    let (mut dz, mut dc) = (vec![0.0; n * 4 * h], vec![0.0; n * h]);
    for row in 0..n {
        for k in 0..h {
            let at = row * h + k;
            let gates = std::array::from_fn(|gate| gates.data[row * 4 * h + gate * h + k]);
            let (dz_unit, dc_unit) = unit_bwd(dh.data[at], dc_next.data[at], c.data[at], c_next.data[at], gates);
            dc[at] = dc_unit;
            for gate in 0..4 {
                dz[row * 4 * h + gate * h + k] = dz_unit[gate];
            }
        }
    }
    vec![dz, dc]
}

/// z_t + h_{t-1} w_hh through the cell, for every step.
pub fn lstm(x: &[Tensor]) -> Vec<Vec<f64>> {
    let [z, h0, c0, w_hh] = [x[0], x[1], x[2], x[3]];
    let (steps, n, h) = (z.shape.dims()[0], z.shape.dims()[1], w_hh.shape.dims()[0]);
    let (mut state, mut cell) = (h0.data.to_vec(), c0.data.to_vec());
    let (mut y, mut kept) = (vec![], vec![]);
    for t in 0..steps {
        let mut z_t = z.data[t * n * 4 * h..(t + 1) * n * 4 * h].to_vec();
        for row in 0..n {
            for gate in 0..4 * h {
                for k in 0..h {
                    z_t[row * 4 * h + gate] += state[row * h + k] * w_hh.data[k * 4 * h + gate];
                }
            }
        }
        let z_t = Tensor { shape: [n, 4 * h].into(), data: &z_t };
        let outs = lstm_cell(z_t, Tensor { shape: [n, h].into(), data: &cell });
        [state, cell] = [outs[0].clone(), outs[1].clone()];
        y.extend(&state);
        for row in 0..n {
            kept.extend(&outs[2][row * 4 * h..(row + 1) * 4 * h]);
            kept.extend(&cell[row * h..(row + 1) * h]);
        }
    }
    vec![y, cell, kept]
}

/// Backpropagation through time from what `lstm` kept.
pub fn lstm_bwd(x: &[Tensor]) -> Vec<Vec<f64>> {
    let [dy, dc_n, c0, w_hh, kept] = [x[0], x[1], x[2], x[3], x[4]];
    let (steps, n, h) = (dy.shape.dims()[0], dy.shape.dims()[1], dy.shape.last());
    let mut dz = vec![0.0; steps * n * 4 * h];
    let (mut dh, mut dc) = (vec![0.0; n * h], dc_n.data.to_vec());
    for t in (0..steps).rev() {
        for row in 0..n {
            for k in 0..h {
                let at = row * h + k;
                let kept = |t: usize, part: usize| kept.data[(t * n + row) * 5 * h + part * h + k];
                let before = if t == 0 { c0.data[at] } else { kept(t - 1, 4) };
                let gates = std::array::from_fn(|gate| kept(t, gate));
                let dh_t = dh[at] + dy.data[t * n * h + at];
                let (dz_unit, dc_unit) = unit_bwd(dh_t, dc[at], before, kept(t, 4), gates);
                dc[at] = dc_unit;
                for gate in 0..4 {
                    dz[(t * n + row) * 4 * h + gate * h + k] = dz_unit[gate];
                }
            }
        }
        for row in 0..n {
            for k in 0..h {
                let gates = 0..4 * h;
                dh[row * h + k] =
                    gates.map(|gate| dz[(t * n + row) * 4 * h + gate] * w_hh.data[k * 4 * h + gate]).sum();
            }
        }
    }
    vec![dz, dh, dc]
}
