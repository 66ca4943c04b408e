//! The order of the stages: which steps form a stretch, and which run between two stretches.
//!
//! Every step gets a *level*. The divided steps of level L form the stretch L; the other steps of level L
//! run after it and before the stretch L + 1. Steps that depend on no divided step have the level -1. Each
//! step has the lowest level that its operands allow, and steps of one level keep the order of the plan. So
//! the gradient of a weight, which only the optimiser reads, does not interrupt the way back through the
//! layers, and the constant gradient of a mean loss does not separate the way back from the way forward.

use super::rules::{computed_rows, summed_rows};
use super::{Flow, Policy, Rule, Share, UNIT_ROWS, Value, rule};
use crate::tape::op::{Op, ParamId};
use crate::tape::plan::{Buffer, Operand, Plan, Step};
use std::collections::HashMap;

/// Fewest groups of a stretch. If a batch cannot be cut into that many equal groups, its plan stays
/// undivided, because the threads of most processors would not all have work.
const FEWEST_GROUPS: usize = 8;

/// Fewest rows of an image that a product with weights computes. With fewer rows, most of the time would go
/// into reading the weights again for each micro-batch.
const FEWEST_ROWS: usize = 64;

/// Most elements of the sums of all groups that a step adds up, unless it reads fewer: each group writes all
/// of its sum for every unit, and all sums are read once more.
const MOST_SUMS: usize = 1 << 20;

/// The division of a plan, before its values have places.
pub(super) struct Schedule {
    pub(super) images: usize,
    pub(super) groups: usize,
    /// For each step, what a micro-batch sees of its operands; `None` if it runs on the whole batch.
    pub(super) rules: Vec<Option<Rule>>,
    /// The steps of each stage, in the order in which the stages run.
    pub(super) stages: Vec<Steps>,
}

/// The steps of a stage.
pub(super) enum Steps {
    Whole(usize),
    Stretch(Vec<usize>),
}

impl Schedule {
    /// `None` if nothing of the plan is divided.
    pub(super) fn new(plan: &Plan, flow: &Flow, policy: &Policy) -> Option<Schedule> {
        let images = images(plan).filter(|images| *images > 1)?;
        let groups = (1..=policy.most_groups).rev().find(|groups| images.is_multiple_of(*groups))?;
        if groups < FEWEST_GROUPS && !policy.always {
            return None;
        }
        let is_kept = |buffer: Buffer| matches!(buffer, Buffer::Slot(slot) if plan.slots[slot as usize].kept);
        let divided = plan.steps.iter().map(|step| {
            let keeps = step.reads().iter().chain(&step.outputs).any(|operand| is_kept(operand.buffer));
            let stores = step.outputs.iter().any(|operand| matches!(operand.buffer, Buffer::Param(_)));
            let rule = if keeps || stores { None } else { rule(step, images) };
            rule.filter(|rule| policy.always || is_efficient(step, rule, images, groups))
        });
        let mut rules: Vec<Option<Rule>> = divided.collect();
        let levels = as_late_as_useful(plan, flow, &rules, levels(plan, flow, &rules));
        let last = levels.iter().copied().max().unwrap_or(-1);
        let mut stages = vec![];
        let mut any = false;
        for level in -1..=last {
            let here = || (0..plan.steps.len()).filter(|step| levels[*step] == level);
            let stretch: Vec<usize> = here().filter(|step| rules[*step].is_some()).collect();
            if !stretch.is_empty() && (policy.always || pays(plan, flow, &stretch)) {
                stages.push(Steps::Stretch(stretch));
                any = true;
            } else {
                stretch.into_iter().for_each(|step| rules[step] = None);
            }
            stages.extend(here().filter(|step| rules[*step].is_none()).map(Steps::Whole));
        }
        any.then_some(Schedule { images, groups, rules, stages })
    }
}

