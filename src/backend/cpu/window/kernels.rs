//! Computes a window of a step for all images of a share, in one exhaustive match with a few lines per op.
//!
//! Each element is computed by the same expression as in the kernel for whole tensors, so both give the same
//! bits. The elements of a window are visited in runs that are contiguous in memory.

use super::scan;
use super::share::Share;
use crate::backend::cpu::access::Access;
use crate::backend::cpu::epilogue::EpilogueOp;
use crate::backend::cpu::product::{Isa, Part, WindowConv};
use crate::backend::cpu::vector::{map, prefetch, vectorized};
use crate::backend::cpu::{elementwise, random, unary};
use crate::shape::ImageSize;
use crate::tape::geometry::ConvGeom;
use crate::tape::op::Unary;
use crate::tape::plan::{Fused, Step};
use crate::tape::window::Window;
use crate::tape::window_op::WindowOp;
use std::ops::Range;

/// How the windows of a step are computed.
pub(super) struct Kernel {
    isa: Isa,
    product: Option<Product>,
}

/// A convolution, and the range of its weights in the packed weights.
struct Product {
    conv: WindowConv,
    packed: Range<usize>,
}

impl Kernel {
    /// Makes the kernel of a step that writes images of `size`. Its packed weights come after the first
    /// `packed` floats; `packed` is advanced past them.
    ///
    /// # Errors
    /// A clause that says why there are no windows for this step.
    pub(super) fn new(step: &Step, size: ImageSize, isa: Isa, packed: &mut usize) -> Result<Kernel, String> {
        let conv = match WindowOp::of(&step.op)? {
            WindowOp::Conv(g) => Some(WindowConv::new(isa, *g, false)?),
            WindowOp::Matmul { tb } => {
                Some(WindowConv::new(isa, ConvGeom::rows_times_matrix(step.inputs[0].meta.shape, size), tb)?)
            }
            WindowOp::RowLstm | WindowOp::DiagonalLstm { .. } => Some(scan::states(step, isa)?),
            WindowOp::Unary(_)
            | WindowOp::Binary(_)
            | WindowOp::Affine { .. }
            | WindowOp::Clamp { .. }
            | WindowOp::Quantize { .. }
            | WindowOp::Dequantize { .. }
            | WindowOp::Gated
            | WindowOp::Pad { .. }
            | WindowOp::Slice { .. }
            | WindowOp::Categorical
            | WindowOp::Bernoulli => None,
        };
        let product = conv.map(|conv| {
            let start = *packed;
            *packed += conv.packed_len();
            Product { conv, packed: start..*packed }
        });
        Ok(Kernel { isa, product })
    }

    /// Packs the weights, which may have changed since the last batch.
    pub(super) fn pack(&self, access: &Access, packed: &mut [f32]) {
        if let Some(Product { conv, packed: at }) = &self.product {
            conv.pack(access.input(1), &mut packed[at.clone()]);
        }
    }

