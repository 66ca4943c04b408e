//! Panics of libraries that this crate turns into errors.
//!
//! The command line ends the process at a panic, on whatever thread it happens, because it is a bug. Its
//! hook has to leave out the panics that [`catch`] is about to turn into an error, and asks [`is_caught`].

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

thread_local! {
    /// How many calls of [`catch`] this thread is in.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Calls `body` and gives the payload if it panics. What `body` changes may be left half done.
pub fn catch<T>(body: impl FnOnce() -> T) -> thread::Result<T> {
    DEPTH.set(DEPTH.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(body));
    DEPTH.set(DEPTH.get() - 1);
    result
}

/// Whether a panic on this thread is caught by [`catch`]: for a panic hook, which runs before anything is
/// unwound.
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
