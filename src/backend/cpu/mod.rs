//! The CPU backend. It divides a plan (`tape/divide/`) and allocates its buffers when it compiles it. A step
//! on the whole batch runs in parallel. The steps of a stretch run for a few images at a time: each thread
//! takes its own images through all of them.

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
mod replay;
mod scan;
mod shape_ops;
mod stretch;
mod team;
#[cfg(test)]
mod testing;
mod trace;
mod unary;
mod vector;
mod watch;
mod window;

use super::engine::Engine;
use super::gate::Gate;
use super::{DeviceInfo, Feed, Progress, Scalars, StepTime};
use crate::error::{Error, Result};
use crate::memory;
use crate::tape::divide::{Divided, Policy, Stage};
use crate::tape::op::ParamId;
use crate::tape::plan::{Buffer, Plan, PlanParam, Precision};
use crate::tape::window::SamplingPlan;
use access::Places;
use buffer::WordBuffer;
pub use product::Isa;
use replay::Unwatched;
use std::collections::HashMap;
use stretch::{Packs, Views};
use watch::{Clock, FindNonFinite};
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
    /// How plans are divided.
    #[doc(hidden)]
    pub policy: Policy,
    /// Whether plans in bf16 are computed by portable code if the processor has no instructions for bf16.
    /// That has the same results and is slow; tests use it.
    #[doc(hidden)]
    pub emulates_bf16: bool,
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
    divided: Divided,
    slots: Vec<WordBuffer>,
    inputs: Vec<WordBuffer>,
    scalars: WordBuffer,
    scratch: WordBuffer,
    places: Places,
    /// The views of the stretches, by seat.
    views: Vec<Vec<Views>>,
    /// For each seat, the values of a micro-batch and the shares of a unit in sums.
    locals: WordBuffer,
    /// The sums of all groups of a stretch.
    sums: WordBuffer,
    /// The packed weights of a stretch, and where those of each piece are.
    packed: WordBuffer,
    packs: Packs,
    /// Present if the plan is sampled by windows.
    sampling: Option<Sampling>,
}

// SAFETY: only the raw pointers in `places` and `views` prevent `Send`. They lead into buffers that the plan
// and the engine own, whose memory never moves (`WordBuffer`). They are used only inside
// `CpuEngine::execute` and `CpuEngine::draw_windows`, which hold `&mut CpuEngine` and the plan.
unsafe impl Send for CompiledPlan {}
// SAFETY: only the raw pointers in `places` and `views` prevent `Sync`. Nothing reads or writes through them
// while only a shared reference to the plan is held: both functions that use them take `&mut CompiledPlan`.
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
    /// Allocates the buffers of a plan.
    fn allocate(&mut self, plan: &Plan, divided: Divided, sampling: Option<Sampling>) -> Result<CompiledPlan> {
        divided.check(plan).map_err(|why| Error::Failed(format!("plan {} is divided wrongly: {why}", plan.name)))?;
        let threads = self.pool.current_num_threads();
        // If the plan is sampled, only the steps before the windows run whole.
        let is_run = |index: usize| sampling.as_ref().is_none_or(|sampling| sampling.runs_whole(index));
        let whole = divided.stages.iter().filter_map(|stage| match stage {
            Stage::Whole { index, step } if is_run(*index) => Some(launch::scratch_len(step, plan.precision, threads)),
            _ => None,
        });
        let seats = divided.seats(threads);
        let scratch = whole.max().unwrap_or(0).max(seats * stretch::scratch_len(&divided, plan.precision));
        let packs = stretch::packs(&divided, plan.precision);
        let packed = packs.iter().filter_map(|pieces| pieces.last().map(|last| last.end)).max().unwrap_or(0);
        let of_windows = sampling.as_ref().map_or(0, Sampling::packed_len);
        let bytes = (divided.bytes(threads) + 4 * (scratch + packed + of_windows)) as u64;
        memory::check(bytes, &format!("the plan {}", plan.name), "choose a smaller batch or model")?;
        let mut slots: Vec<WordBuffer> = divided.slots.iter().map(|s| WordBuffer::new(s.len)).collect();
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
        let sums = divided.stretches().map(|stretch| stretch.groups * stretch.sums_len).max().unwrap_or(0);
        Ok(CompiledPlan {
            plan: plan.clone(),
            slots,
            inputs,
            scalars,
            scratch: WordBuffer::new(scratch),
            places,
            views: (0..seats).map(|_| Views::of(&divided)).collect(),
            locals: WordBuffer::new(seats * divided.seat_len()),
            sums: WordBuffer::new(sums),
            packed: WordBuffer::new(packed),
            packs,
            divided,
            sampling,
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

    fn check_precision(&self, precision: Precision) -> Result<()> {
        if precision == Precision::F32 || self.isa.has_bf16() || self.options.emulates_bf16 {
            return Ok(());
        }
        Err(Error::Device("this processor has no instructions for bf16 (AVX512-BF16); use one that has them, or train anew with --precision f32".into()))
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
        self.allocate(plan, Divided::new(plan, &self.options.policy), None)
    }

    fn compile_sampling(&mut self, plan: &SamplingPlan) -> Result<Option<CompiledPlan>> {
        let sampling = Sampling::new(plan, self.isa)?;
        self.allocate(&plan.plan, Divided::undivided(&plan.plan), Some(sampling)).map(Some)
    }

    fn plan(compiled: &CompiledPlan) -> &Plan {
        &compiled.plan
    }

    fn run(&mut self, plan: &mut CompiledPlan, feeds: &[Feed], scalars: &Scalars) -> Result<()> {
        plan.feed(feeds, scalars);
        if self.options.check_finite {
            let whole = plan.plan.clone();
            return self.execute(plan, &FindNonFinite(&whole));
        }
        self.execute(plan, &Unwatched)
    }

    fn profile(&mut self, plan: &mut CompiledPlan, feeds: &[Feed], scalars: &Scalars) -> Result<Vec<StepTime>> {
        plan.feed(feeds, scalars);
        let clock = Clock::new(self.pool.current_num_threads(), plan.plan.steps.len());
        self.execute(plan, &clock)?;
        Ok(clock.times(&plan.plan))
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
        let words = match plan.divided.outputs[output].buffer {
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
        let others = [&plan.scalars, &plan.scratch, &plan.locals, &plan.sums, &plan.packed];
        let buffers = plan.slots.iter().chain(&plan.inputs).chain(others);
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
