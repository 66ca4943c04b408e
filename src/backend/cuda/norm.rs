//! Launches of batch, layer and group normalisation. In batch and group norm, a first kernel computes the
//! statistics or sums of chunks of rows, a second one joins them, and a third one computes the elements. The
//! backward pass of layer norm computes dx first, then the sums of chunks, and joins these.

use super::driver::LaunchShape;
use super::lowering::{Lowering, THREADS, blocks_of_threads, kernel};
use crate::backend::args::{Norm, unary_code, word};
use crate::error::Result;
use crate::shape::Shape;
use crate::tape::plan::Fused;

/// Columns of a block of the kernels over chunks: `COLUMNS` of `norm.cu`.
const COLUMNS: usize = 32;

/// Rows of a chunk, which one block adds up.
const CHUNK: usize = 512;

fn norm(rows: usize, c: usize, eps: f32) -> Result<Norm> {
    word(rows * c.max(1))?;
    let (rows, c, chunks) = (word(rows)?, word(c)?, word(rows.div_ceil(CHUNK))?);
    Ok(Norm { rows, c, chunk: CHUNK as u32, chunks, eps, images: 1, share: 1, ..Norm::default() })
}

/// The blocks of the kernels over chunks.
fn over_chunks(args: &Norm) -> LaunchShape {
    blocks_of_threads([args.chunks, args.c.div_ceil(COLUMNS as u32), args.images])
}

/// `x, gamma, beta -> y, mean, inv_std`
pub(super) fn batch_norm(l: &mut Lowering, eps: f32) -> Result<()> {
    let (rows, c) = (l.shape(0).rows(), l.shape(0).last());
    let mut args = norm(rows, c, eps)?;
    if let [Fused::Act(f)] = l.step.epilogue.as_slice() {
        (args.act, args.act_slope) = unary_code(*f);
    }
    let parts = l.scratch(3 * c * args.chunks as usize)?;
    let factors = l.scratch(2 * c)?;
    let ([x, gamma, beta], [y, mean, inv_std]) = ([0, 1, 2].map(|i| l.x(i)), [0, 1, 2].map(|i| l.y(i)));
    if args.chunks > 0 {
        l.launch(kernel("norm", "batch_norm_statistics"), over_chunks(&args), args, &[x, parts])?;
    }
    l.each(kernel("norm", "batch_norm_join"), c, args, &[parts, gamma, beta, mean, inv_std, factors])?;
    l.each(kernel("norm", "batch_norm_apply"), rows * c, args, &[x, mean, factors, y])
}

/// `dy, x, gamma, mean, inv_std -> dx, dgamma, dbeta`
pub(super) fn batch_norm_bwd(l: &mut Lowering) -> Result<()> {
    let (rows, c) = (l.shape(1).rows(), l.shape(1).last());
    let args = norm(rows, c, 0.0)?;
    let parts = l.scratch(3 * c * args.chunks as usize)?;
    let factors = l.scratch(3 * c)?;
    let ([dy, x, gamma, mean, inv_std], [dx, dgamma, dbeta]) =
        ([0, 1, 2, 3, 4].map(|i| l.x(i)), [0, 1, 2].map(|i| l.y(i)));
    if args.chunks > 0 {
        l.launch(kernel("norm", "batch_norm_bwd_sums"), over_chunks(&args), args, &[dy, x, mean, parts])?;
    }
    l.each(kernel("norm", "batch_norm_bwd_join"), c, args, &[parts, gamma, inv_std, dgamma, dbeta, factors])?;
    l.each(kernel("norm", "batch_norm_bwd_apply"), rows * c, args, &[dy, x, mean, factors, dx])
}

