//! Argument structs of the shaders that differ from those of the CUDA kernels, because the work is divided
//! differently. The structs that both share are in [`backend::args`](crate::backend::args).
//!
//! There is one struct per kernel family, with the same fields in the family's shader. Fields are words. An
//! array has four words and starts at a multiple of 16 bytes, as uniform buffers require.

use crate::backend::axes::Axes;
use crate::shape::Shape;
use crate::tape::geometry::{ConvGeom, Mask};
use bytemuck::{Pod, Zeroable};

/// Arguments of the elementwise kernels.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct ElementArgs {
    /// Number of elements of the output.
    pub len: u32,
    /// Channels after gating; for `fill`, the bits of the number.
    pub width: u32,
    /// Slope of an activation, scale of `affine`, lower bound of `clamp`, or highest level of `quantize` and
    /// `dequantize`.
    pub p: f32,
    /// Shift of `affine` or upper bound of `clamp`.
    pub q: f32,
}

/// `gather` and `scatter`, which select rows by index.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct IndexArgs {
    /// Rows of the table.
    pub rows: u32,
    /// Number of indices.
    pub count: u32,
    /// Elements of a row.
    pub width: u32,
}

/// `sum` and `expand`: the large tensor is `[kept0, folded0, kept1, folded1, width]`, the small one
/// `[kept0, kept1, width]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct ReduceArgs {
    pub kept0: u32,
    pub folded0: u32,
    pub kept1: u32,
    pub folded1: u32,
    pub width: u32,
    /// Rows that one partial sum adds up.
    pub part_rows: u32,
    /// Number of partial sums per sum.
    pub parts: u32,
    /// Threads of a workgroup along the width, a power of two.
    pub columns: u32,
    /// Offset of row 0, and distance between rows, if the rows are not dense. Both are 0 if they are dense.
    pub offset: u32,
    pub row_stride: u32,
}

/// A blocked matrix product `c[m, n] = sum over k of a[m, k] b[k, n]`: `matmul`, `conv`, `conv_dx`,
/// `conv_dw`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct ProductArgs {
    /// Operations of the epilogue. The low byte holds the kind ([`fused`](crate::backend::args::fused)); the
    /// bits above hold the code of an activation ([`unary_code`](crate::backend::args::unary_code)). 0 ends
    /// the list.
    pub fused: [u32; 4],
    /// Rows of c; for `conv_dx`, pixels of the largest stride phase.
    pub m: u32,
    /// Columns of c.
    pub n: u32,
    /// Length of each sum.
    pub k: u32,
    /// Number of elements of c.
    pub len: u32,
    /// Number of tiles along m and along n.
    pub tiles_m: u32,
    pub tiles_n: u32,
    /// Rows of k per partial sum, and number of partial sums.
    pub chunk: u32,
    pub chunks: u32,
    /// The geometry, see [`ConvGeom`].
    pub images: u32,
    pub h: u32,
    pub w: u32,
    pub cin: u32,
    pub oh: u32,
    pub ow: u32,
    pub cout: u32,
    pub kh: u32,
    pub kw: u32,
    pub stride_h: u32,
    pub stride_w: u32,
    pub pad_h: u32,
    pub pad_w: u32,
    /// Number of rows of taps that are fully open, and number of open taps in the next row.
    pub open_rows: u32,
    pub open_columns: u32,
    /// Number of colour groups; 0 if every channel sees the same taps.
    pub groups: u32,
    /// Output channels of a block.
    pub block: u32,
    /// 1 for mask B, with which a colour group sees itself at the centre tap.
    pub sees_own: u32,
    /// Number of taps before the centre tap.
    pub centre: u32,
    /// Slope of the activation, and slope of the activation gradient, in the epilogue.
    pub act_slope: f32,
    pub bwd_slope: f32,
}

/// Batch and layer normalisation of `[rows, width]`, group normalisation of `[images, rows, width]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct NormArgs {
    pub rows: u32,
    pub width: u32,
    /// Rows of a chunk, and number of chunks.
    pub chunk_rows: u32,
    pub chunks: u32,
    /// Threads of a workgroup along the width, a power of two.
    pub columns: u32,
    pub eps: f32,
    /// Fused activation (a code of [`unary_code`](crate::backend::args::unary_code)) and its slope.
    pub act: u32,
    pub slope: f32,
    /// Number of images, each of `rows` rows with statistics of its own, and number of neighbouring columns
    /// that share their statistics.
    pub images: u32,
    pub share: u32,
}

/// Losses over `[rows, width]`. An elementwise loss has one row per element.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct LossArgs {
    pub rows: u32,
    pub width: u32,
}

