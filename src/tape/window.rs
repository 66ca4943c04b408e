//! Schedules sampling position by position without repeated work.
//!
//! A [`SamplingPlan`] is a plan that draws every position of an image x given the positions before it, with
//! one slot per value, and a schedule. The schedule has one *round* per position of x. A round is a list of
//! *windows*, which are rectangles of positions of one step. Round `t` computes what becomes computable once
//! `t` positions are drawn. It ends with the draw of position `t`, which then becomes part of x. No position
//! of a step is computed twice, because values of earlier rounds stay in their slots. An image therefore
//! costs one forward pass.
//!
//! The schedule is derived from the plan alone and works for any network. It is built on `times.rs`, which
//! has the rule of each op.

use super::InputRole;
use super::op::{InputId, Op};
use super::plan::{Buffer, Fused, Operand, Plan, Precision, Slot, Step};
use super::times::{self, Read, Times};
use crate::error::{Error, Result};
use crate::shape::ImageSize;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// Name of the output that holds a draw of every position of the images, given the positions before it.
pub(crate) const DRAW: &str = "draw";
/// Name of the output that holds the finished images.
const IMAGES: &str = InputRole::Images.name();

/// A rectangle of positions of one step that are computed together, in all images of the batch. The ranges
/// of rows, columns and channels are half-open and refer to the first output of the step, whose size
/// is in `SamplingPlan::sizes`. All fields are words, so that a device can interpret a
/// table of windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C)]
pub struct Window {
    /// Index of the step.
    pub step: u32,
    /// First row and the one after the last.
    pub rows: [u32; 2],
    /// First column and the one after the last.
    pub columns: [u32; 2],
    /// First channel and the one after the last.
    pub channels: [u32; 2],
    /// Always 0.
    pub padding: u32,
}

impl Window {
    /// Its rows, columns and channels.
    pub(crate) fn ranges(&self) -> [Range<usize>; 3] {
        [self.rows, self.columns, self.channels].map(|[start, end]| start as usize..end as usize)
    }
}

/// A plan with a schedule of windows.
#[derive(Clone, Debug)]
pub struct SamplingPlan {
    /// The plan, with one slot per value. Its outputs are `draw`, the images, and the other outputs of the
    /// original plan. Positions that depend on the last position of x are not computed.
    pub(crate) plan: Plan,
    /// The input that holds the images.
    pub(crate) x: InputId,
    /// The size of an image.
    pub(crate) image: ImageSize,
    /// Images in a batch.
    pub(crate) images: usize,
    /// The size of the first output of each step. `None` for a step that does not depend on x; such steps
    /// run whole, in order, before the first round.
    pub(crate) sizes: Vec<Option<ImageSize>>,
    /// All windows, in the order of rounds, and within a round in the order of steps. Within a step no
    /// window reads the result of a later one.
    pub(crate) windows: Vec<Window>,
    /// Index of the first window of each round, then the number of windows.
    pub(crate) starts: Vec<usize>,
}

impl SamplingPlan {
    /// Index of the draws among the outputs. After sampling it has the draw of each position that was drawn.
    pub(crate) const DRAWS: usize = 0;
    /// Index of the finished images among the outputs.
    #[doc(hidden)]
    pub const IMAGES: usize = 1;

