//! Helpers for the tests of the kernels.

use super::product::Isa;
use crate::rng::{self, Stream};

/// `len` numbers in [lo, hi). Each `seed` gives another set.
pub(super) fn numbers(seed: u32, len: usize, lo: f32, hi: f32) -> Vec<f32> {
    (0..len).map(|i| lo + (hi - lo) * rng::uniform(seed, Stream::Test, [0, i as u32])).collect()
}

/// Runs `kernel` on every instruction set with one thread and with two, asserts that it gives the same bits
/// each time, and returns the result. The kernel gets an output of `len` NaN, and scratch filled with NaN.
pub(super) fn same_bits(len: usize, scratch: usize, kernel: impl Fn(Isa, &mut [f32], &mut [f32]) + Sync) -> Vec<f32> {
    let mut first: Option<Vec<f32>> = None;
    for isa in Isa::available() {
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
            let (mut y, mut scratch) = (vec![f32::NAN; len], vec![f32::NAN; scratch]);
            pool.install(|| kernel(isa, &mut y, &mut scratch));
            let bits = |y: &[f32]| y.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            match &first {
                None => first = Some(y),
                Some(first) => assert!(bits(first) == bits(&y), "{isa} with {threads} threads gives other bits"),
            }
        }
    }
    first.expect("at least the portable instruction set")
}

/// Asserts that every number differs from the expected one by at most `tolerance` times the largest expected
/// number.
#[track_caller]
pub(super) fn close(got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    let scale = want.iter().fold(0f64, |m, v| m.max(v.abs())).max(1e-30);
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(*g) - w).abs() / scale;
        assert!(error <= tolerance, "element {i} is {g}, not {w}");
    }
}
