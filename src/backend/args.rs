//! The arguments of the GPU kernels, apart from their buffers. Each kernel family has one `#[repr(C)]`
//! struct, with the same fields in the same order as in `kernels/args.cuh`.
//!
//! WGSL kernels read `Region`, `Conv` and `Epilogue` too; the other structs of the shaders are in
//! `src/backend/wgpu/args.rs`. Every field is a word (u32 or f32), except two of [`Optim`]. Rust, CUDA and
//! WGSL must agree on every offset. So the arrays in structs that WGSL reads are four words long and start
//! at multiples of 16 bytes. Sizes are asserted here and in `args.cuh`. Lengths count elements of four
//! bytes.

use crate::error::{Error, Result};
use crate::shape::Shape;
use crate::tape::geometry::{ConvGeom, Mask};
use crate::tape::op::Unary;
use crate::tape::plan::{Fused, Operand};
use bytemuck::{Pod, Zeroable};

/// Elementwise kernels: `fill`, `unary`, `unary_bwd`, `binary`, `affine`, `clamp`, `quantize`, `dequantize`,
/// `reparameterize`, `bce_with_logits`, `mse`, `bernoulli`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Map {
    /// Number of elements.
    pub len: u32,
    /// Code of a [`Unary`] or [`Binary`](crate::tape::op::Binary) function.
    pub f: u32,
    /// Slope, value, scale, lower bound or highest level.
    pub a: f32,
    /// Shift or upper bound.
    pub b: f32,
}

/// Kernels over rows of one width: `gated`, `softmax_cross_entropy`, `lstm_cell` and their gradients;
/// `gather`, `scatter`, `gaussian_kl`, `gaussian_sample_bwd`, `categorical`, `layer_norm`,
/// `batch_norm_infer`, `transpose`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Rows {
    /// Rows of the output.
    pub rows: u32,
    /// Elements of a row, of one gate (`lstm_cell`) or of one half (`gated`).
    pub width: u32,
    /// Rows of the other operand: rows of the table for `gather`, number of indices for `scatter`; number of
    /// matrices for `transpose`.
    pub others: u32,
    /// Added under the root, so that no divisor is zero.
    pub eps: f32,
}

/// `pad` and `slice`: the position of a region of `inner` extents in a tensor of `outer` extents.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Region {
    /// Extents of the larger tensor, outermost first.
    pub outer: [u32; 4],
    /// Extents of the region.
    pub inner: [u32; 4],
    /// Position of the region's first element in the larger tensor.
    pub before: [u32; 4],
}

/// `sum` and `expand`: the large tensor is `[kept0, folded0, kept1, folded1, kept2]`, the small one
/// `[kept0, kept1, kept2]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Axes {
    /// Extents.
    pub kept0: u32,
    pub folded0: u32,
    pub kept1: u32,
    pub folded1: u32,
    pub kept2: u32,
    /// Rows that one partial sum adds up, of the `folded0 * folded1` rows of a sum.
    pub part_rows: u32,
    /// Number of partial sums per sum.
    pub parts: u32,
    /// Threads that add up one column, a power of two.
    pub lanes: u32,
}

/// Extents and mask of a convolution, see [`ConvGeom`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Conv {
    /// Images, rows, columns and channels of x.
    pub n: u32,
    pub h: u32,
    pub w: u32,
    pub cin: u32,
    /// Rows, columns and channels of y.
    pub oh: u32,
    pub ow: u32,
    pub cout: u32,
    /// Rows and columns of the kernel.
    pub kh: u32,
    pub kw: u32,
    /// Strides of rows and columns.
    pub sh: u32,
    pub sw: u32,
    /// Padding above and to the left.
    pub ph: u32,
    pub pw: u32,
    /// Mask: 0 for none, 1 for A, 2 for B.
    pub mask: u32,
    /// Number of colour groups, and number of blocks of output channels.
    pub groups: u32,
    pub blocks: u32,
}

/// The epilogue of a product: up to four operations in order, at most one of each kind.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Epilogue {
    /// Kinds of the operations: 0 ends the list, 1 bias, 2 add, 3 activation, 4 activation gradient.
    pub kinds: [u32; 4],
    /// Code and slope of the activation.
    pub act: u32,
    pub act_slope: f32,
    /// Code and slope of the activation whose gradient is taken.
    pub act_bwd: u32,
    pub act_bwd_slope: f32,
}

/// `conv` and `conv_dx`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Product {
    /// The convolution.
    pub conv: Conv,
    /// The operations on its output.
    pub epilogue: Epilogue,
}

