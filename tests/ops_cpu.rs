//! Compares every case of the table on the CPU backend with the f64 definition: values, gradients, gradients
//! of gradients.
//!
//! Slots are poisoned with NaN, so that elements that a kernel does not write are noticed. Any number of
//! threads must give the same bits.

mod common;

use common::cases::{for_each_case, given, truth_of};
use pixtape::backend::Backend;
use pixtape::backend::cpu::{Cpu, Options};
use pixtape::check::bench::prepare;
use pixtape::check::case::{Case, CaseInput, Order};
use pixtape::check::cases::{cases, masked_geometries};
use pixtape::check::compare::{error_of, within, worst_element};
use pixtape::check::elements::Elements;
use pixtape::check::problem::Problem;
use pixtape::shape::Meta;
use pixtape::tape::divide::Policy;
use pixtape::tape::op::{Op, Unary};
use pixtape::tape::plan::{Fused, Precision};
use pixtape::tape::text;
use pixtape::tape::{Tape, Var};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a problem on a poisoned backend of its own. A panic of a kernel is returned as an error.
fn run(case: &Case, problem: &Problem, threads: usize) -> Result<Vec<Vec<f64>>, String> {
    run_divided(case, problem, threads, Policy::default())
}

/// The same with another division of the plan.
fn run_divided(case: &Case, problem: &Problem, threads: usize, policy: Policy) -> Result<Vec<Vec<f64>>, String> {
    let run = || {
        let mut cpu = Cpu::new(Options { threads, poison: true, policy, ..Default::default() })?;
        problem.run(&case.name, &mut cpu)
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(_) => Err(format!("a kernel panicked with {threads} threads")),
    }
}

fn bits(results: &[Vec<f64>]) -> Vec<u64> {
    results.iter().flatten().map(|x| x.to_bits()).collect()
}

fn compare(case: &Case, order: Order) -> Result<(), String> {
    let problem = case.problem(order, 7, 0);
    let got = run(case, &problem, 1)?;
    if bits(&got) != bits(&run(case, &problem, 2)?) {
        return Err("one thread and two give different bits".into());
    }
    compare_with_truth(case, order, &problem, &got)
}

fn compare_with_truth(case: &Case, order: Order, problem: &Problem, got: &[Vec<f64>]) -> Result<(), String> {
    let want = truth_of(problem, &given(problem));
    let tolerance = if order == Order::Zero { case.tol } else { case.grad_tol };
    for ((name, v), (got, want)) in problem.results.iter().zip(got.iter().zip(&want)) {
        let error = error_of(problem.tape.meta(*v).dtype, got, want);
        if !within(error, tolerance) {
            let worst = worst_element(got, want);
            return Err(format!("{name} is off by {error:.2e} (worst element, got, want: {worst:?})"));
        }
    }
    Ok(())
}

#[test]
fn values() {
    for_each_case(Order::Zero, |case| compare(case, Order::Zero));
}

#[test]
fn gradients() {
    for_each_case(Order::Once, |case| compare(case, Order::Once));
}

#[test]
fn second_gradients() {
    for_each_case(Order::Twice, |case| compare(case, Order::Twice));
}

/// `compare` does the same with two threads. There may be more threads than parts, and parts of unequal
/// size.
#[test]
fn three_and_sixteen_threads_give_the_bits_of_one() {
    let compare = |case: &Case, order| {
        let problem = case.problem(order, 7, 0);
        let one = bits(&run(case, &problem, 1)?);
        let differs = |threads: &usize| run(case, &problem, *threads).map(|many| bits(&many)) != Ok(one.clone());
        let other: Vec<usize> = [3, 16].into_iter().filter(differs).collect();
        if other.is_empty() { Ok(()) } else { Err(format!("{other:?} threads give other bits than one")) }
    };
    for_each_case(Order::Zero, |case| compare(case, Order::Zero));
    for_each_case(Order::Once, |case| compare(case, Order::Once));
}

/// Plans that are divided wherever that is possible, into several groups and into one, whose units add to
/// the same sum. The bits depend on neither the micro-batches nor the threads.
#[test]
fn divided_plans() {
    let compare = |case: &Case, order| {
        let problem = case.problem(order, 7, 0);
        for most_groups in [1, 4] {
            let divided = |threads, microbatch_bytes| {
                run_divided(case, &problem, threads, Policy { microbatch_bytes, most_groups, always: true })
            };
            let got = divided(2, 0)?;
            if bits(&got) != bits(&divided(3, usize::MAX)?) {
                return Err("micro-batches of a unit and of a group give different bits".into());
            }
            compare_with_truth(case, order, &problem, &got)?;
        }
        Ok(())
    };
    for order in [Order::Zero, Order::Once, Order::Twice] {
        for_each_case(order, |case| compare(case, order));
    }
}

