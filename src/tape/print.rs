//! Plans as text, for `pixtape plan` and for error messages.
//!
//! A plan is printed with its inputs, parameters, slots, steps and outputs, one per line. [`Step::label`]
//! has the text of one step. The names and attributes of ops are in `text.rs`.

use super::plan::{Buffer, Fused, Operand, Plan, PlanParam, Precision, Step};
use super::text;
use std::fmt;

impl Step {
    /// The step's op as a printed plan shows it, with attributes and epilogue.
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

impl fmt::Display for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Buffer::Slot(s) => write!(f, "s{s}"),
            Buffer::Param(p) => write!(f, "p{}", p.0),
            Buffer::Input(i) => write!(f, "in{}", i.0),
            Buffer::Scalar(s) => write!(f, "scalar{}", s.0),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_precision = match self.precision {
            Precision::F32 => String::new(),
            precision => format!(", products in {precision}"),
        };
        writeln!(f, "plan {}: {} steps, {} slots{in_precision}", self.name, self.steps.len(), self.slots.len())?;
        for (i, input) in self.inputs.iter().enumerate() {
            writeln!(f, "  in{i} {} {}", input.name, input.meta.shape)?;
        }
        for PlanParam { id, meta, name } in &self.params {
            writeln!(f, "  p{} {name} {}", id.0, meta.shape)?;
        }
        for (i, slot) in self.slots.iter().enumerate() {
            let kept = if slot.kept { " kept" } else { "" };
            writeln!(f, "  s{i} {:.1} KiB{kept}", slot.len as f64 * 4.0 / 1024.0)?;
        }
        let place = |o: &Operand| match o.buffer {
            Buffer::Scalar(s) => format!("{}{}", self.scalars[s.0 as usize].name(), o.meta.shape),
            buffer => format!("{buffer}{}", o.meta.shape),
        };
        let list = |all: &[Operand]| all.iter().map(place).collect::<Vec<_>>().join(" ");
        for (i, step) in self.steps.iter().enumerate() {
            let (reads, writes) = (list(&step.reads()), list(&step.outputs));
            writeln!(f, "{i:4}  {:<28} {:<40} {reads} -> {writes}", step.scope, step.label())?;
        }
        for (name, o) in &self.outputs {
            writeln!(f, "  out {name} {}", place(o))?;
        }
        Ok(())
    }
}
