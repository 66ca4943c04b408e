//! The results of a benchmark as a JSON file and as a table, and the comparison with another such file.

use super::machine::Limits;
use super::timing::Times;
use crate::backend::DeviceInfo;
use crate::error::{Error, Result};
use crate::files::read_text;
use crate::report::text::text_table;
use crate::tape::cost::Cost;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// The largest benchmark file that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// The machine, as a benchmark file describes it.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The device's name.
    pub name: String,
    /// Instruction set, driver, features.
    pub detail: String,
    /// Its limits, measured by the same command.
    #[serde(flatten)]
    pub limits: Limits,
}

/// One benchmark file: everything that one command timed.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The machine.
    pub machine: Machine,
    /// The kind of device, such as `cpu`.
    pub device: String,
    /// The precision of the operands of products: `f32`.
    pub precision: String,
    /// Worker threads.
    pub threads: usize,
    /// What was timed, in order.
    pub results: Vec<Entry>,
}

/// One thing that was timed.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Name of the workload or kernel.
    pub name: String,
    /// `kernel`, `step` or `sampling`.
    pub kind: &'static str,
    /// The shapes of its inputs.
    pub shape: String,
    /// The median time of all runs.
    pub median_ms: f64,
    /// The shortest time.
    pub min_ms: f64,
    /// The longest time.
    pub max_ms: f64,
    /// Number of runs that counted.
    pub runs: usize,
    /// Floating-point operations of one run, without closed taps of masks.
    pub flops: u64,
    /// Bytes of one run if every kernel reads and writes each operand once.
    pub bytes: u64,
    /// `flops` divided by the median time.
    pub gflops: f64,
    /// `bytes` divided by the median time.
    pub gbs: f64,
    /// The lower bound of the machine for one run, divided by the median time. 1 is as fast as possible;
    /// a larger number means that a cache helped.
    pub limit_fraction: f64,
    /// Images per second, if the workload processes images.
    pub images_per_s: Option<f64>,
    /// Peak memory: the resident memory of the process on the CPU, or the buffers of another device.
    pub peak_bytes: u64,
}

impl Entry {
    /// Computes the rates from the times.
    pub(super) fn new(
        name: &str,
        kind: &'static str,
        shape: String,
        times: &Times,
        cost: Cost,
        limits: &Limits,
    ) -> Self {
        let median_ms = times.median();
        Entry {
            name: name.to_string(),
            kind,
            shape,
            median_ms,
            min_ms: times.min(),
            max_ms: times.max(),
            runs: times.runs(),
            flops: cost.flops,
            bytes: cost.bytes,
            gflops: cost.flops as f64 / median_ms / 1e6,
            gbs: cost.bytes as f64 / median_ms / 1e6,
            limit_fraction: limits.floor_ms(cost) / median_ms,
            images_per_s: None,
            peak_bytes: 0,
        }
    }

    /// Sets the number of images that one run processes.
    pub(super) fn images(self, images: usize) -> Self {
        Entry { images_per_s: Some(images as f64 * 1e3 / self.median_ms), ..self }
    }

    /// The cells of its row in the table.
    fn row(&self) -> Vec<String> {
        let ms = |v: f64| format!("{v:.3}");
        let mut row = vec![self.name.clone(), ms(self.median_ms), ms(self.min_ms), ms(self.max_ms)];
        row.extend([self.runs.to_string(), format!("{:.1}", self.gflops), format!("{:.1}", self.gbs)]);
        row.push(format!("{:.1}", 100.0 * self.limit_fraction));
        row.push(self.images_per_s.map_or(String::new(), |v| format!("{v:.0}")));
        row.push(format!("{:.1}", self.peak_bytes as f64 / f64::from(1 << 20)));
        row
    }
}

impl Report {
    pub(super) fn new(info: &DeviceInfo, limits: Limits, results: Vec<Entry>) -> Self {
        Report {
            machine: Machine { name: info.name.clone(), detail: info.detail.clone(), limits },
            device: info.kind.clone(),
            precision: "f32".to_string(),
            threads: info.threads,
            results,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { name, detail, limits } = &self.machine;
        writeln!(f, "{} ({name}, {detail}), {} threads, {}", self.device, self.threads, self.precision)?;
        writeln!(f, "limits: {:.0} GFLOP/s, {:.0} GB/s\n", limits.peak_gflops, limits.peak_gbs)?;
        let head =
            ["name", "median ms", "min ms", "max ms", "runs", "GFLOP/s", "GB/s", "% of limit", "images/s", "MiB"];
        f.write_str(&text_table(&head, &self.results.iter().map(Entry::row).collect::<Vec<_>>()))
    }
}

/// The parts of an earlier benchmark file, or of one from another framework, that are compared.
#[derive(Clone, Debug, Deserialize)]
pub struct Reference {
    results: Vec<ReferenceEntry>,
}

#[derive(Clone, Debug, Deserialize)]
struct ReferenceEntry {
    name: String,
    kind: Option<String>,
    median_ms: f64,
    peak_bytes: Option<u64>,
}

impl Reference {
    /// Reads a benchmark file.
    ///
    /// # Errors
    /// If the file cannot be read or is not a benchmark file.
    pub fn load(path: &Path) -> Result<Reference> {
        let text = read_text(path, MAX_BYTES)?;
        let remedy = "give a file that pixtape bench --json has written";
        let reference: Reference = serde_json::from_str(&text)
            .map_err(|e| Error::file(path, format!("it is not a benchmark file ({e})"), remedy).because(e))?;
        match reference.results.iter().find(|r| !(r.median_ms.is_finite() && r.median_ms > 0.0)) {
            Some(r) => Err(Error::file(path, format!("its result {:?} took {} ms", r.name, r.median_ms), remedy)),
            None => Ok(reference),
        }
    }

