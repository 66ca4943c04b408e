//! Files that outlive the process: the run folder with its configuration, metrics and checkpoints.
//!
//! Training writes them, reports and the command line read them, and none of these formats knows of either.
//! Start with [`RunDir`]. Every file is replaced atomically ([`write_atomically`]).

mod atomic;
mod checkpoint;
mod metrics;
mod run_dir;
mod tensor_file;

pub use atomic::write_atomically;
pub use checkpoint::{Checkpoint, FORMAT, Tensor, VERSION, fuzz_parse};
pub use metrics::{MetricsWriter, Row, read_metrics};
pub use run_dir::{Latest, RunDir, StepFile};
pub(crate) use tensor_file::Kind;
