//! The CPU backend: compiles a plan into buffers and runs its steps one after another, each of them parallel inside.

mod access;
pub mod buffer;
mod elementwise;
pub mod epilogue;
mod group_norm;
mod launch;
mod loss;
mod lstm;
mod norm;
mod optim;
pub mod product;
mod random;
mod reduce;
mod scan;
mod shape_ops;
#[cfg(test)]
mod testing;
mod trace;
mod unary;
mod vector;
mod window;

use super::{Backend, Compiled, DeviceInfo, Feed, Progress, Scalars, StepTime};
use crate::error::{Error, Result};
use crate::memory;
use crate::shape::DType;
use crate::tape::op::{ParamId, Scalar};
use crate::tape::plan::{Buffer, Plan, Step};
use crate::tape::window::SamplingPlan;
use crate::tape::{cost, text};
use access::{Access, Places};
use buffer::WordBuffer;
use product::Isa;
use std::collections::HashMap;
use std::time::Instant;
use window::Sampling;

/// How the CPU backend runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Worker threads; 0 takes every core.
    pub threads: usize,
    /// Fills every output with NaN before its step, so that what a kernel leaves out shows.
    pub poison: bool,
    /// Stops at the first value that is not finite and names its step.
    pub check_finite: bool,
    /// Instruction set; `None` takes the fastest that the machine has.
    pub isa: Option<Isa>,
}

/// The CPU backend.
pub struct Cpu {
    pool: rayon::ThreadPool,
    options: Options,
    isa: Isa,
    params: HashMap<ParamId, WordBuffer>,
    plans: Vec<CompiledPlan>,
}

/// A plan with its buffers.
struct CompiledPlan {
    plan: Plan,
    slots: Vec<WordBuffer>,
    inputs: Vec<WordBuffer>,
    scalars: WordBuffer,
    scratch: WordBuffer,
    places: Places,
    /// Where it is sampled.
    sampling: Option<Sampling>,
}

// SAFETY: the pointers in `places` lead into buffers that the backend owns and that never move; they are used only
// while `&mut Cpu` is held, by the thread pool that the backend owns.
unsafe impl Send for CompiledPlan {}
// SAFETY: as above; shared references never write through the pointers.
unsafe impl Sync for CompiledPlan {}

impl Cpu {
    /// A backend with a thread pool of its own.
    pub fn new(options: Options) -> Result<Self> {
        let isa = options.isa.unwrap_or_else(Isa::detect);
        if !isa.is_available() {
            return Err(Error::Device(format!(
                "this processor has no {isa}; leave the instruction set to be detected"
            )));
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(options.threads)
            .thread_name(|i| format!("pixtape-{i}"))
            .build()
            .map_err(|e| {
                Error::Device(format!("could not start the worker threads ({e}); lower --threads")).because(e)
            })?;
        Ok(Cpu { pool, options, isa, params: HashMap::new(), plans: vec![] })
    }

    /// Makes the buffers of a plan; `whole` are the steps that run whole and need scratch.
    fn allocate<'a>(
        &mut self,
        plan: &Plan,
        whole: impl Iterator<Item = &'a Step>,
        sampling: Option<Sampling>,
    ) -> Result<Compiled> {
        let threads = self.pool.current_num_threads();
        let scratch = whole.map(|s| launch::scratch_len(s, threads)).max().unwrap_or(0);
        let packed = sampling.as_ref().map_or(0, Sampling::packed_len);
        memory::check((plan.slot_bytes() + 4 * (scratch + packed)) as u64, &format!("the plan {}", plan.name))?;
        let mut slots: Vec<WordBuffer> = plan.slots.iter().map(|s| WordBuffer::new(s.len)).collect();
        let mut inputs: Vec<WordBuffer> = plan.inputs.iter().map(|i| WordBuffer::new(i.meta.shape.len())).collect();
        let mut scalars = WordBuffer::new(Scalar::ALL.len());
        let mut places = Places {
            slots: slots.iter_mut().map(WordBuffer::as_ptr).collect(),
            inputs: inputs.iter_mut().map(WordBuffer::as_ptr).collect(),
            params: vec![std::ptr::null_mut(); plan.params.iter().map(|(id, ..)| id.0 as usize + 1).max().unwrap_or(0)],
            scalars: scalars.as_ptr(),
        };
        for (id, meta, name) in &plan.params {
            let buffer = self.params.get_mut(id).filter(|b| b.len() == meta.shape.len());
            let buffer = buffer
                .ok_or_else(|| Error::Failed(format!("parameter {name} has no value of shape {}", meta.shape)))?;
            places.params[id.0 as usize] = buffer.as_ptr();
        }
        let scratch = WordBuffer::new(scratch);
        self.plans.push(CompiledPlan { plan: plan.clone(), slots, inputs, scalars, scratch, places, sampling });
        Ok(Compiled(self.plans.len() - 1))
    }

