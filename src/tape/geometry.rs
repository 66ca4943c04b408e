//! Geometry and masks of convolutions: one description serves `conv`, `conv_dx` and `conv_dw`.
//!
//! [`ConvGeom`] has all extents. Its methods also say which weights a [`Mask`] leaves open: always a prefix
//! of the weights of an output channel, in the order of taps and input channels. The backends and `cost.rs`
//! rely on that.

use crate::shape::{ImageSize, Shape};
use std::fmt;

/// The mask of an autoregressive convolution (van den Oord et al. 2016, section 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mask {
    /// Every tap is open.
    None,
    /// The centre tap connects colour group `i` to `o` only if `i < o`. The first layer uses this mask.
    A,
    /// The centre tap connects colour group `i` to `o` only if `i <= o`. Every later layer uses this mask.
    B,
}

/// Index of the centre among `taps` taps along one axis. An even kernel has one more tap before the centre
/// than after it.
pub(crate) const fn centre_of(taps: usize) -> usize {
    taps / 2
}

/// One two-dimensional convolution with all its extents, NHWC, weights `[kh, kw, cin, cout]`:
/// `y[n, r, c, o] = sum over i, j, k of x[n, r*stride - pad + i, c*stride - pad + j, k] * w[i, j, k, o]`,
/// with taps (i, j) and input channels k.
///
/// `conv` maps x to y, `conv_dx` maps dy to dx (a transposed convolution *is* `conv_dx`), and `conv_dw` maps
/// x and dy to dw. Padding below and to the right follows from the extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvGeom {
    /// Images.
    pub n: usize,
    /// Height of x.
    pub h: usize,
    /// Width of x.
    pub w: usize,
    /// Channels of x.
    pub cin: usize,
    /// Height of y.
    pub oh: usize,
    /// Width of y.
    pub ow: usize,
    /// Channels of y.
    pub cout: usize,
    /// Rows of taps.
    pub kh: usize,
    /// Columns of taps.
    pub kw: usize,
    /// Rows and columns of x between neighbouring outputs.
    pub stride: [usize; 2],
    /// Zero rows above and zero columns left of x.
    pub pad: [usize; 2],
    /// The mask, which closes taps.
    pub mask: Mask,
    /// Colour groups of both channel axes (3 for RGB).
    pub groups: usize,
    /// Equal blocks of the output channels, each of which has all colour groups (2 for gated units, 4 for
    /// LSTM gates).
    pub blocks: usize,
}

impl ConvGeom {
    /// A 1x1 convolution without stride, padding or mask: rows of channels `[n * h * w, cin]` times a matrix
    /// `[cin, cout]`.
    #[doc(hidden)]
    pub fn product(n: usize, [h, w]: [usize; 2], cin: usize, cout: usize) -> ConvGeom {
        let (kh, kw, stride, pad, mask, groups, blocks) = (1, 1, [1, 1], [0, 0], Mask::None, 1, 1);
        ConvGeom { n, h, w, cin, oh: h, ow: w, cout, kh, kw, stride, pad, mask, groups, blocks }
    }

    /// Rows of channels `[n * h * w, cin]` times a matrix `[cin, cout]`, as a 1x1 convolution that writes
    /// images of this size.
    pub(crate) fn rows_times_matrix(rows: Shape, written: ImageSize) -> ConvGeom {
        let ImageSize { height, width, channels } = written;
        let (n, cin) = (rows.rows() / (height * width).max(1), rows.last());
        ConvGeom::product(n, [height, width], cin, channels)
    }

    /// Whether this is a plain product: each output pixel is its own pixel's channels times the weights,
    /// with one tap and without stride or padding. A mask may close some of the weights.
    #[cfg(any(test, feature = "wgpu"))]
    pub(crate) fn is_product(&self) -> bool {
        let same_size = self.pad == [0, 0] && (self.h, self.w) == (self.oh, self.ow);
        (self.kh, self.kw) == (1, 1) && self.stride == [1, 1] && same_size
    }

    /// Shape of x: `[n, h, w, cin]`.
    #[doc(hidden)]
    pub fn x_shape(&self) -> Shape {
        [self.n, self.h, self.w, self.cin].into()
    }

