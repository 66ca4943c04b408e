//! Shape inference: the only place where the output shapes of ops are computed.
//!
//! `Tape::record` calls [`infer`] for every node, and `Plan::check` calls it for every step. The helpers
//! below the match verify ranks and shapes.

use super::InputSpec;
use super::op::{Op, ParamId};
use super::table::op_table;
use crate::shape::{DType, Meta, Shape};

/// Shapes and types of an op's outputs. `plan_inputs` and `param` give the declared inputs and parameters.
///
/// # Errors
/// A clause that says why the inputs do not fit.
pub fn infer(
    op: &Op,
    inputs: &[Meta],
    plan_inputs: &[InputSpec],
    param: impl Fn(ParamId) -> Option<Meta>,
) -> Result<Vec<Meta>, String> {
    if inputs.len() != arity(op) {
        return Err(format!("takes {} inputs, got {}", arity(op), inputs.len()));
    }
    for (i, m) in inputs.iter().enumerate() {
        let want = if takes_index(op, i) { DType::U32 } else { DType::F32 };
        if m.dtype != want && !matches!(op, Op::Reshape(_) | Op::Detach) {
            return Err(format!("input {i} must be {want:?}, is {:?}", m.dtype));
        }
    }
    let shape = |i: usize| inputs[i].shape;
    let one = |s: Shape| Ok(vec![Meta::f32(s)]);
    match op {
        Op::Input(id) => Ok(vec![plan_inputs.get(id.0 as usize).ok_or("is not declared")?.meta]),
        Op::Param(id) => Ok(vec![param(*id).ok_or("is not declared")?]),
        Op::Scalar(s) => Ok(vec![Meta { shape: [].into(), dtype: s.dtype() }]),
        Op::Fill { shape, .. } => one(*shape),
        Op::Unary(_) | Op::Affine { .. } | Op::Clamp { .. } | Op::Detach => Ok(vec![inputs[0]]),
        Op::UnaryBwd(_) | Op::Binary(_) | Op::BceWithLogits | Op::Mse | Op::Ema { .. } => {
            same(&[shape(0), shape(1)])?;
            one(shape(0))
        }
        Op::Gated => one(with_last(shape(0), halves(shape(0))?)),
        Op::GatedBwd => {
            same(&[shape(0), with_last(shape(1), halves(shape(1))?)])?;
            one(shape(1))
        }
        Op::Reparameterize => {
            same(&[shape(0), shape(1), shape(2)])?;
            one(shape(0))
        }
        Op::Quantize { levels } | Op::Dequantize { levels } => {
            if *levels < 2 {
                return Err(format!("needs at least 2 levels, got {levels}"));
            }
            let dtype = if matches!(op, Op::Quantize { .. }) { DType::U32 } else { DType::F32 };
            Ok(vec![Meta { shape: shape(0), dtype }])
        }
        Op::Reshape(to) => {
            if to.len() != shape(0).len() {
                return Err(format!("cannot become {to}: the number of elements differs"));
            }
            Ok(vec![Meta { shape: *to, dtype: inputs[0].dtype }])
        }
        Op::Pad { before, after } => one(padded_by(shape(0), |d, i| Some(d + before[i] + after[i]))?),
        Op::Slice { before, after } => one(padded_by(shape(0), |d, i| d.checked_sub(before[i] + after[i]))?),
        Op::Gather => {
            rank(shape(0), 2)?;
            rank(shape(1), 1)?;
            one([shape(1).len(), shape(0).last()].into())
        }
        Op::Scatter { rows } => {
            rank(shape(0), 2)?;
            same(&[shape(1), [shape(0).rows()].into()])?;
            one([*rows, shape(0).last()].into())
        }
        Op::Sum(to) => {
            if !to.expands_to(shape(0)) {
                return Err(format!("cannot be summed to {to}"));
            }
            one(*to)
        }
        Op::Expand(to) => {
            if !shape(0).expands_to(*to) {
                return Err(format!("cannot be expanded to {to}"));
            }
            one(*to)
        }
        Op::Matmul { ta, tb } => {
            rank(shape(0), 2)?;
            rank(shape(1), 2)?;
            let of = |s: Shape, t: bool| if t { (s.dims()[1], s.dims()[0]) } else { (s.dims()[0], s.dims()[1]) };
            let ((m, k), (k2, n)) = (of(shape(0), *ta), of(shape(1), *tb));
            if k != k2 {
                return Err(format!("inner dimensions {k} and {k2} differ"));
            }
            one([m, n].into())
        }
        Op::Conv(g) => {
            g.validate()?;
            same(&[shape(0), g.x_shape()])?;
            same(&[shape(1), g.w_shape()])?;
            one(g.y_shape())
        }
        Op::ConvDx(g) => {
            g.validate()?;
            same(&[shape(0), g.y_shape()])?;
            same(&[shape(1), g.w_shape()])?;
            one(g.x_shape())
        }
        Op::ConvDw(g) => {
            g.validate()?;
            same(&[shape(0), g.x_shape()])?;
            same(&[shape(1), g.y_shape()])?;
            one(g.w_shape())
        }
        Op::BatchNorm { .. } => {
            let c = Shape::new(&[shape(0).last()]);
            same(&[c, shape(1), shape(2)])?;
            Ok(vec![inputs[0], Meta::f32(c), Meta::f32(c)])
        }
        Op::BatchNormBwd => {
            let c = Shape::new(&[shape(1).last()]);
            same(&[shape(0), shape(1)])?;
            same(&[c, shape(2), shape(3), shape(4)])?;
            Ok(vec![inputs[1], Meta::f32(c), Meta::f32(c)])
        }
        Op::BatchNormInfer { .. } => {
            same(&[[shape(0).last()].into(), shape(1), shape(2), shape(3), shape(4)])?;
            Ok(vec![inputs[0]])
        }
        Op::LayerNorm { .. } => {
            same(&[[shape(0).last()].into(), shape(1), shape(2)])?;
            let rows = Meta::f32([shape(0).rows()]);
            Ok(vec![inputs[0], rows, rows])
        }
        Op::LayerNormBwd => {
            let d = Shape::new(&[shape(1).last()]);
            same(&[shape(0), shape(1)])?;
            same(&[d, shape(2)])?;
            same(&[[shape(1).rows()].into(), shape(3), shape(4)])?;
            Ok(vec![inputs[1], Meta::f32(d), Meta::f32(d)])
        }
        Op::GroupNorm { groups, .. } => {
            same(&[[shape(0).last()].into(), shape(1), shape(2)])?;
            let statistics = Meta::f32(statistics_of_groups(shape(0), *groups)?);
            Ok(vec![inputs[0], statistics, statistics])
        }
        Op::GroupNormBwd => {
            let c = Shape::new(&[shape(1).last()]);
            same(&[shape(0), shape(1)])?;
            same(&[c, shape(2)])?;
            same(&[statistics_of_groups(shape(1), shape(3).last())?, shape(3), shape(4)])?;
            Ok(vec![inputs[1], Meta::f32(c), Meta::f32(c)])
        }
        Op::SoftmaxCrossEntropy => {
            rank(shape(0), 2)?;
            same(&[[shape(0).rows()].into(), shape(1)])?;
            one(shape(1))
        }
        Op::SoftmaxCrossEntropyBwd => {
            rank(shape(1), 2)?;
            same(&[[shape(1).rows()].into(), shape(0), shape(2)])?;
            one(shape(1))
        }
        Op::GaussianKl => {
            rank(shape(0), 2)?;
            same(&[shape(0), shape(1)])?;
            one([shape(0).rows()].into())
        }
        Op::LstmCell => {
            let (n, h) = matrix(shape(1))?;
            same(&[shape(0), [n, 4 * h].into()])?;
            Ok(vec![inputs[1], inputs[1], inputs[0]])
        }
        Op::LstmCellBwd => {
            let (n, h) = matrix(shape(0))?;
            same(&[shape(0), shape(1), shape(2), shape(3)])?;
            same(&[shape(4), [n, 4 * h].into()])?;
            Ok(vec![inputs[4], inputs[2]])
        }
        Op::Lstm => {
            let LstmExtents { steps: t, rows: n, units: h } = lstm_extents(shape(0), shape(3))?;
            same(&[[n, h].into(), shape(1), shape(2)])?;
            Ok(vec![Meta::f32([t, n, h]), Meta::f32([n, h]), Meta::f32([t, n, 5 * h])])
        }
        Op::LstmBwd => {
            rank(shape(0), 3)?;
            let (t, n, h) = (shape(0).dims()[0], shape(0).dims()[1], shape(0).last());
            same(&[[n, h].into(), shape(1), shape(2)])?;
            same(&[[h, 4 * h].into(), shape(3)])?;
            same(&[[t, n, 5 * h].into(), shape(4)])?;
            Ok(vec![Meta::f32([t, n, 4 * h]), Meta::f32([n, h]), Meta::f32([n, h])])
        }
        Op::RowLstm | Op::DiagonalLstm { .. } => {
            let d = scan_units(op, shape(1))?;
            rank(shape(0), 4)?;
            same(&[shape(0), with_last(shape(0), 4 * d)])?;
            Ok([d, 5 * d].map(|last| Meta::f32(with_last(shape(0), last))).into())
        }
        Op::RowLstmBwd | Op::DiagonalLstmBwd { .. } => {
            let d = scan_units(op, shape(1))?;
            rank(shape(0), 4)?;
            same(&[shape(0), with_last(shape(0), d)])?;
            same(&[shape(2), with_last(shape(0), 5 * d)])?;
            one(with_last(shape(0), 4 * d))
        }
        Op::Random { shape: drawn, .. } => {
            same(&[[].into(), shape(0), shape(1)])?;
            one(*drawn)
        }
        Op::GaussianSample { .. } => {
            let (n, _) = matrix(shape(0))?;
            same(&[shape(0), shape(1)])?;
            same(&[[].into(), shape(2), shape(3)])?;
            Ok(vec![inputs[0], Meta::f32([n])])
        }
        Op::GaussianSampleBwd => {
            let (n, _) = matrix(shape(0))?;
            same(&[shape(0), shape(2), shape(3), shape(4)])?;
            same(&[[n].into(), shape(1)])?;
            Ok(vec![inputs[2], inputs[3]])
        }
        Op::Categorical => {
            rank(shape(0), 2)?;
            same(&[[shape(0).rows()].into(), shape(1)])?;
            same(&[[].into(), shape(2)])?;
            Ok(vec![Meta::u32(shape(1))])
        }
        Op::Bernoulli => {
            same(&[shape(0), shape(1)])?;
            same(&[[].into(), shape(2)])?;
            one(shape(0))
        }
        Op::Adam { .. } => {
            same(&[shape(0), shape(1), shape(2), shape(3)])?;
            same(&[[].into(), shape(4), shape(5)])?;
            Ok(vec![inputs[0]; 3])
        }
        Op::RmsProp { .. } | Op::Sgd { .. } => {
            same(&[shape(0), shape(1), shape(2)])?;
            same(&[[].into(), shape(3)])?;
            Ok(vec![inputs[0]; 2])
        }
        Op::Store(id) => {
            same(&[shape(0), param(*id).ok_or("has no parameter")?.shape])?;
            Ok(vec![])
        }
    }
}

