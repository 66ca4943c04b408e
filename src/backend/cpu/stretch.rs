//! Replays a stretch of a divided plan: a thread takes a micro-batch of images through all steps.
//!
//! A task is a group of images. Its thread runs the kernels alone (`team.rs`). It has a *seat*: values of a
//! micro-batch and scratch that no other task uses at the same time. Before each micro-batch it computes the
//! address of every view. Bound by the kernels; the values of a micro-batch stay in the L2 cache if they
//! fit.

use super::access::{Access, Places};
use super::product::Arithmetic;
use super::replay::{Visitor, Written};
use super::vector::{CHUNK, spread, vectorized};
use super::{CompiledPlan, launch, team};
use crate::error::Result;
use crate::shape::DType;
use crate::tape::divide::{Divided, Home, Piece, Stretch, View};
use crate::tape::plan::{Buffer, Operand, Precision};
use rayon::prelude::*;
use std::ops::Range;

/// The addresses of the views of a stretch, for one seat.
pub(super) struct Views {
    /// As a micro-batch sees them.
    microbatch: Places,
    /// As a unit sees them. Only the views of the piece that runs are up to date.
    unit: Places,
}

impl Views {
    /// Views for each stretch of a plan. They lead nowhere before [`Run::all`] sets them.
    pub(super) fn of(divided: &Divided) -> Vec<Views> {
        let nowhere = |stretch: &Stretch| Places {
            slots: vec![std::ptr::null_mut(); stretch.views.len()],
            inputs: vec![],
            params: vec![],
            scalars: std::ptr::null_mut(),
        };
        divided.stretches().map(|stretch| Views { microbatch: nowhere(stretch), unit: nowhere(stretch) }).collect()
    }
}

/// Words of scratch that a seat has for the pieces of a plan.
pub(super) fn scratch_len(divided: &Divided, precision: Precision) -> usize {
    let pieces = divided.stretches().flat_map(|stretch| &stretch.pieces);
    pieces.map(|piece| launch::scratch_len(&piece.step, precision, 1)).max().unwrap_or(0).next_multiple_of(LINE)
}

/// Where the packed weights of each piece are, by stretch and piece. Empty for a piece without weights.
pub(super) type Packs = Vec<Vec<Range<usize>>>;

/// Places for the packed weights of all pieces. The stretches use the same memory one after another.
pub(super) fn packs(divided: &Divided, precision: Precision) -> Packs {
    let of_stretch = |stretch: &Stretch| {
        let mut end = 0;
        let of_piece = |piece: &Piece| {
            let start = end;
            end += launch::packing(&piece.step, precision)
                .map_or(0, |packing| packing.packed_len().next_multiple_of(LINE));
            start..end
        };
        stretch.pieces.iter().map(of_piece).collect()
    };
    divided.stretches().map(of_stretch).collect()
}

/// Words of a cache line.
pub(super) const LINE: usize = 16;

/// The memory of a compiled plan that its stretches use.
pub(super) struct Memory {
    /// By seat, then by stretch.
    views: *mut Vec<Views>,
    /// For each seat, the values of a micro-batch and the shares of a unit in sums.
    locals: *mut u32,
    locals_len: usize,
    /// For each seat.
    scratch: *mut u32,
    scratch_len: usize,
    /// The sums of all groups of one stretch.
    sums: *mut f32,
    /// The packed weights of one stretch.
    packed: *mut f32,
}

// SAFETY: `Memory` only holds addresses. Whoever dereferences them says in an `unsafe` block why no other
// thread accesses the same words.
unsafe impl Sync for Memory {}

impl Memory {
    /// The memory of a compiled plan, as `CpuEngine::allocate` made it.
    pub(super) fn new(compiled: &mut CompiledPlan) -> Memory {
        Memory {
            views: compiled.views.as_mut_ptr(),
            locals: compiled.locals.as_ptr(),
            locals_len: compiled.divided.seat_len(),
            scratch: compiled.scratch.as_ptr(),
            scratch_len: scratch_len(&compiled.divided, compiled.plan.precision),
            sums: compiled.sums.as_ptr().cast(),
            packed: compiled.packed.as_ptr().cast(),
        }
    }

    /// The scratch of all seats together.
    pub(super) fn scratch(&self) -> *mut u32 {
        self.scratch
    }
}

/// A stretch with its memory.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) stretch: &'a Stretch,
    /// Which of the plan's stretches it is.
    pub(super) number: usize,
    pub(super) memory: &'a Memory,
    /// Where the packed weights of each piece are.
    pub(super) packs: &'a [Range<usize>],
    /// The buffers for the whole batch.
    pub(super) places: &'a Places,
    pub(super) by: Arithmetic,
    /// Whether outputs are filled with NaN before each step.
    pub(super) poison: bool,
}

