//! A device without checks. [`Gate`](super::gate::Gate) makes a [`Backend`](super::Backend) of it.
//!
//! An engine may rely on every condition that its methods list after "Checked": the gate has checked it.

use super::{DeviceInfo, Feed, Peaks, Progress, Scalars, StepTime};
use crate::error::{Error, Result};
use crate::tape::op::ParamId;
use crate::tape::plan::{Plan, Precision};
use crate::tape::window::SamplingPlan;

/// A device, as the gate calls it.
pub trait Engine {
    /// A plan with its buffers.
    type Compiled;

    /// See [`Backend::describe`](super::Backend::describe).
    fn describe(&self) -> DeviceInfo;

    /// Whether products can be computed in this precision.
    ///
    /// # Errors
    /// [`Error::Device`] if not.
    fn check_precision(&self, precision: Precision) -> Result<()> {
        match precision {
            Precision::F32 => Ok(()),
            Precision::Bf16 => Err(Error::Device(format!(
                "the {} backend does not compute in bf16; use --device cpu on a processor with AVX512-BF16, or train \
                 anew with --precision f32",
                self.describe().kind
            ))),
        }
    }

    /// Number of elements of a parameter; `None` before its first value.
    fn param_len(&self, id: ParamId) -> Option<usize>;

    /// Sets a parameter. Checked: if it already has a value, the new value has the same length.
    fn write_param(&mut self, id: ParamId, value: &[f32]) -> Result<()>;

    /// Reads a parameter. Checked: it has a value, and `into` has the length of that value.
    fn read_param(&mut self, id: ParamId, into: &mut [f32]) -> Result<()>;

    /// Prepares a plan. Checked: [`Plan::check`] and [`Engine::check_precision`] pass, and every parameter
    /// has a value of its declared length.
    fn compile(&mut self, plan: &Plan) -> Result<Self::Compiled>;

    /// Prepares a plan to be sampled. Checked: [`SamplingPlan::check`] passes, and every parameter has a
    /// value of its declared length.
    fn compile_sampling(&mut self, plan: &SamplingPlan) -> Result<Option<Self::Compiled>>;

    /// The plan that was compiled.
    fn plan(compiled: &Self::Compiled) -> &Plan;

    /// Replays a plan. Checked: the feeds match its inputs in number, type and length, and the plan was
    /// compiled by [`Engine::compile`].
    fn run(&mut self, plan: &mut Self::Compiled, feeds: &[Feed], scalars: &Scalars) -> Result<()>;

    /// Replays a plan and measures the time of each step. Checked: as for [`Engine::run`].
    fn profile(&mut self, plan: &mut Self::Compiled, feeds: &[Feed], scalars: &Scalars) -> Result<Vec<StepTime>>;

    /// Draws a batch of images. Checked: the feeds as for [`Engine::run`], and the plan was compiled by
    /// [`Engine::compile_sampling`].
    fn sample(
        &mut self,
        plan: &mut Self::Compiled,
        feeds: &[Feed],
        from: usize,
        scalars: &Scalars,
        progress: &Progress,
    ) -> Result<()>;

    /// Reads an output. Checked: the plan has this output, and `into` has its length.
    fn read_words(&mut self, plan: &mut Self::Compiled, output: usize, into: &mut [u32]) -> Result<()>;

    /// Frees a plan, after the device has finished all work on it.
    fn release(&mut self, plan: Self::Compiled);

    /// Bytes of the buffers of a plan.
    fn plan_bytes(&self, plan: &Self::Compiled) -> usize;

    /// Bytes of all parameters.
    fn param_bytes(&self) -> usize;

    /// See [`Backend::sampling_bytes`](super::Backend::sampling_bytes).
    fn sampling_bytes(&self) -> Option<usize> {
        None
    }

    /// See [`Backend::peaks`](super::Backend::peaks).
    fn peaks(&mut self) -> Result<Option<Peaks>> {
        Ok(None)
    }
}
