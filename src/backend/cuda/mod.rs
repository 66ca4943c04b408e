//! The CUDA backend: compiles a plan into one captured graph and replays it.
//!
//! `launch` maps steps to kernel launches (`product`, `norm`, `recurrence`, `optim` hold the families that need more than a line);
//! `kernels` compiles the files under `kernels/` for the card at hand; `driver` and `nvrtc` guard NVIDIA's libraries, which are
//! looked for when the backend is opened: nothing is needed to build.
//!
//! Everything that changes between replays lies in device memory that is written before the graph runs: inputs, parameters,
//! scalars. All memory is allocated in `compile`.

mod driver;
pub mod kernels;
mod launch;
mod norm;
pub mod nvrtc;
mod optim;
mod product;
mod recurrence;

use super::{Backend, Compiled, DeviceInfo, Feed, Scalars, StepTime};
use crate::error::{Error, Result};
use crate::tape::op::{ParamId, Scalar};
use crate::tape::plan::{Buffer, Plan, Step};
use crate::tape::{cost, text};
use cudarc::driver::result::DriverError;
use driver::{Address, Device, Event, Function, Graph, Memory, Pinned, Stream, failed, is_sticky};
use kernels::Kernels;
use launch::{Card, Ptr, Work};
use nvrtc::Nvrtc;
use std::collections::HashMap;
use std::ffi::c_void;

/// How the CUDA backend runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Fills every output and the scratch with NaN before its step, so that what a kernel leaves out shows.
    pub poison: bool,
}

/// The CUDA backend. Fields are dropped in order: what the driver holds before the device.
pub struct Cuda {
    plans: Vec<CompiledPlan>,
    params: HashMap<ParamId, Memory>,
    kernels: Kernels,
    stream: Stream,
    device: Device,
    options: Options,
    /// What made the card unusable for this process.
    broken: Option<String>,
}

/// A plan with its buffers, and what is enqueued for it.
struct CompiledPlan {
    graph: Graph,
    plan: Plan,
    groups: Vec<Group>,
    slots: Vec<Memory>,
    inputs: Vec<Memory>,
    scalars: Memory,
    /// Tables of the optimisers and the scratch, kept alive for the graph.
    others: Vec<Memory>,
    uploads: Uploads,
}

/// Consecutive steps that are enqueued together: one, or several optimiser steps.
struct Group {
    steps: usize,
    work: Vec<Ready>,
}

/// Work with every address known.
enum Ready {
    Kernel { function: Function, grid: [u32; 3], block: [u32; 3], shared: u32, params: Params },
    Copy { to: Address, from: Address, words: usize },
    Poison { at: Address, words: usize },
}

/// Parameters of a kernel: the argument struct, then addresses.
struct Params {
    args: Vec<u8>,
    addresses: Vec<Address>,
}

impl Params {
    fn pointers(&self) -> Vec<*mut c_void> {
        let args = self.args.as_ptr().cast_mut().cast();
        [args].into_iter().chain(self.addresses.iter().map(|a| std::ptr::from_ref(a).cast_mut().cast())).collect()
    }
}

/// Two halves of pinned memory, so that the host fills one while the card reads the other.
struct Uploads {
    halves: [(Pinned, Event); 2],
    turn: usize,
}

/// Where each buffer of a plan lies.
struct Places<'a> {
    slots: &'a [Memory],
    inputs: &'a [Memory],
    params: &'a HashMap<ParamId, Memory>,
    scalars: &'a Memory,
    scratch: &'a Memory,
}

impl Places<'_> {
    fn of(&self, buffer: Buffer) -> Address {
        match buffer {
            Buffer::Slot(s) => self.slots[s as usize].address(),
            Buffer::Input(i) => self.inputs[i.0 as usize].address(),
            Buffer::Param(p) => self.params[&p].address(),
            Buffer::Scalar(s) => self.scalars.address() + 4 * s as u64,
        }
    }

    fn resolve(&self, ptr: Ptr, updates: Address) -> Address {
        match ptr {
            Ptr::Buffer(buffer) => self.of(buffer),
            Ptr::Scratch(at) => self.scratch.address() + 4 * at as u64,
            Ptr::Updates => updates,
            Ptr::Null => 0,
        }
    }
}

