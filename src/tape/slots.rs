//! Assigns the values of a plan to slots, so that values share memory.
//!
//! The whole plan is known before anything runs, so values are placed from the largest to the smallest. Each
//! value goes into the smallest slot whose values it does not overlap in time, or into a new slot if there
//! is none ("greedy by size", Pisarchyk & Lee, "Efficient memory management for deep neural net inference",
//! 2020). A slot is therefore as large as its first value and never grows.

use super::plan::{Buffer, Fused, Operand, Plan, Slot};
use std::ops::RangeInclusive;

/// The range of steps in which a value must not be overwritten: from the step that writes it to the last
/// step that reads it.
pub(super) type Life = RangeInclusive<usize>;

/// Maps one-slot-per-value numbering to the final, shared slots. A step's outputs never share a slot with
/// its inputs. The outputs of the plan live until its end, and each kept output has a slot of its own.
pub(super) fn share(plan: &mut Plan) {
    let (slots, home) = assign(&plan.slots, &lives(plan));
    plan.slots = slots;
    operands(plan).for_each(|operand| {
        if let Buffer::Slot(slot) = &mut operand.buffer {
            *slot = home[*slot as usize];
        }
    });
}

/// Assigns each value to a slot of its length or longer, so that no two values in a slot live at the same
/// time. Kept values share their slots with no others. Returns the slots, and the slot of each value.
pub(super) fn assign(values: &[Slot], lives: &[Life]) -> (Vec<Slot>, Vec<u32>) {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by_key(|value| (usize::MAX - values[*value].len, *lives[*value].start()));
    let mut slots: Vec<(Slot, Vec<Life>)> = vec![];
    let mut home = vec![0u32; values.len()];
    for value in order {
        let (life, wanted) = (&lives[value], values[value]);
        let fits = |(slot, tenants): &(Slot, Vec<Life>)| {
            !slot.kept && !wanted.kept && tenants.iter().all(|other| !meet(life, other))
        };
        // Later slots are not larger, so the last slot that fits is the smallest.
        let slot = slots.iter().rposition(fits).unwrap_or_else(|| {
            slots.push((wanted, vec![]));
            slots.len() - 1
        });
        slots[slot].1.push(life.clone());
        home[value] = slot as u32;
    }
    (slots.into_iter().map(|(slot, _)| slot).collect(), home)
}

fn meet(a: &Life, b: &Life) -> bool {
    a.start() <= b.end() && b.start() <= a.end()
}

/// The life of each value, indexed by its slot before sharing.
fn lives(plan: &Plan) -> Vec<Life> {
    let mut lives: Vec<Option<Life>> = vec![None; plan.slots.len()];
    let mut touch = |operand: &Operand, at: usize| {
        if let Buffer::Slot(slot) = operand.buffer {
            let life = &mut lives[slot as usize];
            *life = Some(life.as_ref().map_or(at, |life| *life.start())..=at);
        }
    };
    for (at, step) in plan.steps.iter().enumerate() {
        step.reads().iter().chain(&step.outputs).for_each(|operand| touch(operand, at));
    }
    plan.outputs.iter().for_each(|(_, operand)| touch(operand, plan.steps.len()));
    lives.into_iter().map(|life| life.expect("a slot has a value")).collect()
}

/// Every operand of a plan.
fn operands(plan: &mut Plan) -> impl Iterator<Item = &mut Operand> {
    let steps = plan.steps.iter_mut().flat_map(|step| {
        let fused = step.epilogue.iter_mut().filter_map(Fused::operand_mut);
        step.inputs.iter_mut().chain(&mut step.outputs).chain(fused)
    });
    steps.chain(plan.outputs.iter_mut().map(|(_, operand)| operand))
}

#[cfg(test)]
mod tests {
    use crate::shape::Meta;
    use crate::tape::Tape;
    use crate::tape::op::Unary;
    use crate::tape::plan::Plan;

    /// A large value reuses the slot of a large value that is no longer needed. It does not enlarge a small
    /// slot.
    #[test]
    fn slots_are_as_large_as_their_largest_value_and_as_few_as_lives_allow() {
        let t = Tape::new();
        let x = t.input("x", Meta::f32([8, 100]));
        let mut y = x;
        for _ in 0..6 {
            // Values of 800, 8, 8 and 800 elements. At most two large values are alive at once. The small
            // values share the large slots and one small slot.
            y = t.unary(Unary::Tanh, y);
            let narrow = t.unary(Unary::Exp, t.sum_rows(y));
            y = t.expand(t.reshape(narrow, [8, 1]), [8, 100]);
        }
        t.output("y", t.unary(Unary::Exp, y));
        let plan = Plan::new("test", &t);
        let mut sizes: Vec<usize> = plan.slots.iter().map(|slot| slot.len).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [8, 800, 800], "{plan}");
    }
}
