//! Compares every op on the stand-in driver with the CPU backend.

use crate::stand_in::{Build, StandIn, root, text};
use pixtape::backend::{Backend, Feed, Scalars};
use pixtape::check::builtin::against_cpu;
use pixtape::check::case::Case;
use pixtape::check::cases::FAMILIES;
use pixtape::check::reference::OPS;
use pixtape::optim::LEARNING_RATE;
use pixtape::shape::{Meta, Shape};
use pixtape::tape::Tape;
use pixtape::tape::op::{Param, ParamId};
use pixtape::tape::plan::Plan;

/// Runs every second case on poisoned memory. The table is split in two, so that two cores can work on it.
fn half_of_the_table(which: usize) {
    let Some(mut backend) = StandIn::backend() else { return };
    let table = pixtape::check::cases::cases();
    let cases: Vec<&Case> = table.iter().skip(which).step_by(2).collect();
    let rows = against_cpu(&cases, &mut backend).unwrap();
    let bad: Vec<String> = rows.iter().filter(|r| !r.pass).map(|r| format!("{}: {:?}", r.name, r.error)).collect();
    assert!(bad.is_empty(), "{} of {} cases fail:\n{}", bad.len(), rows.len(), bad.join("\n"));
    assert!(rows.len() > 500, "{} cases were run", rows.len());
}

#[test]
fn one_half_of_the_table_agrees_with_the_cpu() {
    half_of_the_table(0);
}

#[test]
fn the_other_half_of_the_table_agrees_with_the_cpu() {
    half_of_the_table(1);
}