    fn feed(&mut self, plan: Compiled, feeds: &[Feed], scalars: &Scalars) -> Result<()> {
        let compiled = &mut self.plans[plan.0];
        let name = &compiled.plan.name;
        if feeds.len() != compiled.inputs.len() {
            return Err(Error::Failed(format!(
                "plan {name} takes {} inputs, got {}",
                compiled.inputs.len(),
                feeds.len()
            )));
        }
        for ((buffer, feed), spec) in compiled.inputs.iter_mut().zip(feeds).zip(&compiled.plan.inputs) {
            if buffer.len() != feed.words().len() {
                let (want, got) = (spec.meta.shape, feed.words().len());
                return Err(Error::Failed(format!("input {} of plan {name} is {want}, got {got} elements", spec.name)));
            }
            buffer.words_mut().copy_from_slice(feed.words());
        }
        compiled.scalars.words_mut().copy_from_slice(scalars.words());
        Ok(())
    }

    /// Runs every step; after each one `visit` sees it and what it wrote. Without a visitor nothing is allocated.
    fn execute(
        &mut self,
        plan: Compiled,
        mut visit: impl FnMut(usize, &Step, &Access) -> Result<()> + Send,
    ) -> Result<()> {
        let compiled = &mut self.plans[plan.0];
        let (scratch, poison, isa) = (compiled.scratch.as_ptr() as usize, self.options.poison, self.isa);
        let compiled = &*compiled;
        // Inside the pool: parallel iterators neither inject nor allocate.
        self.pool.install(|| {
            for (i, step) in compiled.plan.steps.iter().enumerate() {
                // SAFETY: `compile` made every buffer at least as long as its operands and the scratch as long as the
                // longest request; `&mut self` is held, so nobody else touches them; `Plan::check` guarantees that no
                // output of a step is an input of it, but for what optimisers replace in place, which `launch` borrows
                // as an output alone.
                let access =
                    unsafe { Access::new(step, &compiled.places, scratch as *mut u32, compiled.scratch.len()) };
                if poison {
                    access.poison();
                }
                launch::launch(step, isa, &access);
                visit(i, step, &access)?;
            }
            Ok(())
        })
    }
}

/// The first value that is not finite, as an error that names the step.
fn find_non_finite(plan: &str, step: &Step, access: &Access) -> Result<()> {
    for out in 0..step.outputs.len() {
        if step.outputs[out].meta.dtype == DType::F32
            && let Some(at) = access.output(out).iter().position(|v| !v.is_finite())
        {
            let value = access.output(out)[at];
            return Err(Error::Failed(format!(
                "plan {plan}: {} in {} (recorded at {}) wrote {value} at element {at} of output {out}; \
                 lower the learning rate or clip the gradients",
                step.label(),
                step.scope,
                step.at
            )));
        }
    }
    Ok(())
}

impl Backend for Cpu {
    fn describe(&self) -> DeviceInfo {
        DeviceInfo {
            kind: "cpu".into(),
            name: processor_name(),
            detail: self.isa.to_string(),
            threads: self.pool.current_num_threads(),
        }
    }

