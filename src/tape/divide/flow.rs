//! Which step wrote the value that an operand reads. Slots are shared, so a plan does not say this directly.

use crate::tape::op::ParamId;
use crate::tape::plan::{Buffer, Operand, Plan};
use std::collections::HashMap;

/// A value: an output of a step of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Value {
    /// Index of the step.
    pub(crate) step: usize,
    /// Index of the output.
    pub(crate) output: usize,
}

/// The values that the operands of a plan read. `None` if the value is there before the plan runs.
pub(in crate::tape) struct Flow {
    /// For each step, the values of [`Step::reads`](crate::tape::plan::Step::reads) in its order.
    pub(in crate::tape) reads: Vec<Vec<Option<Value>>>,
    /// The values of the plan's outputs.
    pub(in crate::tape) outputs: Vec<Option<Value>>,
}

impl Flow {
    /// Follows the steps of a plan in their order.
    pub(in crate::tape) fn new(plan: &Plan) -> Flow {
        let mut slots: Vec<Option<Value>> = vec![None; plan.slots.len()];
        let mut stored: HashMap<ParamId, Value> = HashMap::new();
        let mut reads = Vec::with_capacity(plan.steps.len());
        let source = |operand: &Operand, slots: &[Option<Value>], stored: &HashMap<ParamId, Value>| match operand.buffer
        {
            Buffer::Slot(slot) => slots[slot as usize],
            Buffer::Param(id) if operand.is_stored => stored.get(&id).copied(),
            Buffer::Param(_) | Buffer::Input(_) | Buffer::Scalar(_) => None,
        };
        for (index, step) in plan.steps.iter().enumerate() {
            reads.push(step.reads().iter().map(|operand| source(operand, &slots, &stored)).collect());
            for (output, operand) in step.outputs.iter().enumerate() {
                let value = Value { step: index, output };
                match operand.buffer {
                    Buffer::Slot(slot) => slots[slot as usize] = Some(value),
                    Buffer::Param(id) => _ = stored.insert(id, value),
                    Buffer::Input(_) | Buffer::Scalar(_) => unreachable!("a plan writes no input and no scalar"),
                }
            }
        }
        let outputs = plan.outputs.iter().map(|(_, operand)| source(operand, &slots, &stored)).collect();
        Flow { reads, outputs }
    }
}