/// `conv_dw`: the sum over pixels is cut into chunks. The sums of the chunks are then added in order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct ConvDw {
    /// The convolution.
    pub conv: Conv,
    /// Pixels of a chunk, and number of chunks.
    pub chunk: u32,
    pub chunks: u32,
    /// Padding: makes the size a multiple of 16 bytes.
    pub unused: [u32; 2],
}

/// `matmul`: `c[m, n] = op(a) op(b)`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Matmul {
    /// Rows of c, columns of c, and length of the sum.
    pub m: u32,
    pub n: u32,
    pub k: u32,
    /// Elements of k in a chunk; 0 if k is not cut into chunks.
    pub chunk: u32,
    /// The operations on its output.
    pub epilogue: Epilogue,
}

/// `batch_norm`, `group_norm` and their gradients, `layer_norm_bwd`: rows of `c` channels in chunks.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Norm {
    /// Number of rows (pixels), and elements of a row (channels).
    pub rows: u32,
    pub c: u32,
    /// Rows of a chunk, and number of chunks.
    pub chunk: u32,
    pub chunks: u32,
    /// Added to the variance under the root.
    pub eps: f32,
    /// Code of the activation and its slope; the code is [`NO_FUNCTION`] if there is no activation.
    pub act: u32,
    pub act_slope: f32,
    /// Number of images, each of `rows` rows with statistics of its own, and number of neighbouring channels
    /// that share their statistics.
    pub images: u32,
    pub share: u32,
    /// Padding: makes the size a multiple of 16 bytes.
    pub unused: [u32; 3],
}

/// `lstm` and `lstm_bwd`: extents of a sequence.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Sequence {
    /// Steps, rows of the batch, hidden units.
    pub steps: u32,
    pub rows: u32,
    pub h: u32,
    /// Leading rows of the recurrent weights that are held in shared memory (CUDA).
    pub held: u32,
}

/// `row_lstm`, `diagonal_lstm` and their gradients: a scan over images.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Scan {
    /// Images, rows, columns, and units of a pixel.
    pub n: u32,
    pub h: u32,
    pub w: u32,
    pub d: u32,
    /// Number of states that a pixel reads: states of the row above in a Row LSTM, 2 in a Diagonal LSTM.
    pub taps: u32,
    /// 1 if columns run from right to left.
    pub reverse: u32,
    /// Leading rows of the weights that are held in shared memory (CUDA).
    pub held: u32,
    /// Padding: makes the size a multiple of 16 bytes.
    pub unused: u32,
}

/// `random`: `len` draws.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Random {
    /// Number of elements.
    pub len: u32,
    /// Elements of an image if draws are counted by image; 0 if they are counted by replay.
    pub per_image: u32,
    /// Number of the random stream.
    pub stream: u32,
    /// 0 for uniform draws, 1 for normal draws.
    pub normal: u32,
}

/// `gaussian_sample`: one sample per row.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Gaussian {
    /// Rows, and dimensions of each.
    pub rows: u32,
    pub width: u32,
    /// Number of the random stream.
    pub stream: u32,
    /// Padding: makes the size a multiple of 16 bytes.
    pub unused: u32,
}

/// `adam`, `rmsprop`, `sgd`, `ema`: constants of an optimiser.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Optim {
    /// `adam`: beta1 and beta2. The kernel computes their powers in double precision, so each of these two
    /// fields takes two words.
    pub beta1: f64,
    pub beta2: f64,
    /// `adam`: 1 - beta1.
    pub to_m: f32,
    /// beta2 (`adam`), alpha (`rmsprop`), momentum (`sgd`) or decay (`ema`).
    pub keep: f32,
    /// 1 - `keep`.
    pub to_v: f32,
    /// Added to a divisor, so that the quotient stays finite.
    pub eps: f32,
    /// Number of updates in the table of the launch.
    pub len: u32,
    /// Padding: makes the size a multiple of 16 bytes.
    pub unused: [u32; 3],
}

/// `sample`: a range of rounds of a sampling plan.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Sample {
    /// The first round, and the round after the last one.
    pub first: u32,
    pub end: u32,
    /// Number of all rounds, which is the number of positions of an image.
    pub rounds: u32,
    /// Positions before this one are given and not drawn.
    pub from: u32,
}

const _: () = assert!(size_of::<Map>() == 16 && size_of::<Rows>() == 16 && size_of::<Region>() == 48);
const _: () = assert!(size_of::<Axes>() == 32 && size_of::<Conv>() == 64 && size_of::<Epilogue>() == 32);
const _: () = assert!(size_of::<Product>() == 96 && size_of::<ConvDw>() == 80 && size_of::<Matmul>() == 48);
const _: () = assert!(size_of::<Norm>() == 48 && size_of::<Sequence>() == 16 && size_of::<Random>() == 16);
const _: () = assert!(size_of::<Gaussian>() == 16);
const _: () = assert!(size_of::<Optim>() == 48 && size_of::<Scan>() == 32 && size_of::<Sample>() == 16);

