//! The CUDA backend: compiles a plan into one captured graph and replays it.
//!
//! `launch` maps steps to kernel launches; `product`, `norm`, `recurrence` and `optim` hold the families
//! that need more than a line. `kernels` compiles the files under `kernels/` for the card of this machine.
//! `driver` and `nvrtc` wrap NVIDIA's libraries, and `failure` their errors. The libraries are loaded when
//! the backend is opened, so a build needs no CUDA toolkit.
//!
//! Everything that changes between replays (inputs, parameters, scalars) is in device memory, which is
//! written before the graph runs. The memory of a plan is allocated when it is compiled.

mod compiled;
mod driver;
mod failure;
#[doc(hidden)]
pub mod kernels;
mod launch;
mod lowering;
mod norm;
#[doc(hidden)]
pub mod nvrtc;
mod optim;
mod places;
mod product;
mod recurrence;
mod sample;

use super::engine::Engine;
use super::gate::Gate;
use super::{DeviceInfo, Feed, Peaks, Progress, Scalars, StepTime};
use crate::error::{Error, Result};
use crate::tape::op::ParamId;
use crate::tape::plan::{Buffer, Plan};
use crate::tape::window::SamplingPlan;
use crate::tape::{cost, text};
use compiled::{CompiledPlan, Group, Ready, Uploads, enqueue, poison, updates_words};
use driver::{CardMemory, Device, Event, Memory, Pinned, Stream};
use failure::failed;
use kernels::Kernels;
use lowering::{Card, Lowered, Work};
use nvrtc::Nvrtc;
use places::{Params, Places};
use sample::Sampling;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Options of the CUDA backend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Fills every output and the scratch with NaN before each step. An element that a kernel forgets to
    /// write then shows.
    pub poison: bool,
}

/// The CUDA backend.
pub type Cuda = Gate<CudaEngine>;

/// Runs plans on a card. `Gate` does the checks. Fields are dropped in order of declaration, so everything
/// that needs the context is dropped before the device.
#[doc(hidden)]
pub struct CudaEngine {
    params: HashMap<ParamId, Memory>,
    kernels: Kernels,
    stream: Stream,
    device: Device,
    options: Options,
}

impl Cuda {
    /// Opens the first card.
    ///
    /// # Errors
    /// [`Error::Device`] if there is no driver, no card or no compiler; the message names what to install.
    pub fn new(options: Options) -> Result<Cuda> {
        let device = Device::open()?;
        let kernels = Kernels::new(Nvrtc::open(device.driver / 1000)?, device.architecture)?;
        let stream = Stream::new()?;
        Ok(Gate::over(CudaEngine { params: HashMap::new(), kernels, stream, device, options }))
    }
}

impl CudaEngine {
    /// Waits until all enqueued work is done.
    fn wait(&self) -> Result<()> {
        self.stream.wait().map_err(|e| failed("finish the work", e))
    }

    /// Copies inputs and scalars to the card through the free half of the pinned memory.
    fn feed(&mut self, compiled: &mut CompiledPlan, feeds: &[Feed], scalars: &Scalars) -> Result<()> {
        let uploads = &mut compiled.uploads;
        uploads.turn ^= 1;
        let (pinned, event) = &mut uploads.halves[uploads.turn];
        let copied = event.wait().and_then(|()| {
            let mut rest = pinned.words_mut();
            let targets = compiled.inputs.iter().chain([&compiled.scalars]);
            for (memory, feed) in targets.zip(feeds.iter().map(Some).chain([None])) {
                let (part, after) = rest.split_at_mut(memory.words());
                match feed {
                    Some(feed) => part.copy_from_slice(feed.words()),
                    None => part.iter_mut().zip(scalars.words(&compiled.plan)).for_each(|(word, value)| *word = value),
                }
                if !part.is_empty() {
                    // SAFETY: the target has as many words as `part`, which was split off with that length.
                    // Target and source belong to the compiled plan, which is freed only after the stream is
                    // done (`release`). The source stays unchanged until the copy is done, because `feed`
                    // waits for this half's event before it writes the half again.
                    unsafe { self.stream.upload(memory.address(), part) }?;
                }
                rest = after;
            }
            self.stream.record(event)
        });
        copied.map_err(|e| failed("copy the inputs to the card", e))
    }

