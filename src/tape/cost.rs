//! What a step costs at least: floating point operations and bytes moved. The floor that timings are held against.

use super::op::Op;
use super::plan::{Fused, Plan, Step};
use std::iter::Sum;

/// Floor of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Additions and multiplications that have to be done (closed taps not counted; a transcendental counts as 1).
    pub flops: u64,
    /// Every operand once.
    pub bytes: u64,
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Cost {
        costs.fold(Cost::default(), |a, b| Cost { flops: a.flops + b.flops, bytes: a.bytes + b.bytes })
    }
}

/// Counts all steps of a plan.
pub fn total(plan: &Plan) -> Cost {
    plan.steps.iter().map(cost).sum()
}

/// Counts a step.
pub fn cost(step: &Step) -> Cost {
    let len = |i: usize| step.inputs[i].meta.shape.len() as u64;
    let out: u64 = step.outputs.first().map_or(0, |o| o.meta.shape.len() as u64);
    let flops = match &step.op {
        Op::Conv(g) | Op::ConvDx(g) | Op::ConvDw(g) => g.flops(),
        Op::Matmul { ta, .. } => {
            let a = step.inputs[0].meta.shape;
            2 * out * a.dims()[usize::from(!*ta)] as u64
        }
        // Each gate: the recurrent product, then about 20 elementwise operations a unit.
        Op::Lstm => 2 * len(0) * step.inputs[3].meta.shape.dims()[0] as u64 + 20 * out,
        // dz w_hh^T, then about 40 elementwise operations a unit.
        Op::LstmBwd => 8 * len(0) * step.inputs[3].meta.shape.dims()[0] as u64 + 40 * len(0),
        // Each gate of a pixel: the products with k or two states (w_ss has as many rows), then as above.
        Op::RowLstm | Op::DiagonalLstm { .. } => 2 * len(0) * step.inputs[1].meta.shape.rows() as u64 + 20 * out,
        Op::RowLstmBwd | Op::DiagonalLstmBwd { .. } => 2 * out * step.inputs[1].meta.shape.rows() as u64 + 40 * len(0),
        Op::Sum(_) | Op::Scatter { .. } => len(0),
        Op::BatchNorm { .. } | Op::LayerNorm { .. } => 7 * out,
        Op::BatchNormBwd | Op::LayerNormBwd | Op::GaussianSampleBwd => 10 * out,
        Op::SoftmaxCrossEntropy => 4 * len(0),
        Op::SoftmaxCrossEntropyBwd | Op::Categorical => 5 * len(0),
        Op::GaussianKl => 5 * len(0),
        Op::GaussianSample { .. } => 15 * out,
        Op::Adam { .. } => 12 * out,
        Op::LstmCell | Op::LstmCellBwd => 10 * len(0),
        Op::RmsProp { .. } | Op::Sgd { .. } | Op::Ema { .. } | Op::Random { .. } => 6 * out,
        Op::Gated | Op::GatedBwd | Op::Reparameterize | Op::BceWithLogits => 4 * out,
        Op::Unary(_)
        | Op::UnaryBwd(_)
        | Op::Binary(_)
        | Op::Affine { .. }
        | Op::Clamp { .. }
        | Op::Quantize { .. }
        | Op::Dequantize { .. }
        | Op::Mse
        | Op::BatchNormInfer { .. }
        | Op::Bernoulli => 2 * out,
        Op::Pad { .. } | Op::Slice { .. } | Op::Gather | Op::Expand(_) | Op::Fill { .. } | Op::Store(_) => 0,
        Op::Input(_) | Op::Param(_) | Op::Scalar(_) | Op::Reshape(_) | Op::Detach => 0,
    };
    let epilogue = out * step.epilogue.len() as u64;
    let fused = step.epilogue.iter().filter_map(Fused::operand);
    let operands = step.inputs.iter().chain(&step.outputs).chain(fused);
    Cost { flops: flops + epilogue, bytes: 4 * operands.map(|o| o.meta.shape.len() as u64).sum::<u64>() }
}