/// Measurement of the device's peaks.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct PeakArgs {
    /// Number of rounds; each is 8 multiply-adds of vec4s.
    pub rounds: u32,
    /// Number of vec4s in each array of the triad.
    pub len: u32,
    /// A value that no sum has: the result is stored only if it is equal, so the compiler cannot drop the
    /// sums.
    pub never: f32,
}

/// LSTM cells and sequences.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct LstmArgs {
    /// Number of steps of a sequence.
    pub steps: u32,
    /// Rows of the batch.
    pub rows: u32,
    /// Hidden units.
    pub h: u32,
    /// The step of the sequence that this dispatch computes.
    pub step: u32,
}

/// LSTMs that scan images.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct ScanArgs {
    pub images: u32,
    pub h: u32,
    pub w: u32,
    /// Hidden units.
    pub d: u32,
    /// Columns of the row above that a pixel sees (Row LSTM).
    pub taps: u32,
    /// 1 if columns run from right to left (Diagonal LSTM).
    pub reverse: u32,
    /// The row or diagonal that this dispatch computes.
    pub line: u32,
}

/// Random draws, and the categories or bits that are derived from given draws.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct RandomArgs {
    /// Elements drawn.
    pub len: u32,
    /// Elements of an image.
    pub per_image: u32,
    /// Number of the stream.
    pub stream: u32,
    /// 1 if draws are counted by (image, element of the image); 0 if they are counted by (replay, element).
    pub by_image: u32,
    /// Rows and classes of a categorical draw; rows and dimensions of Gaussian ones.
    pub rows: u32,
    pub width: u32,
}

/// Optimisers and averages.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct OptimArgs {
    pub len: u32,
    /// 1 - beta1.
    pub to_m: f32,
    /// beta2; `rmsprop`: alpha; `sgd`: momentum; `ema`: decay.
    pub beta2: f32,
    /// 1 - `beta2`.
    pub to_v: f32,
    /// log beta1 and log beta2: 1 - beta^t = -expm1(t log beta).
    pub log_beta1: f32,
    pub log_beta2: f32,
    pub eps: f32,
}

/// Windows of a sampling plan.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct SampleArgs {
    /// The first window of the dispatch, and the window after its last one.
    pub first: u32,
    pub end: u32,
    /// Positions of an image before this one are given and not drawn.
    pub given: u32,
    /// Images of the batch.
    pub images: u32,
}

/// Threads of a workgroup of a reduction.
pub const REDUCE_THREADS: usize = 256;
/// Rows that one thread of a reduction adds up.
const ROWS_OF_A_LANE: usize = 64;

/// Threads of a workgroup along rows of `width` elements.
pub fn reduce_columns(width: usize) -> usize {
    width.clamp(1, 64).next_power_of_two()
}

/// Rows per partial sum, for rows of `width` elements. It depends on the width alone, so the order of a sum
/// does too.
pub fn reduce_part_rows(width: usize) -> usize {
    ROWS_OF_A_LANE * REDUCE_THREADS / reduce_columns(width)
}

impl ReduceArgs {
    /// The arguments of a sum from the large shape to the small one, or of the expansion from the small one
    /// to the large one.
    pub fn new(large: Shape, small: Shape) -> Self {
        ReduceArgs::of(Axes::new(large, small))
    }

    /// The arguments of the sum of `rows` rows.
    pub fn rows(rows: usize, width: usize) -> Self {
        ReduceArgs::of(Axes { kept0: 1, folded0: 1, kept1: 1, folded1: rows, kept2: width })
    }

    fn of(axes: Axes) -> Self {
        let Axes { kept0, folded0, kept1, folded1, kept2: width } = axes;
        let part_rows = reduce_part_rows(width);
        ReduceArgs {
            kept0: kept0 as u32,
            folded0: folded0 as u32,
            kept1: kept1 as u32,
            folded1: folded1 as u32,
            width: width as u32,
            part_rows: part_rows as u32,
            parts: (folded0 * folded1).div_ceil(part_rows).max(1) as u32,
            columns: reduce_columns(width) as u32,
            offset: 0,
            row_stride: 0,
        }
    }

    /// Number of sums, each a row of `width` elements.
    pub fn sums(&self) -> usize {
        self.kept0 as usize * self.kept1 as usize
    }

    /// Number of rows that each sum adds up.
    pub fn summed_rows(&self) -> usize {
        self.folded0 as usize * self.folded1 as usize
    }

    /// The arguments of the second stage, which adds up the partial sums of this one.
    pub fn second_stage(&self) -> Self {
        let (sums, parts, width) = (self.sums(), self.parts as usize, self.width as usize);
        ReduceArgs::of(Axes { kept0: 1, folded0: 1, kept1: sums, folded1: parts, kept2: width })
    }
}

