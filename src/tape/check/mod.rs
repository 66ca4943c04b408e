//! Verifies plans: everything that the `unsafe` code and the unchecked kernels of the backends rely on.
//!
//! The gate above the backends calls [`Plan::check`] and
//! [`SamplingPlan::check`](super::window::SamplingPlan::check) (in `windows.rs`) for every plan before a
//! backend sees it, in release builds too. The CPU backend also calls
//! [`Divided::check`](super::divide::Divided::check) (in `divided.rs`). A backend's SAFETY comments name
//! these checks.

mod divided;
mod windows;

use super::infer::infer;
use super::lower::in_place;
use super::op::{Op, ParamId, Scalar, ScalarId};
use super::plan::{Buffer, Fused, Operand, Plan, PlanParam, Step};
use crate::shape::{DType, Meta, Shape};
use std::collections::{HashMap, HashSet};

/// Maximum number of buffers that a step uses: the number that WebGPU lets a kernel bind.
const MOST_BUFFERS: usize = 8;

/// Maximum number of elements of a value. Its bytes, and the bytes of several values together, fit in an
/// `isize`, as slices require.
const MOST_ELEMENTS: usize = isize::MAX as usize / 64;

impl Plan {
    /// Verifies everything that backends rely on.
    ///
    /// - Every operand names a declared slot, input, parameter or scalar, and is not longer than it.
    /// - A slot is read with the type of its last write, and not beyond the end of that write. Only a kept
    ///   slot may be read before it is written.
    /// - Shapes and types of a step's operands are those that its op infers, and its epilogue fits its first
    ///   output.
    /// - No step writes a buffer that it reads, except a parameter that an optimiser replaces in place. No
    ///   two outputs of a step share a buffer. Inputs and scalars are never written.
    /// - A parameter is written at most once, and whole. Before the write no step reads its new value; after
    ///   the write no step reads its old value.
    /// - A step uses at most 8 buffers.
    ///
    /// # Errors
    /// A clause that names the step and what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        let mut state = State::new(self)?;
        for (i, step) in self.steps.iter().enumerate() {
            state.step(step).map_err(|why| format!("step {i} ({}, {}): {why}", step.label(), step.at))?;
        }
        for (name, value) in &self.outputs {
            state.read(value).map_err(|why| format!("output {name:?}: {why}"))?;
        }
        Ok(())
    }
}

/// The state of the check before a step.
struct State<'a> {
    plan: &'a Plan,
    params: HashMap<ParamId, Meta>,
    /// Shape and type of the last write to each slot; `None` before the first.
    slots: Vec<Option<Meta>>,
    /// Parameters that have their new value.
    stored: HashSet<ParamId>,
}

