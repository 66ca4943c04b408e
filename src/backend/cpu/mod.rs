//! The CPU backend. It allocates the buffers of a plan when it compiles it. It runs the steps one after
//! another, and each step in parallel.

mod access;
mod buffer;
mod elementwise;
#[doc(hidden)]
pub mod epilogue;
mod group_norm;
mod launch;
mod loss;
mod lstm;
mod norm;
mod optim;
#[doc(hidden)]
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

use super::engine::Engine;
use super::gate::Gate;
use super::{DeviceInfo, Feed, Progress, Scalars, StepTime};
use crate::error::{Error, Result};
use crate::memory;
use crate::shape::DType;
use crate::tape::op::ParamId;
use crate::tape::plan::{Buffer, Plan, PlanParam, Step};
use crate::tape::window::SamplingPlan;
use crate::tape::{cost, text};
use access::{Access, Places};
use buffer::WordBuffer;
pub use product::Isa;
use std::collections::HashMap;
use std::time::Instant;
use window::Sampling;

/// Options of the CPU backend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Worker threads; 0 takes every core.
    pub threads: usize,
    /// Fills every output and the scratch with NaN before each step. An element that a kernel forgets to
    /// write then shows.
    pub poison: bool,
    /// Checks every output after its step. The first value that is not finite is an error that names the
    /// step.
    pub check_finite: bool,
    /// Instruction set; `None` takes the fastest one that the machine supports.
    pub isa: Option<Isa>,
}

/// The CPU backend.
pub type Cpu = Gate<CpuEngine>;

/// Runs plans on the CPU. `Gate` does the checks.
#[doc(hidden)]
pub struct CpuEngine {
    pool: rayon::ThreadPool,
    options: Options,
    isa: Isa,
    params: HashMap<ParamId, WordBuffer>,
}

/// A plan with its buffers.
#[doc(hidden)]
pub struct CompiledPlan {
    plan: Plan,
    slots: Vec<WordBuffer>,
    inputs: Vec<WordBuffer>,
    scalars: WordBuffer,
    scratch: WordBuffer,
    places: Places,
    /// Present if the plan is sampled by windows.
    sampling: Option<Sampling>,
}

// SAFETY: only the raw pointers in `places` prevent `Send`. They lead into buffers that the plan and the
// engine own, whose memory never moves (`WordBuffer`). They are used only inside `CpuEngine::execute` and
// `CpuEngine::draw_windows`, which hold `&mut CpuEngine` and the plan.
unsafe impl Send for CompiledPlan {}
// SAFETY: only the raw pointers in `places` prevent `Sync`. Nothing reads or writes through them while only
// a shared reference to the plan is held: both functions that use them take `&mut CompiledPlan`.
unsafe impl Sync for CompiledPlan {}

impl Cpu {
    /// Makes a backend with a thread pool of its own.
    ///
    /// # Errors
    /// [`Error::Device`] if the processor does not support the instruction set, or if no thread can be
    /// started.
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
        Ok(Gate::over(CpuEngine { pool, options, isa, params: HashMap::new() }))
    }
}

