//! A compiled plan: its buffers, pipelines and bind groups are made once, and each replay encodes them.

use super::dispatch::{Dispatch, Launch, Place, grid};
use super::gpu::{ALIGNMENT, Gpu, GpuBuffer, Location};
use super::launch;
use super::sample::{Arenas, Sampling};
use crate::error::{Error, Result};
use crate::tape::op::{InputId, ParamId};
use crate::tape::plan::{Buffer, Plan, Step};
use crate::tape::window::SamplingPlan;
use std::collections::HashMap;
use std::time::Instant;
use wgpu::{BindGroup, BindingResource, BufferUsages, ComputePass, ComputePipeline, Features};

/// Number of timestamps in one query set.
const QUERIES: usize = 4096;

/// A dispatch with its pipeline and bind group, ready to be encoded.
struct Bound {
    pipeline: ComputePipeline,
    group: BindGroup,
    grid: [u32; 2],
    /// Index of its step.
    step: usize,
}

/// A compiled plan.
pub struct CompiledPlan {
    pub(super) plan: Plan,
    pub(super) slots: Vec<GpuBuffer>,
    pub(super) inputs: Vec<GpuBuffer>,
    /// One word per scalar. Each is at an offset where a binding may begin.
    pub(super) scalars: wgpu::Buffer,
    scratch: Vec<GpuBuffer>,
    bound: Vec<Bound>,
    /// Present if the plan is sampled by windows.
    pub(super) sampling: Option<Sampling>,
}

impl CompiledPlan {
    /// Allocates and binds all buffers of the plan. With `poison`, the outputs and the scratch of each step
    /// are filled with NaN before the step.
    pub(super) fn new(
        gpu: &mut Gpu,
        plan: &Plan,
        params: &HashMap<ParamId, GpuBuffer>,
        poison: bool,
    ) -> Result<CompiledPlan> {
        CompiledPlan::prepare(gpu, plan, params, poison, HashMap::new(), |_| true)
    }

    /// Like [`CompiledPlan::new`], for a plan to be sampled. Returns `None` if the values of a single image
    /// do not fit into the largest buffer.
    ///
    /// # Errors
    /// [`Error::Device`] if a step has no windows, or if the batch is too large; the error names the cause.
    pub(super) fn sampled(
        gpu: &mut Gpu,
        plan: &SamplingPlan,
        params: &HashMap<ParamId, GpuBuffer>,
        poison: bool,
    ) -> Result<Option<CompiledPlan>> {
        let Some(mut arenas) = Arenas::new(gpu, plan)? else { return Ok(None) };
        let written = std::mem::take(&mut arenas.written);
        let has_no_windows = |step: usize| plan.sizes[step].is_none();
        let mut compiled = CompiledPlan::prepare(gpu, &plan.plan, params, poison, written, has_no_windows)?;
        compiled.sampling = Some(Sampling::new(gpu, plan, arenas, |buffer| compiled.location(buffer, params))?);
        Ok(Some(compiled))
    }

    /// Compiles a plan. The values in `there` already have buffers. Only the steps for which `runs` is true
    /// get dispatches. With `poison`, the outputs of all steps are poisoned, also of those without
    /// dispatches.
    fn prepare(
        gpu: &mut Gpu,
        plan: &Plan,
        params: &HashMap<ParamId, GpuBuffer>,
        poison: bool,
        mut there: HashMap<Buffer, GpuBuffer>,
        runs: impl Fn(usize) -> bool,
    ) -> Result<CompiledPlan> {
        let launch = |(i, step)| if runs(i) { launch::launch(step) } else { Launch::default() };
        let launches: Vec<Launch> = plan.steps.iter().enumerate().map(launch).collect();
        let name = &plan.name;
        let (mut slots, mut inputs, mut scratch) = (vec![], vec![], vec![]);
        let mut home = |buffer, len, what: String| there.remove(&buffer).map_or_else(|| gpu.buffer(len, &what), Ok);
        for (s, slot) in (0..).zip(&plan.slots) {
            slots.push(home(Buffer::Slot(s), slot.len, format!("a value of the plan {name}"))?);
        }
        for (i, input) in (0..).zip(&plan.inputs) {
            let (len, what) = (input.meta.shape.len(), format!("input {} of the plan {name}", input.name));
            inputs.push(home(Buffer::Input(InputId(i)), len, what)?);
        }
        for i in 0..launches.iter().map(|l| l.scratch.len()).max().unwrap_or(0) {
            let len = launches.iter().filter_map(|l| l.scratch.get(i)).max().copied().unwrap_or(0);
            scratch.push(gpu.buffer(len, &format!("the scratch memory of the plan {name}"))?);
        }
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        let scalars = gpu.raw_buffer(plan.scalars.len() as u64 * ALIGNMENT, usage);
        let (plan_kept, bound, sampling) = (plan.clone(), vec![], None);
        let mut compiled = CompiledPlan { plan: plan_kept, slots, inputs, scalars, scratch, bound, sampling };
        let mut all = vec![];
        for (step, (what, launch)) in plan.steps.iter().zip(launches).enumerate() {
            if poison {
                all.extend(poisoned(what, &launch).into_iter().map(|dispatch| (step, dispatch)));
            }
            all.extend(launch.dispatches.into_iter().filter(|d| d.groups > 0).map(|dispatch| (step, dispatch)));
        }
        compiled.bind(gpu, params, &all)?;
        Ok(compiled)
    }

