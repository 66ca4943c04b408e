//! Buffers of four-byte words, aligned to a cache line.

use std::mem::MaybeUninit;

/// One cache line of words.
#[derive(Clone, Copy, Debug, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// A buffer of words that never moves once it is made.
#[derive(Debug)]
pub struct WordBuffer {
    lines: Vec<Line>,
    len: usize,
}

impl WordBuffer {
    /// A buffer of `len` zero words.
    pub fn new(len: usize) -> Self {
        let count = len.div_ceil(16);
        let mut lines = Vec::with_capacity(count);
        // This comes before the zeros are written, because the system chooses the size of a page at the
        // first write to it.
        advise_huge_pages(lines.spare_capacity_mut());
        lines.resize(count, Line([0; 16]));
        WordBuffer { lines, len }
    }

    /// Number of words.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The words.
    pub fn words(&self) -> &[u32] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }

    /// The words, mutable.
    pub fn words_mut(&mut self) -> &mut [u32] {
        let len = self.len;
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..len]
    }

    /// The words as floats, mutable.
    pub fn floats_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(self.words_mut())
    }

    /// The address of the buffer. It is valid for reads and writes of `len` words as long as the buffer
    /// lives.
    pub fn as_ptr(&mut self) -> *mut u32 {
        self.lines.as_mut_ptr().cast()
    }
}

/// Asks for pages of two mebibytes, on systems that give them only on request. Without them, a tensor whose
/// rows are 4 KiB apart needs one page table entry per row, and the hardware prefetcher stops at every page.
/// The result is the same if the system refuses.
#[cfg(target_os = "linux")]
fn advise_huge_pages(memory: &mut [MaybeUninit<Line>]) {
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
fn advise_huge_pages(_: &mut [MaybeUninit<Line>]) {}