impl Run<'_> {
    /// Runs the stretch for all images, and adds up its sums.
    ///
    /// # Safety
    /// `Divided::check` passes for the plan of the stretch. `memory` and `places` are those of this plan:
    /// slots, inputs and parameters are as long as the plan says, and `memory` has room for the values of a
    /// micro-batch, shares, scratch and views of every seat (`Divided::seats` with the threads of the pool
    /// that calls this), and for the sums of all groups. Nothing else accesses them during the call.
    pub(super) unsafe fn all<V: Visitor>(self, visitor: &V) -> Result<()> {
        (0..self.stretch.pieces.len()).into_par_iter().with_max_len(1).for_each(|piece| {
            // SAFETY: the contract of `all`. Every piece has a place of its own for its weights.
            team::alone(|| unsafe { self.pack(piece, visitor) });
        });
        let groups = (0..self.stretch.groups).into_par_iter().with_max_len(1);
        groups.try_for_each(|group| {
            let (thread, threads) = (team::thread(), team::threads());
            let seat = if threads <= self.stretch.groups { thread } else { group };
            // SAFETY: no other task has this seat. If it is the number of the thread, this is the only task
            // on the thread until it ends, because kernels in a team of one start no parallel work;
            // otherwise only one task has this group. The rest is the contract of `all`.
            team::alone(|| unsafe { self.group(group, seat, visitor) })
        })?;
        visitor.start();
        for sum in &self.stretch.sums {
            // SAFETY: the buffer of the result is a slot that is as long as the sum and that no piece reads
            // or writes (`Divided::check`), and the groups have ended.
            let into = unsafe { std::slice::from_raw_parts_mut(self.places.of(sum.into).cast::<f32>(), sum.len) };
            // SAFETY: there are `groups` times `sums_len` words of sums (contract of `all`). All groups have
            // written them and have ended.
            let sums =
                unsafe { std::slice::from_raw_parts(self.memory.sums, self.stretch.groups * self.stretch.sums_len) };
            let (isa, len) = (self.by.isa, self.stretch.sums_len);
            spread(into.par_chunks_mut(CHUNK).enumerate(), sum.len * self.stretch.groups)
                .for_each(|(i, into)| add_groups(isa, sums, len, sum.at + i * CHUNK, into));
            visitor.ran(sum.value.step, 1);
            if V::LOOKS {
                let (index, output) = (sum.value.step, sum.value.output);
                visitor.wrote(&Written { index, output, first: 0, values: into })?;
            }
        }
        Ok(())
    }

    /// Packs the weights of a piece once for all groups.
    ///
    /// # Safety
    /// As for [`Run::all`]. Nothing else accesses the packed weights of the piece.
    unsafe fn pack<V: Visitor>(self, piece: usize, visitor: &V) {
        let (place, piece) = (&self.packs[piece], &self.stretch.pieces[piece]);
        let Some(packing) = launch::packing(&piece.step, self.by.precision) else { return };
        visitor.start();
        let weights = &piece.step.inputs[1];
        let view = &self.stretch.views[view_of(weights).expect("an operand of a piece is a view")];
        let Home::Plan(buffer) = view.home else { unreachable!("all images see the same weights") };
        // SAFETY: all of the weights are in this buffer, which is long enough and which the stretch does not
        // write (`Divided::check`). There is room for the packed weights of all pieces of the stretch.
        let (w, packed) = unsafe {
            let w = std::slice::from_raw_parts(self.places.of(buffer).cast::<f32>(), weights.meta.shape.len());
            (w, std::slice::from_raw_parts_mut(self.memory.packed.add(place.start), place.len()))
        };
        packing.pack(self.by.isa, w, packed);
        visitor.ran(piece.index, self.stretch.pieces.len().min(rayon::current_num_threads()));
    }

    /// Runs the pieces for one group, micro-batch by micro-batch.
    ///
    /// # Safety
    /// As for [`Run::all`]. No other task has this seat.
    unsafe fn group<V: Visitor>(self, group: usize, seat: usize, visitor: &V) -> Result<()> {
        let Run { stretch, memory, .. } = self;
        // SAFETY: there are views for each seat and each stretch. No other task uses those of this seat.
        let views = unsafe { &mut (&mut *memory.views.add(seat))[self.number] };
        // SAFETY: both buffers have this many words for each seat.
        let (locals, scratch) =
            unsafe { (memory.locals.add(seat * memory.locals_len), memory.scratch.add(seat * memory.scratch_len)) };
        let at = At { group, locals, scratch };
        visitor.start();
        let images = group * stretch.group()..(group + 1) * stretch.group();
        for start in images.step_by(stretch.microbatch) {
            for (view, place) in stretch.views.iter().zip(&mut views.microbatch.slots) {
                *place = self.address(view, at, start, start, false);
            }
            for (piece, packed) in stretch.pieces.iter().zip(self.packs) {
                // SAFETY: the weights of all pieces are packed, and nothing writes them before the last
                // group ends.
                let packed = unsafe { std::slice::from_raw_parts(memory.packed.add(packed.start), packed.len()) };
                let packed = Some(packed).filter(|packed| !packed.is_empty());
                if piece.by_unit {
                    let can_add = launch::can_add(&piece.step.op);
                    for unit in (start..start + stretch.microbatch).step_by(stretch.unit) {
                        for view in piece.step.operands().filter_map(view_of) {
                            views.unit.slots[view] = self.address(&stretch.views[view], at, start, unit, can_add);
                        }
                        let adds = can_add && unit != group * stretch.group();
                        // SAFETY: as below. The share of a unit goes to the sum of its group, or to words
                        // of this seat.
                        unsafe { self.launch(piece, packed, &views.unit, at, (unit, adds), visitor)? };
                        if !can_add {
                            self.add_shares(piece, at, unit);
                        }
                    }
                } else {
                    // SAFETY: the addresses are those of this micro-batch, whose images no other task has.
                    unsafe { self.launch(piece, packed, &views.microbatch, at, (start, false), visitor)? };
                }
                visitor.ran(piece.index, stretch.groups.min(rayon::current_num_threads()));
            }
        }
        Ok(())
    }

    /// The address at which images from `first` on are seen, in the micro-batch that begins at `start`, by a
    /// kernel that adds to sums or does not.
    fn address(&self, view: &View, at: At, start: usize, first: usize, adds: bool) -> *mut u32 {
        let Run { stretch, memory, places, .. } = self;
        match view.home {
            Home::Plan(buffer) => places.of(buffer).wrapping_add(first * view.stride),
            Home::Local(local) => at.locals.wrapping_add(local + (first - start) * view.stride),
            Home::Sum(sum) if first == at.group * stretch.group() || adds => {
                memory.sums.wrapping_add(at.group * stretch.sums_len + stretch.sums[sum].at).cast()
            }
            Home::Sum(sum) => at.locals.wrapping_add(stretch.local_len + stretch.sums[sum].share_at),
        }
    }

    /// Runs a piece for the images from `first` on, whose kernel adds to sums or does not.
    ///
    /// # Safety
    /// As for [`Run::group`]. `places` has the addresses of the views of the piece for these images.
    unsafe fn launch<V: Visitor>(
        self,
        piece: &Piece,
        packed: Option<&[f32]>,
        places: &Places,
        at: At,
        (first, adds): (usize, bool),
        visitor: &V,
    ) -> Result<()> {
        // SAFETY: the operands of a piece are views, whose addresses the caller has computed for these
        // images. A part of a value of the batch is inside its buffer, a value of a micro-batch or a share
        // is inside the words of this seat, and no output of a piece is also an input (`Divided::check`).
        // Other groups have other images, so they write none of these words, and they write nothing that all
        // images read. The scratch is as long as the longest request of a piece for one thread, and only
        // this seat has it.
        let access = unsafe { Access::new(&piece.step, places, at.scratch, self.memory.scratch_len) };
        let access = access.with_weights(packed);
        let access = if adds { access.adding() } else { access };
        if self.poison {
            access.poison();
        }
        launch::launch(&piece.step, self.by, &access);
        if V::LOOKS {
            for (output, operand) in piece.step.outputs.iter().enumerate() {
                let view = self.stretch.views[view_of(operand).expect("an operand of a piece is a view")];
                if operand.meta.dtype == DType::F32 && !matches!(view.home, Home::Sum(_)) {
                    let (index, first) = (piece.index, first * view.stride);
                    visitor.wrote(&Written { index, output, first, values: access.output(output) })?;
                }
            }
        }
        Ok(())
    }

    /// Adds the shares of a unit to the sums of its group. The first unit of a group has written them there.
    fn add_shares(&self, piece: &Piece, at: At, unit: usize) {
        let Run { stretch, memory, .. } = self;
        if unit == at.group * stretch.group() {
            return;
        }
        for view in piece.step.outputs.iter().filter_map(view_of) {
            if let Home::Sum(sum) = stretch.views[view].home {
                let sum = &stretch.sums[sum];
                // SAFETY: the sums of a group and the shares of a seat are apart, and have room for all
                // sums of the piece (`Divided::check`). Only this task uses those of its group and its
                // seat. The kernel that wrote the share has ended.
                let (into, share) = unsafe {
                    let into = memory.sums.add(at.group * stretch.sums_len + sum.at);
                    let share = at.locals.add(stretch.local_len + sum.share_at).cast::<f32>();
                    (std::slice::from_raw_parts_mut(into, sum.len), std::slice::from_raw_parts(share, sum.len))
                };
                add(self.by.isa, share, into);
            }
        }
    }
}

/// The group and the seat of a task.
#[derive(Clone, Copy)]
struct At {
    group: usize,
    /// The seat's values of a micro-batch, followed by its shares.
    locals: *mut u32,
    scratch: *mut u32,
}

/// The view that an operand of a piece is.
fn view_of(operand: &Operand) -> Option<usize> {
    if let Buffer::Slot(view) = operand.buffer { Some(view as usize) } else { None }
}

vectorized! {
    /// `y += x`
    fn add(x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }
}

vectorized! {
    /// `y = sum over groups of sums[group * len + at ..]`, in the order of the groups.
    fn add_groups(sums: &[f32], len: usize, at: usize, y: &mut [f32]) {
        y.copy_from_slice(&sums[at..at + y.len()]);
        for group in 1..sums.len() / len {
            let sums = &sums[group * len + at..][..y.len()];
            for (y, x) in y.iter_mut().zip(sums) {
                *y += x;
            }
        }
    }
}
