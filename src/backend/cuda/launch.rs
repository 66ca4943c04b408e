//! Lowers steps to kernel launches, in one exhaustive match. Pure data: no driver is called, so tests can
//! inspect it without a card.

use super::lowering::{Card, Lowered, Lowering, Ptr, THREADS, Work, blocks_of_threads, kernel, rows_of};
use super::{optim, product};
use crate::backend::args::{self, Map, unary_code, word};
use crate::backend::axes::Axes;
use crate::error::Result;
use crate::tape::op::{Counter, Dist, Op};
use crate::tape::plan::Step;

/// The launches of a step.
///
/// # Errors
/// [`Error::Device`](crate::error::Error::Device) if the step exceeds a limit of the card or of the kernels.
pub(super) fn lower(step: &Step, card: Card) -> Result<Lowered> {
    let mut l = Lowering::new(step, card);
    // Kernels may assume at least one output element.
    if step.outputs.iter().all(|o| o.meta.shape.is_empty()) {
        return Ok(l.out);
    }
    for operand in step.inputs.iter().chain(&step.outputs) {
        word(operand.meta.shape.len())?;
    }
    let (x, y) = (|i: usize| Ptr::Buffer(step.inputs[i].buffer), |i: usize| Ptr::Buffer(step.outputs[i].buffer));
    let shape = |i: usize| step.inputs[i].meta.shape;
    let last = |i: usize| shape(i).last();
    let written = l.written();
    let plain = Map::default();
    match &step.op {
        // Leaves and aliases make no step (`Plan::check`).
        Op::Input(_) | Op::Param(_) | Op::Scalar(_) | Op::Reshape(_) | Op::Detach => {}
        Op::Fill { value, .. } => l.map("fill", Map { a: *value as f32, ..plain }, &[y(0)])?,

        Op::Unary(f) => {
            let (f, a) = unary_code(*f);
            l.map("unary", Map { f, a, ..plain }, &[x(0), y(0)])?;
        }
        Op::UnaryBwd(f) => {
            let (f, a) = unary_code(*f);
            l.map("unary_bwd", Map { f, a, ..plain }, &[x(0), x(1), y(0)])?;
        }
        Op::Binary(f) => l.map("binary", Map { f: f.code(), ..plain }, &[x(0), x(1), y(0)])?,
        Op::Affine { scale, shift } => {
            l.map("affine", Map { a: *scale as f32, b: *shift as f32, ..plain }, &[x(0), y(0)])?;
        }
        Op::Clamp { lo, hi } => l.map("clamp", Map { a: *lo as f32, b: *hi as f32, ..plain }, &[x(0), y(0)])?,
        Op::Quantize { levels } => l.map("quantize", Map { a: (levels - 1) as f32, ..plain }, &[x(0), y(0)])?,
        Op::Dequantize { levels } => {
            l.map("dequantize", Map { a: (levels - 1) as f32, ..plain }, &[x(0), y(0)])?;
        }
        Op::Gated => {
            let c = last(0) / 2;
            l.each(
                kernel("elementwise", "gated"),
                written.len(),
                rows_of(written.len() / c, c, 0, 0.0)?,
                &[x(0), y(0)],
            )?;
        }
        Op::GatedBwd => {
            let (len, c) = (shape(0).len(), last(0));
            let pointers = [x(0), x(1), y(0)];
            l.each(kernel("elementwise", "gated_bwd"), len, rows_of(len / c, c, 0, 0.0)?, &pointers)?;
        }
        Op::Reparameterize => l.map("reparameterize", plain, &[x(0), x(1), x(2), y(0)])?,

        Op::Pad { before, .. } => region(&mut l, "pad", args::Region::new(written, shape(0), *before))?,
        Op::Slice { before, .. } => region(&mut l, "slice", args::Region::new(shape(0), written, *before))?,
        Op::Gather => {
            let rows = rows_of(written.rows(), last(0), shape(0).rows(), 0.0)?;
            l.each(kernel("shape_ops", "gather"), written.len(), rows, &[x(0), x(1), y(0)])?;
        }
        Op::Scatter { rows } => {
            let rows = rows_of(*rows, last(0), shape(1).len(), 0.0)?;
            l.each(kernel("shape_ops", "scatter"), written.len(), rows, &[x(0), x(1), y(0)])?;
        }

        Op::Sum(to) => sum(&mut l, Axes::new(shape(0), *to))?,
        Op::Expand(to) => {
            let axes = axes_words(Axes::new(*to, shape(0)), Parts { rows: 1, count: 1 }, 1)?;
            l.each(kernel("reduce", "expand"), written.len(), axes, &[x(0), y(0)])?;
        }

        Op::Matmul { ta, tb } => product::matmul(&mut l, *ta, *tb)?,
        Op::Conv(g) => product::conv(&mut l, g)?,
        Op::ConvDx(g) => product::conv_dx(&mut l, g)?,
        Op::ConvDw(g) => product::conv_dw(&mut l, g)?,

        Op::BatchNorm { eps } => super::norm::batch_norm(&mut l, *eps as f32)?,
        Op::BatchNormBwd => super::norm::batch_norm_bwd(&mut l)?,
        Op::BatchNormInfer { eps } => {
            let rows = rows_of(written.rows(), last(0), 0, *eps as f32)?;
            let pointers = [x(0), x(1), x(2), x(3), x(4), y(0)];
            l.each(kernel("norm", "batch_norm_infer"), written.len(), rows, &pointers)?;
        }
        Op::LayerNorm { eps } => {
            let rows = rows_of(written.rows(), last(0), 0, *eps as f32)?;
            let pointers = [x(0), x(1), x(2), y(0), y(1), y(2)];
            l.rows(kernel("norm", "layer_norm"), written.rows(), rows, &pointers)?;
        }
        Op::LayerNormBwd => super::norm::layer_norm_bwd(&mut l)?,
        Op::GroupNorm { groups, eps } => super::norm::group_norm(&mut l, *groups, *eps as f32)?,
        Op::GroupNormBwd => super::norm::group_norm_bwd(&mut l)?,

        Op::BceWithLogits => l.map("bce_with_logits", plain, &[x(0), x(1), y(0)])?,
        Op::Mse => l.map("mse", plain, &[x(0), x(1), y(0)])?,
        Op::SoftmaxCrossEntropy => {
            let rows = rows_of(written.len(), last(0), 0, 0.0)?;
            l.rows(kernel("loss", "softmax_cross_entropy"), written.len(), rows, &[x(0), x(1), y(0)])?;
        }
        Op::SoftmaxCrossEntropyBwd => {
            let (m, pointers) = (shape(0).len(), [x(0), x(1), x(2), y(0)]);
            l.rows(kernel("loss", "softmax_cross_entropy_bwd"), m, rows_of(m, last(1), 0, 0.0)?, &pointers)?;
        }
        Op::GaussianKl => {
            let rows = rows_of(written.len(), last(0), 0, 0.0)?;
            l.rows(kernel("loss", "gaussian_kl"), written.len(), rows, &[x(0), x(1), y(0)])?;
        }

        Op::LstmCell => {
            let rows = rows_of(shape(1).rows(), last(1), 0, 0.0)?;
            let pointers = [x(0), x(1), y(0), y(1), y(2)];
            l.each(kernel("lstm", "lstm_cell"), shape(1).len(), rows, &pointers)?;
        }
        Op::LstmCellBwd => {
            let rows = rows_of(shape(0).rows(), last(0), 0, 0.0)?;
            let pointers = [x(0), x(1), x(2), x(3), x(4), y(0), y(1)];
            l.each(kernel("lstm", "lstm_cell_bwd"), shape(0).len(), rows, &pointers)?;
        }
        Op::Lstm => super::recurrence::lstm(&mut l)?,
        Op::LstmBwd => super::recurrence::lstm_bwd(&mut l)?,
        Op::RowLstm => super::recurrence::scan(&mut l, "row_lstm", false)?,
        Op::RowLstmBwd => super::recurrence::scan_bwd(&mut l, "row_lstm_bwd", false)?,
        Op::DiagonalLstm { reverse } => super::recurrence::scan(&mut l, "diagonal_lstm", *reverse)?,
        Op::DiagonalLstmBwd { reverse } => super::recurrence::scan_bwd(&mut l, "diagonal_lstm_bwd", *reverse)?,

        Op::Random { dist, stream, counter, shape } => {
            let per_image = match counter {
                Counter::Replay => 0,
                Counter::Image => shape.len() / shape.dims().first().copied().unwrap_or(1),
            };
            let random = args::Random {
                len: word(shape.len())?,
                per_image: word(per_image)?,
                stream: *stream as u32,
                normal: u32::from(*dist == Dist::Normal),
            };
            l.each(kernel("random", "random"), shape.len(), random, &[x(0), x(1), y(0)])?;
        }
        Op::GaussianSample { stream } => {
            let (rows, width) = (shape(0).rows(), last(0));
            let args = args::Gaussian { rows: word(rows)?, width: word(width)?, stream: *stream as u32, unused: 0 };
            let pointers = [x(0), x(1), x(2), x(3), y(0), y(1)];
            l.rows(kernel("random", "gaussian_sample"), rows, args, &pointers)?;
        }
        Op::GaussianSampleBwd => {
            let rows = rows_of(written.rows(), last(0), 0, 0.0)?;
            let pointers = [x(0), x(1), x(2), x(3), x(4), y(0), y(1)];
            l.each(kernel("random", "gaussian_sample_bwd"), written.len(), rows, &pointers)?;
        }
        Op::Categorical => {
            let rows = rows_of(written.len(), last(0), 0, 0.0)?;
            l.each(kernel("random", "categorical"), written.len(), rows, &[x(0), x(1), x(2), y(0)])?;
        }
        Op::Bernoulli => l.map("bernoulli", plain, &[x(0), x(1), x(2), y(0)])?,

        Op::Adam { .. } | Op::RmsProp { .. } | Op::Sgd { .. } | Op::Ema { .. } => return optim::lower(&[step], card),
        Op::Store(_) => {
            let (from, to, words) = (l.x(0), l.y(0), written.len());
            l.out.work.push(Work::Copy { to, from, words });
        }
    }
    Ok(l.out)
}

