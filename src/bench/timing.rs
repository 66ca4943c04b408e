//! How a time is taken: warm-up runs, then many timed runs, of which median and extremes are reported.
//! Also measures the peak memory of the process.

use crate::error::Result;
use std::time::Instant;

/// How long a workload is timed.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// The least number of warm-up runs.
    pub warm_runs: usize,
    /// The least duration of the warm-up in seconds.
    pub warm_seconds: f64,
    /// The least number of runs that count.
    pub min_runs: usize,
    /// The largest number of runs that count.
    pub max_runs: usize,
    /// The least total time of the runs that count, in seconds, unless `max_runs` is reached first.
    pub seconds: f64,
}

impl Effort {
    /// For a training step: the same as in the PyTorch reference.
    pub const STEP: Effort = Effort { warm_runs: 3, warm_seconds: 0.5, min_runs: 9, max_runs: 400, seconds: 2.0 };
    /// For a kernel.
    pub const KERNEL: Effort = Effort { warm_runs: 3, warm_seconds: 0.1, min_runs: 9, max_runs: 2000, seconds: 0.5 };
    /// For a batch of images.
    pub const SAMPLING: Effort = Effort { warm_runs: 1, warm_seconds: 0.1, min_runs: 3, max_runs: 400, seconds: 1.0 };
}

/// The times of all runs that count, in milliseconds, in ascending order.
#[derive(Clone, Debug, PartialEq)]
pub struct Times(Vec<f64>);

impl Times {
    /// Sorts times, of which there is at least one.
    pub fn new(mut ms: Vec<f64>) -> Times {
        assert!(!ms.is_empty(), "something must have been timed");
        ms.sort_by(f64::total_cmp);
        Times(ms)
    }

    /// The median. For an even number of times, the mean of the two in the middle.
    pub fn median(&self) -> f64 {
        let half = self.0.len() / 2;
        if self.0.len() % 2 == 1 { self.0[half] } else { (self.0[half - 1] + self.0[half]) / 2.0 }
    }

    /// The shortest time.
    pub fn min(&self) -> f64 {
        self.0[0]
    }

    /// The longest time.
    pub fn max(&self) -> f64 {
        self.0[self.0.len() - 1]
    }

    /// Number of runs.
    pub fn runs(&self) -> usize {
        self.0.len()
    }
}

/// Calls `run` with 0, 1, 2, ... as often as `effort` requires. `run` returns the milliseconds that
/// count.
pub fn measure(effort: Effort, mut run: impl FnMut(usize) -> Result<f64>) -> Result<Times> {
    let mut index = 0;
    let start = Instant::now();
    while index < effort.warm_runs || start.elapsed().as_secs_f64() < effort.warm_seconds {
        run(index)?;
        index += 1;
    }
    let (mut times, mut total) = (vec![], 0.0);
    while times.len() < effort.min_runs || (total < effort.seconds * 1e3 && times.len() < effort.max_runs) {
        let ms = run(index)?;
        total += ms;
        times.push(ms);
        index += 1;
    }
    Ok(Times::new(times))
}

/// Measures how many milliseconds `body` takes.
pub fn stopwatch(body: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    body()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// The peak resident memory of this process since [`PeakMemory::watch`].
#[derive(Clone, Copy, Debug)]
pub struct PeakMemory;

impl PeakMemory {
    /// Resets the peak if the system allows it (on Linux, writing 5 to `clear_refs` resets `VmHWM`).
    /// Otherwise the peak is that of the whole life of the process.
    pub fn watch() -> PeakMemory {
        // If this fails, the peak of the whole process is reported.
        drop(std::fs::write("/proc/self/clear_refs", "5"));
        PeakMemory
    }

    /// The peak in bytes; `None` if the system does not report it.
    pub fn bytes(self) -> Option<u64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_extremes() {
        let odd = Times::new(vec![3.0, 1.0, 2.0]);
        assert_eq!((odd.min(), odd.median(), odd.max(), odd.runs()), (1.0, 2.0, 3.0, 3));
        assert_eq!(Times::new(vec![4.0, 1.0, 3.0, 2.0]).median(), 2.5);
    }

    #[test]
    fn warm_up_runs_do_not_count() {
        let effort = Effort { warm_runs: 2, warm_seconds: 0.0, min_runs: 3, max_runs: 5, seconds: 0.0 };
        let times = measure(effort, |i| Ok(i as f64)).unwrap();
        assert_eq!((times.runs(), times.min(), times.max()), (3, 2.0, 4.0));
        let long = Effort { seconds: 1.0, ..effort };
        assert_eq!(measure(long, |_| Ok(1.0)).unwrap().runs(), 5);
        assert_eq!(measure(long, |_| Ok(300.0)).unwrap().runs(), 4);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_sees_memory_that_was_freed() {
        let peak = PeakMemory::watch();
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        drop(block);
        let bytes = peak.bytes().unwrap();
        assert!((64 << 20..1 << 40).contains(&bytes), "{bytes}");
    }
}
