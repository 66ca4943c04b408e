//! Devices that run plans.
//!
//! [`Backend`] is the interface to a device: it compiles a whole plan and replays it, and is never called
//! per op. [`open`] finds a device by name. `gate.rs` implements the interface once, with all checks, over
//! the engines in `cpu`, `cuda` and `wgpu`.

#[doc(hidden)]
pub mod args;
mod axes;
#[cfg(test)]
mod codes;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
mod devices;
mod gate;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod sample;
#[cfg(feature = "wgpu")]
pub mod wgpu;

pub(crate) use devices::is_device;
#[cfg(feature = "cli")]
pub(crate) use devices::unknown_device;
pub use devices::{devices, listen, not_in_this_build, open, unusable};

use crate::error::{Error, Result};
use crate::shape::DType;
use crate::tape::cost::Cost;
use crate::tape::op::{ParamId, Scalar};
use crate::tape::plan::Plan;
use crate::tape::window::SamplingPlan;
use serde::Serialize;

/// A plan that a device has compiled: a handle, good on this device until the plan is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Compiled {
    /// Number of the device.
    device: u32,
    /// Where the device keeps the plan.
    place: u32,
    /// How many plans were freed there before.
    generation: u32,
}

/// What is fed to an input.
#[derive(Clone, Copy, Debug)]
pub enum Feed<'a> {
    /// Floats.
    F32(&'a [f32]),
    /// Indices.
    U32(&'a [u32]),
}

impl Feed<'_> {
    /// The type of the elements.
    pub(crate) fn dtype(&self) -> DType {
        match self {
            Feed::F32(_) => DType::F32,
            Feed::U32(_) => DType::U32,
        }
    }

    /// The words, whatever they mean.
    #[doc(hidden)]
    pub fn words(&self) -> &[u32] {
        match self {
            Feed::F32(values) => bytemuck::cast_slice(values),
            Feed::U32(values) => values,
        }
    }
}

/// The values of scalars in one replay, by name. A scalar that is not set has the value that its declaration
/// gives; one that the plan does not read is ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scalars(Vec<(Scalar, u32)>);

impl Scalars {
    /// Sets a float. Panics if the scalar is an integer: a bug in a program.
    pub fn set(&mut self, scalar: Scalar, value: f32) -> &mut Self {
        assert!(scalar.dtype() == DType::F32, "{} is an integer", scalar.name());
        self.set_word(scalar, value.to_bits())
    }

    /// Sets an unsigned integer. Panics if the scalar is a float: a bug in a program.
    pub fn set_u32(&mut self, scalar: Scalar, value: u32) -> &mut Self {
        assert!(scalar.dtype() == DType::U32, "{} is a float", scalar.name());
        self.set_word(scalar, value)
    }

    fn set_word(&mut self, scalar: Scalar, word: u32) -> &mut Self {
        match self.0.iter_mut().find(|(known, _)| *known == scalar) {
            Some((_, known)) => *known = word,
            None => self.0.push((scalar, word)),
        }
        self
    }

    /// The word of a scalar.
    #[doc(hidden)]
    pub fn word(&self, scalar: Scalar) -> u32 {
        self.0.iter().find(|(known, _)| *known == scalar).map_or(scalar.unset(), |(_, word)| *word)
    }

    /// The words of a plan's scalars, in the order of their declaration.
    pub(crate) fn words<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = u32> + 'a {
        plan.scalars.iter().map(|scalar| self.word(*scalar))
    }
}

/// What a device says of itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeviceInfo {
    /// `cpu`, `cuda` or `wgpu`.
    pub kind: String,
    /// Processor or card.
    pub name: String,
    /// Instruction set, driver, features.
    pub detail: String,
    /// Worker threads (CPU).
    pub threads: usize,
}

/// Time of one step of a plan.
#[derive(Clone, Debug, Serialize)]
pub struct StepTime {
    /// Layer.
    pub scope: String,
    /// Op with attributes and epilogue.
    pub label: String,
    /// Root word of the op.
    pub op: &'static str,
    /// Milliseconds.
    pub ms: f64,
    /// Floor of the step.
    #[serde(skip)]
    pub cost: Cost,
}