    /// Schedules `plan`, which needs an input of images `[n, h, w, c]` ([`InputRole::Images`]) and an output
    /// `draw` with the same number of elements.
    ///
    /// # Errors
    /// [`Error::Failed`] if this input or output is missing, if a step has no rule (the error names the
    /// step), or if a draw depends on its own position or a later one (the error names the position).
    pub fn new(plan: &Plan) -> Result<SamplingPlan> {
        let fail = |why: String| Error::Failed(format!("plan {} cannot be sampled window by window: {why}", plan.name));
        let x = plan.inputs.iter().position(|input| input.role == Some(InputRole::Images));
        let draw = plan.outputs.iter().position(|(name, _)| name == DRAW);
        let (Some(x), Some(draw)) = (x, draw) else {
            return Err(fail(format!("it needs an input of images and the output {DRAW:?}")));
        };
        let shape = plan.inputs[x].meta.shape;
        let (&[images, height, width, channels], true) =
            (shape.dims(), shape.len() == plan.outputs[draw].1.meta.shape.len())
        else {
            return Err(fail(format!("the images are {shape} and {DRAW} {}", plan.outputs[draw].1.meta.shape)));
        };
        let image = ImageSize { height, width, channels };
        let mut plan = unshared(plan);
        let x = InputId(x as u32);
        let x_operand = Operand { buffer: Buffer::Input(x), meta: plan.inputs[x.0 as usize].meta, is_stored: false };
        let draws = plan.outputs.remove(draw);
        plan.outputs.splice(0..0, [draws, (IMAGES.into(), x_operand)]);
        let mut known = Known::new(&plan, x, images, image);
        let sizes = known.propagate().map_err(fail)?;
        let drawn = known.of(&plan.outputs[Self::DRAWS].1).map_err(fail)?;
        let drawn = drawn.ok_or_else(|| fail(format!("{DRAW} does not depend on the images")))?;
        check_causal(&drawn, image).map_err(fail)?;
        let mut rounds: Vec<(u32, Window)> = vec![];
        for (i, step) in plan.steps.iter().enumerate().filter(|(i, _)| sizes[*i].is_some()) {
            let times = &known.times[&step.outputs[0].buffer];
            rounds.extend(match step.op {
                Op::RowLstm => cells(i as u32, times, false),
                Op::DiagonalLstm { reverse } => cells(i as u32, times, reverse),
                _ => rectangles(i as u32, times),
            });
        }
        // Positions that depend on the last position of x are left out, because no draw needs them.
        let len = image.dims();
        rounds.retain(|(round, _)| (*round as usize) < len);
        rounds.sort_by_key(|(round, window)| (*round, window.step));
        let starts = (0..=len).map(|round| rounds.partition_point(|(at, _)| (*at as usize) < round)).collect();
        let windows = rounds.into_iter().map(|(_, window)| window).collect();
        Ok(SamplingPlan { plan, x, image, images, sizes, windows, starts })
    }

    /// The plan that is scheduled. Its outputs are the draws, the images, and the other outputs of the
    /// original plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Images in a batch.
    #[doc(hidden)]
    pub fn images(&self) -> usize {
        self.images
    }

    /// Number of rounds: one per position of an image.
    #[doc(hidden)]
    pub fn rounds(&self) -> usize {
        self.image.dims()
    }

    /// The windows that become computable once the first `round` positions are drawn.
    pub(crate) fn in_round(&self, round: usize) -> &[Window] {
        &self.windows[self.starts[round]..self.starts[round + 1]]
    }

    /// Steps that run whole before the first round.
    pub(crate) fn before(&self) -> impl Iterator<Item = &Step> {
        self.plan.steps.iter().zip(&self.sizes).filter(|(_, size)| size.is_none()).map(|(step, _)| step)
    }

    /// Bytes of all values of one image.
    #[doc(hidden)]
    pub fn bytes_per_image(&self) -> usize {
        self.plan.slot_bytes() / self.images.max(1)
    }
}

/// The same plan with one slot per value. All slots are kept. Images are drawn in f32, whatever the
/// precision of the plan.
fn unshared(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    let mut now: HashMap<u32, u32> = HashMap::new();
    let mut slots = vec![];
    let rename = |operand: &mut Operand, now: &HashMap<u32, u32>| {
        if let Buffer::Slot(slot) = &mut operand.buffer {
            *slot = now[slot];
        }
    };
    for step in &mut plan.steps {
        step.inputs.iter_mut().for_each(|o| rename(o, &now));
        step.epilogue.iter_mut().filter_map(Fused::operand_mut).for_each(|o| rename(o, &now));
        for out in &mut step.outputs {
            if let Buffer::Slot(slot) = &mut out.buffer {
                now.insert(*slot, slots.len() as u32);
                *slot = slots.len() as u32;
                slots.push(Slot { len: out.meta.shape.len(), kept: true });
            }
        }
    }
    plan.outputs.iter_mut().for_each(|(_, o)| rename(o, &now));
    plan.slots = slots;
    plan.in_precision(Precision::F32)
}

/// Times of the values of a plan.
struct Known<'a> {
    plan: &'a Plan,
    images: usize,
    /// Times of the image and of the first outputs of steps. A first output without an entry does not depend
    /// on the image.
    times: HashMap<Buffer, Times>,
    /// The other outputs of steps that depend on the image.
    others: HashSet<Buffer>,
}