/// Operands of products have 8 bits of significand, in plans that are divided, too. What is no product has
/// the bits that it has in f32.
#[test]
fn products_in_bf16_are_near_those_in_f32() {
    let compare = |case: &Case, order| {
        let problem = case.problem(order, 7, 0).in_precision(Precision::Bf16);
        let run = |threads, policy| {
            let options = Options { threads, poison: true, policy, emulates_bf16: true, ..Default::default() };
            let result = Cpu::new(options).and_then(|mut cpu| problem.run(&case.name, &mut cpu));
            result.map_err(|why| why.to_string())
        };
        let got = run(1, Policy::default())?;
        if bits(&run(2, Policy::default())?) != bits(&got) {
            return Err("one thread and two give different bits".into());
        }
        let divided = run(2, Policy { microbatch_bytes: 0, most_groups: 4, always: true })?;
        let steps = problem.plan(&case.name);
        let is_product = |op: &Op| matches!(op, Op::Matmul { .. } | Op::Conv(_) | Op::ConvDx(_) | Op::ConvDw(_));
        if !steps.steps().iter().any(|step| is_product(step.op())) {
            let f32 = run_divided(case, &case.problem(order, 7, 0), 2, Policy::default())?;
            return if bits(&f32) == bits(&got) { Ok(()) } else { Err("it is no product and not in f32".into()) };
        }
        let want = truth_of(&problem, &given(&problem));
        // A sum near zero may have the other sign, and then its relu has another derivative.
        let tolerance = if order == Order::Zero { 1e-2 } else { 1e-1 };
        for got in [got, divided] {
            for ((name, v), (got, want)) in problem.results.iter().zip(got.iter().zip(&want)) {
                let error = error_of(problem.tape.meta(*v).dtype, got, want);
                if !within(error, tolerance) {
                    return Err(format!("{name} is off by {error:.2e}"));
                }
            }
        }
        Ok(())
    };
    for_each_case(Order::Zero, |case| compare(case, Order::Zero));
    for_each_case(Order::Once, |case| compare(case, Order::Once));
}

/// A relative error would tolerate a small leak. The gradient of a closed weight must be exactly zero.
#[test]
fn the_gradient_of_a_closed_weight_is_exactly_zero() {
    let masked: HashSet<String> = masked_geometries().iter().map(|g| format!("conv_dw/{g}")).collect();
    let mut closed = 0;
    for case in cases().iter().filter(|c| masked.contains(&c.name)) {
        let problem = case.problem(Order::Zero, 7, 0);
        let want = truth_of(&problem, &given(&problem));
        let got = run(case, &problem, 2).unwrap_or_else(|why| panic!("{}: {why}", case.name));
        for (got, want) in got[0].iter().zip(&want[0]).filter(|(_, want)| **want == 0.0) {
            assert_eq!(*got, 0.0, "{}: a closed weight has the gradient {got}, not {want}", case.name);
            closed += 1;
        }
    }
    assert!(closed > 1000, "{closed} closed weights");
}

#[test]
fn names_are_unique_and_every_case_holds_its_op() {
    let mut names = HashSet::new();
    for case in cases().iter().chain(&pixtape::check::bench::cases()) {
        assert!(names.insert(case.name.clone()), "{} is in the table twice", case.name);
        assert!(case.name.starts_with(&format!("{}/", case.op)), "{}", case.name);
    }
    for case in cases() {
        let nodes = case.problem(Order::Zero, 7, 0).tape.nodes();
        assert!(nodes.iter().any(|n| text::name(&n.op) == case.op), "{} records no {}", case.name, case.op);
    }
}

/// The cases that are meant to be fused are fused. Otherwise they would test the unfused kernels twice.
#[test]
fn every_epilogue_is_reached_behind_every_op_that_takes_it() {
    let mut reached = HashSet::new();
    for case in cases() {
        for order in [Order::Zero, Order::Once].into_iter().filter(|o| *o <= case.order) {
            for step in case.problem(order, 7, 0).plan(&case.name).steps() {
                for fused in step.epilogue() {
                    let what = match fused {
                        Fused::Bias(_) => "bias".to_string(),
                        Fused::Add(_) => "add".to_string(),
                        Fused::Act(f) => f.to_string(),
                        Fused::ActBwd(f, _) => format!("{f}'"),
                    };
                    reached.insert(format!("{} {what}", text::name(step.op())));
                }
            }
        }
    }
    let is_activation = |f: &Unary| f.saves_output() && !matches!(f, Unary::Exp | Unary::Sqrt | Unary::Recip);
    let activations: Vec<String> = Unary::EACH.iter().filter(|f| is_activation(f)).map(Unary::to_string).collect();
    assert!(activations.len() >= 5, "{activations:?}");
    let mut wanted: Vec<String> = activations.iter().map(|f| format!("batch_norm {f}")).collect();
    for op in ["matmul", "conv", "conv_dx"] {
        wanted.extend(["bias", "add"].map(|e| format!("{op} {e}")));
        wanted.extend(activations.iter().flat_map(|f| [format!("{op} {f}"), format!("{op} {f}'")]));
    }
    let missing: Vec<&String> = wanted.iter().filter(|w| !reached.contains(*w)).collect();
    assert!(missing.is_empty(), "never fused in a case: {missing:?}");
}

/// Every case of the bench table is recorded, and the small ones are run.
#[test]
fn bench_cases_can_be_prepared() {
    let mut ran = 0;
    for case in pixtape::check::bench::cases() {
        let elements: usize = case.inputs.iter().map(|i| i.shape.len()).sum();
        if elements > 2_000_000 {
            let t = Tape::new();
            let meta = |i: &CaseInput| match i.elements {
                Elements::Index(_) => Meta::u32(i.shape),
                _ => Meta::f32(i.shape),
            };
            let inputs: Vec<Var> = case.inputs.iter().map(|i| t.input(i.name, meta(i))).collect();
            assert!(!(case.record)(&t, &inputs).is_empty(), "{}", case.name);
            continue;
        }
        let mut cpu = Cpu::new(Options { threads: 2, poison: true, ..Default::default() }).unwrap();
        let prepared = prepare(&case, 0, Precision::F32, &mut cpu).unwrap();
        cpu.run(prepared.compiled, &prepared.problem.feeds(), &prepared.problem.scalars).unwrap();
        let results = prepared.problem.read(prepared.compiled, &mut cpu).unwrap();
        assert!(results.iter().flatten().all(|x| x.is_finite()), "{}", case.name);
        assert!(prepared.cost.bytes > 0 && !prepared.plan.steps().is_empty(), "{}", case.name);
        ran += 1;
    }
    assert!(ran > 10, "{ran} cases were run");
}
