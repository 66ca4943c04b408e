//! pixtape: hand-written compute kernels and a small autodiff tape for generative image models.
//!
//! This is a tour of the code, in the order in which to read it. `docs/glossary.md` explains the terms, and
//! `docs/walk.md` follows one training step through the files.
//!
//! 1. [`tape::op`]: everything that can be computed, one enum in ten sections.
//! 2. [`tape`]: recording. [`tape::record`] has one method per op; shapes are inferred in one place.
//! 3. `tape/grad.rs`: [`tape::Tape::grad`] appends ordinary nodes, with one rule per op, each next to its
//!    formula.
//! 4. [`tape::plan`]: steps over buffers. `tape/lower.rs` makes them from nodes: dead code, fusion
//!    (`tape/fuse.rs`), stores, shared slots.
//! 5. [`backend`]: the interface to devices. [`backend::cpu`] runs a plan step by step; its products are in
//!    `backend/cpu/product/`.
//! 6. [`nn`] and [`optim`]: layers and parameters; optimisers, which map old values to new ones.
//! 7. [`models`]: the families of models. Read each one next to its paper.
//! 8. [`store`], [`parameters`], [`sampling`], [`control`], [`eval`], [`train`]: the parts that the command
//!    line uses. The command line itself, `cli`, needs the feature `cli`, and so do `report`, `bench` and
//!    `demo`.
//!
//! A module uses only modules below it; `tests/layers.rs` lists them from the lowest to the highest.
//!
//! A gradient is recorded arithmetic like any other, so it can be differentiated again:
//!
//! ```
//! use pixtape::backend::{self, Feed, Scalars};
//! use pixtape::shape::Meta;
//! use pixtape::tape::{Tape, plan::Plan};
//!
//! let t = Tape::new();
//! let x = t.input("x", Meta::f32([3]));
//! let y = t.sum(t.tanh(x));
//! let dy = t.grad(y, &[x])[0]; // 1 - tanh(x)^2
//! let d2y = t.grad(t.sum(dy), &[x])[0]; // -2 tanh(x) (1 - tanh(x)^2)
//! t.output("d2y", d2y);
//!
//! let mut device = backend::open("cpu", 1)?;
//! let plan = device.compile(&Plan::new("second derivative", &t))?;
//! device.run(plan, &[Feed::F32(&[-1.0, 0.0, 0.5])], &Scalars::default())?;
//! let mut got = [f32::NAN; 3];
//! backend::read(&mut *device, plan, 0, &mut got)?;
//! for (x, got) in [-1.0_f32, 0.0, 0.5].into_iter().zip(got) {
//!     let want = -2.0 * x.tanh() * (1.0 - x.tanh().powi(2));
//!     assert!((got - want).abs() < 1e-6, "at {x}: {got}, not {want}");
//! }
//! # Ok::<(), pixtape::Error>(())
//! ```

pub mod backend;
#[cfg(feature = "cli")]
mod bench;
#[doc(hidden)]
pub mod check;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
pub mod config;
#[doc(hidden)]
pub mod control;
pub mod data;
#[cfg(feature = "cli")]
mod demo;
pub mod error;
pub mod eval;
mod files;
pub mod likelihood;
mod math;
mod memory;
pub mod models;
pub mod nn;
pub mod optim;
#[doc(hidden)]
pub mod panics;
pub mod parameters;
pub mod pictures;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod report;
pub mod rng;
pub mod sampling;
pub mod shape;
pub mod store;
pub mod tape;
pub mod train;

pub use error::{Error, Result};