    /// Shape of the weights: `[kh, kw, cin, cout]`.
    #[doc(hidden)]
    pub fn w_shape(&self) -> Shape {
        [self.kh, self.kw, self.cin, self.cout].into()
    }

    /// Shape of y: `[n, oh, ow, cout]`.
    #[doc(hidden)]
    pub fn y_shape(&self) -> Shape {
        [self.n, self.oh, self.ow, self.cout].into()
    }

    /// Colour group of output channel `co`, counted within its block.
    pub(crate) fn group_out(&self, co: usize) -> usize {
        let block = self.cout / self.blocks;
        (co % block) * self.groups / block
    }

    /// Whether a mask closes some of the weights.
    pub(crate) fn is_masked(&self) -> bool {
        self.mask != Mask::None
    }

    /// Whether the centre tap is open between some channels and closed between others. With one colour group
    /// it is open between all or none.
    pub(crate) fn has_partial_centre(&self) -> bool {
        self.is_masked() && self.groups > 1
    }

    /// Row and column of the centre tap. With stride 1 and padding of these sizes it reads the position of
    /// the output pixel itself. A mask opens all taps before the centre, in the order of rows and columns,
    /// and none after it.
    pub(crate) fn centre(&self) -> [usize; 2] {
        [self.kh, self.kw].map(centre_of)
    }

    /// Index of the centre tap, counted row by row.
    pub(crate) fn centre_tap(&self) -> usize {
        let [i, j] = self.centre();
        i * self.kw + j
    }

    /// How many leading input channels the centre tap passes to output channel `co`.
    pub(crate) fn centre_channels(&self, co: usize) -> usize {
        let [i, j] = self.centre();
        self.open_channels(i, j, co)
    }

    /// How many leading taps of tap row `i` pass any channel to any output channel. The others are closed.
    pub(crate) fn open_columns(&self, i: usize) -> usize {
        let [row, column] = self.centre();
        if i >= self.kh || (self.is_masked() && i > row) {
            0
        } else if self.is_masked() && i == row {
            column + usize::from((0..self.cout).any(|co| self.centre_channels(co) > 0))
        } else {
            self.kw
        }
    }

    /// How many leading tap rows are open in their full width.
    pub(crate) fn full_rows(&self) -> usize {
        if self.is_masked() { self.centre()[0] } else { self.kh }
    }

    /// How many taps, counted row by row, pass any channel to any output channel. The others are closed.
    #[doc(hidden)]
    pub fn open_taps(&self) -> usize {
        self.full_rows() * self.kw + self.open_columns(self.full_rows())
    }

    /// How many leading weights of output channel `co` are open, in the order of taps and input channels.
    /// The sum of this channel ends there.
    pub(crate) fn open_prefix(&self, co: usize) -> usize {
        if self.is_masked() {
            self.centre_tap() * self.cin + self.centre_channels(co)
        } else {
            self.kh * self.kw * self.cin
        }
    }

    /// How many leading input channels the tap `(i, j)` passes to output channel `co`: all, none, or, at the
    /// centre of a mask, those of the colour groups that `co` may see.
    #[doc(hidden)]
    pub fn open_channels(&self, i: usize, j: usize, co: usize) -> usize {
        if !self.is_masked() || [i, j] < self.centre() {
            return self.cin;
        }
        if [i, j] > self.centre() {
            return 0;
        }
        let sees_own = usize::from(self.mask == Mask::B);
        if self.groups == 1 {
            // Without the divisions below, which masks of grey images do not need.
            return sees_own * self.cin;
        }
        let seen = self.group_out(co) + sees_own;
        (seen * self.cin).div_ceil(self.groups).min(self.cin)
    }

    /// The number of open weights, which is the number of multiplications per output pixel.
    pub(crate) fn open_weights(&self) -> usize {
        (0..self.cout).map(|co| self.open_prefix(co)).sum()
    }

    /// Floating point operations that have to be done: two per open weight and output pixel. The number is
    /// the same for `conv`, `conv_dx` and `conv_dw`.
    #[doc(hidden)]
    pub fn flops(&self) -> u64 {
        2 * self.open_weights() as u64 * (self.n * self.oh * self.ow) as u64
    }
}