impl State<'_> {
    fn new(plan: &Plan) -> Result<State<'_>, String> {
        let mut params = HashMap::new();
        for PlanParam { id, meta, name } in &plan.params {
            countable(meta.shape).map_err(|why| format!("parameter {name:?}: {why}"))?;
            if meta.dtype != DType::F32 || params.insert(*id, *meta).is_some() {
                return Err(format!("parameter {name:?} is not floats, or declared twice"));
            }
        }
        for input in &plan.inputs {
            countable(input.meta.shape).map_err(|why| format!("input {:?}: {why}", input.name))?;
        }
        if let Some(slot) = plan.slots.iter().position(|slot| slot.len > MOST_ELEMENTS) {
            return Err(format!("slot {slot} has more elements than can be counted"));
        }
        Ok(State { plan, params, slots: vec![None; plan.slots.len()], stored: HashSet::new() })
    }

    /// Verifies a step and records what it writes.
    fn step(&mut self, step: &Step) -> Result<(), String> {
        if matches!(step.op, Op::Input(_) | Op::Param(_) | Op::Scalar(_) | Op::Reshape(_) | Op::Detach) {
            return Err("is no computation".into());
        }
        let reads = step.reads();
        reads.iter().chain(&step.outputs).try_for_each(|operand| self.fits(operand))?;
        reads.iter().try_for_each(|operand| self.read(operand))?;
        self.shapes(step)?;
        epilogue(step)?;
        for (o, output) in step.outputs.iter().enumerate() {
            apart(step, &reads, o)?;
            self.write(output)?;
        }
        let buffers: HashSet<Buffer> = reads.iter().chain(&step.outputs).map(|o| binding(o.buffer)).collect();
        if buffers.len() > MOST_BUFFERS {
            return Err(format!("uses {} buffers; WebGPU allows {MOST_BUFFERS}", buffers.len()));
        }
        Ok(())
    }

    /// Verifies that an operand fits in a declared buffer, and has the type of the buffer if that has one.
    fn fits(&self, operand: &Operand) -> Result<(), String> {
        let Operand { buffer, meta, .. } = operand;
        let (len, dtype) = match *buffer {
            Buffer::Slot(s) => (self.plan.slots.get(s as usize).map(|slot| slot.len), None),
            Buffer::Input(i) => {
                let declared = self.plan.inputs.get(i.0 as usize).map(|input| input.meta);
                (declared.map(|m| m.shape.len()), declared.map(|m| m.dtype))
            }
            Buffer::Param(id) => (self.params.get(&id).map(|m| m.shape.len()), Some(DType::F32)),
            Buffer::Scalar(s) => {
                let declared = self.plan.scalars.get(s.0 as usize).map(Scalar::dtype);
                (declared.map(|_| 1), declared)
            }
        };
        let len = len.ok_or_else(|| format!("{buffer} is not declared"))?;
        countable(meta.shape)?;
        if meta.shape.len() > len {
            return Err(format!("{buffer} has {len} elements, too few for {}", meta.shape));
        }
        match dtype {
            Some(dtype) if dtype != meta.dtype => Err(format!("{buffer} holds {dtype:?}, not {:?}", meta.dtype)),
            _ => Ok(()),
        }
    }

    /// Verifies that the value of an operand exists when it is read.
    fn read(&self, operand: &Operand) -> Result<(), String> {
        self.fits(operand)?;
        match operand.buffer {
            Buffer::Slot(s) => match self.slots[s as usize] {
                None if self.plan.slots[s as usize].kept => Ok(()),
                None => Err(format!("reads slot {s} before it is written")),
                Some(written) if written.dtype != operand.meta.dtype => {
                    Err(format!("reads {:?} from slot {s}, which holds {:?}", operand.meta.dtype, written.dtype))
                }
                Some(written) if written.shape.len() < operand.meta.shape.len() => {
                    Err(format!("reads {} from slot {s}, which holds {}", operand.meta.shape, written.shape))
                }
                Some(_) => Ok(()),
            },
            Buffer::Param(id) => match (operand.is_stored, self.stored.contains(&id)) {
                (false, true) => Err(format!("means the old value of parameter {}, which has been replaced", id.0)),
                (true, false) => Err(format!("means the new value of parameter {}, which is not stored yet", id.0)),
                _ => Ok(()),
            },
            Buffer::Input(_) | Buffer::Scalar(_) => Ok(()),
        }
    }

    /// Verifies an output and records what it writes.
    fn write(&mut self, output: &Operand) -> Result<(), String> {
        match output.buffer {
            Buffer::Slot(s) => self.slots[s as usize] = Some(output.meta),
            Buffer::Param(id) if !output.is_stored => {
                return Err(format!("writes parameter {} without storing it", id.0));
            }
            Buffer::Param(id) if self.params.get(&id).map(|m| m.shape.len()) != Some(output.meta.shape.len()) => {
                return Err(format!("stores {} in parameter {}, which is longer", output.meta.shape, id.0));
            }
            Buffer::Param(id) if !self.stored.insert(id) => {
                return Err(format!("stores parameter {} for the second time", id.0));
            }
            Buffer::Param(_) => {}
            Buffer::Input(_) | Buffer::Scalar(_) => return Err(format!("writes {}", output.buffer)),
        }
        Ok(())
    }

    /// Verifies that the inputs fit the op, and that the outputs have the shapes and types that it infers.
    fn shapes(&self, step: &Step) -> Result<(), String> {
        let inputs: Vec<Meta> = step.inputs.iter().map(|o| o.meta).collect();
        let mut wanted = infer(&step.op, &inputs, &self.plan.inputs, |id| self.params.get(&id).copied())?;
        if let Op::Store(_) = step.op {
            wanted.push(inputs[0]);
        }
        let got: Vec<Meta> = step.outputs.iter().map(|o| o.meta).collect();
        let list =
            |all: &[Meta]| all.iter().map(|m| format!("{} {:?}", m.shape, m.dtype)).collect::<Vec<_>>().join(", ");
        match wanted == got {
            true => Ok(()),
            false => Err(format!("writes {}, but the op gives {}", list(&got), list(&wanted))),
        }
    }
}