    /// Makes the pipeline, the arguments and the bind group of each dispatch.
    fn bind(
        &mut self,
        gpu: &mut Gpu,
        params: &HashMap<ParamId, GpuBuffer>,
        dispatches: &[(usize, Dispatch)],
    ) -> Result<()> {
        let unused = gpu.raw_buffer(0, BufferUsages::STORAGE);
        let stride = ALIGNMENT as usize;
        let mut words = vec![0u8; dispatches.len() * stride];
        for ((_, dispatch), words) in dispatches.iter().zip(words.chunks_exact_mut(stride)) {
            words[..dispatch.args.len()].copy_from_slice(&dispatch.args);
        }
        let arguments = gpu.raw_buffer(words.len() as u64, BufferUsages::UNIFORM | BufferUsages::COPY_DST);
        if !words.is_empty() {
            gpu.queue.write_buffer(&arguments, 0, &words);
        }
        for (index, (step, dispatch)) in dispatches.iter().enumerate() {
            let grid = grid(dispatch.groups).ok_or_else(|| {
                let label = self.plan.steps[*step].label();
                Error::Device(format!("{label} takes more workgroups than a device starts; choose a smaller batch"))
            })?;
            let pipeline = gpu.pipeline(dispatch);
            let resource = |buffer, offset, size| {
                let size = std::num::NonZeroU64::new(size);
                BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size })
            };
            let mut entries = vec![wgpu::BindGroupEntry {
                binding: 0,
                resource: resource(&arguments, index as u64 * ALIGNMENT, ALIGNMENT),
            }];
            for &(binding, place) in &dispatch.bindings {
                let resource = match place {
                    Place::Unused => unused.as_entire_binding(),
                    Place::Scratch(i) => self.scratch[i].binding(),
                    Place::Buffer(Buffer::Slot(s)) => self.slots[s as usize].binding(),
                    Place::Buffer(Buffer::Input(i)) => self.inputs[i.0 as usize].binding(),
                    Place::Buffer(Buffer::Param(p)) => params[&p].binding(),
                    Place::Buffer(Buffer::Scalar(s)) => resource(&self.scalars, u64::from(s.0) * ALIGNMENT, ALIGNMENT),
                };
                entries.push(wgpu::BindGroupEntry { binding, resource });
            }
            let layout = pipeline.get_bind_group_layout(0);
            let descriptor =
                wgpu::BindGroupDescriptor { label: Some(dispatch.entry), layout: &layout, entries: &entries };
            let group = gpu.device.create_bind_group(&descriptor);
            self.bound.push(Bound { pipeline, group, grid, step: *step });
        }
        Ok(())
    }

    /// Every buffer with a name for messages.
    pub(super) fn buffers(&self) -> impl Iterator<Item = (String, &GpuBuffer)> {
        let slots = self.slots.iter().enumerate().map(|(i, buffer)| (format!("slot {i}"), buffer));
        let inputs = self.inputs.iter().enumerate().map(|(i, buffer)| (format!("input {i}"), buffer));
        let scratch = self.scratch.iter().enumerate().map(|(i, buffer)| (format!("scratch {i}"), buffer));
        let sampling = self.sampling.iter().flat_map(Sampling::buffers);
        slots.chain(inputs).chain(scratch).chain(sampling)
    }

    /// Where the first word of a value is.
    fn location<'a>(&'a self, buffer: Buffer, params: &'a HashMap<ParamId, GpuBuffer>) -> Location<'a> {
        match buffer {
            Buffer::Slot(s) => self.slots[s as usize].location(),
            Buffer::Input(i) => self.inputs[i.0 as usize].location(),
            Buffer::Param(p) => params[&p].location(),
            Buffer::Scalar(s) => Location { buffer: &self.scalars, offset: u64::from(s.0) * ALIGNMENT },
        }
    }

    /// Encodes all dispatches as one pass, then the copies that sampling needs, and submits both.
    pub(super) fn submit(&self, gpu: &Gpu) {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            self.bound.iter().for_each(|bound| bound.encode(&mut pass));
        }
        if let Some(sampling) = &self.sampling {
            sampling.copy_fixed(&mut encoder);
        }
        gpu.queue.submit([encoder.finish()]);
    }

    /// Runs the plan once and returns the milliseconds of each step. If the device has timestamps, they
    /// measure the time. Otherwise the host's clock does, with a submission and a wait per dispatch.
    pub(super) fn time(&self, gpu: &mut Gpu) -> Result<Vec<f64>> {
        let mut times = vec![0.0; self.plan.steps.len()];
        let stamped = gpu.device.features().contains(Features::TIMESTAMP_QUERY);
        gpu.wait()?;
        for chunk in self.bound.chunks(QUERIES / 2) {
            if stamped {
                self.time_stamped(gpu, chunk, &mut times)?;
                continue;
            }
            for bound in chunk {
                let start = Instant::now();
                let mut encoder = gpu.device.create_command_encoder(&Default::default());
                bound.encode(&mut encoder.begin_compute_pass(&Default::default()));
                gpu.queue.submit([encoder.finish()]);
                gpu.wait()?;
                times[bound.step] += start.elapsed().as_secs_f64() * 1e3;
            }
        }
        Ok(times)
    }

    /// Adds the time of each dispatch to the time of its step. Each dispatch is a pass of its own, with a
    /// timestamp at its beginning and its end.
    fn time_stamped(&self, gpu: &mut Gpu, chunk: &[Bound], times: &mut [f64]) -> Result<()> {
        let count = 2 * chunk.len() as u32;
        let descriptor = wgpu::QuerySetDescriptor { label: Some("steps"), ty: wgpu::QueryType::Timestamp, count };
        let queries = gpu.device.create_query_set(&descriptor);
        let usage = BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC;
        let resolved = gpu.raw_buffer(8 * u64::from(count), usage);
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        for (index, bound) in (0..).zip(chunk) {
            let stamps = wgpu::ComputePassTimestampWrites {
                query_set: &queries,
                beginning_of_pass_write_index: Some(2 * index),
                end_of_pass_write_index: Some(2 * index + 1),
            };
            let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: Some(stamps) };
            bound.encode(&mut encoder.begin_compute_pass(&descriptor));
        }
        encoder.resolve_query_set(&queries, 0..count, &resolved, 0);
        gpu.queue.submit([encoder.finish()]);
        let mut words = vec![0u32; 2 * count as usize];
        gpu.read_raw(&resolved, 0, &mut words)?;
        let period = f64::from(gpu.queue.get_timestamp_period());
        let stamp = |words: &[u32]| u64::from(words[1]) << 32 | u64::from(words[0]);
        for (bound, words) in chunk.iter().zip(words.chunks_exact(4)) {
            let ticks = stamp(&words[2..]).saturating_sub(stamp(&words[..2]));
            times[bound.step] += ticks as f64 * period * 1e-6;
        }
        Ok(())
    }
}

impl Bound {
    fn encode(&self, pass: &mut ComputePass) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.dispatch_workgroups(self.grid[0], self.grid[1], 1);
    }
}

/// Dispatches that fill a step's scratch and outputs with NaN, except outputs that replace an input of the
/// step.
fn poisoned(step: &Step, launch: &Launch) -> Vec<Dispatch> {
    let nan = f32::NAN.to_bits();
    let fresh = |buffer: Buffer| !step.inputs.iter().any(|input| input.buffer == buffer);
    let outputs = step.outputs.iter().filter(|o| fresh(o.buffer)).map(|o| (Place::from(o), o.meta.shape.len()));
    let scratch = launch.scratch.iter().enumerate().map(|(i, len)| (Place::Scratch(i), *len));
    outputs.chain(scratch).filter(|(_, len)| *len > 0).map(|(place, len)| launch::fill(nan, place, len)).collect()
}