/// `dy, x, gamma, mean, inv_std -> dx, dgamma, dbeta`
pub(super) fn layer_norm_bwd(l: &mut Lowering) -> Result<()> {
    let (rows, c) = (l.shape(1).rows(), l.shape(1).last());
    let args = norm(rows, c, 0.0)?;
    let offs = l.scratch(rows)?;
    let parts = l.scratch(2 * c * args.chunks as usize)?;
    let ([dy, x, gamma, mean, inv_std], [dx, dgamma, dbeta]) =
        ([0, 1, 2, 3, 4].map(|i| l.x(i)), [0, 1, 2].map(|i| l.y(i)));
    if args.chunks > 0 {
        let grid = [word(rows.div_ceil(THREADS / 32))?, 1, 1];
        let shape = blocks_of_threads(grid);
        l.launch(kernel("norm", "layer_norm_bwd_rows"), shape, args, &[dy, x, gamma, mean, inv_std, dx, offs])?;
        let pointers = [dy, x, mean, inv_std, offs, parts];
        l.launch(kernel("norm", "layer_norm_bwd_sums"), over_chunks(&args), args, &pointers)?;
    }
    l.each(kernel("norm", "layer_norm_bwd_join"), c, args, &[parts, dgamma, dbeta])
}

/// The arguments of group norm for x `[n, .., c]`.
fn of_groups(x: Shape, groups: usize, eps: f32) -> Result<Norm> {
    let (images, c) = (x.dims()[0], x.last());
    let args = norm(x.rows() / images.max(1), c, eps)?;
    Ok(Norm { images: word(images)?, share: word(c / groups)?, ..args })
}

/// `x, gamma, beta -> y, mean, inv_std`
pub(super) fn group_norm(l: &mut Lowering, groups: usize, eps: f32) -> Result<()> {
    let args = of_groups(l.shape(0), groups, eps)?;
    let (images, c) = (args.images as usize, args.c as usize);
    let parts = l.scratch(images * args.chunks as usize * 3 * c)?;
    let factors = l.scratch(2 * images * c)?;
    let ([x, gamma, beta], [y, mean, inv_std]) = ([0, 1, 2].map(|i| l.x(i)), [0, 1, 2].map(|i| l.y(i)));
    if args.chunks > 0 {
        l.launch(kernel("norm", "batch_norm_statistics"), over_chunks(&args), args, &[x, parts])?;
    }
    let pointers = [parts, gamma, beta, mean, inv_std, factors];
    l.each(kernel("norm", "group_norm_join"), images * groups, args, &pointers)?;
    l.each(kernel("norm", "group_norm_apply"), l.shape(0).len(), args, &[x, mean, factors, y])
}

/// `dy, x, gamma, mean, inv_std -> dx, dgamma, dbeta`
pub(super) fn group_norm_bwd(l: &mut Lowering) -> Result<()> {
    let groups = l.shape(3).last();
    let args = of_groups(l.shape(1), groups, 0.0)?;
    let (images, c) = (args.images as usize, args.c as usize);
    let parts = l.scratch(images * args.chunks as usize * 3 * c)?;
    let (factors, sums) = (l.scratch(images * (c + 2 * groups))?, l.scratch(images * 2 * c)?);
    let ([dy, x, gamma, mean, inv_std], [dx, dgamma, dbeta]) =
        ([0, 1, 2, 3, 4].map(|i| l.x(i)), [0, 1, 2].map(|i| l.y(i)));
    if args.chunks > 0 {
        l.launch(kernel("norm", "batch_norm_bwd_sums"), over_chunks(&args), args, &[dy, x, mean, parts])?;
    }
    let pointers = [parts, gamma, inv_std, factors, sums];
    l.each(kernel("norm", "group_norm_bwd_join"), images * groups, args, &pointers)?;
    // Each image gives one part of the gradients of gamma and beta, as each chunk does in layer norm.
    let by_image = Norm { chunks: args.images, ..args };
    l.each(kernel("norm", "layer_norm_bwd_join"), c, by_image, &[sums, dgamma, dbeta])?;
    l.each(kernel("norm", "group_norm_bwd_apply"), l.shape(1).len(), args, &[dy, x, mean, factors, dx])
}
