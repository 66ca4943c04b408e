//! Fusion: decides which elementwise nodes become the epilogue of the step that computes their input.
//!
//! A chain starts at a product (matmul, conv, conv_dx) or a batch norm, its *root*, and follows the only
//! consumer of each value. A product takes bias, residual, activation and activation gradient; a norm takes
//! one activation. An activation is folded only if its gradient needs only its output.
//!
//! A fused product runs at the position of the last node of its chain, where all its operands exist. A fused
//! norm runs at its own position: its epilogue has no operands, and its other outputs may be read before the
//! activation. `lower.rs` makes the steps.

use super::alias::{Aliases, is_alias, is_leaf};
use super::op::{Binary, Op};
use super::plan::Fused;
use super::{Node, OutputSpec, Var};
use std::collections::{HashMap, HashSet};

/// The result of fusion.
pub(super) struct Folded {
    /// Position at which a step runs -> the root that it computes before its epilogue, and the last node of
    /// the chain, whose value it writes. Other positions have no entry.
    pub(super) steps: HashMap<usize, (usize, usize)>,
    /// Root -> its epilogue. A root without an epilogue has no entry.
    pub(super) epilogues: HashMap<usize, Vec<Fused<Var>>>,
    /// Node of a chain, root included -> position at which its step runs.
    runs_at: HashMap<usize, usize>,
}

impl Folded {
    /// The position at which the node's step runs.
    pub(super) fn position(&self, node: usize) -> usize {
        self.runs_at.get(&node).copied().unwrap_or(node)
    }
}

/// Folds every chain of live nodes.
pub(super) fn fold(nodes: &[Node], live: &[bool], alias: &Aliases, outputs: &[OutputSpec]) -> Folded {
    let uses = Uses::new(nodes, live, alias, outputs);
    let mut folded = Folded { steps: HashMap::new(), epilogues: HashMap::new(), runs_at: HashMap::new() };
    let mut swallowed = vec![false; nodes.len()];
    let mut bias_reads: HashMap<usize, usize> = HashMap::new();
    for root in (0..nodes.len()).filter(|i| live[*i]) {
        if swallowed[root] || is_leaf(&nodes[root]) || matches!(nodes[root].op, Op::Store(_)) {
            continue;
        }
        let mut chain = vec![];
        let mut members = vec![root];
        let mut end = root;
        while let Some(next) = uses.only_user(end).filter(|next| !swallowed[*next])
            && let Some(op) = fits(nodes, alias, root, end, next, &chain)
        {
            if let Fused::Bias(_) = op {
                for v in nodes[next].inputs.iter().map(|v| alias.resolve(*v)).filter(|v| v.node as usize != end) {
                    *bias_reads.entry(v.node as usize).or_default() += 1;
                }
            }
            swallowed[next] = true;
            members.push(next);
            chain.push(op);
            end = next;
        }
        let runs_at = if matches!(nodes[root].op, Op::BatchNorm { .. }) { root } else { end };
        folded.steps.insert(runs_at, (root, end));
        if end != root {
            folded.runs_at.extend(members.into_iter().map(|m| (m, runs_at)));
            folded.epilogues.insert(root, chain);
        }
    }
    // A folded bias is read as a vector. Its expansion remains a step only if another node reads it.
    for (expand, reads) in bias_reads {
        if uses.of(expand).len() == reads {
            folded.steps.remove(&expand);
        }
    }
    folded
}

/// The epilogue operation that `next`, the only user of `end`, can become; `None` if it cannot be folded.
fn fits(
    nodes: &[Node],
    alias: &Aliases,
    root: usize,
    end: usize,
    next: usize,
    chain: &[Fused<Var>],
) -> Option<Fused<Var>> {
    let is_product = matches!(nodes[root].op, Op::Matmul { .. } | Op::Conv(_) | Op::ConvDx(_));
    let is_norm = matches!(nodes[root].op, Op::BatchNorm { .. });
    let (node, out) = (&nodes[next], nodes[root].outs[0]);
    let reads_end = |i: usize| {
        let v = alias.resolve(node.inputs[i]);
        v.node as usize == end && v.out == 0
    };
    let has = |f: fn(&Fused<Var>) -> bool| chain.iter().any(f);
    if node.outs.first()?.shape.len() != out.shape.len() {
        return None;
    }
    match &node.op {
        Op::Unary(f) if (is_product || is_norm) && f.saves_output() && reads_end(0) => {
            (!has(|e| matches!(e, Fused::Act(_)))).then_some(Fused::Act(*f))
        }
        Op::UnaryBwd(f) if is_product && reads_end(0) && !reads_end(1) => {
            (!has(|e| matches!(e, Fused::ActBwd(..)))).then_some(Fused::ActBwd(*f, node.inputs[1]))
        }
        Op::Binary(Binary::Add) if is_product => {
            let other = match (reads_end(0), reads_end(1)) {
                (true, false) => node.inputs[1],
                (false, true) => node.inputs[0],
                _ => return None,
            };
            match bias_of(nodes, alias, other, out.shape.last()) {
                Some(bias) if !has(|e| matches!(e, Fused::Bias(_))) => Some(Fused::Bias(bias)),
                Some(_) => None,
                None => (!has(|e| matches!(e, Fused::Add(_)))).then_some(Fused::Add(other)),
            }
        }
        _ => None,
    }
}

/// If `v` is the expansion of a vector `[c]` along the last axis, that vector.
fn bias_of(nodes: &[Node], alias: &Aliases, v: Var, c: usize) -> Option<Var> {
    let node = &nodes[alias.resolve(v).node as usize];
    let vector = *node.inputs.first()?;
    let source = nodes[vector.node as usize].outs[vector.out as usize].shape;
    let along_last = matches!(node.op, Op::Expand(to) if to.last() == c) && source.len() == c && source.last() == c;
    along_last.then_some(vector)
}

/// The readers of each value. Aliases are looked through.
struct Uses {
    /// Node -> the nodes that read its output 0, listed once per operand.
    users: HashMap<usize, Vec<usize>>,
    /// Nodes whose values are outputs of the plan.
    outputs: HashSet<usize>,
}

impl Uses {
    fn new(nodes: &[Node], live: &[bool], alias: &Aliases, outputs: &[OutputSpec]) -> Self {
        let mut users: HashMap<usize, Vec<usize>> = HashMap::new();
        for (index, node) in nodes.iter().enumerate() {
            if !live[index] || is_alias(node) {
                continue;
            }
            for v in node.inputs.iter().map(|v| alias.resolve(*v)) {
                // Folding changes only output 0, so readers of the other outputs do not prevent it.
                if v.out == 0 {
                    users.entry(v.node as usize).or_default().push(index);
                }
            }
        }
        let outputs = outputs.iter().map(|o| alias.resolve(o.var).node as usize).collect();
        Uses { users, outputs }
    }

    /// The nodes that read output 0 of `node`, listed once per operand.
    fn of(&self, node: usize) -> &[usize] {
        self.users.get(&node).map_or(&[], Vec::as_slice)
    }

    /// The only reader of output 0. `None` if output 0 is read several times or never, or if the node's
    /// value is an output of the plan.
    fn only_user(&self, node: usize) -> Option<usize> {
        match self.of(node) {
            [user] if !self.outputs.contains(&node) => Some(*user),
            _ => None,
        }
    }
}
