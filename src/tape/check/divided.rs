//! Verifies divided plans. The CPU backend calls it for every plan that it divides.

use crate::tape::divide::{BatchSum, Divided, Flow, Home, Piece, Share, Stage, Stretch, Value, View, resized, rule};
use crate::tape::op::ParamId;
use crate::tape::plan::{Buffer, Operand, Plan};
use std::collections::{HashMap, HashSet};
use std::ops::Range;

impl Divided {
    /// Verifies a division of `plan`, which passes [`Plan::check`].
    ///
    /// - Every step of the plan runs once: on the whole batch, or as a piece of a stretch, with the op,
    ///   attributes and shapes that the division rule of the step gives for a micro-batch or a unit.
    /// - Every operand reads the value that it reads in the plan, from a place that is long enough. So no
    ///   value is overwritten before its last reader has run.
    /// - Groups, units and micro-batches divide each other, and a view of a part is as long as the part of
    ///   its images. So two groups never write the same words, nor does one write what another reads.
    /// - A stretch writes no parameter, input or scalar, and no buffer that it reads as a whole.
    /// - The places of a stretch's sums do not overlap, and neither do those of the shares of one piece.
    ///
    /// # Errors
    /// A clause that names the step and what is wrong with it.
    pub fn check(&self, plan: &Plan) -> Result<(), String> {
        let flow = Flow::new(plan);
        let mut state = State {
            divided: self,
            plan,
            flow: &flow,
            slots: vec![None; self.slots.len()],
            stored: HashMap::new(),
            run: HashSet::new(),
        };
        for stage in &self.stages {
            match stage {
                Stage::Whole { index, step } => {
                    let of_plan = plan.steps.get(*index).ok_or("there is no such step")?;
                    let same = of_plan.op == step.op && of_plan.epilogue.len() == step.epilogue.len();
                    state.whole(*index, same, &step.reads(), &step.outputs).map_err(|why| named(plan, *index, &why))?;
                }
                Stage::Stretch(stretch) => state.stretch(stretch)?,
            }
        }
        if let Some(left) = (0..plan.steps.len()).find(|step| !state.run.contains(step)) {
            return Err(named(plan, left, "never runs"));
        }
        for ((operand, (name, of_plan)), value) in self.outputs.iter().zip(&plan.outputs).zip(&flow.outputs) {
            state.reads(operand, of_plan, *value).map_err(|why| format!("output {name:?}: {why}"))?;
        }
        if self.outputs.len() == plan.outputs.len() { Ok(()) } else { Err("has other outputs than the plan".into()) }
    }
}

fn named(plan: &Plan, index: usize, why: &str) -> String {
    format!("step {index} ({}): {why}", plan.steps[index].label())
}

fn ensure(holds: bool, why: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why.into()) }
}

/// The state of the check before a stage.
struct State<'a> {
    divided: &'a Divided,
    plan: &'a Plan,
    flow: &'a Flow,
    /// The value in each slot.
    slots: Vec<Option<Value>>,
    /// The new value of each parameter that has been stored.
    stored: HashMap<ParamId, Value>,
    /// The steps that have run.
    run: HashSet<usize>,
}

