//! Maps steps to kernels, in one exhaustive match.

use super::access::Access;
use super::epilogue::EpilogueOp;
use super::group_norm::{self, Groups};
use super::lstm::Sequence;
use super::product::{self, Arithmetic, Gemm, Packing};
use super::scan::{Line, Sweep};
use super::shape_ops::Region;
use super::{elementwise, loss, lstm, norm, optim, random, reduce, scan, shape_ops};
use crate::backend::axes::Axes;
use crate::shape::Shape;
use crate::tape::op::{Counter, Op, Unary};
use crate::tape::plan::{Fused, Precision, Step};

/// Number of words of scratch that a step needs with this many threads.
pub fn scratch_len(step: &Step, precision: Precision, threads: usize) -> usize {
    let shape = |i: usize| step.inputs[i].meta.shape;
    match &step.op {
        Op::Sum(to) => Axes::new(shape(0), *to).scratch_len(),
        Op::BatchNorm { .. } => norm::batch_norm_scratch(shape(0).rows(), shape(0).last()),
        Op::BatchNormBwd => norm::batch_norm_scratch(shape(1).rows(), shape(1).last()),
        Op::BatchNormInfer { .. } => shape(0).last(),
        Op::LayerNormBwd => norm::layer_norm_scratch(shape(1).rows(), shape(1).last()),
        Op::GroupNorm { groups, .. } => Groups::of(shape(0), *groups).scratch_len(),
        Op::GroupNormBwd => Groups::of(shape(1), shape(3).last()).scratch_len(),
        Op::Lstm => sequence(shape(0), shape(1).last()).scratch_len(),
        Op::LstmBwd => sequence(shape(0), shape(1).last()).scratch_bwd_len(),
        Op::RowLstm | Op::DiagonalLstm { .. } => sweep(step).scratch_len(),
        Op::RowLstmBwd | Op::DiagonalLstmBwd { .. } => sweep(step).scratch_bwd_len(),
        Op::Matmul { ta, tb } => product::gemm_scratch_len(gemm(step, *ta, *tb), precision, threads),
        Op::Conv(g) => product::conv_scratch_len(g, precision, threads),
        Op::ConvDx(g) => product::conv_dx_scratch_len(g, precision, threads),
        Op::ConvDw(g) => product::conv_dw_scratch_len(g, precision, threads),
        Op::Input(_)
        | Op::Param(_)
        | Op::Scalar(_)
        | Op::Fill { .. }
        | Op::Unary(_)
        | Op::UnaryBwd(_)
        | Op::Binary(_)
        | Op::Affine { .. }
        | Op::Clamp { .. }
        | Op::Quantize { .. }
        | Op::Dequantize { .. }
        | Op::Gated
        | Op::GatedBwd
        | Op::Reparameterize
        | Op::Reshape(_)
        | Op::Detach
        | Op::Pad { .. }
        | Op::Slice { .. }
        | Op::Gather
        | Op::Scatter { .. }
        | Op::Expand(_)
        | Op::LayerNorm { .. }
        | Op::BceWithLogits
        | Op::Mse
        | Op::SoftmaxCrossEntropy
        | Op::SoftmaxCrossEntropyBwd
        | Op::GaussianKl
        | Op::LstmCell
        | Op::LstmCellBwd
        | Op::Random { .. }
        | Op::GaussianSample { .. }
        | Op::GaussianSampleBwd
        | Op::Categorical
        | Op::Bernoulli
        | Op::Adam { .. }
        | Op::RmsProp { .. }
        | Op::Sgd { .. }
        | Op::Ema { .. }
        | Op::Store(_) => 0,
    }
}

/// How the weights of a step, its second input, are packed; `None` if it is no product with weights.
pub fn packing(step: &Step, precision: Precision) -> Option<Packing> {
    match &step.op {
        Op::Matmul { ta, tb } => Packing::gemm(gemm(step, *ta, *tb), precision),
        Op::Conv(g) => Some(Packing::conv(g, precision)),
        Op::ConvDx(g) => Some(Packing::conv_dx(g, precision)),
        _ => None,
    }
}

/// Whether a kernel can add its result to what its outputs hold ([`Access::adds`]).
pub fn can_add(op: &Op) -> bool {
    matches!(op, Op::ConvDw(_))
}

