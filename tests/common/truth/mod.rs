//! The definition of every op: an interpreter of tapes in f64, in plain loops, written from the descriptions
//! in `op.rs`.
//!
//! It uses no plan, no fusion and no kernel. Indices (u32) are stored as f64, which represents them exactly.
//! Each file has the ops of one family; [`run`] calls them node by node.

mod functions;
mod image;
mod loss;
mod pointwise;
mod products;
mod recurrence;
mod sampling;
mod state;

use pixtape::backend::Scalars;
use pixtape::shape::{DType, Meta, Shape};
use pixtape::tape::op::{Op, ParamId, Scalar};
use pixtape::tape::{Node, Tape, Var};
use recurrence::Scan;
use std::collections::HashMap;

/// The inputs of a replay.
#[derive(Clone, Debug, Default)]
pub struct ReplayInputs {
    /// Inputs in the order of declaration.
    pub feeds: Vec<Vec<f64>>,
    /// Parameters before the replay.
    pub params: HashMap<ParamId, Vec<f64>>,
    /// Device scalars.
    pub scalars: Scalars,
}

/// The results of a replay: every value of the tape, and the parameters after its stores.
pub struct Truth {
    values: Vec<Vec<Vec<f64>>>,
    /// Stored parameters.
    pub stored: HashMap<ParamId, Vec<f64>>,
}

impl Truth {
    /// The value of `v`.
    pub fn value(&self, v: Var) -> &[f64] {
        &self.values[v.node()][v.out()]
    }
}

/// Computes every node of a tape.
pub fn run(tape: &Tape, given: &ReplayInputs) -> Truth {
    let mut truth = Truth { values: vec![], stored: HashMap::new() };
    let mut metas: Vec<Vec<Meta>> = vec![];
    for node in tape.nodes() {
        let inputs: Vec<Tensor> = node
            .inputs
            .iter()
            .map(|v| Tensor { shape: metas[v.node()][v.out()].shape, data: truth.value(*v) })
            .collect();
        let outs = outputs_of(&node, &inputs, given);
        assert_eq!(outs.len(), node.outs.len(), "{:?} has another number of outputs", node.op);
        for (out, meta) in outs.iter().zip(&node.outs) {
            assert_eq!(out.len(), meta.shape.len(), "{:?} gave another number of elements", node.op);
        }
        if let Op::Store(id) = node.op {
            truth.stored.insert(id, inputs[0].data.to_vec());
        }
        truth.values.push(outs);
        metas.push(node.outs);
    }
    truth
}

/// An operand of an op.
#[derive(Clone, Copy)]
struct Tensor<'a> {
    pub shape: Shape,
    pub data: &'a [f64],
}

impl Tensor<'_> {
    fn map(&self, f: impl Fn(f64) -> f64) -> Vec<f64> {
        self.data.iter().map(|x| f(*x)).collect()
    }

    fn zip(&self, other: &Tensor, f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        self.data.iter().zip(other.data).map(|(a, b)| f(*a, *b)).collect()
    }
}

