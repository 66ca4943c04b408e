//! The wgpu backend: WGSL kernels on Vulkan, Metal and DX12, within the limits that every browser grants.
//!
//! A plan becomes a list of dispatches (`launch`, with `product` and `norm` for what takes several), each with its pipeline, bind
//! group and arguments made once in `compile`. A replay encodes one compute pass and submits it; nothing is read back
//! unless it is asked for. Slots are whole buffers: WebGPU tracks what is read and written by buffer. Where a plan is sampled
//! (`sample`), one kernel interprets it, and what it writes lies in one buffer.

mod adapter;
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
pub mod shaders;

use super::{Backend, Compiled, DeviceInfo, Feed, Progress, Scalars, StepTime};
use crate::error::{Error, Result};
use crate::tape::op::{ParamId, Scalar};
use crate::tape::plan::{Buffer, Plan};
use crate::tape::window::SamplingPlan;
use crate::tape::{cost, text};
use compiled::CompiledPlan;
use gpu::{ALIGNMENT, Gpu, GpuBuffer};
use std::collections::HashMap;

/// How the backend runs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Number of the adapter, or a part of its name; `None` takes the first, hardware before software.
    pub adapter: Option<String>,
    /// Fills every output with NaN before its step, so that what a kernel leaves out shows.
    pub poison: bool,
    /// Puts guard words around every buffer, for [`Wgpu::check_guards`].
    pub guards: bool,
    /// Bytes of the largest buffer, where they are to be fewer than the adapter allows.
    pub largest: Option<u64>,
}

/// The wgpu backend.
pub struct Wgpu {
    gpu: Gpu,
    info: DeviceInfo,
    software: bool,
    options: Options,
    params: HashMap<ParamId, GpuBuffer>,
    plans: Vec<CompiledPlan>,
}

/// The adapters of this machine, in the order of their numbers.
pub fn adapters() -> Vec<DeviceInfo> {
    adapter::all().iter().map(adapter::describe).collect()
}

/// The error where there is none: it names what to install.
pub fn no_adapter() -> Error {
    adapter::none()
}

/// Number of the first adapter that is hardware, if there is one.
pub fn first_hardware() -> Option<usize> {
    adapter::all().iter().position(|adapter| !adapter::is_software(adapter))
}

impl Wgpu {
    /// Opens an adapter.
    ///
    /// # Errors
    /// [`Error::Device`] where there is no such adapter, with the package to install, or its driver refuses.
    pub fn new(options: Options) -> Result<Self> {
        let adapter = adapter::choose(options.adapter.as_deref())?;
        let mut gpu = Gpu::open(&adapter, options.guards)?;
        gpu.largest = options.largest.unwrap_or(gpu.largest).min(gpu.largest);
        let (info, software) = (adapter::describe(&adapter), adapter::is_software(&adapter));
        Ok(Wgpu { gpu, info, software, options, params: HashMap::new(), plans: vec![] })
    }

    /// Whether the adapter computes on the processor.
    pub fn is_software(&self) -> bool {
        self.software
    }

    /// Whether the words around every buffer are untouched.
    ///
    /// # Errors
    /// [`Error::Failed`] that names a buffer which a kernel has overrun.
    pub fn check_guards(&mut self) -> Result<()> {
        if !self.options.guards {
            return Err(Error::Failed("the device was opened without guards; set Options::guards".into()));
        }
        let params = self.params.iter().map(|(id, buffer)| (format!("parameter {}", id.0), buffer));
        let plans = self.plans.iter().flat_map(|plan| {
            plan.buffers().map(|(what, buffer)| (format!("{what} of the plan {}", plan.plan.name), buffer))
        });
        let (names, buffers): (Vec<String>, Vec<&GpuBuffer>) = params.chain(plans).unzip();
        if let Some(overrun) = self.gpu.first_overrun(&buffers)? {
            return Err(Error::Failed(format!("a kernel wrote beyond {}", names[overrun])));
        }
        Ok(())
    }

    /// Forgets every plan and parameter, and keeps the pipelines: what was compiled before must not be used again.
    pub fn clear(&mut self) {
        self.plans.clear();
        self.params.clear();
    }

    fn feed(&mut self, plan: Compiled, feeds: &[Feed], scalars: &Scalars) -> Result<()> {
        let compiled = &self.plans[plan.0];
        let name = &compiled.plan.name;
        if feeds.len() != compiled.inputs.len() {
            let (want, got) = (compiled.inputs.len(), feeds.len());
            return Err(Error::Failed(format!("plan {name} takes {want} inputs, got {got}")));
        }
        for ((buffer, feed), spec) in compiled.inputs.iter().zip(feeds).zip(&compiled.plan.inputs) {
            if buffer.len != feed.words().len() {
                let (want, got) = (spec.meta.shape, feed.words().len());
                return Err(Error::Failed(format!("input {} of plan {name} is {want}, got {got} elements", spec.name)));
            }
            self.gpu.write(buffer, feed.words());
        }
        // A word at the start of each binding.
        let mut words = vec![0; Scalar::ALL.len() * ALIGNMENT as usize / 4];
        for (scalar, word) in scalars.words().iter().enumerate() {
            words[scalar * ALIGNMENT as usize / 4] = *word;
        }
        self.gpu.queue.write_buffer(&compiled.scalars, 0, bytemuck::cast_slice(&words));
        Ok(())
    }
}

