//! Buffers of four-byte words, aligned to a cache line.

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
        WordBuffer { lines: vec![Line([0; 16]); len.div_ceil(16)], len }
    }

    /// Number of words.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no word.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The words.
    pub fn words(&self) -> &[u32] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }

    /// The words, to be changed.
    pub fn words_mut(&mut self) -> &mut [u32] {
        let len = self.len;
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..len]
    }

    /// The words as floats, to be changed.
    pub fn floats_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(self.words_mut())
    }

    /// Where the buffer lies; good for reads and writes of `len` words as long as the buffer lives.
    pub fn as_ptr(&mut self) -> *mut u32 {
        self.lines.as_mut_ptr().cast()
    }
}
