//! Which instruction set the products run on, and the bridge from that run-time choice to code compiled for
//! it.

#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::simd::{MAX_WIDTH, Portable, Simd};
use super::tile::Tiles;
use std::fmt;
use std::hint::black_box;
use std::sync::OnceLock;
use std::time::Instant;

/// An instruction set the products are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// AVX-512 F, BW, DQ, VL: 16 floats a vector.
    Avx512,
    /// AVX2 and FMA: 8 floats a vector.
    Avx2,
    /// No intrinsics: whatever the compiler makes of arrays of four floats.
    Portable,
}

impl Isa {
    /// The fastest instruction set of this machine.
    pub fn detect() -> Isa {
        [Isa::Avx512, Isa::Avx2].into_iter().find(|isa| isa.is_available()).unwrap_or(Isa::Portable)
    }

    /// All instruction sets of this machine, the fastest first.
    pub fn available() -> Vec<Isa> {
        [Isa::Avx512, Isa::Avx2, Isa::Portable].into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// Columns of a register tile and of a panel of packed weights.
    pub(super) fn width(self) -> usize {
        2 * match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Avx512::LANES,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Avx2::LANES,
            _ => Portable::LANES,
        }
    }

    /// Rows of the largest register tile.
    pub(super) fn mr(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Avx512::MR,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Avx2::MR,
            _ => Portable::MR,
        }
    }

    /// Whether this machine has it (the answer is cached by the standard library).
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && Isa::Avx2.is_available()
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx512 | Isa::Avx2 => false,
            Isa::Portable => true,
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Portable => "portable",
        })
    }
}

/// Floats that fit into the L2 cache of one core, or half a mebibyte of them if the machine does not say.
pub(super) fn l2_floats() -> usize {
    static FLOATS: OnceLock<usize> = OnceLock::new();
    *FLOATS.get_or_init(|| l2_kib().unwrap_or(512) * 1024 / size_of::<f32>())
}

/// Size of the L2 cache of one core in KiB, as the processor reports it.
#[cfg(target_arch = "x86_64")]
fn l2_kib() -> Option<usize> {
    use std::arch::x86_64::__cpuid;
    const LARGEST_LEAF: u32 = 0x8000_0000;
    const L2_LEAF: u32 = 0x8000_0006;
    #[allow(unused_unsafe, reason = "the intrinsic is unsafe up to Rust 1.93 and safe from 1.94 on")]
    // SAFETY: every x86-64 processor has the instruction, and the second leaf is asked for only if the first
    // says that it exists.
    let kib = unsafe { if __cpuid(LARGEST_LEAF).eax >= L2_LEAF { __cpuid(L2_LEAF).ecx >> 16 } else { 0 } };
    (kib > 0).then_some(kib as usize)
}

/// Other processors have no common way to ask.
#[cfg(not(target_arch = "x86_64"))]
fn l2_kib() -> Option<usize> {
    None
}

/// Work that is written once for any [`Simd`]. `run` must be `#[inline(always)]`, or it is compiled without
/// the features.
pub(super) trait Job {
    /// What the work returns.
    type Out;

    /// Does the work.
    ///
    /// # Safety
    /// The features of `S` are there; whatever else the job asks for.
    unsafe fn run<S: Tiles>(self) -> Self::Out;
}

/// Runs a job compiled for `isa`.
///
/// # Safety
/// What the job asks for. That the machine has `isa` is checked here.
///
/// # Panics
/// If the machine does not have `isa`.
pub(super) unsafe fn dispatch<J: Job>(isa: Isa, job: J) -> J::Out {
    assert!(isa.is_available(), "this machine has no {isa}: choose one of Isa::available()");
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            unsafe fn go<J: Job>(job: J) -> J::Out {
                // SAFETY: this function enables the features.
                unsafe { job.run::<Avx512>() }
            }
            // SAFETY: the features were checked above.
            unsafe { go(job) }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            #[target_feature(enable = "avx2,fma")]
            unsafe fn go<J: Job>(job: J) -> J::Out {
                // SAFETY: this function enables the features.
                unsafe { job.run::<Avx2>() }
            }
            // SAFETY: the features were checked above.
            unsafe { go(job) }
        }
        // SAFETY: needs no features.
        _ => unsafe { job.run::<Portable>() },
    }
}

/// Sums that the peak loop keeps going: more than latency times throughput of any FMA unit, fewer than the
/// registers.
const CHAINS: usize = 12;

/// `rounds` rounds of [`CHAINS`] independent FMAs on registers; the result keeps the compiler from dropping
/// them.
struct Peak {
    rounds: usize,
}

impl Job for Peak {
    type Out = f32;

    #[inline(always)]
    unsafe fn run<S: Tiles>(self) -> f32 {
        // SAFETY: the features are there; all memory touched is on this stack.
        unsafe {
            let (scale, shift) = (S::splat(&black_box(0.999)), S::splat(&black_box(0.001)));
            let mut sums = [S::zero(); CHAINS];
            for _ in 0..self.rounds {
                for sum in &mut sums {
                    *sum = S::fma(*sum, scale, shift);
                }
            }
            let mut lanes = [0f32; MAX_WIDTH / 2];
            sums.into_iter().fold(0.0, |total, sum| {
                S::store(lanes.as_mut_ptr(), sum);
                total + lanes[0]
            })
        }
    }
}

/// Measures the machine's f32 peak in GFLOP/s: fused multiply-adds on registers only, on `threads` threads
/// at once. The best of several short runs, so that a busy machine disturbs it little.
///
/// # Panics
/// If the machine does not have `isa`.
pub fn peak_gflops(isa: Isa, threads: usize) -> f64 {
    const ROUNDS: usize = 2_000_000;
    let run = || {
        let start = Instant::now();
        // SAFETY: the job asks for nothing but the features, which are checked.
        black_box(unsafe { dispatch(isa, Peak { rounds: ROUNDS }) });
        start.elapsed().as_secs_f64()
    };
    let best = (0..8)
        .map(|_| {
            std::thread::scope(|scope| {
                let others: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
                let mine = run();
                others.into_iter().map(|t| t.join().unwrap_or(f64::INFINITY)).fold(mine, f64::max)
            })
        })
        .fold(f64::INFINITY, f64::min);
    (isa.width() * CHAINS * ROUNDS * threads.max(1)) as f64 / best / 1e9
}