macro_rules! arities {
    ($($op:pat => $name:ident($inputs:literal) $family:ident $windows:ident $flops:tt;)*) => {
        /// Number of inputs.
        fn arity(op: &Op) -> usize {
            match op {
                $($op => $inputs,)*
            }
        }
    };
}
op_table!(arities);

/// Whether input `i` of the op is a u32 (an index, a seed or a counter) and not a float.
fn takes_index(op: &Op, i: usize) -> bool {
    matches!(
        (op, i),
        (Op::Random { .. } | Op::Dequantize { .. }, _)
            | (Op::Gather | Op::Scatter { .. } | Op::SoftmaxCrossEntropy, 1)
            | (Op::SoftmaxCrossEntropyBwd, 2)
            | (Op::GaussianSample { .. }, 2 | 3)
    )
}

fn same(shapes: &[Shape]) -> Result<(), String> {
    match shapes.iter().find(|s| **s != shapes[0]) {
        None => Ok(()),
        Some(other) => Err(format!("shapes {} and {other} must be equal", shapes[0])),
    }
}

fn rank(s: Shape, want: usize) -> Result<(), String> {
    if s.rank() == want { Ok(()) } else { Err(format!("{s} must have rank {want}")) }
}

fn matrix(s: Shape) -> Result<(usize, usize), String> {
    rank(s, 2)?;
    Ok((s.dims()[0], s.dims()[1]))
}

