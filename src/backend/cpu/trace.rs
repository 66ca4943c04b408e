//! `--trace`: runs a plan step by step and reports the range of every value that a step writes.

use super::Cpu;
use super::replay::{Visitor, Written};
use crate::backend::{Compiled, Feed, Scalars};
use crate::error::Result;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

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
        let ranges = Ranges::default();
        engine.execute(plan, &ranges)?;
        let ranges = ranges.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let rows = ranges.into_iter().map(|((index, output), range)| {
            let step = &plan.plan.steps[index];
            let operand = &step.outputs[output];
            TraceRow {
                step: index,
                scope: step.scope.to_string(),
                label: step.label(),
                output: format!("{} {}", operand.buffer, operand.meta.shape),
                min: range.min,
                max: range.max,
                mean: range.sum / range.count.max(1) as f64,
                nans: range.nans,
                at: step.at.to_string(),
            }
        });
        Ok(rows.collect())
    }
}

/// The ranges of all outputs, by step and output.
#[derive(Default)]
struct Ranges(Mutex<BTreeMap<(usize, usize), Range>>);

/// The range of what an output got so far.
struct Range {
    min: f32,
    max: f32,
    sum: f64,
    /// Number of elements that are no NaN.
    count: usize,
    nans: usize,
}

impl Visitor for Ranges {
    const LOOKS: bool = true;

    fn wrote(&self, written: &Written) -> Result<()> {
        let numbers = written.values.iter().copied().filter(|value| !value.is_nan());
        let count = numbers.clone().count();
        let mut ranges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let range = ranges.entry((written.index, written.output)).or_insert(Range {
            min: f32::INFINITY,
            max: f32::NEG_INFINITY,
            sum: 0.0,
            count: 0,
            nans: 0,
        });
        range.min = numbers.clone().fold(range.min, f32::min);
        range.max = numbers.clone().fold(range.max, f32::max);
        range.sum += numbers.map(f64::from).sum::<f64>();
        range.count += count;
        range.nans += written.values.len() - count;
        Ok(())
    }
}
