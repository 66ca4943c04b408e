//! Dense shapes of at most four dimensions ([`Shape`]), the size of an image ([`ImageSize`]), and the
//! metadata of a value ([`Meta`]).
//!
//! Every other module of computation uses these types.

use std::fmt;

/// A dense, row-major shape of rank 0 to 4. Images are `[n, h, w, c]`, weights `[kh, kw, cin, cout]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; 4],
    rank: u8,
}

impl Shape {
    /// A shape from its dimensions, outermost first. Panics if there are more than four.
    #[track_caller]
    pub fn new(dims: &[usize]) -> Self {
        assert!(dims.len() <= 4, "a shape has at most 4 dimensions, got {dims:?}");
        let mut all = [1; 4];
        all[..dims.len()].copy_from_slice(dims);
        Shape { dims: all, rank: dims.len() as u8 }
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank as usize]
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.rank as usize
    }

    /// Number of elements (1 for a rank-0 shape).
    pub fn len(&self) -> usize {
        self.dims().iter().product()
    }

    /// Whether the shape has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The innermost dimension (1 for rank 0): the channels of an image, the columns of a matrix.
    pub fn last(&self) -> usize {
        self.dims().last().copied().unwrap_or(1)
    }

    /// The product of all dimensions except the innermost: the pixels of a batch of images, the rows of a
    /// matrix.
    pub fn rows(&self) -> usize {
        self.dims().iter().rev().skip(1).product()
    }

    /// The four dimensions, padded with leading ones: `[5, 3]` becomes `[1, 1, 5, 3]`.
    pub fn padded(&self) -> [usize; 4] {
        let mut out = [1; 4];
        out[4 - self.rank()..].copy_from_slice(self.dims());
        out
    }

    /// Whether this shape can be expanded to `to`: the rank is the same, and every dimension is equal or 1.
    pub(crate) fn expands_to(&self, to: Shape) -> bool {
        self.rank == to.rank && self.dims().iter().zip(to.dims()).all(|(a, b)| a == b || *a == 1)
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Shape::new(&dims)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<String> = self.dims().iter().map(|d| d.to_string()).collect();
        write!(f, "[{}]", dims.join("x"))
    }
}

/// The size of an image or a feature map. A tensor of `n` of them is `[n, height, width, channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ImageSize {
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
    /// Values per pixel: 1 (grey) or 3 (RGB) in an image.
    pub channels: usize,
}

impl ImageSize {
    /// The extents in the order of the axes: `[height, width, channels]`.
    pub(crate) fn axes(self) -> [usize; 3] {
        [self.height, self.width, self.channels]
    }

    /// Number of values of an image: height x width x channels.
    #[doc(hidden)]
    pub fn dims(self) -> usize {
        self.axes().iter().product()
    }

    /// The shape of `n` images: `[n, height, width, channels]`.
    pub(crate) fn batch(self, n: usize) -> Shape {
        [n, self.height, self.width, self.channels].into()
    }
}

/// From `[height, width, channels]`, the order of a tensor's axes.
impl From<[usize; 3]> for ImageSize {
    fn from([height, width, channels]: [usize; 3]) -> Self {
        ImageSize { height, width, channels }
    }
}

impl fmt::Display for ImageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.height, self.width, self.channels)
    }
}

/// Element type; every element takes four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 32-bit unsigned integer: class indices, drawn pixel levels.
    U32,
}

/// Shape and element type of a value, which are known before it is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Meta {
    /// Its shape.
    pub shape: Shape,
    /// Its element type.
    pub dtype: DType,
}

impl Meta {
    /// An f32 value of this shape.
    pub fn f32(shape: impl Into<Shape>) -> Self {
        Meta { shape: shape.into(), dtype: DType::F32 }
    }

    /// A u32 value of this shape.
    pub fn u32(shape: impl Into<Shape>) -> Self {
        Meta { shape: shape.into(), dtype: DType::U32 }
    }
}
