//! The results of a benchmark as a JSON file and as a table, and the comparison with another such file.

use super::machine::{CacheLimit, Limits};
use super::timing::Times;
use crate::backend::DeviceInfo;
use crate::error::{Error, Result};
use crate::files::read_text;
use crate::report::roofline::{Mark, Roofline, Slope};
use crate::report::text::text_table;
use crate::tape::cost::Cost;
use crate::tape::plan::Precision;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// The largest benchmark file that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// Bytes of a mebibyte.
const MIB: f64 = (1 << 20) as f64;

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
    /// `kernel`, `step` or `sampling`, or `launches` for the sum of all launches of a step.
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
    /// How often a training step has this launch, if it is one of a model's. The times and the work are
    /// those of one launch. For the sum of all launches, their number.
    pub calls: Option<usize>,
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
            calls: None,
            peak_bytes: 0,
        }
    }

    /// Sets the number of images that one run processes.
    pub(super) fn images(self, images: usize) -> Self {
        Entry { images_per_s: Some(images as f64 * 1e3 / self.median_ms), ..self }
    }

    /// The median time of all launches like this one in a training step.
    pub(super) fn ms_of_step(&self) -> f64 {
        self.median_ms * self.calls.filter(|_| self.kind == "kernel").unwrap_or(1) as f64
    }
}

/// Makes the cell of a result; `None` leaves it empty.
type Cell<'a> = Box<dyn Fn(&Entry) -> Option<String> + 'a>;

/// A column of a report's table.
struct Column<'a> {
    head: &'static str,
    cell: Cell<'a>,
}

impl<'a> Column<'a> {
    fn new(head: &'static str, cell: impl Fn(&Entry) -> Option<String> + 'a) -> Self {
        Column { head, cell: Box::new(cell) }
    }
}

impl Report {
    pub(super) fn new(info: &DeviceInfo, precision: Precision, limits: Limits, results: Vec<Entry>) -> Self {
        Report {
            machine: Machine { name: info.name.clone(), detail: info.detail.clone(), limits },
            device: info.kind.clone(),
            precision: precision.to_string(),
            threads: info.threads,
            results,
        }
    }
}

impl Report {
    /// The results under the limits of the machine.
    pub fn roofline(&self) -> Roofline {
        let Machine { name, detail, limits } = &self.machine;
        let slope = |name: &str, gbs: f64| Slope { name: name.to_string(), gbs };
        let mark = |e: &Entry| Mark {
            name: e.name.clone(),
            flops_per_byte: e.flops as f64 / e.bytes as f64,
            gflops: e.gflops,
        };
        Roofline {
            title: format!("{name}, {detail}, {} threads, {}", self.threads, self.precision),
            peak_gflops: limits.peak_gflops,
            slopes: [slope("memory", limits.peak_gbs)]
                .into_iter()
                .chain(limits.l3.map(|l3| slope("L3", l3.gbs)))
                .collect(),
            marks: self.results.iter().map(mark).collect(),
        }
    }

