//! The op table: one line per op, with everything about an op that is one word or number.
//!
//! Code that needs something for each op passes a macro of its own to [`op_table!`], which expands that
//! macro with the whole table. Properties that take more than a word have a match of their own: shapes
//! (`infer.rs`), gradients (`grad.rs`), the backends.

/// `op_table!(with)` expands to `with! { table }`. The columns:
///
/// - the op, as a pattern,
/// - its root word, which kernels, shaders and test cases share, and the number of its inputs,
/// - its family: the file in `src/check/cases/` that has its cases,
/// - `windows` if it can be computed in windows, otherwise the reason why not (see [`why_no_windows!`]),
/// - the additions and multiplications that have to be done, per element of the first output `y` or of the
///   first input `x`; a transcendental function counts as one. `own` means that `cost.rs` has a rule for
///   this op.
macro_rules! op_table {
    ($($with:ident)::+) => {
        $($with)::+! {
            Op::Input(_)               => input(0)                      shape       no_rule  [0 * y];
            Op::Param(_)               => param(0)                      shape       no_rule  [0 * y];
            Op::Scalar(_)              => scalar(0)                     shape       no_rule  [0 * y];
            Op::Fill { .. }            => fill(0)                       shape       no_rule  [0 * y];
            Op::Unary(_)               => unary(1)                      elementwise windows  [2 * y];
            Op::UnaryBwd(_)            => unary_bwd(2)                  elementwise no_rule  [2 * y];
            Op::Binary(_)              => binary(2)                     elementwise windows  [2 * y];
            Op::Affine { .. }          => affine(1)                     elementwise windows  [2 * y];
            Op::Clamp { .. }           => clamp(1)                      elementwise windows  [2 * y];
            Op::Gated                  => gated(1)                      elementwise windows  [4 * y];
            Op::GatedBwd               => gated_bwd(2)                  elementwise no_rule  [4 * y];
            Op::Reparameterize         => reparameterize(3)             elementwise no_rule  [4 * y];
            Op::Quantize { .. }        => quantize(1)                   elementwise windows  [2 * y];
            Op::Dequantize { .. }      => dequantize(1)                 elementwise windows  [2 * y];
            Op::Reshape(_)             => reshape(1)                    shape       no_rule  [0 * y];
            Op::Detach                 => detach(1)                     shape       no_rule  [0 * y];
            Op::Pad { .. }             => pad(1)                        shape       windows  [0 * y];
            Op::Slice { .. }           => slice(1)                      shape       windows  [0 * y];
            Op::Gather                 => gather(2)                     shape       no_rule  [0 * y];
            Op::Scatter { .. }         => scatter(2)                    shape       no_rule  [1 * x];
            Op::Sum(_)                 => sum(1)                        shape       no_rule  [1 * x];
            Op::Expand(_)              => expand(1)                     shape       no_rule  [0 * y];
            Op::Matmul { .. }          => matmul(2)                     matmul      windows  [own];
            Op::Conv(_)                => conv(2)                       conv        windows  [own];
            Op::ConvDx(_)              => conv_dx(2)                    conv        no_rule  [own];
            Op::ConvDw(_)              => conv_dw(2)                    conv        no_rule  [own];
            Op::BatchNorm { .. }       => batch_norm(3)                 norm        no_rule  [7 * y];
            Op::BatchNormBwd           => batch_norm_bwd(5)             norm        no_rule  [10 * y];
            Op::BatchNormInfer { .. }  => batch_norm_infer(5)           norm        no_rule  [2 * y];
            Op::LayerNorm { .. }       => layer_norm(3)                 norm        no_rule  [7 * y];
            Op::LayerNormBwd           => layer_norm_bwd(5)             norm        no_rule  [10 * y];
            Op::GroupNorm { .. }       => group_norm(3)                 norm        whole    [7 * y];
            Op::GroupNormBwd           => group_norm_bwd(5)             norm        no_rule  [10 * y];
            Op::BceWithLogits          => bce_with_logits(2)            loss        no_rule  [4 * y];
            Op::Mse                    => mse(2)                        loss        no_rule  [2 * y];
            Op::SoftmaxCrossEntropy    => softmax_cross_entropy(2)      loss        no_rule  [4 * x];
            Op::SoftmaxCrossEntropyBwd => softmax_cross_entropy_bwd(3)  loss        no_rule  [5 * x];
            Op::GaussianKl             => gaussian_kl(2)                loss        no_rule  [5 * x];
            Op::LstmCell               => lstm_cell(2)                  recurrence  no_rule  [10 * x];
            Op::LstmCellBwd            => lstm_cell_bwd(5)              recurrence  no_rule  [10 * x];
            Op::Lstm                   => lstm(4)                       recurrence  no_rule  [own];
            Op::LstmBwd                => lstm_bwd(5)                   recurrence  no_rule  [own];
            Op::RowLstm                => row_lstm(2)                   recurrence  windows  [own];
            Op::RowLstmBwd             => row_lstm_bwd(3)               recurrence  no_rule  [own];
            Op::DiagonalLstm { .. }    => diagonal_lstm(2)              recurrence  windows  [own];
            Op::DiagonalLstmBwd { .. } => diagonal_lstm_bwd(3)          recurrence  no_rule  [own];
            Op::Random { .. }          => random(2)                     sampling    no_rule  [6 * y];
            Op::GaussianSample { .. }  => gaussian_sample(4)            sampling    no_rule  [15 * y];
            Op::GaussianSampleBwd      => gaussian_sample_bwd(5)        sampling    no_rule  [10 * y];
            Op::Categorical            => categorical(3)                sampling    windows  [5 * x];
            Op::Bernoulli              => bernoulli(3)                  sampling    windows  [2 * y];
            Op::Adam { .. }            => adam(6)                       state       no_rule  [12 * y];
            Op::RmsProp { .. }         => rmsprop(4)                    state       no_rule  [6 * y];
            Op::Sgd { .. }             => sgd(4)                        state       no_rule  [6 * y];
            Op::Ema { .. }             => ema(2)                        state       no_rule  [6 * y];
            Op::Store(_)               => store(1)                      state       no_rule  [0 * y];
        }
    };
}
pub(crate) use op_table;

/// Expands a word of the fourth column to the clause that says why an op has no windows; `None` for
/// `windows`.
macro_rules! why_no_windows {
    (windows) => {
        None
    };
    (no_rule) => {
        Some("there is no rule for this op")
    };
    (whole) => {
        Some("it reads the whole image")
    };
}
pub(crate) use why_no_windows;
