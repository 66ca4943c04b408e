//! Cases of normalisations.

use super::conv::{activations, is_kinked};
use crate::check::case::{Case, CaseInput, drawn, normal};
use crate::check::elements::Elements;
use crate::shape::Shape;
use crate::tape::op::Op;
use crate::tape::{Tape, Var};

/// The tolerance is larger than that of other ops, because a mean is subtracted from values of similar
/// size.
const VALUE: f64 = 2e-5;
const GRADIENT: f64 = 2e-4;
const EPS: f64 = 1e-5;

fn sizes() -> [Shape; 6] {
    [[6, 4, 3, 5].into(), [33, 17].into(), [130, 3].into(), [7, 1].into(), [3, 33].into(), [5, 130].into()]
}

/// x, and the scale and shift of its last axis.
fn inputs(x: Shape, elements: Elements) -> Vec<CaseInput> {
    let c = [x.last()];
    vec![drawn("x", x, elements), normal("gamma", c), normal("beta", c)]
}

pub fn batch_norm() -> Vec<Case> {
    let one = |size: Shape, elements: Elements, detail: &str| {
        let case = Case::new("batch_norm", format!("{size}{detail}"), inputs(size, elements), |t, v| {
            t.batch_norm(v[0], v[1], v[2], EPS).to_vec()
        });
        case.once().graded_outputs(1).tolerances(VALUE, GRADIENT)
    };
    let mut all: Vec<Case> = sizes().map(|s| one(s, Elements::Normal, "")).into();
    // The mean is many times the standard deviation, so E[x^2] - E[x]^2 would lose all digits.
    all.push(one([33, 4, 4, 3].into(), Elements::Offset(100.0), " far from 0"));
    for f in activations() {
        let case = Case::new(
            "batch_norm",
            format!("[6x4x3x5] {f}"),
            inputs([6, 4, 3, 5].into(), Elements::Normal),
            move |t, v| vec![t.unary(f, t.batch_norm(v[0], v[1], v[2], EPS)[0])],
        );
        all.push(is_kinked(f, case.once().tolerances(VALUE, GRADIENT)));
    }
    all
}

/// dy, followed by the inputs of the forward op. The backward op is only ever given the statistics of the
/// forward op.
fn backward(x: Shape) -> Vec<CaseInput> {
    let mut all = vec![normal("dy", x)];
    all.extend(inputs(x, Elements::Normal));
    all
}

/// The three gradients, from dy, x, gamma and the by-products of the forward op.
fn gradients(t: &Tape, op: Op, dy: Var, y: Var, x: Var, gamma: Var) -> Vec<Var> {
    let dx = t.record(op, &[dy, x, gamma, t.output_of(y, 1), t.output_of(y, 2)]);
    vec![dx, t.output_of(dx, 1), t.output_of(dx, 2)]
}

pub fn batch_norm_bwd() -> Vec<Case> {
    let one = |size: Shape| {
        let case = Case::new("batch_norm_bwd", size, backward(size), |t, v| {
            let [y, ..] = t.batch_norm(v[1], v[2], v[3], EPS);
            gradients(t, Op::BatchNormBwd, v[0], y, v[1], v[2])
        });
        case.tolerances(VALUE, GRADIENT)
    };
    sizes().map(one).into()
}

pub fn batch_norm_infer() -> Vec<Case> {
    let one = |size: Shape| {
        let mut all = inputs(size, Elements::Normal);
        all.extend([normal("mean", [size.last()]), drawn("var", [size.last()], Elements::POSITIVE)]);
        Case::new("batch_norm_infer", size, all, |t, v| vec![t.batch_norm_infer(v[0], v[1], v[2], v[3], v[4], EPS)])
    };
    let mut all: Vec<Case> = sizes().map(one).into();
    all.push(one([0, 4, 4, 3].into()));
    all
}

pub fn layer_norm() -> Vec<Case> {
    let one = |size: Shape, elements: Elements, detail: &str| {
        let case = Case::new("layer_norm", format!("{size}{detail}"), inputs(size, elements), |t, v| {
            let y = t.layer_norm(v[0], v[1], v[2], EPS);
            vec![y, t.output_of(y, 1), t.output_of(y, 2)]
        });
        case.once().graded_outputs(1).tolerances(VALUE, GRADIENT)
    };
    let mut all: Vec<Case> = sizes().map(|s| one(s, Elements::Normal, "")).into();
    all.push(one([0, 7].into(), Elements::Normal, ""));
    all.push(one([17, 130].into(), Elements::Offset(100.0), " far from 0"));
    all
}

pub fn layer_norm_bwd() -> Vec<Case> {
    let one = |size: Shape| {
        let case = Case::new("layer_norm_bwd", size, backward(size), |t, v| {
            let y = t.layer_norm(v[1], v[2], v[3], EPS);
            gradients(t, Op::LayerNormBwd, v[0], y, v[1], v[2])
        });
        case.tolerances(VALUE, GRADIENT)
    };
    sizes().map(one).into()
}

/// Shapes and groups: every group of one channel, all channels in one, rows without pixels, an image in
/// several chunks.
fn grouped() -> [(Shape, usize); 7] {
    [
        ([6, 4, 3, 5].into(), 5),
        ([2, 5, 7, 12].into(), 3),
        ([3, 17, 33].into(), 11),
        ([130, 8].into(), 2),
        ([1, 33, 17, 6].into(), 1),
        ([2, 75, 71, 4].into(), 2),
        ([0, 4, 4, 6].into(), 3),
    ]
}

pub fn group_norm() -> Vec<Case> {
    let one = |(size, groups): (Shape, usize), elements: Elements, detail: &str| {
        let name = format!("{size} {groups} groups{detail}");
        let case = Case::new("group_norm", name, inputs(size, elements), move |t, v| {
            let y = t.group_norm(v[0], v[1], v[2], groups, EPS);
            vec![y, t.output_of(y, 1), t.output_of(y, 2)]
        });
        case.once().graded_outputs(1).tolerances(VALUE, GRADIENT)
    };
    let mut all: Vec<Case> = grouped().map(|s| one(s, Elements::Normal, "")).into();
    all.push(one(([3, 9, 11, 6].into(), 2), Elements::Offset(100.0), " far from 0"));
    all
}

pub fn group_norm_bwd() -> Vec<Case> {
    let one = |(size, groups): (Shape, usize)| {
        let case = Case::new("group_norm_bwd", format!("{size} {groups} groups"), backward(size), move |t, v| {
            let y = t.group_norm(v[1], v[2], v[3], groups, EPS);
            gradients(t, Op::GroupNormBwd, v[0], y, v[1], v[2])
        });
        case.tolerances(VALUE, GRADIENT)
    };
    grouped().map(one).into()
}
