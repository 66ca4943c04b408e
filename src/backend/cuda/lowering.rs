//! The parts of a step's launches, and `Lowering`, which collects them.

use super::driver::LaunchShape;
use super::kernels::Kernel;
use crate::backend::args::{Map, Rows, fused_operands, word};
use crate::error::{Error, Result};
use crate::shape::Shape;
use crate::tape::plan::{Buffer, Fused, Step};
use bytemuck::Pod;

/// Threads of a block of elementwise kernels: `THREADS` of `common.cuh`.
pub(super) const THREADS: usize = 256;

/// The memory that a pointer of a kernel leads to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ptr {
    /// The value of an operand.
    Buffer(Buffer),
    /// The scratch of the step, from this word on.
    Scratch(usize),
    /// The table of updates of a group of optimiser steps.
    Updates,
    /// A null pointer, which the kernel does not read.
    Null,
}

/// One kernel launch.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    /// The kernel.
    pub(super) kernel: Kernel,
    /// The threads that run it.
    pub(super) shape: LaunchShape,
    /// The bytes of the argument struct, which is the first parameter.
    pub(super) args: Vec<u8>,
    /// The pointers, which are the other parameters.
    pub(super) pointers: Vec<Ptr>,
}

/// A piece of work that is enqueued for a step.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// A kernel launch.
    Kernel(Launch),
    /// A copy of `words` words.
    Copy { to: Ptr, from: Ptr, words: usize },
}

/// The properties of the card that launches depend on: multiprocessors, for the size of a grid, and shared
/// memory per block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Card {
    pub(super) processors: u32,
    pub(super) shared_bytes: u32,
}

/// The launches of a step, or of a group of optimiser steps.
#[derive(Debug, Default)]
pub(super) struct Lowered {
    pub(super) work: Vec<Work>,
    /// Number of words of scratch.
    pub(super) scratch: usize,
    /// Table of updates of an optimiser.
    pub(super) updates: Vec<Update>,
}

/// A row of the table of updates: `Update` of `optim.cu`, before its addresses are resolved.
#[derive(Clone, Debug)]
pub(super) struct Update {
    /// The inputs (parameter, gradient, first and second state), then the outputs (new parameter and new
    /// states).
    pub(super) pointers: [Ptr; 7],
    /// Number of elements.
    pub(super) len: u32,
    /// Number of the first of its pieces.
    pub(super) first_piece: u32,
}

/// Collects the launches of a step.
pub(super) struct Lowering<'a> {
    pub(super) step: &'a Step,
    pub(super) card: Card,
    pub(super) out: Lowered,
}

/// Blocks of [`THREADS`] threads without dynamic shared memory.
pub(super) fn blocks_of_threads(grid: [u32; 3]) -> LaunchShape {
    LaunchShape { grid, block: [THREADS as u32, 1, 1], shared_bytes: 0 }
}

/// A kernel by file and name.
pub(super) const fn kernel(file: &'static str, name: &'static str) -> Kernel {
    Kernel { file, name }
}

impl<'a> Lowering<'a> {
    pub(super) fn new(step: &'a Step, card: Card) -> Self {
        Lowering { step, card, out: Lowered::default() }
    }

    pub(super) fn x(&self, i: usize) -> Ptr {
        Ptr::Buffer(self.step.inputs[i].buffer)
    }

    pub(super) fn y(&self, i: usize) -> Ptr {
        Ptr::Buffer(self.step.outputs[i].buffer)
    }

    pub(super) fn shape(&self, i: usize) -> Shape {
        self.step.inputs[i].meta.shape
    }

    /// Shape of the first output.
    pub(super) fn written(&self) -> Shape {
        self.step.outputs[0].meta.shape
    }

    /// Takes scratch that no other call of this step gets.
    pub(super) fn scratch(&mut self, words: usize) -> Result<Ptr> {
        let at = self.out.scratch;
        // A multiple of 64 words, so that every part is aligned.
        self.out.scratch += words.next_multiple_of(64);
        word(self.out.scratch)?;
        Ok(Ptr::Scratch(at))
    }

    /// Adds a kernel launch.
    pub(super) fn launch<A: Pod>(
        &mut self,
        kernel: Kernel,
        shape: LaunchShape,
        args: A,
        pointers: &[Ptr],
    ) -> Result<()> {
        let LaunchShape { grid, shared_bytes, .. } = shape;
        if shared_bytes > self.card.shared_bytes {
            return Err(Error::Device(format!(
                "{} (recorded at {}) needs {shared_bytes} bytes of shared memory and a block of this card has {}; \
                 choose a smaller model",
                self.step.label(),
                self.step.at,
                self.card.shared_bytes
            )));
        }
        if grid[1].max(grid[2]) > 65_535 {
            return Err(Error::Device(format!(
                "{} (recorded at {}) needs {} x {} blocks and a card takes 65535; choose a smaller batch or model",
                self.step.label(),
                self.step.at,
                grid[1],
                grid[2]
            )));
        }
        let (args, pointers) = (bytemuck::bytes_of(&args).to_vec(), pointers.to_vec());
        self.out.work.push(Work::Kernel(Launch { kernel, shape, args, pointers }));
        Ok(())
    }

    /// Adds a launch of a kernel whose threads stride over `len` elements. It has at most 16 blocks per
    /// multiprocessor, which keep the card busy.
    pub(super) fn each<A: Pod>(&mut self, kernel: Kernel, len: usize, args: A, pointers: &[Ptr]) -> Result<()> {
        let most = 16 * self.card.processors;
        let blocks = word(len)?.div_ceil(THREADS as u32).clamp(1, most);
        self.launch(kernel, blocks_of_threads([blocks, 1, 1]), args, pointers)
    }

    /// Adds a launch of a kernel with one warp per row.
    pub(super) fn rows<A: Pod>(&mut self, kernel: Kernel, rows: usize, args: A, pointers: &[Ptr]) -> Result<()> {
        let blocks = word(rows)?.div_ceil(THREADS as u32 / 32).max(1);
        self.launch(kernel, blocks_of_threads([blocks, 1, 1]), args, pointers)
    }

    /// Adds a launch of an elementwise kernel over the first output. Sets the number of elements in `args`.
    pub(super) fn map(&mut self, name: &'static str, args: Map, pointers: &[Ptr]) -> Result<()> {
        let file = match name {
            "bce_with_logits" | "mse" => "loss",
            "bernoulli" => "random",
            _ => "elementwise",
        };
        let len = self.written().len();
        self.each(kernel(file, name), len, Map { len: word(len)?, ..args }, pointers)
    }
}

/// The arguments of a kernel over rows.
pub(super) fn rows_of(rows: usize, width: usize, others: usize, eps: f32) -> Result<Rows> {
    // The number of all elements must fit into one word.
    word(rows * width.max(1))?;
    Ok(Rows { rows: word(rows)?, width: word(width)?, others: word(others)?, eps })
}

/// The pointers of an epilogue: bias, addend, and the saved value that an activation gradient is computed
/// from.
pub(super) fn epilogue_pointers(epilogue: &[Fused]) -> [Ptr; 3] {
    fused_operands(epilogue).map(|operand| operand.map_or(Ptr::Null, |operand| Ptr::Buffer(operand.buffer)))
}
