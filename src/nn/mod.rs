//! Layers, which record ops on the tape, and the parameters that they own.
//!
//! Read `params` first, then `env` (the current value of a parameter), then `layers`; `recurrent` and `lstm`
//! are the recurrent layers.

mod env;
mod layers;
mod lstm;
mod params;
mod recurrent;

pub use env::{Env, Mode};
pub use layers::{BatchNorm, Channels, Conv, ConvTranspose, Embedding, Linear};
pub use lstm::{Lstm, LstmState};
pub use params::{Init, Layout, ParamSet, ParamSpec};
pub use recurrent::{DiagonalLstm, RowLstm};
