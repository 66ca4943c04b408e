//! Windowed sampling: the tables that `sample.cu` interprets, and their launches.

use super::compiled::{Params, Places};
use super::driver::{Address, Function, Memory, Stream};
use super::kernels::Kernels;
use super::launch::{THREADS, kernel};
use crate::backend::args::{Conv, Epilogue, Sample, binary_code, unary_code, word};
use crate::error::{Error, Result};
use crate::tape::geometry::{ConvGeom, Mask};
use crate::tape::op::Op;
use crate::tape::plan::{Fused, Operand, Step};
use crate::tape::window::SamplingPlan;
use bytemuck::{Pod, Zeroable};
use cudarc::driver::result::DriverError;

/// A step as the kernel reads it: `SampleStep` of `sample.cu`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
struct SampleStep {
    inputs: [Address; 3],
    outputs: [Address; 2],
    fused: [Address; 3],
    input_stride: [u32; 3],
    output_stride: [u32; 2],
    fused_stride: [u32; 3],
    conv: Conv,
    epilogue: Epilogue,
    op: u32,
    f: u32,
    a: f32,
    b: f32,
    size: [u32; 3],
    inner: [u32; 3],
    before: [u32; 3],
    transposed: u32,
    reverse: u32,
    unused: u32,
}

const _: () = assert!(size_of::<SampleStep>() == 256);

/// What a sampling plan has beside its buffers.
pub(super) struct Sampling {
    function: Function,
    images: u32,
    rounds: u32,
    /// Rounds of a launch: those of a row of an image.
    row: u32,
    /// Steps, windows, starts.
    tables: [Memory; 3],
    draws: Address,
    x: Address,
}

impl Sampling {
    /// The tables of a plan.
    ///
    /// # Errors
    /// [`Error::Device`] for a step that has no windows here; the error names it.
    pub(super) fn new(
        plan: &SamplingPlan,
        places: &Places,
        kernels: &mut Kernels,
        stream: &Stream,
    ) -> Result<Sampling> {
        let mut steps = vec![];
        for (step, size) in plan.plan.steps.iter().zip(&plan.sizes) {
            // A step that ran before the first round has no window.
            steps.push(match size {
                Some(size) => entry(step, *size, plan.images, places)?,
                None => SampleStep::default(),
            });
        }
        let starts = plan.starts.iter().map(|s| word(*s)).collect::<Result<Vec<u32>>>()?;
        let table = |words: &[u32]| {
            let memory = Memory::new(words.len())?;
            stream.write(&memory, words)?;
            Ok::<Memory, Error>(memory)
        };
        let tables =
            [table(bytemuck::cast_slice(&steps))?, table(bytemuck::cast_slice(&plan.windows))?, table(&starts)?];
        let of = |output: usize| places.of(plan.plan.outputs[output].1.buffer);
        Ok(Sampling {
            function: kernels.function(kernel("sample", "sample"), 0)?,
            images: word(plan.images)?,
            rounds: word(plan.rounds())?,
            row: word(plan.image[1] * plan.image[2])?,
            tables,
            draws: of(SamplingPlan::DRAWS),
            x: of(SamplingPlan::IMAGES),
        })
    }

    /// Words of the tables.
    pub(super) fn words(&self) -> usize {
        self.tables.iter().map(Memory::words).sum()
    }

    /// Positions of all images that one launch walks through.
    pub(super) fn positions_of_a_row(&self) -> usize {
        (self.images * self.row) as usize
    }

    /// How many launches there are.
    pub(super) fn rows(&self) -> u32 {
        self.rounds / self.row
    }

    /// Enqueues the rounds of one row of all images.
    ///
    /// # Safety
    /// All memory that the plan touches stays alive until it is done.
    pub(super) unsafe fn enqueue(&self, stream: &Stream, row: u32, from: usize) -> Result<(), DriverError> {
        let first = row * self.row;
        let args =
            Sample { first, end: first + self.row, rounds: self.rounds, from: from.min(u32::MAX as usize) as u32 };
        let [steps, windows, starts] = &self.tables;
        let addresses = vec![steps.address(), windows.address(), starts.address(), self.draws, self.x];
        let params = Params { args: bytemuck::bytes_of(&args).to_vec(), addresses };
        let block = [THREADS as u32, 1, 1];
        // SAFETY: the caller's contract; the parameters are those of `sample`.
        unsafe { stream.launch(&self.function, [self.images, 1, 1], block, 0, &mut params.pointers()) }
    }
}

