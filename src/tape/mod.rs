//! The tape: an append-only list of typed nodes. Recording only appends nodes; it computes no values.
//!
//! A [`Var`] is a copyable handle to one output of one node. [`Tape::grad`] appends ordinary nodes, so a
//! gradient can be differentiated again. [`Plan::new`](plan::Plan::new) lowers the live nodes to steps for a
//! backend.
//!
//! Read in this order: [`op`], [`record`], `infer.rs`, `grad.rs`; then [`plan`], `lower.rs`, `fuse.rs`,
//! `slots.rs`, `check`; `divide` for depth-first plans; for sampling [`window`] and `times.rs`.

mod alias;
mod check;
pub mod cost;
#[doc(hidden)]
pub mod divide;
pub(crate) mod functions;
mod fuse;
pub mod geometry;
mod grad;
mod infer;
mod input;
mod lower;
pub mod op;
pub mod plan;
mod print;
pub mod record;
mod slots;
pub(crate) mod table;
#[doc(hidden)]
pub mod text;
mod times;
pub mod window;
pub(crate) mod window_op;

pub use input::{InputRole, InputSpec};

use crate::shape::{DType, Meta, Shape};
use op::{InputId, Op, Param, ParamId};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::Location;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

/// A handle to a value on a tape: one output of one node. It is valid only on this tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Var {
    /// Index of the node on its tape.
    node: u32,
    /// Index among the outputs of the node.
    out: u16,
    /// Number of the tape, to detect values of another tape.
    tape: u16,
}

impl Var {
    /// Index of the node on its tape.
    #[doc(hidden)]
    pub fn node(self) -> usize {
        self.node as usize
    }

    /// Index among the outputs of the node.
    #[doc(hidden)]
    pub fn out(self) -> usize {
        usize::from(self.out)
    }
}

/// One recorded operation.
#[derive(Clone, Debug)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// The values that it reads.
    pub inputs: Vec<Var>,
    /// Shape and type of each output.
    pub outs: Vec<Meta>,
    /// The line that recorded it; for a gradient the line of the forward node.
    pub at: &'static Location<'static>,
    /// The layer it belongs to, e.g. `block3.conv2`.
    pub scope: Rc<str>,
    /// Whether it was appended by [`Tape::grad`].
    pub is_gradient: bool,
}

/// A value that can be read after a replay.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputSpec {
    /// Name under which it is read.
    pub name: String,
    /// The value.
    pub var: Var,
    /// Whether the value survives until the next replay. Its slot is then never shared and never poisoned.
    pub kept: bool,
}

/// An append-only list of nodes. All recording methods take `&self`, so calls can be nested:
/// `t.relu(t.conv(..))`.
///
/// Methods that take a [`Var`] panic if it belongs to another tape. The message names the caller's line.
pub struct Tape {
    /// Distinguishes tapes; the numbers repeat after 65536 tapes.
    id: u16,
    nodes: RefCell<Vec<Node>>,
    inputs: RefCell<Vec<InputSpec>>,
    outputs: RefCell<Vec<OutputSpec>>,
    params: RefCell<HashMap<ParamId, Var>>,
    param_names: RefCell<HashMap<ParamId, String>>,
    scope: RefCell<Vec<String>>,
    gradient_of: Cell<Option<&'static Location<'static>>>,
}

impl Default for Tape {
    fn default() -> Self {
        Tape::new()
    }
}