/// Launches `pad` or `slice`.
fn region(l: &mut Lowering, name: &'static str, args: args::Region) -> Result<()> {
    let (len, pointers) = (l.written().len(), [l.x(0), l.y(0)]);
    l.each(kernel("shape_ops", name), len, args, &pointers)
}

fn axes_words(axes: Axes, parts: Parts, lanes: usize) -> Result<args::Axes> {
    Ok(args::Axes {
        kept0: word(axes.kept0)?,
        folded0: word(axes.folded0)?,
        kept1: word(axes.kept1)?,
        folded1: word(axes.folded1)?,
        kept2: word(axes.kept2)?,
        part_rows: word(parts.rows)?,
        parts: word(parts.count)?,
        lanes: word(lanes)?,
    })
}

/// Elements that one partial sum adds up, over all columns.
const PART: usize = 16 * 1024;

/// One pass over x, and a second pass over the partial sums if there are several per sum.
fn sum(l: &mut Lowering, axes: Axes) -> Result<()> {
    let (sums, rows) = (axes.kept0 * axes.kept1, axes.folded0 * axes.folded1);
    let part_rows = (PART / axes.kept2.max(1)).max(1);
    let parts = rows.div_ceil(part_rows).max(1);
    let (x, y) = (l.x(0), l.y(0));
    if parts == 1 {
        return sum_pass(l, axes, Parts { rows: rows.max(1), count: 1 }, x, y);
    }
    let partial = l.scratch(sums * parts * axes.kept2)?;
    sum_pass(l, axes, Parts { rows: part_rows, count: parts }, x, partial)?;
    let second = Axes { kept0: 1, folded0: 1, kept1: sums, folded1: parts, kept2: axes.kept2 };
    sum_pass(l, second, Parts { rows: parts, count: 1 }, partial, y)
}

/// The partial sums that one sum is made of.
struct Parts {
    /// Rows that a partial sum adds up.
    rows: usize,
    /// Number of partial sums.
    count: usize,
}

fn sum_pass(l: &mut Lowering, axes: Axes, parts: Parts, from: Ptr, to: Ptr) -> Result<()> {
    // Threads of a block go to neighbouring columns first. Where there are few columns, the other threads
    // share the rows.
    let columns = axes.kept2.next_power_of_two();
    let lanes = (THREADS / columns.min(64)).min(parts.rows.next_power_of_two());
    let wide = columns.min(THREADS / lanes);
    let jobs = axes.kept0 * axes.kept1 * parts.count;
    let grid = [word(jobs.div_ceil(THREADS / (wide * lanes)))?, word(axes.kept2.div_ceil(wide))?, 1];
    let args = axes_words(axes, parts, lanes)?;
    l.launch(kernel("reduce", "sum"), blocks_of_threads(grid), args, &[from, to])
}
