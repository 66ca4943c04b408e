//! The case table. Every op must have a line, or the crate does not compile.

mod conv;
mod elementwise;
mod loss;
mod matmul;
mod norm;
mod recurrence;
mod sampling;
mod shape;
mod state;

pub use conv::masked as masked_geometries;

use super::case::Case;
use crate::tape::op::Op;

/// Expands the lines to an exhaustive match and to a list, so that the two always agree.
macro_rules! table {
    ($($op:pat => $cases:expr,)*) => {
        /// The cases of an op.
        pub fn cases_of(op: &Op) -> Vec<Case> {
            match op { $($op => $cases,)* }
        }

        /// All cases, in the order of the op table.
        pub fn cases() -> Vec<Case> {
            let mut all = vec![];
            $(all.extend($cases);)*
            all
        }
    };
}

table! {
    Op::Input(_) => shape::input(),
    Op::Param(_) => shape::param(),
    Op::Scalar(_) => shape::scalar(),
    Op::Fill { .. } => shape::fill(),
    Op::Unary(_) => elementwise::unary(),
    Op::UnaryBwd(_) => elementwise::unary_bwd(),
    Op::Binary(_) => elementwise::binary(),
    Op::Affine { .. } => elementwise::affine(),
    Op::Clamp { .. } => elementwise::clamp(),
    Op::Gated => elementwise::gated(),
    Op::GatedBwd => elementwise::gated_bwd(),
    Op::Reparameterize => elementwise::reparameterize(),
    Op::Quantize { .. } => elementwise::quantize(),
    Op::Dequantize { .. } => elementwise::dequantize(),
    Op::Reshape(_) => shape::reshape(),
    Op::Detach => shape::detach(),
    Op::Pad { .. } => shape::pad(),
    Op::Slice { .. } => shape::slice(),
    Op::Gather => shape::gather(),
    Op::Scatter { .. } => shape::scatter(),
    Op::Sum(_) => shape::sum(),
    Op::Expand(_) => shape::expand(),
    Op::Matmul { .. } => matmul::matmul(),
    Op::Conv(_) => conv::conv(),
    Op::ConvDx(_) => conv::conv_dx(),
    Op::ConvDw(_) => conv::conv_dw(),
    Op::BatchNorm { .. } => norm::batch_norm(),
    Op::BatchNormBwd => norm::batch_norm_bwd(),
    Op::BatchNormInfer { .. } => norm::batch_norm_infer(),
    Op::LayerNorm { .. } => norm::layer_norm(),
    Op::LayerNormBwd => norm::layer_norm_bwd(),
    Op::BceWithLogits => loss::bce_with_logits(),
    Op::Mse => loss::mse(),
    Op::SoftmaxCrossEntropy => loss::softmax_cross_entropy(),
    Op::SoftmaxCrossEntropyBwd => loss::softmax_cross_entropy_bwd(),
    Op::GaussianKl => loss::gaussian_kl(),
    Op::LstmCell => recurrence::lstm_cell(),
    Op::LstmCellBwd => recurrence::lstm_cell_bwd(),
    Op::Lstm => recurrence::lstm(),
    Op::LstmBwd => recurrence::lstm_bwd(),
    Op::RowLstm => recurrence::row_lstm(),
    Op::RowLstmBwd => recurrence::row_lstm_bwd(),
    Op::DiagonalLstm { .. } => recurrence::diagonal_lstm(),
    Op::DiagonalLstmBwd { .. } => recurrence::diagonal_lstm_bwd(),
    Op::Random { .. } => sampling::random(),
    Op::GaussianSample { .. } => sampling::gaussian_sample(),
    Op::GaussianSampleBwd => sampling::gaussian_sample_bwd(),
    Op::Categorical => sampling::categorical(),
    Op::Bernoulli => sampling::bernoulli(),
    Op::Adam { .. } => state::adam(),
    Op::RmsProp { .. } => state::rmsprop(),
    Op::Sgd { .. } => state::sgd(),
    Op::Ema { .. } => state::ema(),
    Op::Store(_) => state::store(),
}