    /// Compiles a plan: allocates its buffers, and captures a graph of the steps for whose index `runs` is
    /// true.
    fn prepare(&mut self, plan: &Plan, runs: impl Fn(usize) -> bool) -> Result<CompiledPlan> {
        self.device.enter()?;
        let card = Card { processors: self.device.processors, shared_bytes: self.device.shared_bytes };
        let mut lowered = vec![];
        let mut at = 0;
        while at < plan.steps.len() {
            let steps = optim::group_len(&plan.steps[at..]).max(1);
            let group = &plan.steps[at..at + steps];
            lowered.push((
                at..at + steps,
                match group {
                    [_] if !runs(at) => Lowered::default(),
                    [step] => launch::lower(step, card)?,
                    several => optim::lower(&several.iter().collect::<Vec<_>>(), card)?,
                },
            ));
            at += steps;
        }
        let scratch = lowered.iter().map(|(_, l)| l.scratch).max().unwrap_or(0);
        let inputs_len: usize = plan.inputs.iter().map(|i| i.meta.shape.len()).sum();
        let need = plan.slot_bytes() + 4 * (scratch + inputs_len);
        let CardMemory { free, total } = self.device.memory()?;
        if need > free {
            let gibibytes = |bytes: usize| bytes as f64 / f64::from(1 << 30);
            return Err(Error::Device(format!(
                "the plan {} needs {:.1} GiB and {:.1} of the card's {:.1} GiB are free; choose a smaller batch or model",
                plan.name,
                gibibytes(need),
                gibibytes(free),
                gibibytes(total)
            )));
        }
        let memory = |lens: Vec<usize>| lens.into_iter().map(Memory::new).collect::<Result<Vec<_>>>();
        let slots = memory(plan.slots.iter().map(|s| s.len).collect())?;
        let inputs = memory(plan.inputs.iter().map(|i| i.meta.shape.len()).collect())?;
        let scalars = Memory::new(plan.scalars.len())?;
        let scratch = Memory::new(scratch)?;
        let mut tables: Vec<Memory> = vec![];
        let places =
            Places { slots: &slots, inputs: &inputs, params: &self.params, scalars: &scalars, scratch: &scratch };
        let mut groups = vec![];
        for (range, lowered) in lowered {
            let updates = if lowered.updates.is_empty() {
                0
            } else {
                let table = updates_words(&lowered.updates, &places);
                let memory = Memory::new(table.len())?;
                self.stream.write(&memory, &table)?;
                let address = memory.address();
                tables.push(memory);
                address
            };
            let mut work = if self.options.poison { poison(&plan.steps[range.clone()], &places) } else { vec![] };
            for item in lowered.work {
                work.push(match item {
                    Work::Kernel(launch) => Ready::Kernel {
                        function: self.kernels.function(launch.kernel, launch.shape.shared_bytes)?,
                        shape: launch.shape,
                        params: Params {
                            args: launch.args,
                            addresses: launch.pointers.iter().map(|p| places.resolve(*p, updates)).collect(),
                        },
                    },
                    Work::Copy { to, from, words } => {
                        Ready::Copy { to: places.resolve(to, 0), from: places.resolve(from, 0), words }
                    }
                });
            }
            groups.push(Group { steps: range.len(), work });
        }
        let graph = self.stream.capture(|| groups.iter().try_for_each(|group| enqueue(&self.stream, group)))?;
        let half = || Ok((Pinned::new(inputs_len + plan.scalars.len())?, Event::new()?));
        let uploads = Uploads { halves: [half()?, half()?], turn: 0 };
        let (plan, sampling) = (plan.clone(), None);
        Ok(CompiledPlan { graph, plan, groups, slots, inputs, scalars, scratch, tables, uploads, sampling })
    }
}

impl Engine for CudaEngine {
    type Compiled = CompiledPlan;

    fn describe(&self) -> DeviceInfo {
        let driver = self.device.driver;
        DeviceInfo {
            kind: "cuda".into(),
            name: self.device.name.clone(),
            detail: format!(
                "compute capability {}, {:.0} GiB, driver of CUDA {}.{}, {}",
                self.device.architecture,
                self.device.memory().map_or(0.0, |memory| memory.total as f64 / f64::from(1 << 30)),
                driver / 1000,
                driver % 1000 / 10,
                self.kernels.describe()
            ),
            threads: 0,
        }
    }

    fn param_len(&self, id: ParamId) -> Option<usize> {
        self.params.get(&id).map(Memory::words)
    }

