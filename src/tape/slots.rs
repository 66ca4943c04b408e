//! Which values of a plan share memory.
//!
//! The whole plan is known before anything runs, so values are placed largest first: each into the smallest
//! slot whose tenants it never meets, into a new one where there is none ("greedy by size", Pisarchyk & Lee,
//! "Efficient memory management for deep neural net inference", 2020). A slot is thus as large as its first
//! tenant and never grows.

use super::plan::{Buffer, Fused, Operand, Plan, Slot};
use std::ops::RangeInclusive;

/// The steps between which a value must not be overwritten: from the one that writes it to the last one that
/// reads it.
type Life = RangeInclusive<usize>;

/// Gives values of a plan whose slots are one a value their final slots. A step's outputs never share with
/// its inputs; outputs of the plan live to its end, and kept ones alone.
pub(super) fn share(plan: &mut Plan) {
    let lives = lives(plan);
    let mut order: Vec<usize> = (0..lives.len()).collect();
    order.sort_by_key(|value| (usize::MAX - plan.slots[*value].len, *lives[*value].start()));
    let mut slots: Vec<(Slot, Vec<Life>)> = vec![];
    let mut home = vec![0u32; lives.len()];
    for value in order {
        let (life, wanted) = (&lives[value], plan.slots[value]);
        let fits = |(slot, tenants): &(Slot, Vec<Life>)| {
            !slot.kept && !wanted.kept && tenants.iter().all(|other| !meet(life, other))
        };
        // Later slots are smaller.
        let slot = slots.iter().rposition(fits).unwrap_or_else(|| {
            slots.push((wanted, vec![]));
            slots.len() - 1
        });
        slots[slot].1.push(life.clone());
        home[value] = slot as u32;
    }
    plan.slots = slots.into_iter().map(|(slot, _)| slot).collect();
    operands(plan).for_each(|operand| {
        if let Buffer::Slot(slot) = &mut operand.buffer {
            *slot = home[*slot as usize];
        }
    });
}

fn meet(a: &Life, b: &Life) -> bool {
    a.start() <= b.end() && b.start() <= a.end()
}

/// The life of each value, by its slot.
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

    /// A large value takes the place of a large one that is gone, not of a small one that would have to
    /// grow.
    #[test]
    fn slots_are_as_large_as_their_largest_value_and_as_few_as_lives_allow() {
        let t = Tape::new();
        let x = t.input("x", Meta::f32([8, 100]));
        let mut y = x;
        for _ in 0..6 {
            // 800 elements, then 8, then 8, then 800 again: at most two large values meet, and small ones
            // find the other place.
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
