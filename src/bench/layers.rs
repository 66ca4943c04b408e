//! Training steps of single layers, which no preset has.

use crate::config::Config;
use crate::nn::{Env, Init, Layout, Linear, Mode, ParamSet};
use crate::optim::Learner;
use crate::shape::Meta;
use crate::tape::Tape;
use crate::tape::op::Scalar;
use crate::tape::plan::Plan;

/// Images, pixels of an image and hidden units of [`lstm`].
pub(super) const LSTM: [usize; 3] = [64, 784, 128];

/// An LSTM that reads an image pixel by pixel, `x[784, 64, 1] -> y[784, 64, 128]`; loss mean(y^2). One bias, where
/// PyTorch's layer has two.
pub(super) fn lstm(config: &Config) -> (ParamSet, Plan) {
    let [batch, pixels, hidden] = LSTM;
    let mut set = ParamSet::new();
    let input = Linear::new(&mut set, "w_ih", 1, 4 * hidden);
    let bound = 1.0 / (hidden as f32).sqrt();
    let w_hh = set.weight("w_hh", [hidden, 4 * hidden], Init::Uniform(bound), Layout::Linear);
    let weights = set.weights().cloned().collect();
    let learner = Learner::new(&mut set, weights, config, Scalar::Step);
    let t = Tape::new();
    let env = Env::new(&t, Mode::Train);
    let x = t.input("x", Meta::f32([pixels, batch, 1]));
    let z = t.scope("input", || input.forward(&env, t.reshape(x, [pixels * batch, 1])));
    let zero = t.fill(0.0, [batch, hidden]);
    let [y, _] = t.lstm(t.reshape(z, [pixels, batch, 4 * hidden]), zero, zero, env.get(&w_hh));
    let loss = t.mean(t.square(y));
    t.output("loss", loss);
    learner.minimize(&env, loss);
    env.commit();
    (set, Plan::new("lstm.train", &t))
}