impl CpuEngine {
    /// Allocates the buffers of a plan. `whole` are the steps that run whole, for which scratch is
    /// allocated.
    fn allocate<'a>(
        &mut self,
        plan: &Plan,
        whole: impl Iterator<Item = &'a Step>,
        sampling: Option<Sampling>,
    ) -> Result<CompiledPlan> {
        let threads = self.pool.current_num_threads();
        let scratch = whole.map(|s| launch::scratch_len(s, threads)).max().unwrap_or(0);
        let packed = sampling.as_ref().map_or(0, Sampling::packed_len);
        let bytes = (plan.slot_bytes() + 4 * (scratch + packed)) as u64;
        memory::check(bytes, &format!("the plan {}", plan.name), "choose a smaller batch or model")?;
        let mut slots: Vec<WordBuffer> = plan.slots.iter().map(|s| WordBuffer::new(s.len)).collect();
        let mut inputs: Vec<WordBuffer> = plan.inputs.iter().map(|i| WordBuffer::new(i.meta.shape.len())).collect();
        let mut scalars = WordBuffer::new(plan.scalars.len());
        let mut places = Places {
            slots: slots.iter_mut().map(WordBuffer::as_ptr).collect(),
            inputs: inputs.iter_mut().map(WordBuffer::as_ptr).collect(),
            params: vec![
                std::ptr::null_mut();
                plan.params.iter().map(|param| param.id.0 as usize + 1).max().unwrap_or(0)
            ],
            scalars: scalars.as_ptr(),
        };
        for PlanParam { id, .. } in &plan.params {
            if let Some(buffer) = self.params.get_mut(id) {
                places.params[id.0 as usize] = buffer.as_ptr();
            }
        }
        let scratch = WordBuffer::new(scratch);
        Ok(CompiledPlan { plan: plan.clone(), slots, inputs, scalars, scratch, places, sampling })
    }

    /// Runs all steps. After each step, `visit` is called with the step and its operands. Without a visitor,
    /// nothing is allocated.
    fn execute(
        &mut self,
        compiled: &mut CompiledPlan,
        mut visit: impl FnMut(usize, &Step, &Access) -> Result<()> + Send,
    ) -> Result<()> {
        let (scratch, poison, isa) = (compiled.scratch.as_ptr() as usize, self.options.poison, self.isa);
        let compiled = &*compiled;
        // All steps run inside the pool, so that parallel iterators neither enter the pool again nor
        // allocate.
        self.pool.install(|| {
            for (i, step) in compiled.plan.steps.iter().enumerate() {
                // SAFETY: no operand is longer than its slot, input or parameter, and no output of a step is
                // also an input, except the state that an optimiser replaces in place, which `launch`
                // borrows only as an output (`Plan::check`, called by `Gate::compile`). `allocate` made
                // slots and inputs as long as the plan says, and the scratch as long as the longest request.
                // Parameters have the length that the plan declares (`Gate::check_params`;
                // `Gate::write_param` keeps it). The buffers belong to the engine and the compiled plan, and
                // never move. Both are held by `&mut`, so nothing else accesses them.
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

impl CompiledPlan {
    /// Copies the inputs and scalars of a replay into their buffers.
    fn feed(&mut self, feeds: &[Feed], scalars: &Scalars) {
        for (buffer, feed) in self.inputs.iter_mut().zip(feeds) {
            buffer.words_mut().copy_from_slice(feed.words());
        }
        let words = self.scalars.words_mut().iter_mut();
        words.zip(scalars.words(&self.plan)).for_each(|(word, value)| *word = value);
    }
}

/// Returns an error that names the step if one of its outputs is not finite.
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

impl Engine for CpuEngine {
    type Compiled = CompiledPlan;

    fn describe(&self) -> DeviceInfo {
        DeviceInfo {
            kind: "cpu".into(),
            name: processor_name(),
            detail: self.isa.to_string(),
            threads: self.pool.current_num_threads(),
        }
    }

    fn param_len(&self, id: ParamId) -> Option<usize> {
        self.params.get(&id).map(WordBuffer::len)
    }

    fn write_param(&mut self, id: ParamId, value: &[f32]) -> Result<()> {
        let buffer = self.params.entry(id).or_insert_with(|| WordBuffer::new(value.len()));
        buffer.floats_mut().copy_from_slice(value);
        Ok(())
    }

    fn read_param(&mut self, id: ParamId, into: &mut [f32]) -> Result<()> {
        into.copy_from_slice(bytemuck::cast_slice(self.params[&id].words()));
        Ok(())
    }

    fn compile(&mut self, plan: &Plan) -> Result<CompiledPlan> {
        self.allocate(plan, plan.steps.iter(), None)
    }

    fn compile_sampling(&mut self, plan: &SamplingPlan) -> Result<Option<CompiledPlan>> {
        let sampling = Sampling::new(plan, self.isa)?;
        self.allocate(&plan.plan, plan.before(), Some(sampling)).map(Some)
    }

    fn plan(compiled: &CompiledPlan) -> &Plan {
        &compiled.plan
    }

    fn run(&mut self, plan: &mut CompiledPlan, feeds: &[Feed], scalars: &Scalars) -> Result<()> {
        plan.feed(feeds, scalars);
        if self.options.check_finite {
            let name = plan.plan.name.clone();
            return self.execute(plan, |_, step, access| find_non_finite(&name, step, access));
        }
        self.execute(plan, |_, _, _| Ok(()))
    }

    fn profile(&mut self, plan: &mut CompiledPlan, feeds: &[Feed], scalars: &Scalars) -> Result<Vec<StepTime>> {
        plan.feed(feeds, scalars);
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

    fn sample(
        &mut self,
        plan: &mut CompiledPlan,
        feeds: &[Feed],
        from: usize,
        scalars: &Scalars,
        progress: &Progress,
    ) -> Result<()> {
        plan.feed(feeds, scalars);
        self.draw_windows(plan, from, progress);
        Ok(())
    }

    fn read_words(&mut self, plan: &mut CompiledPlan, output: usize, into: &mut [u32]) -> Result<()> {
        let words = match plan.plan.outputs[output].1.buffer {
            Buffer::Slot(s) => plan.slots[s as usize].words(),
            Buffer::Input(i) => plan.inputs[i.0 as usize].words(),
            Buffer::Param(p) => self.params[&p].words(),
            Buffer::Scalar(s) => &plan.scalars.words()[s.0 as usize..],
        };
        into.copy_from_slice(&words[..into.len()]);
        Ok(())
    }

    fn release(&mut self, _plan: CompiledPlan) {}

    fn plan_bytes(&self, plan: &CompiledPlan) -> usize {
        let buffers = plan.slots.iter().chain(&plan.inputs).chain([&plan.scalars, &plan.scratch]);
        4 * (buffers.map(WordBuffer::len).sum::<usize>() + plan.sampling.as_ref().map_or(0, Sampling::packed_len))
    }

    fn param_bytes(&self) -> usize {
        4 * self.params.values().map(WordBuffer::len).sum::<usize>()
    }
}

/// The name of the processor, as the operating system reports it.
fn processor_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|l| l.strip_prefix("model name")).and_then(|l| l.split(':').nth(1));
    name.map_or_else(|| std::env::consts::ARCH.to_string(), |n| n.trim().to_string())
}
