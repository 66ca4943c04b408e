//! Fusion has this one home: which elementwise nodes become the epilogue of the product that feeds them.
//!
//! A chain starts at a product (matmul, conv, conv_dx) or a batch norm and follows the only consumer of each
//! value through bias, residual, activation and activation gradient. The fused step runs where the last node
//! of the chain stood, so all its operands are there; a norm, whose chain has no operands, runs where it
//! stood itself, since its other outputs may be read before the activation. An activation is folded only if
//! its gradient needs its output alone.

use super::alias::{Aliases, is_alias, is_leaf};
use super::op::{Binary, Op};
use super::plan::Fused;
use super::{Node, OutputSpec, Var};
use std::collections::{HashMap, HashSet};

/// The result of fusion.
pub(super) struct Folded {
    /// Where each step runs -> the node that it computes before its epilogue, and the node whose value it
    /// ends with. Nodes folded away and leaves are absent.
    pub(super) steps: HashMap<usize, (usize, usize)>,
    /// Epilogue of each root.
    pub(super) epilogues: HashMap<usize, Vec<Fused<Var>>>,
    /// Node folded away or root -> where its step runs.
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
    // A bias is read as a vector: its expansion is a step only where somebody else reads it.
    for (expand, reads) in bias_reads {
        if uses.of(expand).len() == reads {
            folded.steps.remove(&expand);
        }
    }
    folded
}

/// The epilogue operation that `next`, the only user of `end`, would be; `None` where it does not fit.
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

/// The vector `[c]` whose expansion along the last axis `v` is.
fn bias_of(nodes: &[Node], alias: &Aliases, v: Var, c: usize) -> Option<Var> {
    let node = &nodes[alias.resolve(v).node as usize];
    let vector = *node.inputs.first()?;
    let source = nodes[vector.node as usize].outs[vector.out as usize].shape;
    let along_last = matches!(node.op, Op::Expand(to) if to.last() == c) && source.len() == c && source.last() == c;
    along_last.then_some(vector)
}

/// Who reads each value, aliases looked through.
struct Uses {
    /// Node -> the nodes that read its output 0, once for each operand.
    users: HashMap<usize, Vec<usize>>,
    /// Nodes that an output of the plan reads.
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
                // A by-product (out > 0) is read on its own; it does not stand in the way of folding output
                // 0.
                if v.out == 0 {
                    users.entry(v.node as usize).or_default().push(index);
                }
            }
        }
        let outputs = outputs.iter().map(|o| alias.resolve(o.var).node as usize).collect();
        Uses { users, outputs }
    }

    /// The nodes that read output 0 of `node`, once for each operand.
    fn of(&self, node: usize) -> &[usize] {
        self.users.get(&node).map_or(&[], Vec::as_slice)
    }

    /// The only reader of output 0, if it is no output of the plan and read once.
    fn only_user(&self, node: usize) -> Option<usize> {
        match self.of(node) {
            [user] if !self.outputs.contains(&node) => Some(*user),
            _ => None,
        }
    }
}
