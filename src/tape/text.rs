//! Names and attributes of ops as text, for plans, traces and error messages.
//!
//! The names are the root words of the op table (`table.rs`). `print.rs` builds the text of steps on them.

use super::op::{Counter, Dist, Op};
use super::table::op_table;

macro_rules! names {
    ($($op:pat => $name:ident($inputs:literal) $family:ident $windows:ident $flops:tt;)*) => {
        /// The root word of an op, which kernels, shaders and test cases share.
        pub fn name(op: &Op) -> &'static str {
            match op {
                $($op => stringify!($name),)*
            }
        }
    };
}
op_table!(names);

/// The attributes of an op as a printed plan shows them, each after a space, e.g. ` relu`. Empty if it has
/// none.
pub fn attributes(op: &Op) -> String {
    match op {
        // Real numbers are printed as the f32 that the kernels compute with.
        Op::Fill { value, .. } => format!(" {}", *value as f32),
        Op::Unary(f) | Op::UnaryBwd(f) => format!(" {f}"),
        Op::Binary(f) => format!(" {}", f.name()),
        Op::Affine { scale, shift } => format!(" x*{} + {}", *scale as f32, *shift as f32),
        Op::Clamp { lo, hi } => format!(" {}..{}", *lo as f32, *hi as f32),
        Op::Quantize { levels } | Op::Dequantize { levels } => format!(" {levels} levels"),
        Op::Pad { before, after } | Op::Slice { before, after } => format!(" {before:?} {after:?}"),
        Op::Matmul { ta, tb } => format!(" {}{}", if *ta { 't' } else { 'n' }, if *tb { 't' } else { 'n' }),
        Op::Conv(g) | Op::ConvDx(g) | Op::ConvDw(g) => format!(" {g}"),
        Op::DiagonalLstm { reverse: true } | Op::DiagonalLstmBwd { reverse: true } => " reverse".to_string(),
        Op::Random { dist, stream, counter, .. } => {
            let dist = match dist {
                Dist::Uniform => "uniform",
                Dist::Normal => "normal",
            };
            let by = match counter {
                Counter::Replay => "replay",
                Counter::Image => "image",
            };
            format!(" {dist} {stream:?} by {by}")
        }
        Op::GaussianSample { stream } => format!(" {stream:?}"),
        _ => String::new(),
    }
}