impl Known<'_> {
    fn new(plan: &Plan, x: InputId, images: usize, image: ImageSize) -> Known<'_> {
        let times = HashMap::from([(Buffer::Input(x), Times::of_image(image))]);
        Known { plan, images, times, others: HashSet::new() }
    }

    /// Times of a value; `None` if it does not depend on the image.
    fn of(&self, value: &Operand) -> Result<Option<Cow<'_, Times>>, String> {
        if self.others.contains(&value.buffer) {
            return Err(format!("{} is not the first value that its step writes", value.buffer));
        }
        let Some(times) = self.times.get(&value.buffer) else { return Ok(None) };
        let ImageSize { height, width, channels } = times.size;
        match value.meta.shape.dims() {
            _ if value.meta.shape.len() == self.images * times.size.dims() => Ok(Some(Cow::Borrowed(times))),
            // For a batch of one image, a slice that keeps the first rows is an alias.
            &[1, rows, w, c] if (w, c) == (width, channels) && rows < height => Ok(Some(Cow::Owned(times.rows(rows)))),
            _ => Err(format!("{} of images of {} is read", value.meta.shape, times.size)),
        }
    }

    /// Propagates times through every step. Returns the size of the first output of each step.
    fn propagate(&mut self) -> Result<Vec<Option<ImageSize>>, String> {
        let mut sizes = vec![];
        for step in &self.plan.steps {
            let times = self
                .step(step)
                .map_err(|why| format!("{} in {}, recorded at {}: {why}", step.label(), step.scope, step.at))?;
            sizes.push(times.as_ref().map(|t| t.size));
            if let Some(times) = times {
                self.times.insert(step.outputs[0].buffer, times);
                self.others.extend(step.outputs[1..].iter().map(|o| o.buffer));
            }
        }
        Ok(sizes)
    }

    fn step(&self, step: &Step) -> Result<Option<Times>, String> {
        let inputs = step.inputs.iter().map(|o| self.of(o)).collect::<Result<Vec<_>, _>>()?;
        let fused =
            step.epilogue.iter().filter_map(Fused::operand).map(|o| self.of(o)).collect::<Result<Vec<_>, _>>()?;
        if inputs.iter().chain(&fused).all(Option::is_none) {
            return Ok(None);
        }
        let inputs: Vec<Read> = inputs.iter().map(Option::as_deref).collect();
        let fused: Vec<Read> = fused.iter().map(Option::as_deref).collect();
        times::propagate(step, &inputs, &fused).map(Some)
    }
}

/// Checks that no draw depends on its own position or on a later one.
fn check_causal(draw: &Times, image: ImageSize) -> Result<(), String> {
    if draw.size != image {
        return Err(format!("{DRAW} has images of {}, the input of {image}", draw.size));
    }
    let ImageSize { height: h, width: w, channels: c } = image;
    for (position, (row, column, channel)) in
        (0..h).flat_map(|r| (0..w).flat_map(move |col| (0..c).map(move |k| (r, col, k)))).enumerate()
    {
        let time = draw.of(row, column, channel..channel + 1) as usize;
        if time > position {
            return Err(format!(
                "the draw of row {row}, column {column}, channel {channel} depends on position {} of the image, which \
                 is drawn no earlier than its own, {position}; mask the convolutions before it",
                time - 1
            ));
        }
    }
    Ok(())
}

/// Covers every position of a step's first output exactly once with rectangles of equal time, as pairs
/// (round, window).
fn rectangles(step: u32, times: &Times) -> Vec<(u32, Window)> {
    let mut all = cells(step, times, false);
    // Join neighbours of equal time along columns, then along rows.
    join(&mut all, |w| (w.rows, w.channels), |w| &mut w.columns);
    join(&mut all, |w| (w.columns, w.channels), |w| &mut w.rows);
    all
}

/// The same with windows of one pixel, in the order of a scan, because a pixel of a scan may read neighbours
/// of the same time.
fn cells(step: u32, times: &Times, reverse: bool) -> Vec<(u32, Window)> {
    let ImageSize { height: h, width: w, .. } = times.size;
    let mut all: Vec<(u32, Window)> = vec![];
    for (r, i) in (0..h).flat_map(|r| (0..w).map(move |i| (r, i))) {
        let c = if reverse { w - 1 - i } else { i };
        let (rows, columns) = ([r as u32, r as u32 + 1], [c as u32, c as u32 + 1]);
        let mut pixel: Vec<(u32, Window)> = vec![];
        for (run, time) in times.runs().zip(times.pixel(r, c)) {
            let channels = [run.start as u32, run.end as u32];
            pixel.push((*time, Window { step, rows, columns, channels, padding: 0 }));
        }
        join(&mut pixel, |_| (), |w| &mut w.channels);
        all.extend(pixel);
    }
    all
}

