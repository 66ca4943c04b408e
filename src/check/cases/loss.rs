//! Cases of losses.

use crate::check::case::{Case, drawn, normal};
use crate::check::draw::Draw;
use crate::shape::Shape;
use crate::tape::op::Op;

fn sizes() -> [Shape; 5] {
    [[].into(), [0].into(), [6, 21].into(), [130, 33].into(), [2, 3, 5, 1].into()]
}

pub fn bce_with_logits() -> Vec<Case> {
    let one = |size: Shape, logits: Draw, target: Draw, detail: &str| {
        let inputs = vec![drawn("logits", size, logits), drawn("target", size, target)];
        Case::new("bce_with_logits", format!("{size}{detail}"), inputs, |t, v| vec![t.bce_with_logits(v[0], v[1])])
            .twice()
    };
    let mut all: Vec<Case> = sizes().map(|s| one(s, Draw::Normal, Draw::Uniform(0.0, 1.0), "")).into();
    all.push(one([17, 33].into(), Draw::Saturated, Draw::Bit, " saturated"));
    let mean = vec![normal("logits", [6, 21]), drawn("target", [6, 21], Draw::Bit).constant()];
    let mean = Case::new("bce_with_logits", "[6x21] mean", mean, |t, v| vec![t.mean(t.bce_with_logits(v[0], v[1]))]);
    all.push(mean.twice());
    all
}

pub fn mse() -> Vec<Case> {
    let one = |size: Shape| {
        let inputs = vec![normal("x", size), normal("target", size)];
        Case::new("mse", size, inputs, |t, v| vec![t.mse(v[0], v[1])]).twice()
    };
    sizes().map(one).into()
}

/// Rows, classes, and the distribution of the logits.
fn classes() -> [(usize, usize, Draw); 9] {
    [
        (9, 17, Draw::Normal),
        (1, 1, Draw::Normal),
        (33, 3, Draw::Normal),
        (1, 130, Draw::Normal),
        (40, 256, Draw::Normal),
        (130, 33, Draw::Normal),
        (0, 5, Draw::Normal),
        (33, 17, Draw::Saturated),
        (9, 256, Draw::Uniform(-80.0, 80.0)),
    ]
}

fn class_detail(rows: usize, k: usize, draw: Draw) -> String {
    let detail = match draw {
        Draw::Normal => "",
        Draw::Saturated => " saturated",
        _ => " wide",
    };
    format!("[{rows}x{k}]{detail}")
}

pub fn softmax_cross_entropy() -> Vec<Case> {
    let one = |(rows, k, draw): (usize, usize, Draw)| {
        let inputs = vec![drawn("logits", [rows, k], draw), drawn("target", [rows], Draw::Index(k as u32))];
        Case::new("softmax_cross_entropy", class_detail(rows, k, draw), inputs, |t, v| {
            vec![t.softmax_cross_entropy(v[0], v[1])]
        })
        .once()
    };
    classes().map(one).into()
}

pub fn softmax_cross_entropy_bwd() -> Vec<Case> {
    let one = |(rows, k, draw): (usize, usize, Draw)| {
        let target = drawn("target", [rows], Draw::Index(k as u32));
        let inputs = vec![normal("dy", [rows]), drawn("logits", [rows, k], draw), target];
        Case::new("softmax_cross_entropy_bwd", class_detail(rows, k, draw), inputs, |t, v| {
            vec![t.record(Op::SoftmaxCrossEntropyBwd, v)]
        })
    };
    classes().map(one).into()
}

pub fn gaussian_kl() -> Vec<Case> {
    let one = |[n, d]: [usize; 2]| {
        let inputs = vec![normal("mu", [n, d]), normal("logvar", [n, d])];
        Case::new("gaussian_kl", format!("[{n}x{d}]"), inputs, |t, v| vec![t.gaussian_kl(v[0], v[1])]).twice()
    };
    [[5, 9], [1, 1], [33, 130], [130, 3], [0, 4]].map(one).into()
}
