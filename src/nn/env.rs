//! The current value of each parameter while a plan is recorded.

use super::params::ParamSet;
use crate::tape::op::{Param, ParamId};
use crate::tape::{Tape, Var};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// How layers behave that differ between training and inference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch norm uses the statistics of the batch, which also update the running ones.
    Train,
    /// Batch norm uses the running statistics.
    Infer,
}

/// The current value of each parameter while a plan is recorded: the old value, until something replaces it.
///
/// So the second use of a batch norm continues with the running statistics of the first, and the loss of a
/// generator uses the critic that has just learned. [`Env::commit`] stores the replaced values.
pub struct Env<'t> {
    /// The tape that everything is recorded on.
    pub t: &'t Tape,
    /// How layers behave.
    pub mode: Mode,
    replaced: RefCell<BTreeMap<ParamId, (Param, Var)>>,
    averages: BTreeMap<ParamId, Param>,
}

impl<'t> Env<'t> {
    /// An environment in which every parameter has its old value.
    pub fn new(t: &'t Tape, mode: Mode) -> Self {
        Env { t, mode, replaced: RefCell::default(), averages: BTreeMap::new() }
    }

    /// Inference, with the moving average `ema/..` instead of the value for each weight and running
    /// statistic that has one.
    pub fn infer(t: &'t Tape, set: &ParamSet) -> Self {
        let average = |p: &Param| {
            let name = p.path.strip_prefix("params/").or_else(|| p.path.strip_prefix("state/"))?;
            Some((p.id, set.find(&format!("ema/{name}"))?.param.clone()))
        };
        let averages = set.specs().iter().filter_map(|spec| average(&spec.param)).collect();
        Env { averages, ..Env::new(t, Mode::Infer) }
    }

    /// The parameter's current value.
    #[track_caller]
    pub fn get(&self, param: &Param) -> Var {
        match self.replaced.borrow().get(&param.id) {
            Some((_, value)) => *value,
            None => self.t.param(self.averages.get(&param.id).unwrap_or(param)),
        }
    }

    /// From here on `value` is the current value of the parameter. It is detached: no gradient flows through
    /// it.
    #[track_caller]
    pub fn set(&self, param: &Param, value: Var) {
        let value = self.t.detach(value);
        self.replaced.borrow_mut().insert(param.id, (param.clone(), value));
    }

    /// Stores every replaced value: the last thing that a training plan records.
    #[track_caller]
    pub fn commit(&self) {
        for (param, value) in self.replaced.borrow().values() {
            self.t.store(param, *value);
        }
    }
}