    /// The columns of the table. Those that would be empty are left out by `Display`.
    fn columns(&self) -> Vec<Column<'_>> {
        let Limits { peak_gflops, peak_gbs, l3 } = self.machine.limits;
        let ms = |v: f64| Some(format!("{v:.3}"));
        let rate = |v: f64| Some(format!("{v:.1}"));
        let percent = |v: f64| Some(format!("{:.1}", 100.0 * v));
        let of_step = self.results.iter().find(|e| e.kind == "launches").map(|all| all.median_ms);
        vec![
            Column::new("calls", |e| e.calls.map(|calls| calls.to_string())),
            Column::new("% of step", move |e| percent(e.ms_of_step() / of_step?)),
            Column::new("median ms", move |e| ms(e.median_ms)),
            Column::new("min ms", move |e| ms(e.min_ms)),
            Column::new("max ms", move |e| ms(e.max_ms)),
            Column::new("runs", |e| Some(e.runs.to_string())),
            Column::new("GFLOP/s", move |e| rate(e.gflops)),
            Column::new("% of peak", move |e| percent(e.gflops / peak_gflops)),
            Column::new("GB/s", move |e| rate(e.gbs)),
            Column::new("% of memory", move |e| percent(e.gbs / peak_gbs)),
            Column::new("% of L3", move |e| percent(e.gbs / l3?.gbs)),
            Column::new("images/s", |e| e.images_per_s.map(|v| format!("{v:.0}"))),
            Column::new("MiB", |e| (e.peak_bytes > 0).then(|| format!("{:.1}", e.peak_bytes as f64 / MIB))),
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { name, detail, limits } = &self.machine;
        writeln!(f, "{} ({name}, {detail}), {} threads, {}", self.device, self.threads, self.precision)?;
        write!(f, "limits: {:.0} GFLOP/s, {:.0} GB/s from memory", limits.peak_gflops, limits.peak_gbs)?;
        match limits.l3 {
            Some(CacheLimit { gbs, bytes }) => {
                writeln!(f, ", {gbs:.0} GB/s from L3 (arrays of {:.1} MiB)\n", bytes as f64 / MIB)?;
            }
            None => f.write_str("\n\n")?,
        }
        let mut columns = self.columns();
        columns.retain(|column| self.results.iter().any(|entry| (column.cell)(entry).is_some()));
        let head: Vec<&str> = ["name"].into_iter().chain(columns.iter().map(|column| column.head)).collect();
        let cell = |column: &Column, entry: &Entry| (column.cell)(entry).unwrap_or_default();
        let row = |e: &Entry| [e.name.clone()].into_iter().chain(columns.iter().map(|c| cell(c, e))).collect();
        f.write_str(&text_table(&head, &self.results.iter().map(row).collect::<Vec<_>>()))
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
        let l3 = Some(CacheLimit { gbs: 40.0, bytes: 8 << 20 });
        let limits = Limits { peak_gflops: 100.0, peak_gbs: 10.0, l3 };
        let times = Times::new(vec![1.0, 2.0, 4.0]);
        let cost = Cost { flops: 100_000_000, bytes: 1_000 };
        let entry = Entry::new("vae-mnist", "step", "128x28x28x1".into(), &times, cost, &limits).images(128);
        let info = DeviceInfo { kind: "cpu".into(), name: "test".into(), detail: "none".into(), threads: 2 };
        Report::new(&info, Precision::F32, limits, vec![Entry { peak_bytes: 1 << 20, ..entry }])
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
        assert_eq!(keys(&json["machine"]), "detail l3 name peak_gbs peak_gflops");
        assert_eq!(keys(&json["machine"]["l3"]), "bytes gbs");
        assert_eq!(
            keys(&json["results"][0]),
            "bytes calls flops gbs gflops images_per_s kind limit_fraction max_ms median_ms min_ms name peak_bytes runs shape"
        );
    }

    #[test]
    fn the_table_holds_results_against_every_limit_that_was_measured() {
        let mut report = report();
        let text = report.to_string();
        assert!(
            text.contains("limits: 100 GFLOP/s, 10 GB/s from memory, 40 GB/s from L3 (arrays of 8.0 MiB)"),
            "{text}"
        );
        let cells = |text: &str, line: usize| -> Vec<String> {
            text.lines().nth(line).unwrap().split("  ").filter(|c| !c.is_empty()).map(|c| c.trim().into()).collect()
        };
        let value = |text: &str, head: &str| {
            let column = cells(text, 3).iter().position(|cell| cell == head)?;
            Some(cells(text, 5)[column].clone())
        };
        assert_eq!(value(&text, "% of peak").as_deref(), Some("50.0"));
        report.results[0].gbs = 5.0;
        let text = report.to_string();
        assert_eq!(value(&text, "% of memory").as_deref(), Some("50.0"));
        assert_eq!(value(&text, "% of L3").as_deref(), Some("12.5"));
        assert_eq!((value(&text, "calls"), value(&text, "% of step")), (None, None));
        report.machine.limits.l3 = None;
        let text = report.to_string();
        assert!(text.contains("10 GB/s from memory\n\nname"), "{text}");
        assert_eq!(value(&text, "% of L3"), None);
        // A launch that a step has three times takes three quarters of the step.
        let all = Entry { kind: "launches", calls: Some(4), ..report.results[0].clone() };
        let launch = Entry { kind: "kernel", calls: Some(3), median_ms: all.median_ms / 4.0, ..all.clone() };
        report.results = vec![launch, all];
        let text = report.to_string();
        assert_eq!((value(&text, "calls").as_deref(), value(&text, "% of step").as_deref()), (Some("3"), Some("75.0")));
    }

    #[test]
    fn the_roofline_has_the_limits_and_the_results_of_the_report() {
        let roofline = report().roofline();
        assert_eq!(roofline.slopes.iter().map(|s| s.gbs).collect::<Vec<_>>(), [10.0, 40.0]);
        let [mark] = &roofline.marks[..] else { panic!("{roofline:?}") };
        assert_eq!((mark.name.as_str(), mark.flops_per_byte, mark.gflops), ("vae-mnist", 100_000.0, 50.0));
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
