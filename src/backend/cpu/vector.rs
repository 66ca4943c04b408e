//! Slice loops compiled for each instruction set, and how they are spread over threads.
//!
//! A kernel is an ordinary loop in plain Rust. [`vectorized!`] compiles it three times, and LLVM vectorises
//! each copy for its instruction set. All copies give the same bits, because nothing is contracted to a
//! fused multiply-add and every reduction has a fixed number of lanes ([`sum_over!`]). The chunks of the
//! work depend on the geometry of the op alone, never on the number of threads.

use super::team;
use rayon::iter::{IndexedParallelIterator, MaxLen, MinLen};

/// Elements of one task of a large op: 64 KiB of each operand, which stays in L2 between passes.
pub(super) const CHUNK: usize = 16 * 1024;

/// Ops with fewer elements run on the calling thread, because distributing them takes longer than it saves.
pub(super) const SERIAL: usize = 32 * 1024;

/// Lanes of a reduction on every instruction set.
pub(super) const LANES: usize = 32;

/// Floats in a cache line.
const LINE: usize = 16;

/// Rows of one task when a row has `width` elements.
pub(super) fn chunk_rows(width: usize) -> usize {
    (CHUNK / width.max(1)).max(1)
}

/// Lets `iter`, which processes `elements` elements in all, run in parallel only if that pays.
pub(super) fn spread<I: IndexedParallelIterator>(iter: I, elements: usize) -> MaxLen<MinLen<I>> {
    let is_serial = elements < SERIAL || team::threads() == 1;
    let at_least = if is_serial { usize::MAX } else { 1 };
    // There are more tasks than threads, so that other threads can take over the work of a delayed one.
    let at_most = if is_serial { usize::MAX } else { (iter.len() / 32).max(1) };
    iter.with_min_len(at_least).with_max_len(at_most)
}

/// Compiles a function once for each instruction set; the [`Isa`](super::product::Isa) becomes its first
/// argument.
macro_rules! vectorized {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$doc])*
        $vis fn $name(isa: $crate::backend::cpu::product::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512($($arg: $ty),*) $(-> $ret)? {
                body($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                body($($arg),*)
            }
            assert!(isa.is_available(), "this machine has no {isa}");
            match isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the machine has the features, as asserted.
                $crate::backend::cpu::product::Isa::Avx512 => unsafe { avx512($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the machine has the features, as asserted.
                $crate::backend::cpu::product::Isa::Avx2 => unsafe { avx2($($arg),*) },
                _ => body($($arg),*),
            }
        }
    };
}
pub(super) use vectorized;

/// `map!(y <- a, b: expression of a and b)`: computes each element of the slice `y` from the elements of the
/// slices `a` and `b` at the same index.
macro_rules! map {
    ($y:ident <- $a:ident: $e:expr) => {
        for ($y, &$a) in $y.iter_mut().zip($a) {
            *$y = $e;
        }
    };
    ($y:ident <- $a:ident, $b:ident: $e:expr) => {
        for (($y, &$a), &$b) in $y.iter_mut().zip($a).zip($b) {
            *$y = $e;
        }
    };
    ($y:ident <- $a:ident, $b:ident, $c:ident: $e:expr) => {
        for ((($y, &$a), &$b), &$c) in $y.iter_mut().zip($a).zip($b).zip($c) {
            *$y = $e;
        }
    };
    ($y:ident <- $a:ident, $b:ident, $c:ident, $d:ident: $e:expr) => {
        for (((($y, &$a), &$b), &$c), &$d) in $y.iter_mut().zip($a).zip($b).zip($c).zip($d) {
            *$y = $e;
        }
    };
}
pub(super) use map;

/// `sum_over!(a, b => expression of a and b)`: the sum over slices of equal length, in [`LANES`] lanes,
/// which are then added by halves.
///
/// The terms are first computed into a buffer. Without it, LLVM would unroll the loop over the constant
/// number of lanes before it could vectorise an expression with selects and shifts.
macro_rules! sum_over {
    ($first:ident $(, $more:ident)* => $e:expr) => {{
        const BLOCK: usize = 8 * $crate::backend::cpu::vector::LANES;
        let mut lanes = [0f32; $crate::backend::cpu::vector::LANES];
        let mut terms = [0f32; BLOCK];
        let len = $first.len();
        let mut at = 0;
        while at < len {
            let to = (at + BLOCK).min(len);
            let terms = &mut terms[..to - at];
            {
                let $first = &$first[at..to];
                $(let $more = &$more[at..to];)*
                $crate::backend::cpu::vector::map!(terms <- $first $(, $more)*: $e);
            }
            $crate::backend::cpu::vector::add_to_lanes(terms, &mut lanes);
            at = to;
        }
        $crate::backend::cpu::vector::add_lanes(lanes)
    }};
}
pub(super) use sum_over;

/// Prefetches the cache lines of a slice that is needed soon. Does nothing on processors without a prefetch
/// instruction.
#[inline(always)]
pub(super) fn prefetch(x: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in x.chunks(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 processor has the instruction, and a prefetch has no effect on memory.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = x;
}

/// Adds each element to the lane of its position.
#[inline(always)]
pub(super) fn add_to_lanes(x: &[f32], lanes: &mut [f32; LANES]) {
    let (blocks, rest) = x.as_chunks::<LANES>();
    for block in blocks {
        for (l, v) in lanes.iter_mut().zip(block) {
            *l += v;
        }
    }
    for (l, v) in lanes.iter_mut().zip(rest) {
        *l += v;
    }
}

/// The sum of all lanes, by halves.
#[inline(always)]
pub(super) fn add_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            lanes[l] += lanes[l + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The largest element; -infinity if the slice is empty. A NaN of positive sign counts as larger than any
/// number.
#[inline(always)]
pub(super) fn largest(x: &[f32]) -> f32 {
    // The floats are mapped to integers in the same order, because LLVM vectorises a maximum of integers but
    // not of floats.
    let mut most = i32::MIN;
    for v in x {
        let bits = v.to_bits() as i32;
        most = most.max(bits ^ ((bits >> 31) as u32 >> 1) as i32);
    }
    let bits = most ^ ((most >> 31) as u32 >> 1) as i32;
    if x.is_empty() { f32::NEG_INFINITY } else { f32::from_bits(bits as u32) }
}
