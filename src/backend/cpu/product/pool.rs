//! What the products need of the thread pool and of scratch memory.

use rayon::prelude::*;

/// Floats in a cache line.
pub(super) const LINE: usize = 16;

/// A pointer to memory that tasks of one call share: they write disjoint parts of it.
#[derive(Clone, Copy)]
pub(super) struct Shared(pub(super) *mut f32);

// SAFETY: whoever dereferences it vouches for the part touched (see the uses).
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// `offset` floats further.
    ///
    /// # Safety
    /// Within the memory pointed to.
    pub(super) unsafe fn add(self, offset: usize) -> *mut f32 {
        // SAFETY: passed on.
        unsafe { self.0.add(offset) }
    }
}

/// Runs `task(0..count)`, in parallel where that can help.
pub(super) fn parallel(count: usize, task: impl Fn(usize) + Sync + Send) {
    if count <= 1 || rayon::current_num_threads() == 1 {
        (0..count).for_each(task);
    } else {
        (0..count).into_par_iter().with_max_len(1).for_each(task);
    }
}

/// Index of this thread in the pool: no two tasks that run at once have the same.
pub(super) fn thread() -> usize {
    rayon::current_thread_index().unwrap_or(0)
}

/// `scratch` from its first cache line boundary on, checked to hold `len` more floats.
///
/// # Panics
/// If it does not.
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
