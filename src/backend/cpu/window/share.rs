//! The operands of a step as slices that hold only the images of one share.

use crate::backend::cpu::access::Places;
use crate::tape::plan::{Buffer, Operand};
use crate::tape::window::SamplingPlan;
use std::ops::Range;

/// A share of the images of a batch, which one task computes.
pub(super) struct Share<'a> {
    plan: &'a SamplingPlan,
    places: &'a Places,
    images: Range<usize>,
}

impl<'a> Share<'a> {
    /// # Safety
    /// For `'a`, every operand of the plan has allocated memory of at least its length at its place. Nothing
    /// else accesses the elements of these images, and nothing writes parameters and scalars.
    pub(super) unsafe fn new(plan: &'a SamplingPlan, places: &'a Places, images: Range<usize>) -> Self {
        Share { plan, places, images }
    }

    /// The plan that is sampled.
    pub(super) fn plan(&self) -> &'a SamplingPlan {
        self.plan
    }

    /// Number of images of the share.
    pub(super) fn count(&self) -> usize {
        self.images.len()
    }

    /// The address of the share's images in an operand, and their number of words.
    fn part(&self, operand: &Operand) -> (*mut u32, usize) {
        let each = operand.meta.shape.len() / self.plan.images;
        // SAFETY: the images are inside the operand, which begins at its place and has memory of its whole
        // length there (contract of `new`).
        (unsafe { self.places.of(operand.buffer).add(self.images.start * each) }, self.images.len() * each)
    }

    /// The share's part of an operand that has values for each image.
    pub(super) fn read(&self, operand: &Operand) -> &'a [f32] {
        let (at, len) = self.part(operand);
        // SAFETY: by the contract of `new`, these words stay allocated for `'a`, and no other share accesses
        // them. A step writes no value that it reads (`Plan::check`), so the slices of a step do not alias.
        unsafe { std::slice::from_raw_parts(at.cast(), len) }
    }

    /// The share's part of an operand that has values for each image, mutable. It may be borrowed once at a
    /// time.
    pub(super) fn write(&self, operand: &Operand) -> &'a mut [f32] {
        let (at, len) = self.part(operand);
        // SAFETY: by the contract of `new`, these words stay allocated for `'a`, and no other share accesses
        // them. A step writes no value that it reads (`Plan::check`), so the slices of a step do not alias.
        unsafe { std::slice::from_raw_parts_mut(at.cast(), len) }
    }

    /// An operand that all images share, such as a parameter or a scalar.
    pub(super) fn whole(&self, operand: &Operand) -> &'a [f32] {
        // SAFETY: by the contract of `new`, the whole operand stays allocated for `'a`, and nothing writes
        // parameters and scalars.
        unsafe { std::slice::from_raw_parts(self.places.of(operand.buffer).cast(), operand.meta.shape.len()) }
    }

    /// Copies the draws of a position into the images.
    pub(super) fn feed_back(&self, position: usize) {
        let [draws, images] = [SamplingPlan::DRAWS, SamplingPlan::IMAGES].map(|i| &self.plan.plan.outputs[i].1);
        debug_assert_eq!(images.buffer, Buffer::Input(self.plan.x));
        let (draws, images) = (self.read(draws), self.write(images));
        for at in (position..images.len()).step_by(self.plan.rounds()) {
            images[at] = draws[at];
        }
    }
}