    fn write_param(&mut self, id: ParamId, value: &[f32]) -> Result<()> {
        let buffer = self.params.entry(id).or_insert_with(|| WordBuffer::new(value.len()));
        if buffer.len() != value.len() {
            let (want, got) = (buffer.len(), value.len());
            return Err(Error::Failed(format!("parameter {} has {want} elements, got {got}", id.0)));
        }
        buffer.floats_mut().copy_from_slice(value);
        Ok(())
    }

    fn read_param(&mut self, id: ParamId, into: &mut [f32]) -> Result<()> {
        let buffer =
            self.params.get(&id).ok_or_else(|| Error::Failed(format!("parameter {} has no value yet", id.0)))?;
        into.copy_from_slice(bytemuck::cast_slice(buffer.words()));
        Ok(())
    }

    fn compile(&mut self, plan: &Plan) -> Result<Compiled> {
        self.allocate(plan, plan.steps.iter(), None)
    }

    fn compile_sampling(&mut self, plan: &SamplingPlan) -> Result<Option<Compiled>> {
        let sampling = Sampling::new(plan, self.isa)?;
        self.allocate(&plan.plan, plan.before(), Some(sampling)).map(Some)
    }

    fn sample(
        &mut self,
        plan: Compiled,
        feeds: &[Feed],
        from: usize,
        scalars: &Scalars,
        progress: &Progress,
    ) -> Result<()> {
        self.draw_windows(plan, feeds, from, scalars, progress)
    }

    fn run(&mut self, plan: Compiled, feeds: &[Feed], scalars: &Scalars) -> Result<()> {
        self.feed(plan, feeds, scalars)?;
        if self.options.check_finite {
            let name = self.plans[plan.0].plan.name.clone();
            return self.execute(plan, |_, step, access| find_non_finite(&name, step, access));
        }
        self.execute(plan, |_, _, _| Ok(()))
    }

    fn read_words(&mut self, plan: Compiled, output: usize, into: &mut [u32]) -> Result<()> {
        let compiled = &self.plans[plan.0];
        let (name, operand) = &compiled.plan.outputs[output];
        let words = match operand.buffer {
            Buffer::Slot(s) => compiled.slots[s as usize].words(),
            Buffer::Input(i) => compiled.inputs[i.0 as usize].words(),
            Buffer::Param(p) => self.params[&p].words(),
            Buffer::Scalar(s) => &compiled.scalars.words()[s as usize..],
        };
        let len = operand.meta.shape.len();
        if into.len() != len {
            return Err(Error::Failed(format!("output {name} has {len} elements, asked for {}", into.len())));
        }
        into.copy_from_slice(&words[..len]);
        Ok(())
    }

    fn profile(&mut self, plan: Compiled, feeds: &[Feed], scalars: &Scalars) -> Result<Vec<StepTime>> {
        self.feed(plan, feeds, scalars)?;
        let mut times = vec![];
        let mut last = Instant::now();
        self.execute(plan, |_, step, _| {
            let ms = last.elapsed().as_secs_f64() * 1e3;
            let (scope, label, op) = (step.scope.to_string(), step.label(), text::name(&step.op));
            times.push(StepTime { scope, label, op, ms, cost: cost::cost(step) });
            last = Instant::now();
            Ok(())
        })?;
        Ok(times)
    }

    fn memory_bytes(&self) -> usize {
        let of = |p: &CompiledPlan| {
            let buffers = p.slots.iter().chain(&p.inputs).chain([&p.scalars, &p.scratch]);
            buffers.map(WordBuffer::len).sum::<usize>() + p.sampling.as_ref().map_or(0, Sampling::packed_len)
        };
        let params: usize = self.params.values().map(WordBuffer::len).sum();
        4 * (params + self.plans.iter().map(of).sum::<usize>())
    }
}

/// The processor's name as the kernel gives it.
fn processor_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|l| l.strip_prefix("model name")).and_then(|l| l.split(':').nth(1));
    name.map_or_else(|| std::env::consts::ARCH.to_string(), |n| n.trim().to_string())
}