impl ProductArgs {
    /// Sets the fields of the geometry. The caller sets the extents of the product and the epilogue.
    pub fn of_geometry(g: &ConvGeom) -> Self {
        ProductArgs {
            images: g.n as u32,
            h: g.h as u32,
            w: g.w as u32,
            cin: g.cin as u32,
            oh: g.oh as u32,
            ow: g.ow as u32,
            cout: g.cout as u32,
            kh: g.kh as u32,
            kw: g.kw as u32,
            stride_h: g.stride[0] as u32,
            stride_w: g.stride[1] as u32,
            pad_h: g.pad[0] as u32,
            pad_w: g.pad[1] as u32,
            open_rows: g.full_rows() as u32,
            open_columns: g.open_columns(g.full_rows()) as u32,
            groups: if g.has_partial_centre() { g.groups as u32 } else { 0 },
            block: (g.cout / g.blocks).max(1) as u32,
            sees_own: u32::from(g.mask == Mask::B),
            centre: g.centre_tap() as u32,
            chunks: 1,
            ..ProductArgs::default()
        }
    }

    /// Number of open taps.
    pub fn open_taps(&self) -> u32 {
        self.open_rows * self.kw + self.open_columns
    }
}

impl OptimArgs {
    /// Arguments of `adam`.
    pub fn adam(len: usize, [beta1, beta2, eps]: [f64; 3]) -> Self {
        OptimArgs {
            len: len as u32,
            to_m: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            to_v: (1.0 - beta2) as f32,
            log_beta1: beta1.ln() as f32,
            log_beta2: beta2.ln() as f32,
            eps: eps as f32,
        }
    }

    /// Arguments of `rmsprop`, `sgd` and `ema`: the fraction of the old value that is kept, and eps.
    pub fn keeping(len: usize, kept: f64, eps: f64) -> Self {
        let [beta2, to_v, eps] = [kept, 1.0 - kept, eps].map(|v| v as f32);
        OptimArgs { len: len as u32, beta2, to_v, eps, ..OptimArgs::default() }
    }
}

const _: () = {
    assert!(size_of::<ElementArgs>() == 16);
    assert!(size_of::<IndexArgs>() == 12);
    assert!(size_of::<ReduceArgs>() == 40);
    assert!(size_of::<ProductArgs>() == 132);
    assert!(size_of::<NormArgs>() == 40);
    assert!(size_of::<LossArgs>() == 8);
    assert!(size_of::<LstmArgs>() == 16);
    assert!(size_of::<PeakArgs>() == 12);
    assert!(size_of::<ScanArgs>() == 28);
    assert!(size_of::<RandomArgs>() == 24);
    assert!(size_of::<OptimArgs>() == 28);
    assert!(size_of::<SampleArgs>() == 16);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_merged_and_parts_fixed_by_the_width() {
        let axes = |large: &[usize], small: &[usize]| {
            let r = ReduceArgs::new(Shape::new(large), Shape::new(small));
            [r.kept0, r.folded0, r.kept1, r.folded1, r.width]
        };
        assert_eq!(axes(&[3, 5, 7, 4], &[1, 5, 1, 4]), [1, 3, 5, 7, 4]);
        assert_eq!(axes(&[3, 5, 7, 4], &[1, 1, 1, 4]), [1, 1, 1, 105, 4]);
        assert_eq!(axes(&[3, 5, 7, 4], &[3, 5, 7, 1]), [1, 1, 105, 4, 1]);
        assert_eq!(axes(&[1000], &[1]), [1, 1, 1, 1000, 1]);
        let long = ReduceArgs::rows(100_000, 33);
        assert_eq!((long.columns, long.part_rows, long.parts), (64, 256, 391));
        let second = long.second_stage();
        assert_eq!((second.summed_rows(), second.width, second.sums()), (391, 33, 1));
    }

    #[test]
    fn a_mask_leaves_the_taps_before_its_centre() {
        let g = ConvGeom {
            n: 2,
            h: 9,
            w: 9,
            cin: 6,
            oh: 9,
            ow: 9,
            cout: 12,
            kh: 3,
            kw: 3,
            stride: [1, 1],
            pad: [1, 1],
            mask: Mask::B,
            groups: 3,
            blocks: 2,
        };
        let args = ProductArgs::of_geometry(&g);
        assert_eq!((args.open_taps(), args.centre, args.groups, args.block), (5, 4, 3, 6));
        let alone = ProductArgs::of_geometry(&ConvGeom { mask: Mask::A, groups: 1, blocks: 1, ..g });
        assert_eq!((alone.open_taps(), alone.groups, alone.sees_own), (4, 0, 0));
        let open = ProductArgs::of_geometry(&ConvGeom { mask: Mask::None, groups: 1, blocks: 1, ..g });
        assert_eq!(open.open_taps(), 9);
    }
}
