//! Who works on a kernel: all threads of the pool together, or the calling thread alone.
//!
//! A kernel asks [`threads`] how to divide its work and [`thread`] which of the buffers per thread to use.
//! Within [`alone`] it is a team of one. It then starts no parallel work, so its thread never takes up
//! another task of the pool while it waits.

use std::cell::Cell;

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Number of threads that work on the kernel.
pub(super) fn threads() -> usize {
    if ALONE.get() { 1 } else { rayon::current_num_threads() }
}

/// Index of this thread in the team. Two tasks that run at the same time never have the same index.
pub(super) fn thread() -> usize {
    if ALONE.get() { 0 } else { rayon::current_thread_index().unwrap_or(0) }
}

/// Runs kernels on the calling thread alone.
pub(super) fn alone<T>(work: impl FnOnce() -> T) -> T {
    /// Ends the work alone also if a kernel panics.
    struct End(bool);
    impl Drop for End {
        fn drop(&mut self) {
            ALONE.set(self.0);
        }
    }
    let _end = End(ALONE.replace(true));
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_team_of_one_ends_with_its_work() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        pool.install(|| {
            assert_eq!(threads(), 3);
            assert_eq!(alone(|| (threads(), thread(), alone(threads), threads())), (1, 0, 1, 1));
            let panicked = std::panic::catch_unwind(|| alone(|| panic!("a kernel")));
            assert!(panicked.is_err());
            assert_eq!(threads(), 3);
        });
    }
}