impl Tape {
    /// An empty tape.
    pub fn new() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        Tape {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            nodes: RefCell::default(),
            inputs: RefCell::default(),
            outputs: RefCell::default(),
            params: RefCell::default(),
            param_names: RefCell::default(),
            scope: RefCell::default(),
            gradient_of: Cell::default(),
        }
    }

    /// A handle to output `out` of node `node` of this tape.
    fn var(&self, node: usize, out: usize) -> Var {
        Var { node: node as u32, out: out as u16, tape: self.id }
    }

    /// Panics if `v` belongs to another tape.
    #[track_caller]
    fn own(&self, v: Var) {
        assert!(v.tape == self.id, "a value of another tape is used at {}", Location::caller());
    }

    /// Records `op` on `inputs` and returns its first output. Panics if the shapes do not fit; the message
    /// names the op, its shapes and the caller's line.
    #[track_caller]
    pub fn record(&self, op: Op, inputs: &[Var]) -> Var {
        let at = self.gradient_of.get().unwrap_or(Location::caller());
        for v in inputs {
            self.own(*v);
        }
        let metas: Vec<Meta> = inputs.iter().map(|v| self.meta(*v)).collect();
        let outs = infer::infer(&op, &metas, &self.inputs.borrow(), |id| self.param_meta(id)).unwrap_or_else(|why| {
            let shapes: Vec<String> = metas.iter().map(|m| m.shape.to_string()).collect();
            panic!("{}({}) recorded at {at}: {why}", text::name(&op), shapes.join(", "))
        });
        let scope = self.scope.borrow().join(".").into();
        let is_gradient = self.gradient_of.get().is_some();
        let mut nodes = self.nodes.borrow_mut();
        nodes.push(Node { op, inputs: inputs.to_vec(), outs, at, scope, is_gradient });
        self.var(nodes.len() - 1, 0)
    }

    /// The `out`-th output of the node that `v` belongs to. Panics if the node has no such output.
    #[track_caller]
    pub fn output_of(&self, v: Var, out: usize) -> Var {
        self.own(v);
        assert!(out < self.nodes.borrow()[v.node as usize].outs.len(), "node {} has no output {out}", v.node);
        self.var(v.node(), out)
    }

    /// Declares an input that is fed before each replay. Panics if the tape has an input of this name.
    #[track_caller]
    pub fn input(&self, name: &str, meta: Meta) -> Var {
        self.declare(InputSpec { name: name.to_string(), meta, role: None })
    }

    /// Declares an input that is fed from a batch of images. Panics if the tape has an input of the same
    /// name.
    #[track_caller]
    pub fn input_of(&self, role: InputRole, meta: Meta) -> Var {
        self.declare(InputSpec { name: role.name().to_string(), meta, role: Some(role) })
    }

    #[track_caller]
    fn declare(&self, input: InputSpec) -> Var {
        assert!(self.inputs.borrow().iter().all(|i| i.name != input.name), "input {:?} is declared twice", input.name);
        self.inputs.borrow_mut().push(input);
        self.record(Op::Input(InputId(self.inputs.borrow().len() as u32 - 1)), &[])
    }

    /// The parameter's value at the beginning of the plan. Repeated calls return the same node.
    #[track_caller]
    pub fn param(&self, param: &Param) -> Var {
        if let Some(v) = self.params.borrow().get(&param.id) {
            return *v;
        }
        self.param_names.borrow_mut().insert(param.id, param.path.to_string());
        let at = Location::caller();
        let node = Node {
            op: Op::Param(param.id),
            inputs: vec![],
            outs: vec![Meta { shape: param.shape, dtype: DType::F32 }],
            at,
            scope: param.path.as_ref().into(),
            is_gradient: false,
        };
        self.nodes.borrow_mut().push(node);
        let v = self.var(self.nodes.borrow().len() - 1, 0);
        self.params.borrow_mut().insert(param.id, v);
        v
    }

    /// Makes `v` readable after a replay under `name`. Panics if the tape has an output of this name.
    #[track_caller]
    pub fn output(&self, name: &str, v: Var) {
        self.add_output(name, v, false);
    }

    /// Like [`Tape::output`], but the value survives until the next replay: its buffer is never shared or
    /// poisoned.
    #[track_caller]
    pub fn keep(&self, name: &str, v: Var) {
        self.add_output(name, v, true);
    }

    #[track_caller]
    fn add_output(&self, name: &str, v: Var, kept: bool) {
        self.own(v);
        assert!(self.outputs.borrow().iter().all(|o| o.name != name), "output {name:?} is declared twice");
        self.outputs.borrow_mut().push(OutputSpec { name: name.to_string(), var: v, kept });
    }

    /// `value` becomes the parameter's value when the plan ends. Panics if the shapes differ.
    #[track_caller]
    pub fn store(&self, param: &Param, value: Var) {
        self.param(param);
        self.record(Op::Store(param.id), &[value]);
    }

    /// Runs `body` and records its nodes under the scope `name`.
    pub fn scope<T>(&self, name: &str, body: impl FnOnce() -> T) -> T {
        self.scope.borrow_mut().push(name.to_string());
        let result = body();
        self.scope.borrow_mut().pop();
        result
    }

    /// Shape and type of a value.
    #[track_caller]
    pub fn meta(&self, v: Var) -> Meta {
        self.own(v);
        self.nodes.borrow()[v.node as usize].outs[v.out as usize]
    }

    /// Shape of a value.
    #[track_caller]
    pub fn shape(&self, v: Var) -> Shape {
        self.meta(v).shape
    }

    /// The declared inputs, in order.
    pub(crate) fn input_specs(&self) -> Vec<InputSpec> {
        self.inputs.borrow().clone()
    }

    /// The declared outputs, in order.
    pub(crate) fn output_specs(&self) -> Vec<OutputSpec> {
        self.outputs.borrow().clone()
    }

    /// A copy of all nodes, in the order of recording.
    pub fn nodes(&self) -> Vec<Node> {
        self.nodes.borrow().clone()
    }

    /// Name of a parameter that this tape uses.
    pub(crate) fn param_name(&self, id: ParamId) -> String {
        self.param_names.borrow().get(&id).cloned().unwrap_or_else(|| format!("#{}", id.0))
    }

    fn node(&self, index: u32) -> Node {
        self.nodes.borrow()[index as usize].clone()
    }

    fn param_meta(&self, id: ParamId) -> Option<Meta> {
        self.params.borrow().get(&id).map(|v| self.meta(*v))
    }
}
