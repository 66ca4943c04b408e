//! The operands of one step as slices.

use super::product::Weights;
use crate::shape::DType;
use crate::tape::plan::{Buffer, Operand, Step};

/// The address of each buffer of a plan, so that a step needs no look-up.
#[derive(Debug)]
pub struct Places {
    /// Addresses by slot, input and parameter. Null for a parameter that the plan does not use.
    pub slots: Vec<*mut u32>,
    pub inputs: Vec<*mut u32>,
    pub params: Vec<*mut u32>,
    /// One word per scalar.
    pub scalars: *mut u32,
}

// SAFETY: `Places` itself only hands out the pointers. Whoever dereferences them does so under the contracts
// of `Access::new` and `Share::new`, which exclude conflicting accesses from several threads.
unsafe impl Sync for Places {}

impl Places {
    /// The address of a buffer.
    pub fn of(&self, buffer: Buffer) -> *mut u32 {
        let at = match buffer {
            Buffer::Slot(s) => self.slots[s as usize],
            Buffer::Input(i) => self.inputs[i.0 as usize],
            Buffer::Param(p) => self.params[p.0 as usize],
            // SAFETY: `scalars` has one word per scalar of the plan (`CpuEngine::allocate`), and `s` is one
            // of them (`Plan::check`), so the result is inside the buffer.
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
    adds: bool,
    packed: Option<&'a [f32]>,
}

// SAFETY: under the contract of `Access::new`, the memory of the operands is not accessed by others. Threads
// share the inputs for reading. Each output is borrowed once as a slice, which the kernels split among
// threads.
unsafe impl Sync for Access<'_> {}
// SAFETY: an `Access` owns nothing. Under the contract of `Access::new`, its pointers are valid on every
// thread for `'a`.
unsafe impl Send for Access<'_> {}

impl<'a> Access<'a> {
    /// # Safety
    /// Every operand of `step` has memory of at least its length at its place, and `scratch` has
    /// `scratch_len` words. For `'a`, this memory stays allocated and nothing else accesses it. Outputs are
    /// disjoint from inputs, except where the op replaces an input in place.
    pub unsafe fn new(step: &'a Step, places: &'a Places, scratch: *mut u32, scratch_len: usize) -> Self {
        Access { step, places, scratch, scratch_len, adds: false, packed: None }
    }

    /// The same, with the packed weights of the step, if it has weights that were packed before.
    pub fn with_weights(self, packed: Option<&'a [f32]>) -> Self {
        Access { packed, ..self }
    }

    /// The weights of a product: its second input, or what was packed of it.
    pub fn weights(&self) -> Weights<'a> {
        self.packed.map_or_else(|| Weights::Plain(self.input(1)), Weights::Packed)
    }

    /// The same, but the kernel adds its result to what the outputs hold.
    pub fn adding(self) -> Self {
        Access { adds: true, ..self }
    }

    /// Whether the kernel adds its result to what the outputs hold.
    pub fn adds(&self) -> bool {
        self.adds
    }

    fn place(&self, operand: &Operand) -> (*mut u32, usize) {
        (self.places.of(operand.buffer), operand.meta.shape.len())
    }

    /// Any operand that the step reads.
    pub fn read(&self, operand: &Operand) -> &'a [f32] {
        let (at, len) = self.place(operand);
        // SAFETY: by the contract of `new`, `len` words at `at` stay allocated for `'a`, and nothing writes
        // them: the step borrows this buffer only for reading. Every bit pattern is a float.
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

    /// Input `i`, which is a single float.
    pub fn scalar(&self, i: usize) -> f32 {
        self.input(i)[0]
    }

    /// Output `i`. Each output may be borrowed once at a time.
    pub fn output(&self, i: usize) -> &'a mut [f32] {
        let (at, len) = self.place(&self.step.outputs[i]);
        // SAFETY: by the contract of `new`, `len` words at `at` stay allocated for `'a`, nothing else
        // accesses them, and they are no input. `launch` borrows each output once at a time.
        unsafe { std::slice::from_raw_parts_mut(at.cast(), len) }
    }

    /// Output `i` as indices.
    pub fn output_index(&self, i: usize) -> &'a mut [u32] {
        bytemuck::cast_slice_mut(self.output(i))
    }

    /// Output `o`, filled with the value of input `i`, which it replaces. If the planner has put both into
    /// the same memory, nothing is copied. Neither may be borrowed again.
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
        // SAFETY: by the contract of `new`, `scratch_len` words stay allocated for `'a`, and nothing else
        // accesses them. `launch` borrows the scratch once.
        unsafe { std::slice::from_raw_parts_mut(self.scratch.cast(), self.scratch_len) }
    }

    /// Fills the scratch and the outputs with NaN, except outputs that replace an input or are added to.
    pub fn poison(&self) {
        self.scratch().fill(f32::NAN);
        if self.adds {
            return;
        }
        for (i, out) in self.step.outputs.iter().enumerate() {
            if !self.step.inputs.iter().any(|input| input.buffer == out.buffer) {
                self.output(i).fill(f32::NAN);
            }
        }
    }
}
