//! Lowers steps to dispatches, in one exhaustive match. Pure data: no device is needed, so tests can inspect
//! it.

use super::args::{ElementArgs, IndexArgs, LossArgs, LstmArgs, OptimArgs, RandomArgs, ReduceArgs, ScanArgs};
use super::dispatch::{Dispatch, Launch, Place, out, with_inputs, with_outputs};
use super::reduce::sum;
use super::shaders::Shader;
use super::{norm, product};
use crate::backend::args::{Region, unary_code};
use crate::shape::Shape;
use crate::tape::op::{Counter, Dist, Op};
use crate::tape::plan::Step;
use crate::tape::text;

/// Number of rows that a workgroup of `categorical` draws.
const CATEGORICAL_ROWS: usize = 64;

/// The dispatches of a step.
pub(super) fn launch(step: &Step) -> Launch {
    let mut run = Launch::default();
    // Kernels may assume at least one output element.
    if step.outputs.iter().all(|o| o.meta.shape.is_empty()) {
        return run;
    }
    let shape = |i: usize| step.inputs[i].meta.shape;
    let last = |i: usize| shape(i).last();
    let written = step.outputs[0].meta.shape;
    let len = written.len();
    let by_element = |entry, args: ElementArgs| {
        Dispatch::new(Shader::Elementwise, entry, &ElementArgs { len: len as u32, ..args }).quads(len)
    };
    // The elementwise kernels have their inputs at the bindings from 1 on and their output at binding 4.
    let element = |entry, args: ElementArgs| with_inputs(by_element(entry, args), step).bind(4, &step.outputs[0]);
    let plain = ElementArgs::default();
    match &step.op {
        // Leaves and aliases make no step (`Plan::check`).
        Op::Input(_) | Op::Param(_) | Op::Scalar(_) | Op::Reshape(_) | Op::Detach => {}
        Op::Fill { value, .. } => run.push(element("fill", ElementArgs { width: (*value as f32).to_bits(), ..plain })),

        Op::Unary(f) => {
            let (function, p) = unary_code(*f);
            run.push(element("unary", ElementArgs { p, ..plain }).constant("FUNCTION", function));
        }
        Op::UnaryBwd(f) => {
            let (function, p) = unary_code(*f);
            run.push(element("unary_bwd", ElementArgs { p, ..plain }).constant("FUNCTION", function));
        }
        Op::Binary(f) => run.push(element("binary", plain).constant("FUNCTION", f.code())),
        Op::Affine { scale, shift } => {
            run.push(element("affine", ElementArgs { p: *scale as f32, q: *shift as f32, ..plain }))
        }
        Op::Clamp { lo, hi } => run.push(element("clamp", ElementArgs { p: *lo as f32, q: *hi as f32, ..plain })),
        Op::Gated => run.push(element("gated", ElementArgs { width: written.last() as u32, ..plain })),
        Op::GatedBwd => run.push(element("gated_bwd", ElementArgs { width: last(0) as u32, ..plain })),
        Op::Reparameterize => run.push(element("reparameterize", plain)),
        Op::Quantize { levels } => {
            let args = ElementArgs { p: (*levels - 1) as f32, ..plain };
            run.push(by_element("quantize", args).bind(1, &step.inputs[0]).bind(6, &step.outputs[0]));
        }
        Op::Dequantize { levels } => {
            let args = ElementArgs { p: (*levels - 1) as f32, ..plain };
            run.push(by_element("dequantize", args).bind(5, &step.inputs[0]).bind(4, &step.outputs[0]));
        }

        Op::Pad { before, .. } => {
            let args = Region::new(written, shape(0), *before);
            run.push(with_inputs(Dispatch::new(Shader::ShapeOps, "pad", &args), step).bind(3, out(step, 0)).each(len));
        }
        Op::Slice { before, .. } => {
            let args = Region::new(shape(0), written, *before);
            run.push(
                with_inputs(Dispatch::new(Shader::ShapeOps, "slice", &args), step).bind(3, out(step, 0)).each(len),
            );
        }
        Op::Gather => {
            let args = index_args(shape(0).rows(), shape(1).len(), last(0));
            run.push(
                with_inputs(Dispatch::new(Shader::ShapeOps, "gather", &args), step).bind(3, out(step, 0)).each(len),
            );
        }
        Op::Scatter { rows } => {
            let args = index_args(*rows, shape(1).len(), last(0));
            let dispatch = Dispatch::new(Shader::ShapeOps, "scatter", &args);
            run.push(with_inputs(dispatch, step).bind(3, out(step, 0)).each(len));
        }

        Op::Sum(to) => sum(&mut run, ReduceArgs::new(shape(0), *to), (&step.inputs[0]).into(), out(step, 0)),
        Op::Expand(to) => {
            let args = ReduceArgs::new(*to, shape(0));
            run.push(with_inputs(Dispatch::new(Shader::Reduce, "expand", &args), step).bind(2, out(step, 0)).each(len));
        }

        Op::Matmul { ta, tb } => product::matmul(&mut run, step, *ta, *tb),
        Op::Conv(g) => product::conv(&mut run, step, g),
        Op::ConvDx(g) => product::conv_dx(&mut run, step, g),
        Op::ConvDw(g) => product::conv_dw(&mut run, step, g),

        Op::BatchNorm { eps } => norm::batch_norm(&mut run, step, *eps as f32),
        Op::BatchNormBwd => norm::batch_norm_bwd(&mut run, step),
        Op::BatchNormInfer { eps } => norm::batch_norm_infer(&mut run, step, *eps as f32),
        Op::LayerNorm { eps } => norm::layer_norm(&mut run, step, *eps as f32),
        Op::LayerNormBwd => norm::layer_norm_bwd(&mut run, step),
        Op::GroupNorm { groups, eps } => norm::group_norm(&mut run, step, *groups, *eps as f32),
        Op::GroupNormBwd => norm::group_norm_bwd(&mut run, step),

        Op::BceWithLogits | Op::Mse => {
            let entry = if step.op == Op::Mse { "mse" } else { "bce_with_logits" };
            let args = LossArgs { rows: len as u32, width: 1 };
            run.push(with_inputs(Dispatch::new(Shader::Loss, entry, &args), step).bind(5, out(step, 0)).quads(len));
        }
        Op::SoftmaxCrossEntropy => {
            let dispatch = loss_rows("softmax_cross_entropy", shape(0));
            let [logits, target] = [0, 1].map(|i| Place::from(&step.inputs[i]));
            run.push(dispatch.bind(1, logits).bind(3, target).bind(6, out(step, 0)));
        }
        Op::SoftmaxCrossEntropyBwd => {
            let dispatch = loss_rows("softmax_cross_entropy_bwd", shape(1));
            let [dy, logits, target] = [0, 1, 2].map(|i| Place::from(&step.inputs[i]));
            run.push(dispatch.bind(1, logits).bind(3, target).bind(4, dy).bind(6, out(step, 0)));
        }
        Op::GaussianKl => {
            let dispatch = loss_rows("gaussian_kl", shape(0));
            run.push(with_inputs(dispatch, step).bind(6, out(step, 0)));
        }

        Op::LstmCell => {
            let args = LstmArgs { steps: 1, rows: shape(1).rows() as u32, h: last(1) as u32, step: 0 };
            let dispatch = with_inputs(Dispatch::new(Shader::Lstm, "lstm_cell", &args), step);
            run.push(with_outputs(dispatch, step).each(shape(1).len()));
        }
        Op::LstmCellBwd => {
            let args = LstmArgs { steps: 1, rows: shape(0).rows() as u32, h: last(0) as u32, step: 0 };
            let dispatch = with_inputs(Dispatch::new(Shader::Lstm, "lstm_cell_bwd", &args), step);
            run.push(with_outputs(dispatch, step).each(shape(0).len()));
        }
        // Without steps the final cells are the initial ones.
        Op::Lstm if shape(0).dims()[0] == 0 => run.push(copy((&step.inputs[2]).into(), out(step, 1), shape(2).len())),
        Op::Lstm => sequence(&mut run, step, 0..shape(0).dims()[0]),
        // One dispatch more than steps: the last one writes the gradients of the initial states.
        Op::LstmBwd => {
            let steps = shape(0).dims()[0];
            sequence(&mut run, step, (0..steps).rev().chain([steps]));
        }

        Op::RowLstm | Op::DiagonalLstm { .. } => {
            scan(&mut run, step, out(step, 1));
        }
        Op::RowLstmBwd | Op::DiagonalLstmBwd { .. } => {
            let &[n, h, w, d] = shape(0).dims() else { unreachable!("inferred") };
            let cells = run.take_scratch(n * if step.op == Op::RowLstmBwd { w } else { h } * d);
            scan(&mut run, step, cells);
            run.dispatches.reverse();
        }

        Op::Random { dist, stream, counter, shape } => {
            let args = RandomArgs {
                len: len as u32,
                per_image: (len / shape.dims().first().copied().unwrap_or(1).max(1)).max(1) as u32,
                stream: *stream as u32,
                by_image: u32::from(*counter == Counter::Image),
                ..RandomArgs::default()
            };
            let normal = u32::from(*dist == Dist::Normal);
            let dispatch = Dispatch::new(Shader::Random, "random", &args).constant("FUNCTION", normal);
            run.push(with_inputs(dispatch, step).bind(4, out(step, 0)).quads(len));
        }
        Op::GaussianSample { stream } => {
            let (rows, width) = (shape(0).rows(), last(0) as u32);
            let args = RandomArgs { stream: *stream as u32, rows: rows as u32, width, ..RandomArgs::default() };
            let dispatch = Dispatch::new(Shader::Random, "gaussian_sample", &args).groups(rows);
            run.push(with_inputs(dispatch, step).bind(5, out(step, 0)).bind(6, out(step, 1)));
        }
        Op::GaussianSampleBwd => {
            let args = RandomArgs { len: len as u32, width: last(0) as u32, ..RandomArgs::default() };
            let dispatch = Dispatch::new(Shader::Random, "gaussian_sample_bwd", &args).each(len);
            let bindings = [4, 7, 1, 2, 3].into_iter().zip(&step.inputs);
            let dispatch = bindings.fold(dispatch, |dispatch, (binding, input)| dispatch.bind(binding, input));
            run.push(dispatch.bind(5, out(step, 0)).bind(6, out(step, 1)));
        }
        Op::Categorical => {
            let rows = shape(0).rows();
            let args = RandomArgs { rows: rows as u32, width: last(0) as u32, ..RandomArgs::default() };
            let dispatch = Dispatch::new(Shader::Random, "categorical", &args).groups(rows.div_ceil(CATEGORICAL_ROWS));
            run.push(with_inputs(dispatch, step).bind(4, out(step, 0)));
        }
        Op::Bernoulli => {
            let args = RandomArgs { len: len as u32, ..RandomArgs::default() };
            let dispatch = Dispatch::new(Shader::Random, "bernoulli", &args).quads(len);
            run.push(with_inputs(dispatch, step).bind(4, out(step, 0)));
        }

        Op::Adam { beta1, beta2, eps } => {
            let dispatch = Dispatch::new(Shader::Optim, "adam", &OptimArgs::adam(len, [*beta1, *beta2, *eps]));
            let state = [(0, 0, 4), (2, 1, 5), (3, 2, 6)];
            let dispatch = dispatch.bind(1, &step.inputs[1]).bind(2, &step.inputs[4]).bind(3, &step.inputs[5]);
            optimise(&mut run, step, dispatch, &state);
        }
        Op::RmsProp { alpha, eps } => {
            let dispatch = Dispatch::new(Shader::Optim, "rmsprop", &OptimArgs::keeping(len, *alpha, *eps));
            let dispatch = dispatch.bind(1, &step.inputs[1]).bind(2, &step.inputs[3]);
            optimise(&mut run, step, dispatch, &[(0, 0, 4), (2, 1, 6)]);
        }
        Op::Sgd { momentum } => {
            let dispatch = Dispatch::new(Shader::Optim, "sgd", &OptimArgs::keeping(len, *momentum, 0.0));
            let dispatch = dispatch.bind(1, &step.inputs[1]).bind(2, &step.inputs[3]);
            optimise(&mut run, step, dispatch, &[(0, 0, 4), (2, 1, 6)]);
        }
        Op::Ema { decay } => {
            let dispatch = Dispatch::new(Shader::Optim, "ema", &OptimArgs::keeping(len, *decay, 0.0));
            optimise(&mut run, step, dispatch.bind(1, &step.inputs[1]), &[(0, 0, 4)]);
        }
        Op::Store(_) => run.push(copy((&step.inputs[0]).into(), out(step, 0), len)),
    }
    run
}

