//! Verifies sampling plans: everything that the windowed kernels rely on in addition to
//! [`Plan::check`](super::super::plan::Plan::check).

use super::{Buffer, Fused, Step};
use crate::shape::ImageSize;
use crate::tape::op::Op;
use crate::tape::window::{SamplingPlan, Window};
use std::collections::HashSet;
use std::ops::Range;

impl SamplingPlan {
    /// Verifies everything that backends rely on.
    ///
    /// - The plan passes [`Plan::check`](super::super::plan::Plan::check). No two steps write the same
    ///   buffer, and a step that has windows writes only slots.
    /// - A step has windows if and only if it reads the images, or a value that a step with windows writes.
    /// - Every operand of a step that has windows has the same number of elements for each image, unless all
    ///   images share it. The first output of the step has `images` times the elements of its size.
    /// - The draws and the images are outputs with as many elements as the input x.
    /// - Rounds begin in order and hold all windows. Each window is inside the size of its step, and no two
    ///   windows of a step overlap.
    /// - Every position is drawn, in its own round at the latest.
    ///
    /// # Errors
    /// A clause that says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        self.plan.check()?;
        self.check_values()?;
        self.check_starts()?;
        self.check_windows()
    }

    /// Verifies steps and sizes, and the two outputs through which draws become part of the images.
    fn check_values(&self) -> Result<(), String> {
        let plan = &self.plan;
        let x = plan.inputs.get(self.x.0 as usize).ok_or("x is no input of the plan")?.meta.shape;
        let positions = self.image.axes().iter().try_fold(self.images, |len, extent| len.checked_mul(*extent));
        if self.images == 0 || positions != Some(x.len()) {
            return Err(format!("x {x} does not hold {} images of {}", self.images, self.image));
        }
        for (name, output) in [("draws", SamplingPlan::DRAWS), ("images", SamplingPlan::IMAGES)] {
            let value = plan.outputs.get(output).ok_or_else(|| format!("the plan has no output for the {name}"))?.1;
            if value.meta.shape.len() != x.len() || (name == "images") != (value.buffer == Buffer::Input(self.x)) {
                return Err(format!("the {name} are {} in {}", value.meta.shape, value.buffer));
            }
        }
        if self.sizes.len() != plan.steps.len() {
            return Err(format!("{} sizes for {} steps", self.sizes.len(), plan.steps.len()));
        }
        let mut windowed = HashSet::from([Buffer::Input(self.x)]);
        let mut written = HashSet::new();
        for (i, (step, size)) in plan.steps.iter().zip(&self.sizes).enumerate() {
            let fail = |why: String| Err(format!("step {i} ({}, {}): {why}", step.label(), step.at));
            let reads_images = step.reads().iter().any(|o| windowed.contains(&o.buffer));
            if reads_images != size.is_some() {
                let [reads, has] = [reads_images, size.is_some()].map(|yes| if yes { "" } else { "no " });
                return fail(format!("reads {reads}images, but has {has}windows"));
            }
            if let Some(again) = step.outputs.iter().find(|o| !written.insert(o.buffer)) {
                return fail(format!("writes {} again", again.buffer));
            }
            if let Some(size) = size {
                self.check_step(step, *size).or_else(fail)?;
                windowed.extend(step.outputs.iter().map(|o| o.buffer));
            }
        }
        Ok(())
    }

    /// Verifies that the operands of a step with windows divide among the images, and that its first output
    /// has the given size.
    fn check_step(&self, step: &Step, size: ImageSize) -> Result<(), String> {
        let shared = shared_input(&step.op);
        let fused = step.epilogue.iter().filter(|f| !matches!(f, Fused::Bias(_))).filter_map(Fused::operand);
        let inputs = step.inputs.iter().enumerate().filter(|(i, _)| Some(*i) != shared).map(|(_, o)| o);
        for operand in inputs.chain(fused).chain(&step.outputs) {
            if !operand.meta.shape.len().is_multiple_of(self.images) {
                return Err(format!("{} is not the same for each of {} images", operand.meta.shape, self.images));
            }
        }
        if let Some(output) = step.outputs.iter().find(|o| !matches!(o.buffer, Buffer::Slot(_))) {
            return Err(format!("writes {} window by window", output.buffer));
        }
        let written = step.outputs[0].meta.shape;
        let len = size.axes().iter().try_fold(self.images, |len, extent| len.checked_mul(*extent));
        let by_rows = matches!(step.op, Op::Matmul { .. } | Op::Gated);
        let fits = match written.dims() {
            &[n, rows, columns, channels] => n == self.images && size == [rows, columns, channels].into(),
            _ => len == Some(written.len()) && (!by_rows || written.last() == size.channels),
        };
        if fits { Ok(()) } else { Err(format!("writes {written}, not {} images of {size}", self.images)) }
    }

    fn check_starts(&self) -> Result<(), String> {
        let starts = &self.starts;
        let ordered = starts.is_sorted() && starts.first() == Some(&0) && starts.last() == Some(&self.windows.len());
        match starts.len() == self.rounds() + 1 && ordered {
            true => Ok(()),
            false => Err(format!("{} rounds do not hold {} windows in order", self.rounds(), self.windows.len())),
        }
    }

    fn check_windows(&self) -> Result<(), String> {
        let mut seen: Vec<Vec<bool>> =
            self.sizes.iter().map(|size| vec![false; size.map_or(0, ImageSize::dims)]).collect();
        let draws = self.plan.outputs[SamplingPlan::DRAWS].1.buffer;
        for round in 0..self.rounds() {
            for window in self.in_round(round) {
                let fail = |why: &str| Err(format!("round {round}: {window:?} {why}"));
                let Some(Some(size)) = self.sizes.get(window.step as usize).copied() else {
                    return fail("is of no step that has windows");
                };
                let inside = |(range, extent): (Range<usize>, usize)| range.start <= range.end && range.end <= extent;
                if !window.ranges().into_iter().zip(size.axes()).all(inside) || window.padding != 0 {
                    return fail(&format!("reaches beyond {size}"));
                }
                let (step, is_draw) =
                    (window.step as usize, self.plan.steps[window.step as usize].outputs[0].buffer == draws);
                for run in runs(window, size) {
                    if is_draw && run.start < round && !run.is_empty() {
                        return fail("draws a position after its round");
                    }
                    if seen[step][run.clone()].contains(&true) {
                        return fail("computes a position again");
                    }
                    seen[step][run].fill(true);
                }
            }
        }
        let drawing = self.plan.steps.iter().position(|step| step.outputs[0].buffer == draws);
        match drawing.is_some_and(|step| seen[step].iter().all(|drawn| *drawn)) {
            true => Ok(()),
            false => Err("some positions are never drawn".into()),
        }
    }
}

