//! Compares the gradient rules with finite differences. Both are in f64, so that only a wrong rule can fail.

mod common;

use common::cases::{for_each_case, given, truth_of};
use common::truth::ReplayInputs;
use pixtape::check::case::{Case, Order};
use pixtape::rng::{self, Stream};
use pixtape::tape::cost::cost;

/// Largest relative error. The error of finite differences of fourth order is far below it.
const TOLERANCE: f64 = 1e-6;

/// Error that rounding adds to a finite difference, as a fraction of the projection.
const ROUNDING: f64 = 1e-10;

/// Step of the finite differences.
const STEP: f64 = 1e-4;

/// Maximum number of elements of an input that are moved one by one. In addition all elements are moved
/// together in one random direction.
const ELEMENTS: usize = 12;

/// The same for a case of more than `LARGE` operations.
const ELEMENTS_OF_LARGE: usize = 1;
const LARGE: u64 = 1_000_000;

/// Compares the gradients of order `order` with finite differences of the order below.
fn compare(case: &Case, order: Order) -> Result<(), String> {
    if case.kinked {
        return Ok(());
    }
    let below = if order == Order::Once { Order::Zero } else { Order::Once };
    let (lower, upper) = (case.problem(below, 7, 0), case.problem(order, 7, 0));
    let given = given(&upper);
    let gradients = truth_of(&upper, &given);
    // The feeds that only the upper problem has are the projections of the lower problem's results.
    let projections = &given.feeds[lower.feeds.len()..];
    let mut at = given.clone();
    at.feeds.truncate(lower.feeds.len());
    let projected = |at: &ReplayInputs| -> f64 {
        let results = truth_of(&lower, at);
        projections.iter().zip(results).map(|(p, r)| p.iter().zip(r).map(|(a, b)| a * b).sum::<f64>()).sum()
    };
    let rounding = ROUNDING * (1.0 + projected(&at).abs());
    let flops: u64 = case.problem(Order::Zero, 7, 0).plan(&case.name).steps().iter().map(|s| cost(s).flops).sum();
    let elements = if flops > LARGE { ELEMENTS_OF_LARGE } else { ELEMENTS };
    for ((name, _), (variable, gradient)) in upper.results.iter().zip(lower.variables.iter().zip(&gradients)) {
        let centre = given.feeds[variable.feed].clone();
        let (mut analytic, mut numeric) = (vec![], vec![]);
        for direction in directions(centre.len(), elements) {
            let mut moved = |steps: f64| {
                at.feeds[variable.feed] = centre.iter().zip(&direction).map(|(c, d)| c + steps * STEP * d).collect();
                projected(&at)
            };
            let difference = 8.0 * (moved(1.0) - moved(-1.0)) - (moved(2.0) - moved(-2.0));
            numeric.push(difference / (12.0 * STEP));
            analytic.push(gradient.iter().zip(&direction).map(|(g, d)| g * d).sum());
        }
        at.feeds[variable.feed] = centre;
        let off: Vec<f64> = analytic.iter().zip(&numeric).map(|(a, n): (&f64, &f64)| a - n).collect();
        let within = norm(&off) <= TOLERANCE * norm(&numeric) + rounding;
        if !within {
            return Err(format!("{name}: {analytic:.7?} by the rule, {numeric:.7?} by differences"));
        }
    }
    Ok(())
}

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Unit vectors of some elements, then a random direction with elements in [-1, 1).
fn directions(len: usize, elements: usize) -> Vec<Vec<f64>> {
    let stride = len.div_ceil(elements).max(1);
    let unit = |i: usize| (0..len).map(|k| f64::from(k == i)).collect();
    let random = (0..len).map(|i| f64::from(2.0 * rng::uniform(3, Stream::Test, [0, i as u32]) - 1.0)).collect();
    (0..len).step_by(stride).map(unit).chain([random]).collect()
}

#[test]
fn first_gradients() {
    for_each_case(Order::Once, |case| compare(case, Order::Once));
}

#[test]
fn second_gradients() {
    for_each_case(Order::Twice, |case| compare(case, Order::Twice));
}
