//! Compares every case of the table on wgpu with the f64 definition: values, gradients, gradients of
//! gradients. Then runs the reference cases.
//!
//! Outputs are poisoned, so that elements that a kernel does not write are noticed. Guard words around
//! buffers detect writes outside of them.

use crate::common::cases::{for_each_case, given, truth_of};
use crate::{is_required, open};
use pixtape::backend::Backend;
use pixtape::backend::wgpu::{Options, Wgpu};
use pixtape::check::case::{Case, Order, drawn, normal};
use pixtape::check::cases::{cases, masked_geometries};
use pixtape::check::compare::{error_of, within, worst_element};
use pixtape::check::elements::Elements;
use pixtape::check::problem::Problem;
use pixtape::check::reference::run_file;
use std::collections::HashSet;
use std::path::PathBuf;

/// A device whose outputs are poisoned and whose buffers are guarded, or `None` with the reason printed.
fn guarded() -> Option<Wgpu> {
    open(Options { poison: true, guards: true, ..Default::default() })
}

/// Compares one case with its definition. Clears the device first, except for its pipelines.
fn compare(case: &Case, order: Order, device: &mut Wgpu) -> Result<(), String> {
    device.clear();
    let problem = case.problem(order, 7, 0);
    let got = run_and_keep(&problem, &case.name, device).map_err(|e| e.to_string())?;
    let want = truth_of(&problem, &given(&problem));
    let tolerance = if order == Order::Zero { case.tol } else { case.grad_tol };
    for ((name, v), (got, want)) in problem.results.iter().zip(got.iter().zip(&want)) {
        let error = error_of(problem.tape.meta(*v).dtype, got, want);
        if !within(error, tolerance) {
            let worst = worst_element(got, want);
            return Err(format!("{name} is off by {error:.2e} (worst element, got, want: {worst:?})"));
        }
    }
    device.check_guards().map_err(|e| e.to_string())
}

/// Does the same as [`Problem::run`] but keeps the plan, so that the guards around its buffers can be
/// checked.
fn run_and_keep(problem: &Problem, name: &str, device: &mut Wgpu) -> pixtape::Result<Vec<Vec<f64>>> {
    let compiled = problem.compile(name, device)?;
    device.run(compiled, &problem.feeds(), &problem.scalars)?;
    problem.read(compiled, device)
}

#[test]
fn values_of_every_case() {
    let Some(mut device) = guarded() else { return };
    for_each_case(Order::Zero, |case| compare(case, Order::Zero, &mut device));
}

#[test]
fn gradients_of_every_case() {
    let Some(mut device) = guarded() else { return };
    for_each_case(Order::Once, |case| compare(case, Order::Once, &mut device));
}

#[test]
fn second_gradients_of_every_case() {
    let Some(mut device) = guarded() else { return };
    for_each_case(Order::Twice, |case| compare(case, Order::Twice, &mut device));
}

/// Mesa's software Vulkan silently ends the loops of an invocation after 65 535 iterations in total.
#[test]
fn a_sequence_is_right_whose_rounds_are_more_than_software_goes_through() {
    let Some(mut device) = guarded() else { return };
    let [steps, h] = [600, 128];
    let inputs = vec![
        normal("z", [steps, 1, 4 * h]),
        normal("h0", [1, h]),
        normal("c0", [1, h]),
        drawn("w_hh", [h, 4 * h], Elements::Uniform(-0.1, 0.1)),
    ];
    let case = Case::new("lstm", "long", inputs, |t, v| t.lstm(v[0], v[1], v[2], v[3]).to_vec()).once();
    for order in [Order::Zero, Order::Once] {
        compare(&case, order, &mut device).unwrap();
    }
}

/// The threads of a workgroup need more than one pass over such a row.
#[test]
fn a_row_is_normalised_that_is_wider_than_a_workgroup() {
    let Some(mut device) = guarded() else { return };
    let width = 600;
    let inputs = vec![normal("x", [3, width]), drawn("gamma", [width], Elements::POSITIVE), normal("beta", [width])];
    let case = Case::new("layer_norm", "wide", inputs, |t, v| vec![t.layer_norm(v[0], v[1], v[2], 1e-5)]).once();
    for order in [Order::Zero, Order::Once] {
        compare(&case, order, &mut device).unwrap();
    }
}

/// A relative error would tolerate a small leak. The gradient of a closed weight must be exactly zero.
#[test]
fn the_gradient_of_a_closed_weight_is_exactly_zero() {
    let Some(mut device) = guarded() else { return };
    let masked: HashSet<String> = masked_geometries().iter().map(|g| format!("conv_dw/{g}")).collect();
    let mut closed = 0;
    for case in cases().iter().filter(|c| masked.contains(&c.name)) {
        device.clear();
        let problem = case.problem(Order::Zero, 7, 0);
        let want = truth_of(&problem, &given(&problem));
        let got = problem.run(&case.name, &mut device).unwrap();
        for (got, want) in got[0].iter().zip(&want[0]).filter(|(_, want)| **want == 0.0) {
            assert_eq!(*got, 0.0, "{}: a closed weight has the gradient {got}, not {want}", case.name);
            closed += 1;
        }
    }
    assert!(closed > 1000, "{closed} closed weights");
}

#[test]
fn reference_cases_pass() {
    let Some(mut device) = open(Options::default()) else { return };
    let Some(path) = std::env::var_os("PIXTAPE_REFERENCE").map(PathBuf::from) else {
        assert!(!is_required("reference"), "PIXTAPE_REFERENCE is not set, but PIXTAPE_REQUIRE asks for it");
        println!("SKIP: PIXTAPE_REFERENCE is not set");
        return;
    };
    let ops = pixtape::check::reference::OPS.map(String::from);
    let report = run_file(&path, &ops, &mut device).unwrap();
    assert!(report.pass(), "{report}");
}
