//! Cases of losses.

use crate::check::case::{Case, drawn, normal};
use crate::check::elements::Elements;
use crate::shape::Shape;
use crate::tape::op::Op;

fn sizes() -> [Shape; 5] {
    [[].into(), [0].into(), [6, 21].into(), [130, 33].into(), [2, 3, 5, 1].into()]
}

pub fn bce_with_logits() -> Vec<Case> {
    let one = |size: Shape, logits: Elements, target: Elements, detail: &str| {
        let inputs = vec![drawn("logits", size, logits), drawn("target", size, target)];
        Case::new("bce_with_logits", format!("{size}{detail}"), inputs, |t, v| vec![t.bce_with_logits(v[0], v[1])])
            .twice()
    };
    let mut all: Vec<Case> = sizes().map(|s| one(s, Elements::Normal, Elements::Uniform(0.0, 1.0), "")).into();
    all.push(one([17, 33].into(), Elements::Saturated, Elements::Bit, " saturated"));
    let mean = vec![normal("logits", [6, 21]), drawn("target", [6, 21], Elements::Bit).constant()];
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
fn classes() -> [(usize, usize, Elements); 9] {
    [
        (9, 17, Elements::Normal),
        (1, 1, Elements::Normal),
        (33, 3, Elements::Normal),
        (1, 130, Elements::Normal),
        (40, 256, Elements::Normal),
        (130, 33, Elements::Normal),
        (0, 5, Elements::Normal),
        (33, 17, Elements::Saturated),
        (9, 256, Elements::Uniform(-80.0, 80.0)),
    ]
}

fn class_detail(rows: usize, k: usize, elements: Elements) -> String {
    let detail = match elements {
        Elements::Normal => "",
        Elements::Saturated => " saturated",
        _ => " wide",
    };
    format!("[{rows}x{k}]{detail}")
}

pub fn softmax_cross_entropy() -> Vec<Case> {
    let one = |(rows, k, elements): (usize, usize, Elements)| {
        let inputs = vec![drawn("logits", [rows, k], elements), drawn("target", [rows], Elements::Index(k as u32))];
        Case::new("softmax_cross_entropy", class_detail(rows, k, elements), inputs, |t, v| {
            vec![t.softmax_cross_entropy(v[0], v[1])]
        })
        .once()
    };
    classes().map(one).into()
}

pub fn softmax_cross_entropy_bwd() -> Vec<Case> {
    let one = |(rows, k, elements): (usize, usize, Elements)| {
        let target = drawn("target", [rows], Elements::Index(k as u32));
        let inputs = vec![normal("dy", [rows]), drawn("logits", [rows, k], elements), target];
        Case::new("softmax_cross_entropy_bwd", class_detail(rows, k, elements), inputs, |t, v| {
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
