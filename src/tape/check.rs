//! `Plan::check`: what every plan must hold to, verified in tests and debug builds; and its text.

use super::op::Op;
use super::plan::{Buffer, Fused, Operand, Plan, Step};
use super::text;
use std::collections::{HashMap, HashSet};
use std::fmt;

impl Step {
    /// Every operand that is read: inputs, then those of the epilogue.
    pub fn reads(&self) -> Vec<Operand> {
        self.inputs.iter().chain(self.epilogue.iter().filter_map(Fused::operand)).copied().collect()
    }

    /// The step's op as it stands in a plan, with attributes and epilogue.
    pub fn label(&self) -> String {
        let mut label = format!("{}{}", text::name(&self.op), text::attributes(&self.op));
        for f in &self.epilogue {
            label += &match f {
                Fused::Bias(_) => " +bias".to_string(),
                Fused::Add(_) => " +add".to_string(),
                Fused::Act(f) => format!(" {f}"),
                Fused::ActBwd(f, _) => format!(" {f}'"),
            };
        }
        label
    }
}

impl Plan {
    /// Verifies the plan: slots are written before they are read and large enough; no output is an input of its step
    /// but for parameters that an optimiser replaces; at most 8 buffers a step; each parameter is written at most once,
    /// and its old value is not read afterwards by a step that should have seen it. The error is a clause.
    pub fn check(&self) -> Result<(), String> {
        let mut written: HashSet<Buffer> = HashSet::new();
        let mut stored: HashMap<Buffer, usize> = HashMap::new();
        for (i, step) in self.steps.iter().enumerate() {
            let fail = |why: String| Err(format!("step {i} ({}, {}): {why}", step.label(), step.at));
            let reads = step.reads();
            for o in reads.iter().chain(&step.outputs) {
                if let Buffer::Slot(s) = o.buffer
                    && self.slots[s as usize].len < o.meta.shape.len()
                {
                    return fail(format!("slot {s} is too small for {}", o.meta.shape));
                }
            }
            for o in &reads {
                if let Buffer::Slot(s) = o.buffer
                    && !written.contains(&o.buffer)
                    && !self.slots[s as usize].kept
                {
                    return fail(format!("reads slot {s} before it is written"));
                }
            }
            for (k, o) in step.outputs.iter().enumerate() {
                let is_read = reads.iter().any(|r| r.buffer == o.buffer);
                match o.buffer {
                    Buffer::Slot(s) if is_read => return fail(format!("writes slot {s}, which it reads")),
                    Buffer::Slot(s) if step.outputs[..k].iter().any(|p| p.buffer == o.buffer) => {
                        return fail(format!("writes slot {s} twice"));
                    }
                    Buffer::Param(_) if stored.insert(o.buffer, i).is_some() => {
                        return fail("stores a parameter for the second time".into());
                    }
                    Buffer::Input(_) | Buffer::Scalar(_) => return fail("writes an input".into()),
                    _ => {}
                }
                written.insert(o.buffer);
            }
            let buffers: HashSet<Buffer> = reads.iter().chain(&step.outputs).map(|o| binding(o.buffer)).collect();
            if buffers.len() > 8 {
                return fail(format!("binds {} buffers; WebGPU allows 8", buffers.len()));
            }
            if matches!(step.op, Op::Input(_) | Op::Param(_) | Op::Scalar(_) | Op::Reshape(_) | Op::Detach) {
                return fail("is no computation".into());
            }
        }
        Ok(())
    }
}

/// All scalars are words of one buffer.
fn binding(buffer: Buffer) -> Buffer {
    match buffer {
        Buffer::Scalar(_) => Buffer::Scalar(super::op::Scalar::Seed),
        other => other,
    }
}

impl fmt::Display for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Buffer::Slot(s) => write!(f, "s{s}"),
            Buffer::Param(p) => write!(f, "p{}", p.0),
            Buffer::Input(i) => write!(f, "in{}", i.0),
            Buffer::Scalar(s) => write!(f, "{s:?}"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "plan {}: {} steps, {} slots", self.name, self.steps.len(), self.slots.len())?;
        for (i, input) in self.inputs.iter().enumerate() {
            writeln!(f, "  in{i} {} {}", input.name, input.meta.shape)?;
        }
        for (id, meta, name) in &self.params {
            writeln!(f, "  p{} {name} {}", id.0, meta.shape)?;
        }
        for (i, slot) in self.slots.iter().enumerate() {
            let kept = if slot.kept { " kept" } else { "" };
            writeln!(f, "  s{i} {:.1} KiB{kept}", slot.len as f64 * 4.0 / 1024.0)?;
        }
        let list =
            |all: &[Operand]| all.iter().map(|o| format!("{}{}", o.buffer, o.meta.shape)).collect::<Vec<_>>().join(" ");
        for (i, step) in self.steps.iter().enumerate() {
            let (reads, writes) = (list(&step.reads()), list(&step.outputs));
            writeln!(f, "{i:4}  {:<28} {:<40} {reads} -> {writes}", step.scope, step.label())?;
        }
        for (name, o) in &self.outputs {
            writeln!(f, "  out {name} {}{}", o.buffer, o.meta.shape)?;
        }
        Ok(())
    }
}
