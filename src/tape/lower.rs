//! Lowers a tape to a plan of steps. Pure data: no device is needed, so tests can inspect a plan.
//!
//! [`Plan::new`] removes dead code, folds epilogues (`fuse.rs`), decides which stores happen in place, makes
//! the steps, and lets values share slots (`slots.rs`).

use super::alias::{Aliases, is_leaf};
use super::fuse::{self, Folded};
use super::op::{Op, ParamId, Scalar, ScalarId};
use super::plan::{Buffer, Fused, Operand, Plan, PlanParam, Precision, Slot, Step};
use super::{Node, OutputSpec, Tape, Var, slots, text};
use std::collections::{HashMap, HashSet};

impl Plan {
    /// Lowers what is live on the tape: everything that an output or a store needs.
    ///
    /// Panics if two different scalars have the same name. In debug builds it also panics if the plan fails
    /// [`Plan::check`].
    pub fn new(name: &str, tape: &Tape) -> Plan {
        let nodes = tape.nodes();
        let outputs = tape.output_specs();
        let live = live_nodes(&nodes, &outputs);
        let alias = Aliases::new(&nodes);
        let folded = fuse::fold(&nodes, &live, &alias, &outputs);
        let mut lowering =
            Lowering { tape, nodes: &nodes, alias, homes: HashMap::new(), slots: vec![], scalars: vec![] };
        lowering.place_stores(&live, &folded, &outputs);
        let mut steps = vec![];
        for (index, live) in live.iter().enumerate() {
            if *live && folded.steps.contains_key(&index) {
                steps.push(lowering.step(index, &folded, &outputs));
            }
        }
        let stores = nodes.iter().filter_map(|n| if let Op::Store(id) = n.op { Some(id) } else { None });
        let stored: HashSet<ParamId> = stores.collect();
        steps.extend(lowering.save_old_values(&stored, &outputs));
        steps.extend(lowering.late_stores(&live));
        // A parameter may be stored without being read.
        let params = nodes.iter().zip(&live).filter_map(|(n, live)| match n.op {
            Op::Param(id) if *live || stored.contains(&id) => {
                Some(PlanParam { id, meta: n.outs[0], name: tape.param_name(id) })
            }
            _ => None,
        });
        let params = params.collect();
        let operands = outputs.iter().map(|o| (o.name.clone(), lowering.operand(o.var))).collect();
        let mut plan = Plan {
            name: name.to_string(),
            steps,
            slots: lowering.slots,
            inputs: tape.input_specs(),
            scalars: lowering.scalars,
            outputs: operands,
            params,
            precision: Precision::F32,
        };
        slots::share(&mut plan);
        if cfg!(debug_assertions)
            && let Err(why) = plan.check()
        {
            panic!("plan {name} is broken: {why}\n{plan}");
        }
        plan
    }
}

fn live_nodes(nodes: &[Node], outputs: &[OutputSpec]) -> Vec<bool> {
    let mut live = vec![false; nodes.len()];
    for o in outputs {
        live[o.var.node as usize] = true;
    }
    for index in (0..nodes.len()).rev() {
        live[index] |= matches!(nodes[index].op, Op::Store(_));
        if live[index] {
            for v in &nodes[index].inputs {
                live[v.node as usize] = true;
            }
        }
    }
    live
}

/// Pairs (input, output) of an op that replaces parameters: the output is the new value of the input and may
/// be written in place.
pub(super) fn in_place(op: &Op) -> &'static [(usize, usize)] {
    match op {
        Op::Adam { .. } => &[(0, 0), (2, 1), (3, 2)],
        Op::RmsProp { .. } | Op::Sgd { .. } => &[(0, 0), (2, 1)],
        Op::Ema { .. } => &[(0, 0)],
        _ => &[],
    }
}

/// A step that copies `value` to `buffer`, with the line and scope of `node`.
fn copy(op: Op, node: &Node, value: Operand, buffer: Buffer) -> Step {
    Step {
        op,
        inputs: vec![value],
        outputs: vec![Operand { buffer, meta: value.meta, is_stored: matches!(buffer, Buffer::Param(_)) }],
        epilogue: vec![],
        at: node.at,
        scope: node.scope.as_ref().into(),
    }
}