/// Index of the input that all images share: weights or a temperature. `None` if the op has no such input.
fn shared_input(op: &Op) -> Option<usize> {
    match op {
        Op::Conv(_) | Op::Matmul { .. } | Op::RowLstm | Op::DiagonalLstm { .. } => Some(1),
        Op::Categorical | Op::Bernoulli => Some(2),
        _ => None,
    }
}

/// The elements of a window of an image of this size, in runs that are contiguous in memory.
fn runs(window: &Window, size: ImageSize) -> impl Iterator<Item = Range<usize>> {
    let [rows, columns, channels] = window.ranges();
    let pixels =
        rows.flat_map(move |row| columns.clone().map(move |column| (row * size.width + column) * size.channels));
    pixels.map(move |at| at + channels.start..at + channels.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Meta;
    use crate::tape::geometry::Mask;
    use crate::tape::op::{InputId, Param, ParamId, Scalar};
    use crate::tape::plan::Plan;
    use crate::tape::record::ConvAttrs;
    use crate::tape::{InputRole, Tape};

    /// Two images of 3x3x1 through a masked 3x3 and a masked 1x1 convolution, then a draw.
    fn sound() -> SamplingPlan {
        let t = Tape::new();
        let x = t.input_of(InputRole::Images, Meta::f32([2, 3, 3, 1]));
        let weight = |id, shape: [usize; 4]| Param { id: ParamId(id), path: "weight".into(), shape: shape.into() };
        let (first, last) = (weight(0, [3, 3, 1, 4]), weight(1, [1, 1, 4, 1]));
        let y = t.relu(t.conv(x, t.param(&first), ConvAttrs::masked(Mask::A, 3, 1)));
        let y = t.conv(y, t.param(&last), ConvAttrs::masked(Mask::B, 1, 1));
        let u = t.fill(0.5, t.shape(y));
        t.output("draw", t.bernoulli(y, u, t.scalar(Scalar::f32("Temperature", 1.0))));
        let plan = SamplingPlan::new(&Plan::new("sound", &t)).unwrap();
        plan.check().unwrap();
        assert_eq!(plan.sizes.iter().flatten().count(), 3, "{}", plan.plan);
        plan
    }

    /// Breaks a sound plan and asserts the error of `check`.
    #[track_caller]
    fn refused(says: &str, mistake: impl FnOnce(&mut SamplingPlan)) {
        let mut plan = sound();
        mistake(&mut plan);
        let why = plan.check().unwrap_err();
        assert!(why.contains(says), "{why}");
    }

    #[test]
    fn a_window_outside_its_step_is_refused() {
        refused("reaches beyond 3x3x4", |plan| {
            let window = plan.windows.iter_mut().find(|window| window.channels == [0, 4]).unwrap();
            window.channels = [1, 5];
        });
        refused("reaches beyond", |plan| plan.windows[0].rows = [3, 4]);
        refused("reaches beyond", |plan| plan.windows[0].columns = [2, 1]);
        refused("reaches beyond", |plan| plan.windows[0].padding = 1);
        refused("is of no step that has windows", |plan| plan.windows[0].step = 77);
        let fill = |plan: &SamplingPlan| plan.sizes.iter().position(Option::is_none).unwrap() as u32;
        refused("is of no step that has windows", |plan| plan.windows[0].step = fill(plan));
    }

    #[test]
    fn a_position_that_is_computed_twice_late_or_never_is_refused() {
        refused("computes a position again", |plan| {
            let again = plan.windows[plan.starts[1]];
            plan.windows.insert(plan.starts[1], again);
            plan.starts[2..].iter_mut().for_each(|start| *start += 1);
        });
        refused("draws a position after its round", |plan| {
            let draw = plan.plan.steps.len() as u32 - 1;
            let of_round = plan.starts[1]..plan.starts[2];
            let window = plan.windows[of_round].iter_mut().find(|window| window.step == draw).unwrap();
            (window.rows, window.columns) = ([0, 1], [0, 1]);
        });
        refused("never drawn", |plan| {
            plan.windows.pop();
            *plan.starts.last_mut().unwrap() -= 1;
        });
    }

    #[test]
    fn rounds_that_do_not_hold_the_windows_are_refused() {
        refused("rounds do not hold", |plan| plan.starts[0] = 1);
        refused("rounds do not hold", |plan| plan.starts.swap(1, 3));
        refused("rounds do not hold", |plan| *plan.starts.last_mut().unwrap() += 1);
        refused("rounds do not hold", |plan| _ = plan.starts.pop());
    }

    #[test]
    fn sizes_that_are_not_those_of_the_values_are_refused() {
        refused("not 2 images of 3x3x8", |plan| plan.sizes.iter_mut().flatten().next().unwrap().channels = 8);
        refused("5 sizes for 4 steps", |plan| plan.sizes.push(None));
        refused("x [2x3x3x1] does not hold 1 images", |plan| plan.images = 1);
        refused("x [2x3x3x1] does not hold 2 images of 3x3x2", |plan| plan.image.channels = 2);
        refused("x is no input", |plan| plan.x = InputId(3));
        refused("reads images, but has no windows", |plan| *plan.sizes.last_mut().unwrap() = None);
        refused("the images are", |plan| plan.plan.outputs[1].1.buffer = plan.plan.outputs[0].1.buffer);
        refused("no output for the images", |plan| plan.plan.outputs.truncate(1));
        refused("again", |plan| {
            // The logits are written to the slot of the uniform numbers.
            plan.plan.steps[1].outputs[0].buffer = plan.plan.steps[3].inputs[1].buffer;
        });
        refused("too few", |plan| plan.plan.slots[0].len = 1);
    }
}