/// Runs one step.
pub fn launch(step: &Step, by: Arithmetic, access: &Access) {
    // Kernels may assume at least one output element.
    if step.outputs.iter().all(|o| o.meta.shape.is_empty()) {
        return;
    }
    let isa = by.isa;
    let (x, y) = (|i| access.input(i), |i| access.output(i));
    let shape = |i: usize| step.inputs[i].meta.shape;
    let last = |i: usize| shape(i).last();
    match &step.op {
        // Leaves and aliases make no step (`Plan::check`).
        Op::Input(_) | Op::Param(_) | Op::Scalar(_) | Op::Reshape(_) | Op::Detach => {}
        Op::Fill { value, .. } => elementwise::fill(*value as f32, y(0)),

        Op::Unary(f) => elementwise::unary(isa, *f, x(0), y(0)),
        Op::UnaryBwd(f) => elementwise::unary_bwd(isa, *f, x(0), x(1), y(0)),
        Op::Binary(f) => elementwise::binary(isa, *f, x(0), x(1), y(0)),
        Op::Affine { scale, shift } => elementwise::affine(isa, [*scale, *shift].map(|v| v as f32), x(0), y(0)),
        Op::Clamp { lo, hi } => elementwise::clamp(isa, [*lo, *hi].map(|v| v as f32), x(0), y(0)),
        Op::Gated => elementwise::gated(isa, last(0) / 2, x(0), y(0)),
        Op::GatedBwd => elementwise::gated_bwd(isa, last(0), x(0), x(1), y(0)),
        Op::Reparameterize => elementwise::reparameterize(isa, x(0), x(1), x(2), y(0)),
        Op::Quantize { levels } => elementwise::quantize(isa, *levels, x(0), access.output_index(0)),
        Op::Dequantize { levels } => elementwise::dequantize(isa, *levels, access.index(0), y(0)),

        Op::Pad { before, .. } => {
            shape_ops::pad(Region::new(written(step).padded(), shape(0).padded(), *before), x(0), y(0));
        }
        Op::Slice { before, .. } => {
            shape_ops::slice(Region::new(shape(0).padded(), written(step).padded(), *before), x(0), y(0));
        }
        Op::Gather => shape_ops::gather(x(0), access.index(1), last(0), y(0)),
        Op::Scatter { .. } => shape_ops::scatter(isa, x(0), access.index(1), last(0), y(0)),

        Op::Sum(to) => reduce::sum(isa, Axes::new(shape(0), *to), x(0), y(0), access.scratch()),
        Op::Expand(to) => reduce::expand(Axes::new(*to, shape(0)), x(0), y(0)),

        Op::Matmul { ta, tb } => with_epilogue(step, access, |epilogue| {
            product::gemm(by, gemm(step, *ta, *tb), x(0), access.weights(), y(0), epilogue, access.scratch());
        }),
        Op::Conv(g) => with_epilogue(step, access, |epilogue| {
            product::conv(by, g, x(0), access.weights(), y(0), epilogue, access.scratch());
        }),
        Op::ConvDx(g) => with_epilogue(step, access, |epilogue| {
            product::conv_dx(by, g, x(0), access.weights(), y(0), epilogue, access.scratch());
        }),
        Op::ConvDw(g) => product::conv_dw(by, g, x(0), x(1), (y(0), access.adds()), access.scratch()),

        Op::BatchNorm { eps } => {
            let (inputs, outputs) = ([x(0), x(1), x(2)], [y(0), y(1), y(2)]);
            norm::batch_norm(isa, (*eps as f32, activation(step)), inputs, outputs, access.scratch());
        }
        Op::BatchNormBwd => {
            let inputs = [x(0), x(1), x(2), x(3), x(4)];
            norm::batch_norm_bwd(isa, inputs, [y(0), y(1), y(2)], access.scratch());
        }
        Op::BatchNormInfer { eps } => {
            norm::batch_norm_infer(isa, *eps as f32, [x(0), x(1), x(2), x(3), x(4)], y(0), access.scratch());
        }
        Op::LayerNorm { eps } => norm::layer_norm(isa, *eps as f32, [x(0), x(1), x(2)], [y(0), y(1), y(2)]),
        Op::LayerNormBwd => {
            let inputs = [x(0), x(1), x(2), x(3), x(4)];
            norm::layer_norm_bwd(isa, inputs, [y(0), y(1), y(2)], access.scratch());
        }
        Op::GroupNorm { groups, eps } => {
            let (inputs, outputs) = ([x(0), x(1), x(2)], [y(0), y(1), y(2)]);
            let cut = Groups::of(shape(0), *groups);
            group_norm::group_norm(isa, cut, *eps as f32, inputs, outputs, access.scratch());
        }
        Op::GroupNormBwd => {
            let inputs = [x(0), x(1), x(2), x(3), x(4)];
            let cut = Groups::of(shape(1), shape(3).last());
            group_norm::group_norm_bwd(isa, cut, inputs, [y(0), y(1), y(2)], access.scratch());
        }

        Op::BceWithLogits => loss::bce_with_logits(isa, x(0), x(1), y(0)),
        Op::Mse => loss::mse(isa, x(0), x(1), y(0)),
        Op::SoftmaxCrossEntropy => loss::softmax_cross_entropy(isa, last(0), x(0), access.index(1), y(0)),
        Op::SoftmaxCrossEntropyBwd => {
            loss::softmax_cross_entropy_bwd(isa, last(1), x(0), x(1), access.index(2), y(0));
        }
        Op::GaussianKl => loss::gaussian_kl(isa, last(0), x(0), x(1), y(0)),

        Op::LstmCell => lstm::lstm_cell(isa, last(1), [x(0), x(1)], [y(0), y(1), y(2)]),
        Op::LstmCellBwd => {
            lstm::lstm_cell_bwd(isa, last(0), [x(0), x(1), x(2), x(3), x(4)], [y(0), y(1)]);
        }
        Op::Lstm => {
            let extents = sequence(shape(0), last(1));
            lstm::lstm(isa, extents, [x(0), x(1), x(2), x(3)], [y(0), y(1), y(2)], access.scratch());
        }
        Op::LstmBwd => {
            let extents = sequence(shape(0), last(1));
            let inputs = [x(0), x(1), x(2), x(3), x(4)];
            lstm::lstm_bwd(isa, extents, inputs, [y(0), y(1), y(2)], access.scratch());
        }

        Op::RowLstm | Op::DiagonalLstm { .. } => {
            scan::scan(isa, sweep(step), [x(0), x(1)], [y(0), y(1)], access.scratch());
        }
        Op::RowLstmBwd | Op::DiagonalLstmBwd { .. } => {
            scan::scan_bwd(isa, sweep(step), [x(0), x(1), x(2)], y(0), access.scratch());
        }

        Op::Random { dist, stream, counter, shape } => {
            let per_image = match counter {
                Counter::Replay => shape.len(),
                Counter::Image => shape.len() / shape.dims().first().copied().unwrap_or(1),
            };
            let keys = [access.index(0)[0], access.index(1)[0]];
            random::random(isa, (*dist, *stream, *counter), keys, per_image, y(0));
        }
        Op::GaussianSample { stream } => {
            let (keys, d) = ([access.index(2)[0], access.index(3)[0]], last(0));
            random::gaussian_sample(isa, *stream, keys, d, [x(0), x(1)], [y(0), y(1)]);
        }
        Op::GaussianSampleBwd => {
            random::gaussian_sample_bwd(isa, last(0), [x(0), x(1), x(2), x(3), x(4)], [y(0), y(1)]);
        }
        Op::Categorical => {
            random::categorical(isa, last(0), x(0), x(1), access.scalar(2), access.output_index(0));
        }
        Op::Bernoulli => random::bernoulli(isa, x(0), x(1), access.scalar(2), y(0)),

        Op::Adam { beta1, beta2, eps } => {
            let state = [access.replaced(0, 0), access.replaced(2, 1), access.replaced(3, 2)];
            optim::adam(isa, [*beta1, *beta2, *eps], [access.scalar(4), access.scalar(5)], x(1), state);
        }
        Op::RmsProp { alpha, eps } => {
            let state = [access.replaced(0, 0), access.replaced(2, 1)];
            optim::rmsprop(isa, [*alpha, *eps], access.scalar(3), x(1), state);
        }
        Op::Sgd { momentum } => {
            let state = [access.replaced(0, 0), access.replaced(2, 1)];
            optim::sgd(isa, *momentum, access.scalar(3), x(1), state);
        }
        Op::Ema { decay } => optim::ema(isa, *decay, x(1), access.replaced(0, 0)),
        Op::Store(_) => elementwise::copy(x(0), y(0)),
    }
}

