//! x
#![cfg(feature = "wgpu")]
mod common;
use common::cases::{for_each_case, given, truth_of};
use pixtape::check::case::{Case, Order};
use pixtape::check::compare::{error_of, within, worst_element};
use pixtape::backend::wgpu::{Options, Wgpu};

fn open() -> Wgpu { Wgpu::new(Options { poison: true, guards: true, ..Default::default() }).unwrap() }

fn compare(case: &Case, order: Order, w: &mut Wgpu) -> Result<(), String> {
    let problem = case.problem(order, 7, 0);
    w.clear();
    let got = problem.run(&case.name, w).map_err(|e| e.to_string())?;
    let want = truth_of(&problem, &given(&problem));
    let tolerance = if order == Order::Zero { case.tol } else { case.grad_tol };
    for ((name, v), (got, want)) in problem.results.iter().zip(got.iter().zip(&want)) {
        let error = error_of(problem.tape.meta(*v).dtype, got, want);
        if !within(error, tolerance) {
            let worst = worst_element(got, want);
            return Err(format!("{name} is off by {error:.2e} (worst element, got, want: {worst:?})"));
        }
    }
    w.check_guards().map_err(|e| e.to_string())?;
    Ok(())
}

#[test]
fn values() {
    let mut w = open();
    for_each_case(Order::Zero, |case| compare(case, Order::Zero, &mut w));
}

#[test]
fn gradients() {
    let mut w = open();
    for_each_case(Order::Once, |case| compare(case, Order::Once, &mut w));
}
