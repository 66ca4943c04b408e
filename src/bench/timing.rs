//! How a time is taken: a warm-up, many runs, median, extremes; and the most memory that a process held meanwhile.

use crate::error::Result;
use std::time::Instant;

/// How long something is timed.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Runs before the first one that counts, at least.
    pub warm_runs: usize,
    /// Seconds before the first one that counts, at least.
    pub warm_seconds: f64,
    /// Runs that count, at least.
    pub min_runs: usize,
    /// Runs that count, at most.
    pub max_runs: usize,
    /// Seconds of runs that count, at least (unless `max_runs` comes first).
    pub seconds: f64,
}

impl Effort {
    /// A training step: what the PyTorch reference spends on one.
    pub const STEP: Effort = Effort { warm_runs: 3, warm_seconds: 0.5, min_runs: 9, max_runs: 400, seconds: 2.0 };
    /// A kernel.
    pub const KERNEL: Effort = Effort { warm_runs: 3, warm_seconds: 0.1, min_runs: 9, max_runs: 2000, seconds: 0.5 };
    /// A batch of images.
    pub const SAMPLING: Effort = Effort { warm_runs: 1, warm_seconds: 0.1, min_runs: 3, max_runs: 400, seconds: 1.0 };
}

/// The times of all runs that counted, in milliseconds, ascending.
#[derive(Clone, Debug, PartialEq)]
pub struct Times(Vec<f64>);

impl Times {
    /// From times in any order; at least one.
    pub fn new(mut ms: Vec<f64>) -> Times {
        assert!(!ms.is_empty(), "something must have been timed");
        ms.sort_by(f64::total_cmp);
        Times(ms)
    }

    /// The middle one; the mean of the two middle ones of an even number.
    pub fn median(&self) -> f64 {
        let half = self.0.len() / 2;
        if self.0.len() % 2 == 1 { self.0[half] } else { (self.0[half - 1] + self.0[half]) / 2.0 }
    }

    /// The shortest.
    pub fn min(&self) -> f64 {
        self.0[0]
    }

    /// The longest.
    pub fn max(&self) -> f64 {
        self.0[self.0.len() - 1]
    }

    /// How many runs.
    pub fn runs(&self) -> usize {
        self.0.len()
    }
}

/// Calls `run` with 0, 1, 2 .. as often as `effort` asks; it returns the milliseconds that count.
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

/// Milliseconds that `body` takes.
pub fn stopwatch(body: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    body()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// The most resident memory that this process has held since [`PeakMemory::watch`].
#[derive(Clone, Copy, Debug)]
pub struct PeakMemory;

impl PeakMemory {
    /// Forgets earlier peaks where the kernel lets us (Linux: 5 to `clear_refs` resets `VmHWM`). Where it does not, the
    /// peak is that of the whole process, as it is for a process that times one thing only.
    pub fn watch() -> PeakMemory {
        // A refusal leaves the peak of the whole process, which is what is then reported.
        drop(std::fs::write("/proc/self/clear_refs", "5"));
        PeakMemory
    }

    /// Bytes; `None` where the system does not say.
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