/// `to = from`
fn copy(from: Place, to: Place, len: usize) -> Dispatch {
    let args = ElementArgs { len: len as u32, ..ElementArgs::default() };
    Dispatch::new(Shader::Elementwise, "copy", &args).bind(1, from).bind(4, to).quads(len)
}

/// Fills `to` with the number that has these bits.
pub(super) fn fill(bits: u32, to: Place, len: usize) -> Dispatch {
    let args = ElementArgs { len: len as u32, width: bits, ..ElementArgs::default() };
    Dispatch::new(Shader::Elementwise, "fill", &args).bind(4, to).quads(len)
}

/// An optimiser and its state, given as (input, output, binding). Each state is bound once, as the output.
/// If the planner has not put the input and the output into one buffer, the old value is copied to the
/// output first.
fn optimise(run: &mut Launch, step: &Step, dispatch: Dispatch, state: &[(usize, usize, u32)]) {
    let len = step.outputs[0].meta.shape.len();
    let mut dispatch = dispatch.quads(len);
    for &(input, output, binding) in state {
        let (old, new) = (Place::from(&step.inputs[input]), out(step, output));
        if old != new {
            run.push(copy(old, new, len));
        }
        dispatch = dispatch.bind(binding, new);
    }
    run.push(dispatch);
}

