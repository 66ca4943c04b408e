//! Benchmarks of kernels, training steps and sampling. All are timed in the same way and compared with
//! the limits of the machine.
//!
//! Read in this order: [`timing`] defines how a time is taken, and [`machine`] measures the limits.
//! [`workload`] has the training steps. [`steps`], [`kernels`], `launches` and [`sampling`] define what is
//! timed. [`report`] writes the results.

mod caches;
pub mod kernels;
mod launches;
mod layers;
pub mod machine;
pub mod report;
pub mod sampling;
pub mod steps;
pub mod timing;
pub mod workload;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::tape::plan::Precision;
use machine::Limits;
use report::{Entry, Report};
use workload::Chosen;

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
    /// Precision of the operands of products in kernels and training steps; `None` is that of the model, or
    /// f32 for reference workloads and kernels.
    pub precision: Option<Precision>,
    /// Names of workloads, or parts of the names of kernels. If it is empty, everything of the kind is
    /// timed.
    pub names: Vec<String>,
    /// The model of a run. Its training step and the launches of that are timed instead of the reference
    /// workloads and kernels.
    pub model: Option<Config>,
    /// Images per batch of training steps, each size in turn; if it is empty, the size of the workload.
    pub batches: Vec<usize>,
    /// Height and width of the images of training steps, each size in turn; if it is empty, the size of the
    /// workload.
    pub sides: Vec<usize>,
    /// Whether every run of a kernel has the same operands, so that those of small kernels are in a cache.
    pub is_warm: bool,
}

impl Options {
    /// Precision of the operands of products.
    pub(crate) fn precision(&self) -> Precision {
        let of_model = || self.model.as_ref().map(|model| model.precision.operands());
        self.precision.or_else(of_model).unwrap_or(Precision::F32)
    }
}

#[cfg(test)]
impl Options {
    /// Everything of a kind on the CPU.
    pub fn on_cpu(threads: usize) -> Options {
        let (device, names, batches, sides) = ("cpu".into(), vec![], vec![], vec![]);
        Options { device, threads, precision: None, names, model: None, batches, sides, is_warm: false }
    }
}

/// What is timed, after the names in [`Options`] were checked.
enum Work<'a> {
    Kernels(Vec<String>),
    Launches(&'a Config),
    Steps(Vec<Chosen>),
    Sampling(Vec<String>),
}

/// Times everything that `options` names. `on` receives each result as soon as it is known.
///
/// # Errors
/// [`Error::Usage`] if a name does not exist, before anything is timed. Also whatever the device reports,
/// and a result that is not finite.
pub fn run(kind: Kind, options: &Options, on: &mut dyn FnMut(&Entry)) -> Result<Report> {
    let work = match (kind, &options.model) {
        (Kind::Kernels, None) => Work::Kernels(kernels::select(&options.names)?),
        (Kind::Kernels, Some(model)) => Work::Launches(model),
        (Kind::Steps, _) => Work::Steps(workload::choose(options)?),
        (Kind::Sampling, _) => Work::Sampling(select(&sampling::names(), &options.names)?),
    };
    if kind == Kind::Sampling && options.precision.is_some_and(|precision| precision != Precision::F32) {
        return Err(Error::Usage("images are always drawn in f32: leave out --precision".to_string()));
    }
    let mut device = crate::backend::open(&options.device, options.threads)?;
    let info = device.describe();
    let limits = Limits::of(&mut *device, options.precision())?;
    drop(device);
    let mut results = vec![];
    let mut add = |results: &mut Vec<Entry>, entry: Entry| {
        on(&entry);
        results.push(entry);
    };
    match work {
        Work::Kernels(names) => {
            for name in &names {
                add(&mut results, kernels::time(name, options, &limits)?);
            }
        }
        // They are all known at the same time.
        Work::Launches(model) => results = launches::time(model, options, &limits)?,
        Work::Steps(all) => {
            for chosen in &all {
                add(&mut results, steps::time(chosen, options, &limits)?);
            }
        }
        Work::Sampling(names) => {
            for name in &names {
                add(&mut results, sampling::time(name, options, &limits)?);
            }
        }
    }
    Ok(Report::new(&info, options.precision(), limits, results))
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
