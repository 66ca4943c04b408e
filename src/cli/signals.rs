//! Signals while a model trains. The first one stops the training after the current step, which is saved. A
//! second one ends the process at once. Either way the exit code is 128 plus the number of the signal, as a
//! shell expects it, so that a loop over several trainings ends too.
//!
//! Commands that save nothing on their way have no handler: a signal ends them at once, with the same code.

use super::output;
use crate::error::{Error, Result};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// The number of the first signal that has arrived; 0 if none has.
static ARRIVED: AtomicI32 = AtomicI32::new(0);

/// Whether a signal has asked this process to end.
pub(super) fn has_arrived() -> bool {
    ARRIVED.load(Ordering::Relaxed) != 0
}

/// The exit code of this process if a signal has asked it to end: 129 for SIGHUP, 130 for SIGINT, 143 for
/// SIGTERM.
pub(super) fn exit_code() -> Option<i32> {
    has_arrived().then(|| code_of(ARRIVED.load(Ordering::Relaxed)))
}

/// The exit code after a signal.
fn code_of(signal: i32) -> i32 {
    128 + signal
}

/// A flag that the first signal sets. A signal that finds the flag set ends the process at once.
pub(super) fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = stop.clone();
    let handle = move |signal| {
        if raised.swap(true, Ordering::Relaxed) {
            end_at_once(code_of(signal));
        }
        ARRIVED.store(signal, Ordering::Relaxed);
        output::note("stopping after this step; a second signal stops at once, without a checkpoint");
    };
    listen(handle).map_err(|error| {
        Error::Failed(format!("the handlers of signals could not be installed ({error}); try again")).because(error)
    })?;
    Ok(stop)
}

/// Calls `handle` on a thread of its own for each signal that asks the process to end. A signal that is
/// ignored when the process starts stays ignored: `nohup` ignores SIGHUP so that the process outlives its
/// terminal.
#[cfg(unix)]
fn listen(handle: impl FnMut(i32) + Send + 'static) -> io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let heard = [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|signal| !is_ignored(*signal));
    let mut signals = signal_hook::iterator::Signals::new(heard)?;
    std::thread::Builder::new().name("signals".into()).spawn(move || signals.forever().for_each(handle))?;
    Ok(())
}

#[cfg(not(unix))]
fn listen(mut handle: impl FnMut(i32) + Send + 'static) -> io::Result<()> {
    const INTERRUPT: i32 = 2;
    ctrlc::set_handler(move || handle(INTERRUPT)).map_err(io::Error::other)
}

/// Whether the process ignores a signal.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action (the null pointer) the call changes nothing. It writes the present action
    // to `action`, which is valid memory of that type.
    let status = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: the call has succeeded if the status is 0, and has then initialised `action`.
    status == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

/// Ends the process without waiting for anything, not even for other threads that print.
fn end_at_once(code: i32) -> ! {
    #[cfg(unix)]
    signal_hook::low_level::exit(code);
    #[cfg(not(unix))]
    std::process::exit(code);
}
