//! A gradient is recorded arithmetic like any other, so it can be differentiated again.
//!
//! Records y = sum(tanh(x)^2), its gradient, and the gradient of the sum of that gradient. Runs them as one
//! plan on the CPU and compares both derivatives with their closed forms.
//!
//!     cargo run --release --no-default-features --example second_derivative

use pixtape::backend::{self, Feed, Scalars};
use pixtape::shape::Meta;
use pixtape::tape::{Tape, plan::Plan};

const N: usize = 9;

fn main() -> pixtape::Result<()> {
    let t = Tape::new();
    let x = t.input("x", Meta::f32([N]));
    let y = t.sum(t.square(t.tanh(x)));
    let first = t.grad(y, &[x])[0];
    // Each element of `first` depends on its own x only, so the gradient of its sum is the second
    // derivative.
    let second = t.grad(t.sum(first), &[x])[0];
    t.output("first", first);
    t.output("second", second);

    let plan = Plan::new("second derivative", &t);
    let mut device = backend::open("cpu", 0)?;
    let compiled = device.compile(&plan)?;
    let points: Vec<f32> = (0..N).map(|i| i as f32 / 2.0 - 2.0).collect();
    device.run(compiled, &[Feed::F32(&points)], &Scalars::default())?;
    let (mut first, mut second) = ([0.0; N], [0.0; N]);
    backend::read(&mut *device, compiled, plan.output("first"), &mut first)?;
    backend::read(&mut *device, compiled, plan.output("second"), &mut second)?;

    println!("      x       y'      y''");
    for ((x, first), second) in points.iter().zip(first).zip(second) {
        println!("{x:7.2} {first:8.4} {second:8.4}");
        // With s = tanh(x): y' = 2 s (1 - s^2) and y'' = 2 (1 - s^2) (1 - 3 s^2).
        let s = x.tanh();
        assert!((first - 2.0 * s * (1.0 - s * s)).abs() < 1e-5, "y' at {x} is {first}");
        assert!((second - 2.0 * (1.0 - s * s) * (1.0 - 3.0 * s * s)).abs() < 1e-5, "y'' at {x} is {second}");
    }
    Ok(())
}
