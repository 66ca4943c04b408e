//! Windowed sampling: builds the tables that `sample.cu` interprets, and launches that kernel.

use super::driver::{Address, Function, LaunchShape, Memory, Stream};
use super::kernels::Kernels;
use super::lowering::{THREADS, kernel};
use super::places::{Params, Places};
use crate::backend::args::{Sample, word};
use crate::backend::sample;
use crate::error::{Error, Result};
use crate::tape::window::SamplingPlan;
use cudarc::driver::result::DriverError;

/// The parts of a sampled plan in addition to its buffers.
pub(super) struct Sampling {
    function: Function,
    images: u32,
    rounds: u32,
    /// Rounds of a launch, which are those of one row of an image.
    row: u32,
    tables: Tables,
    draws: Address,
    x: Address,
}

/// The tables that the kernel interprets.
struct Tables {
    steps: Memory,
    windows: Memory,
    /// The first window of each round.
    starts: Memory,
}

impl Sampling {
    /// Makes the tables of a plan.
    ///
    /// # Errors
    /// [`Error::Device`] if a step has no windows; the error names the step.
    pub(super) fn new(
        plan: &SamplingPlan,
        places: &Places,
        kernels: &mut Kernels,
        stream: &Stream,
    ) -> Result<Sampling> {
        let steps = sample::words(&sample::steps(plan, |buffer| places.of(buffer))?);
        let starts = plan.starts.iter().map(|s| word(*s)).collect::<Result<Vec<u32>>>()?;
        let table = |words: &[u32]| {
            let memory = Memory::new(words.len())?;
            stream.write(&memory, words)?;
            Ok::<Memory, Error>(memory)
        };
        let tables = Tables {
            steps: table(&steps)?,
            windows: table(bytemuck::cast_slice(&plan.windows))?,
            starts: table(&starts)?,
        };
        let of = |output: usize| places.of(plan.plan.outputs[output].1.buffer);
        Ok(Sampling {
            function: kernels.function(kernel("sample", "sample"), 0)?,
            images: word(plan.images)?,
            rounds: word(plan.rounds())?,
            row: word(plan.image.width * plan.image.channels)?,
            tables,
            draws: of(SamplingPlan::DRAWS),
            x: of(SamplingPlan::IMAGES),
        })
    }

    /// Number of words of the tables.
    pub(super) fn words(&self) -> usize {
        let Tables { steps, windows, starts } = &self.tables;
        steps.words() + windows.words() + starts.words()
    }

    /// Number of positions that one launch computes, over all images.
    pub(super) fn positions_of_a_row(&self) -> usize {
        (self.images * self.row) as usize
    }

    /// Number of launches per batch, one per row of an image.
    pub(super) fn rows(&self) -> u32 {
        self.rounds / self.row
    }

    /// Enqueues the rounds of one row of all images.
    ///
    /// # Safety
    /// All memory that the plan accesses stays allocated until the launch is done. The tables hold windows
    /// inside their steps' sizes, and no operand is longer than its buffer.
    pub(super) unsafe fn enqueue(&self, stream: &Stream, row: u32, from: usize) -> Result<(), DriverError> {
        let first = row * self.row;
        let args =
            Sample { first, end: first + self.row, rounds: self.rounds, from: from.min(u32::MAX as usize) as u32 };
        let Tables { steps, windows, starts } = &self.tables;
        let addresses = vec![steps.address(), windows.address(), starts.address(), self.draws, self.x];
        let params = Params { args: bytemuck::bytes_of(&args).to_vec(), addresses };
        let shape = LaunchShape { grid: [self.images, 1, 1], block: [THREADS as u32, 1, 1], shared_bytes: 0 };
        // SAFETY: the caller keeps the memory allocated (contract of this function). The parameters are
        // those of the kernel `sample` in number, size and order: `Sample`, then five addresses.
        unsafe { stream.launch(&self.function, shape, &mut params.pointers()) }
    }
}
