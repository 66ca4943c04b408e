//! What the launches of a step are made of, and how they are collected.

use super::kernels::Kernel;
use crate::backend::args::{Map, Rows, fused_operands, word};
use crate::error::{Error, Result};
use crate::shape::Shape;
use crate::tape::plan::{Buffer, Fused, Step};
use bytemuck::Pod;

/// Threads of a block of elementwise kernels: `THREADS` of `common.cuh`.
pub(super) const THREADS: usize = 256;

/// What a pointer of a kernel leads to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ptr {
    /// The value of an operand.
    Buffer(Buffer),
    /// Scratch of the step, from this word on.
    Scratch(usize),
    /// The table of updates of a group of optimiser steps.
    Updates,
    /// Nothing: the kernel does not read it.
    Null,
}

/// One kernel launch.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    /// What runs.
    pub(super) kernel: Kernel,
    /// Blocks.
    pub(super) grid: [u32; 3],
    /// Threads of a block.
    pub(super) block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub(super) shared: u32,
    /// The argument struct, the first parameter.
    pub(super) args: Vec<u8>,
    /// The other parameters.
    pub(super) pointers: Vec<Ptr>,
}

/// What is enqueued for a step.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// A kernel.
    Kernel(Launch),
    /// A copy of so many words.
    Copy { to: Ptr, from: Ptr, words: usize },
}

/// What the launches depend on of the card: how wide a grid need be, and shared memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Card {
    pub(super) processors: u32,
    pub(super) shared_bytes: u32,
}

/// The launches of a step, or of a group of optimiser steps.
#[derive(Debug, Default)]
pub(super) struct Lowered {
    pub(super) work: Vec<Work>,
    /// Words of scratch.
    pub(super) scratch: usize,
    /// Updates of an optimiser.
    pub(super) updates: Vec<Update>,
}

/// One line of the table: `Update` of `optim.cu`, still by buffer.
#[derive(Clone, Debug)]
pub(super) struct Update {
    /// Parameter, gradient, first and second state; then parameter and states as they become.
    pub(super) pointers: [Ptr; 7],
    /// Elements.
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

    /// Takes scratch that no other launch of the step uses.
    pub(super) fn scratch(&mut self, words: usize) -> Result<Ptr> {
        let at = self.out.scratch;
        // Whole rows of 64 words, so that every part is aligned.
        self.out.scratch += words.next_multiple_of(64);
        word(self.out.scratch)?;
        Ok(Ptr::Scratch(at))
    }

    /// Enqueues a kernel.
    pub(super) fn launch<A: Pod>(
        &mut self,
        kernel: Kernel,
        (grid, block, shared): ([u32; 3], [u32; 3], u32),
        args: A,
        pointers: &[Ptr],
    ) -> Result<()> {
        if shared > self.card.shared_bytes {
            return Err(Error::Device(format!(
                "{} (recorded at {}) needs {shared} bytes of shared memory and a block of this card has {}; \
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
        self.out.work.push(Work::Kernel(Launch { kernel, grid, block, shared, args, pointers }));
        Ok(())
    }

    /// Enqueues a kernel whose threads stride over `len` elements: as many blocks as keep the card busy at
    /// most.
    pub(super) fn each<A: Pod>(&mut self, kernel: Kernel, len: usize, args: A, pointers: &[Ptr]) -> Result<()> {
        let most = 16 * self.card.processors;
        let blocks = word(len)?.div_ceil(THREADS as u32).clamp(1, most);
        self.launch(kernel, ([blocks, 1, 1], [THREADS as u32, 1, 1], 0), args, pointers)
    }

    /// Enqueues a kernel in which a warp takes a row.
    pub(super) fn rows<A: Pod>(&mut self, kernel: Kernel, rows: usize, args: A, pointers: &[Ptr]) -> Result<()> {
        let blocks = word(rows)?.div_ceil(THREADS as u32 / 32).max(1);
        self.launch(kernel, ([blocks, 1, 1], [THREADS as u32, 1, 1], 0), args, pointers)
    }

    /// An elementwise kernel over the first output: function code and two constants.
    pub(super) fn map(&mut self, name: &'static str, (f, a, b): (u32, f32, f32), pointers: &[Ptr]) -> Result<()> {
        let file = match name {
            "bce_with_logits" | "mse" => "loss",
            "bernoulli" => "random",
            _ => "elementwise",
        };
        let len = self.written().len();
        self.each(kernel(file, name), len, Map { len: word(len)?, f, a, b }, pointers)
    }
}

/// Rows of a width.
pub(super) fn rows_of(rows: usize, width: usize, others: usize, eps: f32) -> Result<Rows> {
    // All elements are counted in one word.
    word(rows * width.max(1))?;
    Ok(Rows { rows: word(rows)?, width: word(width)?, others: word(others)?, eps })
}

/// The pointers of an epilogue: bias, what is added, what an activation gradient is computed from.
pub(super) fn epilogue_pointers(epilogue: &[Fused]) -> [Ptr; 3] {
    fused_operands(epilogue).map(|operand| operand.map_or(Ptr::Null, |operand| Ptr::Buffer(operand.buffer)))
}
