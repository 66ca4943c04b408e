//! What a backend is given: steps over buffers. [`Plan::new`], which makes them of a tape, is in `lower.rs`.

use super::InputSpec;
use super::op::{InputId, Op, ParamId, Scalar, Unary};
use crate::shape::Meta;
use std::panic::Location;
use std::sync::Arc;

/// Where a value lives while the plan runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Buffer {
    /// A buffer of the plan, shared by values whose lifetimes do not overlap.
    Slot(u32),
    /// The parameter's own buffer.
    Param(ParamId),
    /// Fed before the replay.
    Input(InputId),
    /// A word of the scalar buffer.
    Scalar(Scalar),
}

/// A value as a step sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Operand {
    /// Its buffer; the value fills it from the start.
    pub buffer: Buffer,
    /// Its shape and type.
    pub meta: Meta,
}

/// An operation that the planner folded into the end of a step, applied in order to each element of its first output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fused {
    /// `v + bias[c]`, c the column of the product (the channel).
    Bias(Operand),
    /// `v + other`, elementwise.
    Add(Operand),
    /// `f(v)`
    Act(Unary),
    /// `v * f'(saved)`, see [`Unary::saves_output`].
    ActBwd(Unary, Operand),
}

impl Fused {
    /// The value that it reads.
    pub fn operand(&self) -> Option<&Operand> {
        match self {
            Fused::Bias(o) | Fused::Add(o) | Fused::ActBwd(_, o) => Some(o),
            Fused::Act(_) => None,
        }
    }

    /// The value that it reads, to be changed.
    pub(super) fn operand_mut(&mut self) -> Option<&mut Operand> {
        match self {
            Fused::Bias(o) | Fused::Add(o) | Fused::ActBwd(_, o) => Some(o),
            Fused::Act(_) => None,
        }
    }
}

/// One launch of a backend: an op, its operands and an epilogue.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is computed; never an alias and never a leaf other than `Fill` and `Random`.
    pub op: Op,
    /// Operands read.
    pub inputs: Vec<Operand>,
    /// Operands written. Optimisers write parameters in place; every other output differs from every input.
    pub outputs: Vec<Operand>,
    /// What was folded into the first output.
    pub epilogue: Vec<Fused>,
    /// The line that recorded the op.
    pub at: &'static Location<'static>,
    /// Layer, and `'` where it is part of a gradient.
    pub scope: Arc<str>,
}

/// A buffer of the plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slot {
    /// Elements of four bytes.
    pub len: usize,
    /// Never shared and never poisoned: the next replay finds it as this one left it.
    pub kept: bool,
}

/// What a backend compiles: steps in order, over slots, parameters, inputs and scalars.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name for texts and timings.
    pub name: String,
    /// In the order in which they run.
    pub steps: Vec<Step>,
    /// Buffers of the plan.
    pub slots: Vec<Slot>,
    /// Declared inputs, in order.
    pub inputs: Vec<InputSpec>,
    /// Readable values: name, operand.
    pub outputs: Vec<(String, Operand)>,
    /// Parameters that are read or written, with shapes.
    pub params: Vec<(ParamId, Meta, String)>,
}

impl Plan {
    /// Index of the output called `name`. Panics where there is none: a bug in a program.
    #[track_caller]
    pub fn output(&self, name: &str) -> usize {
        self.outputs
            .iter()
            .position(|(n, _)| n == name)
            .unwrap_or_else(|| panic!("plan {} has no output {name:?}", self.name))
    }

    /// Bytes of all slots and inputs: what the plan needs beside the parameters.
    pub fn slot_bytes(&self) -> usize {
        4 * self.slots.iter().map(|s| s.len).sum::<usize>()
    }
}
