//! A result beside what it should be.

use crate::check::compare::error_of;
use crate::shape::DType;

/// A value beside what it should be, in PyTorch's order.
pub struct Compared {
    /// `out/<output>` or `grad/<input>`.
    pub name: String,
    /// Whether the tolerance of gradients applies.
    pub is_gradient: bool,
    /// Floats or indices.
    pub dtype: DType,
    /// What the device gave.
    pub got: Vec<f64>,
    /// What the file says.
    pub want: Vec<f64>,
}

impl Compared {
    /// Relative, or the share of wrong indices.
    pub fn error(&self) -> f64 {
        error_of(self.dtype, &self.got, &self.want)
    }
}
