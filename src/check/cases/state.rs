//! Cases of optimisers and stores, both on inputs and in place on parameters.

use crate::check::case::{Case, CaseInput, drawn, normal};
use crate::check::elements::Elements;
use crate::optim::{LEARNING_RATE, STEP};
use crate::tape::op::Op;

const SIZES: [usize; 5] = [1, 3, 33, 130, 10_007];

/// The case on inputs, and the case on parameters that are replaced in place. `stored_to` has, for each
/// output, the number of the input that it replaces.
fn both(make: impl Fn(&str, fn(CaseInput) -> CaseInput) -> Case, stored_to: &[usize]) -> [Case; 2] {
    let in_place = make(" in place", |input| input.param());
    let in_place = stored_to.iter().enumerate().fold(in_place, |case, (output, input)| case.store(output, *input));
    [make("", |input| input.constant()), in_place]
}

pub fn adam() -> Vec<Case> {
    let mut all = vec![];
    for (size, step) in SIZES.into_iter().zip([1.0, 2.0, 1000.0, 1e6, 10.0]) {
        let make = |detail: &str, kind: fn(CaseInput) -> CaseInput| {
            let second_moment = drawn("v", [size], Elements::Uniform(0.0, 2.0));
            let inputs = vec![
                kind(normal("param", [size])),
                normal("grad", [size]).constant(),
                kind(normal("m", [size])),
                kind(second_moment),
            ];
            let case = Case::new("adam", format!("[{size}] step {step}{detail}"), inputs, |t, v| {
                let (lr, step) = (t.scalar(LEARNING_RATE), t.scalar(STEP));
                let op = Op::Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
                let param = t.record(op, &[v[0], v[1], v[2], v[3], lr, step]);
                vec![param, t.output_of(param, 1), t.output_of(param, 2)]
            });
            case.scalars(|s| _ = s.set(LEARNING_RATE, 0.02).set(STEP, step))
        };
        all.extend(both(make, &[0, 2, 3]));
    }
    all
}

pub fn rmsprop() -> Vec<Case> {
    let make = |size: usize| {
        move |detail: &str, kind: fn(CaseInput) -> CaseInput| {
            let v = drawn("v", [size], Elements::Uniform(0.0, 2.0));
            let inputs = vec![kind(normal("param", [size])), normal("grad", [size]).constant(), kind(v)];
            let case = Case::new("rmsprop", format!("[{size}]{detail}"), inputs, |t, v| {
                let op = Op::RmsProp { alpha: 0.99, eps: 1e-8 };
                let param = t.record(op, &[v[0], v[1], v[2], t.scalar(LEARNING_RATE)]);
                vec![param, t.output_of(param, 1)]
            });
            case.scalars(|s| _ = s.set(LEARNING_RATE, 0.01))
        }
    };
    SIZES.into_iter().flat_map(|size| both(make(size), &[0, 2])).collect()
}

pub fn sgd() -> Vec<Case> {
    let make = |size: usize| {
        move |detail: &str, kind: fn(CaseInput) -> CaseInput| {
            let inputs =
                vec![kind(normal("param", [size])), normal("grad", [size]).constant(), kind(normal("buf", [size]))];
            let case = Case::new("sgd", format!("[{size}]{detail}"), inputs, |t, v| {
                let op = Op::Sgd { momentum: 0.9 };
                let param = t.record(op, &[v[0], v[1], v[2], t.scalar(LEARNING_RATE)]);
                vec![param, t.output_of(param, 1)]
            });
            case.scalars(|s| _ = s.set(LEARNING_RATE, 0.01))
        }
    };
    SIZES.into_iter().flat_map(|size| both(make(size), &[0, 2])).collect()
}

pub fn ema() -> Vec<Case> {
    let fed = |size: usize| {
        let inputs = vec![normal("average", [size]), normal("value", [size])];
        Case::new("ema", format!("[{size}]"), inputs, |t, v| vec![t.ema(v[0], v[1], 0.99)]).twice()
    };
    let in_place = |size: usize| {
        let inputs = vec![normal("average", [size]).param(), normal("value", [size])];
        let case = Case::new("ema", format!("[{size}] in place"), inputs, |t, v| vec![t.ema(v[0], v[1], 0.99)]);
        case.store(0, 0)
    };
    SIZES.into_iter().flat_map(|size| [fed(size), in_place(size)]).collect()
}

pub fn store() -> Vec<Case> {
    let computed = Case::new("store", "a product", vec![normal("w", [3, 3]).param(), normal("x", [3, 17])], |t, v| {
        vec![t.matmul(v[1], v[1], false, true)]
    });
    let fed = Case::new("store", "an input", vec![normal("w", [130]).param(), normal("x", [130])], |_, v| vec![v[1]]);
    // The old value is read after the new one is computed.
    let late =
        Case::new("store", "the old value is read last", vec![normal("w", [33]).param(), normal("x", [33])], |t, v| {
            let new = t.mul(v[0], v[1]);
            vec![new, t.sub(new, v[0])]
        });
    vec![computed.store(0, 0), fed.store(0, 0), late.store(0, 0)]
}
