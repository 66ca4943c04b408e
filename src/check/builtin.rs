//! `pixtape check` without a file: runs the cases that are built into the binary, and compares other
//! devices with the CPU on the case table.

use super::case::{Case, Order};
use super::compare::{Element, error_of, within, worst_element};
use super::reference::{self, CaseFile, Report, Row};
use crate::backend::Backend;
use crate::backend::cpu::{Cpu, Options};
use crate::error::{Error, Result};
use std::path::Path;

/// Reference cases of every op, written by `tests/reference/make_cases.py`.
const BYTES: &[u8] = include_bytes!("builtin.safetensors");

/// The cases that are built into the binary.
///
/// # Errors
/// None, unless the binary is damaged.
pub fn builtin_cases() -> Result<CaseFile> {
    CaseFile::parse(Path::new("the built-in cases"), BYTES)
}

/// Runs the built-in cases, whose expected values were computed by PyTorch in f64. On any device other
/// than the CPU it also runs every case of the table, with values and gradients, and compares with the
/// CPU. `only` selects ops; if it is empty, all are run.
///
/// # Errors
/// [`Error::Usage`] if no case has such an op, and errors of opening the CPU.
pub fn run_builtin(only: &[String], backend: &mut dyn Backend) -> Result<Report> {
    let mut report = Report::new(backend);
    let chosen = |op: &str| only.is_empty() || only.iter().any(|o| o == op);
    let builtin = builtin_cases()?;
    let cases = builtin.cases.iter().filter(|case| chosen(&case.op));
    report.cases.extend(cases.map(|case| reference::check(case, backend)));
    if report.device != "cpu" {
        let table = super::cases::cases();
        let cases: Vec<&Case> = table.iter().filter(|case| chosen(case.op)).collect();
        report.cases.extend(against_cpu(&cases, backend)?);
    }
    if report.cases.is_empty() {
        let known = builtin.ops().join(", ");
        return Err(Error::Usage(format!("no built-in case of {}; known are {known}", only.join(", "))));
    }
    Ok(report)
}

/// Runs cases of the table on a device and on the CPU, and compares values, gradients and second
/// gradients.
///
/// # Errors
/// Errors of opening the CPU. Errors of a single case become its row.
pub fn against_cpu(cases: &[&Case], backend: &mut dyn Backend) -> Result<Vec<Row>> {
    let mut cpu = Cpu::new(Options::default())?;
    let mut params = 0;
    let mut rows = vec![];
    for case in cases {
        for order in [Order::Zero, Order::Once, Order::Twice].into_iter().filter(|order| *order <= case.order) {
            rows.push(compare(case, order, params, &mut cpu, backend));
            params += case.inputs.len() as u32;
        }
    }
    Ok(rows)
}

fn compare(case: &Case, order: Order, first_param: u32, cpu: &mut Cpu, backend: &mut dyn Backend) -> Row {
    let (suffix, tol) = match order {
        Order::Zero => ("", case.tol),
        Order::Once => ("'", case.grad_tol),
        Order::Twice => ("''", case.grad_tol),
    };
    let name = format!("{}{suffix}", case.name);
    let problem = case.problem(order, 1, first_param);
    let both = problem.run(&name, cpu).and_then(|want| Ok((want, problem.run(&name, backend)?)));
    let row = |worst: Option<f64>, error: Option<String>| Row {
        name: name.clone(),
        op: case.op.to_string(),
        pass: error.is_none(),
        worst,
        tol,
        error,
    };
    let (want, got) = match both {
        Ok(both) => both,
        Err(error) => return row(None, Some(error.to_string())),
    };
    let mut worst = 0.0;
    for ((result, v), (got, want)) in problem.results.iter().zip(got.iter().zip(&want)) {
        let error = error_of(problem.tape.meta(*v).dtype, got, want);
        if !within(error, tol) {
            let element = worst_element(got, want).map_or(String::new(), |Element { index, got, want }| {
                format!(" (element {index} is {got}, on the CPU {want})")
            });
            return row(Some(error), Some(format!("{result} is off by {error:.1e}, more than {tol:.0e}{element}")));
        }
        worst = error.max(worst);
    }
    row(Some(worst), None)
}
