//! What the planner folded into the end of a product or convolution, as the CPU kernels see it.

use super::unary;
use crate::math;
use crate::tape::op::Unary;
use crate::tape::plan::Fused;
use std::ops::Range;

/// One operation on a finished output element `v`. `Add` and `ActBwd` read a slice as long as the output at
/// the same index, `Bias` reads one element per channel.
pub type EpilogueOp<'a> = Fused<&'a [f32]>;

/// Applies `ops` in order to the `channels` of the pixels whose first channel is at `out + offset` for each
/// of `offsets`; `total` is the number of channels of a pixel. Inlined, so that it is compiled for the
/// caller's instruction set.
///
/// # Safety
/// These elements of `out` are initialised and nobody else touches them.
///
/// # Panics
/// If a slice of an op is too short.
#[inline(always)]
pub(super) unsafe fn apply(ops: &[EpilogueOp], out: *mut f32, offsets: &[usize], channels: Range<usize>, total: usize) {
    let (Some(&first), Some(&last)) = (offsets.first(), offsets.last()) else { return };
    // Whole neighbouring pixels are one long row, except to a bias.
    let dense = channels.len() == total && last - first == (offsets.len() - 1) * total;
    let mut ops = ops.iter().peekable();
    while let Some(op) = ops.next() {
        // A bias and the relu behind it, the most frequent pair, are one pass. The same for every function
        // was slower than two passes, see docs/performance.md.
        let relu = matches!((op, ops.peek()), (EpilogueOp::Bias([_, _, ..]), Some(EpilogueOp::Act(Unary::Relu))));
        if relu {
            ops.next();
        }
        let by_row = !dense || (matches!(op, EpilogueOp::Bias(_)) && total > 1);
        let (rows, len) = if by_row { (offsets, channels.len()) } else { (&offsets[..1], offsets.len() * total) };
        for &row in rows {
            let at = row + channels.start;
            // SAFETY: the caller vouches for these elements.
            let v = unsafe { std::slice::from_raw_parts_mut(out.add(at), len) };
            match *op {
                EpilogueOp::Bias(&[bias]) => v.iter_mut().for_each(|v| *v += bias),
                EpilogueOp::Bias(bias) if relu => {
                    v.iter_mut().zip(&bias[channels.clone()]).for_each(|(v, b)| *v = math::relu(*v + b));
                }
                EpilogueOp::Bias(bias) => v.iter_mut().zip(&bias[channels.clone()]).for_each(|(v, b)| *v += b),
                EpilogueOp::Add(other) => v.iter_mut().zip(&other[at..at + len]).for_each(|(v, o)| *v += o),
                EpilogueOp::Act(f) => {
                    unary::specialize_unary!(f, f => v.iter_mut().for_each(|v| *v = unary::unary(f, *v)));
                }
                EpilogueOp::ActBwd(f, saved) => {
                    let saved = &saved[at..at + len];
                    unary::specialize_unary!(f, f => {
                        v.iter_mut().zip(saved).for_each(|(v, &s)| *v = unary::unary_bwd(f, *v, s));
                    });
                }
            }
        }
    }
}
