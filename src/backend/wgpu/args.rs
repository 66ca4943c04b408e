//! Argument structures of the shaders that differ from those of the CUDA kernels, because the work is cut
//! otherwise; what both share is in [`backend::args`](crate::backend::args).
//!
//! One structure a kernel family, mirrored field by field in the family's shader: words, and arrays of four
//! words where a uniform buffer wants them aligned to 16 bytes.

use crate::backend::axes::Axes;
use crate::shape::Shape;
use crate::tape::geometry::{ConvGeom, Mask};
use bytemuck::{Pod, Zeroable};

/// Arguments of the elementwise kernels.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct ElementArgs {
    /// Elements written.
    pub len: u32,
    /// Channels after gating; `fill`: the bits of the number.
    pub width: u32,
    /// Slope of an activation; scale of `affine`; lower end of `clamp`.
    pub p: f32,
    /// Shift of `affine`; upper end of `clamp`.
    pub q: f32,
}

/// Rows by index: `gather`, `scatter`.
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

/// A large tensor `[kept0, folded0, kept1, folded1, width]` and a small one `[kept0, kept1, width]`: `sum`,
/// `expand`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct ReduceArgs {
    pub kept0: u32,
    pub folded0: u32,
    pub kept1: u32,
    pub folded1: u32,
    pub width: u32,
    /// Rows of one partial sum.
    pub part_rows: u32,
    /// Partial sums of each sum.
    pub parts: u32,
    /// Threads side by side along the width, a power of two.
    pub columns: u32,
    /// Where row 0 begins and how far apart rows are, if they are not dense; else 0.
    pub offset: u32,
    pub row_stride: u32,
}

/// A blocked matrix product `c[m, n] = sum over k`: `matmul`, `conv`, `conv_dx`, `conv_dw`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct ProductArgs {
    /// Operations folded into the end: kind ([`fused`](crate::backend::args::fused)) in the low byte, a code
    /// of [`unary_code`](crate::backend::args::unary_code) above; 0 ends the list.
    pub fused: [u32; 4],
    /// Rows of c; `conv_dx`: pixels of the largest stride phase.
    pub m: u32,
    /// Columns of c.
    pub n: u32,
    /// What is summed over.
    pub k: u32,
    /// Elements of c.
    pub len: u32,
    /// Tiles along m and n.
    pub tiles_m: u32,
    pub tiles_n: u32,
    /// Rows of k of one partial sum, and partial sums.
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
    /// Rows of taps that are open throughout, and open taps of the row after them.
    pub open_rows: u32,
    pub open_columns: u32,
    /// Colour groups; 0 where every channel sees the same taps.
    pub groups: u32,
    /// Output channels of a block.
    pub block: u32,
    /// 1 for mask B: a group sees itself at the centre.
    pub sees_own: u32,
    /// Taps before the centre.
    pub centre: u32,
    /// Slope of a fused activation, and of a fused activation gradient.
    pub act_slope: f32,
    pub bwd_slope: f32,
}

/// Batch and layer normalisation of `[rows, width]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct NormArgs {
    pub rows: u32,
    pub width: u32,
    /// Rows whose statistics are taken together.
    pub chunk_rows: u32,
    pub chunks: u32,
    /// Threads side by side along the width, a power of two.
    pub columns: u32,
    pub eps: f32,
    /// Fused activation (a code of [`unary_code`](crate::backend::args::unary_code)) and its slope.
    pub act: u32,
    pub slope: f32,
    /// Images of `rows` rows, which have statistics of their own, and neighbouring columns that share them.
    pub images: u32,
    pub share: u32,
}

/// Losses over `[rows, width]`; elementwise ones have their elements as rows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct LossArgs {
    pub rows: u32,
    pub width: u32,
}

/// What the device can do at best.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct PeakArgs {
    /// Rounds of 8 multiply-adds of vec4s.
    pub rounds: u32,
    /// vec4s in each array of the triad.
    pub len: u32,
    /// What no sum is.
    pub never: f32,
}

/// LSTM cells and sequences.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct LstmArgs {
    /// Steps of a sequence.
    pub steps: u32,
    /// Rows of the batch.
    pub rows: u32,
    /// Units.
    pub h: u32,
    /// The step of a sequence that a dispatch makes.
    pub step: u32,
}

/// LSTMs that scan images.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct ScanArgs {
    pub images: u32,
    pub h: u32,
    pub w: u32,
    /// Units.
    pub d: u32,
    /// Columns of the row above that a pixel sees (Row LSTM).
    pub taps: u32,
    /// 1: from right to left (Diagonal LSTM).
    pub reverse: u32,
    /// The row or diagonal of a dispatch.
    pub line: u32,
}

/// Random draws, and categories or bits from given ones.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct RandomArgs {
    /// Elements drawn.
    pub len: u32,
    /// Elements of an image.
    pub per_image: u32,
    /// Number of the stream.
    pub stream: u32,
    /// 1: counted by (image, element within it); 0: by (replay, element).
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
    /// One minus that.
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
    /// The first window of a dispatch and the one after its last.
    pub first: u32,
    pub end: u32,
    /// Positions of an image before this one are given and not drawn.
    pub given: u32,
    /// Images of the batch.
    pub images: u32,
}

/// Threads of a workgroup that reduces.
pub const REDUCE_THREADS: usize = 256;
/// Rows that one thread of a reduction adds up.
const ROWS_OF_A_LANE: usize = 64;

/// Threads side by side along rows of `width`.
pub fn reduce_columns(width: usize) -> usize {
    width.clamp(1, 64).next_power_of_two()
}

/// Rows of one partial sum over rows of `width`: fixed by the width alone.
pub fn reduce_part_rows(width: usize) -> usize {
    ROWS_OF_A_LANE * REDUCE_THREADS / reduce_columns(width)
}

impl ReduceArgs {
    /// Axes summed from the large shape to the small one, or repeated the other way.
    pub fn new(large: Shape, small: Shape) -> Self {
        let Axes { kept0, folded0, kept1, folded1, kept2 } = Axes::new(large, small);
        ReduceArgs::of([kept0, folded0, kept1, folded1, kept2])
    }

    /// The sum of `rows` rows.
    pub fn rows(rows: usize, width: usize) -> Self {
        ReduceArgs::of([1, 1, 1, rows, width])
    }

    fn of([kept0, folded0, kept1, folded1, width]: [usize; 5]) -> Self {
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

    /// How many rows of `width` come out.
    pub fn sums(&self) -> usize {
        self.kept0 as usize * self.kept1 as usize
    }

    /// How many rows are added up in each.
    pub fn summed_rows(&self) -> usize {
        self.folded0 as usize * self.folded1 as usize
    }

    /// The sum of the partial sums that these arguments make.
    pub fn second_stage(&self) -> Self {
        ReduceArgs::of([1, 1, self.sums(), self.parts as usize, self.width as usize])
    }
}

impl ProductArgs {
    /// The geometry's part; extents of the product and the epilogue are left to be set.
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

    /// Open taps.
    pub fn open_taps(&self) -> u32 {
        self.open_rows * self.kw + self.open_columns
    }
}

impl OptimArgs {
    /// `adam` with these attributes.
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

    /// `rmsprop`, `sgd` and `ema`: what is kept of the old value, and eps.
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
