//! Proof that the kernels of a device are right: one table of cases for correctness and timing, and files of reference
//! cases that anybody can write.
//!
//! - [`cases`]: what is recorded, for every op; [`mod@bench`]: the same for the hot sizes.
//! - [`case`], [`draw`], [`problem`]: how a case becomes a plan with inputs, for its values and its derivatives.
//! - [`mod@reference`]: `pixtape check FILE`; [`builtin`]: `pixtape check` without a file.

pub mod bench;
pub mod builtin;
pub mod case;
pub mod cases;
pub mod compare;
pub mod draw;
pub mod problem;
pub mod reference;
