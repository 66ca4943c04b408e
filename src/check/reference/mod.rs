//! `pixtape check FILE`: reference cases that anybody can write from PyTorch, JAX or NumPy.
//!
//! One safetensors file holds many cases (`file.rs`): inputs, expected outputs, and, where gradients are checked, the
//! cotangents and the expected gradients, all in PyTorch's layout. A case is recorded as an ordinary tape (`ops.rs`), with
//! its tensors put in our order on the way in and back on the way out (`layout.rs`, `recorder.rs`).

mod compared;
mod file;
mod layout;
mod ops;
mod recorder;

pub use file::{Case, CaseFile, Tensor};
pub use ops::OPS;

use self::compared::Compared;
use super::compare::within;
use crate::backend::Backend;
use crate::error::{Error, Result};
use serde::Serialize;
use std::fmt;
use std::path::Path;

/// What became of one case. A row of the report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Name of the case.
    pub name: String,
    /// Its op.
    pub op: String,
    /// Whether everything lies within its tolerance.
    pub pass: bool,
    /// The relative error that comes nearest to its tolerance, or exceeds it most. `None` where nothing was compared.
    pub worst: Option<f64>,
    /// The tolerance of that error.
    pub tol: f64,
    /// Why the case fails, as a sentence.
    pub error: Option<String>,
}

/// What a device makes of all cases: `pixtape check --json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Kind of the device: `cpu`.
    pub device: String,
    /// Precision of the arithmetic.
    pub precision: &'static str,
    /// One row a case, in the order of the file.
    pub cases: Vec<Row>,
}

impl Report {
    /// An empty report on a device.
    pub fn new(backend: &dyn Backend) -> Self {
        Report { device: backend.describe().kind, precision: "f32", cases: vec![] }
    }

    /// Whether every case passes, and there is one.
    pub fn pass(&self) -> bool {
        !self.cases.is_empty() && self.cases.iter().all(|row| row.pass)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.pass { "ok  " } else { "FAIL" };
        let worst = self.worst.map_or("-".to_string(), |w| format!("{w:.1e}"));
        write!(f, "{verdict} {:<28} {:<22} {worst:>8} of {:.0e}", self.name, self.op, self.tol)?;
        match &self.error {
            Some(error) => write!(f, "  {error}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.cases {
            writeln!(f, "{row}")?;
        }
        let passed = self.cases.iter().filter(|row| row.pass).count();
        write!(f, "{passed} of {} cases pass on {} in {}", self.cases.len(), self.device, self.precision)
    }
}

/// Runs the cases of a file whose op is among `only` (all if that is empty).
///
/// # Errors
/// [`Error::File`] where the file cannot be read, is damaged or newer, or holds no such case. A case that fails, whether
/// by its numbers or because it makes no sense, is a row of the report.
pub fn run_file(path: &Path, only: &[String], backend: &mut dyn Backend) -> Result<Report> {
    run(path, &CaseFile::load(path)?, only, backend)
}

/// Runs the cases of a file that is already read; `path` is only for messages.
///
/// # Errors
/// [`Error::File`] where no case has such an op.
pub fn run(path: &Path, file: &CaseFile, only: &[String], backend: &mut dyn Backend) -> Result<Report> {
    let mut report = Report::new(backend);
    let chosen = file.cases.iter().filter(|case| only.is_empty() || only.contains(&case.op));
    report.cases = chosen.map(|case| check(case, backend)).collect();
    if report.cases.is_empty() {
        let remedy = format!("choose among its ops: {}", file.ops().join(", "));
        return Err(Error::file(path, format!("it has no case of {}", only.join(", ")), remedy));
    }
    Ok(report)
}

/// Runs one case.
pub fn check(case: &Case, backend: &mut dyn Backend) -> Row {
    let row = |worst, tol, error: Option<String>| Row {
        name: case.name.clone(),
        op: case.op.clone(),
        pass: error.is_none(),
        worst,
        tol,
        error,
    };
    match ops::record(case).and_then(|recorded| recorded.run(backend)) {
        Err(why) => row(None, case.tol, Some(why)),
        Ok(results) => {
            let tolerance = |r: &Compared| if r.is_gradient { case.grad_tol } else { case.tol };
            let severity = |r: &Compared| if r.error().is_nan() { f64::INFINITY } else { r.error() / tolerance(r) };
            let worst = results.iter().max_by(|a, b| severity(a).total_cmp(&severity(b)));
            let Some(result) = worst else {
                return row(None, case.tol, Some("it has no output to compare".to_string()));
            };
            let (error, tol) = (result.error(), tolerance(result));
            let why = format!("{} is off by {error:.1e}, more than {tol:.0e}", result.name);
            row(Some(error), tol, (!within(error, tol)).then_some(why))
        }
    }
}

/// The body of the fuzz target: no bytes make the parser panic, and no case that it accepts makes the recorder panic.
pub fn fuzz_parse(bytes: &[u8]) {
    if let Ok(file) = CaseFile::parse(Path::new("fuzz"), bytes) {
        for case in &file.cases {
            // What a case makes of its tensors is an error or a tape, both fine.
            let _: Result<(), Error> = ops::record(case).map(drop).map_err(Error::Failed);
        }
    }
}