impl State<'_> {
    /// The value in a buffer of the whole batch.
    fn value(&self, buffer: Buffer, is_stored: bool) -> Option<Value> {
        match buffer {
            Buffer::Slot(slot) => self.slots.get(slot as usize).copied().flatten(),
            Buffer::Param(id) if is_stored => self.stored.get(&id).copied(),
            Buffer::Param(_) | Buffer::Input(_) | Buffer::Scalar(_) => None,
        }
    }

    /// Verifies an operand on the whole batch that stands for `of_plan`, which reads `value`.
    fn reads(&self, operand: &Operand, of_plan: &Operand, value: Option<Value>) -> Result<(), String> {
        ensure(operand.meta == of_plan.meta, "reads another shape than in the plan")?;
        self.holds(operand.buffer, of_plan, value)
    }

    /// Verifies that a buffer holds the value that `of_plan` reads, and is long enough.
    fn holds(&self, buffer: Buffer, of_plan: &Operand, value: Option<Value>) -> Result<(), String> {
        let is_same = match (buffer, of_plan.buffer) {
            (Buffer::Slot(slot), Buffer::Slot(of_plan)) => {
                let kept = self.plan.slots[of_plan as usize].kept;
                self.divided.slots.get(slot as usize).is_some_and(|slot| slot.kept == kept)
            }
            (Buffer::Slot(_), _) | (_, Buffer::Slot(_)) => false,
            (here, there) => here == there,
        };
        ensure(is_same, "reads another buffer than in the plan")?;
        if let Buffer::Slot(slot) = buffer {
            let len = self.divided.slots[slot as usize].len;
            ensure(of_plan.meta.shape.len() <= len, "reads beyond the end of its slot")?;
        }
        let is_old = matches!(buffer, Buffer::Param(id) if !of_plan.is_stored && self.stored.contains_key(&id));
        ensure(!is_old, "reads a parameter after it has been replaced")?;
        ensure(self.value(buffer, of_plan.is_stored) == value, "reads another value than in the plan")
    }

    /// Verifies a step on the whole batch, and records what it writes.
    fn whole(&mut self, index: usize, same: bool, reads: &[Operand], outputs: &[Operand]) -> Result<(), String> {
        let of_plan = &self.plan.steps[index];
        let (plan_reads, values) = (of_plan.reads(), &self.flow.reads[index]);
        ensure(same && reads.len() == plan_reads.len(), "is another op than in the plan")?;
        for ((operand, of_plan), value) in reads.iter().zip(&plan_reads).zip(values) {
            self.reads(operand, of_plan, *value)?;
        }
        ensure(outputs.len() == of_plan.outputs.len(), "has other outputs than in the plan")?;
        for (output, (operand, of_plan)) in outputs.iter().zip(&of_plan.outputs).enumerate() {
            ensure(operand.meta == of_plan.meta, "writes another shape than in the plan")?;
            let replaces = matches!(operand.buffer, Buffer::Param(_)) && operand.buffer == of_plan.buffer;
            let apart = reads.iter().chain(&outputs[..output]).all(|other| other.buffer != operand.buffer);
            ensure(apart || replaces, "writes a buffer that it reads")?;
            self.writes(operand.buffer, of_plan, Value { step: index, output })?;
        }
        ensure(self.run.insert(index), "runs twice")
    }

    /// Records that a buffer of the whole batch holds a value that the plan writes to `of_plan`.
    fn writes(&mut self, buffer: Buffer, of_plan: &Operand, value: Value) -> Result<(), String> {
        match (buffer, of_plan.buffer) {
            (Buffer::Slot(slot), Buffer::Slot(slot_of_plan)) => {
                let kept = self.plan.slots[slot_of_plan as usize].kept;
                let place = self.divided.slots.get(slot as usize).ok_or("writes a slot that does not exist")?;
                ensure(place.len >= of_plan.meta.shape.len() && place.kept == kept, "writes to a wrong slot")?;
                self.slots[slot as usize] = Some(value);
                Ok(())
            }
            (Buffer::Param(here), Buffer::Param(there)) if here == there => {
                self.stored.insert(here, value);
                Ok(())
            }
            _ => Err("writes another buffer than in the plan".into()),
        }
    }

    /// Verifies a stretch, and records what it writes.
    fn stretch(&mut self, stretch: &Stretch) -> Result<(), String> {
        let Stretch { images, groups, unit, microbatch, .. } = *stretch;
        let divides = |part: usize, whole: usize| part > 0 && whole.is_multiple_of(part);
        let divided = divides(groups, images) && divides(microbatch, images / groups) && divides(unit, microbatch);
        ensure(divided, "a stretch has groups, micro-batches or units that do not divide each other")?;
        let mut locals = Locals { len: stretch.local_len, values: vec![] };
        let mut written: Vec<(Buffer, usize)> = vec![];
        let mut read: Vec<(Buffer, usize)> = vec![];
        let mut sums: Vec<(Value, usize)> = vec![];
        for piece in &stretch.pieces {
            let inside =
                Inside { stretch, locals: &mut locals, written: &mut written, read: &mut read, sums: &mut sums };
            self.piece(piece, inside)
                .map_err(|why| named(self.plan, piece.index.min(self.plan.steps.len() - 1), &why))?;
        }
        for (buffer, stride) in &written {
            let others = read.iter().filter(|(other, _)| other == buffer);
            ensure(others.clone().all(|(_, other)| other == stride), "a stretch writes what it reads in another way")?;
        }
        ensure(sums.len() == stretch.sums.len(), "a stretch has a sum that no piece adds up")?;
        for (value, sum) in sums {
            let sum = &stretch.sums[sum];
            ensure(sum.value == value, "a stretch has a sum of another step")?;
            ensure(
                !written.iter().chain(&read).any(|(other, _)| *other == sum.into),
                "a stretch uses the place of a sum",
            )?;
            self.writes(sum.into, &self.plan.steps[value.step].outputs[value.output], value)?;
        }
        apart(stretch.sums.iter().map(|sum| sum.at..sum.at + sum.len), stretch.sums_len)
    }

    fn piece(&mut self, piece: &Piece, inside: Inside) -> Result<(), String> {
        let Inside { stretch, locals, written, read, sums } = inside;
        let of_plan = self.plan.steps.get(piece.index).ok_or("is no step of the plan")?;
        let rule = rule(of_plan, stretch.images).ok_or("does not divide among images")?;
        ensure(piece.by_unit == rule.sums(), "runs by units without a sum, or not by units with one")?;
        let count = if piece.by_unit { stretch.unit } else { stretch.microbatch };
        let wanted = resized(of_plan, &rule, count, stretch.images);
        let metas = |operands: &[Operand]| operands.iter().map(|o| o.meta).collect::<Vec<_>>();
        let reads = piece.step.reads();
        let same = wanted.op == piece.step.op
            && metas(&wanted.reads()) == metas(&reads)
            && metas(&wanted.outputs) == metas(&piece.step.outputs);
        ensure(same, "has other attributes or shapes than its rule gives")?;
        let view = |operand: &Operand| match operand.buffer {
            Buffer::Slot(view) => stretch.views.get(view as usize).copied().ok_or("uses a view that does not exist"),
            _ => Err("uses a buffer that is no view"),
        };
        let part = |operand: &Operand, share: Share| match share {
            Share::Own => operand.meta.shape.len() / stretch.images,
            Share::All | Share::Sum => 0,
        };
        let plan_reads = of_plan.reads();
        for (i, operand) in reads.iter().enumerate() {
            let (View { home, stride }, of_plan, value) =
                (view(operand)?, &plan_reads[i], self.flow.reads[piece.index][i]);
            ensure(stride == part(of_plan, rule.reads[i]), "reads a part of another length")?;
            match home {
                // What this stretch writes to a buffer of the batch, its pieces may read in equal parts.
                Home::Plan(buffer) if written.contains(&(buffer, stride)) => {
                    ensure(stride > 0 && self.value(buffer, false) == value, "reads another value than in the plan")?;
                }
                Home::Plan(buffer) => {
                    self.holds(buffer, of_plan, value)?;
                    read.push((buffer, stride));
                }
                Home::Local(at) => locals.read(at..at + stride * stretch.microbatch, value)?,
                Home::Sum(_) => return Err("reads a sum that is not complete".into()),
            }
        }
        let mut shares = vec![];
        for (output, operand) in piece.step.outputs.iter().enumerate() {
            let (View { home, stride }, of_plan) = (view(operand)?, &of_plan.outputs[output]);
            let value = Value { step: piece.index, output };
            ensure(stride == part(of_plan, rule.outputs[output]), "writes a part of another length")?;
            let others = reads.iter().chain(&piece.step.outputs[..output]);
            ensure(others.clone().all(|other| other.buffer != operand.buffer), "writes what it reads")?;
            match home {
                Home::Plan(buffer @ Buffer::Slot(_)) if rule.outputs[output] == Share::Own => {
                    ensure(!read.iter().any(|(other, _)| *other == buffer), "writes a slot that the stretch reads")?;
                    ensure(!written.iter().any(|(other, _)| *other == buffer), "writes a slot for the second time")?;
                    self.writes(buffer, of_plan, value)?;
                    written.push((buffer, stride));
                }
                Home::Local(at) if rule.outputs[output] == Share::Own => {
                    let place = at..at + stride * stretch.microbatch;
                    ensure(!locals.overlaps_a_read(&place, &reads, stretch), "writes over a value that it reads")?;
                    locals.write(place, value)?;
                }
                Home::Sum(at) if rule.outputs[output] == Share::Sum => {
                    let BatchSum { len, share_at, .. } =
                        *stretch.sums.get(at).ok_or("adds to a sum that does not exist")?;
                    ensure(len == of_plan.meta.shape.len(), "adds to a sum of another length")?;
                    shares.push(share_at..share_at + len);
                    sums.push((value, at));
                }
                _ => return Err("writes to a place of another kind than its rule gives".into()),
            }
        }
        apart(shares.into_iter(), stretch.shares_len)?;
        ensure(self.run.insert(piece.index), "runs twice")
    }
}

