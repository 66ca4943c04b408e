//! The case table: for every op of the table of ops (`src/tape/table.rs`) the file of its family has a
//! function of its name, or the crate does not compile.

mod conv;
mod elementwise;
mod loss;
mod matmul;
mod norm;
mod recurrence;
mod sampling;
mod shape;
mod state;

pub use conv::masked as masked_geometries;

use super::case::Case;
use crate::tape::table::op_table;

macro_rules! case_table {
    ($($op:pat => $name:ident($inputs:literal) $family:ident $windows:ident $flops:tt;)*) => {
        /// All cases, in the order of the op table.
        pub fn cases() -> Vec<Case> {
            let mut all = vec![];
            $(all.extend($family::$name());)*
            all
        }

        /// Every op after its family.
        #[doc(hidden)]
        pub const FAMILIES: &[(&str, &str)] = &[$((stringify!($family), stringify!($name))),*];
    };
}
op_table!(case_table);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::case::Order;
    use crate::tape::op::Op;
    use crate::tape::window_op::{WindowOp, without_windows};

    #[test]
    fn the_table_of_ops_says_which_have_windows() {
        for node in cases().iter().flat_map(|case| case.problem(Order::Zero, 7, 0).tape.nodes()) {
            // Of the products of matrices only rows times a matrix have.
            let listed = without_windows(&node.op).is_none() && !matches!(node.op, Op::Matmul { ta: true, .. });
            assert_eq!(WindowOp::of(&node.op).is_ok(), listed, "{:?}", node.op);
        }
    }
}
