//! Cases of matrix products, and of everything that can be fused into them.

use super::conv::{activations, is_kinked};
use crate::check::case::{Case, drawn, normal};
use crate::check::elements::Elements;
use crate::shape::Shape;

/// m, k, n.
const SIZES: [[usize; 3]; 10] = [
    [1, 1, 1],
    [3, 17, 33],
    [33, 3, 17],
    [17, 130, 1],
    [1, 33, 130],
    [130, 33, 17],
    [16, 64, 32],
    [0, 5, 4],
    [5, 4, 0],
    [3, 0, 4],
];

pub fn matmul() -> Vec<Case> {
    let mut all = vec![];
    for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
        let letters = format!("{}{}", if ta { 't' } else { 'n' }, if tb { 't' } else { 'n' });
        let one = |[m, k, n]: [usize; 3]| {
            let a: Shape = if ta { [k, m].into() } else { [m, k].into() };
            let b: Shape = if tb { [n, k].into() } else { [k, n].into() };
            let inputs = vec![normal("a", a), normal("b", b)];
            Case::new("matmul", format!("{letters} {m}x{k}x{n}"), inputs, move |t, v| {
                vec![t.matmul(v[0], v[1], ta, tb)]
            })
        };
        all.extend(SIZES.map(|size| one(size).twice()));
        // Larger than the tiles of every kernel, with a remainder along each axis.
        all.push(one([190, 517, 131]).once());
    }
    all.extend(epilogues());
    all
}

fn epilogues() -> Vec<Case> {
    let inputs = |m: usize, k: usize, n: usize| vec![normal("a", [m, k]), normal("b", [k, n]), normal("bias", [n])];
    let mut all = vec![];
    let biased = Case::new("matmul", "+bias 33x17x130", inputs(33, 17, 130), |t, v| {
        vec![t.add_bias(t.matmul(v[0], v[1], false, false), v[2])]
    });
    all.push(biased.twice());
    for f in activations() {
        let scale = Elements::Uniform(-0.3, 0.3);
        let inputs = |m: usize| vec![normal("a", [m, 17]), drawn("b", [17, 33], scale), drawn("bias", [33], scale)];
        let case = Case::new("matmul", format!("+bias {f} 5x17x33"), inputs(5), move |t, v| {
            vec![t.unary(f, t.add_bias(t.matmul(v[0], v[1], false, false), v[2]))]
        });
        all.push(is_kinked(f, case.twice()));
        let mut residual = inputs(33);
        residual.push(normal("residual", [33, 33]));
        let case = Case::new("matmul", format!("+bias +add {f} 33x17x33"), residual, move |t, v| {
            let y = t.add_bias(t.matmul(v[0], v[1], false, false), v[2]);
            vec![t.unary(f, t.add(v[3], y))]
        });
        all.push(is_kinked(f, case.twice()));
        // The gradient of the first activation is fused into the gradient of the second product.
        let mut two = inputs(17);
        two.push(drawn("c", [33, 3], scale));
        let case = Case::new("matmul", format!("two layers with {f} 17x17x33x3"), two, move |t, v| {
            let hidden = t.unary(f, t.add_bias(t.matmul(v[0], v[1], false, false), v[2]));
            vec![t.matmul(hidden, v[3], false, false)]
        });
        all.push(is_kinked(f, case.twice()));
    }
    let sum_of_two = vec![normal("a", [17, 5]), normal("b", [5, 33]), normal("c", [17, 3]), normal("d", [3, 33])];
    let sum_of_two = Case::new("matmul", "sum of two products 17x33", sum_of_two, |t, v| {
        vec![t.add(t.matmul(v[0], v[1], false, false), t.matmul(v[2], v[3], false, false))]
    });
    all.push(sum_of_two.twice());
    all
}