    /// Divides each result of `report` by the same result of the reference. Results that the reference
    /// does not have are left out.
    pub fn compare(&self, report: &Report) -> Vec<Ratio> {
        let ratio = |entry: &Entry| {
            let same = |r: &&ReferenceEntry| r.name == entry.name && r.kind.as_deref().is_none_or(|k| k == entry.kind);
            let theirs = self.results.iter().find(same)?;
            let memory = theirs.peak_bytes.filter(|bytes| *bytes > 0);
            Some(Ratio {
                name: entry.name.clone(),
                theirs_ms: theirs.median_ms,
                ours_ms: entry.median_ms,
                time: entry.median_ms / theirs.median_ms,
                memory: memory.map(|bytes| entry.peak_bytes as f64 / bytes as f64),
            })
        };
        report.results.iter().filter_map(ratio).collect()
    }
}

/// One result compared with the same result of a [`Reference`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// Name of the workload or kernel.
    pub name: String,
    /// The median time of the reference.
    pub theirs_ms: f64,
    /// Our median time.
    pub ours_ms: f64,
    /// Our time divided by theirs. Below 1 we are faster.
    pub time: f64,
    /// Our peak memory divided by theirs, if both are known.
    pub memory: Option<f64>,
}

/// Formats the ratios as a table.
pub fn ratio_table(ratios: &[Ratio]) -> String {
    let row = |r: &Ratio| {
        let mut row = vec![r.name.clone(), format!("{:.3}", r.theirs_ms), format!("{:.3}", r.ours_ms)];
        row.push(format!("{:.2}", r.time));
        row.extend(r.memory.map(|memory| format!("{memory:.2}")));
        row
    };
    text_table(&["name", "theirs ms", "ours ms", "time", "memory"], &ratios.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let limits = Limits { peak_gflops: 100.0, peak_gbs: 10.0 };
        let times = Times::new(vec![1.0, 2.0, 4.0]);
        let cost = Cost { flops: 100_000_000, bytes: 1_000 };
        let entry = Entry::new("vae-mnist", "step", "128x28x28x1".into(), &times, cost, &limits).images(128);
        let info = DeviceInfo { kind: "cpu".into(), name: "test".into(), detail: "none".into(), threads: 2 };
        Report::new(&info, limits, vec![Entry { peak_bytes: 1 << 20, ..entry }])
    }

    #[test]
    fn rates_follow_from_the_median() {
        let entry = &report().results[0];
        assert_eq!((entry.median_ms, entry.gflops, entry.limit_fraction), (2.0, 50.0, 0.5));
        assert_eq!(entry.images_per_s, Some(64_000.0));
    }

    #[test]
    fn the_file_has_the_agreed_keys() {
        let json = serde_json::to_value(report()).unwrap();
        let keys = |v: &serde_json::Value| {
            let mut keys: Vec<String> = v.as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys.join(" ")
        };
        assert_eq!(keys(&json), "device machine precision results threads");
        assert_eq!(
            keys(&json["results"][0]),
            "bytes flops gbs gflops images_per_s kind limit_fraction max_ms median_ms min_ms name peak_bytes runs shape"
        );
    }

    #[test]
    fn a_report_compares_with_its_own_file_and_with_a_shorter_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bench.json");
        let compare = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Reference::load(&path).map(|r| r.compare(&report()))
        };
        let own = compare(&serde_json::to_string(&report()).unwrap()).unwrap();
        assert_eq!((own[0].time, own[0].memory), (1.0, Some(1.0)));
        let other = r#"{"framework": "other", "results": [{"name": "vae-mnist", "median_ms": 8.0}]}"#;
        assert_eq!(compare(other).unwrap()[0].time, 0.25);
        let kernel = r#"{"results": [{"name": "vae-mnist", "kind": "kernel", "median_ms": 8.0}]}"#;
        assert_eq!(compare(kernel).unwrap(), []);
        for bad in ["{}", "no json", r#"{"results": [{"name": "vae-mnist", "median_ms": 0.0}]}"#] {
            let error = compare(bad).unwrap_err();
            assert_eq!(error.exit_code(), 1);
            assert!(error.to_string().contains("bench.json"), "{error}");
        }
    }
}