/// A length or extent as a word.
///
/// # Errors
/// [`Error::Device`] if it is above 2^31 - 1, because kernels count elements in 32 bits.
pub fn word(x: usize) -> Result<u32> {
    i32::try_from(x).map(|x| x as u32).map_err(|_| {
        Error::Device(format!("an operand of {x} elements is more than a GPU kernel counts; choose a smaller batch"))
    })
}

/// The code that means "no function".
pub const NO_FUNCTION: u32 = 0;

/// Code of an elementwise function, and its argument (the slope of a leaky relu), or 0 if it has no
/// argument.
pub fn unary_code(f: Unary) -> (u32, f32) {
    (f.code(), f.argument().unwrap_or_default() as f32)
}

impl Region {
    /// A region of `inner` extents that begins at `before`.
    pub fn new(outer: Shape, inner: Shape, before: [usize; 4]) -> Region {
        let words = |extents: [usize; 4]| extents.map(|e| e as u32);
        Region { outer: words(outer.padded()), inner: words(inner.padded()), before: words(before) }
    }
}

impl Conv {
    /// Converts a geometry.
    ///
    /// # Errors
    /// [`Error::Device`] if an operand is too large, see [`word`].
    pub fn new(g: &ConvGeom) -> Result<Conv> {
        for shape in [g.x_shape(), g.w_shape(), g.y_shape()] {
            word(shape.len())?;
        }
        let [sh, sw] = g.stride.map(|s| s as u32);
        let [ph, pw] = g.pad.map(|p| p as u32);
        let mask = match g.mask {
            Mask::None => 0,
            Mask::A => 1,
            Mask::B => 2,
        };
        Ok(Conv {
            n: g.n as u32,
            h: g.h as u32,
            w: g.w as u32,
            cin: g.cin as u32,
            oh: g.oh as u32,
            ow: g.ow as u32,
            cout: g.cout as u32,
            kh: g.kh as u32,
            kw: g.kw as u32,
            sh,
            sw,
            ph,
            pw,
            mask,
            groups: g.groups as u32,
            blocks: g.blocks as u32,
        })
    }
}

/// Kinds of operations in an [`Epilogue`], the same in `product.cuh`, `sample.cu` and the shaders.
pub mod fused {
    pub const BIAS: u32 = 1;
    pub const ADD: u32 = 2;
    pub const ACT: u32 = 3;
    pub const ACT_BWD: u32 = 4;
}

impl Epilogue {
    /// Converts an epilogue. It has at most one operation of each kind (`Plan::check`).
    pub fn new(fused: &[Fused]) -> Epilogue {
        let mut epilogue = Epilogue::default();
        for (kind, operation) in epilogue.kinds.iter_mut().zip(fused) {
            *kind = match operation {
                Fused::Bias(_) => fused::BIAS,
                Fused::Add(_) => fused::ADD,
                Fused::Act(f) => {
                    (epilogue.act, epilogue.act_slope) = unary_code(*f);
                    fused::ACT
                }
                Fused::ActBwd(f, _) => {
                    (epilogue.act_bwd, epilogue.act_bwd_slope) = unary_code(*f);
                    fused::ACT_BWD
                }
            };
        }
        epilogue
    }
}

/// The operands of an epilogue, in the order in which every kernel takes them: the bias, the addend, and the
/// saved value that an activation gradient is computed from.
pub fn fused_operands(epilogue: &[Fused]) -> [Option<&Operand>; 3] {
    let mut operands = [None; 3];
    for fused in epilogue {
        match fused {
            Fused::Bias(operand) => operands[0] = Some(operand),
            Fused::Add(operand) => operands[1] = Some(operand),
            Fused::ActBwd(_, operand) => operands[2] = Some(operand),
            Fused::Act(_) => {}
        }
    }
    operands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epilogue_keeps_its_order() {
        let e = Epilogue::new(&[Fused::Act(Unary::LeakyRelu(0.2))]);
        assert_eq!((e.kinds, (e.act, e.act_slope)), ([3, 0, 0, 0], unary_code(Unary::LeakyRelu(0.2))));
        assert_eq!(e.act_bwd, NO_FUNCTION);
    }

    #[test]
    fn what_a_kernel_cannot_count_is_refused() {
        assert_eq!(word((1 << 31) - 1).unwrap(), (1 << 31) - 1);
        assert!(word(1 << 31).unwrap_err().to_string().contains("smaller batch"));
    }
}
