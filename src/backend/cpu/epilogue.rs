//! The epilogue of a product or convolution: the operations that the planner folded into its end.

use super::unary;
use crate::math;
use crate::tape::op::Unary;
use crate::tape::plan::Fused;
use std::ops::Range;

/// One operation on a finished output element `v`. `Add` and `ActBwd` read a slice as long as the output at
/// the same index, `Bias` reads one element per channel.
pub type EpilogueOp<'a> = Fused<&'a [f32]>;

/// Applies `ops` in order to the `channels` of some pixels. The first channel of a pixel is at
/// `out + offset`, with one of `offsets` per pixel; a pixel has `total` channels. The function is inlined,
/// so that it is compiled for the caller's instruction set.
///
/// # Safety
/// These elements of `out` are allocated and initialised, and nothing else accesses them during the call.
///
/// # Panics
/// Panics if a slice of an operation is too short.
#[inline(always)]
pub(super) unsafe fn apply(ops: &[EpilogueOp], out: *mut f32, offsets: &[usize], channels: Range<usize>, total: usize) {
    let (Some(&first), Some(&last)) = (offsets.first(), offsets.last()) else { return };
    // Whole neighbouring pixels form one long row, except for a bias, which is one float per channel.
    let dense = channels.len() == total && last - first == (offsets.len() - 1) * total;
    let mut ops = ops.iter().peekable();
    while let Some(op) = ops.next() {
        // A bias followed by a relu, the most frequent pair, takes one pass. For the other functions, one
        // pass was slower than two (docs/performance.md).
        let relu = matches!((op, ops.peek()), (EpilogueOp::Bias([_, _, ..]), Some(EpilogueOp::Act(Unary::Relu))));
        if relu {
            ops.next();
        }
        let by_row = !dense || (matches!(op, EpilogueOp::Bias(_)) && total > 1);
        let (rows, len) = if by_row { (offsets, channels.len()) } else { (&offsets[..1], offsets.len() * total) };
        for &row in rows {
            let at = row + channels.start;
            // SAFETY: by the contract of this function, these elements are allocated and initialised, and
            // nothing else accesses them.
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