impl Cuda {
    /// Opens the first card.
    ///
    /// # Errors
    /// [`Error::Device`] with what to install where there is no driver, no card or no compiler.
    pub fn new(options: Options) -> Result<Cuda> {
        let device = Device::open()?;
        let kernels = Kernels::new(Nvrtc::open(device.driver / 1000)?, device.architecture)?;
        let stream = Stream::new()?;
        Ok(Cuda { plans: vec![], params: HashMap::new(), kernels, stream, device, options, broken: None })
    }

    /// Makes the card ready for calls from this thread, unless it cannot be used any more.
    fn enter(&self) -> Result<()> {
        match &self.broken {
            Some(why) => Err(Error::Device(why.clone())),
            None => self.device.enter(),
        }
    }

    /// Turns what the driver reports into an error, and remembers what cannot be mended.
    fn done(&mut self, doing: &str, result: Result<(), DriverError>) -> Result<()> {
        let Err(error) = result else { return Ok(()) };
        let failure = failed(doing, error);
        if is_sticky(error) {
            self.broken = Some(failure.to_string());
        }
        Err(failure)
    }

    /// Waits for everything that was enqueued.
    fn wait(&mut self) -> Result<()> {
        let waited = self.stream.wait();
        self.done("finish the work", waited)
    }

    /// Inputs and scalars to the card, by way of the half of pinned memory that is free.
    fn feed(&mut self, plan: Compiled, feeds: &[Feed], scalars: &Scalars) -> Result<()> {
        let compiled = &mut self.plans[plan.0];
        let name = &compiled.plan.name;
        if feeds.len() != compiled.inputs.len() {
            let want = compiled.inputs.len();
            return Err(Error::Failed(format!("plan {name} takes {want} inputs, got {}", feeds.len())));
        }
        for ((memory, feed), spec) in compiled.inputs.iter().zip(feeds).zip(&compiled.plan.inputs) {
            if memory.words() != feed.words().len() {
                let (want, got) = (spec.meta.shape, feed.words().len());
                return Err(Error::Failed(format!("input {} of plan {name} is {want}, got {got} elements", spec.name)));
            }
        }
        let uploads = &mut compiled.uploads;
        uploads.turn ^= 1;
        let (pinned, event) = &mut uploads.halves[uploads.turn];
        let copied = event.wait().and_then(|()| {
            let mut rest = pinned.words_mut();
            let targets = compiled.inputs.iter().chain([&compiled.scalars]);
            for (memory, words) in targets.zip(feeds.iter().map(Feed::words).chain([scalars.words()])) {
                let (part, after) = rest.split_at_mut(words.len());
                part.copy_from_slice(words);
                if !part.is_empty() {
                    // SAFETY: both live as long as the plan; this half is written again only after its event.
                    unsafe { self.stream.upload(memory.address(), part) }?;
                }
                rest = after;
            }
            self.stream.record(event)
        });
        self.done("copy the inputs to the card", copied)
    }
}

/// Enqueues the work of a group.
fn enqueue(stream: &Stream, group: &Group) -> Result<()> {
    for ready in &group.work {
        // SAFETY: `compile` resolved every address to memory that the plan or the backend keeps, and that is at least as long
        // as the operand; the parameters are those that `launch` gives the kernel.
        let enqueued = unsafe {
            match ready {
                Ready::Kernel { function, grid, block, shared, params } => {
                    stream.launch(function, *grid, *block, *shared, &mut params.pointers())
                }
                Ready::Copy { to, from, words } => stream.copy(*to, *from, *words),
                Ready::Poison { at, words } => stream.poison(*at, *words),
            }
        };
        enqueued.map_err(|e| failed("enqueue a kernel", e))?;
    }
    Ok(())
}

