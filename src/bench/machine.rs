//! The limits of the machine: peak arithmetic and memory bandwidth, measured by the same command as the
//! benchmarks that are compared with them. This file measures the processor; a graphics card is measured
//! by [`Backend::peaks`](crate::backend::Backend::peaks).

use super::caches::Caches;
use crate::backend::cpu::product::{Arithmetic, Isa, peak_gflops};
use crate::backend::{Backend, Peaks};
use crate::error::Result;
use crate::tape::cost::Cost;
use crate::tape::plan::Precision;
use serde::Serialize;
use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

/// Floats per array of the triad. The three arrays together are more than four times as large as a shared
/// cache of 32 MiB.
const TRIAD_LEN: usize = 12 << 20;

/// Bytes that each thread moves in one measurement of a cache. That takes a few milliseconds.
const CACHE_TRAFFIC: usize = 256 << 20;

/// How often a rate is measured. The best counts, so that other load on the machine disturbs it little.
const REPEATS: usize = 8;

/// The limits of the machine at a number of threads.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Limits {
    /// Peak arithmetic in GFLOP/s: multiply-adds on registers, on operands of the precision of the results.
    pub peak_gflops: f64,
    /// Memory bandwidth in GB/s: `a = b + s * c` on arrays larger than the caches, counting every array
    /// once.
    pub peak_gbs: f64,
    /// Bandwidth of the L3 cache. `None` if the sizes of the caches are not known, if no arrays fit into the
    /// L3 cache but not into L2, or on a graphics card.
    pub l3: Option<CacheLimit>,
}

/// The bandwidth of a cache.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CacheLimit {
    /// GB/s of all threads: `a = b + s * c`, counting every array once.
    pub gbs: f64,
    /// Bytes of the three arrays of all threads together.
    pub bytes: usize,
}

impl Limits {
    /// The limits of a device. Those of the processor are for products with operands in this precision.
    ///
    /// # Errors
    /// Whatever the device reports while it is measured.
    pub fn of(device: &mut dyn Backend, precision: Precision) -> Result<Limits> {
        let threads = device.describe().threads;
        Ok(match device.peaks()? {
            Some(Peaks { gflops, gbs }) => Limits { peak_gflops: gflops, peak_gbs: gbs, l3: None },
            None => Limits::measure(threads, precision),
        })
    }

    /// Measures the limits of the processor. Takes about a second.
    fn measure(threads: usize, precision: Precision) -> Limits {
        let threads = threads.max(1);
        let l3 = Caches::detect().and_then(|caches| caches.l3_triad_bytes(threads)).map(|bytes| l3(threads, bytes));
        let by = Arithmetic { isa: Isa::detect(), precision };
        Limits { peak_gflops: peak_gflops(by, threads), peak_gbs: triad_gbs(threads), l3 }
    }

    /// The shortest time in milliseconds in which the machine could do work of this cost: the longer of
    /// its arithmetic at peak and its bytes at the memory bandwidth. Work on data in a cache can be
    /// faster.
    pub fn floor_ms(&self, cost: Cost) -> f64 {
        (cost.flops as f64 / self.peak_gflops).max(cost.bytes as f64 / self.peak_gbs) / 1e6
    }
}

/// The memory bandwidth: the best of several sweeps on `threads` threads at once.
fn triad_gbs(threads: usize) -> f64 {
    let part = TRIAD_LEN.div_ceil(threads);
    let (mut a, b, c) = (vec![0f32; TRIAD_LEN], vec![1f32; TRIAD_LEN], vec![2f32; TRIAD_LEN]);
    let mut best = f64::INFINITY;
    // The first sweep also maps the pages of `a`.
    for _ in 0..REPEATS {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for ((a, b), c) in a.chunks_mut(part).zip(b.chunks(part)).zip(c.chunks(part)) {
                scope.spawn(move || triad(a, b, c));
            }
        });
        best = best.min(start.elapsed().as_secs_f64());
        black_box(&a);
    }
    (3 * 4 * TRIAD_LEN) as f64 / best / 1e9
}

/// The bandwidth of the L3 cache: each of `threads` threads sweeps over arrays of its own, which have
/// `bytes` bytes together.
fn l3(threads: usize, bytes: usize) -> CacheLimit {
    let (len, sweeps) = (bytes / 12, CACHE_TRAFFIC.div_ceil(bytes));
    let barrier = Barrier::new(threads);
    let sweep = || {
        let (mut a, b, c) = (vec![0f32; len], vec![1f32; len], vec![2f32; len]);
        // The first sweep maps the pages and fills the cache.
        triad(&mut a, &b, &c);
        let seconds = (0..REPEATS).map(|_| {
            barrier.wait();
            let start = Instant::now();
            for _ in 0..sweeps {
                triad(&mut a, black_box(&b), black_box(&c));
                black_box(&mut a);
            }
            start.elapsed().as_secs_f64()
        });
        seconds.collect::<Vec<f64>>()
    };
    let of_threads: Vec<Vec<f64>> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(sweep)).collect();
        let mine = sweep();
        [mine].into_iter().chain(others.into_iter().map(|t| t.join().expect("a sweep does not panic"))).collect()
    });
    let slowest = |repeat: usize| of_threads.iter().map(|seconds| seconds[repeat]).fold(0.0, f64::max);
    let best = (0..REPEATS).map(slowest).fold(f64::INFINITY, f64::min);
    CacheLimit { gbs: (threads * sweeps * 12 * len) as f64 / best / 1e9, bytes: threads * 12 * len }
}

/// `a = b + 3 c`
fn triad(a: &mut [f32], b: &[f32], c: &[f32]) {
    a.iter_mut().zip(b).zip(c).for_each(|((a, b), c)| *a = *b + 3.0 * *c);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_the_longer_of_arithmetic_and_memory() {
        let limits = Limits { peak_gflops: 100.0, peak_gbs: 10.0, l3: None };
        assert_eq!(limits.floor_ms(Cost { flops: 200_000_000, bytes: 10_000_000 }), 2.0);
        assert_eq!(limits.floor_ms(Cost { flops: 200_000_000, bytes: 50_000_000 }), 5.0);
    }

    #[test]
    fn a_cache_is_measured_with_arrays_of_the_size_that_is_said() {
        let measured = l3(2, 3 << 20);
        assert_eq!(measured.bytes, 2 * (3 << 20));
        // From a slow emulator to far above any cache.
        assert!(measured.gbs > 0.01 && measured.gbs < 1e5, "{} GB/s", measured.gbs);
    }
}