struct Lowering<'a> {
    tape: &'a Tape,
    nodes: &'a [Node],
    alias: Aliases,
    /// Buffers of the leaves, of the values computed so far, and of values that are stored in place.
    homes: HashMap<Var, Buffer>,
    /// The scalars of live nodes, in the order of their ids.
    scalars: Vec<Scalar>,
    /// One slot per value; [`slots::share`] merges them.
    slots: Vec<Slot>,
}

impl Lowering<'_> {
    /// Gives the leaves their buffers. Gives a stored value its parameter's buffer if every reader of the
    /// old value runs before the new value is written; `late_stores` copies the other stored values at the
    /// end.
    fn place_stores(&mut self, live: &[bool], folded: &Folded, outputs: &[OutputSpec]) {
        for (index, node) in self.nodes.iter().enumerate() {
            if let (true, Op::Param(id)) = (live[index], &node.op) {
                self.homes.insert(self.tape.var(index, 0), Buffer::Param(*id));
            }
            match node.op {
                Op::Input(id) => self.homes.insert(self.tape.var(index, 0), Buffer::Input(id)),
                Op::Scalar(s) if live[index] => {
                    let id = self.scalar(s);
                    self.homes.insert(self.tape.var(index, 0), Buffer::Scalar(id))
                }
                _ => None,
            };
        }
        let readers = self.readers(live, folded, outputs);
        for node in self.nodes {
            let Op::Store(id) = node.op else { continue };
            let value = self.alias.resolve(node.inputs[0]);
            let producer = &self.nodes[value.node as usize];
            let whole = self.nodes[node.inputs[0].node as usize].outs[node.inputs[0].out as usize];
            let is_part = whole.shape.len() < producer.outs[value.out as usize].shape.len();
            if is_leaf(producer) || is_part || self.homes.contains_key(&value) {
                continue;
            }
            let runs_at = folded.position(value.node as usize);
            let replaces = in_place(&producer.op).iter().any(|(i, o)| {
                *o == value.out as usize
                    && self.homes.get(&self.alias.resolve(producer.inputs[*i])) == Some(&Buffer::Param(id))
            });
            let old = Buffer::Param(id);
            let before = |&at: &usize| at < runs_at || (at == runs_at && replaces);
            if readers.get(&old).is_none_or(|all| all.iter().all(before)) {
                self.homes.insert(value, old);
            }
        }
    }

    /// The positions at which each parameter's old value is read. Outputs count as read after all steps.
    fn readers(&self, live: &[bool], folded: &Folded, outputs: &[OutputSpec]) -> HashMap<Buffer, Vec<usize>> {
        let mut readers: HashMap<Buffer, Vec<usize>> = HashMap::new();
        for home in outputs.iter().filter_map(|o| self.homes.get(&self.alias.resolve(o.var))) {
            readers.entry(*home).or_default().push(self.nodes.len());
        }
        for (index, node) in self.nodes.iter().enumerate() {
            if !live[index] || is_leaf(node) {
                continue;
            }
            let at = self.read_at(index, folded);
            for v in self.reads(index, folded) {
                if let Some(Buffer::Param(id)) = self.homes.get(&v) {
                    readers.entry(Buffer::Param(*id)).or_default().push(at);
                }
            }
        }
        readers
    }

    /// The position at which the node reads its inputs. A store reads after all steps.
    fn read_at(&self, index: usize, folded: &Folded) -> usize {
        if matches!(self.nodes[index].op, Op::Store(_)) { self.nodes.len() } else { folded.position(index) }
    }

    /// The values that a node's step reads, including those of its epilogue.
    fn reads(&self, index: usize, folded: &Folded) -> Vec<Var> {
        let fused = folded.epilogues.get(&index).into_iter().flatten().filter_map(Fused::operand).copied();
        self.nodes[index].inputs.iter().copied().chain(fused).map(|v| self.alias.resolve(v)).collect()
    }

    fn operand(&self, v: Var) -> Operand {
        let base = self.alias.resolve(v);
        let node = &self.nodes[v.node as usize];
        let buffer =
            *self.homes.get(&base).unwrap_or_else(|| panic!("value of {} has no buffer", text::name(&node.op)));
        // A parameter's own node is its old value; any other value in its buffer is what the plan stores
        // there.
        let is_stored =
            matches!(buffer, Buffer::Param(_)) && !matches!(self.nodes[base.node as usize].op, Op::Param(_));
        Operand { buffer, meta: node.outs[v.out as usize], is_stored }
    }

    fn step(&mut self, index: usize, folded: &Folded, outputs: &[OutputSpec]) -> Step {
        let (root, end) = folded.steps[&index];
        let node = &self.nodes[root];
        let inputs = node.inputs.iter().map(|v| self.operand(*v)).collect();
        let epilogue = folded.epilogues.get(&root).into_iter().flatten().map(|f| f.map(|v| self.operand(*v))).collect();
        let mut written = vec![];
        for out in 0..node.outs.len() {
            // The first output of a fused step is the value of the last node folded into it.
            let v = if out == 0 { self.tape.var(end, 0) } else { self.tape.var(root, out) };
            let meta = self.nodes[v.node as usize].outs[v.out as usize];
            let buffer = match self.homes.get(&v) {
                Some(buffer) => *buffer,
                None => {
                    let kept = outputs.iter().any(|o| o.kept && self.alias.resolve(o.var) == v);
                    let slot = Buffer::Slot(self.new_slot(meta.shape.len(), kept));
                    self.homes.insert(v, slot);
                    slot
                }
            };
            let is_stored = matches!(buffer, Buffer::Param(_));
            written.push(Operand { buffer, meta: if out == 0 { node.outs[0] } else { meta }, is_stored });
        }
        let mark = if node.is_gradient { "'" } else { "" };
        Step {
            op: node.op.clone(),
            inputs,
            outputs: written,
            epilogue,
            at: node.at,
            scope: format!("{}{mark}", node.scope).into(),
        }
    }

    /// The id of a scalar. Declares the scalar if it is new.
    fn scalar(&mut self, scalar: Scalar) -> ScalarId {
        let known = self.scalars.iter().position(|other| other.name() == scalar.name());
        let at = known.unwrap_or_else(|| {
            self.scalars.push(scalar);
            self.scalars.len() - 1
        });
        assert!(self.scalars[at] == scalar, "two different scalars are called {:?}", scalar.name());
        ScalarId(at as u32)
    }

    fn new_slot(&mut self, len: usize, kept: bool) -> u32 {
        self.slots.push(Slot { len, kept });
        self.slots.len() as u32 - 1
    }

    /// Steps that copy the old values of parameters that an output or the store of another parameter still
    /// needs after the parameters have changed.
    fn save_old_values(&mut self, stored: &HashSet<ParamId>, outputs: &[OutputSpec]) -> Vec<Step> {
        let stores = self.nodes.iter().filter(|n| matches!(n.op, Op::Store(_))).map(|n| n.inputs[0]);
        let wanted: Vec<Var> = stores.chain(outputs.iter().map(|o| o.var)).map(|v| self.alias.resolve(v)).collect();
        let mut steps = vec![];
        for v in wanted {
            let node = &self.nodes[v.node as usize];
            let old = self.operand(v);
            if let Op::Param(id) = node.op
                && stored.contains(&id)
                && old.buffer == Buffer::Param(id)
            {
                let buffer = Buffer::Slot(self.new_slot(old.meta.shape.len(), false));
                self.homes.insert(v, buffer);
                steps.push(copy(Op::Store(id), node, old, buffer));
            }
        }
        steps
    }

    /// Steps that copy stored values to their parameters, for values that could not be computed in place.
    fn late_stores(&self, live: &[bool]) -> Vec<Step> {
        let stores = self.nodes.iter().zip(live).filter_map(|(node, live)| match node.op {
            Op::Store(id) if *live => Some((node, id)),
            _ => None,
        });
        stores
            .map(|(node, id)| (node, self.operand(node.inputs[0]), Buffer::Param(id)))
            .filter(|(_, value, home)| value.buffer != *home)
            .map(|(node, value, buffer)| copy(node.op.clone(), node, value, buffer))
            .collect()
    }
}