#[test]
fn reference_cases_pass_on_the_command_line() {
    let Some(stand_in) = StandIn::get(Build::Plain) else { return };
    let Some(file) = std::env::var_os("PIXTAPE_REFERENCE") else {
        println!("SKIP: PIXTAPE_REFERENCE names no file of reference cases");
        return;
    };
    let output = stand_in.pixtape("check --device cuda").arg(file).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

/// The results must not depend on the order in which threads run.
#[test]
fn the_order_of_the_threads_does_not_matter() {
    let Some(stand_in) = StandIn::get(Build::Plain) else { return };
    for order in ["reverse", "random"] {
        let mut command =
            stand_in.pixtape("check --device cuda --only conv2d,matmul,sum,batch_norm,layer_norm,lstm,row_lstm");
        let output = command.env("CUDA_ON_CPU_ORDER", order).output().unwrap();
        assert!(output.status.success(), "{order}: {}", text(&output));
    }
}

/// A card with few multiprocessors gets large tiles, a card with many gets small tiles. With little shared
/// memory, fewer weights are kept there.
#[test]
fn other_cards_take_other_tiles() {
    let Some(stand_in) = StandIn::get(Build::Plain) else { return };
    for (variable, value) in [("PROCESSORS", "1"), ("PROCESSORS", "132"), ("SHARED", "65536")] {
        let only = "conv2d,conv_transpose2d,linear,matmul,conv,conv_dx,conv_dw,lstm,row_lstm,diagonal_lstm";
        let mut command = stand_in.pixtape(&format!("check --device cuda --only {only}"));
        let output = command.env(format!("CUDA_ON_CPU_{variable}"), value).output().unwrap();
        assert!(output.status.success(), "{variable} {value}: {}", text(&output));
    }
}

/// A plan that adds its input, times the learning rate, to a parameter.
fn adder() -> Plan {
    let t = Tape::new();
    let param = Param { id: ParamId(0), path: "total".into(), shape: [1000].into() };
    let (total, x) = (t.param(&param), t.input("x", Meta::f32([1000])));
    let rate = t.scalar(LEARNING_RATE);
    let rates = t.expand(t.reshape(rate, [1]), [1000]);
    let next = t.add(total, t.mul(x, rates));
    t.store(&param, next);
    t.output("next", next);
    Plan::new("adder", &t)
}

/// The script lists the ops by family, and at the end the reference cases whose op is not an op of the tape.
#[test]
fn the_script_for_a_card_checks_every_op() {
    let path = root().join("benches/gpu.sh");
    let script = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = script.split_once("families=(\n").unwrap();
    let (_, after) = rest.split_once(")\n").unwrap();
    let of_tape: Vec<&str> = FAMILIES.iter().map(|(_, op)| *op).collect();
    let words = OPS.into_iter().filter(|word| !of_tape.contains(word)).map(|word| ("reference", word));
    let mut families: Vec<(&str, Vec<&str>)> = vec![];
    for (family, op) in FAMILIES.iter().copied().chain(words) {
        match families.iter_mut().find(|(name, _)| *name == family) {
            Some((_, ops)) => ops.push(op),
            None => families.push((family, vec![op])),
        }
    }
    let lines: String = families.iter().map(|(name, ops)| format!("    {name}:{}\n", ops.join(","))).collect();
    let wanted = format!("{before}families=(\n{lines})\n{after}");
    if std::env::var_os("PIXTAPE_BLESS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    assert!(
        script == wanted,
        "benches/gpu.sh has other families than the table of ops; PIXTAPE_BLESS=1 writes them anew"
    );
}

/// One kernel runs a sequence of many units and one of few units. The small one must not lower the limit of
/// shared memory that the large one has set, neither in one plan nor in another plan.
#[test]
fn a_kernel_keeps_the_shared_memory_that_another_step_asked_for() {
    let Some(mut backend) = StandIn::backend() else { return };
    let plan = |units: &[usize]| {
        let t = Tape::new();
        for h in units {
            let input = |name: &str, shape: &[usize]| t.input(&format!("{name}{h}"), Meta::f32(Shape::new(shape)));
            let (z, state) = (input("z", &[2, 1, 4 * h]), input("state", &[1, *h]));
            let [y, _] = t.lstm(z, state, state, input("w", &[*h, 4 * h]));
            t.output(&format!("y{h}"), y);
        }
        Plan::new("sequences", &t)
    };
    let plans = [plan(&[100, 3]), plan(&[5])];
    let compiled = plans.each_ref().map(|plan| backend.compile(plan).unwrap());
    for (plan, compiled) in plans.iter().zip(compiled) {
        let zeros: Vec<Vec<f32>> = plan.inputs().iter().map(|input| vec![0.0; input.meta.shape.len()]).collect();
        let feeds: Vec<Feed> = zeros.iter().map(|zeros| Feed::F32(zeros)).collect();
        backend.run(compiled, &feeds, &Scalars::default()).unwrap();
        backend.profile(compiled, &feeds, &Scalars::default()).unwrap();
    }
}

/// Replays that are queued keep their own inputs and scalars. None is overwritten before it is read, and
/// none is compiled into the plan.
#[test]
fn replays_follow_one_another_without_waiting() {
    let Some(mut backend) = StandIn::backend() else { return };
    backend.write_param(ParamId(0), &[1.0; 1000]).unwrap();
    let plan = backend.compile(&adder()).unwrap();
    for i in 0..7 {
        let mut scalars = Scalars::default();
        scalars.set(LEARNING_RATE, (10f32).powi(i));
        backend.run(plan, &[Feed::F32(&vec![(i + 1) as f32; 1000])], &scalars).unwrap();
    }
    let mut total = vec![0.0; 1000];
    backend.read_param(ParamId(0), &mut total).unwrap();
    assert_eq!(total, vec![7_654_322.0; 1000]);
    let times = backend.profile(plan, &[Feed::F32(&[0.0; 1000])], &Scalars::default()).unwrap();
    assert!(!times.is_empty() && times.iter().all(|t| t.ms >= 0.0));
    let feeds = [Feed::F32(&[0.0; 3])];
    assert!(backend.run(plan, &feeds, &Scalars::default()).unwrap_err().to_string().contains("got 3 elements"));
}