impl fmt::Display for ConvGeom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConvGeom { n, h, w, cin, oh, ow, cout, kh, kw, .. } = self;
        write!(f, "{n}x{h}x{w}x{cin} -> {oh}x{ow}x{cout}, {kh}x{kw}")?;
        if self.stride != [1, 1] {
            write!(f, " stride {}x{}", self.stride[0], self.stride[1])?;
        }
        if self.pad != [0, 0] {
            write!(f, " pad {}x{}", self.pad[0], self.pad[1])?;
        }
        if self.mask != Mask::None {
            write!(f, " mask {:?}", self.mask)?;
        }
        if (self.groups, self.blocks) != (1, 1) {
            write!(f, " groups {} blocks {}", self.groups, self.blocks)?;
        }
        Ok(())
    }
}

impl ConvGeom {
    /// Verifies the extents: taps, strides, groups and blocks are at least 1; the blocks divide the output
    /// channels; without a mask there is one group and one block.
    ///
    /// # Errors
    /// A clause that says what is wrong.
    #[doc(hidden)]
    pub fn validate(&self) -> Result<(), String> {
        if self.kh == 0 || self.kw == 0 || self.stride.contains(&0) || self.groups == 0 || self.blocks == 0 {
            return Err("taps, strides, groups and blocks must be at least 1".into());
        }
        if !self.cout.is_multiple_of(self.blocks) {
            return Err(format!("{} output channels do not split into {} equal blocks", self.cout, self.blocks));
        }
        if self.mask == Mask::None && (self.groups, self.blocks) != (1, 1) {
            return Err("groups and blocks need a mask".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry([kh, kw]: [usize; 2], mask: Mask, groups: usize, blocks: usize) -> ConvGeom {
        let (n, h, w, cin, cout, stride, pad) = (1, 5, 5, 6, 6 * blocks, [1, 1], [kh / 2, kw / 2]);
        ConvGeom { n, h, w, cin, oh: h, ow: w, cout, kh, kw, stride, pad, mask, groups, blocks }
    }

    /// The methods that count open weights agree with `open_channels`, called for every weight.
    #[test]
    fn open_weights_are_a_prefix_of_taps_and_channels() {
        for kernel in [[1, 1], [1, 3], [3, 1], [3, 3], [2, 4], [5, 3]] {
            for (mask, groups, blocks) in
                [(Mask::None, 1, 1), (Mask::A, 1, 1), (Mask::A, 3, 2), (Mask::B, 1, 2), (Mask::B, 3, 1)]
            {
                let g = geometry(kernel, mask, groups, blocks);
                let open = |tap: usize, co: usize| g.open_channels(tap / g.kw, tap % g.kw, co);
                let taps = g.kh * g.kw;
                let any = |tap: usize| (0..g.cout).any(|co| open(tap, co) > 0);
                assert_eq!(g.open_taps(), (0..taps).filter(|tap| any(*tap)).count(), "{g}");
                assert!((0..g.open_taps()).all(any), "{g}: the open taps are not the first ones");
                for i in 0..g.kh {
                    let columns = (0..g.kw).filter(|j| any(i * g.kw + j)).count();
                    assert_eq!(g.open_columns(i), columns, "{g}: row {i}");
                    assert_eq!(i < g.full_rows(), !g.is_masked() || i < g.centre()[0], "{g}: row {i}");
                }
                for co in 0..g.cout {
                    let weights = (0..taps).flat_map(|tap| (0..g.cin).map(move |ci| (tap, ci)));
                    let is_open: Vec<bool> = weights.map(|(tap, ci)| ci < open(tap, co)).collect();
                    assert_eq!(is_open.partition_point(|open| *open), g.open_prefix(co), "{g}: channel {co}");
                    assert_eq!(is_open.iter().filter(|open| **open).count(), g.open_prefix(co), "{g}: channel {co}");
                }
            }
        }
    }

    #[test]
    fn a_product_has_one_tap_and_nothing_else() {
        let g = ConvGeom::product(2, [3, 4], 5, 6);
        assert!(g.is_product());
        for other in [
            ConvGeom { kw: 2, ..g },
            ConvGeom { stride: [2, 1], ..g },
            ConvGeom { pad: [0, 1], ..g },
            ConvGeom { oh: 2, ..g },
        ] {
            assert!(!other.is_product(), "{other}");
        }
    }
}