/// What the pieces of a stretch have used so far.
struct Inside<'a> {
    stretch: &'a Stretch,
    locals: &'a mut Locals,
    /// Buffers of the batch, with the words from image to image.
    written: &'a mut Vec<(Buffer, usize)>,
    read: &'a mut Vec<(Buffer, usize)>,
    /// Sums, by the value and the index.
    sums: &'a mut Vec<(Value, usize)>,
}

/// The values of a micro-batch.
struct Locals {
    len: usize,
    values: Vec<(Range<usize>, Value)>,
}

impl Locals {
    fn read(&self, place: Range<usize>, value: Option<Value>) -> Result<(), String> {
        let holds = self.values.iter().any(|(held, of)| *held == place && Some(*of) == value);
        ensure(holds, "reads another value of the micro-batch than in the plan")
    }

    fn write(&mut self, place: Range<usize>, value: Value) -> Result<(), String> {
        ensure(place.end <= self.len, "writes beyond the values of a micro-batch")?;
        self.values.retain(|(held, _)| !meet(held, &place));
        self.values.push((place, value));
        Ok(())
    }

    fn overlaps_a_read(&self, place: &Range<usize>, reads: &[Operand], stretch: &Stretch) -> bool {
        reads.iter().any(|operand| match operand.buffer {
            Buffer::Slot(view) => match stretch.views[view as usize] {
                View { home: Home::Local(at), stride } => meet(&(at..at + stride * stretch.microbatch), place),
                _ => false,
            },
            _ => false,
        })
    }
}

