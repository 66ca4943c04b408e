//! Aliases: nodes that compute nothing, because their value is another node's value or a prefix of it.
//!
//! Fusion (`fuse.rs`) and lowering (`lower.rs`) look through aliases, so they make no steps.

use super::op::Op;
use super::{Node, Var};

/// Whether a node is an alias of its first input: its value has the same elements in the same order, or a
/// prefix of them.
pub(super) fn is_alias(node: &Node) -> bool {
    match &node.op {
        Op::Reshape(_) | Op::Detach => true,
        // A slice is a prefix if it drops nothing in front and leaves one entry of every axis before the
        // last axis that it cuts.
        Op::Slice { before, after } => {
            let cut = after.iter().rposition(|n| *n > 0).unwrap_or(0);
            before.iter().all(|n| *n == 0) && node.outs[0].shape.padded()[..cut].iter().all(|n| *n == 1)
        }
        _ => false,
    }
}

/// Whether a node makes no step: its value exists before the plan runs, or it is an alias.
pub(super) fn is_leaf(node: &Node) -> bool {
    is_alias(node) || matches!(node.op, Op::Input(_) | Op::Param(_) | Op::Scalar(_))
}

/// For every node, the value behind its chain of aliases.
pub(super) struct Aliases(Vec<Option<Var>>);

impl Aliases {
    /// Resolves the aliases of all nodes of a tape.
    pub(super) fn new(nodes: &[Node]) -> Self {
        let mut base: Vec<Option<Var>> = Vec::with_capacity(nodes.len());
        for node in nodes {
            let of = is_alias(node).then(|| node.inputs[0]);
            base.push(of.map(|v| base[v.node as usize].unwrap_or(v)));
        }
        Aliases(base)
    }

    /// The value that `v` is an alias of; `v` itself if it is no alias.
    pub(super) fn resolve(&self, v: Var) -> Var {
        self.0[v.node as usize].unwrap_or(v)
    }
}
