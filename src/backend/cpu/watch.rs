//! What watches replays: the clock of `profile`, and the search for values that are not finite.

use super::replay::{Visitor, Written};
use crate::backend::StepTime;
use crate::error::{Error, Result};
use crate::tape::plan::Plan;
use crate::tape::{cost, text};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Measures the time of each step. If several threads run a step for different images, its time is their
/// time divided by their number.
pub(super) struct Clock {
    /// When each thread ended its last step. Only that thread takes the lock.
    last: Vec<Mutex<Instant>>,
    /// Milliseconds of each step.
    ms: Mutex<Vec<f64>>,
}

impl Clock {
    pub(super) fn new(threads: usize, steps: usize) -> Clock {
        Clock { last: (0..threads).map(|_| Mutex::new(Instant::now())).collect(), ms: Mutex::new(vec![0.0; steps]) }
    }

    /// The time since this thread called it last, in milliseconds.
    fn lap(&self) -> f64 {
        let last = &self.last[rayon::current_thread_index().unwrap_or(0)];
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let ms = now.duration_since(*last).as_secs_f64() * 1e3;
        *last = now;
        ms
    }

    /// The times of the steps of a plan.
    pub(super) fn times(self, plan: &Plan) -> Vec<StepTime> {
        let ms = self.ms.into_inner().unwrap_or_else(PoisonError::into_inner);
        let times = plan.steps.iter().zip(ms).map(|(step, ms)| StepTime {
            scope: step.scope.to_string(),
            label: step.label(),
            op: text::name(&step.op),
            ms,
            cost: cost::cost(step),
        });
        times.collect()
    }
}

impl Visitor for Clock {
    const LOOKS: bool = false;

    fn start(&self) {
        self.lap();
    }

    fn ran(&self, index: usize, team: usize) {
        let ms = self.lap() / team as f64;
        self.ms.lock().unwrap_or_else(PoisonError::into_inner)[index] += ms;
    }
}

/// Ends a replay of a plan at the first output that is not finite.
pub(super) struct FindNonFinite<'a>(pub(super) &'a Plan);

impl Visitor for FindNonFinite<'_> {
    const LOOKS: bool = true;

    fn wrote(&self, written: &Written) -> Result<()> {
        let Some(at) = written.values.iter().position(|value| !value.is_finite()) else { return Ok(()) };
        let (Self(plan), value) = (self, written.values[at]);
        let step = &plan.steps[written.index];
        Err(Error::Failed(format!(
            "plan {}: {} in {} (recorded at {}) wrote {value} at element {} of output {}; lower the learning rate or \
             clip the gradients",
            plan.name,
            step.label(),
            step.scope,
            step.at,
            written.first + at,
            written.output
        )))
    }
}