/// Number of images of the batch: the largest number that divides the images of every convolution, else the
/// leading dimension of the first input.
fn images(plan: &Plan) -> Option<usize> {
    let convolved = plan.steps.iter().filter_map(|step| match &step.op {
        Op::Conv(g) | Op::ConvDx(g) | Op::ConvDw(g) => Some(g.n),
        _ => None,
    });
    let fed = || plan.inputs.first().and_then(|input| input.meta.shape.dims().first().copied());
    convolved.reduce(greatest_common_divisor).or_else(fed)
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Whether a step does not lose more by the division than the cache can give.
fn is_efficient(step: &Step, rule: &Rule, images: usize, groups: usize) -> bool {
    let len = |operand: &Operand| operand.meta.shape.len();
    let read: usize = step.reads().iter().map(len).sum();
    let sums = step.outputs.iter().zip(&rule.outputs).filter(|(_, share)| **share == Share::Sum);
    let summed: usize = sums.map(|(sum, _)| groups * len(sum)).sum();
    computed_rows(step, images).is_none_or(|rows| rows >= FEWEST_ROWS)
        && summed_rows(step, images).is_none_or(|rows| rows * (images / groups) >= UNIT_ROWS)
        && summed <= MOST_SUMS.min(read)
}

/// Whether a stretch saves more memory traffic than its bookkeeping costs: it has a convolution or a scan,
/// and a fifth of what its steps read and write was written a moment before, by steps of the same stretch.
fn pays(plan: &Plan, flow: &Flow, stretch: &[usize]) -> bool {
    let computes = |step: &usize| {
        let op = &plan.steps[*step].op;
        matches!(op, Op::Conv(_) | Op::ConvDx(_) | Op::ConvDw(_) | Op::RowLstm | Op::DiagonalLstm { .. })
    };
    let (mut hot, mut all) = (0, 0);
    for &index in stretch {
        let step = &plan.steps[index];
        all += step.operands().map(|operand| operand.meta.shape.len()).sum::<usize>();
        for (operand, source) in step.reads().iter().zip(&flow.reads[index]) {
            if source.is_some_and(|value| stretch.binary_search(&value.step).is_ok()) {
                hot += operand.meta.shape.len();
            }
        }
    }
    stretch.iter().any(computes) && 5 * hot >= all
}

/// The level of each step.
fn levels(plan: &Plan, flow: &Flow, rules: &[Option<Rule>]) -> Vec<i32> {
    let mut levels: Vec<i32> = Vec::with_capacity(plan.steps.len());
    // The highest level of the steps that read the old value of a parameter, or touch a kept slot.
    let mut readers: HashMap<ParamId, i32> = HashMap::new();
    let mut keepers: HashMap<u32, i32> = HashMap::new();
    for (index, step) in plan.steps.iter().enumerate() {
        let reads = step.reads();
        let mut level = if rules[index].is_some() { 0 } else { -1 };
        for (r, source) in flow.reads[index].iter().enumerate() {
            let Some(value) = source else { continue };
            let after = distance(plan, rules, (index, r), *value);
            level = level.max(levels[value.step] + after);
        }
        // A parameter is written in place after its old value has been read. Divided steps write none.
        for output in &step.outputs {
            if let Buffer::Param(id) = output.buffer {
                level = level.max(readers.get(&id).copied().unwrap_or(-1));
            }
        }
        for operand in reads.iter().chain(&step.outputs) {
            match operand.buffer {
                Buffer::Slot(slot) if plan.slots[slot as usize].kept => {
                    level = level.max(keepers.get(&slot).copied().unwrap_or(-1));
                    keepers.insert(slot, level);
                }
                _ => {}
            }
        }
        for read in &reads {
            if let (Buffer::Param(id), false) = (read.buffer, read.is_stored) {
                let highest = readers.entry(id).or_insert(-1);
                *highest = level.max(*highest);
            }
        }
        levels.push(level);
    }
    levels
}

/// Raises the levels of divided steps that write more than they read from other steps, such as expansions,
/// to the level of their first reader, so that less has to be kept from one stretch to a later one.
fn as_late_as_useful(plan: &Plan, flow: &Flow, rules: &[Option<Rule>], mut levels: Vec<i32>) -> Vec<i32> {
    let mut first_reader = vec![i32::MAX; plan.steps.len()];
    for index in (0..plan.steps.len()).rev() {
        let step = &plan.steps[index];
        let len = |operand: &Operand| operand.meta.shape.len();
        let read: usize = step.reads().iter().map(len).sum();
        // The old value of a parameter may be replaced after the level that the step has now.
        let is_free = step.reads().iter().all(|read| !matches!(read.buffer, Buffer::Param(_)));
        let grows = read < step.outputs.iter().map(len).sum();
        if rules[index].is_some() && is_free && grows && first_reader[index] != i32::MAX {
            levels[index] = levels[index].max(first_reader[index]);
        }
        for (r, source) in flow.reads[index].iter().enumerate() {
            if let Some(value) = source {
                let latest = levels[index] - distance(plan, rules, (index, r), *value);
                first_reader[value.step] = first_reader[value.step].min(latest);
            }
        }
    }
    levels
}

/// Levels from the step that writes a value to a step that reads it, at least; `r` is the index among the
/// operands that the reader reads.
fn distance(plan: &Plan, rules: &[Option<Rule>], (reader, r): (usize, usize), value: Value) -> i32 {
    match (&rules[reader], &rules[value.step]) {
        // A step on the whole batch runs after the stretch of its level.
        (None, _) => 0,
        (Some(_), None) => 1,
        (Some(reads), Some(writes)) => {
            let written = plan.steps[value.step].outputs[value.output].meta.shape.len();
            let same_part = reads.reads[r] == Share::Own
                && writes.outputs[value.output] == Share::Own
                && written == plan.steps[reader].reads()[r].meta.shape.len();
            i32::from(!same_part)
        }
    }
}
