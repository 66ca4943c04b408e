//! Gives every value of a divided plan its place.
//!
//! A value that only its stretch reads lives among the values of a micro-batch, of which each thread has one
//! set. Every other value has a slot for the whole batch. Both kinds share memory by the rule of `slots.rs`:
//! values of a micro-batch by the pieces during which they live, slots by the stages.

use super::rules::summed_rows;
use super::schedule::{Schedule, Steps};
use super::{
    BatchSum, Divided, Flow, Home, Piece, Policy, Rule, Share, Stage, Stretch, UNIT_ROWS, Value, View, resized,
};
use crate::tape::plan::{Buffer, Operand, Plan, Slot, Step};
use crate::tape::slots::{Life, assign};
use std::collections::{BTreeMap, HashMap};

/// Floats in a cache line.
const LINE: usize = 16;

impl Divided {
    /// Divides a plan. Where that does not pay, its steps stay on the whole batch.
    ///
    /// In debug builds it panics if the result fails its check.
    pub fn new(plan: &Plan, policy: &Policy) -> Divided {
        let flow = Flow::new(plan);
        let Some(schedule) = Schedule::new(plan, &flow, policy) else { return Divided::undivided(plan) };
        let divided = Lowering::new(plan, &flow, &schedule).lower(policy);
        if cfg!(debug_assertions)
            && let Err(why) = divided.check(plan)
        {
            panic!("plan {} is divided wrongly: {why}\n{divided}", plan.name);
        }
        divided
    }
}

struct Lowering<'a> {
    plan: &'a Plan,
    flow: &'a Flow,
    schedule: &'a Schedule,
    /// The stage of each step.
    stage_of: Vec<usize>,
    /// The slot for the whole batch of each value that has one.
    slots_of: HashMap<Value, u32>,
    /// The slot of each kept slot of the plan.
    kept: BTreeMap<u32, u32>,
    slots: Vec<Slot>,
}

impl<'a> Lowering<'a> {
    fn new(plan: &'a Plan, flow: &'a Flow, schedule: &'a Schedule) -> Self {
        let mut stage_of = vec![0; plan.steps.len()];
        for (stage, steps) in schedule.stages.iter().enumerate() {
            match steps {
                Steps::Whole(step) => stage_of[*step] = stage,
                Steps::Stretch(steps) => steps.iter().for_each(|step| stage_of[*step] = stage),
            }
        }
        let mut lowering =
            Lowering { plan, flow, schedule, stage_of, slots_of: HashMap::new(), kept: BTreeMap::new(), slots: vec![] };
        lowering.place_values_of_the_batch();
        lowering
    }

    /// Assigns slots to the values that more than their stretch reads, to sums, and to what steps on the
    /// whole batch write.
    fn place_values_of_the_batch(&mut self) {
        let last = self.schedule.stages.len();
        let mut lives: BTreeMap<Value, Life> = BTreeMap::new();
        let mut elsewhere: Vec<Value> = vec![];
        for (step, stage) in self.stage_of.iter().enumerate() {
            for value in self.outputs_in_slots(step) {
                lives.insert(value, *stage..=*stage);
            }
        }
        let mut read = |value: Value, stage: usize| {
            if let Some(life) = lives.get_mut(&value) {
                *life = *life.start()..=stage.max(*life.end());
            }
            if stage != self.stage_of[value.step] {
                elsewhere.push(value);
            }
        };
        for (step, sources) in self.flow.reads.iter().enumerate() {
            sources.iter().flatten().for_each(|value| read(*value, self.stage_of[step]));
        }
        self.flow.outputs.iter().flatten().for_each(|value| read(*value, last));
        let is_own = |value: &Value| {
            self.schedule.rules[value.step].as_ref().is_some_and(|rule| rule.outputs[value.output] == Share::Own)
        };
        lives.retain(|value, _| !is_own(value) || elsewhere.contains(value));
        let wanted = |value: &Value| Slot { len: self.written(*value).meta.shape.len(), kept: false };
        let mut all: Vec<Slot> = lives.keys().map(wanted).collect();
        let mut all_lives: Vec<Life> = lives.values().cloned().collect();
        // A kept slot has its place from the first stage to the last.
        let kept = self.plan.slots.iter().enumerate().filter(|(_, slot)| slot.kept);
        let kept: Vec<(usize, Slot)> = kept.map(|(at, slot)| (at, *slot)).collect();
        all.extend(kept.iter().map(|(_, slot)| *slot));
        all_lives.extend(kept.iter().map(|_| 0..=last));
        let (slots, home) = assign(&all, &all_lives);
        self.slots_of = lives.keys().copied().zip(home.iter().copied()).collect();
        self.kept = kept.iter().map(|(at, _)| *at as u32).zip(home[lives.len()..].iter().copied()).collect();
        self.slots = slots;
    }