/// What is poisoned before a step: its outputs, but for those that replace an input, and the scratch.
fn poison(steps: &[Step], places: &Places) -> Vec<Ready> {
    let mut work = vec![];
    for step in steps {
        for out in step.outputs.iter().filter(|o| step.inputs.iter().all(|i| i.buffer != o.buffer)) {
            work.push(Ready::Poison { at: places.of(out.buffer), words: out.meta.shape.len() });
        }
    }
    work.push(Ready::Poison { at: places.scratch.address(), words: places.scratch.words() });
    work.retain(|w| !matches!(w, Ready::Poison { words: 0, .. }));
    work
}

impl Backend for Cuda {
    fn describe(&self) -> DeviceInfo {
        let [major, minor] = self.device.architecture;
        let driver = self.device.driver;
        DeviceInfo {
            kind: "cuda".into(),
            name: self.device.name.clone(),
            detail: format!(
                "compute capability {major}.{minor}, driver of CUDA {}.{}, {}",
                driver / 1000,
                driver % 1000 / 10,
                self.kernels.describe()
            ),
            threads: 0,
        }
    }

    fn write_param(&mut self, id: ParamId, value: &[f32]) -> Result<()> {
        self.enter()?;
        // A replay in flight may still read the old value.
        self.wait()?;
        if !self.params.contains_key(&id) {
            self.params.insert(id, Memory::new(value.len())?);
        }
        let memory = &self.params[&id];
        if memory.words() != value.len() {
            let (want, got) = (memory.words(), value.len());
            return Err(Error::Failed(format!("parameter {} has {want} elements, got {got}", id.0)));
        }
        memory.write(bytemuck::cast_slice(value))
    }

    fn read_param(&mut self, id: ParamId, into: &mut [f32]) -> Result<()> {
        self.enter()?;
        self.wait()?;
        let memory =
            self.params.get(&id).ok_or_else(|| Error::Failed(format!("parameter {} has no value yet", id.0)))?;
        if memory.words() != into.len() {
            let (have, want) = (memory.words(), into.len());
            return Err(Error::Failed(format!("parameter {} has {have} elements, asked for {want}", id.0)));
        }
        memory.read(bytemuck::cast_slice_mut(into))
    }

