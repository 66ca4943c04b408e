//! What a parameter is worth at a point of the tape.

use super::params::{Param, ParamSet};
use crate::tape::op::ParamId;
use crate::tape::{Tape, Var};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// What layers with two behaviours do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics, which move the running ones.
    Train,
    /// Running statistics.
    Infer,
}

/// The current value of each parameter while a plan is recorded: its old value until something replaces it. A second
/// use of a batch norm finds the running statistics that the first one left, and a generator meets the critic that has
/// just learned. [`Env::commit`] stores what was replaced.
pub struct Env<'t> {
    /// The tape that everything is recorded on.
    pub t: &'t Tape,
    /// Which behaviour layers show.
    pub mode: Mode,
    replaced: RefCell<BTreeMap<ParamId, (Param, Var)>>,
    averages: BTreeMap<ParamId, Param>,
}

impl<'t> Env<'t> {
    /// Every parameter at its old value.
    pub fn new(t: &'t Tape, mode: Mode) -> Self {
        Env { t, mode, replaced: RefCell::default(), averages: BTreeMap::new() }
    }

    /// Inference with the moving averages `ema/..` in the place of the weights that have one.
    pub fn infer(t: &'t Tape, set: &ParamSet) -> Self {
        let average = |p: &Param| Some((p.id, set.find(&p.path.replacen("params/", "ema/", 1))?.param.clone()));
        Env { averages: set.weights().filter_map(average).collect(), ..Env::new(t, Mode::Infer) }
    }

    /// The parameter's current value.
    #[track_caller]
    pub fn get(&self, param: &Param) -> Var {
        match self.replaced.borrow().get(&param.id) {
            Some((_, value)) => *value,
            None => self.t.param(self.averages.get(&param.id).unwrap_or(param)),
        }
    }

    /// From here on the parameter is worth `value`. No gradient flows into how it came about.
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
