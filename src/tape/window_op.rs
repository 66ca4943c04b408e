//! The ops that can be computed window by window while an image is drawn.
//!
//! The op table (`table.rs`) says for each op whether it can be, or why not. All code that handles such an
//! op matches on [`WindowOp`] without a default: the times of positions ([`times`](super::times)), the
//! windows of the CPU, and the table that a GPU interprets. The codes of the ops in GPU kernels are also in
//! `kernels/windows.cuh` and `shaders/windows.wgsl`. A test in `backend::codes` compares these files with
//! this one.

use super::geometry::ConvGeom;
use super::op::{Binary, Op, Unary};
use super::table::{op_table, why_no_windows};

/// An op that can be computed in windows, with its attributes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WindowOp<'a> {
    /// [`Op::Unary`]
    Unary(Unary),
    /// [`Op::Binary`]
    Binary(Binary),
    /// [`Op::Affine`]
    Affine { scale: f64, shift: f64 },
    /// [`Op::Clamp`]
    Clamp { lo: f64, hi: f64 },
    /// [`Op::Quantize`]
    Quantize { levels: usize },
    /// [`Op::Dequantize`]
    Dequantize { levels: usize },
    /// [`Op::Gated`]
    Gated,
    /// [`Op::Pad`]
    Pad { before: [usize; 4], after: [usize; 4] },
    /// [`Op::Slice`]
    Slice { before: [usize; 4], after: [usize; 4] },
    /// [`Op::Conv`]
    Conv(&'a ConvGeom),
    /// [`Op::Matmul`] of rows (the channels of pixels) and a matrix, which `tb` transposes.
    Matmul { tb: bool },
    /// [`Op::Categorical`]
    Categorical,
    /// [`Op::Bernoulli`]
    Bernoulli,
    /// [`Op::RowLstm`]
    RowLstm,
    /// [`Op::DiagonalLstm`]
    DiagonalLstm { reverse: bool },
}

macro_rules! windows {
    ($($op:pat => $name:ident($inputs:literal) $family:ident $windows:ident $flops:tt;)*) => {
        /// Why an op cannot be computed in windows, from the op table; `None` for an op that can.
        pub(crate) fn without_windows(op: &Op) -> Option<&'static str> {
            match op {
                $($op => why_no_windows!($windows),)*
            }
        }
    };
}
op_table!(windows);

impl WindowOp<'_> {
    /// Converts an op that can be computed in windows.
    ///
    /// # Errors
    /// A clause that says why it cannot.
    pub fn of(op: &Op) -> Result<WindowOp<'_>, &'static str> {
        Ok(match op {
            Op::Unary(f) => WindowOp::Unary(*f),
            Op::Binary(f) => WindowOp::Binary(*f),
            Op::Affine { scale, shift } => WindowOp::Affine { scale: *scale, shift: *shift },
            Op::Clamp { lo, hi } => WindowOp::Clamp { lo: *lo, hi: *hi },
            Op::Quantize { levels } => WindowOp::Quantize { levels: *levels },
            Op::Dequantize { levels } => WindowOp::Dequantize { levels: *levels },
            Op::Gated => WindowOp::Gated,
            Op::Pad { before, after } => WindowOp::Pad { before: *before, after: *after },
            Op::Slice { before, after } => WindowOp::Slice { before: *before, after: *after },
            Op::Conv(geometry) => WindowOp::Conv(geometry),
            Op::Matmul { ta: false, tb } => WindowOp::Matmul { tb: *tb },
            Op::Categorical => WindowOp::Categorical,
            Op::Bernoulli => WindowOp::Bernoulli,
            Op::RowLstm => WindowOp::RowLstm,
            Op::DiagonalLstm { reverse } => WindowOp::DiagonalLstm { reverse: *reverse },
            other => return Err(without_windows(other).unwrap_or("there is no rule for this op")),
        })
    }

    /// The code of the op in GPU kernels.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub fn code(&self) -> u32 {
        match self {
            WindowOp::Unary(_) => code::UNARY,
            WindowOp::Binary(_) => code::BINARY,
            WindowOp::Affine { .. } => code::AFFINE,
            WindowOp::Clamp { .. } => code::CLAMP,
            WindowOp::Quantize { .. } => code::QUANTIZE,
            WindowOp::Dequantize { .. } => code::DEQUANTIZE,
            WindowOp::Gated => code::GATED,
            WindowOp::Pad { .. } => code::PAD,
            WindowOp::Slice { .. } => code::SLICE,
            // A product of rows and a matrix is a convolution with one tap.
            WindowOp::Conv(_) | WindowOp::Matmul { .. } => code::CONV,
            WindowOp::Categorical => code::CATEGORICAL,
            WindowOp::Bernoulli => code::BERNOULLI,
            WindowOp::RowLstm => code::ROW_LSTM,
            WindowOp::DiagonalLstm { .. } => code::DIAGONAL_LSTM,
        }
    }
}

/// Declares the codes: constants, and a list of them with their names.
macro_rules! codes {
    ($($name:ident)*) => {
        /// The codes of [`WindowOp::code`]; none is 0.
        #[cfg(any(test, feature = "cuda", feature = "wgpu"))]
        pub mod code {
            codes!(@each 1; $($name)*);
            /// Every code with its name.
            #[cfg(any(test, feature = "wgpu"))]
            pub const EACH: [(&str, u32); [$(stringify!($name)),*].len()] = [$((stringify!($name), $name)),*];
        }
    };
    (@each $code:expr; $name:ident $($rest:ident)*) => {
        pub const $name: u32 = $code;
        codes!(@each $code + 1; $($rest)*);
    };
    (@each $code:expr;) => {};
}

codes! {
    UNARY BINARY AFFINE CLAMP QUANTIZE DEQUANTIZE GATED PAD SLICE CONV CATEGORICAL BERNOULLI ROW_LSTM DIAGONAL_LSTM
}
