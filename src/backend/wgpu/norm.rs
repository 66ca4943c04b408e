//! Lowers batch, layer and group normalisation to dispatches of `norm.wgsl`.

use super::args::{NormArgs, REDUCE_THREADS, ReduceArgs, reduce_columns};
use super::dispatch::{Dispatch, Launch, Place, out};
use super::reduce::sum;
use super::shaders::Shader;
use crate::backend::args::{NO_FUNCTION, unary_code};
use crate::shape::Shape;
use crate::tape::plan::{Fused, Step};

/// Rows of a chunk per thread.
const ROWS_OF_A_LANE: usize = 32;

/// The arguments for x. The size of a chunk depends on the width of the rows alone.
fn arguments(x: Shape, eps: f32) -> NormArgs {
    let (rows, width) = (x.rows(), x.last());
    let columns = reduce_columns(width);
    let chunk_rows = ROWS_OF_A_LANE * REDUCE_THREADS / columns;
    NormArgs {
        rows: rows as u32,
        width: width as u32,
        chunk_rows: chunk_rows as u32,
        chunks: rows.div_ceil(chunk_rows).max(1) as u32,
        columns: columns as u32,
        eps,
        act: NO_FUNCTION,
        slope: 0.0,
        images: 1,
        share: 1,
    }
}

fn kernel(entry: &'static str, args: &NormArgs) -> Dispatch {
    Dispatch::new(Shader::Norm, entry, args)
}

/// A kernel with one workgroup per block of columns, chunk and image.
fn by_chunk(entry: &'static str, args: &NormArgs) -> Dispatch {
    let chunks = args.images as usize * args.chunks as usize;
    kernel(entry, args).groups(chunks * args.width.div_ceil(args.columns) as usize)
}

/// Takes scratch of `rows` words per column of each chunk.
fn partial_sums(run: &mut Launch, args: &NormArgs, rows: usize) -> Place {
    run.take_scratch(args.images as usize * args.chunks as usize * rows * args.width as usize)
}

/// Binds inputs of the step: (binding, input).
fn reads(dispatch: Dispatch, step: &Step, inputs: &[(u32, usize)]) -> Dispatch {
    inputs.iter().fold(dispatch, |d, &(binding, i)| d.bind(binding, &step.inputs[i]))
}

/// Computes the statistics of the chunks, joins them, and normalises the rows. Inputs x, gamma, beta.
pub(super) fn batch_norm(run: &mut Launch, step: &Step, eps: f32) {
    let x = step.inputs[0].meta.shape;
    let mut args = arguments(x, eps);
    if let [Fused::Act(f)] = step.epilogue.as_slice() {
        (args.act, args.slope) = unary_code(*f);
    }
    let (parts, factors) = (partial_sums(run, &args, 3), run.take_scratch(2 * x.last()));
    run.push(reads(by_chunk("batch_norm_statistics", &args), step, &[(1, 0)]).bind(6, parts));
    let join = reads(kernel("batch_norm_join", &args).bind(1, parts), step, &[(2, 2), (3, 1)]);
    run.push(join.bind(6, factors).bind(7, out(step, 1)).bind(8, out(step, 2)).each(x.last()));
    let apply = reads(kernel("batch_norm", &args), step, &[(1, 0)]);
    run.push(apply.bind(4, out(step, 1)).bind(5, factors).bind(6, out(step, 0)).each(x.len()));
}

/// Inputs dy, x, gamma, mean, inv_std.
pub(super) fn batch_norm_bwd(run: &mut Launch, step: &Step) {
    let x = step.inputs[1].meta.shape;
    let args = arguments(x, 0.0);
    let (parts, factors) = (partial_sums(run, &args, 3), run.take_scratch(3 * x.last()));
    run.push(reads(by_chunk("batch_norm_bwd_sums", &args), step, &[(1, 0), (2, 1), (4, 3)]).bind(6, parts));
    let join = reads(kernel("batch_norm_bwd_join", &args).bind(1, parts), step, &[(3, 2), (5, 4)]);
    run.push(join.bind(6, factors).bind(7, out(step, 1)).bind(8, out(step, 2)).each(x.last()));
    let apply = reads(kernel("batch_norm_bwd", &args), step, &[(1, 0), (2, 1), (4, 3)]);
    run.push(apply.bind(5, factors).bind(6, out(step, 0)).each(x.len()));
}

/// Inputs x, gamma, beta, mean, variance.
pub(super) fn batch_norm_infer(run: &mut Launch, step: &Step, eps: f32) {
    let x = step.inputs[0].meta.shape;
    let apply = kernel("batch_norm_infer", &arguments(x, eps));
    let apply = reads(apply, step, &[(1, 0), (2, 2), (3, 1), (4, 3), (5, 4)]);
    run.push(apply.bind(6, out(step, 0)).each(x.len()));
}

