//! The arguments of the GPU kernels besides their buffers: one `#[repr(C)]` struct per kernel family, the
//! same fields in the same order as in `kernels/args.cuh`.
//!
//! Of these, `Block`, `Conv` and `Epilogue` are read by WGSL kernels too; the other structs of the shaders
//! are in `src/backend/wgpu/args.rs`. Every field is a word (u32 or f32), except two of [`Optim`]. Arrays
//! are four words long and start at multiples of 16 bytes, so that Rust, CUDA and WGSL agree on every
//! offset. Sizes are asserted here and in `args.cuh`. Lengths count elements of four bytes.

use crate::error::{Error, Result};
use crate::shape::Shape;
use crate::tape::geometry::{ConvGeom, Mask};
use crate::tape::op::Unary;
use crate::tape::plan::{Fused, Operand};
use bytemuck::{Pod, Zeroable};

/// Elementwise kernels: `fill`, `unary`, `unary_bwd`, `binary`, `affine`, `clamp`, `reparameterize`,
/// `bce_with_logits`, `mse`, `bernoulli`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Map {
    /// Elements.
    pub len: u32,
    /// Code of a [`Unary`] or [`Binary`](crate::tape::op::Binary) function.
    pub f: u32,
    /// Slope, value, scale or lower bound.
    pub a: f32,
    /// Shift or upper bound.
    pub b: f32,
}

/// Kernels over rows of one width: `gated`, `gather`, `scatter`, `softmax_cross_entropy`, `gaussian_kl`,
/// `gaussian_sample_bwd`, `categorical`, `lstm_cell`, `layer_norm`, `batch_norm_infer`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Rows {
    /// Rows of the output.
    pub rows: u32,
    /// Elements of a row; of one gate, of one half.
    pub width: u32,
    /// Rows of the other operand: of the table of `gather`, of the indices of `scatter`.
    pub others: u32,
    /// What keeps a root away from zero.
    pub eps: f32,
}

/// `pad` and `slice`: where a block of `inner` extents lies in a tensor of `outer` extents.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Block {
    /// Extents of the larger tensor, outermost first.
    pub outer: [u32; 4],
    /// Extents of the block.
    pub inner: [u32; 4],
    /// Where the block begins.
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
    /// Rows (of `folded0 * folded1`) of one partial sum.
    pub part_rows: u32,
    /// Partial sums of each sum.
    pub parts: u32,
    /// Threads that add up one column, a power of two.
    pub lanes: u32,
}

/// Extents and mask of a convolution, see [`ConvGeom`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Conv {
    /// Images, rows and columns of x, its channels.
    pub n: u32,
    pub h: u32,
    pub w: u32,
    pub cin: u32,
    /// Rows, columns and channels of y.
    pub oh: u32,
    pub ow: u32,
    pub cout: u32,
    /// Taps.
    pub kh: u32,
    pub kw: u32,
    /// Strides of rows and columns.
    pub sh: u32,
    pub sw: u32,
    /// Padding above and to the left.
    pub ph: u32,
    pub pw: u32,
    /// 0 none, 1 A, 2 B.
    pub mask: u32,
    /// Colour groups, and blocks of the output channels.
    pub groups: u32,
    pub blocks: u32,
}

/// What is folded into the end of a product: up to four operations in order, at most one of each kind.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Epilogue {
    /// 0 nothing more, 1 bias, 2 add, 3 activation, 4 activation gradient.
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
    /// What follows it.
    pub epilogue: Epilogue,
}

/// `conv_dw`: the sum over pixels is cut into chunks, whose sums are then added up in order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct ConvDw {
    /// The convolution.
    pub conv: Conv,
    /// Pixels of a chunk, and how many chunks there are.
    pub chunk: u32,
    pub chunks: u32,
    /// Makes the size a multiple of 16 bytes.
    pub unused: [u32; 2],
}

/// `matmul`: `c[m, n] = op(a) op(b)`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Matmul {
    /// Rows and columns of c, and what is summed over.
    pub m: u32,
    pub n: u32,
    pub k: u32,
    /// Where k is cut into chunks: elements of one; 0 where it is not cut.
    pub chunk: u32,
    /// What follows it.
    pub epilogue: Epilogue,
}

