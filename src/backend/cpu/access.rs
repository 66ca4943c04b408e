//! The operands of one step as slices.

use crate::shape::DType;
use crate::tape::plan::{Buffer, Operand, Step};

/// Where each buffer of a plan lies, so that a step does not look anything up.
#[derive(Debug)]
pub struct Places {
    /// By slot, input and parameter; null where the plan does not use a parameter.
    pub slots: Vec<*mut u32>,
    pub inputs: Vec<*mut u32>,
    pub params: Vec<*mut u32>,
    /// A word for each scalar.
    pub scalars: *mut u32,
}

// SAFETY: the pointers are used only as `Access::new` and `Share::new` say, by the thread pool of the
// backend that owns the buffers.
unsafe impl Sync for Places {}

impl Places {
    /// Where a buffer lies.
    pub fn of(&self, buffer: Buffer) -> *mut u32 {
        let at = match buffer {
            Buffer::Slot(s) => self.slots[s as usize],
            Buffer::Input(i) => self.inputs[i.0 as usize],
            Buffer::Param(p) => self.params[p.0 as usize],
            // SAFETY: there is a word for each scalar of the plan, which has this one (`Plan::check`).
            Buffer::Scalar(s) => unsafe { self.scalars.add(s.0 as usize) },
        };
        assert!(!at.is_null(), "a plan names every parameter that it uses");
        at
    }
}

/// Gives the kernels of one step their operands.
pub struct Access<'a> {
    step: &'a Step,
    places: &'a Places,
    scratch: *mut u32,
    scratch_len: usize,
}

// SAFETY: see `Access::new`; the kernels share read access and split what they write among threads by
// slices.
unsafe impl Sync for Access<'_> {}
// SAFETY: as above.
unsafe impl Send for Access<'_> {}

impl<'a> Access<'a> {
    /// # Safety
    /// Every operand of `step` has a place of at least its length, alive and untouched by others for `'a`;
    /// outputs are disjoint from inputs except where the op replaces an input in place.
    pub unsafe fn new(step: &'a Step, places: &'a Places, scratch: *mut u32, scratch_len: usize) -> Self {
        Access { step, places, scratch, scratch_len }
    }

    fn place(&self, operand: &Operand) -> (*mut u32, usize) {
        (self.places.of(operand.buffer), operand.meta.shape.len())
    }

    /// Any operand that the step reads.
    pub fn read(&self, operand: &Operand) -> &'a [f32] {
        let (at, len) = self.place(operand);
        // SAFETY: the contract of `new`; every bit pattern is a float.
        unsafe { std::slice::from_raw_parts(at.cast(), len) }
    }

    /// Input `i` as floats. Not for an input that the op replaces in place.
    pub fn input(&self, i: usize) -> &'a [f32] {
        self.read(&self.step.inputs[i])
    }

    /// Input `i` as indices.
    pub fn index(&self, i: usize) -> &'a [u32] {
        let operand = &self.step.inputs[i];
        debug_assert_eq!(operand.meta.dtype, DType::U32);
        bytemuck::cast_slice(self.read(operand))
    }

    /// Input `i`, a single float.
    pub fn scalar(&self, i: usize) -> f32 {
        self.input(i)[0]
    }

    /// Output `i`. Each output may be borrowed once at a time.
    pub fn output(&self, i: usize) -> &'a mut [f32] {
        let (at, len) = self.place(&self.step.outputs[i]);
        // SAFETY: the contract of `new`; the launch borrows each output once.
        unsafe { std::slice::from_raw_parts_mut(at.cast(), len) }
    }

    /// Output `i` as indices.
    pub fn output_index(&self, i: usize) -> &'a mut [u32] {
        bytemuck::cast_slice_mut(self.output(i))
    }

    /// Output `o`, filled with the value of input `i`, which it replaces: the same memory where the planner
    /// has put it there. Neither may be borrowed again.
    pub fn replaced(&self, i: usize, o: usize) -> &'a mut [f32] {
        let (from, to) = (&self.step.inputs[i], &self.step.outputs[o]);
        let value = self.output(o);
        if from.buffer != to.buffer {
            value.copy_from_slice(self.read(from));
        }
        value
    }

    /// The scratch of the step.
    pub fn scratch(&self) -> &'a mut [f32] {
        // SAFETY: the contract of `new`; the launch borrows the scratch once.
        unsafe { std::slice::from_raw_parts_mut(self.scratch.cast(), self.scratch_len) }
    }

    /// Fills the outputs with NaN, but for those that replace an input, and the scratch.
    pub fn poison(&self) {
        for (i, out) in self.step.outputs.iter().enumerate() {
            if !self.step.inputs.iter().any(|input| input.buffer == out.buffer) {
                self.output(i).fill(f32::NAN);
            }
        }
        self.scratch().fill(f32::NAN);
    }
}