    fn write_param(&mut self, id: ParamId, value: &[f32]) -> Result<()> {
        self.device.enter()?;
        // A replay that is still running may read the old value.
        self.wait()?;
        let memory = match self.params.entry(id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Memory::new(value.len())?),
        };
        self.stream.write(memory, bytemuck::cast_slice(value))
    }

    fn read_param(&mut self, id: ParamId, into: &mut [f32]) -> Result<()> {
        self.device.enter()?;
        self.wait()?;
        self.stream.read(&self.params[&id], bytemuck::cast_slice_mut(into))
    }

    fn compile(&mut self, plan: &Plan) -> Result<CompiledPlan> {
        self.prepare(plan, |_| true)
    }

    fn plan(compiled: &CompiledPlan) -> &Plan {
        &compiled.plan
    }

    fn run(&mut self, plan: &mut CompiledPlan, feeds: &[Feed], scalars: &Scalars) -> Result<()> {
        self.device.enter()?;
        self.feed(plan, feeds, scalars)?;
        self.stream.replay(&plan.graph).map_err(|e| failed("replay a plan", e))
    }

    fn read_words(&mut self, plan: &mut CompiledPlan, output: usize, into: &mut [u32]) -> Result<()> {
        self.device.enter()?;
        self.wait()?;
        match plan.plan.outputs[output].1.buffer {
            Buffer::Slot(s) => self.stream.read(&plan.slots[s as usize], into),
            Buffer::Input(i) => self.stream.read(&plan.inputs[i.0 as usize], into),
            Buffer::Param(p) => self.stream.read(&self.params[&p], into),
            Buffer::Scalar(s) => {
                let mut all = vec![0; plan.plan.scalars.len()];
                self.stream.read(&plan.scalars, &mut all)?;
                into.copy_from_slice(&all[s.0 as usize..][..into.len()]);
                Ok(())
            }
        }
    }

    fn profile(&mut self, plan: &mut CompiledPlan, feeds: &[Feed], scalars: &Scalars) -> Result<Vec<StepTime>> {
        self.device.enter()?;
        self.feed(plan, feeds, scalars)?;
        let events = (0..=plan.groups.len()).map(|_| Event::new()).collect::<Result<Vec<_>>>()?;
        let record = |event| self.stream.record(event).map_err(|e| failed("record an event", e));
        record(&events[0])?;
        for (group, event) in plan.groups.iter().zip(&events[1..]) {
            enqueue(&self.stream, group)?;
            record(event)?;
        }
        self.wait()?;
        let mut times = vec![];
        for (group, pair) in plan.groups.iter().zip(events.windows(2)) {
            let ms = pair[0].ms_to(&pair[1]).map_err(|e| failed("time a step", e))?;
            let steps = &plan.plan.steps[times.len()..times.len() + group.steps];
            // Optimisers are bound by memory, so the time of their common launch is divided in proportion to
            // bytes.
            let bytes: u64 = steps.iter().map(|s| cost::cost(s).bytes).sum();
            times.extend(steps.iter().map(|step| {
                let cost = cost::cost(step);
                let share = if steps.len() == 1 { 1.0 } else { cost.bytes as f64 / bytes.max(1) as f64 };
                let (scope, label, op) = (step.scope.to_string(), step.label(), text::name(&step.op));
                StepTime { scope, label, op, ms: ms * share, cost }
            }));
        }
        Ok(times)
    }

    fn compile_sampling(&mut self, plan: &SamplingPlan) -> Result<Option<CompiledPlan>> {
        let mut compiled = self.prepare(&plan.plan, |step| plan.sizes[step].is_none())?;
        let sampling = Sampling::new(plan, &compiled.places(&self.params), &mut self.kernels, &self.stream)?;
        compiled.sampling = Some(sampling);
        Ok(Some(compiled))
    }

    fn sample(
        &mut self,
        plan: &mut CompiledPlan,
        feeds: &[Feed],
        from: usize,
        scalars: &Scalars,
        progress: &Progress,
    ) -> Result<()> {
        self.device.enter()?;
        self.feed(plan, feeds, scalars)?;
        let Some(sampling) = &plan.sampling else { return Ok(()) };
        let poisoned = if self.options.poison {
            // SAFETY: each range is a whole slot. The slots belong to the compiled plan, which is freed only
            // after the stream is done (`release`).
            plan.slots.iter().try_for_each(|s| unsafe { self.stream.poison(s.address(), s.words()) })
        } else {
            Ok(())
        };
        let replayed = poisoned.and_then(|()| self.stream.replay(&plan.graph));
        replayed.map_err(|e| failed("begin to sample", e))?;
        for row in 0..sampling.rows() {
            // SAFETY: the tables, slots, inputs and scalars belong to the compiled plan, which is freed only
            // after the stream is done (`release`). Parameters belong to the engine, which waits for the
            // stream before it drops them. The kernel stays inside this memory: windows are inside the sizes
            // of their steps, and no operand is longer than its buffer (`SamplingPlan::check`, called by
            // `Gate::compile_sampling`).
            let enqueued = unsafe { sampling.enqueue(&self.stream, row, from) };
            enqueued.map_err(|e| failed("sample a row", e))?;
            self.wait()?;
            progress(sampling.positions_of_a_row());
        }
        Ok(())
    }

    fn release(&mut self, plan: CompiledPlan) {
        // Memory must not be freed while a kernel uses it. An error here was reported before, or nothing can
        // be done about it.
        let _ = self.device.enter();
        let _ = self.stream.wait();
        drop(plan);
    }

    fn peaks(&mut self) -> Result<Option<Peaks>> {
        Ok(Some(self.device.peaks))
    }

    fn plan_bytes(&self, plan: &CompiledPlan) -> usize {
        let buffers = plan.slots.iter().chain(&plan.inputs).chain([&plan.scalars, &plan.scratch]).chain(&plan.tables);
        4 * (buffers.map(Memory::words).sum::<usize>() + plan.sampling.as_ref().map_or(0, Sampling::words))
    }

    fn param_bytes(&self) -> usize {
        4 * self.params.values().map(Memory::words).sum::<usize>()
    }
}

impl Drop for CudaEngine {
    fn drop(&mut self) {
        // Memory must not be freed while a kernel uses it. An error here was reported before, or nothing can
        // be done about it.
        let _ = self.device.enter();
        let _ = self.stream.wait();
    }
}
