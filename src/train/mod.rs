//! Training: the run folder with its checkpoints and metrics.

pub mod atomic;
pub mod checkpoint;
pub mod exchange;
pub mod metrics;
pub mod run;
pub mod run_dir;
pub mod trainer;
pub mod weights;
