//! What the planner folded into the end of a product or convolution, as the CPU kernels see it.

use crate::tape::op::Unary;

/// One operation on a finished output element `v` at flat index `i` of channel `c`.
#[derive(Clone, Copy, Debug)]
pub enum EpilogueOp<'a> {
    /// `v + bias[c]`
    Bias(&'a [f32]),
    /// `v + other[i]`: a residual, or a gradient that joins another one.
    Add(&'a [f32]),
    /// `f(v)`
    Act(Unary),
    /// `v * f'(saved[i])`, where `saved` is what [`Unary::saves_output`] says.
    ActBwd(Unary, &'a [f32]),
}