/// A step that writes images of `size`.
fn entry(step: &Step, size: [usize; 3], images: usize, places: &Places) -> Result<SampleStep> {
    let mut entry = SampleStep { size: size.map(|e| e as u32), ..SampleStep::default() };
    let (code, shared): (u32, &[usize]) = match &step.op {
        Op::Unary(f) => {
            (entry.f, entry.a) = unary_code(*f);
            (0, &[])
        }
        Op::Binary(f) => {
            entry.f = binary_code(*f);
            (1, &[])
        }
        Op::Affine { scale, shift } => {
            (entry.a, entry.b) = (*scale, *shift);
            (2, &[])
        }
        Op::Clamp { lo, hi } => {
            (entry.a, entry.b) = (*lo, *hi);
            (3, &[])
        }
        Op::Quantize { levels } => {
            entry.a = (*levels - 1) as f32;
            (4, &[])
        }
        Op::Dequantize { levels } => {
            entry.a = (*levels - 1) as f32;
            (5, &[])
        }
        Op::Gated => (6, &[]),
        Op::Pad { before, .. } | Op::Slice { before, .. } => {
            entry.before = [before[1], before[2], before[3]].map(|b| b as u32);
            (if matches!(step.op, Op::Pad { .. }) { 7 } else { 8 }, &[])
        }
        Op::Conv(g) => {
            entry.conv = Conv::new(g)?;
            (9, &[1])
        }
        Op::Matmul { ta: false, tb } => {
            entry.conv = Conv::new(&rows_times_matrix(step, size))?;
            entry.transposed = u32::from(*tb);
            (9, &[1])
        }
        Op::Categorical => {
            entry.f = word(step.inputs[0].meta.shape.last())?;
            (10, &[2])
        }
        Op::Bernoulli => (11, &[2]),
        Op::RowLstm => {
            entry.conv.kw = word(step.inputs[1].meta.shape.padded()[1])?;
            (12, &[1])
        }
        Op::DiagonalLstm { reverse } => {
            entry.reverse = u32::from(*reverse);
            (13, &[1])
        }
        _ => {
            return Err(Error::Device(format!(
                "{} in {}, recorded at {}, has no windows on CUDA; use --device cpu",
                step.label(),
                step.scope,
                step.at
            )));
        }
    };
    entry.op = code;
    let inner = step.inputs[0].meta.shape.padded();
    entry.inner = [inner[1], inner[2], inner[3]].map(|e| e as u32);
    let stride = |operand: &Operand, is_shared: bool| match is_shared {
        true => Ok(0),
        false => word(operand.meta.shape.len() / images.max(1)),
    };
    for (i, operand) in step.inputs.iter().enumerate() {
        (entry.inputs[i], entry.input_stride[i]) = (places.of(operand.buffer), stride(operand, shared.contains(&i))?);
    }
    for (i, operand) in step.outputs.iter().take(2).enumerate() {
        (entry.outputs[i], entry.output_stride[i]) = (places.of(operand.buffer), stride(operand, false)?);
    }
    entry.epilogue = Epilogue::new(&step.epilogue);
    for fused in &step.epilogue {
        let i = match fused {
            Fused::Bias(_) => 0,
            Fused::Add(_) => 1,
            Fused::ActBwd(..) => 2,
            Fused::Act(_) => continue,
        };
        if let Some(operand) = fused.operand() {
            (entry.fused[i], entry.fused_stride[i]) = (places.of(operand.buffer), stride(operand, i == 0)?);
        }
    }
    Ok(entry)
}

/// Rows of channels times a matrix, as a 1x1 convolution.
fn rows_times_matrix(step: &Step, [h, w, cout]: [usize; 3]) -> ConvGeom {
    let (cin, n) = (step.inputs[0].meta.shape.last(), step.outputs[0].meta.shape.rows() / (h * w).max(1));
    let (kh, kw, stride, pad, mask, groups, blocks) = (1, 1, [1, 1], [0, 0], Mask::None, 1, 1);
    ConvGeom { n, h, w, cin, oh: h, ow: w, cout, kh, kw, stride, pad, mask, groups, blocks }
}