/// An LSTM over time, with one dispatch per step. The first input is `[steps, rows, ..]`, the second one
/// `[rows, h]`.
fn sequence(run: &mut Launch, step: &Step, order: impl Iterator<Item = usize>) {
    let (sequence, state) = (step.inputs[0].meta.shape, step.inputs[1].meta.shape);
    let args = LstmArgs {
        steps: sequence.dims()[0] as u32,
        rows: state.rows() as u32,
        h: state.last() as u32,
        ..LstmArgs::default()
    };
    for at in order {
        let dispatch = Dispatch::new(Shader::Lstm, text::name(&step.op), &LstmArgs { step: at as u32, ..args });
        run.push(with_outputs(with_inputs(dispatch, step), step).each(state.len()));
    }
}

/// A scan over images, with one dispatch per line, from the first line to the last one. The first input is
/// `[n, h, w, ..]`, the second one the weights.
fn scan(run: &mut Launch, step: &Step, cells: Place) {
    let (&[n, h, w, _], &[_, k, d, _]) = (step.inputs[0].meta.shape.dims(), step.inputs[1].meta.shape.dims()) else {
        unreachable!("inferred")
    };
    let is_row = matches!(step.op, Op::RowLstm | Op::RowLstmBwd);
    let reverse = matches!(step.op, Op::DiagonalLstm { reverse: true } | Op::DiagonalLstmBwd { reverse: true });
    let (lines, longest) = if is_row { (h, w) } else { (h + w - 1, h) };
    let [images, h, w, units, taps] = [n, h, w, d, k].map(|x| x as u32);
    for line in 0..lines as u32 {
        let args = ScanArgs { images, h, w, d: units, taps, reverse: u32::from(reverse), line };
        let dispatch = with_inputs(Dispatch::new(Shader::Scan, text::name(&step.op), &args), step);
        run.push(dispatch.bind(4, out(step, 0)).bind(5, cells).each(n * longest * d));
    }
}

fn index_args(rows: usize, count: usize, width: usize) -> IndexArgs {
    IndexArgs { rows: rows as u32, count: count as u32, width: width as u32 }
}

/// A loss with one workgroup per row of a matrix.
fn loss_rows(entry: &'static str, shape: Shape) -> Dispatch {
    let args = LossArgs { rows: shape.rows() as u32, width: shape.last() as u32 };
    Dispatch::new(Shader::Loss, entry, &args).groups(shape.rows())
}
