//! The devices that run plans.
//!
//! [`Backend`] is the interface to a device. It compiles a whole plan and replays it; no method runs a
//! single op. [`open`] finds a device by name. `gate.rs` implements the interface once, with all checks, for
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
mod engine;
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

/// Handle of a plan that a device has compiled. It is valid on that device until the plan is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Compiled {
    /// Number of the device.
    device: u32,
    /// Index of the place where the device keeps the plan.
    place: u32,
    /// Number of plans that were freed from that place before.
    generation: u32,
}

/// What a device can do at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peaks {
    /// Arithmetic in f32 GFLOP/s.
    pub gflops: f64,
    /// Bandwidth of the memory in GB/s.
    pub gbs: f64,
}

/// The value of an input in one replay.
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

    /// The elements as raw 32-bit words.
    #[doc(hidden)]
    pub fn words(&self) -> &[u32] {
        match self {
            Feed::F32(values) => bytemuck::cast_slice(values),
            Feed::U32(values) => values,
        }
    }
}

/// The values of scalars in one replay, by name. A scalar that is not set has the default value of its
/// declaration. A scalar that the plan does not have is ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scalars(Vec<(Scalar, u32)>);

impl Scalars {
    /// Sets a float. Panics if the scalar is an integer, which is a bug in the calling program.
    pub fn set(&mut self, scalar: Scalar, value: f32) -> &mut Self {
        assert!(scalar.dtype() == DType::F32, "{} is an integer", scalar.name());
        self.set_word(scalar, value.to_bits())
    }

    /// Sets an unsigned integer. Panics if the scalar is a float, which is a bug in the calling program.
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

    /// The word of a scalar: the value that was set, else the default value.
    #[doc(hidden)]
    pub fn word(&self, scalar: Scalar) -> u32 {
        self.0.iter().find(|(known, _)| *known == scalar).map_or(scalar.unset(), |(_, word)| *word)
    }

    /// The words of a plan's scalars, in the order of their declaration.
    pub(crate) fn words<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = u32> + 'a {
        plan.scalars.iter().map(|scalar| self.word(*scalar))
    }
}

/// Description of a device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeviceInfo {
    /// `cpu`, `cuda` or `wgpu`.
    pub kind: String,
    /// Name of the processor or card.
    pub name: String,
    /// Instruction set, driver, features.
    pub detail: String,
    /// Worker threads of the CPU backend; 0 for other devices.
    pub threads: usize,
}

/// Time of one step of a plan.
#[derive(Clone, Debug, Serialize)]
pub struct StepTime {
    /// The layer that recorded the step.
    pub scope: String,
    /// The op with its attributes and epilogue.
    pub label: String,
    /// Name of the op without attributes.
    pub op: &'static str,
    /// Milliseconds.
    pub ms: f64,
    /// FLOPs and bytes that the step needs at least.
    #[serde(skip)]
    pub cost: Cost,
}

/// Progress callback. It is called from any thread with the number of positions, over all images of the
/// batch, that were passed since the last call.
pub type Progress<'a> = dyn Fn(usize) + Sync + 'a;

/// A device. One call compiles or replays a whole plan.
///
/// Methods that take a [`Compiled`] panic if the handle belongs to another device or to a plan that was
/// freed. Both are bugs in the calling program.
pub trait Backend {
    /// Describes the device.
    fn describe(&self) -> DeviceInfo;

    /// Sets a parameter. The first value fixes its length.
    ///
    /// # Errors
    /// Fails if the parameter has another length, or if the device has no memory left.
    fn write_param(&mut self, id: ParamId, value: &[f32]) -> Result<()>;

    /// Reads a parameter.
    ///
    /// # Errors
    /// Fails if the parameter has no value yet, or if `into` has another length.
    fn read_param(&mut self, id: ParamId, into: &mut [f32]) -> Result<()>;

    /// Prepares a plan. All memory of the plan is allocated here.
    ///
    /// # Errors
    /// Fails if a parameter of the plan has no value of its shape, or if the plan does not fit the device.
    fn compile(&mut self, plan: &Plan) -> Result<Compiled>;

    /// Frees the memory of a plan. Its handle must not be used again.
    fn free(&mut self, plan: Compiled);

    /// Replays a plan with its inputs in the order of declaration.
    ///
    /// # Errors
    /// Fails if the feeds do not match the inputs in number, type or length, if the plan was compiled for
    /// sampling, or if the device fails.
    fn run(&mut self, plan: Compiled, feeds: &[Feed], scalars: &Scalars) -> Result<()>;

    /// Reads an output of the last replay as words (`bytemuck::cast_slice_mut` turns floats into words and
    /// back).
    ///
    /// # Errors
    /// Fails if the plan has no such output, or if `into` has another length.
    fn read_words(&mut self, plan: Compiled, output: usize, into: &mut [u32]) -> Result<()>;

    /// Replays a plan and measures the time of each step.
    ///
    /// # Errors
    /// As for [`Backend::run`].
    fn profile(&mut self, plan: Compiled, feeds: &[Feed], scalars: &Scalars) -> Result<Vec<StepTime>>;

    /// Prepares a plan to be sampled window by window. All memory of the plan is allocated here. Returns
    /// `None` if the device cannot do this even for a single image. The caller then replays the whole plan
    /// for each position, with [`Backend::run`].
    ///
    /// # Errors
    /// Fails if a parameter has no value, if a step exceeds a limit of the device, or if the values of the
    /// batch take more than [`Backend::sampling_bytes`]. The error names the cause.
    fn compile_sampling(&mut self, _plan: &SamplingPlan) -> Result<Option<Compiled>> {
        Ok(None)
    }

    /// Most bytes that the values of a batch may take if it is sampled by windows on this device. `None` if
    /// only the memory of the device limits them.
    fn sampling_bytes(&self) -> Option<usize> {
        None
    }

    /// Draws a batch of images, position by position, without copying anything back to the host in between.
    ///
    /// `feeds` are the plan's inputs in the order of declaration. The images among them hold the given
    /// positions, which are those before `from` in the order of the draws (rows, columns, colours). Their
    /// values at later positions are ignored. Afterwards the output [`SamplingPlan::IMAGES`] holds the
    /// images, with every position from `from` on drawn. Everything that changes between batches is in
    /// `feeds`, `scalars` and the parameters, which are read again for each batch.
    ///
    /// # Errors
    /// Fails if the feeds do not match the inputs, if the plan was not compiled for sampling, or if the
    /// device fails.
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

    /// Bytes of the parameters and of all compiled plans on the device.
    fn memory_bytes(&self) -> usize;

    /// The peaks of the device, as it describes itself or as measured on it. `None` for the CPU backend.
    ///
    /// # Errors
    /// Fails if the device reports an error during the measurement.
    fn peaks(&mut self) -> Result<Option<Peaks>> {
        Ok(None)
    }
}

/// Reads a float output of the last replay.
pub fn read(backend: &mut dyn Backend, plan: Compiled, output: usize, into: &mut [f32]) -> Result<()> {
    backend.read_words(plan, output, bytemuck::cast_slice_mut(into))
}
