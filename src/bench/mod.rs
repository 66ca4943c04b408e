//! Benchmarks of kernels, training steps and sampling. All are timed in the same way and compared with
//! the limits of the machine.
//!
//! Read in this order: [`timing`] defines how a time is taken, and [`machine`] measures the limits.
//! [`steps`], [`kernels`] and [`sampling`] define what is timed. [`report`] writes the results.

pub mod kernels;
mod layers;
pub mod machine;
pub mod report;
pub mod sampling;
pub mod steps;
pub mod timing;

use crate::backend::Peaks;
use crate::error::{Error, Result};
use machine::Limits;
use report::{Entry, Report};

/// The kind of workload that is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Single kernels at the sizes of the workloads.
    Kernels,
    /// Whole training steps: forward pass, backward pass and optimiser.
    Steps,
    /// Sampling of images from a model.
    Sampling,
}

/// What to time, and on which device.
#[derive(Clone, Debug)]
pub struct Options {
    /// The device, as [`backend::open`](crate::backend::open) takes it.
    pub device: String,
    /// Worker threads; 0 uses every core.
    pub threads: usize,
    /// Names of workloads, or parts of the names of kernels. If it is empty, everything of the kind is
    /// timed.
    pub names: Vec<String>,
}

/// Times everything that `options` names. `on` receives each result as soon as it is known.
///
/// # Errors
/// [`Error::Usage`] if a name does not exist, before anything is timed. Also whatever the device reports,
/// and a result that is not finite.
pub fn run(kind: Kind, options: &Options, on: &mut dyn FnMut(&Entry)) -> Result<Report> {
    let names = match kind {
        Kind::Kernels => kernels::select(&options.names)?,
        Kind::Steps => select(&steps::names(), &options.names)?,
        Kind::Sampling => select(&sampling::names(), &options.names)?,
    };
    let mut device = crate::backend::open(&options.device, options.threads)?;
    let (info, peaks) = (device.describe(), device.peaks()?);
    let limits = match peaks {
        Some(Peaks { gflops, gbs }) => Limits { peak_gflops: gflops, peak_gbs: gbs },
        None => Limits::measure(info.threads),
    };
    drop(device);
    let mut results = vec![];
    for name in &names {
        let entry = match kind {
            Kind::Kernels => kernels::time(name, options, &limits)?,
            Kind::Steps => steps::time(name, options, &limits)?,
            Kind::Sampling => sampling::time(name, options, &limits)?,
        };
        on(&entry);
        results.push(entry);
    }
    Ok(Report::new(&info, limits, results))
}

/// The requested names, or all names if none is requested.
fn select(known: &[String], asked: &[String]) -> Result<Vec<String>> {
    if let Some(unknown) = asked.iter().find(|name| !known.contains(name)) {
        return Err(Error::Usage(format!(
            "this version has no benchmark called {unknown:?}; it has {}",
            known.join(", ")
        )));
    }
    Ok(if asked.is_empty() { known.to_vec() } else { asked.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_lists_those_that_exist() {
        let known = ["a".to_string(), "b".to_string()];
        let error = select(&known, &["c".into()]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("\"c\"") && error.to_string().contains("a, b"), "{error}");
        assert_eq!(select(&known, &[]).unwrap(), known);
        assert_eq!(select(&known, &["b".into()]).unwrap(), ["b"]);
    }
}
