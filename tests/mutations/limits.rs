//! Memory and time of one input. An allocator counts the memory of each thread, because the tests of several
//! parsers run at the same time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::thread::Result;
use std::time::{Duration, Instant};

thread_local! {
    /// Bytes that this thread has allocated and not freed. Less than 0 if it frees what others allocated.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    /// The largest value of `LIVE` since the last measurement began.
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn count(change: isize) {
    // At the end of a thread the counters are gone. Nothing is measured then.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: each method passes its arguments to `System`, which fulfils the contract of `GlobalAlloc`, and
// returns its result. Counting neither allocates nor unwinds: the counters need no initialisation and no
// destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller passes a layout of non-zero size, as `System.alloc` requires.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller passes a layout of non-zero size, as `System.alloc_zeroed` requires.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller passes a block that this allocator, thus `System`, returned for this layout,
        // and a size that is not zero and does not overflow when it is rounded up.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller passes a block that this allocator, thus `System`, returned for this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// A result with the memory at the peak, in bytes above that before, and the time.
pub struct Measured<T> {
    pub value: T,
    pub peak: usize,
    pub time: Duration,
}

impl<T> Measured<Result<T>> {
    /// The error instead of the measurement, if the result is one.
    pub fn transpose(self) -> Result<Measured<T>> {
        let Measured { value, peak, time } = self;
        value.map(|value| Measured { value, peak, time })
    }
}

/// Runs `work` and measures it.
pub fn measure<T>(work: impl FnOnce() -> T) -> Measured<T> {
    let before = LIVE.get();
    PEAK.set(before);
    let start = Instant::now();
    let value = work();
    Measured { value, time: start.elapsed(), peak: (PEAK.get() - before).max(0) as usize }
}

/// Limits the whole process to 4 GiB of addresses. The decoder of xz allocates in C, which is not counted
/// above.
pub fn limit_the_process() {
    #[cfg(target_os = "linux")]
    {
        let limit = libc::rlimit { rlim_cur: 4 << 30, rlim_max: 4 << 30 };
        // SAFETY: `limit` is a valid value of the type that the call reads.
        let code = unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) };
        assert_eq!(code, 0, "the limit of memory could not be set");
    }
}
