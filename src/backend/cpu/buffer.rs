//! Buffers of four-byte words, aligned to a cache line.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// The alignment in bytes: one cache line.
const ALIGNMENT: usize = 64;

/// A buffer of words that never moves once it is made.
///
/// Its allocation ends with its last word, and is not rounded up to whole cache lines as that of a `Vec` of
/// lines would be. So valgrind and AddressSanitizer notice a kernel that reads or writes past the end.
#[derive(Debug)]
pub struct WordBuffer {
    start: NonNull<u32>,
    len: usize,
}

// SAFETY: a `WordBuffer` owns its memory, as a `Vec<u32>` does, and a `u32` may be sent to another thread.
unsafe impl Send for WordBuffer {}
// SAFETY: a shared reference to a `WordBuffer` only allows to read its words, as for a `Vec<u32>`.
unsafe impl Sync for WordBuffer {}

impl WordBuffer {
    /// A buffer of `len` zero words.
    pub fn new(len: usize) -> Self {
        let layout = layout(len);
        // SAFETY: the size of `layout` is not zero.
        let start = unsafe { alloc(layout) }.cast::<u32>();
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        // SAFETY: `layout` has memory for `len` words at `start`, aligned to more than a word. It was
        // allocated just now, so nothing else accesses it. Words that are not initialised are allowed.
        let memory: &mut [MaybeUninit<u32>] = unsafe { std::slice::from_raw_parts_mut(start.as_ptr().cast(), len) };
        // This comes before the zeros are written, because the system chooses the size of a page at the
        // first write to it.
        advise_huge_pages(memory);
        memory.fill(MaybeUninit::new(0));
        WordBuffer { start, len }
    }

    /// Number of words.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The words.
    pub fn words(&self) -> &[u32] {
        // SAFETY: `new` has allocated and initialised `len` words at `start`. Only `drop` frees them, and
        // nothing writes them while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// The words, mutable.
    pub fn words_mut(&mut self) -> &mut [u32] {
        // SAFETY: `new` has allocated and initialised `len` words at `start`. Only `drop` frees them, and
        // nothing else accesses them while `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// The words as floats, mutable.
    pub fn floats_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(self.words_mut())
    }

    /// The address of the buffer. It is valid for reads and writes of `len` words as long as the buffer
    /// lives.
    pub fn as_ptr(&mut self) -> *mut u32 {
        self.start.as_ptr()
    }
}

impl Drop for WordBuffer {
    fn drop(&mut self) {
        // SAFETY: `new` has allocated `start` with this layout, and nothing frees it before.
        unsafe { dealloc(self.start.as_ptr().cast(), layout(self.len)) }
    }
}

/// The memory of a buffer. An empty buffer has one word, because memory of no size cannot be allocated.
fn layout(len: usize) -> Layout {
    let layout = Layout::array::<u32>(len.max(1)).and_then(|words| words.align_to(ALIGNMENT));
    layout.expect("a buffer is smaller than the address space")
}

/// Asks for pages of two mebibytes, on systems that give them only on request. Without them, a tensor whose
/// rows are 4 KiB apart needs one page table entry per row, and the hardware prefetcher stops at every page.
/// The result is the same if the system refuses.
#[cfg(target_os = "linux")]
fn advise_huge_pages(memory: &mut [MaybeUninit<u32>]) {
    const HUGE_PAGE: usize = 2 << 20;
    let start = memory.as_mut_ptr();
    let (skip, len) = (start.cast::<u8>().align_offset(HUGE_PAGE), size_of_val(memory));
    let whole = len.saturating_sub(skip) / HUGE_PAGE * HUGE_PAGE;
    if whole > 0 {
        // SAFETY: `skip + whole <= len`, so the range is inside the borrowed memory. It starts and ends at
        // multiples of the huge page, and so of the page, as the call requires. MADV_HUGEPAGE changes
        // neither contents nor access rights, whatever the call returns.
        unsafe { libc::madvise(start.byte_add(skip).cast(), whole, libc::MADV_HUGEPAGE) };
    }
}

/// Other systems choose the size of pages themselves.
#[cfg(not(target_os = "linux"))]
fn advise_huge_pages(_: &mut [MaybeUninit<u32>]) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_and_zero_and_ends_with_its_last_word() {
        for len in [0, 1, 15, 16, 17, 1 << 20] {
            let mut buffer = WordBuffer::new(len);
            assert_eq!(buffer.as_ptr() as usize % ALIGNMENT, 0);
            assert_eq!((buffer.len(), buffer.words()), (len, &vec![0; len][..]));
            assert_eq!(layout(len).size(), 4 * len.max(1));
        }
    }
}
