//! Cases of elementwise ops.

use crate::check::case::{Case, drawn, normal};
use crate::check::elements::Elements;
use crate::shape::Shape;
use crate::tape::op::{Binary, Op, Unary};
use crate::tape::{Tape, Var};

/// One element, no element, fewer than a vector register holds, odd sizes, many rows.
fn sizes() -> [Shape; 6] {
    [[].into(), [0].into(), [3].into(), [17, 33].into(), [130, 33].into(), [2, 3, 5, 7].into()]
}

/// How the cases of a function are drawn.
struct Draws {
    x: Elements,
    /// What f saves: an output in its range, or an input in its domain.
    saved: Elements,
    /// Far from 0; `None` where that proves nothing.
    far: Option<Elements>,
}

fn draws(f: Unary) -> Draws {
    let (x, saved, far) = match f {
        Unary::Relu | Unary::LeakyRelu(_) | Unary::Elu => (Elements::Away, Elements::Away, Some(Elements::Saturated)),
        Unary::Tanh => (Elements::Normal, Elements::Uniform(-1.0, 1.0), Some(Elements::Saturated)),
        Unary::Sigmoid => (Elements::Normal, Elements::Uniform(0.0, 1.0), Some(Elements::Saturated)),
        Unary::Softplus | Unary::Silu | Unary::Gelu => (Elements::Normal, Elements::Normal, Some(Elements::Saturated)),
        // exp(10 000) is no number that f32 or f64 could hold.
        Unary::Exp => (Elements::Normal, Elements::POSITIVE, Some(Elements::Uniform(-80.0, 80.0))),
        Unary::Log | Unary::Sqrt | Unary::Recip => (Elements::POSITIVE, Elements::POSITIVE, None),
        Unary::Square => (Elements::Normal, Elements::Normal, None),
    };
    Draws { x, saved, far }
}

pub fn unary() -> Vec<Case> {
    let mut all = vec![];
    for f in Unary::EACH {
        let Draws { x, far, .. } = draws(f);
        let record = move |t: &Tape, v: &[Var]| vec![t.unary(f, v[0])];
        for size in sizes() {
            all.push(Case::new("unary", format!("{f} {size}"), vec![drawn("x", size, x)], record).twice());
        }
        if let Some(far) = far {
            let case = Case::new("unary", format!("{f} saturated"), vec![drawn("x", [3, 130], far)], record);
            all.push(if f == Unary::Exp { case } else { case.once().kinked() });
        }
    }
    all
}

pub fn unary_bwd() -> Vec<Case> {
    let mut all = vec![];
    for f in Unary::EACH {
        for size in sizes() {
            let inputs = vec![normal("dy", size), drawn("saved", size, draws(f).saved)];
            let record = move |t: &Tape, v: &[Var]| vec![t.unary_bwd(f, v[0], v[1])];
            all.push(Case::new("unary_bwd", format!("{f} {size}"), inputs, record).twice());
        }
    }
    all
}

pub fn binary() -> Vec<Case> {
    let mut all = vec![];
    for f in Binary::EACH {
        let elements = if f == Binary::Div { Elements::POSITIVE } else { Elements::Normal };
        let name = f.name();
        for size in sizes() {
            let inputs = vec![normal("a", size), drawn("b", size, elements)];
            let case = Case::new("binary", format!("{name} {size}"), inputs, move |t, v| {
                vec![t.record(Op::Binary(f), &[v[0], v[1]])]
            });
            all.push(case.twice());
        }
        let x = vec![drawn("x", [17, 33], Elements::POSITIVE)];
        let case = Case::new("binary", format!("{name} with itself"), x, move |t, v| {
            vec![t.record(Op::Binary(f), &[v[0], v[0]])]
        });
        all.push(case.twice());
    }
    all
}

pub fn affine() -> Vec<Case> {
    let case = |size: Shape| {
        Case::new("affine", size, vec![normal("x", size)], |t, v| vec![t.affine(v[0], -1.7, 0.3)]).twice()
    };
    sizes().map(case).into()
}

pub fn clamp() -> Vec<Case> {
    let case = |size: Shape| {
        let x = drawn("x", size, Elements::Saturated);
        Case::new("clamp", size, vec![x], |t, v| vec![t.clamp(v[0], -0.5, 1.5)])
    };
    sizes().map(case).into()
}

pub fn gated() -> Vec<Case> {
    let case = |size: Shape, elements: Elements, detail: &str| {
        let x = drawn("x", size, elements);
        Case::new("gated", format!("{size}{detail}"), vec![x], |t, v| vec![t.gated(v[0])]).once()
    };
    let mut all: Vec<Case> =
        gated_sizes().map(|[n, c]| case([n, 2 * c].into(), Elements::Normal, "")).into_iter().collect();
    all.push(case([2, 5, 4, 12].into(), Elements::Normal, ""));
    all.push(case([17, 66].into(), Elements::Saturated, " saturated"));
    all
}

pub fn gated_bwd() -> Vec<Case> {
    let case = |[n, c]: [usize; 2]| {
        let inputs = vec![normal("dy", [n, c]), normal("x", [n, 2 * c])];
        Case::new("gated_bwd", format!("[{n}x{c}]"), inputs, |t, v| vec![t.record(Op::GatedBwd, &[v[0], v[1]])])
    };
    gated_sizes().map(case).into()
}

/// Rows, and channels after gating.
fn gated_sizes() -> [[usize; 2]; 6] {
    [[1, 1], [0, 4], [3, 17], [33, 3], [130, 16], [5, 65]]
}

pub fn reparameterize() -> Vec<Case> {
    let case = |size: Shape| {
        let inputs = vec![normal("mu", size), normal("logvar", size), normal("eps", size)];
        Case::new("reparameterize", size, inputs, |t, v| vec![t.reparameterize(v[0], v[1], v[2])]).twice()
    };
    sizes().map(case).into()
}

/// Two levels, an odd number, and the levels of a byte, for pixels between the levels and beyond both
/// ends.
pub fn quantize() -> Vec<Case> {
    let mut all = vec![];
    for levels in [2, 3, 256] {
        for (elements, detail) in [(Elements::Uniform(0.0, 1.0), ""), (Elements::Saturated, " saturated")] {
            for size in sizes() {
                let name = format!("{size} {levels} levels{detail}");
                let x = vec![drawn("x", size, elements)];
                all.push(Case::new("quantize", name, x, move |t, v| vec![t.quantize(v[0], levels)]));
            }
        }
    }
    all
}

pub fn dequantize() -> Vec<Case> {
    let mut all = vec![];
    for levels in [2, 3, 256] {
        for size in sizes() {
            let index = vec![drawn("index", size, Elements::Index(levels as u32))];
            let name = format!("{size} {levels} levels");
            all.push(Case::new("dequantize", name, index, move |t, v| vec![t.dequantize(v[0], levels)]));
        }
    }
    all
}
