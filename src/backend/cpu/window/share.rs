//! The operands of a step as slices that hold the images of one share alone.

use crate::backend::cpu::access::Places;
use crate::tape::plan::{Buffer, Operand};
use crate::tape::window::SamplingPlan;
use std::ops::Range;

/// Some images of a batch, on one thread.
pub(super) struct Share<'a> {
    plan: &'a SamplingPlan,
    places: &'a Places,
    images: Range<usize>,
}

impl<'a> Share<'a> {
    /// # Safety
    /// Every operand of the plan has a place of at least its length, alive for `'a`; nobody else touches
    /// what belongs to these images, and nobody writes parameters and scalars.
    pub(super) unsafe fn new(plan: &'a SamplingPlan, places: &'a Places, images: Range<usize>) -> Self {
        Share { plan, places, images }
    }

    /// What is sampled.
    pub(super) fn plan(&self) -> &'a SamplingPlan {
        self.plan
    }

    /// How many images it has.
    pub(super) fn count(&self) -> usize {
        self.images.len()
    }

    /// Where its images of an operand begin, and how many words they are.
    fn part(&self, operand: &Operand) -> (*mut u32, usize) {
        let each = operand.meta.shape.len() / self.plan.images;
        // SAFETY: the images lie inside the operand, which fills its place from the start (`new`).
        (unsafe { self.places.of(operand.buffer).add(self.images.start * each) }, self.images.len() * each)
    }

    /// An operand that has values for each image.
    pub(super) fn read(&self, operand: &Operand) -> &'a [f32] {
        let (at, len) = self.part(operand);
        // SAFETY: the contract of `new`; a step writes no value that it reads (`Plan::check`).
        unsafe { std::slice::from_raw_parts(at.cast(), len) }
    }

    /// An operand that has values for each image, to be written. It may be borrowed once at a time.
    pub(super) fn write(&self, operand: &Operand) -> &'a mut [f32] {
        let (at, len) = self.part(operand);
        // SAFETY: the contract of `new`; a step writes no value that it reads (`Plan::check`).
        unsafe { std::slice::from_raw_parts_mut(at.cast(), len) }
    }

    /// An operand that all images have in common: a parameter, a scalar.
    pub(super) fn whole(&self, operand: &Operand) -> &'a [f32] {
        // SAFETY: the contract of `new`.
        unsafe { std::slice::from_raw_parts(self.places.of(operand.buffer).cast(), operand.meta.shape.len()) }
    }

    /// The draws of a position become part of the images.
    pub(super) fn feed_back(&self, position: usize) {
        let [draws, images] = [SamplingPlan::DRAWS, SamplingPlan::IMAGES].map(|i| &self.plan.plan.outputs[i].1);
        debug_assert_eq!(images.buffer, Buffer::Input(self.plan.x));
        let (draws, images) = (self.read(draws), self.write(images));
        for at in (position..images.len()).step_by(self.plan.rounds()) {
            images[at] = draws[at];
        }
    }
}
