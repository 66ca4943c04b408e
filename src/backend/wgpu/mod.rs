//! The wgpu backend: WGSL kernels on Vulkan, Metal and DX12, within the limits that every browser grants.
//!
//! `launch` turns a plan into a list of dispatches; `product`, `norm` and `reduce` hold the ops that need
//! several. `compile` makes the pipeline, the bind group and the arguments of each dispatch once. A replay
//! encodes one compute pass and submits it. Nothing is read back unless the caller asks for it. Each slot is
//! a buffer of its own, because WebGPU tracks reads and writes per buffer. If a plan is sampled (`sample`),
//! one kernel interprets it, and all values that it writes are in one buffer.

mod adapter;
#[doc(hidden)]
pub mod args;
mod compiled;
mod dispatch;
mod gpu;
mod launch;
mod norm;
mod peak;
mod product;
mod reduce;
mod sample;
#[doc(hidden)]
pub mod shaders;

use super::engine::Engine;
use super::gate::Gate;
use super::{DeviceInfo, Feed, Peaks, Progress, Scalars, StepTime};
use crate::error::{Error, Result};
use crate::tape::op::ParamId;
use crate::tape::plan::{Buffer, Plan};
use crate::tape::window::SamplingPlan;
use crate::tape::{cost, text};
use compiled::CompiledPlan;
use gpu::{ALIGNMENT, Gpu, GpuBuffer, PipelineKey};
use std::collections::HashMap;

/// Options of the wgpu backend.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Number of the adapter, or a part of its name; `None` takes the first, hardware before software.
    pub adapter: Option<String>,
    /// Fills every output and the scratch with NaN before each step. An element that a kernel forgets to
    /// write then shows.
    pub poison: bool,
    /// Puts guard words around every buffer, for `Wgpu::check_guards`.
    pub guards: bool,
    /// Limit of the size of a buffer in bytes, if it should be smaller than the adapter's own limit.
    pub largest: Option<u64>,
}

/// The wgpu backend.
pub type Wgpu = Gate<WgpuEngine>;

/// Runs plans on an adapter. `Gate` does the checks.
#[doc(hidden)]
pub struct WgpuEngine {
    gpu: Gpu,
    info: DeviceInfo,
    software: bool,
    options: Options,
    params: HashMap<ParamId, GpuBuffer>,
}

/// The adapters of this machine, in the order of their numbers.
pub fn adapters() -> Vec<DeviceInfo> {
    adapter::all().iter().map(adapter::describe).collect()
}

/// The error if there is no adapter. It names what to install.
pub(super) fn no_adapter() -> Error {
    adapter::none()
}

/// Number of the first hardware adapter, if there is one.
pub(super) fn first_hardware() -> Option<usize> {
    adapter::all().iter().position(|adapter| !adapter::is_software(adapter))
}

impl Wgpu {
    /// Opens an adapter.
    ///
    /// # Errors
    /// [`Error::Device`] if there is no such adapter (the message names what to install) or if its driver
    /// refuses.
    pub fn new(options: Options) -> Result<Self> {
        let adapter = adapter::choose(options.adapter.as_deref())?;
        let mut gpu = Gpu::open(&adapter, options.guards)?;
        gpu.largest = options.largest.unwrap_or(gpu.largest).min(gpu.largest);
        let (info, software) = (adapter::describe(&adapter), adapter::is_software(&adapter));
        Ok(Gate::over(WgpuEngine { gpu, info, software, options, params: HashMap::new() }))
    }

    /// Whether the adapter computes on the processor.
    pub fn is_software(&self) -> bool {
        self.engine.software
    }

    /// Checks that the guard words around every buffer are unchanged.
    ///
    /// # Errors
    /// [`Error::Failed`] if a kernel has overrun a buffer (the error names it), or if the device has no
    /// guards.
    #[doc(hidden)]
    pub fn check_guards(&mut self) -> Result<()> {
        if !self.engine.options.guards {
            return Err(Error::Failed("the device was opened without guards; set Options::guards".into()));
        }
        let params = self.engine.params.iter().map(|(id, buffer)| (format!("parameter {}", id.0), buffer.clone()));
        let plans = self.compiled().flat_map(|plan| {
            plan.buffers().map(|(what, buffer)| (format!("{what} of the plan {}", plan.plan.name), buffer.clone()))
        });
        let (names, buffers): (Vec<String>, Vec<GpuBuffer>) = params.chain(plans).unzip();
        if let Some(overrun) = self.engine.gpu.first_overrun(&buffers)? {
            return Err(Error::Failed(format!("a kernel wrote beyond {}", names[overrun])));
        }
        Ok(())
    }

    /// Every pipeline that was made: its shader, entry point and constants, in order.
    #[doc(hidden)]
    pub fn pipelines(&self) -> Vec<PipelineKey> {
        self.engine.gpu.pipeline_keys()
    }

    /// Frees all plans and parameters, and keeps the pipelines.
    #[doc(hidden)]
    pub fn clear(&mut self) {
        self.free_all();
        self.engine.params.clear();
    }
}

