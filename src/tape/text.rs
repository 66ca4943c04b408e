//! Names and texts of ops, for plans, traces and error messages.

use super::op::{Counter, Dist, Op};

/// The root word of an op: the same in kernels, shaders and test cases.
pub fn name(op: &Op) -> &'static str {
    match op {
        Op::Input(_) => "input",
        Op::Param(_) => "param",
        Op::Scalar(_) => "scalar",
        Op::Fill { .. } => "fill",
        Op::Unary(_) => "unary",
        Op::UnaryBwd(_) => "unary_bwd",
        Op::Binary(_) => "binary",
        Op::Affine { .. } => "affine",
        Op::Clamp { .. } => "clamp",
        Op::Gated => "gated",
        Op::GatedBwd => "gated_bwd",
        Op::Reparameterize => "reparameterize",
        Op::Quantize { .. } => "quantize",
        Op::Dequantize { .. } => "dequantize",
        Op::Reshape(_) => "reshape",
        Op::Detach => "detach",
        Op::Pad { .. } => "pad",
        Op::Slice { .. } => "slice",
        Op::Gather => "gather",
        Op::Scatter { .. } => "scatter",
        Op::Sum(_) => "sum",
        Op::Expand(_) => "expand",
        Op::Matmul { .. } => "matmul",
        Op::Conv(_) => "conv",
        Op::ConvDx(_) => "conv_dx",
        Op::ConvDw(_) => "conv_dw",
        Op::BatchNorm { .. } => "batch_norm",
        Op::BatchNormBwd => "batch_norm_bwd",
        Op::BatchNormInfer { .. } => "batch_norm_infer",
        Op::LayerNorm { .. } => "layer_norm",
        Op::LayerNormBwd => "layer_norm_bwd",
        Op::BceWithLogits => "bce_with_logits",
        Op::Mse => "mse",
        Op::SoftmaxCrossEntropy => "softmax_cross_entropy",
        Op::SoftmaxCrossEntropyBwd => "softmax_cross_entropy_bwd",
        Op::GaussianKl => "gaussian_kl",
        Op::LstmCell => "lstm_cell",
        Op::LstmCellBwd => "lstm_cell_bwd",
        Op::Lstm => "lstm",
        Op::LstmBwd => "lstm_bwd",
        Op::RowLstm => "row_lstm",
        Op::RowLstmBwd => "row_lstm_bwd",
        Op::DiagonalLstm { .. } => "diagonal_lstm",
        Op::DiagonalLstmBwd { .. } => "diagonal_lstm_bwd",
        Op::Random { .. } => "random",
        Op::GaussianSample { .. } => "gaussian_sample",
        Op::GaussianSampleBwd => "gaussian_sample_bwd",
        Op::Categorical => "categorical",
        Op::Bernoulli => "bernoulli",
        Op::Adam { .. } => "adam",
        Op::RmsProp { .. } => "rmsprop",
        Op::Sgd { .. } => "sgd",
        Op::Ema { .. } => "ema",
        Op::Store(_) => "store",
    }
}

/// The attributes of an op, as they stand in a plan: ` 3x3 mask B`, ` relu`; empty where it has none.
pub fn attributes(op: &Op) -> String {
    match op {
        // Numbers as the floats that are computed with.
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
