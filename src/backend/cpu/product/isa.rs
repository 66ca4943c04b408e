//! Chooses the instruction set of the products at run time, and calls the code that is compiled for it.

use super::Arithmetic;
#[cfg(target_arch = "x86_64")]
use super::bf16::Avx512Pairs;
use super::bf16::PortablePairs;
#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::simd::{MAX_WIDTH, Portable, Simd};
use super::tile::Tiles;
use crate::tape::plan::Precision;
use std::fmt;
use std::hint::black_box;
use std::sync::OnceLock;
use std::time::Instant;

/// An instruction set that the products are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// AVX-512 F, BW, DQ, VL: 16 floats per vector.
    Avx512,
    /// AVX2 and FMA: 8 floats per vector.
    Avx2,
    /// No intrinsics: arrays of four floats, which the compiler may vectorise.
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

    /// Whether this machine has instructions of this set that multiply bf16 numbers. Without them, products
    /// of bf16 numbers are computed by the portable code, which is slow.
    pub fn has_bf16(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        let has = self == Isa::Avx512 && self.is_available() && is_x86_feature_detected!("avx512bf16");
        #[cfg(not(target_arch = "x86_64"))]
        let has = false;
        has
    }

    /// Whether this machine supports it. The standard library caches the answer.
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

/// What the code of a product is compiled for: an instruction set, and operands that are floats or words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Floats.
    F32(Isa),
    /// Words of two bf16 numbers, multiplied by AVX-512.
    #[cfg(target_arch = "x86_64")]
    Avx512Pairs,
    /// Words of two bf16 numbers, multiplied by the portable code.
    PortablePairs,
}

impl Target {
    /// Words of two bf16 numbers, by the fastest code of this instruction set.
    pub(super) fn pairs(isa: Isa) -> Target {
        match isa {
            #[cfg(target_arch = "x86_64")]
            isa if isa.has_bf16() => Target::Avx512Pairs,
            _ => Target::PortablePairs,
        }
    }

    /// Columns of a register tile and of a panel of packed weights.
    pub(super) fn width(self) -> usize {
        2 * match self {
            #[cfg(target_arch = "x86_64")]
            Target::F32(Isa::Avx512) | Target::Avx512Pairs => Avx512::LANES,
            #[cfg(target_arch = "x86_64")]
            Target::F32(Isa::Avx2) => Avx2::LANES,
            _ => Portable::LANES,
        }
    }

    /// Rows of the largest register tile.
    pub(super) fn mr(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Target::F32(Isa::Avx512) | Target::Avx512Pairs => Avx512::MR,
            #[cfg(target_arch = "x86_64")]
            Target::F32(Isa::Avx2) => Avx2::MR,
            _ => Portable::MR,
        }
    }

    /// The instruction set that this machine must have.
    fn isa(self) -> Isa {
        match self {
            Target::F32(isa) => isa,
            #[cfg(target_arch = "x86_64")]
            Target::Avx512Pairs => Isa::Avx512,
            Target::PortablePairs => Isa::Portable,
        }
    }

    /// Whether this machine can run it.
    fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Target::Avx512Pairs => Isa::Avx512.has_bf16(),
            _ => self.isa().is_available(),
        }
    }
}

impl From<Isa> for Target {
    fn from(isa: Isa) -> Target {
        Target::F32(isa)
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
    // SAFETY: every x86-64 processor has the instruction. `L2_LEAF` is read only if `LARGEST_LEAF` says that
    // it exists.
    let kib = unsafe { if __cpuid(LARGEST_LEAF).eax >= L2_LEAF { __cpuid(L2_LEAF).ecx >> 16 } else { 0 } };
    (kib > 0).then_some(kib as usize)
}

/// Other processors have no common way to query it.
#[cfg(not(target_arch = "x86_64"))]
fn l2_kib() -> Option<usize> {
    None
}

/// Work that is written once for any [`Simd`]. `run` must be `#[inline(always)]`, because otherwise it is
/// compiled without the CPU features.
pub(super) trait Job {
    /// The result of the work.
    type Out;