/// Told now and then, from any thread, how many positions (of any image of the batch) have been drawn since
/// the last call.
pub type Progress<'a> = dyn Fn(usize) + Sync + 'a;

/// A device. Called once per plan, never once per op.
///
/// Methods that take a [`Compiled`] panic if it is a handle of another device, or of a plan that was freed:
/// a bug in a program.
pub trait Backend {
    /// What the device is.
    fn describe(&self) -> DeviceInfo;

    /// Sets a parameter; its first value fixes its length.
    ///
    /// # Errors
    /// If the value has another length, or the device has no memory left.
    fn write_param(&mut self, id: ParamId, value: &[f32]) -> Result<()>;

    /// Reads a parameter.
    ///
    /// # Errors
    /// If it has no value yet, or `into` another length.
    fn read_param(&mut self, id: ParamId, into: &mut [f32]) -> Result<()>;

    /// Prepares a plan: all memory is allocated here.
    ///
    /// # Errors
    /// If a parameter of the plan has no value of its shape, or the plan does not fit the device.
    fn compile(&mut self, plan: &Plan) -> Result<Compiled>;

    /// Frees the memory of a plan. Its handle must not be used again.
    fn free(&mut self, plan: Compiled);

    /// Replays a plan with its inputs in the order of declaration.
    ///
    /// # Errors
    /// If the feeds do not fit the inputs in number, type or length, the plan was compiled for sampling, or
    /// the device fails.
    fn run(&mut self, plan: Compiled, feeds: &[Feed], scalars: &Scalars) -> Result<()>;

    /// Reads an output of the last replay as words (`bytemuck::cast_slice_mut` turns floats into words and
    /// back).
    ///
    /// # Errors
    /// If the plan has no such output, or `into` has another length.
    fn read_words(&mut self, plan: Compiled, output: usize, into: &mut [u32]) -> Result<()>;

    /// Replays a plan, timing each step.
    ///
    /// # Errors
    /// As for [`Backend::run`].
    fn profile(&mut self, plan: Compiled, feeds: &[Feed], scalars: &Scalars) -> Result<Vec<StepTime>>;

    /// Prepares a plan to be sampled window by window: all memory is allocated here. `None` if the device
    /// cannot, not even for a single image: the whole plan is then replayed for each position, with
    /// [`Backend::run`].
    ///
    /// # Errors
    /// If a parameter has no value, a step meets a limit of the device, or the batch has more than
    /// [`Backend::sampling_bytes`]; the error names them.
    fn compile_sampling(&mut self, _plan: &SamplingPlan) -> Result<Option<Compiled>> {
        Ok(None)
    }

    /// Most bytes of values of a batch that is drawn by windows on this device; `None` if only its memory
    /// limits them.
    fn sampling_bytes(&self) -> Option<usize> {
        None
    }

    /// Draws a batch of images, position by position, with no read-back in between. `feeds` are the plan's
    /// inputs in the order of declaration; x holds what is given: the positions before `from` (in the order
    /// of the draws: rows, columns, colours); the values of later positions do not matter. Afterwards
    /// [`SamplingPlan::IMAGES`] is the output to read, with every position from `from` on drawn. Everything
    /// that changes from batch to batch is in `feeds` and `scalars`; parameters are read anew.
    ///
    /// # Errors
    /// If the feeds do not fit, or the plan was not compiled for sampling.
    fn sample(
        &mut self,
        _plan: Compiled,
        _feeds: &[Feed],
        _from: usize,
        _scalars: &Scalars,
        _progress: &Progress,
    ) -> Result<()> {
        Err(Error::Device(format!("{} cannot sample window by window", self.describe().name)))
    }

    /// Bytes of all buffers that the device holds for this program.
    fn memory_bytes(&self) -> usize;

    /// The best that the device can do, by its own description or measured on it: f32 GFLOP/s and GB/s.
    /// `None` on the processor.
    ///
    /// # Errors
    /// What the device reports while it is measured.
    fn peaks(&mut self) -> Result<Option<[f64; 2]>> {
        Ok(None)
    }
}

/// Reads a float output of the last replay.
pub fn read(backend: &mut dyn Backend, plan: Compiled, output: usize, into: &mut [f32]) -> Result<()> {
    backend.read_words(plan, output, bytemuck::cast_slice_mut(into))
}
