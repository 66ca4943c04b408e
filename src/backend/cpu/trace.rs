//! `--trace`: runs a plan step by step and reports the range of every value that a step writes.

use super::Cpu;
use crate::backend::{Compiled, Feed, Scalars};
use crate::error::Result;
use crate::shape::DType;
use std::fmt;

/// The range of one value.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceRow {
    /// Index of the step.
    pub step: usize,
    /// The layer that recorded the step.
    pub scope: String,
    /// The op with its attributes and epilogue.
    pub label: String,
    /// The buffer of the output, and its shape.
    pub output: String,
    /// Smallest, largest and mean element, without NaN.
    pub min: f32,
    pub max: f32,
    pub mean: f64,
    /// Number of elements that are NaN.
    pub nans: usize,
    /// The source line that recorded the op.
    pub at: String,
}

impl fmt::Display for TraceRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TraceRow { step, scope, label, output, min, max, mean, nans, at } = self;
        write!(f, "{step:4} {scope:<24} {label:<36} {output:<20} ")?;
        write!(f, "min {min:<12.5e} max {max:<12.5e} mean {mean:<12.5e} nan {nans:<6} {at}")
    }
}

impl Cpu {
    /// Replays a plan and lists what each step wrote.
    ///
    /// # Errors
    /// As for [`Backend::run`](crate::backend::Backend::run).
    pub fn trace(&mut self, plan: Compiled, feeds: &[Feed], scalars: &Scalars) -> Result<Vec<TraceRow>> {
        let (engine, plan) = self.ready(plan, feeds)?;
        plan.feed(feeds, scalars);
        let mut rows = vec![];
        engine.execute(plan, |i, step, access| {
            for (out, operand) in step.outputs.iter().enumerate().filter(|(_, o)| o.meta.dtype == DType::F32) {
                let values = access.output(out);
                let numbers = values.iter().copied().filter(|v| !v.is_nan());
                let count = numbers.clone().count();
                rows.push(TraceRow {
                    step: i,
                    scope: step.scope.to_string(),
                    label: step.label(),
                    output: format!("{} {}", operand.buffer, operand.meta.shape),
                    min: numbers.clone().fold(f32::INFINITY, f32::min),
                    max: numbers.clone().fold(f32::NEG_INFINITY, f32::max),
                    mean: numbers.map(f64::from).sum::<f64>() / count.max(1) as f64,
                    nans: values.len() - count,
                    at: step.at.to_string(),
                });
            }
            Ok(())
        })?;
        Ok(rows)
    }
}
