//! Plans: steps over buffers, which a backend compiles and runs.
//!
//! Read [`Buffer`], [`Operand`], [`Step`] and [`Plan`]. [`Plan::new`] in `lower.rs` makes a plan from a
//! tape, `check/` verifies it, `print.rs` prints it.

use super::InputSpec;
use super::op::{InputId, Op, ParamId, Scalar, ScalarId, Unary};
use crate::shape::Meta;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

/// The buffer that holds a value while the plan runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Buffer {
    /// A buffer of the plan, shared by values whose lifetimes do not overlap.
    Slot(u32),
    /// The parameter's own buffer.
    Param(ParamId),
    /// An input, fed before the replay.
    Input(InputId),
    /// A word of the scalar buffer.
    Scalar(ScalarId),
}

/// A value that a step reads or writes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Operand {
    /// Its buffer. The value begins at the start of the buffer.
    pub(crate) buffer: Buffer,
    /// Its shape and type.
    pub(crate) meta: Meta,
    /// Whether this is the new value of a parameter, which the plan stores in this buffer. False for the old
    /// value and for all other buffers.
    pub(crate) is_stored: bool,
}

impl Operand {
    /// Its buffer. The value begins at the start of the buffer.
    pub fn buffer(&self) -> Buffer {
        self.buffer
    }

    /// Its shape and type.
    pub fn meta(&self) -> Meta {
        self.meta
    }
}

/// An operation that was folded into the end of a step, applied in order to each element of its first
/// output. `T` is the type of the value that it reads: a handle in the planner, an operand in a plan, a
/// slice in a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fused<T = Operand> {
    /// `v + bias[c]`, where c is the column of the product (the channel).
    Bias(T),
    /// `v + other`, elementwise.
    Add(T),
    /// `f(v)`
    Act(Unary),
    /// `v * f'(saved)`, see [`Unary::saves_output`].
    ActBwd(Unary, T),
}

impl<T> Fused<T> {
    /// The value that it reads; `None` for an activation, which reads no other value.
    pub fn operand(&self) -> Option<&T> {
        match self {
            Fused::Bias(o) | Fused::Add(o) | Fused::ActBwd(_, o) => Some(o),
            Fused::Act(_) => None,
        }
    }

    /// The value that it reads, mutable.
    pub(super) fn operand_mut(&mut self) -> Option<&mut T> {
        match self {
            Fused::Bias(o) | Fused::Add(o) | Fused::ActBwd(_, o) => Some(o),
            Fused::Act(_) => None,
        }
    }

    /// The same operation, with the value that it reads converted by `to`.
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
    /// What is computed: never an alias, an input, a parameter or a scalar.
    pub(crate) op: Op,
    /// Operands read.
    pub(crate) inputs: Vec<Operand>,
    /// Operands written. An optimiser may write parameters in place. The buffer of every other output
    /// differs from those of all operands that are read.
    pub(crate) outputs: Vec<Operand>,
    /// What was folded into the first output.
    pub(crate) epilogue: Vec<Fused>,
    /// The line that recorded the op.
    pub(crate) at: &'static Location<'static>,
    /// The layer, followed by `'` if the step belongs to a gradient.
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

    /// Every operand: inputs, those of the epilogue, outputs.
    pub(crate) fn operands(&self) -> impl Iterator<Item = &Operand> {
        self.inputs.iter().chain(self.epilogue.iter().filter_map(Fused::operand)).chain(&self.outputs)
    }
}

/// A buffer of the plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Slot {
    /// Elements of four bytes.
    pub(crate) len: usize,
    /// Whether its value survives until the next replay. The slot is then never shared and never poisoned.
    pub(crate) kept: bool,
}

/// A parameter that a plan reads or writes.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct PlanParam {
    /// Which parameter it is.
    pub id: ParamId,
    /// Its shape and element type.
    pub meta: Meta,
    /// Its name.
    pub name: String,
}

/// Precision of the operands of matrix products and convolutions. Their sums, and everything else, are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// Operands are rounded to bf16 (8 bits of significand) before they are multiplied.
    Bf16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        })
    }
}

/// What a backend compiles: steps in order, over slots, parameters, inputs and scalars. Outside the crate
/// only [`Plan::new`] makes a plan, and a plan cannot be changed. The gate of the backends verifies every
/// plan nevertheless ([`Plan::check`]).
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name for texts and timings.
    pub(crate) name: String,
    /// The steps in the order in which they run.
    pub(crate) steps: Vec<Step>,
    /// Buffers of the plan.
    pub(crate) slots: Vec<Slot>,
    /// Declared inputs, in order.
    pub(crate) inputs: Vec<InputSpec>,
    /// Declared scalars, in order.
    pub(crate) scalars: Vec<Scalar>,
    /// Readable values: name, operand.
    pub(crate) outputs: Vec<(String, Operand)>,
    /// Parameters that are read or written.
    pub(crate) params: Vec<PlanParam>,
    /// Precision of the operands of products.
    pub(crate) precision: Precision,
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

    /// The parameters that are read or written.
    #[doc(hidden)]
    pub fn params(&self) -> &[PlanParam] {
        &self.params
    }

    /// The same plan, whose products have operands of this precision. A backend that cannot compute in it
    /// refuses the plan.
    pub fn in_precision(self, precision: Precision) -> Plan {
        Plan { precision, ..self }
    }

    /// Precision of the operands of products: f32 unless [`Plan::in_precision`] changed it.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Index of the output called `name`. Panics if no output has this name, which is a bug in the calling
    /// program.
    #[track_caller]
    pub fn output(&self, name: &str) -> usize {
        self.outputs
            .iter()
            .position(|(n, _)| n == name)
            .unwrap_or_else(|| panic!("plan {} has no output {name:?}", self.name))
    }

    /// Bytes of all slots: the memory that the plan needs in addition to its inputs, scalars and parameters.
    pub fn slot_bytes(&self) -> usize {
        4 * self.slots.iter().map(|s| s.len).sum::<usize>()
    }
}
