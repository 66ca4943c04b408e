//! Replays a divided plan, stage by stage.

use super::access::Access;
use super::product::Arithmetic;
use super::{CompiledPlan, CpuEngine, launch, stretch};
use crate::error::Result;
use crate::shape::DType;
use crate::tape::divide::Stage;
use crate::tape::plan::Step;

/// What an output of a step got: all of it, or the part of some images.
pub(super) struct Written<'a> {
    /// Index of the step in the plan.
    pub(super) index: usize,
    /// Index of the output.
    pub(super) output: usize,
    /// Index of the first of these elements in the output.
    pub(super) first: usize,
    /// The elements.
    pub(super) values: &'a [f32],
}

/// Watches a replay. Threads call it at the same time.
pub(super) trait Visitor: Sync {
    /// Whether [`Visitor::wrote`] is called.
    const LOOKS: bool;

    /// This thread begins to run steps.
    fn start(&self) {}

    /// This thread has run a step of the plan, or its part of one on which `team` threads work.
    fn ran(&self, _index: usize, _team: usize) {}

    /// An output of floats has been written, or the part of some images.
    ///
    /// # Errors
    /// An error ends the replay.
    fn wrote(&self, _written: &Written) -> Result<()> {
        Ok(())
    }
}

/// Watches nothing.
pub(super) struct Unwatched;

impl Visitor for Unwatched {
    const LOOKS: bool = false;
}

impl CpuEngine {
    /// Runs all stages. Without a visitor that allocates, nothing is allocated.
    pub(super) fn execute<V: Visitor>(&mut self, compiled: &mut CompiledPlan, visitor: &V) -> Result<()> {
        let poison = self.options.poison;
        let by = Arithmetic { isa: self.isa, precision: compiled.plan.precision };
        let memory = stretch::Memory::new(compiled);
        let compiled = &*compiled;
        // All steps run inside the pool, so that parallel iterators neither enter the pool again nor
        // allocate.
        self.pool.install(|| {
            visitor.start();
            let mut stretches = 0;
            for stage in &compiled.divided.stages {
                match stage {
                    Stage::Whole { index, step } => {
                        // SAFETY: no operand is longer than its slot, input or parameter, and no output of a
                        // step is also an input, except the state that an optimiser replaces in place, which
                        // `launch` borrows only as an output (`Plan::check`, called by `Gate::compile`, and
                        // `Divided::check`, called by `allocate`). `allocate` made slots and inputs as long
                        // as the divided plan says, and the scratch as long as the longest request.
                        // Parameters have the length that the plan declares (`Gate::check_params`;
                        // `Gate::write_param` keeps it). The buffers belong to the engine and the compiled
                        // plan, and never move. Both are held by `&mut`, so nothing else accesses them.
                        let access =
                            unsafe { Access::new(step, &compiled.places, memory.scratch(), compiled.scratch.len()) };
                        if poison {
                            access.poison();
                        }
                        launch::launch(step, by, &access);
                        visitor.ran(*index, 1);
                        look(visitor, *index, step, &access)?;
                    }
                    Stage::Stretch(stretch) => {
                        let (memory, places) = (&memory, &compiled.places);
                        let packs = &compiled.packs[stretches];
                        let run = stretch::Run { stretch, number: stretches, memory, packs, places, by, poison };
                        // SAFETY: lengths and access are as for the steps above. `allocate` made the memory
                        // of the stretches for the threads of this pool.
                        unsafe { run.all(visitor)? };
                        stretches += 1;
                    }
                }
            }
            Ok(())
        })
    }
}

/// Shows the outputs of a step on the whole batch.
fn look<V: Visitor>(visitor: &V, index: usize, step: &Step, access: &Access) -> Result<()> {
    if V::LOOKS {
        for (output, _) in step.outputs.iter().enumerate().filter(|(_, o)| o.meta.dtype == DType::F32) {
            visitor.wrote(&Written { index, output, first: 0, values: access.output(output) })?;
        }
    }
    Ok(())
}
