//! The critic's loss of WGAN-GP (Gulrajani et al. 2017, eq. 3), whose gradient needs second derivatives. The
//! rules are compared with finite differences in f64, and the CPU backend with the f64 interpreter.

#[path = "common/truth/mod.rs"]
mod truth;

use pixtape::backend::cpu::{Cpu, Options};
use pixtape::backend::{Backend, Feed, read};
use pixtape::check::compare::{relative_error, within};
use pixtape::check::elements::{Elements, Values};
use pixtape::shape::Meta;
use pixtape::tape::plan::Plan;
use pixtape::tape::record::ConvAttrs;
use pixtape::tape::{Tape, Var};
use truth::ReplayInputs;

/// Name, shape and standard deviation of each weight.
const WEIGHTS: [(&str, &[usize], f32); 6] = [
    ("conv1", &[4, 4, 3, 5], 0.3),
    ("bias1", &[5], 0.3),
    ("conv2", &[4, 4, 5, 7], 0.2),
    ("bias2", &[7], 0.3),
    ("fc", &[28, 1], 0.3),
    ("bias3", &[1], 0.3),
];
const IMAGES: [usize; 4] = [3, 8, 8, 3];
const LAMBDA: f64 = 10.0;

/// One step of the critic: penalty, loss, and the gradients of the loss with respect to the weights.
struct Step {
    t: Tape,
    penalty: Var,
    loss: Var,
    gradients: Vec<Var>,
}

fn critic(t: &Tape, x: Var, w: &[Var]) -> Var {
    let attrs = ConvAttrs::new(2, 1);
    let hidden = t.leaky_relu(t.add_bias(t.conv(x, w[0], attrs), w[1]), 0.2);
    let hidden = t.leaky_relu(t.add_bias(t.conv(hidden, w[2], attrs), w[3]), 0.2);
    let features = t.reshape(hidden, [IMAGES[0], 28]);
    t.add_bias(t.matmul(features, w[4], false, false), w[5])
}

/// Records a step of the critic. With `differentiated` it also records the gradients with respect to the
/// weights.
fn step(differentiated: bool) -> Step {
    let t = Tape::new();
    let [real, fake] = ["real", "fake"].map(|name| t.input(name, Meta::f32(IMAGES)));
    let mix = t.input("mix", Meta::f32([IMAGES[0], 1, 1, 1]));
    let w: Vec<Var> =
        WEIGHTS.iter().map(|(name, dims, _)| t.input(name, Meta::f32(pixtape::shape::Shape::new(dims)))).collect();
    let between = t.add(fake, t.mul(t.expand(mix, IMAGES), t.sub(real, fake)));
    let slope = t.grad(t.sum(critic(&t, between, &w)), &[between])[0];
    let norm = t.sqrt(t.sum_rows(t.square(slope)));
    let penalty = t.mean(t.square(t.affine(norm, 1.0, -1.0)));
    let distance = t.sub(t.mean(critic(&t, fake, &w)), t.mean(critic(&t, real, &w)));
    let loss = t.add(distance, t.scale(penalty, LAMBDA));
    let gradients = if differentiated { t.grad(loss, &w) } else { vec![] };
    Step { t, penalty, loss, gradients }
}

fn inputs() -> Vec<Vec<f32>> {
    let drawn = |i: usize, len: usize, elements: Elements| match elements.values(5, i, len) {
        Values::F32(v) => v,
        Values::U32(_) => unreachable!("no index is drawn"),
    };
    let len = IMAGES.iter().product();
    let mut all = vec![drawn(0, len, Elements::Normal), drawn(1, len, Elements::Normal)];
    all.push(drawn(2, IMAGES[0], Elements::Uniform(0.0, 1.0)));
    for (i, (_, dims, spread)) in WEIGHTS.iter().enumerate() {
        all.push(drawn(3 + i, dims.iter().product(), Elements::Normal).into_iter().map(|x| x * spread).collect());
    }
    all
}

fn given() -> ReplayInputs {
    let feeds = inputs().into_iter().map(|v| v.into_iter().map(f64::from).collect()).collect();
    ReplayInputs { feeds, ..Default::default() }
}

#[test]
fn gradients_of_the_critic_are_those_of_finite_differences() {
    let (plain, full) = (step(false), step(true));
    let given = given();
    let truth = truth::run(&full.t, &given);
    assert!(truth.value(full.penalty)[0] > 0.01, "the penalty is not at its minimum");
    for (i, (name, ..)) in WEIGHTS.iter().enumerate() {
        let gradient = truth.value(full.gradients[i]);
        // Small enough that no unit crosses the kink of its leaky relu, at which the penalty is not
        // continuous.
        let step = 1e-6;
        let difference = |at: usize| {
            let loss = |by: f64| {
                let mut moved = given.clone();
                moved.feeds[3 + i][at] += by;
                truth::run(&plain.t, &moved).value(plain.loss)[0]
            };
            (loss(step) - loss(-step)) / (2.0 * step)
        };
        let chosen: Vec<usize> = (0..gradient.len()).step_by(gradient.len().div_ceil(40)).collect();
        let numeric: Vec<f64> = chosen.iter().map(|at| difference(*at)).collect();
        let analytic: Vec<f64> = chosen.iter().map(|at| gradient[*at]).collect();
        let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
        let off = norm(&mut analytic.iter().zip(&numeric).map(|(a, n)| a - n));
        // The last bias changes all scores equally, so its gradient is zero. The lower limit avoids a
        // division by zero.
        let size = norm(&mut numeric.iter().copied()).max(1e-2);
        assert!(off <= 1e-6 * size, "{name} is off by {off:.1e}: {analytic:?}, not {numeric:?}");
    }
}

#[test]
fn the_cpu_gives_the_same_gradients() {
    let full = step(true);
    full.t.output("penalty", full.penalty);
    full.t.output("loss", full.loss);
    for ((name, ..), g) in WEIGHTS.iter().zip(&full.gradients) {
        full.t.output(name, *g);
    }
    let plan = Plan::new("wgan-gp", &full.t);
    let mut cpu = Cpu::new(Options { threads: 2, poison: true, ..Default::default() }).unwrap();
    let compiled = cpu.compile(&plan).unwrap();
    let inputs = inputs();
    let feeds: Vec<Feed> = inputs.iter().map(|v| Feed::F32(v)).collect();
    let given = given();
    cpu.run(compiled, &feeds, &given.scalars).unwrap();
    let truth = truth::run(&full.t, &given);
    let values = [full.penalty, full.loss].into_iter().chain(full.gradients.iter().copied());
    for (i, (v, (name, _))) in values.zip(plan.outputs()).enumerate() {
        let mut got = vec![0.0; full.t.shape(v).len()];
        read(&mut cpu, compiled, i, &mut got).unwrap();
        let got: Vec<f64> = got.into_iter().map(f64::from).collect();
        let error = relative_error(&got, truth.value(v));
        assert!(within(error, if i < 2 { 2e-5 } else { 1e-4 }), "{name} is off by {error:.1e}");
    }
}