    /// Computes a window of the step, which writes images of `size`.
    pub(super) fn run(&self, share: &Share, step: &Step, size: ImageSize, window: &Window, packed: &[f32]) {
        let (isa, images) = (self.isa, share.count());
        let x = |i: usize| share.read(&step.inputs[i]);
        let y = share.write(&step.outputs[0]);
        // `new` has checked that the op has windows.
        let Ok(op) = WindowOp::of(&step.op) else { return };
        match op {
            WindowOp::Conv(_) | WindowOp::Matmul { .. } => {
                let Some(Product { conv, packed: at }) = &self.product else { return };
                with_epilogue(share, step, |epilogue| {
                    conv.run(&packed[at.clone()], &part(window), images, x(0), y, epilogue);
                });
            }
            WindowOp::Unary(f) => unary_runs(isa, f, Runs::of(size, window, images), x(0), y),
            WindowOp::Binary(f) => each_run(size, window, images, |at| {
                elementwise::binary_chunk(isa, f, &x(0)[at.clone()], &x(1)[at.clone()], &mut y[at]);
            }),
            WindowOp::Affine { scale, shift } => each_run(size, window, images, |at| {
                elementwise::affine_chunk(isa, scale as f32, shift as f32, &x(0)[at.clone()], &mut y[at]);
            }),
            WindowOp::Clamp { lo, hi } => each_run(size, window, images, |at| {
                elementwise::clamp_chunk(isa, lo as f32, hi as f32, &x(0)[at.clone()], &mut y[at]);
            }),
            WindowOp::Quantize { levels } => each_run(size, window, images, |at| {
                let index = bytemuck::cast_slice_mut(&mut y[at.clone()]);
                elementwise::quantize_chunk(isa, (levels - 1) as f32, &x(0)[at], index);
            }),
            WindowOp::Dequantize { levels } => each_run(size, window, images, |at| {
                let index = bytemuck::cast_slice(&x(0)[at.clone()]);
                elementwise::dequantize_chunk(isa, (levels - 1) as f32, index, &mut y[at]);
            }),
            WindowOp::RowLstm | WindowOp::DiagonalLstm { .. } => {
                let Some(Product { conv, packed: at }) = &self.product else { return };
                let kept = share.write(&step.outputs[1]);
                scan::run(step, isa, (conv, &packed[at.clone()]), window, images, x(0), [y, kept]);
            }
            WindowOp::Gated => each_pixel(size, window, images, |pixel, channels| {
                let (c, at) = (size.channels, pixel.index * size.channels);
                let (a, b) = x(0)[2 * at..2 * (at + c)].split_at(c);
                let y = &mut y[at..at + c][channels.clone()];
                elementwise::gated_run(isa, &a[channels.clone()], &b[channels], y);
            }),
            WindowOp::Pad { before, .. } => {
                let inner = image_size(step);
                each_pixel(size, window, images, |pixel, channels| {
                    let y = &mut y[pixel.index * size.channels..][channels.clone()];
                    let row = pixel.row.checked_sub(before[1]).filter(|r| *r < inner.height);
                    let column = pixel.column.checked_sub(before[2]).filter(|c| *c < inner.width);
                    y.fill(0.0);
                    if let (Some(row), Some(column)) = (row, column) {
                        let from = ((pixel.image * inner.height + row) * inner.width + column) * inner.channels;
                        let inside = channels.start.max(before[3])..channels.end.min(before[3] + inner.channels);
                        if !inside.is_empty() {
                            let from = &x(0)[from + inside.start - before[3]..][..inside.len()];
                            y[inside.start - channels.start..][..inside.len()].copy_from_slice(from);
                        }
                    }
                });
            }
            WindowOp::Slice { before, .. } => {
                let outer = image_size(step);
                each_pixel(size, window, images, |pixel, channels| {
                    let (row, column) = (pixel.row + before[1], pixel.column + before[2]);
                    let from = ((pixel.image * outer.height + row) * outer.width + column) * outer.channels + before[3];
                    let from = &x(0)[from..][channels.clone()];
                    y[pixel.index * size.channels..][channels].copy_from_slice(from);
                });
            }
            WindowOp::Categorical => {
                let (k, temperature) = (step.inputs[0].meta.shape.last(), share.whole(&step.inputs[2])[0]);
                each_run(size, window, images, |at| {
                    let index = bytemuck::cast_slice_mut(&mut y[at.clone()]);
                    let logits = &x(0)[at.start * k..at.end * k];
                    random::categorical_rows(isa, k, logits, &x(1)[at], temperature, index);
                });
            }
            WindowOp::Bernoulli => {
                let temperature = share.whole(&step.inputs[2])[0];
                each_run(size, window, images, |at| {
                    random::bernoulli_chunk(isa, &x(0)[at.clone()], &x(1)[at.clone()], temperature, &mut y[at]);
                });
            }
        }
    }
}

