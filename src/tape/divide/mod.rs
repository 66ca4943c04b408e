//! Depth-first plans: a few images go through many steps before the next images begin, so that what one
//! step writes is still in the cache when the next step reads it.
//!
//! [`Divided::new`] finds the steps that compute each image independently (`rules.rs`), orders them into
//! *stretches* that no other step has to interrupt (`schedule.rs`), and gives every value a place
//! (`lower.rs`). `check/divided.rs` verifies the result, `print.rs` prints it. A backend that does not
//! divide plans runs the steps of the [`Plan`] one after another.
//!
//! The images of a stretch are cut in three ways:
//!
//! - *Groups*, at most 16, have equal numbers of images. Sums over the batch, such as the
//!   gradients of weights, are added up for each group, and then over the groups in their order. A thread
//!   takes whole groups, so threads never wait for each other within a stretch.
//! - *Units* are equal parts of a group. One call of a kernel computes the share of a unit in a sum. A group
//!   adds the shares of its units in their order.
//! - *Micro-batches* are whole units. A thread takes the images of a micro-batch through all steps of the
//!   stretch before it begins the next micro-batch. Values that only the stretch reads have room for one
//!   micro-batch per thread.
//!
//! Groups and units depend on the geometry of the plan alone. So neither the number of threads nor the size
//! of a micro-batch changes a bit of a result.

mod flow;
mod lower;
mod print;
mod rules;
mod schedule;

pub(super) use flow::{Flow, Value};
pub(super) use rules::{Rule, Share, resized, rule};

use super::plan::{Buffer, Operand, Plan, Slot, Step};

/// Most groups of images. More threads than this have nothing to do in a stretch.
const MOST_GROUPS: usize = 16;

/// Fewest rows over which one call of a kernel sums, because it reads and writes the whole sum.
const UNIT_ROWS: usize = 96;

/// What decides whether and how a plan is divided.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Most bytes of the values of a micro-batch, unless a single unit takes more. No result depends on it.
    pub microbatch_bytes: usize,
    /// Most groups of images. The order of sums over the batch depends on it.
    pub most_groups: usize,
    /// Whether plans are divided wherever that is possible, even if it does not pay. Tests use it.
    pub always: bool,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy { microbatch_bytes: 3 << 19, most_groups: MOST_GROUPS, always: false }
    }
}

/// A plan whose steps are ordered into stages. The stages compute what the plan computes, except that sums
/// over images are formed in another order.
#[derive(Clone, Debug)]
pub struct Divided {
    /// Buffers for the whole batch.
    pub(crate) slots: Vec<Slot>,
    /// The readable values of the plan, in its order.
    pub(crate) outputs: Vec<Operand>,
    /// The stages in the order in which they run.
    pub(crate) stages: Vec<Stage>,
}

/// A part of a divided plan.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// A step on the whole batch.
    Whole {
        /// Index of the step in the plan.
        index: usize,
        /// The step, on the slots of the divided plan.
        step: Step,
    },
    /// Steps on a few images at a time.
    Stretch(Stretch),
}

/// Steps that are replayed for a few images at a time.
#[derive(Clone, Debug)]
pub(crate) struct Stretch {
    /// Images of the batch.
    pub(crate) images: usize,
    /// Groups of images, a divisor of `images`.
    pub(crate) groups: usize,
    /// Images of a unit, a divisor of the images of a group.
    pub(crate) unit: usize,
    /// Images of a micro-batch: a multiple of `unit` and a divisor of the images of a group.
    pub(crate) microbatch: usize,
    /// Every value that a piece reads or writes, as a micro-batch or a unit sees it.
    pub(crate) views: Vec<View>,
    /// The steps.
    pub(crate) pieces: Vec<Piece>,
    /// The sums over the batch.
    pub(crate) sums: Vec<BatchSum>,
    /// Words of the values of a micro-batch that only the stretch reads, per thread.
    pub(crate) local_len: usize,
    /// Words of the sums of a group.
    pub(crate) sums_len: usize,
    /// Words of the shares that the piece with the most sums computes for a unit, per thread.
    pub(crate) shares_len: usize,
}

impl Stretch {
    /// Images of a group.
    pub(crate) fn group(&self) -> usize {
        self.images / self.groups
    }
}

/// A step of a stretch.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// Index of the step in the plan.
    pub(crate) index: usize,
    /// The step with the shapes of a micro-batch, or of a unit. `Buffer::Slot(v)` is view `v` of the
    /// stretch; the step has no other buffers.
    pub(crate) step: Step,
    /// Whether the step runs for one unit after another, because it sums over images.
    pub(crate) by_unit: bool,
}

/// A value as a micro-batch or a unit sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct View {
    pub(crate) home: Home,
    /// Words from one image to the next; 0 if all images see the same words.
    pub(crate) stride: usize,
}

/// Where a value of a stretch is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Home {
    /// In a buffer for the whole batch.
    Plan(Buffer),
    /// At this word of the thread's values of a micro-batch.
    Local(usize),
    /// In a sum over the batch, by its index.
    Sum(usize),
}

/// A sum over the images of the batch. The first unit of a group writes its share to the sums of the group;
/// the shares of the other units are added to it. After the last group, the sums of the groups are added in
/// order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchSum {
    /// The output of the plan's step that it is.
    pub(crate) value: Value,
    /// Its elements.
    pub(crate) len: usize,
    /// Its first word among the sums of a group.
    pub(crate) at: usize,
    /// The first word of a unit's share among the shares of the piece.
    pub(crate) share_at: usize,
    /// The buffer of the result.
    pub(crate) into: Buffer,
}

impl Divided {
    /// Every step on the whole batch, in the order of the plan.
    pub fn undivided(plan: &Plan) -> Divided {
        let steps = plan.steps.iter().cloned().enumerate();
        Divided {
            slots: plan.slots.clone(),
            outputs: plan.outputs.iter().map(|(_, operand)| *operand).collect(),
            stages: steps.map(|(index, step)| Stage::Whole { index, step }).collect(),
        }
    }

    /// The stretches in the order in which they run.
    pub(crate) fn stretches(&self) -> impl Iterator<Item = &Stretch> {
        self.stages.iter().filter_map(|stage| match stage {
            Stage::Stretch(stretch) => Some(stretch),
            Stage::Whole { .. } => None,
        })
    }

    /// Number of groups that are computed at the same time with this many threads.
    pub(crate) fn seats(&self, threads: usize) -> usize {
        self.stretches().map(|stretch| stretch.groups).max().unwrap_or(0).min(threads)
    }

    /// Bytes of the slots, the sums of all groups, and the values of a micro-batch on each of `threads`
    /// threads.
    pub fn bytes(&self, threads: usize) -> usize {
        let slots: usize = self.slots.iter().map(|slot| slot.len).sum();
        let sums = self.stretches().map(|s| s.groups * s.sums_len).max().unwrap_or(0);
        4 * (slots + sums + self.seats(threads) * self.seat_len())
    }

    /// Words that each seat needs for the values of a micro-batch and for shares in sums.
    pub(crate) fn seat_len(&self) -> usize {
        self.stretches().map(|s| s.local_len + s.shares_len).max().unwrap_or(0)
    }
}