    fn compile(&mut self, plan: &Plan) -> Result<Compiled> {
        self.enter()?;
        for (id, meta, name) in &plan.params {
            if self.params.get(id).is_none_or(|p| p.words() != meta.shape.len()) {
                return Err(Error::Failed(format!("parameter {name} has no value of shape {}", meta.shape)));
            }
        }
        let card = Card { processors: self.device.processors, shared_bytes: self.device.shared_bytes };
        let mut lowered = vec![];
        let mut at = 0;
        while at < plan.steps.len() {
            let steps = optim::group_len(&plan.steps[at..]).max(1);
            let group = &plan.steps[at..at + steps];
            lowered.push((
                at..at + steps,
                match group {
                    [step] => launch::lower(step, card)?,
                    several => optim::lower(&several.iter().collect::<Vec<_>>(), card)?,
                },
            ));
            at += steps;
        }
        let scratch = lowered.iter().map(|(_, l)| l.scratch).max().unwrap_or(0);
        let inputs_len: usize = plan.inputs.iter().map(|i| i.meta.shape.len()).sum();
        let need = plan.slot_bytes() + 4 * (scratch + inputs_len);
        let (free, total) = self.device.memory()?;
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
        let scalars = Memory::new(Scalar::ALL.len())?;
        let scratch = Memory::new(scratch)?;
        let mut others = vec![];
        let places =
            Places { slots: &slots, inputs: &inputs, params: &self.params, scalars: &scalars, scratch: &scratch };
        let mut groups = vec![];
        for (range, lowered) in lowered {
            let updates = match lowered.updates.is_empty() {
                true => 0,
                false => {
                    let table = updates_words(&lowered.updates, &places);
                    let memory = Memory::new(table.len())?;
                    memory.write(&table)?;
                    others.push(memory);
                    others[others.len() - 1].address()
                }
            };
            let mut work = if self.options.poison { poison(&plan.steps[range.clone()], &places) } else { vec![] };
            for item in lowered.work {
                work.push(match item {
                    Work::Kernel(launch) => Ready::Kernel {
                        function: self.kernels.function(launch.kernel, launch.shared)?,
                        grid: launch.grid,
                        block: launch.block,
                        shared: launch.shared,
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
        others.push(scratch);
        let graph = self.stream.capture(|| groups.iter().try_for_each(|group| enqueue(&self.stream, group)))?;
        let half = || Ok((Pinned::new(inputs_len + Scalar::ALL.len())?, Event::new()?));
        let uploads = Uploads { halves: [half()?, half()?], turn: 0 };
        let plan = plan.clone();
        self.plans.push(CompiledPlan { graph, plan, groups, slots, inputs, scalars, others, uploads });
        Ok(Compiled(self.plans.len() - 1))
    }

    fn run(&mut self, plan: Compiled, feeds: &[Feed], scalars: &Scalars) -> Result<()> {
        self.enter()?;
        self.feed(plan, feeds, scalars)?;
        let replayed = self.stream.replay(&self.plans[plan.0].graph);
        self.done("replay a plan", replayed)
    }

    fn read_words(&mut self, plan: Compiled, output: usize, into: &mut [u32]) -> Result<()> {
        self.enter()?;
        self.wait()?;
        let compiled = &self.plans[plan.0];
        let (name, operand) = &compiled.plan.outputs[output];
        let len = operand.meta.shape.len();
        if into.len() != len {
            return Err(Error::Failed(format!("output {name} has {len} elements, asked for {}", into.len())));
        }
        match operand.buffer {
            Buffer::Slot(s) => compiled.slots[s as usize].read(into),
            Buffer::Input(i) => compiled.inputs[i.0 as usize].read(into),
            Buffer::Param(p) => self.params[&p].read(into),
            Buffer::Scalar(s) => {
                let mut all = [0; Scalar::ALL.len()];
                compiled.scalars.read(&mut all)?;
                into.copy_from_slice(&all[s as usize..][..len]);
                Ok(())
            }
        }
    }

    fn profile(&mut self, plan: Compiled, feeds: &[Feed], scalars: &Scalars) -> Result<Vec<StepTime>> {
        self.enter()?;
        self.feed(plan, feeds, scalars)?;
        let count = self.plans[plan.0].groups.len();
        let events = (0..=count).map(|_| Event::new()).collect::<Result<Vec<_>>>()?;
        let recorded = self.stream.record(&events[0]);
        self.done("record an event", recorded)?;
        for (i, event) in events.iter().skip(1).enumerate() {
            enqueue(&self.stream, &self.plans[plan.0].groups[i])?;
            let recorded = self.stream.record(event);
            self.done("record an event", recorded)?;
        }
        self.wait()?;
        let mut times = vec![];
        let compiled = &self.plans[plan.0];
        for (group, pair) in compiled.groups.iter().zip(events.windows(2)) {
            let ms = pair[0].ms_to(&pair[1]).map_err(|e| failed("time a step", e))?;
            let steps = &compiled.plan.steps[times.len()..times.len() + group.steps];
            // Optimisers are bound by memory: their one launch is shared out by bytes.
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

    fn memory_bytes(&self) -> usize {
        let of = |p: &CompiledPlan| {
            let buffers = p.slots.iter().chain(&p.inputs).chain([&p.scalars]).chain(&p.others);
            buffers.map(Memory::words).sum::<usize>()
        };
        let params: usize = self.params.values().map(Memory::words).sum();
        4 * (params + self.plans.iter().map(of).sum::<usize>())
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // Nothing is freed under a running kernel. What fails here has been reported or concerns nobody.
        let _ = self.device.enter();
        let _ = self.stream.wait();
    }
}

/// The table of updates as `optim.cu` reads it: seven addresses, length, first piece.
fn updates_words(updates: &[optim::Update], places: &Places) -> Vec<u32> {
    let mut words = vec![];
    for update in updates {
        for ptr in update.pointers {
            let address = places.resolve(ptr, 0);
            words.extend([address as u32, (address >> 32) as u32]);
        }
        words.extend([update.len, update.first_piece]);
    }
    words
}
