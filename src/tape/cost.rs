//! What a step costs at least: floating point operations and bytes moved. The floor that timings are held against.

use super::op::Op;
use super::plan::{Fused, Plan, Step};
use super::table::op_table;
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
pub(crate) fn total(plan: &Plan) -> Cost {
    plan.steps.iter().map(cost).sum()
}

/// Counts a step.
pub fn cost(step: &Step) -> Cost {
    let out = step.outputs.first().map_or(0, |o| o.meta.shape.len() as u64);
    let epilogue = out * step.epilogue.len() as u64;
    let fused = step.epilogue.iter().filter_map(Fused::operand);
    let operands = step.inputs.iter().chain(&step.outputs).chain(fused);
    Cost { flops: flops(step) + epilogue, bytes: 4 * operands.map(|o| o.meta.shape.len() as u64).sum::<u64>() }
}

/// Operations by the last column of the table.
macro_rules! by_column {
    ($step:ident, [$each:literal * y]) => {
        $each * $step.outputs.first().map_or(0, |o| o.meta.shape.len() as u64)
    };
    ($step:ident, [$each:literal * x]) => {
        $each * $step.inputs[0].meta.shape.len() as u64
    };
    ($step:ident, [own]) => {
        own_rule($step)
    };
}

macro_rules! count {
    ($($op:pat => $name:ident($inputs:literal) $family:ident $windows:ident $flops:tt;)*) => {
        /// Operations of a step, without its epilogue.
        fn flops(step: &Step) -> u64 {
            match &step.op {
                $($op => by_column!(step, $flops),)*
            }
        }
    };
}
op_table!(count);

/// Operations of those ops whose column says `own`.
fn own_rule(step: &Step) -> u64 {
    let len = |i: usize| step.inputs[i].meta.shape.len() as u64;
    let out = step.outputs[0].meta.shape.len() as u64;
    match &step.op {
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
        other => unreachable!("{other:?} has no rule of its own"),
    }
}
