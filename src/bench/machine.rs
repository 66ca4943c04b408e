//! The limits of the machine: peak arithmetic and memory bandwidth, measured by the same command as the
//! benchmarks that are compared with them. This file measures the processor; a graphics card is measured
//! by [`Backend::peaks`](crate::backend::Backend::peaks).

use crate::backend::cpu::product::{Isa, peak_gflops};
use crate::tape::cost::Cost;
use serde::Serialize;
use std::hint::black_box;
use std::time::Instant;

/// Floats per array of the triad. The three arrays together are more than four times as large as a shared
/// cache of 32 MiB.
const TRIAD_LEN: usize = 12 << 20;

/// The limits of the machine at a number of threads.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Limits {
    /// Peak arithmetic in GFLOP/s: f32 multiply-adds on registers.
    pub peak_gflops: f64,
    /// Memory bandwidth in GB/s: `a = b + s * c` on arrays larger than the caches, counting every array
    /// once.
    pub peak_gbs: f64,
}

impl Limits {
    /// Measures both limits. Takes about a second.
    pub fn measure(threads: usize) -> Limits {
        Limits { peak_gflops: peak_gflops(Isa::detect(), threads), peak_gbs: triad_gbs(threads) }
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
    let threads = threads.max(1);
    let part = TRIAD_LEN.div_ceil(threads);
    let (mut a, b, c) = (vec![0f32; TRIAD_LEN], vec![1f32; TRIAD_LEN], vec![2f32; TRIAD_LEN]);
    let mut best = f64::INFINITY;
    // The first sweep also maps the pages of `a`.
    for _ in 0..8 {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for ((a, b), c) in a.chunks_mut(part).zip(b.chunks(part)).zip(c.chunks(part)) {
                scope.spawn(move || a.iter_mut().zip(b).zip(c).for_each(|((a, b), c)| *a = *b + 3.0 * *c));
            }
        });
        best = best.min(start.elapsed().as_secs_f64());
        black_box(&a);
    }
    (3 * 4 * TRIAD_LEN) as f64 / best / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_the_longer_of_arithmetic_and_memory() {
        let limits = Limits { peak_gflops: 100.0, peak_gbs: 10.0 };
        assert_eq!(limits.floor_ms(Cost { flops: 200_000_000, bytes: 10_000_000 }), 2.0);
        assert_eq!(limits.floor_ms(Cost { flops: 200_000_000, bytes: 50_000_000 }), 5.0);
    }
}
