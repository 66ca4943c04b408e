//! The allocator of the program: the system's, except that the process ends with one sentence and exit code
//! 1 if memory runs out. The standard library would abort it and print a backtrace.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Cursor, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// The system's allocator, which never returns null.
pub struct EndsWithoutMemory;

// SAFETY: every method passes its arguments unchanged to `System`, which satisfies the contract of the trait
// for exactly these arguments, and returns what `System` returned, or does not return at all. So each block
// comes from `System` and goes back to it with the same layout. No method unwinds: `not_null` allocates
// nothing and calls nothing that panics.
unsafe impl GlobalAlloc for EndsWithoutMemory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller guarantees that the size of `layout` is not zero, which is all that `System`
        // needs.
        not_null(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller guarantees that the size of `layout` is not zero, which is all that `System`
        // needs.
        not_null(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller guarantees that `block` was allocated by this allocator, thus by `System`, with
        // `layout`, and that `size` is not zero and does not overflow when it is rounded up to the
        // alignment.
        not_null(unsafe { System.realloc(block, layout, size) }, size)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller guarantees that `block` was allocated by this allocator, thus by `System`, with
        // `layout`.
        unsafe { System.dealloc(block, layout) }
    }
}

/// The block, or the end of the process if there is none.
fn not_null(block: *mut u8, bytes: usize) -> *mut u8 {
    static ENDING: AtomicBool = AtomicBool::new(false);
    if !block.is_null() {
        return block;
    }
    // The first thread writes its sentence. Others that run out of memory meanwhile wait for the end.
    while ENDING.swap(true, Ordering::Relaxed) {
        std::hint::spin_loop();
    }
    let mut text = [0; 200];
    let mut cursor = Cursor::new(&mut text[..]);
    // The buffer is longer than the sentence, and nothing else can fail.
    let _ = writeln!(
        cursor,
        "error: memory ran out when {bytes} more bytes were needed; choose a smaller batch or model, or raise the limit \
         (ulimit -v)"
    );
    let length = cursor.position() as usize;
    // Neither the lock of `std::io::stderr` nor exit handlers are used: this thread may hold what they need.
    // SAFETY: `write` reads `length` bytes at the pointer, and both come from `text`, which outlives the
    // call.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), length) };
    // SAFETY: `_exit` has no preconditions; it ends the process without running any more of its code.
    unsafe { libc::_exit(1) }
}
