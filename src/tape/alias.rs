//! Nodes that compute nothing: other names of values.

use super::op::Op;
use super::{Node, Var};

/// Whether a node is an alias of its first input: the same elements, or the first of them.
pub(super) fn is_alias(node: &Node) -> bool {
    match &node.op {
        Op::Reshape(_) | Op::Detach => true,
        // What is left is a prefix if nothing is dropped in front, and only the last of the axes that are
        // cut has more than one entry left.
        Op::Slice { before, after } => {
            let cut = after.iter().rposition(|n| *n > 0).unwrap_or(0);
            before.iter().all(|n| *n == 0) && node.outs[0].shape.padded()[..cut].iter().all(|n| *n == 1)
        }
        _ => false,
    }
}

/// Whether a node makes no step: its value is there before the plan runs, or is another's.
pub(super) fn is_leaf(node: &Node) -> bool {
    is_alias(node) || matches!(node.op, Op::Input(_) | Op::Param(_) | Op::Scalar(_))
}

/// For every node, the value that it really is once reshapes and detaches are looked through.
pub(super) struct Aliases(Vec<Option<Var>>);

impl Aliases {
    /// Looks through every node of a tape.
    pub(super) fn new(nodes: &[Node]) -> Self {
        let mut base: Vec<Option<Var>> = Vec::with_capacity(nodes.len());
        for node in nodes {
            let of = is_alias(node).then(|| node.inputs[0]);
            base.push(of.map(|v| base[v.node as usize].unwrap_or(v)));
        }
        Aliases(base)
    }

    /// The value behind `v`.
    pub(super) fn resolve(&self, v: Var) -> Var {
        self.0[v.node as usize].unwrap_or(v)
    }
}