/// Shape of the first output.
fn written(step: &Step) -> Shape {
    step.outputs[0].meta.shape
}

/// Extents of a sequence `[t, n, ..]` with `h` units.
fn sequence(shape: Shape, h: usize) -> Sequence {
    Sequence { steps: shape.dims()[0], rows: shape.dims()[1], h }
}

/// The extents of a scan over images, from its first input `[n, h, w, ..]` and its weights.
fn sweep(step: &Step) -> Sweep {
    let (&[n, h, w, _], &[_, k, d, _]) = (step.inputs[0].meta.shape.dims(), step.inputs[1].meta.shape.dims()) else {
        unreachable!("inferred")
    };
    let line = match step.op {
        Op::DiagonalLstm { reverse } | Op::DiagonalLstmBwd { reverse } => Line::Diagonal { reverse },
        _ => Line::Row { taps: k },
    };
    Sweep { n, h, w, d, line }
}

/// Extents of a matrix product.
fn gemm(step: &Step, ta: bool, tb: bool) -> Gemm {
    let (a, c) = (step.inputs[0].meta.shape, step.outputs[0].meta.shape);
    Gemm { m: c.rows(), n: c.last(), k: if ta { a.rows() } else { a.last() }, ta, tb }
}

/// Calls `launch` with the epilogue of a product. It has at most one operation of each kind (`Plan::check`).
fn with_epilogue(step: &Step, access: &Access, launch: impl FnOnce(&[EpilogueOp])) {
    const KINDS: usize = 4;
    let mut ops = [EpilogueOp::Add(&[]); KINDS];
    for (op, fused) in ops.iter_mut().zip(&step.epilogue) {
        *op = fused.map(|operand| access.read(operand));
    }
    launch(&ops[..step.epilogue.len()]);
}

/// The activation in the epilogue of a batch norm, if there is one.
fn activation(step: &Step) -> Option<Unary> {
    match step.epilogue.as_slice() {
        [] => None,
        [Fused::Act(f)] => Some(*f),
        other => unreachable!("fusion folds at most one activation into a batch norm, not {other:?}"),
    }
}
