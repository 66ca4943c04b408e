//! A result with its expected value.

use crate::check::compare::error_of;
use crate::shape::DType;

/// A result with its expected value, both in PyTorch's order.
pub struct Compared {
    /// `out/<output>` or `grad/<input>`.
    pub name: String,
    /// Whether it is a gradient, which has another tolerance.
    pub is_gradient: bool,
    /// Floats or indices.
    pub dtype: DType,
    /// The values that the device computed.
    pub got: Vec<f64>,
    /// The values of the file.
    pub want: Vec<f64>,
}

impl Compared {
    /// The relative error, or the fraction of wrong indices.
    pub fn error(&self) -> f64 {
        error_of(self.dtype, &self.got, &self.want)
    }
}