/// The shape `[n, groups]` of the statistics of x `[n, .., c]`.
fn statistics_of_groups(x: Shape, groups: usize) -> Result<Shape, String> {
    match x.dims() {
        [n, .., c] if *c > 0 && groups > 0 && c % groups == 0 => Ok([*n, groups].into()),
        _ => Err(format!("the channels of {x} cannot be cut into {groups} equal groups")),
    }
}

/// The extents of an LSTM over a sequence.
struct LstmExtents {
    steps: usize,
    /// Sequences of the batch.
    rows: usize,
    units: usize,
}

fn lstm_extents(z: Shape, w_hh: Shape) -> Result<LstmExtents, String> {
    rank(z, 3)?;
    let (h, h4) = matrix(w_hh)?;
    if h4 != 4 * h || z.last() != h4 {
        return Err(format!("gates {z} and recurrent weights {w_hh} do not fit"));
    }
    Ok(LstmExtents { steps: z.dims()[0], rows: z.dims()[1], units: h })
}

/// The number of units of a scan over an image, from the shape of its recurrent weights.
fn scan_units(op: &Op, w_ss: Shape) -> Result<usize, String> {
    let is_row = matches!(op, Op::RowLstm | Op::RowLstmBwd);
    match *w_ss.dims() {
        [1, k, d, gates] if is_row && k % 2 == 1 && gates == 4 * d => Ok(d),
        [2, 1, d, gates] if !is_row && gates == 4 * d => Ok(d),
        _ => {
            let want = if is_row { "[1, k, d, 4d] with an odd k" } else { "[2, 1, d, 4d]" };
            Err(format!("recurrent weights {w_ss} must be {want}"))
        }
    }
}

fn halves(s: Shape) -> Result<usize, String> {
    if s.rank() > 0 && s.last().is_multiple_of(2) { Ok(s.last() / 2) } else { Err(format!("{s} has no two halves")) }
}

fn with_last(s: Shape, last: usize) -> Shape {
    let mut dims = s.dims().to_vec();
    if let Some(d) = dims.last_mut() {
        *d = last;
    }
    Shape::new(&dims)
}

/// Applies `change(extent, axis)` to every axis. `axis` counts the axes of the padded rank-4 shape, as the
/// arrays of pad and slice do.
fn padded_by(s: Shape, change: impl Fn(usize, usize) -> Option<usize>) -> Result<Shape, String> {
    let skip = 4 - s.rank();
    if (0..skip).any(|i| change(1, i) != Some(1)) {
        return Err(format!("{s} has no leading dimensions to pad or slice"));
    }
    let dims: Option<Vec<usize>> = s.dims().iter().enumerate().map(|(i, d)| change(*d, skip + i)).collect();
    Ok(Shape::new(&dims.ok_or(format!("{s} is smaller than what is cut off"))?))
}