    /// Does the work.
    ///
    /// # Safety
    /// The processor has the features of `S`, and the job's own preconditions hold.
    unsafe fn run<S: Tiles>(self) -> Self::Out;
}

/// Runs a job compiled for `target`.
///
/// # Safety
/// The job's own preconditions hold. This function checks that the machine has the instructions.
///
/// # Panics
/// Panics if the machine does not have the instructions.
pub(super) unsafe fn dispatch<J: Job>(target: impl Into<Target>, job: J) -> J::Out {
    let target = target.into();
    assert!(target.is_available(), "this machine has no {}: choose one of Isa::available()", target.isa());
    match target {
        #[cfg(target_arch = "x86_64")]
        Target::F32(Isa::Avx512) => {
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            unsafe fn go<J: Job>(job: J) -> J::Out {
                // SAFETY: this function enables the features, and is called only if the processor has them.
                // The caller of `dispatch` vouches for the job's own preconditions.
                unsafe { job.run::<Avx512>() }
            }
            // SAFETY: the processor has the features, as asserted above. The caller of `dispatch` vouches
            // for the job's own preconditions.
            unsafe { go(job) }
        }
        #[cfg(target_arch = "x86_64")]
        Target::F32(Isa::Avx2) => {
            #[target_feature(enable = "avx2,fma")]
            unsafe fn go<J: Job>(job: J) -> J::Out {
                // SAFETY: this function enables the features, and is called only if the processor has them.
                // The caller of `dispatch` vouches for the job's own preconditions.
                unsafe { job.run::<Avx2>() }
            }
            // SAFETY: the processor has the features, as asserted above. The caller of `dispatch` vouches
            // for the job's own preconditions.
            unsafe { go(job) }
        }
        #[cfg(target_arch = "x86_64")]
        Target::Avx512Pairs => {
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
            unsafe fn go<J: Job>(job: J) -> J::Out {
                // SAFETY: this function enables the features, and is called only if the processor has them.
                // The caller of `dispatch` vouches for the job's own preconditions.
                unsafe { job.run::<Avx512Pairs>() }
            }
            // SAFETY: the processor has the features, as asserted above. The caller of `dispatch` vouches
            // for the job's own preconditions.
            unsafe { go(job) }
        }
        // SAFETY: `PortablePairs` needs no features. The caller of `dispatch` vouches for the job's own
        // preconditions.
        Target::PortablePairs => unsafe { job.run::<PortablePairs>() },
        // SAFETY: `Portable` needs no features. The caller of `dispatch` vouches for the job's own
        // preconditions.
        Target::F32(_) => unsafe { job.run::<Portable>() },
    }
}

/// Number of independent sums in the peak loop. It is more than the latency times the throughput of any FMA
/// unit, and fewer than the registers.
const CHAINS: usize = 12;

/// Computes `rounds` rounds of [`CHAINS`] independent multiply-adds on registers. It returns a result, so
/// that the compiler cannot drop them.
struct Peak {
    rounds: usize,
}

impl Job for Peak {
    type Out = f32;

    #[inline(always)]
    unsafe fn run<S: Tiles>(self) -> f32 {
        // SAFETY: the processor has the features of `S` (contract of `Job::run`). All memory that is
        // accessed belongs to local variables.
        unsafe {
            let (scale, shift) = (S::splat(&black_box(0.999)), S::splat(&black_box(0.001)));
            let mut sums = [S::zero(); CHAINS];
            for _ in 0..self.rounds {
                for sum in &mut sums {
                    *sum = S::fma(scale, shift, *sum);
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

/// Measures the machine's peak in GFLOP/s for products, with multiply-adds on registers, on `threads`
/// threads at once. The fastest of several short runs counts, so that other load on the machine disturbs the
/// result little.
///
/// # Panics
/// Panics if the machine does not have the instruction set.
pub fn peak_gflops(by: impl Into<Arithmetic>, threads: usize) -> f64 {
    const ROUNDS: usize = 2_000_000;
    let Arithmetic { isa, precision } = by.into();
    // Multiplications for each of the floats or words of a vector.
    let (target, products) = match precision {
        Precision::F32 => (Target::F32(isa), 1),
        Precision::Bf16 => (Target::pairs(isa), 2),
    };
    let run = || {
        let start = Instant::now();
        // SAFETY: the job has no preconditions except the features, which `dispatch` checks.
        black_box(unsafe { dispatch(target, Peak { rounds: ROUNDS }) });
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
    (products * target.width() * CHAINS * ROUNDS * threads.max(1)) as f64 / best / 1e9
}
