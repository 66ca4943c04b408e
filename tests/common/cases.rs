//! Runs the case table for the tests of values and of gradients.

use super::truth::{self, ReplayInputs};
use pixtape::check::case::{Case, Order};
use pixtape::check::problem::Problem;

/// The feeds, parameters and scalars of a problem, for the interpreter.
pub fn given(problem: &Problem) -> ReplayInputs {
    ReplayInputs {
        feeds: problem.feeds.iter().map(|v| v.to_f64()).collect(),
        params: problem.params.iter().map(|(id, v)| (*id, v.iter().map(|x| f64::from(*x)).collect())).collect(),
        scalars: problem.scalars.clone(),
    }
}

/// The results of a problem, computed by the interpreter.
pub fn truth_of(problem: &Problem, given: &ReplayInputs) -> Vec<Vec<f64>> {
    let truth = truth::run(&problem.tape, given);
    problem.results.iter().map(|(_, v)| truth.value(*v).to_vec()).collect()
}

/// Runs `test` on every case that can be differentiated `order` times. If `PIXTAPE_CASES` is set, only cases
/// whose name contains it are run. Panics with all complaints at once.
pub fn for_each_case(order: Order, mut test: impl FnMut(&Case) -> Result<(), String>) {
    let filter: Vec<String> = std::env::var("PIXTAPE_CASES").into_iter().collect();
    let (mut ran, mut complaints) = (0, vec![]);
    for case in pixtape::check::cases::cases().iter().filter(|c| c.order >= order && c.matches(&filter)) {
        ran += 1;
        if let Err(why) = test(case) {
            complaints.push(format!("{}: {why}", case.name));
        }
    }
    assert!(ran > 0, "no case was run");
    assert!(complaints.is_empty(), "{} of {ran} cases fail:\n{}", complaints.len(), complaints.join("\n"));
}
