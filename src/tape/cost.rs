//! Counts the least work of a step: floating point operations and bytes moved. Timings are compared with
//! this floor.
//!
//! The last column of the op table (`table.rs`) has the operations per element. `own_rule` counts the ops
//! that are marked `own` there.

use super::op::Op;
use super::plan::{Plan, Step};
use super::table::op_table;
use std::iter::Sum;

/// The least work of a step or of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Additions and multiplications that have to be done. Closed taps are not counted. A transcendental
    /// function counts as one.
    pub flops: u64,
    /// Bytes of all operands of a step, each read or written once.
    pub bytes: u64,
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Cost {
        costs.fold(Cost::default(), |a, b| Cost { flops: a.flops + b.flops, bytes: a.bytes + b.bytes })
    }
}

/// The sum of the costs of all steps of a plan.
pub(crate) fn total(plan: &Plan) -> Cost {
    plan.steps.iter().map(cost).sum()
}

/// The cost of one step, including its epilogue.
pub fn cost(step: &Step) -> Cost {
    let out = step.outputs.first().map_or(0, |o| o.meta.shape.len() as u64);
    let epilogue = out * step.epilogue.len() as u64;
    let elements = step.operands().map(|o| o.meta.shape.len() as u64);
    Cost { flops: flops(step) + epilogue, bytes: 4 * elements.sum::<u64>() }
}

/// Expands an entry of the table's last column to the number of operations of a step.
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
        /// Floating point operations of a step, without its epilogue.
        fn flops(step: &Step) -> u64 {
            match &step.op {
                $($op => by_column!(step, $flops),)*
            }
        }
    };
}
op_table!(count);

/// Operations of the ops that the table marks `own`.
fn own_rule(step: &Step) -> u64 {
    let len = |i: usize| step.inputs[i].meta.shape.len() as u64;
    let out = step.outputs[0].meta.shape.len() as u64;
    match &step.op {
        Op::Conv(g) | Op::ConvDx(g) | Op::ConvDw(g) => g.flops(),
        Op::Matmul { ta, .. } => {
            let a = step.inputs[0].meta.shape;
            2 * out * a.dims()[usize::from(!*ta)] as u64
        }
        // The recurrent product of all four gates, then about 20 elementwise operations per unit and time
        // step.
        Op::Lstm => 2 * len(0) * step.inputs[3].meta.shape.dims()[0] as u64 + 20 * out,
        // The product dz w_hh^T, then about 40 elementwise operations per unit and time step.
        Op::LstmBwd => 8 * len(0) * step.inputs[3].meta.shape.dims()[0] as u64 + 40 * len(0),
        // The products of each pixel's gates with k states (Row LSTM) or two states (Diagonal LSTM), whose
        // units are the rows of w_ss. Then the elementwise operations as above.
        Op::RowLstm | Op::DiagonalLstm { .. } => 2 * len(0) * step.inputs[1].meta.shape.rows() as u64 + 20 * out,
        Op::RowLstmBwd | Op::DiagonalLstmBwd { .. } => 2 * out * step.inputs[1].meta.shape.rows() as u64 + 40 * len(0),
        other => unreachable!("{other:?} has no rule of its own"),
    }
}