/// Inputs x, gamma, beta.
pub(super) fn layer_norm(run: &mut Launch, step: &Step, eps: f32) {
    let args = arguments(step.inputs[0].meta.shape, eps);
    let dispatch = reads(kernel("layer_norm", &args), step, &[(1, 0), (2, 2), (3, 1)]);
    let dispatch = dispatch.bind(6, out(step, 0)).bind(7, out(step, 1)).bind(8, out(step, 2));
    run.push(dispatch.groups(args.rows as usize));
}

/// Inputs dy, x, gamma, mean, inv_std.
pub(super) fn layer_norm_bwd(run: &mut Launch, step: &Step) {
    let x = step.inputs[1].meta.shape;
    let args = arguments(x, 0.0);
    let (offsets, parts) = (run.take_scratch(x.rows()), partial_sums(run, &args, 2));
    let rows = reads(kernel("layer_norm_bwd", &args), step, &[(1, 0), (2, 1), (3, 2), (4, 3), (5, 4)]);
    run.push(rows.bind(6, out(step, 0)).bind(7, offsets).groups(args.rows as usize));
    let sums = reads(by_chunk("layer_norm_bwd_sums", &args), step, &[(1, 0), (2, 1), (4, 3), (5, 4)]);
    run.push(sums.bind(3, offsets).bind(6, parts));
    scale_and_shift(run, step, args.chunks as usize, parts);
}

/// Computes dgamma and dbeta, the second and third output: the sums over the rows of `parts[rows, 2, c]`.
fn scale_and_shift(run: &mut Launch, step: &Step, rows: usize, parts: Place) {
    let c = step.outputs[1].meta.shape.len();
    for output in [1, 2] {
        let (offset, row_stride) = ((output as u32 - 1) * c as u32, 2 * c as u32);
        sum(run, ReduceArgs { offset, row_stride, ..ReduceArgs::rows(rows, c) }, parts, out(step, output));
    }
}

/// The arguments of group norm for x `[n, .., c]`.
fn of_groups(x: Shape, groups: usize, eps: f32) -> NormArgs {
    let (images, c) = (x.dims()[0], x.last());
    let args = arguments(Shape::new(&[x.rows() / images.max(1), c]), eps);
    NormArgs { images: images as u32, share: (c / groups) as u32, ..args }
}

/// Inputs x, gamma, beta.
pub(super) fn group_norm(run: &mut Launch, step: &Step, groups: usize, eps: f32) {
    let x = step.inputs[0].meta.shape;
    let args = of_groups(x, groups, eps);
    let images = args.images as usize;
    let (parts, factors) = (partial_sums(run, &args, 3), run.take_scratch(2 * images * x.last()));
    run.push(reads(by_chunk("batch_norm_statistics", &args), step, &[(1, 0)]).bind(6, parts));
    let join = reads(kernel("group_norm_join", &args).bind(1, parts), step, &[(2, 2), (3, 1)]);
    run.push(join.bind(6, factors).bind(7, out(step, 1)).bind(8, out(step, 2)).each(images * groups));
    let apply = reads(kernel("group_norm", &args), step, &[(1, 0)]);
    run.push(apply.bind(4, out(step, 1)).bind(5, factors).bind(6, out(step, 0)).each(x.len()));
}

/// Inputs dy, x, gamma, mean, inv_std.
pub(super) fn group_norm_bwd(run: &mut Launch, step: &Step) {
    let (x, groups) = (step.inputs[1].meta.shape, step.inputs[3].meta.shape.last());
    let args = of_groups(x, groups, 0.0);
    let images = args.images as usize;
    let (parts, factors) = (partial_sums(run, &args, 3), run.take_scratch(images * (x.last() + 2 * groups)));
    let sums = run.take_scratch(images * 2 * x.last());
    run.push(reads(by_chunk("batch_norm_bwd_sums", &args), step, &[(1, 0), (2, 1), (4, 3)]).bind(6, parts));
    let join = reads(kernel("group_norm_bwd_join", &args).bind(1, parts), step, &[(3, 2), (5, 4)]);
    run.push(join.bind(6, factors).bind(7, sums).each(images * groups));
    scale_and_shift(run, step, images, sums);
    let apply = reads(kernel("group_norm_bwd", &args), step, &[(1, 0), (2, 1), (4, 3)]);
    run.push(apply.bind(5, factors).bind(6, out(step, 0)).each(x.len()));
}