/// `batch_norm`, `batch_norm_bwd`, `layer_norm_bwd`: rows of `c` channels in chunks.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Norm {
    /// Rows (pixels), and elements of each (channels).
    pub rows: u32,
    pub c: u32,
    /// Rows of a chunk, and how many chunks there are.
    pub chunk: u32,
    pub chunks: u32,
    /// What keeps the root away from zero.
    pub eps: f32,
    /// Code of the activation, or [`NO_FUNCTION`], and its slope.
    pub act: u32,
    pub act_slope: f32,
    /// Images of `rows` rows, which have statistics of their own, and neighbouring channels that share them.
    pub images: u32,
    pub share: u32,
    /// Makes the size a multiple of 16 bytes.
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
    /// Images, their rows and columns, units of a pixel.
    pub n: u32,
    pub h: u32,
    pub w: u32,
    pub d: u32,
    /// States that a pixel reads: of the row above, or 2 on a diagonal.
    pub taps: u32,
    /// 1 where columns run from right to left.
    pub reverse: u32,
    /// Leading rows of the weights that are held in shared memory (CUDA).
    pub held: u32,
    /// Makes the size a multiple of 16 bytes.
    pub unused: u32,
}

/// `random`: `len` draws.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Random {
    /// Elements.
    pub len: u32,
    /// Elements of an image; 0 where the replay counts and not the image.
    pub per_image: u32,
    /// Number of the stream.
    pub stream: u32,
    /// 0 uniform, 1 normal.
    pub normal: u32,
}

/// `gaussian_sample`: a draw for each row.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Gaussian {
    /// Rows, and dimensions of each.
    pub rows: u32,
    pub width: u32,
    /// Number of the stream.
    pub stream: u32,
    /// Makes the size a multiple of 16 bytes.
    pub unused: u32,
}

/// `adam`, `rmsprop`, `sgd`, `ema`: constants of an optimiser.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Optim {
    /// `adam`: beta1 and beta2, whose powers the kernel takes in double precision. These two fields are two
    /// words each.
    pub beta1: f64,
    pub beta2: f64,
    /// `adam`: 1 - beta1.
    pub to_m: f32,
    /// beta2, alpha, momentum or decay.
    pub keep: f32,
    /// One minus that.
    pub to_v: f32,
    /// What keeps a quotient finite.
    pub eps: f32,
    /// Elements, where a launch updates one parameter.
    pub len: u32,
    /// Makes the size a multiple of 16 bytes.
    pub unused: [u32; 3],
}

/// `sample`: some rounds of a sampling plan.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Sample {
    /// First round and the one after the last.
    pub first: u32,
    pub end: u32,
    /// Rounds in all: positions of an image.
    pub rounds: u32,
    /// Positions before this one are given and not drawn.
    pub from: u32,
}

const _: () = assert!(size_of::<Map>() == 16 && size_of::<Rows>() == 16 && size_of::<Block>() == 48);
const _: () = assert!(size_of::<Axes>() == 32 && size_of::<Conv>() == 64 && size_of::<Epilogue>() == 32);
const _: () = assert!(size_of::<Product>() == 96 && size_of::<ConvDw>() == 80 && size_of::<Matmul>() == 48);
const _: () = assert!(size_of::<Norm>() == 48 && size_of::<Sequence>() == 16 && size_of::<Random>() == 16);
const _: () = assert!(size_of::<Gaussian>() == 16);
const _: () = assert!(size_of::<Optim>() == 48 && size_of::<Scan>() == 32 && size_of::<Sample>() == 16);

/// A length or extent as a word.
///
/// # Errors
/// [`Error::Device`] above 2^31 - 1: kernels count in 32 bits.
pub fn word(x: usize) -> Result<u32> {
    i32::try_from(x).map(|x| x as u32).map_err(|_| {
        Error::Device(format!("an operand of {x} elements is more than a GPU kernel counts; choose a smaller batch"))
    })
}

/// In the place of the code of a function: there is none.
pub const NO_FUNCTION: u32 = 0;

/// Code of an elementwise function, and its argument: the slope of a leaky relu, 0 where there is none.
pub fn unary_code(f: Unary) -> (u32, f32) {
    (f.code(), f.argument().unwrap_or_default() as f32)
}

impl Block {
    /// A block of `inner` extents that begins at `before`.
    pub fn new(outer: Shape, inner: Shape, before: [usize; 4]) -> Block {
        let words = |extents: [usize; 4]| extents.map(|e| e as u32);
        Block { outer: words(outer.padded()), inner: words(inner.padded()), before: words(before) }
    }
}

impl Conv {
    /// The words of a geometry.
    ///
    /// # Errors
    /// [`Error::Device`] where an operand is too large, see [`word`].
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
    /// The words of an epilogue, which has at most one operation of each kind (`Plan::check`).
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

/// What an epilogue reads, in the order in which every kernel takes it: the bias, what is added, and what an
/// activation gradient is computed from.
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
