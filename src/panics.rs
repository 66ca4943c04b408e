//! Panics of libraries that this crate turns into errors.
//!
//! A panic is a bug, so the command line ends the process if any thread panics. Its panic hook must ignore
//! the panics that [`catch`] turns into errors, and calls [`is_caught`] to find out.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

thread_local! {
    /// Number of calls of [`catch`] that are active on this thread.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Calls `body` and returns its result, or the payload if it panics. After a panic the changes that `body`
/// makes may be incomplete.
pub fn catch<T>(body: impl FnOnce() -> T) -> thread::Result<T> {
    DEPTH.set(DEPTH.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(body));
    DEPTH.set(DEPTH.get() - 1);
    result
}

/// Whether [`catch`] catches a panic on this thread. A panic hook can call this, because it runs before the
/// stack is unwound.
pub fn is_caught() -> bool {
    DEPTH.get() > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_caught_on_the_thread_that_asked_for_it_alone() {
        let inside = catch(|| (is_caught(), thread::spawn(is_caught).join().unwrap())).unwrap();
        assert_eq!(inside, (true, false));
        assert!(catch(|| panic!("expected by this test")).is_err() && !is_caught());
    }
}