impl Backend for Wgpu {
    fn describe(&self) -> DeviceInfo {
        self.info.clone()
    }

    fn write_param(&mut self, id: ParamId, value: &[f32]) -> Result<()> {
        if !self.params.contains_key(&id) {
            let buffer = self.gpu.buffer(value.len(), "a parameter")?;
            self.params.insert(id, buffer);
        }
        let buffer = &self.params[&id];
        if buffer.len != value.len() {
            let (want, got) = (buffer.len, value.len());
            return Err(Error::Failed(format!("parameter {} has {want} elements, got {got}", id.0)));
        }
        self.gpu.write(buffer, bytemuck::cast_slice(value));
        self.gpu.check("writing a parameter")
    }

    fn read_param(&mut self, id: ParamId, into: &mut [f32]) -> Result<()> {
        let missing = || Error::Failed(format!("parameter {} has no value yet", id.0));
        let buffer = self.params.get(&id).ok_or_else(missing)?;
        self.gpu.read(buffer, bytemuck::cast_slice_mut(into))
    }

    fn compile(&mut self, plan: &Plan) -> Result<Compiled> {
        let compiled = CompiledPlan::new(&mut self.gpu, plan, &self.params, self.options.poison)?;
        self.gpu.check(&format!("preparing the plan {}", plan.name))?;
        self.plans.push(compiled);
        Ok(Compiled(self.plans.len() - 1))
    }

    fn run(&mut self, plan: Compiled, feeds: &[Feed], scalars: &Scalars) -> Result<()> {
        self.feed(plan, feeds, scalars)?;
        self.plans[plan.0].submit(&self.gpu);
        self.gpu.check(&format!("running the plan {}", self.plans[plan.0].plan.name))
    }

    fn read_words(&mut self, plan: Compiled, output: usize, into: &mut [u32]) -> Result<()> {
        let compiled = &self.plans[plan.0];
        let (name, operand) = &compiled.plan.outputs[output];
        let len = operand.meta.shape.len();
        if into.len() != len {
            return Err(Error::Failed(format!("output {name} has {len} elements, asked for {}", into.len())));
        }
        match operand.buffer {
            Buffer::Slot(s) => self.gpu.read(&compiled.slots[s as usize], into),
            Buffer::Input(i) => self.gpu.read(&compiled.inputs[i.0 as usize], into),
            Buffer::Param(p) => self.gpu.read(&self.params[&p], into),
            Buffer::Scalar(s) => self.gpu.read_raw(&compiled.scalars, s as u64 * ALIGNMENT, into),
        }
    }

    fn profile(&mut self, plan: Compiled, feeds: &[Feed], scalars: &Scalars) -> Result<Vec<StepTime>> {
        self.feed(plan, feeds, scalars)?;
        let times = self.plans[plan.0].time(&mut self.gpu)?;
        let steps = self.plans[plan.0].plan.steps.iter().zip(times);
        let timed = steps.map(|(step, ms)| StepTime {
            scope: step.scope.to_string(),
            label: step.label(),
            op: text::name(&step.op),
            ms,
            cost: cost::cost(step),
        });
        Ok(timed.collect())
    }

    fn peaks(&mut self) -> Result<Option<[f64; 2]>> {
        peak::measure(&mut self.gpu).map(Some)
    }

    fn compile_sampling(&mut self, plan: &SamplingPlan) -> Result<Option<Compiled>> {
        let compiled = CompiledPlan::sampled(&mut self.gpu, plan, &self.params, self.options.poison)?;
        self.gpu.check(&format!("preparing to sample the plan {}", plan.plan.name))?;
        Ok(compiled.map(|compiled| {
            self.plans.push(compiled);
            Compiled(self.plans.len() - 1)
        }))
    }

    fn sampling_bytes(&self) -> Option<usize> {
        // Values begin where a binding may, which leaves gaps.
        Some((self.gpu.largest - self.gpu.largest / 64) as usize)
    }

    fn sample(
        &mut self,
        plan: Compiled,
        feeds: &[Feed],
        from: usize,
        scalars: &Scalars,
        progress: &Progress,
    ) -> Result<()> {
        self.feed(plan, feeds, scalars)?;
        let compiled = &self.plans[plan.0];
        let Some(sampling) = &compiled.sampling else {
            return Err(Error::Failed(format!("plan {} was not compiled for sampling", compiled.plan.name)));
        };
        sampling.begin(&self.gpu, from);
        compiled.submit(&self.gpu);
        for row in 0..sampling.rows() {
            sampling.submit_row(&self.gpu, row);
            self.gpu.wait()?;
            progress(sampling.positions_of_a_row());
        }
        self.gpu.check(&format!("sampling the plan {}", compiled.plan.name))
    }

    fn memory_bytes(&self) -> usize {
        let plans = self.plans.iter().flat_map(|plan| plan.buffers().map(|(_, buffer)| buffer.bound_bytes()));
        let params = self.params.values().map(GpuBuffer::bound_bytes);
        plans.chain(params).sum::<u64>() as usize
    }
}
