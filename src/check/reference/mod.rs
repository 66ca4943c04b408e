//! `pixtape check FILE`: reference cases that anybody can write with PyTorch, JAX or NumPy.
//!
//! One safetensors file holds many cases (`file.rs`): inputs, expected outputs and, if gradients are
//! checked, cotangents and expected gradients, all in PyTorch's layout. A case is recorded as an ordinary
//! tape (`ops.rs`, `recorder.rs`). Its tensors are converted to our layout before the run and back after
//! it (`layout.rs`).

mod compared;
mod file;
mod layout;
mod ops;
mod recorder;
mod recurrence;

pub use file::{CaseFile, ReferenceCase, Tensor};
pub use ops::{OPS, page_rows};

use self::compared::Compared;
use super::compare::within;
use crate::backend::Backend;
use crate::error::{Error, Result};
use serde::Serialize;
use std::fmt;
use std::path::Path;

/// The result of one case: a row of the report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Name of the case.
    pub name: String,
    /// Its op.
    pub op: String,
    /// Whether all results are within their tolerances.
    pub pass: bool,
    /// The relative error that is largest compared with its tolerance. `None` if nothing was compared.
    pub worst: Option<f64>,
    /// The tolerance of that error.
    pub tol: f64,
    /// Why the case fails, as a sentence.
    pub error: Option<String>,
}

/// The results of all cases on a device. `pixtape check --json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The kind of the device, such as `cpu`.
    pub device: String,
    /// The precision of the arithmetic.
    pub precision: &'static str,
    /// One row per case, in the order of the file.
    pub cases: Vec<Row>,
}

impl Report {
    /// An empty report for a device.
    pub fn new(backend: &dyn Backend) -> Self {
        Report { device: backend.describe().kind, precision: "f32", cases: vec![] }
    }

    /// Whether there is at least one case, and every case passes.
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

/// Runs the cases of a file whose op is in `only`, or all cases if `only` is empty.
///
/// # Errors
/// [`Error::File`] if the file cannot be read, is damaged or newer than this program, or has no such
/// case. A case that fails or is invalid is a row of the report.
pub fn run_file(path: &Path, only: &[String], backend: &mut dyn Backend) -> Result<Report> {
    run(path, &CaseFile::load(path)?, only, backend)
}

/// Runs the cases of a file that has been read already. `path` is only used in messages.
///
/// # Errors
/// [`Error::File`] if no case has such an op.
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
pub fn check(case: &ReferenceCase, backend: &mut dyn Backend) -> Row {
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

/// The body of the fuzz target. No bytes may make the parser panic, and no case that the parser accepts
/// may make the recorder panic. The error is the message of a refusal.
pub fn fuzz_parse(bytes: &[u8]) -> Result<(), String> {
    let file = CaseFile::parse(Path::new("file"), bytes).map_err(|error| error.to_string())?;
    // Every case is recorded. The verdict is that of the first one that is refused.
    file.cases.iter().map(|case| ops::record(case).map(drop)).fold(Ok(()), Result::and)
}