fn meet(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

/// Verifies that ranges are inside `len` and do not overlap.
fn apart(ranges: impl Iterator<Item = Range<usize>>, len: usize) -> Result<(), String> {
    let mut ranges: Vec<Range<usize>> = ranges.collect();
    ranges.sort_by_key(|range| range.start);
    let inside = ranges.iter().all(|range| range.end <= len);
    ensure(inside && ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "sums overlap")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Meta;
    use crate::tape::Tape;
    use crate::tape::divide::Policy;
    use crate::tape::op::{Op, Param};
    use crate::tape::record::ConvAttrs;

    fn weight(id: u32, shape: [usize; 4]) -> Param {
        Param { id: ParamId(id), path: format!("params/{id}").into(), shape: shape.into() }
    }

    /// Two convolutions and the gradients of a loss, for eight images in four groups.
    fn sound() -> (Plan, Divided) {
        let t = Tape::new();
        let x = t.input("x", Meta::f32([8, 4, 4, 2]));
        let weights = [t.param(&weight(0, [3, 3, 2, 4])), t.param(&weight(1, [1, 1, 4, 3]))];
        let pad = ConvAttrs { pad: [1, 1], ..ConvAttrs::default() };
        let hidden = t.tanh(t.conv(x, weights[0], pad));
        let y = t.conv(hidden, weights[1], ConvAttrs::default());
        let loss = t.mean(t.mul(y, y));
        t.output("loss", loss);
        t.output("hidden", hidden);
        for (i, gradient) in t.grad(loss, &weights).into_iter().enumerate() {
            t.output(&format!("dw{i}"), gradient);
        }
        let plan = Plan::new("sound", &t);
        let divided = Divided::new(&plan, &Policy { microbatch_bytes: usize::MAX, most_groups: 4, always: true });
        divided.check(&plan).unwrap();
        (plan, divided)
    }

    fn stretch(divided: &mut Divided) -> &mut Stretch {
        let stretches = divided.stages.iter_mut().filter_map(|stage| match stage {
            Stage::Stretch(stretch) => Some(stretch),
            Stage::Whole { .. } => None,
        });
        stretches.max_by_key(|stretch| stretch.pieces.len()).expect("a stretch")
    }

    /// Breaks a sound division, and verifies that the check refuses it with these words.
    #[track_caller]
    fn refused(words: &str, mistake: impl FnOnce(&mut Divided)) {
        let (plan, mut divided) = sound();
        mistake(&mut divided);
        let why = divided.check(&plan).expect_err(words);
        assert!(why.contains(words), "{why}");
    }

    #[test]
    fn the_division_has_one_long_stretch_with_sums() {
        let (plan, mut divided) = sound();
        let stretch = stretch(&mut divided);
        assert_eq!((stretch.groups, stretch.group(), stretch.microbatch), (4, 2, 2), "{plan}{stretch}");
        assert!(stretch.sums.len() == 3 && stretch.pieces.iter().filter(|piece| piece.by_unit).count() == 3);
        assert!(stretch.views.iter().any(|view| matches!(view.home, Home::Local(_))), "{stretch}");
    }

    #[test]
    fn parts_that_do_not_divide_each_other_are_refused() {
        refused("do not divide", |divided| stretch(divided).groups = 3);
        refused("do not divide", |divided| stretch(divided).unit = 0);
        refused("do not divide", |divided| stretch(divided).microbatch = 3);
    }

    #[test]
    fn a_step_that_runs_twice_or_never_is_refused() {
        refused("never runs", |divided| _ = divided.stages.pop());
        refused("a sum that no piece adds up", |divided| _ = stretch(divided).pieces.pop());
        refused("runs twice", |divided| {
            let stages = divided.stages.clone();
            divided.stages.extend(stages.into_iter().filter(|stage| matches!(stage, Stage::Whole { .. })).take(1));
        });
    }

    #[test]
    fn a_value_that_is_read_too_early_or_was_written_over_is_refused() {
        refused("reads another value", |divided| stretch(divided).pieces.reverse());
        refused("reads another value", |divided| divided.stages.reverse());
        refused("", |divided| {
            stretch(divided).views.iter_mut().for_each(|view| {
                if let Home::Local(at) = &mut view.home {
                    *at = 0;
                }
            });
        });
    }

    #[test]
    fn places_that_are_too_short_are_refused() {
        refused("beyond the values of a micro-batch", |divided| stretch(divided).local_len = 1);
        refused("sums overlap", |divided| stretch(divided).sums_len -= 16);
        refused("sums overlap", |divided| stretch(divided).shares_len = 0);
        refused("sums overlap", |divided| {
            let sums = &mut stretch(divided).sums;
            sums[1].at = sums[0].at;
        });
        refused("slot", |divided| divided.slots.iter_mut().for_each(|slot| slot.len = 0));
    }

    #[test]
    fn views_and_shapes_that_differ_from_the_rule_are_refused() {
        refused("a part of another length", |divided| stretch(divided).views.iter_mut().for_each(|v| v.stride += 1));
        refused("by units", |divided| stretch(divided).pieces[0].by_unit ^= true);
        refused("attributes or shapes", |divided| {
            let convolves = |piece: &&mut Piece| matches!(piece.step.op, Op::Conv(_));
            let piece = stretch(divided).pieces.iter_mut().find(convolves).expect("a convolution");
            if let Op::Conv(g) = &mut piece.step.op {
                g.n *= 2;
            }
        });
        refused("view that does not exist", |divided| stretch(divided).views.clear());
        refused("another length", |divided| stretch(divided).sums[0].len += 1);
        refused("a sum of another step", |divided| stretch(divided).sums[0].value.output += 1);
    }
}