fn outputs_of(node: &Node, x: &[Tensor], given: &ReplayInputs) -> Vec<Vec<f64>> {
    match &node.op {
        Op::Input(id) => vec![given.feeds[id.0 as usize].clone()],
        Op::Param(id) => vec![given.params[id].clone()],
        Op::Scalar(s) => vec![vec![scalar(*s, given)]],
        Op::Fill { value, shape } => vec![vec![*value; shape.len()]],
        Op::Unary(f) => vec![x[0].map(|x| functions::unary(*f, x)[0])],
        Op::UnaryBwd(f) => vec![x[0].zip(&x[1], |dy, saved| dy * functions::unary(*f, saved)[1])],
        Op::Binary(f) => vec![x[0].zip(&x[1], |a, b| pointwise::binary(*f, a, b))],
        Op::Affine { scale, shift } => vec![x[0].map(|x| scale * x + shift)],
        Op::Clamp { lo, hi } => vec![x[0].map(|x| x.max(*lo).min(*hi))],
        Op::Gated => vec![pointwise::gated(x[0])],
        Op::GatedBwd => vec![pointwise::gated_bwd(x[0], x[1])],
        Op::Reparameterize => vec![pointwise::reparameterize(x[0], x[1], x[2])],
        Op::Quantize { levels } => {
            let top = (*levels - 1) as f64;
            vec![x[0].map(|x| (x * top + 0.5).floor().clamp(0.0, top))]
        }
        Op::Dequantize { levels } => vec![x[0].map(|index| index / (*levels - 1) as f64)],
        Op::Reshape(_) | Op::Detach => vec![x[0].data.to_vec()],
        Op::Pad { before, .. } => vec![image::pad(x[0], *before, node.outs[0].shape)],
        Op::Slice { before, .. } => vec![image::slice(x[0], *before, node.outs[0].shape)],
        Op::Gather => vec![image::gather(x[0], x[1])],
        Op::Scatter { rows } => vec![image::scatter(x[0], x[1], *rows)],
        Op::Sum(to) => vec![image::sum(x[0], *to)],
        Op::Expand(to) => vec![image::expand(x[0], *to)],
        Op::Matmul { ta, tb } => vec![products::matmul(x[0], x[1], *ta, *tb)],
        Op::Conv(g) => vec![products::conv(x[0], x[1], g)],
        Op::ConvDx(g) => vec![products::conv_dx(x[0], x[1], g)],
        Op::ConvDw(g) => vec![products::conv_dw(x[0], x[1], g)],
        Op::BatchNorm { eps } => image::batch_norm(x[0], x[1], x[2], *eps),
        Op::BatchNormBwd => image::batch_norm_bwd(x),
        Op::BatchNormInfer { eps } => vec![image::batch_norm_infer(x, *eps)],
        Op::LayerNorm { eps } => image::layer_norm(x[0], x[1], x[2], *eps),
        Op::LayerNormBwd => image::layer_norm_bwd(x),
        Op::GroupNorm { groups, eps } => image::group_norm(x, *groups, *eps),
        Op::GroupNormBwd => image::group_norm_bwd(x),
        Op::BceWithLogits => vec![x[0].zip(&x[1], loss::bce_with_logits)],
        Op::Mse => vec![x[0].zip(&x[1], |x, t| (x - t) * (x - t))],
        Op::SoftmaxCrossEntropy => vec![loss::softmax_cross_entropy(x[0], x[1])],
        Op::SoftmaxCrossEntropyBwd => vec![loss::softmax_cross_entropy_bwd(x[0], x[1], x[2])],
        Op::GaussianKl => vec![loss::gaussian_kl(x[0], x[1])],
        Op::LstmCell => recurrence::lstm_cell(x[0], x[1]),
        Op::LstmCellBwd => recurrence::lstm_cell_bwd(x),
        Op::Lstm => recurrence::lstm(x),
        Op::LstmBwd => recurrence::lstm_bwd(x),
        Op::RowLstm => recurrence::scan(Scan::row(x[1]), x),
        Op::RowLstmBwd => vec![recurrence::scan_bwd(Scan::row(x[1]), x)],
        Op::DiagonalLstm { reverse } => recurrence::scan(Scan::diagonal(*reverse), x),
        Op::DiagonalLstmBwd { reverse } => vec![recurrence::scan_bwd(Scan::diagonal(*reverse), x)],
        Op::Random { dist, stream, counter, shape } => {
            vec![sampling::random(*dist, *stream, *counter, *shape, x[0].data[0] as u32, x[1].data[0] as u32)]
        }
        Op::GaussianSample { stream } => {
            sampling::gaussian_sample(*stream, x[0], x[1], [x[2], x[3]].map(|word| word.data[0] as u32))
        }
        Op::GaussianSampleBwd => sampling::gaussian_sample_bwd(x),
        Op::Categorical => vec![sampling::categorical(x[0], x[1], x[2].data[0])],
        Op::Bernoulli => vec![sampling::bernoulli(x[0], x[1], x[2].data[0])],
        Op::Adam { beta1, beta2, eps } => state::adam(x, [*beta1, *beta2, *eps]),
        Op::RmsProp { alpha, eps } => state::rmsprop(x, *alpha, *eps),
        Op::Sgd { momentum } => state::sgd(x, *momentum),
        Op::Ema { decay } => vec![x[0].zip(&x[1], |average, value| decay * average + (1.0 - decay) * value)],
        Op::Store(_) => vec![],
    }
}

fn scalar(s: Scalar, given: &ReplayInputs) -> f64 {
    let word = given.scalars.word(s);
    if s.dtype() == DType::U32 { f64::from(word) } else { f64::from(f32::from_bits(word)) }
}

/// All indices of a padded rank-4 shape, in row-major order.
fn indices(d: [usize; 4]) -> impl Iterator<Item = [usize; 4]> {
    (0..d.iter().product())
        .map(move |i: usize| [i / d[3] / d[2] / d[1], i / d[3] / d[2] % d[1], i / d[3] % d[2], i % d[3]])
}

/// The flat position of an index.
fn flat(d: [usize; 4], at: [usize; 4]) -> usize {
    ((at[0] * d[1] + at[1]) * d[2] + at[2]) * d[3] + at[3]
}
