//! Runs one plan on two backends: a convolution, its loss and the gradient of its weight, on the CPU and
//! through wgpu.
//!
//! A plan does not depend on the device that runs it. Devices add the terms of a convolution in different
//! orders, so results differ by rounding. The example prints the differences.
//!
//!     cargo run --release --no-default-features --features wgpu --example two_backends [DEVICE]
//!
//! DEVICE is `wgpu` by default; `pixtape devices` lists all devices. A software adapter such as Mesa's
//! lavapipe is enough.

use pixtape::backend::{self, Backend, Feed, Scalars};
use pixtape::nn::{Channels, Conv, Env, Mode, ParamSet};
use pixtape::parameters;
use pixtape::shape::Meta;
use pixtape::tape::Tape;
use pixtape::tape::plan::Plan;
use pixtape::tape::record::ConvAttrs;

const SHAPE: [usize; 4] = [4, 16, 16, 8];

/// Records the plan: a 3x3 convolution of `x`, the mean of its squared relu (the loss), and the gradient of
/// the loss with respect to the weight.
fn record(set: &mut ParamSet) -> Plan {
    let layer = Conv::new(set, "conv", Channels { inputs: SHAPE[3], outputs: 16 }, 3, ConvAttrs::new(1, 1));
    let t = Tape::new();
    let env = Env::new(&t, Mode::Train);
    let y = t.relu(layer.forward(&env, t.input("x", Meta::f32(SHAPE))));
    let loss = t.mean(t.square(y));
    let dw = t.grad(loss, &[env.get(&layer.weight)])[0];
    for (name, value) in [("y", y), ("loss", loss), ("dw", dw)] {
        t.output(name, value);
    }
    Plan::new("convolution", &t)
}

/// Runs the plan on one device and returns every output with its name.
fn run(device: &mut dyn Backend, set: &ParamSet, plan: &Plan, x: &[f32]) -> pixtape::Result<Vec<(String, Vec<f32>)>> {
    parameters::initialize(device, set, 1)?;
    let compiled = device.compile(plan)?;
    device.run(compiled, &[Feed::F32(x)], &Scalars::default())?;
    let outputs = plan.outputs().iter().enumerate().map(|(i, (name, operand))| {
        let mut values = vec![0.0; operand.meta().shape.len()];
        backend::read(device, compiled, i, &mut values)?;
        Ok((name.clone(), values))
    });
    outputs.collect()
}

fn main() -> pixtape::Result<()> {
    let other = std::env::args().nth(1).unwrap_or_else(|| "wgpu".into());
    let mut set = ParamSet::new();
    let plan = record(&mut set);
    let x: Vec<f32> = (0..SHAPE.iter().product::<usize>()).map(|i| (i as f32 * 0.37).sin()).collect();
    let mut results = vec![];
    for name in ["cpu", &other] {
        let mut device = backend::open(name, 0)?;
        let info = device.describe();
        println!("{}: {}", info.kind, info.name);
        results.push(run(&mut *device, &set, &plan, &x)?);
    }
    println!("output  elements   largest  difference");
    for ((name, ours), (_, theirs)) in results[0].iter().zip(&results[1]) {
        let largest = ours.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
        let difference = ours.iter().zip(theirs).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
        println!("{name:6} {:9} {largest:9.5} {difference:11.2e}", ours.len());
        assert!(difference <= 1e-5 * largest, "{name} differs by more than rounding");
    }
    Ok(())
}
