//! The tape and the planner on small hand-written tapes: folding, aliases and stores, and the panics of
//! mistakes in recording.
//!
//! `planner.rs` tests the planner on random tapes, `ops_cpu.rs` and `grad_truth.rs` test the ops.

use pixtape::backend::cpu::{Cpu, Options};
use pixtape::backend::{self, Backend, Feed, Scalars};
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
#[should_panic(expected = "a value of another tape is used at tests/tape.rs")]
fn a_value_of_another_tape_is_refused_with_its_line() {
    let [here, there] = [Tape::new(), Tape::new()];
    let (x, y) = (here.input("x", Meta::f32([2])), there.input("y", Meta::f32([2])));
    here.add(x, y);
}

#[test]
#[should_panic(expected = "a value of another tape is used at tests/tape.rs")]
fn a_gradient_with_respect_to_a_value_of_another_tape_is_refused() {
    let [here, there] = [Tape::new(), Tape::new()];
    let (x, y) = (here.input("x", Meta::f32([2])), there.input("y", Meta::f32([2])));
    here.grad(here.sum(x), &[y]);
}

#[test]
#[should_panic(expected = "dequantize recorded at tests/tape.rs")]
fn pixels_made_of_levels_do_not_lose_a_gradient_silently() {
    let t = Tape::new();
    let x = t.input("x", Meta::f32([2, 6]));
    // A target is an index and has no gradient, so nothing is lost here.
    t.grad(t.sum(t.softmax_cross_entropy(x, t.reshape(t.quantize(t.slice(x, [0; 4], [0, 0, 0, 5]), 4), [2]))), &[x]);
    t.grad(t.sum(t.dequantize(t.quantize(x, 4), 4)), &[x]);
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
#[should_panic(expected = "diagonal_lstm_bwd recorded at tests/tape.rs")]
fn a_scan_has_no_second_derivative() {
    let t = Tape::new();
    let (z, w) = (t.input("z", Meta::f32([1, 2, 3, 8])), t.input("w_ss", Meta::f32([2, 1, 2, 8])));
    let dz = t.grad(t.sum(t.square(t.diagonal_lstm(z, w, true))), &[z])[0];
    t.grad(t.sum(t.square(dz)), &[w]);
}

#[test]
#[should_panic(expected = "must be [1, k, d, 4d] with an odd k")]
fn a_row_lstm_reads_an_odd_number_of_states() {
    let t = Tape::new();
    t.row_lstm(t.input("z", Meta::f32([1, 2, 3, 8])), t.input("w_ss", Meta::f32([1, 2, 2, 8])));
}

#[test]
#[should_panic(expected = "matmul([2x3], [4x5]) recorded at tests/tape.rs")]
fn wrong_shapes_panic_with_the_line() {
    let t = Tape::new();
    let (a, b) = (t.input("a", Meta::f32([2, 3])), t.input("b", Meta::f32([4, 5])));
    t.matmul(a, b, false, false);
}

#[test]
fn the_first_entries_of_a_value_are_no_copy() {
    let mut set = ParamSet::new();
    let part = set.weight("part", [1, 2], Init::Fill(0.0), Layout::Same);
    let t = Tape::new();
    let x = t.input("x", Meta::f32([3, 4]));
    let y = t.scale(x, 2.0);
    t.output("rows", t.slice(y, [0; 4], [0, 0, 1, 0]));
    t.output("corner", t.slice(y, [0; 4], [0, 0, 2, 1]));
    // Neither of these is a prefix.
    t.output("columns", t.slice(y, [0; 4], [0, 0, 0, 1]));
    t.output("later rows", t.slice(y, [0, 0, 1, 0], [0; 4]));
    // The parameter is a part of a value. The whole value cannot be computed in its buffer, which is too
    // short.
    t.store(&part, t.slice(y, [0; 4], [0, 0, 2, 2]));
    let plan = Plan::new("prefix", &t);
    plan.check().unwrap();
    let slices = plan.steps().iter().filter(|s| s.label().starts_with("slice")).count();
    assert_eq!(slices, 2, "{plan}");
    let mut cpu = Cpu::new(Options { poison: true, ..Options::default() }).unwrap();
    cpu.write_param(part.id, &[9.0; 2]).unwrap();
    let compiled = cpu.compile(&plan).unwrap();
    let values: Vec<f32> = (0..12).map(|i| i as f32).collect();
    cpu.run(compiled, &[Feed::F32(&values)], &Scalars::default()).unwrap();
    let mut read = |output: usize, len: usize| {
        let mut got = vec![f32::NAN; len];
        backend::read(&mut cpu, compiled, output, &mut got).unwrap();
        got
    };
    assert_eq!(read(0, 8), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0]);
    assert_eq!(read(1, 3), [0.0, 2.0, 4.0]);
    assert_eq!(read(2, 9), [0.0, 2.0, 4.0, 8.0, 10.0, 12.0, 16.0, 18.0, 20.0]);
    assert_eq!(read(3, 8), [8.0, 10.0, 12.0, 14.0, 16.0, 18.0, 20.0, 22.0]);
    let mut stored = [f32::NAN; 2];
    cpu.read_param(part.id, &mut stored).unwrap();
    assert_eq!(stored, [0.0, 2.0]);
}
