//! Tests of the kernels of a device: one table of cases for correctness and timing, and files of
//! reference cases that anybody can write.
//!
//! - [`cases`] has the cases of every op, and [`mod@bench`] those of the hot sizes.
//! - [`case`], [`elements`] and [`problem`] turn a case into a plan with inputs, for its values and its
//!   derivatives.
//! - [`compare`] defines the error of a result.
//! - [`mod@reference`] is `pixtape check FILE`, and [`builtin`] is `pixtape check` without a file.

pub mod bench;
pub mod builtin;
pub mod case;
pub mod cases;
pub mod compare;
pub mod elements;
pub mod problem;
pub mod reference;