/// Joins windows of equal time that agree in `same` and touch in `range`.
fn join<K: Ord>(
    all: &mut Vec<(u32, Window)>,
    same: impl Fn(&Window) -> K,
    range: impl Fn(&mut Window) -> &mut [u32; 2],
) {
    all.sort_by_cached_key(|(time, window)| (*time, same(window), *range(&mut window.clone())));
    all.dedup_by(|(time, next), (time_before, before)| {
        let touches = time == time_before && same(next) == same(before) && range(next)[0] == range(before)[1];
        if touches {
            range(before)[1] = range(next)[1];
        }
        touches
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{Meta, Shape};
    use crate::tape::geometry::Mask;
    use crate::tape::op::{Param, ParamId, Scalar};
    use crate::tape::record::ConvAttrs;
    use crate::tape::{Tape, Var};

    const SIDE: usize = 5;

    /// The value of a parameter `id` of this shape.
    fn weight(t: &Tape, id: u32, shape: [usize; 4]) -> Var {
        t.param(&Param { id: ParamId(id), path: format!("params/{id}").into(), shape: Shape::new(&shape) })
    }

    /// `x[2, 5, 5, colours]` through a masked 3x3 convolution, the nodes that `body` records, a masked 1x1
    /// convolution and a draw.
    fn record(colours: usize, mask: Mask, body: impl FnOnce(&Tape, Var) -> Var) -> Plan {
        let t = Tape::new();
        let x = t.input_of(InputRole::Images, Meta::f32([2, SIDE, SIDE, colours]));
        let first = weight(&t, 0, [3, 3, colours, 2 * colours]);
        let y = body(&t, t.conv(x, first, ConvAttrs::masked(mask, 3, colours)));
        let last = weight(&t, 1, [1, 1, t.shape(y).last(), colours]);
        let y = t.conv(y, last, ConvAttrs::masked(Mask::B, 1, colours));
        let u = t.fill(0.5, t.shape(y));
        t.output(DRAW, t.bernoulli(y, u, t.scalar(Scalar::f32("Temperature", 1.0))));
        Plan::new("test", &t)
    }

    /// Asserts that every position of every step is computed exactly once, except those that no draw needs.
    fn covers(plan: &SamplingPlan) {
        for (i, size) in plan.sizes.iter().enumerate() {
            let Some(size) = *size else { continue };
            let mut count = vec![0; size.dims()];
            for window in plan.windows.iter().filter(|window| window.step == i as u32) {
                let [rows, columns, channels] = window.ranges();
                for row in rows {
                    for column in columns.clone() {
                        channels.clone().for_each(|k| count[(row * size.width + column) * size.channels + k] += 1);
                    }
                }
            }
            assert!(count.iter().all(|n| *n <= 1), "{}: a position is computed twice", plan.plan.steps[i].label());
            let left_out = count.iter().filter(|n| **n == 0).count();
            // At most the four pixels whose 3x3 window contains the last pixel.
            assert!(left_out <= 4 * size.channels, "{}: {left_out} positions are left out", plan.plan.steps[i].label());
        }
    }

    #[test]
    fn colours_of_a_pixel_become_computable_one_after_another() {
        let plan = SamplingPlan::new(&record(3, Mask::A, |t, y| t.relu(y))).unwrap();
        covers(&plan);
        assert_eq!(plan.rounds(), 3 * SIDE * SIDE);
        // The steps with windows are a convolution with its activation, a convolution and a draw.
        for round in 0..plan.rounds() {
            let (pixel, colour) = ((round / 3) as u32, (round % 3) as u32);
            let (row, column) = (pixel / SIDE as u32, pixel % SIDE as u32);
            let expected = |step: u32, each: u32| Window {
                step,
                rows: [row, row + 1],
                columns: [column, column + 1],
                channels: [each * colour, each * (colour + 1)],
                padding: 0,
            };
            let steps: Vec<u32> =
                (0..plan.plan.steps.len() as u32).filter(|i| plan.sizes[*i as usize].is_some()).collect();
            let expected: Vec<Window> = steps.iter().zip([2, 1, 1]).map(|(step, each)| expected(*step, each)).collect();
            if column > 0 || colour > 0 {
                // The first colour at the left edge has no pixel to its left and is computable in an earlier
                // round.
                assert!(expected.iter().all(|window| plan.in_round(round).contains(window)), "round {round}");
            }
        }
    }

    #[test]
    fn activations_are_still_folded_and_no_slot_is_shared() {
        let plan = SamplingPlan::new(&record(1, Mask::A, |t, y| t.relu(y))).unwrap();
        let labels: Vec<String> = plan.plan.steps.iter().map(Step::label).collect();
        assert!(labels.iter().any(|label| label.starts_with("conv") && label.ends_with("relu")), "{labels:?}");
        let outputs: Vec<Buffer> = plan.plan.steps.iter().map(|s| s.outputs[0].buffer).collect();
        let distinct: HashSet<&Buffer> = outputs.iter().collect();
        assert_eq!(distinct.len(), outputs.len());
        assert_eq!(plan.plan.slots.len(), outputs.len());
        plan.plan.check().unwrap();
    }

    #[test]
    fn a_shift_by_a_row_turns_rows_into_windows() {
        let plan = record(1, Mask::None, |t, y| {
            // The unmasked 3x3 reads one row below its pixel. Shifted down by two rows, it reads only rows
            // above the pixel.
            t.slice(t.pad(y, [0, 2, 0, 0], [0; 4]), [0; 4], [0, 2, 0, 0])
        });
        let plan = SamplingPlan::new(&plan).unwrap();
        covers(&plan);
        // The last two pixels of a row become computable together.
        assert!(plan.windows.iter().any(|window| window.columns[1] - window.columns[0] == 2));
        // The two rows of zeros are known before anything is drawn.
        let before = plan.in_round(0).iter().map(|window| (window.rows, window.columns)).max();
        assert_eq!(before, Some(([0, 2], [0, SIDE as u32])));
    }

    #[test]
    fn a_leak_is_refused_and_named() {
        let error = SamplingPlan::new(&record(1, Mask::B, |t, y| t.relu(y))).unwrap_err().to_string();
        assert!(error.contains("row 0, column 0") && error.contains("position 0"), "{error}");
        let error = SamplingPlan::new(&record(3, Mask::B, |t, y| t.relu(y))).unwrap_err().to_string();
        assert!(error.contains("depends on position 0"), "{error}");
    }

    #[test]
    fn an_op_without_a_rule_is_named_with_its_line() {
        let plan = record(1, Mask::A, |t, y| t.expand(t.sum_to(y, [2, 1, 1, 2]), [2, SIDE, SIDE, 2]));
        let error = SamplingPlan::new(&plan).unwrap_err().to_string();
        assert!(error.contains("sum") && error.contains("window.rs:") && error.contains("no rule"), "{error}");
    }

    #[test]
    fn scans_walk_pixel_by_pixel_and_back_from_the_right() {
        for reverse in [false, true] {
            let plan = record(1, Mask::A, |t, y| {
                let z = t.conv(y, weight(t, 2, [1, 1, 2, 8]), ConvAttrs::masked(Mask::B, 1, 1));
                let h = t.diagonal_lstm(z, weight(t, 3, [2, 1, 2, 8]), reverse);
                let down = |v| t.slice(t.pad(v, [0, 1, 0, 0], [0; 4]), [0; 4], [0, 1, 0, 0]);
                if reverse { down(h) } else { h }
            });
            let plan = SamplingPlan::new(&plan).unwrap();
            covers(&plan);
            let scan = plan.plan.steps.iter().position(|s| matches!(s.op, Op::DiagonalLstm { .. })).unwrap() as u32;
            let of = |round: usize| plan.in_round(round).iter().filter(move |window| window.step == scan);
            // Once the pixel before it is drawn, the gates of the rightmost pixel of row 1 are computable.
            let columns: Vec<u32> = of(2 * SIDE - 1).map(|window| window.columns[0]).collect();
            assert_eq!(columns, if reverse { vec![4, 3, 2, 1, 0] } else { vec![4] });
        }
    }
}
