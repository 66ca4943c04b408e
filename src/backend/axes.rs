//! The axes that a sum folds and an expansion repeats. Neighbouring axes of the same kind are merged, so
//! every device sees five axes.

use crate::shape::Shape;

/// Extents of a large and a small tensor: a sum goes from the large one to the small one, an expansion from
/// the small one to the large one. The large one is `[kept0, folded0, kept1, folded1, kept2]`, the small one
/// `[kept0, kept1, kept2]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axes {
    pub(super) kept0: usize,
    pub(super) folded0: usize,
    pub(super) kept1: usize,
    pub(super) folded1: usize,
    pub(super) kept2: usize,
}

impl Axes {
    /// Merges the axes of two shapes of equal rank.
    pub(super) fn new(large: Shape, small: Shape) -> Self {
        let mut groups = [1; 5];
        let mut at = 0;
        for (&d, &s) in large.dims().iter().zip(small.dims()) {
            if d != 1 {
                let kept = d == s;
                at += usize::from(kept != (at % 2 == 0));
                groups[at] *= d;
            }
        }
        let [mut kept0, mut folded0, mut kept1, mut folded1, mut kept2] = groups;
        if folded1 == 1 {
            (kept1, kept2) = (1, kept1 * kept2);
        }
        if kept1 == 1 {
            (folded0, folded1) = (1, folded0 * folded1);
        }
        if folded0 == 1 {
            (kept0, kept1) = (1, kept0 * kept1);
        }
        Axes { kept0, folded0, kept1, folded1, kept2 }
    }
}
