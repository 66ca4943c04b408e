//! The tape and the planner.

use pixtape::nn::{Init, Layout, ParamSet};
use pixtape::shape::Meta;
use pixtape::tape::Tape;
use pixtape::tape::plan::Plan;
use pixtape::tape::record::ConvAttrs;

#[test]
fn bias_and_activation_are_folded_into_the_convolution() {
    let mut set = ParamSet::new();
    let w = set.weight("c.weight", [3, 3, 4, 8], Init::Normal(0.0, 0.1), Layout::Conv);
    let b = set.weight("c.bias", [8], Init::Fill(0.0), Layout::Same);
    let t = Tape::new();
    let x = t.input("x", Meta::f32([2, 6, 6, 4]));
    let y = t.relu(t.add_bias(t.conv(x, t.param(&w), ConvAttrs::new(1, 1)), t.param(&b)));
    let loss = t.mean(t.square(y));
    t.output("loss", loss);
    for (p, g) in [&w, &b].iter().zip(t.grad(loss, &[t.param(&w), t.param(&b)])) {
        t.output(&p.path, g);
    }
    let plan = Plan::new("conv", &t);
    plan.check().unwrap();
    let text = plan.to_string();
    assert!(text.contains("conv 2x6x6x4 -> 6x6x8, 3x3 pad 1x1 +bias relu"), "{text}");
    assert!(!text.contains("expand [1x1x1x8]"), "{text}");
}

#[test]
#[should_panic(expected = "gated_bwd recorded at tests/tape.rs")]
fn a_missing_second_derivative_names_op_and_line() {
    let t = Tape::new();
    let x = t.input("x", Meta::f32([2, 6]));
    let y = t.sum(t.square(t.gated(x)));
    let dx = t.grad(y, &[x])[0];
    t.grad(t.sum(t.square(dx)), &[x]);
}

#[test]
#[should_panic(expected = "matmul([2x3], [4x5]) recorded at tests/tape.rs")]
fn wrong_shapes_panic_with_the_line() {
    let t = Tape::new();
    let (a, b) = (t.input("a", Meta::f32([2, 3])), t.input("b", Meta::f32([4, 5])));
    t.matmul(a, b, false, false);
}
