//! Files that outlive the process: the run folder with its configuration, metrics and checkpoints.
//!
//! Training writes them, reports and the command line read them, and none of these formats knows of either.
//! Start with [`RunDir`]. Every file is replaced atomically (`write_atomically`).

mod atomic;
mod checkpoint;
mod keep;
mod lock;
mod metrics;
mod run_dir;
mod tensor_file;

pub(crate) use atomic::write_atomically;
#[doc(hidden)]
pub use checkpoint::fuzz_parse;
pub use checkpoint::{Averaging, Checkpoint, Tensor};
pub(crate) use keep::{Keep, VALIDATION};
pub use metrics::Row;
#[doc(hidden)]
pub use metrics::{MetricsWriter, fuzz_metrics};
#[cfg(feature = "cli")]
pub(crate) use run_dir::{Best, MAX_CONFIG};
pub use run_dir::{Latest, RunDir, StepFile};
pub(crate) use tensor_file::{Kind, Parsed, write_tensors};
