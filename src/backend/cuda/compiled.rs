//! A compiled plan: its buffers, its work with all addresses resolved, and the graph that was captured from
//! the work.

use super::driver::{Address, Event, Function, Graph, LaunchShape, Memory, Pinned, Stream};
use super::failure::failed;
use super::lowering::Update;
use super::places::{Params, Places};
use super::sample::Sampling;
use crate::error::Result;
use crate::tape::op::ParamId;
use crate::tape::plan::{Plan, Step};
use std::collections::HashMap;

/// A plan with its buffers and its work.
pub struct CompiledPlan {
    pub(super) graph: Graph,
    pub(super) plan: Plan,
    pub(super) groups: Vec<Group>,
    pub(super) slots: Vec<Memory>,
    pub(super) inputs: Vec<Memory>,
    pub(super) scalars: Memory,
    pub(super) scratch: Memory,
    /// Tables of updates, one per launch of an optimiser.
    pub(super) tables: Vec<Memory>,
    pub(super) uploads: Uploads,
    /// Present if the plan is sampled by windows.
    pub(super) sampling: Option<Sampling>,
}

impl CompiledPlan {
    pub(super) fn places<'a>(&'a self, params: &'a HashMap<ParamId, Memory>) -> Places<'a> {
        let CompiledPlan { slots, inputs, scalars, scratch, .. } = self;
        Places { slots, inputs, params, scalars, scratch }
    }
}

/// Consecutive steps that are enqueued together: a single step, or several optimiser steps.
pub(super) struct Group {
    pub(super) steps: usize,
    pub(super) work: Vec<Ready>,
}

/// A piece of work with all addresses resolved.
pub(super) enum Ready {
    Kernel { function: Function, shape: LaunchShape, params: Params },
    Copy { to: Address, from: Address, words: usize },
    Poison { at: Address, words: usize },
}

/// Two halves of pinned memory: the host fills one while the card reads the other.
pub(super) struct Uploads {
    pub(super) halves: [(Pinned, Event); 2],
    pub(super) turn: usize,
}

/// Enqueues the work of a group.
pub(super) fn enqueue(stream: &Stream, group: &Group) -> Result<()> {
    for ready in &group.work {
        // SAFETY: `CudaEngine::prepare` resolved every address to memory that the plan or the engine keeps
        // until the stream is done (`CudaEngine::release` and its `drop` wait). This memory is at least as
        // long as the operand: `Plan::check` compares operands with slots, inputs and parameters, `prepare`
        // made slots and inputs that long, and `Gate::check_params` compares the lengths of the parameters.
        // `launch` gave the kernel its parameters in number, size and order.
        let enqueued = unsafe {
            match ready {
                Ready::Kernel { function, shape, params } => stream.launch(function, *shape, &mut params.pointers()),
                Ready::Copy { to, from, words } => stream.copy(*to, *from, *words),
                Ready::Poison { at, words } => stream.poison(*at, *words),
            }
        };
        enqueued.map_err(|e| failed("enqueue a kernel", e))?;
    }
    Ok(())
}

/// The work that fills the outputs of some steps with NaN, except outputs that replace an input, and the
/// scratch.
pub(super) fn poison(steps: &[Step], places: &Places) -> Vec<Ready> {
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

/// The table of updates as `optim.cu` reads it. A row has seven addresses, the length, and the number of the
/// first piece.
pub(super) fn updates_words(updates: &[Update], places: &Places) -> Vec<u32> {
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
