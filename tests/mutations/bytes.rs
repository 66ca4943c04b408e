//! Random numbers, and mutations of bytes.

/// Longer inputs are cut: more bytes cost time and show nothing more.
pub const LONGEST: usize = 16 << 10;

/// Splitmix64. The numbers depend only on the parser, the seed and the number of the input.
pub struct Random(u64);

impl Random {
    pub fn new(name: &str, seed: u64, index: u64) -> Random {
        let mut random = Random(seed);
        for word in name.bytes().map(u64::from).chain([index]) {
            random.0 = random.next() ^ word;
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Whether something with the chance of one in `n` happens.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    /// A place in `bytes` with `len` bytes behind it. Half of the places are near the start, where headers
    /// are.
    fn place(&mut self, bytes: &[u8], len: usize) -> usize {
        let places = bytes.len() - len + 1;
        let near = places.min(64);
        let end = if self.one_in(2) { near } else { places };
        self.below(end)
    }

    /// A block of `bytes`, mostly short; empty only if `bytes` is.
    pub fn block(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        if bytes.is_empty() {
            return 0..0;
        }
        let longest = if self.one_in(4) { bytes.len() } else { bytes.len().min(32) };
        let len = 1 + self.below(longest);
        let start = self.place(bytes, len);
        start..start + len
    }
}

/// One to four mutations of one of the files.
pub fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = random.pick(seeds).clone();
    for _ in 0..1 + random.below(4) {
        once(random, &mut bytes, seeds);
    }
    bytes.truncate(LONGEST);
    bytes
}

fn once(random: &mut Random, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    if bytes.is_empty() {
        bytes.extend((0..random.below(16)).map(|_| random.byte()));
        return;
    }
    match random.below(12) {
        0 | 1 => {
            let at = random.place(bytes, 1);
            bytes[at] ^= 1 << random.below(8);
        }
        2 => {
            let at = random.place(bytes, 1);
            bytes[at] = *random.pick(&[0, 1, 0x7f, 0x80, 0xfe, 0xff, b'0', b'\n']);
        }
        3 => {
            let at = random.place(bytes, 1);
            bytes[at] = random.byte();
        }
        4 => bytes.truncate(random.below(bytes.len())),
        5 => bytes.extend((0..1 + random.below(40)).map(|_| random.byte())),
        6 => {
            let block = random.block(bytes);
            bytes.drain(block);
        }
        7 => {
            let block = random.block(bytes);
            let copy = bytes[block.clone()].to_vec();
            bytes.splice(block.end..block.end, copy);
        }
        8 => {
            // The start of this file and the end of another one.
            let other = random.pick(seeds);
            let (cut, from) = (random.below(bytes.len()), random.below(other.len() + 1));
            bytes.truncate(cut);
            bytes.extend_from_slice(&other[from..]);
        }
        9 => {
            let (block, value) = (random.block(bytes), random.byte());
            bytes[block].fill(value);
        }
        _ => set_number(random, bytes),
    }
}

/// Overwrites a number of 2, 4 or 8 bytes by an extreme, or by a neighbour of its value.
fn set_number(random: &mut Random, bytes: &mut [u8]) {
    let len = *random.pick(&[2, 4, 4, 8]);
    if bytes.len() < len {
        return;
    }
    let (at, big_endian) = (random.place(bytes, len), random.one_in(2));
    let mut word = [0; 8];
    word[..len].copy_from_slice(&bytes[at..at + len]);
    if big_endian {
        word[..len].reverse();
    }
    let (old, all) = (u64::from_le_bytes(word), bytes.len() as u64);
    let near = [old.wrapping_add(1), old.wrapping_sub(1), old.wrapping_mul(2), all, all - 1, all + 1];
    let extremes = [0, 1, 0x7fff, 0x8000, 0x7fff_ffff, 0x8000_0000, u64::MAX >> 1, 1 << 63, u64::MAX, u64::MAX - 7];
    let new = if random.one_in(2) { *random.pick(&near) } else { *random.pick(&extremes) };
    word = new.to_le_bytes();
    if big_endian {
        word[..len].reverse();
    }
    bytes[at..at + len].copy_from_slice(&word[..len]);
}