/// The size of the step's input, which has the shape of images.
fn image_size(step: &Step) -> ImageSize {
    let [_, height, width, channels] = step.inputs[0].meta.shape.padded();
    ImageSize { height, width, channels }
}

/// Converts a window to a part of a convolution's output.
fn part(window: &Window) -> Part {
    let [rows, columns, channels] = window.ranges();
    Part { rows, columns, channels }
}

/// A pixel of an image of the share.
struct Pixel {
    image: usize,
    row: usize,
    column: usize,
    /// Index of the pixel over all images of the share.
    index: usize,
}

/// Calls `f` with each pixel of a window and its channels.
#[inline(always)]
fn each_pixel(size: ImageSize, window: &Window, images: usize, mut f: impl FnMut(Pixel, Range<usize>)) {
    let [rows, columns, channels] = window.ranges();
    for (image, row) in (0..images).flat_map(|image| rows.clone().map(move |row| (image, row))) {
        for column in columns.clone() {
            f(Pixel { image, row, column, index: (image * size.height + row) * size.width + column }, channels.clone());
        }
    }
}

/// The contiguous ranges of elements of a window, in all images of a share.
#[derive(Clone, Copy)]
struct Runs {
    first: usize,
    len: usize,
    /// Number of ranges, and the distance from one to the next: over images, rows and columns.
    counts: [usize; 3],
    steps: [usize; 3],
}

impl Runs {
    fn of(size: ImageSize, window: &Window, images: usize) -> Runs {
        let ImageSize { height: h, width: w, channels: c } = size;
        let [rows, columns, channels] = window.ranges();
        let first = (rows.start * w + columns.start) * c + channels.start;
        let whole = channels == (0..c);
        let (columns, len) = if whole { (1, columns.len() * c) } else { (columns.len(), channels.len()) };
        Runs { first, len, counts: [images, rows.len(), columns], steps: [h * w * c, w * c, c] }
    }

    /// The ranges. Their order is that of the elements in memory.
    #[inline(always)]
    fn all(self) -> impl Iterator<Item = Range<usize>> {
        let [images, rows, columns] = self.counts;
        let (mut image, mut row, mut column) = (0, 0, 0);
        std::iter::from_fn(move || {
            (image < images && rows > 0 && columns > 0).then(|| {
                let start = self.first + image * self.steps[0] + row * self.steps[1] + column * self.steps[2];
                column += 1;
                if column == columns {
                    (row, column) = (row + 1, 0);
                }
                if row == rows {
                    (image, row) = (image + 1, 0);
                }
                start..start + self.len
            })
        })
    }
}

vectorized! {
    /// `y = f(x)` for all ranges in one call, because they are short.
    fn unary_runs(f: Unary, runs: Runs, x: &[f32], y: &mut [f32]) {
        unary::specialize_unary!(f, f => {
            for at in runs.all() {
                // The next window writes the elements after these.
                prefetch(y.get(at.end..at.end + at.len()).unwrap_or_default());
                let (x, y) = (&x[at.clone()], &mut y[at]);
                map!(y <- x: unary::unary(f, x));
            }
        })
    }
}

/// Calls `f` with each contiguous range of elements of a window.
#[inline(always)]
fn each_run(size: ImageSize, window: &Window, images: usize, f: impl FnMut(Range<usize>)) {
    Runs::of(size, window, images).all().for_each(f);
}

/// Calls `launch` with the epilogue of a product. It has at most one operation of each kind (`Plan::check`).
fn with_epilogue(share: &Share, step: &Step, launch: impl FnOnce(&[EpilogueOp])) {
    const KINDS: usize = 4;
    let mut ops = [EpilogueOp::Add(&[]); KINDS];
    for (op, fused) in ops.iter_mut().zip(&step.epilogue) {
        // All images share a bias.
        let is_shared = matches!(fused, Fused::Bias(_));
        *op = fused.map(|operand| if is_shared { share.whole(operand) } else { share.read(operand) });
    }
    launch(&ops[..step.epilogue.len()]);
}
