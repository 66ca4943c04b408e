//! Cases of leaves, changes of shape, and reductions.

use crate::check::case::{Case, drawn, normal};
use crate::check::elements::Elements;
use crate::models::{CRITIC_STEP, KL_WEIGHT, TEMPERATURE};
use crate::optim::{LEARNING_RATE, STEP};
use crate::shape::{DType, Shape};
use crate::tape::op::Scalar;

pub fn input() -> Vec<Case> {
    let floats = Case::new("input", "floats [5x7]", vec![normal("x", [5, 7])], |_, v| v.to_vec());
    let index = Case::new("input", "indices [9]", vec![drawn("i", [9], Elements::Index(u32::MAX))], |_, v| v.to_vec());
    vec![floats.twice(), index]
}

pub fn param() -> Vec<Case> {
    vec![Case::new("param", "[5x7]", vec![normal("p", [5, 7]).param()], |_, v| v.to_vec())]
}

pub fn scalar() -> Vec<Case> {
    let one = |scalar: Scalar| {
        let case = Case::new("scalar", scalar.name(), vec![], move |t, _| vec![t.scalar(scalar)]);
        case.scalars(|s| {
            _ = if scalar.dtype() == DType::U32 { s.set_u32(scalar, 0xdead_beef) } else { s.set(scalar, 0.7) };
        })
    };
    let times = Case::new("scalar", "times x", vec![normal("x", [17, 33])], |t, v| {
        vec![t.mul_scalar(v[0], t.scalar(KL_WEIGHT))]
    });
    let times = times.twice().scalars(|s| _ = s.set(KL_WEIGHT, 0.3));
    let integers = [Scalar::SEED, Scalar::REPLAY, Scalar::FIRST_IMAGE];
    let floats = [LEARNING_RATE, STEP, CRITIC_STEP, TEMPERATURE, KL_WEIGHT];
    integers.into_iter().chain(floats).map(one).chain([times]).collect()
}

pub fn fill() -> Vec<Case> {
    let shapes: [Shape; 4] = [[].into(), [0, 3].into(), [17, 33].into(), [2, 3, 5, 7].into()];
    shapes.map(|s| Case::new("fill", s, vec![], move |t, _| vec![t.fill(-1.25, s)])).into()
}

pub fn reshape() -> Vec<Case> {
    let plain =
        Case::new("reshape", "[3x5x7] to [15x7]", vec![normal("x", [3, 5, 7])], |t, v| vec![t.reshape(v[0], [15, 7])]);
    let between = Case::new("reshape", "between a matmul and its bias", matmul_inputs(), |t, v| {
        let y = t.reshape(t.matmul(v[0], v[1], false, false), [3, 11, 17]);
        vec![t.tanh(t.add_bias(y, v[2]))]
    });
    vec![plain.twice(), between.twice()]
}

fn matmul_inputs() -> Vec<crate::check::case::CaseInput> {
    vec![normal("a", [33, 5]), normal("b", [5, 17]), normal("bias", [17])]
}

pub fn detach() -> Vec<Case> {
    vec![Case::new("detach", "[17x33]", vec![normal("x", [17, 33])], |t, v| vec![t.square(t.detach(v[0]))])]
}

/// The shape of the smaller side, and the padding before and after it.
fn paddings() -> Vec<(Shape, [usize; 4], [usize; 4])> {
    vec![
        ([5].into(), [0, 0, 0, 2], [0, 0, 0, 1]),
        ([3, 17].into(), [0, 0, 1, 0], [0, 0, 0, 3]),
        ([2, 3, 5, 4].into(), [0, 1, 2, 0], [0, 2, 1, 0]),
        ([2, 3, 5, 4].into(), [0, 0, 0, 4], [0, 0, 0, 8]),
        ([2, 3, 5, 4].into(), [1, 0, 0, 0], [2, 0, 0, 0]),
        ([7, 1, 3].into(), [0, 2, 0, 1], [0, 0, 3, 0]),
        ([0, 3, 5, 4].into(), [0, 1, 0, 0], [0, 0, 1, 0]),
        ([3, 0].into(), [0, 0, 0, 2], [0, 0, 0, 0]),
        ([4, 3].into(), [0; 4], [0; 4]),
    ]
}

