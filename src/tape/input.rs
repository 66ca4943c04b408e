//! The declared inputs of a plan.
//!
//! [`InputSpec`] has the name, shape and type of an input. If the input is fed from a batch of images, its
//! [`InputRole`] says with which part of the batch.

use crate::shape::Meta;

/// What an input holds if it is fed from a batch of images. Code that feeds a plan finds the inputs by their
/// role, not by their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InputRole {
    /// Images `[n, h, w, c]`. Sequences are images with one channel.
    Images,
    /// The class of each image, `[n]` (u32).
    Labels,
    /// The reduced (grey or smaller) form of each image, `[n, h', w', c']`.
    Reduced,
}

impl InputRole {
    /// The name under which a plan lists the input.
    pub const fn name(self) -> &'static str {
        match self {
            InputRole::Images => "x",
            InputRole::Labels => "label",
            InputRole::Reduced => "reduced",
        }
    }
}

/// A declared input of the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct InputSpec {
    /// The name under which the plan lists it.
    pub name: String,
    /// Its shape and type.
    pub meta: Meta,
    /// Its role, if it is fed from a batch of images.
    pub role: Option<InputRole>,
}
