//! Training: the loop, and the parameters on their way between a device, a seed, a checkpoint and the files
//! of others.

pub mod exchange;
pub mod parameters;
pub mod run;
pub(crate) mod start;
pub mod trainer;