impl WgpuEngine {
    /// Writes the inputs and scalars of a replay.
    fn feed(&mut self, compiled: &CompiledPlan, feeds: &[Feed], scalars: &Scalars) {
        for (buffer, feed) in compiled.inputs.iter().zip(feeds) {
            self.gpu.write(buffer, feed.words());
        }
        // One word per scalar, at the start of its binding.
        let mut words = vec![0; compiled.plan.scalars.len() * ALIGNMENT as usize / 4];
        for (scalar, word) in scalars.words(&compiled.plan).enumerate() {
            words[scalar * ALIGNMENT as usize / 4] = word;
        }
        if !words.is_empty() {
            self.gpu.queue.write_buffer(&compiled.scalars, 0, bytemuck::cast_slice(&words));
        }
    }
}

impl Engine for WgpuEngine {
    type Compiled = CompiledPlan;

    fn describe(&self) -> DeviceInfo {
        self.info.clone()
    }

    fn param_len(&self, id: ParamId) -> Option<usize> {
        self.params.get(&id).map(|buffer| buffer.len)
    }

    fn write_param(&mut self, id: ParamId, value: &[f32]) -> Result<()> {
        if !self.params.contains_key(&id) {
            let buffer = self.gpu.buffer(value.len(), "a parameter")?;
            self.params.insert(id, buffer);
        }
        self.gpu.write(&self.params[&id], bytemuck::cast_slice(value));
        self.gpu.check("writing a parameter")
    }

    fn read_param(&mut self, id: ParamId, into: &mut [f32]) -> Result<()> {
        self.gpu.read(&self.params[&id], bytemuck::cast_slice_mut(into))
    }

    fn compile(&mut self, plan: &Plan) -> Result<CompiledPlan> {
        let compiled = CompiledPlan::new(&mut self.gpu, plan, &self.params, self.options.poison)?;
        self.gpu.check(&format!("preparing the plan {}", plan.name))?;
        Ok(compiled)
    }

    fn compile_sampling(&mut self, plan: &SamplingPlan) -> Result<Option<CompiledPlan>> {
        let compiled = CompiledPlan::sampled(&mut self.gpu, plan, &self.params, self.options.poison)?;
        self.gpu.check(&format!("preparing to sample the plan {}", plan.plan.name))?;
        Ok(compiled)
    }

    fn plan(compiled: &CompiledPlan) -> &Plan {
        &compiled.plan
    }

    fn run(&mut self, plan: &mut CompiledPlan, feeds: &[Feed], scalars: &Scalars) -> Result<()> {
        self.feed(plan, feeds, scalars);
        plan.submit(&self.gpu);
        self.gpu.check(&format!("running the plan {}", plan.plan.name))
    }

    fn profile(&mut self, plan: &mut CompiledPlan, feeds: &[Feed], scalars: &Scalars) -> Result<Vec<StepTime>> {
        self.feed(plan, feeds, scalars);
        let times = plan.time(&mut self.gpu)?;
        let timed = plan.plan.steps.iter().zip(times).map(|(step, ms)| StepTime {
            scope: step.scope.to_string(),
            label: step.label(),
            op: text::name(&step.op),
            ms,
            cost: cost::cost(step),
        });
        Ok(timed.collect())
    }

    fn sample(
        &mut self,
        plan: &mut CompiledPlan,
        feeds: &[Feed],
        from: usize,
        scalars: &Scalars,
        progress: &Progress,
    ) -> Result<()> {
        self.feed(plan, feeds, scalars);
        let Some(sampling) = &plan.sampling else { return Ok(()) };
        sampling.begin(&self.gpu, from);
        plan.submit(&self.gpu);
        for row in 0..sampling.rows() {
            sampling.submit_row(&self.gpu, row);
            self.gpu.wait()?;
            progress(sampling.positions_of_a_row());
        }
        self.gpu.check(&format!("sampling the plan {}", plan.plan.name))
    }

    fn read_words(&mut self, plan: &mut CompiledPlan, output: usize, into: &mut [u32]) -> Result<()> {
        match plan.plan.outputs[output].1.buffer {
            Buffer::Slot(s) => self.gpu.read(&plan.slots[s as usize], into),
            Buffer::Input(i) => self.gpu.read(&plan.inputs[i.0 as usize], into),
            Buffer::Param(p) => self.gpu.read(&self.params[&p], into),
            Buffer::Scalar(s) => self.gpu.read_raw(&plan.scalars, u64::from(s.0) * ALIGNMENT, into),
        }
    }

    fn release(&mut self, _plan: CompiledPlan) {
        // wgpu keeps the buffers that submitted commands use.
    }

    fn plan_bytes(&self, plan: &CompiledPlan) -> usize {
        plan.buffers().map(|(_, buffer)| buffer.bound_bytes()).sum::<u64>() as usize
    }

    fn param_bytes(&self) -> usize {
        self.params.values().map(GpuBuffer::bound_bytes).sum::<u64>() as usize
    }

    fn sampling_bytes(&self) -> Option<usize> {
        // Each value begins at an offset where a binding may begin. That leaves gaps, for which 1/64 is set
        // aside.
        Some((self.gpu.largest - self.gpu.largest / 64) as usize)
    }

    fn peaks(&mut self) -> Result<Option<Peaks>> {
        peak::measure(&mut self.gpu).map(Some)
    }
}
