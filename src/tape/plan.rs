//! What a backend is given: steps over buffers. [`Plan::new`], which makes them of a tape, is in `lower.rs`.

use super::InputSpec;
use super::op::{InputId, Op, ParamId, Scalar, ScalarId, Unary};
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
    Scalar(ScalarId),
}

/// A value as a step sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Operand {
    /// Its buffer; the value fills it from the start.
    pub(crate) buffer: Buffer,
    /// Its shape and type.
    pub(crate) meta: Meta,
    /// In the buffer of a parameter: whether this is the value that the plan stores there, and not the one
    /// before it.
    pub(crate) is_stored: bool,
}

impl Operand {
    /// Its buffer; the value fills it from the start.
    pub fn buffer(&self) -> Buffer {
        self.buffer
    }

    /// Its shape and type.
    pub fn meta(&self) -> Meta {
        self.meta
    }
}

/// An operation that was folded into the end of a step, applied in order to each element of its first
/// output. `T` says how the value that it reads is given: a handle while the planner folds, an operand in a
/// plan, a slice in a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fused<T = Operand> {
    /// `v + bias[c]`, c the column of the product (the channel).
    Bias(T),
    /// `v + other`, elementwise.
    Add(T),
    /// `f(v)`
    Act(Unary),
    /// `v * f'(saved)`, see [`Unary::saves_output`].
    ActBwd(Unary, T),
}

impl<T> Fused<T> {
    /// The value that it reads.
    pub fn operand(&self) -> Option<&T> {
        match self {
            Fused::Bias(o) | Fused::Add(o) | Fused::ActBwd(_, o) => Some(o),
            Fused::Act(_) => None,
        }
    }

    /// The value that it reads, to be changed.
    pub(super) fn operand_mut(&mut self) -> Option<&mut T> {
        match self {
            Fused::Bias(o) | Fused::Add(o) | Fused::ActBwd(_, o) => Some(o),
            Fused::Act(_) => None,
        }
    }

    /// The same operation with its value given in another way.
    pub(crate) fn map<U>(&self, to: impl FnOnce(&T) -> U) -> Fused<U> {
        match self {
            Fused::Bias(o) => Fused::Bias(to(o)),
            Fused::Add(o) => Fused::Add(to(o)),
            Fused::Act(f) => Fused::Act(*f),
            Fused::ActBwd(f, o) => Fused::ActBwd(*f, to(o)),
        }
    }
}

/// One launch of a backend: an op, its operands and an epilogue.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is computed; never an alias and never a leaf other than `Fill` and `Random`.
    pub(crate) op: Op,
    /// Operands read.
    pub(crate) inputs: Vec<Operand>,
    /// Operands written. Optimisers write parameters in place; every other output differs from every input.
    pub(crate) outputs: Vec<Operand>,
    /// What was folded into the first output.
    pub(crate) epilogue: Vec<Fused>,
    /// The line that recorded the op.
    pub(crate) at: &'static Location<'static>,
    /// Layer, and `'` where it is part of a gradient.
    pub(crate) scope: Arc<str>,
}

impl Step {
    /// What is computed.
    pub fn op(&self) -> &Op {
        &self.op
    }

    /// Operands read by the op itself.
    pub fn inputs(&self) -> &[Operand] {
        &self.inputs
    }

    /// Operands written.
    pub fn outputs(&self) -> &[Operand] {
        &self.outputs
    }

    /// What was folded into the first output.
    #[doc(hidden)]
    pub fn epilogue(&self) -> &[Fused] {
        &self.epilogue
    }

    /// Every operand that is read: inputs, then those of the epilogue.
    pub(crate) fn reads(&self) -> Vec<Operand> {
        self.inputs.iter().chain(self.epilogue.iter().filter_map(Fused::operand)).copied().collect()
    }
}

/// A buffer of the plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Slot {
    /// Elements of four bytes.
    pub(crate) len: usize,
    /// Never shared and never poisoned: the next replay finds it as this one left it.
    pub(crate) kept: bool,
}

/// What a backend compiles: steps in order, over slots, parameters, inputs and scalars. Only [`Plan::new`]
/// makes one, and nobody outside the crate can change it; a backend's gate verifies it all the same
/// ([`Plan::check`]).
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name for texts and timings.
    pub(crate) name: String,
    /// In the order in which they run.
    pub(crate) steps: Vec<Step>,
    /// Buffers of the plan.
    pub(crate) slots: Vec<Slot>,
    /// Declared inputs, in order.
    pub(crate) inputs: Vec<InputSpec>,
    /// Declared scalars, in order.
    pub(crate) scalars: Vec<Scalar>,
    /// Readable values: name, operand.
    pub(crate) outputs: Vec<(String, Operand)>,
    /// Parameters that are read or written, with shapes.
    pub(crate) params: Vec<(ParamId, Meta, String)>,
}

impl Plan {
    /// Name for texts and timings.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The steps in the order in which they run.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The declared inputs, in the order in which they are fed.
    pub fn inputs(&self) -> &[InputSpec] {
        &self.inputs
    }

    /// The readable values by name, in the order of their indices.
    pub fn outputs(&self) -> &[(String, Operand)] {
        &self.outputs
    }

    /// The parameters that are read or written, with shapes and names.
    #[doc(hidden)]
    pub fn params(&self) -> &[(ParamId, Meta, String)] {
        &self.params
    }

    /// Index of the output called `name`. Panics if no output has this name: a bug in a program.
    #[track_caller]
    pub fn output(&self, name: &str) -> usize {
        self.outputs
            .iter()
            .position(|(n, _)| n == name)
            .unwrap_or_else(|| panic!("plan {} has no output {name:?}", self.name))
    }

    /// Bytes of all slots: what the plan needs besides inputs and parameters.
    pub fn slot_bytes(&self) -> usize {
        4 * self.slots.iter().map(|s| s.len).sum::<usize>()
    }
}