pub fn pad() -> Vec<Case> {
    let case = |(small, before, after): (Shape, [usize; 4], [usize; 4])| {
        let detail = format!("{small} {before:?} {after:?}");
        Case::new("pad", detail, vec![normal("x", small)], move |t, v| vec![t.pad(v[0], before, after)]).twice()
    };
    paddings().into_iter().map(case).collect()
}

pub fn slice() -> Vec<Case> {
    let case = |(small, before, after): (Shape, [usize; 4], [usize; 4])| {
        let skip = 4 - small.rank();
        let grown: Vec<usize> =
            small.dims().iter().enumerate().map(|(i, d)| d + before[skip + i] + after[skip + i]).collect();
        let (large, detail) = (Shape::new(&grown), format!("{small} {before:?} {after:?}"));
        Case::new("slice", detail, vec![normal("x", large)], move |t, v| vec![t.slice(v[0], before, after)]).twice()
    };
    let mut all: Vec<Case> = paddings().into_iter().map(case).collect();
    let nothing = Case::new("slice", "down to nothing", vec![normal("x", [3, 5])], |t, v| {
        vec![t.slice(v[0], [0, 0, 0, 2], [0, 0, 0, 3])]
    });
    all.push(nothing.twice());
    all
}

/// Rows of the table, its width, and the number of indices.
const TABLES: [(usize, usize, usize); 6] =
    [(1, 1, 1), (10, 17, 33), (3, 130, 17), (33, 5, 130), (7, 4, 0), (130, 1, 9)];

pub fn gather() -> Vec<Case> {
    let case = |(rows, d, n): (usize, usize, usize)| {
        let inputs = vec![normal("table", [rows, d]), drawn("index", [n], Elements::Index(rows as u32))];
        Case::new("gather", format!("[{rows}x{d}] by [{n}]"), inputs, |t, v| vec![t.gather(v[0], v[1])]).twice()
    };
    TABLES.map(case).into()
}

pub fn scatter() -> Vec<Case> {
    let case = |(rows, d, n): (usize, usize, usize)| {
        let inputs = vec![normal("dy", [n, d]), drawn("index", [n], Elements::Index(rows as u32))];
        let detail = format!("[{n}x{d}] to {rows} rows");
        Case::new("scatter", detail, inputs, move |t, v| vec![t.scatter(v[0], v[1], rows)]).twice()
    };
    TABLES.map(case).into()
}

/// A shape in which some extents are 1, and the full shape.
fn reductions() -> Vec<(Shape, Shape)> {
    vec![
        ([1].into(), [1000].into()),
        ([1].into(), [1].into()),
        ([1, 33].into(), [17, 33].into()),
        ([17, 1].into(), [17, 33].into()),
        ([1, 1].into(), [130, 33].into()),
        ([130, 1].into(), [130, 130].into()),
        ([1, 1, 1, 4].into(), [3, 5, 7, 4].into()),
        ([3, 1, 1, 4].into(), [3, 5, 7, 4].into()),
        ([3, 5, 7, 1].into(), [3, 5, 7, 4].into()),
        ([1, 5, 1, 4].into(), [3, 5, 7, 4].into()),
        ([3, 1, 7, 1].into(), [3, 5, 7, 4].into()),
        ([1, 5, 7].into(), [3, 5, 7].into()),
        ([1, 3].into(), [0, 3].into()),
        ([0, 1].into(), [0, 3].into()),
    ]
}

pub fn sum() -> Vec<Case> {
    // Positive numbers: if a sum cancels, its relative error depends more on its inputs than on the
    // kernel.
    let one = |ones: Shape, full: Shape| {
        let x = drawn("x", full, Elements::Uniform(0.0, 1.0));
        Case::new("sum", format!("{full} to {ones}"), vec![x], move |t, v| vec![t.sum_to(v[0], ones)]).twice()
    };
    let mut all: Vec<Case> =
        reductions().into_iter().filter(|(ones, full)| ones != full).map(|(a, b)| one(a, b)).collect();
    all.push(one([1, 3].into(), [10_007, 3].into()));
    all.push(one([1].into(), [100_003].into()));
    all
}

pub fn expand() -> Vec<Case> {
    let one = |(ones, full): (Shape, Shape)| {
        let x = normal("x", ones);
        Case::new("expand", format!("{ones} to {full}"), vec![x], move |t, v| vec![t.expand(v[0], full)]).twice()
    };
    reductions().into_iter().filter(|(ones, full)| ones != full).map(one).collect()
}