/// Verifies that a shape does not have more than the maximum number of elements.
fn countable(shape: Shape) -> Result<(), String> {
    let len = shape.dims().iter().try_fold(1usize, |len, dim| len.checked_mul(*dim));
    match len {
        Some(len) if len <= MOST_ELEMENTS => Ok(()),
        _ => Err(format!("{shape} has more elements than can be counted")),
    }
}

/// Verifies that the `o`-th output shares its buffer with no operand that the step reads and with no output
/// before it. An optimiser is the exception: it may write the new value of a parameter over the input that
/// has the old value.
fn apart(step: &Step, reads: &[Operand], o: usize) -> Result<(), String> {
    let buffer = step.outputs[o].buffer;
    if step.outputs[..o].iter().any(|other| other.buffer == buffer) {
        return Err(format!("writes {buffer} twice"));
    }
    let replaced = in_place(&step.op).iter().find(|(_, output)| *output == o).map(|(input, _)| *input);
    let may = |i: usize| matches!(buffer, Buffer::Param(_)) && replaced == Some(i);
    match reads.iter().enumerate().any(|(i, read)| read.buffer == buffer && !may(i)) {
        true => Err(format!("writes {buffer}, which it reads")),
        false => Ok(()),
    }
}

/// Verifies that the op may have an epilogue, that the epilogue has each kind of operation at most once, and
/// that its operands fit the first output.
fn epilogue(step: &Step) -> Result<(), String> {
    let Some(first) = step.epilogue.first() else { return Ok(()) };
    let written = step.outputs[0].meta.shape;
    let takes = match step.op {
        Op::Matmul { .. } | Op::Conv(_) | Op::ConvDx(_) => true,
        Op::BatchNorm { .. } => matches!(first, Fused::Act(_)) && step.epilogue.len() == 1,
        _ => false,
    };
    if !takes {
        return Err("cannot have this epilogue".into());
    }
    let mut kinds = HashSet::new();
    for fused in &step.epilogue {
        if !kinds.insert(std::mem::discriminant(fused)) {
            return Err("has an epilogue with two operations of one kind".into());
        }
        let len = if matches!(fused, Fused::Bias(_)) { written.last() } else { written.len() };
        if let Some(operand) = fused.operand()
            && (operand.meta.shape.len() != len || operand.meta.dtype != DType::F32)
        {
            return Err(format!("its epilogue reads {} {:?} for {written}", operand.meta.shape, operand.meta.dtype));
        }
    }
    Ok(())
}

