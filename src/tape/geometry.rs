//! Geometry and masks of convolutions: one description serves `conv`, `conv_dx` and `conv_dw`.

use crate::shape::Shape;
use std::fmt;

/// The mask of an autoregressive convolution (van den Oord et al. 2016, section 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mask {
    /// Every tap is open.
    None,
    /// The centre tap connects colour group `i` to `o` only where `i < o`: the first layer.
    A,
    /// The centre tap connects colour group `i` to `o` where `i <= o`: every later layer.
    B,
}

/// One two-dimensional convolution with all its extents, NHWC, weights `[kh, kw, cin, cout]`:
/// `y[n, r, c, o] = sum over taps (i, j) and channels k of x[n, r*stride - pad + i, c*stride - pad + j, k] * w[i, j, k, o]`.
///
/// `conv` maps x to y, `conv_dx` maps dy to dx (a transposed convolution *is* `conv_dx`), `conv_dw` maps x, dy to dw.
/// Padding below and to the right follows from the extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvGeom {
    /// Images.
    pub n: usize,
    /// Height and width of x.
    pub h: usize,
    pub w: usize,
    /// Channels of x.
    pub cin: usize,
    /// Height and width of y.
    pub oh: usize,
    pub ow: usize,
    /// Channels of y.
    pub cout: usize,
    /// Taps.
    pub kh: usize,
    pub kw: usize,
    /// Rows and columns of x between neighbouring outputs.
    pub stride: [usize; 2],
    /// Zero rows above and zero columns left of x.
    pub pad: [usize; 2],
    /// Which taps are closed.
    pub mask: Mask,
    /// Colour groups of both channel axes (3 for RGB).
    pub groups: usize,
    /// Equal blocks of the output channels, each of which has all colour groups (2 for gated units, 4 for LSTM gates).
    pub blocks: usize,
}

impl ConvGeom {
    /// Rows of channels `[n * h * w, cin]` times a matrix `[cin, cout]`, as a 1x1 convolution that writes images of `[h, w, cout]`.
    pub fn rows_times_matrix(rows: Shape, [h, w, cout]: [usize; 3]) -> ConvGeom {
        let (n, cin) = (rows.rows() / (h * w).max(1), rows.last());
        let (kh, kw, stride, pad, mask, groups, blocks) = (1, 1, [1, 1], [0, 0], Mask::None, 1, 1);
        ConvGeom { n, h, w, cin, oh: h, ow: w, cout, kh, kw, stride, pad, mask, groups, blocks }
    }

    /// Shape of x: `[n, h, w, cin]`.
    pub fn x_shape(&self) -> Shape {
        [self.n, self.h, self.w, self.cin].into()
    }

    /// Shape of the weights: `[kh, kw, cin, cout]`.
    pub fn w_shape(&self) -> Shape {
        [self.kh, self.kw, self.cin, self.cout].into()
    }

    /// Shape of y: `[n, oh, ow, cout]`.
    pub fn y_shape(&self) -> Shape {
        [self.n, self.oh, self.ow, self.cout].into()
    }

    /// Colour group of input channel `ci`.
    pub fn group_in(&self, ci: usize) -> usize {
        ci * self.groups / self.cin
    }

    /// Colour group of output channel `co`, counted within its block.
    pub fn group_out(&self, co: usize) -> usize {
        let block = self.cout / self.blocks;
        (co % block) * self.groups / block
    }

    /// How many leading input channels the tap `(i, j)` passes to output channel `co`: all, none, or, at the
    /// centre of a mask, those of the colour groups that `co` may see.
    pub fn open_channels(&self, i: usize, j: usize, co: usize) -> usize {
        let (ci, cj) = (self.kh / 2, self.kw / 2);
        if self.mask == Mask::None || (i, j) < (ci, cj) {
            return self.cin;
        }
        if (i, j) > (ci, cj) {
            return 0;
        }
        let seen = self.group_out(co) + usize::from(self.mask == Mask::B);
        (seen * self.cin).div_ceil(self.groups).min(self.cin)
    }

    /// Multiplications with an open weight, for one output pixel; the number of open weights.
    pub fn open_weights(&self) -> usize {
        let taps = (0..self.kh).flat_map(|i| (0..self.kw).map(move |j| (i, j)));
        taps.map(|(i, j)| (0..self.cout).map(|co| self.open_channels(i, j, co)).sum::<usize>()).sum()
    }

    /// Floating point operations that have to be done: two per open weight and output pixel. The same in all three directions.
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
    /// Whether the extents make sense: at least one tap, positive strides, channels that the groups and blocks divide.
    /// The error is a clause that says what does not.
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