    fn written(&self, value: Value) -> Operand {
        self.plan.steps[value.step].outputs[value.output]
    }

    /// The outputs of a step that are in slots and not kept.
    fn outputs_in_slots(&self, step: usize) -> impl Iterator<Item = Value> + use<'a> {
        let plan = self.plan;
        let outputs = plan.steps[step].outputs.iter().enumerate();
        let in_slots = outputs
            .filter(|(_, operand)| matches!(operand.buffer, Buffer::Slot(slot) if !plan.slots[slot as usize].kept));
        in_slots.map(move |(output, _)| Value { step, output })
    }

    /// The buffer for the whole batch of an operand that reads or writes `value`; `None` if the value is
    /// among the values of a micro-batch.
    fn buffer(&self, operand: &Operand, value: Option<Value>) -> Option<Buffer> {
        match operand.buffer {
            Buffer::Slot(slot) => match self.kept.get(&slot) {
                Some(slot) => Some(Buffer::Slot(*slot)),
                None => Some(Buffer::Slot(*self.slots_of.get(&value?)?)),
            },
            other => Some(other),
        }
    }

    /// An operand of a step on the whole batch.
    fn whole(&self, operand: &Operand, value: Option<Value>) -> Operand {
        Operand { buffer: self.buffer(operand, value).expect("a value that other stages read has a slot"), ..*operand }
    }

    fn lower(self, policy: &Policy) -> Divided {
        let stages = self.schedule.stages.iter().map(|steps| match steps {
            Steps::Whole(index) => Stage::Whole { index: *index, step: self.whole_step(*index) },
            Steps::Stretch(steps) => Stage::Stretch(self.stretch(steps, policy)),
        });
        let stages = stages.collect();
        let outputs = self.plan.outputs.iter().zip(&self.flow.outputs);
        let outputs = outputs.map(|((_, operand), value)| self.whole(operand, *value)).collect();
        Divided { slots: self.slots, outputs, stages }
    }

    fn whole_step(&self, index: usize) -> Step {
        let step = &self.plan.steps[index];
        let outputs = step.outputs.iter().enumerate();
        let outputs = outputs.map(|(output, o)| self.whole(o, Some(Value { step: index, output }))).collect();
        with_operands(step, &self.flow.reads[index], |operand, value| self.whole(operand, value), outputs)
    }

    fn stretch(&self, steps: &[usize], policy: &Policy) -> Stretch {
        let Schedule { images, groups, .. } = *self.schedule;
        let group = images / groups;
        let rows = steps.iter().filter_map(|step| summed_rows(&self.plan.steps[*step], images)).min();
        let is_divisor = |count: &usize| group.is_multiple_of(*count);
        let unit =
            rows.map_or(1, |rows| (1..=group).filter(is_divisor).find(|u| u * rows >= UNIT_ROWS).unwrap_or(group));
        let (values, locals, places) = self.values_of_a_microbatch(steps);
        let microbatch_len =
            |microbatch: usize| locals.iter().map(|slot| (slot.len * microbatch).next_multiple_of(LINE)).sum::<usize>();
        let mut wholes = (unit..=group).rev().filter(|count| is_divisor(count) && count.is_multiple_of(unit));
        let fits = |count: &usize| 4 * microbatch_len(*count) <= policy.microbatch_bytes;
        let microbatch = wholes.find(fits).unwrap_or(unit);
        let mut starts = vec![];
        let mut local_len = 0;
        for slot in &locals {
            starts.push(local_len);
            local_len += (slot.len * microbatch).next_multiple_of(LINE);
        }
        let homes: HashMap<Value, usize> =
            values.iter().copied().zip(places.iter().map(|at| starts[*at as usize])).collect();
        let mut stretch = Stretch {
            images,
            groups,
            unit,
            microbatch,
            views: vec![],
            pieces: vec![],
            sums: vec![],
            local_len,
            sums_len: 0,
            shares_len: 0,
        };
        for index in steps {
            let rule = self.schedule.rules[*index].as_ref().expect("a step of a stretch has a rule");
            let piece = self.piece(*index, rule, &homes, &mut stretch);
            stretch.pieces.push(piece);
        }
        stretch
    }

    /// The values that only this stretch reads, the memory that they share, with lengths for one image, and
    /// the place of each value there.
    fn values_of_a_microbatch(&self, steps: &[usize]) -> (Vec<Value>, Vec<Slot>, Vec<u32>) {
        let mut lives: BTreeMap<Value, Life> = BTreeMap::new();
        for (at, step) in steps.iter().enumerate() {
            for value in self.flow.reads[*step].iter().flatten() {
                if let Some(life) = lives.get_mut(value) {
                    *life = *life.start()..=at;
                }
            }
            let own = self.outputs_in_slots(*step).filter(|value| !self.slots_of.contains_key(value));
            lives.extend(own.map(|value| (value, at..=at)));
        }
        let images = self.schedule.images;
        let wanted: Vec<Slot> =
            lives.keys().map(|v| Slot { len: self.written(*v).meta.shape.len() / images, kept: false }).collect();
        let (slots, places) = assign(&wanted, &lives.values().cloned().collect::<Vec<_>>());
        (lives.into_keys().collect(), slots, places)
    }

    fn piece(&self, index: usize, rule: &Rule, homes: &HashMap<Value, usize>, stretch: &mut Stretch) -> Piece {
        let step = &self.plan.steps[index];
        let by_unit = rule.sums();
        let count = if by_unit { stretch.unit } else { stretch.microbatch };
        let small = resized(step, rule, count, stretch.images);
        let home = |operand: &Operand, value: Option<Value>| match self.buffer(operand, value) {
            Some(buffer) => Home::Plan(buffer),
            None => Home::Local(homes[&value.expect("a value of a micro-batch has a writer")]),
        };
        let stride = |operand: &Operand, share: Share| match share {
            Share::Own => operand.meta.shape.len() / stretch.images,
            Share::All | Share::Sum => 0,
        };
        let mut homes_of_reads = vec![];
        for ((operand, share), value) in step.reads().iter().zip(&rule.reads).zip(&self.flow.reads[index]) {
            homes_of_reads.push(View { home: home(operand, *value), stride: stride(operand, *share) });
        }
        let mut outputs = vec![];
        let mut share_at = 0;
        for (output, operand) in step.outputs.iter().enumerate() {
            let value = Value { step: index, output };
            let share = rule.outputs[output];
            let home = match (share, home(operand, Some(value))) {
                (Share::Sum, Home::Plan(into)) => {
                    let len = operand.meta.shape.len();
                    stretch.sums.push(BatchSum { value, len, at: stretch.sums_len, share_at, into });
                    stretch.sums_len += len.next_multiple_of(LINE);
                    share_at += len.next_multiple_of(LINE);
                    Home::Sum(stretch.sums.len() - 1)
                }
                (_, home) => home,
            };
            outputs.push(View { home, stride: stride(operand, share) });
        }
        stretch.shares_len = stretch.shares_len.max(share_at);
        let mut view = |view: View| {
            let known = stretch.views.iter().position(|other| *other == view);
            let at = known.unwrap_or_else(|| {
                stretch.views.push(view);
                stretch.views.len() - 1
            });
            Buffer::Slot(at as u32)
        };
        let reads: Vec<Buffer> = homes_of_reads.into_iter().map(&mut view).collect();
        let outputs: Vec<Buffer> = outputs.into_iter().map(&mut view).collect();
        let outputs = small.outputs.iter().zip(outputs).map(|(o, buffer)| Operand { buffer, ..*o }).collect();
        let mut next = reads.into_iter();
        let nothing = vec![None; small.reads().len()];
        let step =
            with_operands(&small, &nothing, |o, _| Operand { buffer: next.next().expect("a view"), ..*o }, outputs);
        Piece { index, step, by_unit }
    }
}

/// The step with other operands. `read` maps the operands that it reads, in the order of [`Step::reads`],
/// each with the value that it reads.
fn with_operands(
    step: &Step,
    values: &[Option<Value>],
    mut read: impl FnMut(&Operand, Option<Value>) -> Operand,
    outputs: Vec<Operand>,
) -> Step {
    let mut values = values.iter().copied();
    let mut next = |operand: &Operand| read(operand, values.next().expect("a value for every operand"));
    Step {
        op: step.op.clone(),
        inputs: step.inputs.iter().map(&mut next).collect(),
        epilogue: step.epilogue.iter().map(|fused| fused.map(&mut next)).collect(),
        outputs,
        at: step.at,
        scope: step.scope.clone(),
    }
}
