//! Matrix products and the three convolutions.

use super::{Tensor, flat};
use pixtape::tape::geometry::{ConvGeom, Mask};

pub fn matmul(a: Tensor, b: Tensor, ta: bool, tb: bool) -> Vec<f64> {
    let (ra, ca) = (a.shape.dims()[0], a.shape.dims()[1]);
    let (rb, cb) = (b.shape.dims()[0], b.shape.dims()[1]);
    let (m, k) = if ta { (ca, ra) } else { (ra, ca) };
    let n = if tb { rb } else { cb };
    let mut y = vec![0.0; m * n];
    for i in 0..m {
        for j in 0..n {
            for l in 0..k {
                let left = a.data[if ta { l * ca + i } else { i * ca + l }];
                let right = b.data[if tb { j * cb + l } else { l * cb + j }];
                y[i * n + j] += left * right;
            }
        }
    }
    y
}

/// Whether the tap (i, j) is open from input channel `k` to output channel `o`.
fn is_open(g: &ConvGeom, i: usize, j: usize, k: usize, o: usize) -> bool {
    let (centre_i, centre_j) = (g.kh / 2, g.kw / 2);
    if g.mask == Mask::None || i < centre_i || (i == centre_i && j < centre_j) {
        return true;
    }
    if i > centre_i || j > centre_j {
        return false;
    }
    let block = g.cout / g.blocks;
    let (from, to) = (k * g.groups / g.cin, o % block * g.groups / block);
    if g.mask == Mask::A { from < to } else { from <= to }
}

/// The pairs of input and output channel that are open at the tap (i, j).
fn open_channels(g: &ConvGeom, i: usize, j: usize) -> Vec<(usize, usize)> {
    let pairs = (0..g.cin).flat_map(|k| (0..g.cout).map(move |o| (k, o)));
    pairs.filter(|(k, o)| is_open(g, i, j, *k, *o)).collect()
}

/// Visits every product x[a] w[b] that is added to y[c], as (a, b, c).
fn visit(g: &ConvGeom, mut product: impl FnMut(usize, usize, usize)) {
    let (x_dims, w_dims) = ([g.n, g.h, g.w, g.cin], [g.kh, g.kw, g.cin, g.cout]);
    let y_dims = [g.n, g.oh, g.ow, g.cout];
    let all_taps = (0..g.kh * g.kw).map(|tap| (tap / g.kw, tap % g.kw));
    let open: Vec<Vec<(usize, usize)>> = all_taps.map(|(i, j)| open_channels(g, i, j)).collect();
    for n in 0..g.n {
        for r in 0..g.oh {
            for c in 0..g.ow {
                for i in 0..g.kh {
                    for j in 0..g.kw {
                        let (row, column) = (r * g.stride[0] + i, c * g.stride[1] + j);
                        if row < g.pad[0] || row - g.pad[0] >= g.h || column < g.pad[1] || column - g.pad[1] >= g.w {
                            continue;
                        }
                        let (row, column) = (row - g.pad[0], column - g.pad[1]);
                        let x = flat(x_dims, [n, row, column, 0]);
                        let w = flat(w_dims, [i, j, 0, 0]);
                        let y = flat(y_dims, [n, r, c, 0]);
                        for (k, o) in &open[i * g.kw + j] {
                            product(x + k, w + k * g.cout + o, y + o);
                        }
                    }
                }
            }
        }
    }
}

pub fn conv(x: Tensor, w: Tensor, g: &ConvGeom) -> Vec<f64> {
    let mut y = vec![0.0; g.y_shape().len()];
    visit(g, |a, b, c| y[c] += x.data[a] * w.data[b]);
    y
}

pub fn conv_dx(dy: Tensor, w: Tensor, g: &ConvGeom) -> Vec<f64> {
    let mut dx = vec![0.0; g.x_shape().len()];
    visit(g, |a, b, c| dx[a] += dy.data[c] * w.data[b]);
    dx
}

pub fn conv_dw(x: Tensor, dy: Tensor, g: &ConvGeom) -> Vec<f64> {
    let mut dw = vec![0.0; g.w_shape().len()];
    visit(g, |a, b, c| dw[b] += x.data[a] * dy.data[c]);
    dw
}
