//! Helpers of the products for parallel tasks and for scratch memory.

use crate::backend::cpu::team;
use rayon::prelude::*;

/// Floats in a cache line.
pub(super) const LINE: usize = 16;

/// A pointer to memory that the tasks of one call share. They write disjoint parts of it.
#[derive(Clone, Copy)]
pub(super) struct Shared(pub(super) *mut f32);

// SAFETY: `Shared` only holds an address. Whoever dereferences the pointer does so in an `unsafe` block,
// which says why no other task accesses the same part.
unsafe impl Send for Shared {}
// SAFETY: `Shared` only holds an address. Whoever dereferences the pointer does so in an `unsafe` block,
// which says why no other task accesses the same part.
unsafe impl Sync for Shared {}

impl Shared {
    /// The pointer advanced by `offset` floats.
    ///
    /// # Safety
    /// The result is inside the allocation that the pointer leads to, or one past its end.
    pub(super) unsafe fn add(self, offset: usize) -> *mut f32 {
        // SAFETY: by the contract of this function, the result is inside the allocation or one past its end.
        unsafe { self.0.add(offset) }
    }
}

/// Runs `task` for each index below `count`, in parallel if there are several tasks and threads.
pub(super) fn parallel(count: usize, task: impl Fn(usize) + Sync + Send) {
    if count <= 1 || team::threads() == 1 {
        (0..count).for_each(task);
    } else {
        (0..count).into_par_iter().with_max_len(1).for_each(task);
    }
}

/// The address of the first cache line boundary in `scratch`. At least `len` floats of `scratch` follow it.
///
/// # Panics
/// Panics if `scratch` is too short.
#[track_caller]
pub(super) fn aligned(scratch: &mut [f32], len: usize) -> Shared {
    let skip = (scratch.as_ptr().align_offset(LINE * size_of::<f32>())).min(LINE);
    assert!(
        scratch.len() >= len + skip,
        "scratch of {} floats is too small: ask scratch_len() with this pool's number of threads",
        scratch.len()
    );
    Shared(scratch[skip..].as_mut_ptr())
}