/// The buffer that a kernel binds. All scalars are words of one buffer.
fn binding(buffer: Buffer) -> Buffer {
    match buffer {
        Buffer::Scalar(_) => Buffer::Scalar(ScalarId(0)),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tape::Tape;
    use crate::tape::op::{InputId, Param, Unary};

    const RATE: Scalar = Scalar::f32("Rate", 0.0);
    const STEP: Scalar = Scalar::f32("Step", 1.0);

    fn param(id: u32, shape: impl Into<Shape>) -> Param {
        Param { id: ParamId(id), path: format!("params/{id}").into(), shape: shape.into() }
    }

    /// `x[4, 3] w[3, 2] + bias[2]` with a relu, followed by two steps of tanh.
    fn sound() -> Plan {
        let t = Tape::new();
        let x = t.input("x", Meta::f32([4, 3]));
        let (w, bias) = (param(0, [3, 2]), param(1, [2]));
        let y = t.relu(t.add_bias(t.matmul(x, t.param(&w), false, false), t.param(&bias)));
        t.output("y", t.tanh(t.tanh(y)));
        let plan = Plan::new("sound", &t);
        plan.check().unwrap();
        assert_eq!(plan.steps.len(), 3, "{plan}");
        plan
    }

    /// A parameter that gradient descent with momentum updates in place, and a step that reads its new
    /// value.
    fn learning() -> Plan {
        let t = Tape::new();
        let (w, buf) = (param(0, [6]), param(1, [6]));
        let g = t.input("g", Meta::f32([6]));
        let inputs = [t.param(&w), g, t.param(&buf), t.scalar(RATE)];
        let new = t.record(Op::Sgd { momentum: 0.9 }, &inputs);
        t.store(&w, new);
        t.store(&buf, t.output_of(new, 1));
        t.output("y", t.tanh(new));
        let plan = Plan::new("learning", &t);
        plan.check().unwrap();
        assert!(matches!(plan.steps[0].outputs[0].buffer, Buffer::Param(_)), "{plan}");
        plan
    }

    /// Breaks a sound plan and returns the error of `check`.
    #[track_caller]
    fn refused(mut plan: Plan, mistake: impl FnOnce(&mut Plan)) -> String {
        mistake(&mut plan);
        plan.check().unwrap_err()
    }

    #[track_caller]
    fn says(why: &str, parts: &[&str]) {
        assert!(parts.iter().all(|part| why.contains(part)), "{why}");
    }

    #[test]
    fn an_operand_that_is_longer_than_its_buffer_is_refused() {
        let why = refused(sound(), |plan| plan.slots[0].len -= 1);
        says(&why, &["step 0 (matmul", "mod.rs:", "s0 has 7 elements, too few for [4x2]"]);
        let why = refused(sound(), |plan| plan.inputs[0].meta = Meta::f32([4, 2]));
        says(&why, &["in0 has 8 elements, too few for [4x3]"]);
        let why = refused(sound(), |plan| plan.params[0].meta = Meta::f32([3, 1]));
        says(&why, &["p0 has 3 elements, too few for [3x2]"]);
        let why = refused(sound(), |plan| plan.params[1].meta = Meta::f32([1]));
        says(&why, &["p1 has 1 elements, too few for [1x2]"]);
        let why = refused(sound(), |plan| plan.outputs[0].1.meta = Meta::f32([4, 3]));
        says(&why, &["output \"y\"", "too few for [4x3]"]);
    }

    #[test]
    fn a_buffer_that_is_not_declared_is_refused() {
        says(&refused(sound(), |plan| plan.inputs.clear()), &["in0 is not declared"]);
        says(&refused(sound(), |plan| plan.params.truncate(1)), &["p1 is not declared"]);
        says(&refused(learning(), |plan| plan.scalars.clear()), &["scalar0 is not declared"]);
        says(&refused(sound(), |plan| plan.steps[1].inputs[0].buffer = Buffer::Slot(9)), &["s9 is not declared"]);
        says(&refused(sound(), |plan| plan.outputs[0].1.buffer = Buffer::Input(InputId(1))), &["in1 is not declared"]);
    }

    #[test]
    fn a_type_or_a_shape_that_the_op_does_not_give_is_refused() {
        says(&refused(sound(), |plan| plan.inputs[0].meta.dtype = DType::U32), &["in0 holds U32, not F32"]);
        says(&refused(sound(), |plan| plan.steps[1].outputs[0].meta.dtype = DType::U32), &["step 1", "the op gives"]);
        says(&refused(sound(), |plan| plan.steps[1].outputs[0].meta.shape = [2, 2].into()), &["the op gives [4x2]"]);
        says(&refused(sound(), |plan| plan.steps[1].inputs.clear()), &["takes 1 inputs, got 0"]);
        let huge = Shape::new(&[1 << 40, 1 << 40]);
        says(&refused(sound(), |plan| plan.steps[1].inputs[0].meta.shape = huge), &["than can be counted"]);
        let why = refused(sound(), |plan| plan.steps[0].outputs[0].buffer = plan.steps[1].outputs[0].buffer);
        says(&why, &["step 1", "before it is written"]);
    }

    #[test]
    fn an_epilogue_that_does_not_fit_is_refused() {
        let why = refused(sound(), |plan| {
            plan.steps[0].epilogue.retain(|f| matches!(f, Fused::Bias(_)));
            if let Fused::Bias(bias) = &mut plan.steps[0].epilogue[0] {
                bias.meta.shape = [1].into();
            }
        });
        says(&why, &["its epilogue reads [1] F32 for [4x2]"]);
        says(
            &refused(sound(), |plan| plan.steps[0].epilogue.push(Fused::Act(Unary::Tanh))),
            &["two operations of one"],
        );
        says(&refused(sound(), |plan| plan.steps[1].epilogue.push(Fused::Act(Unary::Tanh))), &["cannot have this"]);
    }

    #[test]
    fn an_output_among_the_inputs_is_refused_unless_an_optimiser_replaces_it() {
        let why = refused(sound(), |plan| plan.steps[1].outputs[0].buffer = plan.steps[1].inputs[0].buffer);
        says(&why, &["step 1", "which it reads"]);
        says(&refused(sound(), |plan| plan.steps[1].outputs[0].buffer = Buffer::Input(InputId(0))), &["writes in0"]);
        // The gradient is not a value that the optimiser replaces.
        let why = refused(learning(), |plan| plan.steps[0].inputs[1] = plan.steps[0].inputs[0]);
        says(&why, &["step 0 (sgd", "writes p0, which it reads"]);
        let why = refused(learning(), |plan| plan.steps[0].outputs[1].buffer = plan.steps[0].outputs[0].buffer);
        says(&why, &["writes p0 twice"]);
    }

    #[test]
    fn a_step_that_means_the_old_value_may_not_run_after_the_store() {
        let why = refused(learning(), |plan| plan.steps[1].inputs[0].is_stored = false);
        says(&why, &["step 1 (unary", "means the old value of parameter 0, which has been replaced"]);
        let why = refused(learning(), |plan| plan.steps[0].inputs[0].is_stored = true);
        says(&why, &["step 0", "means the new value of parameter 0, which is not stored yet"]);
        let old = learning().steps[0].inputs[0];
        says(&refused(learning(), |plan| plan.outputs[0].1 = old), &["output \"y\"", "means the old value"]);
        let why = refused(learning(), |plan| plan.steps.push(plan.steps[0].clone()));
        says(&why, &["step 2", "means the old value"]);
    }

    #[test]
    fn a_parameter_is_stored_once_and_whole() {
        let store = |plan: &mut Plan, shape: Shape| {
            let mut step = plan.steps[1].clone();
            step.op = Op::Store(ParamId(0));
            step.inputs[0] = plan.steps[1].outputs[0];
            step.inputs[0].meta.shape = shape;
            step.outputs = vec![Operand { buffer: Buffer::Param(ParamId(0)), is_stored: true, ..step.inputs[0] }];
            plan.steps.push(step);
        };
        says(&refused(learning(), |plan| store(plan, [6].into())), &["stores parameter 0 for the second time"]);
        says(&refused(learning(), |plan| store(plan, [5].into())), &["must be equal"]);
        let why = refused(learning(), |plan| plan.steps[0].outputs[0].is_stored = false);
        says(&why, &["writes parameter 0 without storing it"]);
    }

    #[test]
    fn nine_buffers_in_a_step_are_refused() {
        // Adam that writes new buffers: four inputs, three outputs and the buffer of scalars are eight.
        let t = Tape::new();
        let x: Vec<_> = ["param", "grad", "m", "v"].iter().map(|name| t.input(name, Meta::f32([5]))).collect();
        let inputs = [x[0], x[1], x[2], x[3], t.scalar(RATE), t.scalar(STEP)];
        let new = t.record(Op::Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8 }, &inputs);
        (0..3).for_each(|o| t.output(&format!("out{o}"), t.output_of(new, o)));
        let plan = Plan::new("adam", &t);
        plan.check().unwrap();
        let why = refused(plan, |plan| {
            plan.inputs.push(crate::tape::InputSpec { name: "rate".into(), meta: Meta::f32([]), role: None });
            plan.steps[0].inputs[4].buffer = Buffer::Input(InputId(4));
        });
        says(&why, &["uses 9 buffers; WebGPU allows 8"]);
    }
}
