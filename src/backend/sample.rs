//! Windowed sampling on a GPU: builds the table of steps that `kernels/sample.cu` and `shaders/sample.wgsl`
//! interpret.

use super::args::{Conv, Epilogue, fused_operands, unary_code, word};
use crate::error::{Error, Result};
use crate::shape::ImageSize;
use crate::tape::geometry::ConvGeom;
use crate::tape::plan::{Buffer, Operand, Step};
use crate::tape::window::SamplingPlan;
use crate::tape::window_op::WindowOp;
use bytemuck::{NoUninit, Pod, Zeroable};

/// A step: the addresses of its operands, of the device's address type `A`, and what it computes. In the
/// table of words the addresses come first, in the order of these fields. The same struct is `SampleStep` in
/// `sample.cu` and `sample.wgsl`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SampleStep<A> {
    /// Address of the first image of each operand.
    pub(super) inputs: [A; 3],
    pub(super) outputs: [A; 2],
    /// Operands of the epilogue: bias, addend, saved value of an activation gradient.
    pub(super) fused: [A; 3],
    pub(super) does: Does,
}

/// The part of a step that is not an address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub(super) struct Does {
    /// Words from one image to the next; 0 if all images share the value.
    pub(super) input_stride: [u32; 3],
    pub(super) output_stride: [u32; 2],
    pub(super) fused_stride: [u32; 3],
    /// Geometry of a convolution. A scan sets `kw` only: the number of states of the row above that a pixel
    /// reads.
    pub(super) conv: Conv,
    pub(super) epilogue: Epilogue,
    /// The code of the op ([`WindowOp::code`]); 0 for a step without windows.
    pub(super) op: u32,
    /// Code of a function, or number of classes of a categorical draw.
    pub(super) f: u32,
    /// `a` is a slope, a scale, a lower bound or the highest level; `b` is a shift or an upper bound.
    pub(super) a: f32,
    pub(super) b: f32,
    /// Height, width and channels: `size` of the first output, `inner` of the first input.
    pub(super) size: [u32; 3],
    pub(super) inner: [u32; 3],
    /// Position of the first element of a region (`pad`, `slice`).
    pub(super) before: [u32; 3],
    /// 1 if the weights are stored as `[cout, cin]`.
    pub(super) transposed: u32,
    /// 1 if columns run from right to left.
    pub(super) reverse: u32,
    /// Padding: makes the size a multiple of 16 bytes.
    pub(super) unused: u32,
}

const _: () = assert!(size_of::<Does>() == 192);

/// The table entries of a plan's steps. `of` returns the address of a buffer. A step that runs before the
/// first round has no windows; its entry is left empty.
///
/// # Errors
/// [`Error::Device`] if a step has no windows in this plan; the error names the step.
pub(super) fn steps<A: Copy + Default>(plan: &SamplingPlan, of: impl Fn(Buffer) -> A) -> Result<Vec<SampleStep<A>>> {
    let steps = plan.plan.steps.iter().zip(&plan.sizes);
    steps
        .map(|(step, size)| size.map_or(Ok(SampleStep::default()), |size| entry(step, size, plan.images, &of)))
        .collect()
}

/// The table as words.
pub(super) fn words<A: NoUninit>(steps: &[SampleStep<A>]) -> Vec<u32> {
    let words = |step: &SampleStep<A>| {
        let SampleStep { inputs, outputs, fused, does } = step;
        let addresses: [&[u32]; 3] = [inputs.as_slice(), outputs, fused].map(bytemuck::cast_slice);
        [addresses.concat(), bytemuck::cast_slice(bytemuck::bytes_of(does)).to_vec()].concat()
    };
    steps.iter().flat_map(words).collect()
}

/// The entry of a step that writes images of `size`.
fn entry<A: Copy + Default>(
    step: &Step,
    size: ImageSize,
    images: usize,
    of: &impl Fn(Buffer) -> A,
) -> Result<SampleStep<A>> {
    let mut does = Does { size: size.axes().map(|e| e as u32), ..Does::default() };
    let op = WindowOp::of(&step.op).map_err(|why| {
        Error::Device(format!("{} in {}, recorded at {}, has no windows: {why}", step.label(), step.scope, step.at))
    })?;
    does.op = op.code();
    // Indices of the inputs that all images share.
    let shared: &[usize] = match op {
        WindowOp::Unary(f) => {
            (does.f, does.a) = unary_code(f);
            &[]
        }
        WindowOp::Binary(f) => {
            does.f = f.code();
            &[]
        }
        WindowOp::Affine { scale, shift } => {
            (does.a, does.b) = (scale as f32, shift as f32);
            &[]
        }
        WindowOp::Clamp { lo, hi } => {
            (does.a, does.b) = (lo as f32, hi as f32);
            &[]
        }
        WindowOp::Quantize { levels } | WindowOp::Dequantize { levels } => {
            does.a = (levels - 1) as f32;
            &[]
        }
        WindowOp::Gated => &[],
        WindowOp::Pad { before, .. } | WindowOp::Slice { before, .. } => {
            does.before = [before[1], before[2], before[3]].map(|b| b as u32);
            &[]
        }
        WindowOp::Conv(g) => {
            does.conv = Conv::new(g)?;
            &[1]
        }
        WindowOp::Matmul { tb } => {
            does.conv = Conv::new(&ConvGeom::rows_times_matrix(step.inputs[0].meta.shape, size))?;
            does.transposed = u32::from(tb);
            &[1]
        }
        WindowOp::Categorical => {
            does.f = word(step.inputs[0].meta.shape.last())?;
            &[2]
        }
        WindowOp::Bernoulli => &[2],
        WindowOp::RowLstm => {
            does.conv.kw = word(step.inputs[1].meta.shape.padded()[1])?;
            &[1]
        }
        WindowOp::DiagonalLstm { reverse } => {
            does.reverse = u32::from(reverse);
            &[1]
        }
    };
    let inner = step.inputs[0].meta.shape.padded();
    does.inner = [inner[1], inner[2], inner[3]].map(|e| e as u32);
    does.epilogue = Epilogue::new(&step.epilogue);
    let mut entry = SampleStep::default();
    let stride = |operand: &Operand, is_shared: bool| {
        if is_shared { Ok(0) } else { word(operand.meta.shape.len() / images.max(1)) }
    };
    for (i, operand) in step.inputs.iter().enumerate() {
        (entry.inputs[i], does.input_stride[i]) = (of(operand.buffer), stride(operand, shared.contains(&i))?);
    }
    for (i, operand) in step.outputs.iter().take(2).enumerate() {
        (entry.outputs[i], does.output_stride[i]) = (of(operand.buffer), stride(operand, false)?);
    }
    for (i, operand) in fused_operands(&step.epilogue).into_iter().enumerate() {
        if let Some(operand) = operand {
            (entry.fused[i], does.fused_stride[i]) = (of(operand.buffer), stride(operand, i == 0)?);
        }
    }
    Ok(SampleStep { does, ..entry })
}
