//! LSTMs over sequences and images, with the gates in the order i f g o.

use super::functions::sigmoid;
use super::{Tensor, flat};

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

/// Gradients of one unit: dz of the four gates, and dc of the previous cell.
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

/// Applies the cell to z_t + h_{t-1} w_hh at every step.
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

/// Backpropagation through time, from the values that `lstm` kept.
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

/// A scan over an image: the neighbours that a pixel depends on, as offsets in rows and columns.
pub struct Scan {
    /// The pixel whose state each tap of w_ss reads.
    taps: Vec<[isize; 2]>,
    /// The pixel whose cell it continues.
    cell: [isize; 2],
}

impl Scan {
    /// Row LSTM: the states of the k pixels of the row above around the same column, and the cell above.
    pub fn row(w_ss: Tensor) -> Scan {
        let k = w_ss.shape.dims()[1] as isize;
        Scan { taps: (0..k).map(|j| [-1, j - k / 2]).collect(), cell: [-1, 0] }
    }

    /// Diagonal LSTM: the states above and before the pixel in its row, and the cell before it.
    pub fn diagonal(reverse: bool) -> Scan {
        let before = [0, if reverse { 1 } else { -1 }];
        Scan { taps: vec![[-1, 0], before], cell: before }
    }

    /// The pixels `[image, row, column]` of all images, in an order in which each pixel comes after those
    /// that it depends on.
    fn pixels(&self, [n, h, w]: [usize; 3]) -> Vec<[usize; 3]> {
        let column = |c: usize| if self.cell == [0, 1] { w - 1 - c } else { c };
        (0..n * h * w).map(|i| [i / w / h, i / w % h, column(i % w)]).collect()
    }
}

/// The extents of an image tensor without its channels.
fn extents(x: Tensor) -> [usize; 3] {
    std::array::from_fn(|i| x.shape.dims()[i])
}

/// Flat index of the first of `channels` channels of the pixel at this offset; `None` if the pixel is
/// outside the image.
fn neighbour(
    [n, h, w]: [usize; 3],
    [image, r, c]: [usize; 3],
    [down, right]: [isize; 2],
    channels: usize,
) -> Option<usize> {
    let (r, c) = (r.checked_add_signed(down)?, c.checked_add_signed(right)?);
    (r < h && c < w).then(|| flat([n, h, w, channels], [image, r, c, 0]))
}

/// Adds the states of the neighbours, through their taps, to z, then applies the cell.
pub fn scan(scan: Scan, x: &[Tensor]) -> Vec<Vec<f64>> {
    let (z, w_ss, d) = (x[0], x[1], x[1].shape.dims()[2]);
    let size = extents(z);
    let pixels: usize = size.iter().product();
    let (mut y, mut kept) = (vec![0.0; pixels * d], vec![0.0; pixels * 5 * d]);
    for at in scan.pixels(size) {
        let own = |channels| neighbour(size, at, [0, 0], channels).unwrap();
        let mut gates = z.data[own(4 * d)..][..4 * d].to_vec();
        for (tap, from) in scan.taps.iter().enumerate() {
            let Some(state) = neighbour(size, at, *from, d) else { continue };
            for (gate, sum) in gates.iter_mut().enumerate() {
                *sum += (0..d).map(|k| y[state + k] * w_ss.data[(tap * d + k) * 4 * d + gate]).sum::<f64>();
            }
        }
        let cell = neighbour(size, at, scan.cell, 5 * d).map_or(vec![0.0; d], |c| kept[c + 4 * d..][..d].to_vec());
        let z = Tensor { shape: [1, 4 * d].into(), data: &gates };
        let outs = lstm_cell(z, Tensor { shape: [1, d].into(), data: &cell });
        y[own(d)..][..d].copy_from_slice(&outs[0]);
        kept[own(5 * d)..][..4 * d].copy_from_slice(&outs[2]);
        kept[own(5 * d) + 4 * d..][..d].copy_from_slice(&outs[1]);
    }
    vec![y, kept]
}

/// Backpropagation in the reverse order of `scan`, from the values that it kept.
pub fn scan_bwd(scan: Scan, x: &[Tensor]) -> Vec<f64> {
    let ([dy, w_ss, kept], d) = ([x[0], x[1], x[2]], x[1].shape.dims()[2]);
    let size = extents(dy);
    let (mut dh, mut dc) = (dy.data.to_vec(), vec![0.0; dy.data.len()]);
    let mut dz = vec![0.0; 4 * dy.data.len()];
    for at in scan.pixels(size).into_iter().rev() {
        let own = |channels| neighbour(size, at, [0, 0], channels).unwrap();
        let before = |channels| neighbour(size, at, scan.cell, channels);
        for k in 0..d {
            let cell = before(5 * d).map_or(0.0, |c| kept.data[c + 4 * d + k]);
            let of = |part: usize| kept.data[own(5 * d) + part * d + k];
            let (unit, dc_before) = unit_bwd(dh[own(d) + k], dc[own(d) + k], cell, of(4), std::array::from_fn(of));
            if let Some(c) = before(d) {
                dc[c + k] += dc_before;
            }
            for (gate, value) in unit.into_iter().enumerate() {
                dz[own(4 * d) + gate * d + k] = value;
            }
        }
        for (tap, from) in scan.taps.iter().enumerate() {
            let Some(state) = neighbour(size, at, *from, d) else { continue };
            for k in 0..d {
                let w = &w_ss.data[(tap * d + k) * 4 * d..][..4 * d];
                dh[state + k] += w.iter().zip(&dz[own(4 * d)..]).map(|(w, dz)| w * dz).sum::<f64>();
            }
        }
    }
    dz
}
