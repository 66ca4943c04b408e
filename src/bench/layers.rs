//! Training steps of single layers that no preset consists of: an LSTM over pixels, a Row LSTM and a
//! Diagonal BiLSTM.

use crate::config::Config;
use crate::nn::{Channels, DiagonalLstm, Env, Init, Layout, Linear, Mode, ParamSet, RowLstm};
use crate::optim::{Learner, STEP};
use crate::shape::{Meta, Shape};
use crate::tape::plan::Plan;
use crate::tape::{Tape, Var};

/// A training step of one layer.
pub(super) struct LayerStep {
    /// The parameters of the layer and the state of its optimiser.
    pub set: ParamSet,
    /// The training step.
    pub plan: Plan,
}

/// Images per batch, for all layers.
pub(super) const IMAGES: usize = 64;

/// Height and width of the images that the scans read.
const SIDE: usize = 28;

/// An LSTM that reads an image pixel by pixel, `x[784, 64, 1] -> y[784, 64, 128]`. It has one bias;
/// PyTorch's layer has two.
pub(super) fn lstm(config: &Config) -> LayerStep {
    let (pixels, hidden) = (784, 128);
    let mut set = ParamSet::new();
    let input = Linear::new(&mut set, "w_ih", 1, 4 * hidden);
    let bound = 1.0 / (hidden as f32).sqrt();
    let w_hh = set.weight("w_hh", [hidden, 4 * hidden], Init::Uniform(bound), Layout::Linear);
    step("lstm.train", set, config, [pixels, IMAGES, 1].into(), |env, x| {
        let t = env.t;
        let z = t.scope("input", || input.forward(env, t.reshape(x, [pixels * IMAGES, 1])));
        let zero = t.fill(0.0, [IMAGES, hidden]);
        let [y, _] = t.lstm(t.reshape(z, [pixels, IMAGES, 4 * hidden]), zero, zero, env.get(&w_hh));
        y
    })
}

/// A Row LSTM, `x[64, 28, 28, 64] -> y[64, 28, 28, 64]`. It has one bias; the reference has two.
pub(super) fn row_lstm(config: &Config) -> LayerStep {
    let (channels, mut set) = (64, ParamSet::new());
    let layer = RowLstm::new(&mut set, "row", Channels { inputs: channels, outputs: channels }, 1);
    step("row_lstm.train", set, config, [IMAGES, SIDE, SIDE, channels].into(), |env, x| layer.forward(env, x))
}

/// A Diagonal BiLSTM, `x[64, 28, 28, 16] -> y[64, 28, 28, 16]`. It has one bias per direction; the
/// reference has two.
pub(super) fn diagonal_bilstm(config: &Config) -> LayerStep {
    let (channels, mut set) = (16, ParamSet::new());
    let layer = DiagonalLstm::new(&mut set, "diagonal", Channels { inputs: channels, outputs: channels }, 1, 2);
    step("diagonal_bilstm.train", set, config, [IMAGES, SIDE, SIDE, channels].into(), |env, x| layer.forward(env, x))
}

/// Records one training step of a layer with input `x` and loss mean(y^2).
fn step(name: &str, mut set: ParamSet, config: &Config, x: Shape, forward: impl FnOnce(&Env, Var) -> Var) -> LayerStep {
    let weights = set.weights().cloned().collect();
    let learner = Learner::new(&mut set, weights, config, STEP);
    let t = Tape::new();
    let env = Env::new(&t, Mode::Train);
    let loss = t.mean(t.square(forward(&env, t.input("x", Meta::f32(x)))));
    t.output("loss", loss);
    learner.minimize(&env, loss);
    env.commit();
    LayerStep { set, plan: Plan::new(name, &t) }
}
