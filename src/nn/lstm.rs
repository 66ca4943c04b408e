//! The LSTM layer: over whole sequences if they are known, step by step while they are drawn.

use super::env::Env;
use super::params::{Init, Layout, ParamSet};
use crate::tape::Var;
use crate::tape::op::Param;

/// Gates `z = x w_ih + h w_hh + bias` in the order i f g o; `c' = f c + i g`, `h' = o tanh(c')` (Gers et al.
/// 2000).
#[derive(Clone, Debug)]
pub struct Lstm {
    w_ih: Param,
    w_hh: Param,
    bias: Param,
    /// Length of h and of c.
    pub units: usize,
}

/// The state of an LSTM between two steps. `T` is a value on a tape, the output of a plan, or the numbers
/// themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LstmState<T> {
    /// What the LSTM puts out.
    pub h: T,
    /// What its cells hold.
    pub c: T,
}

impl Lstm {
    /// Declares `<path>.weight_ih`, `<path>.weight_hh` and `<path>.bias` with PyTorch's default initial
    /// values.
    pub fn new(set: &mut ParamSet, path: &str, inputs: usize, units: usize) -> Self {
        let init = Init::Uniform(1.0 / (units as f32).sqrt());
        Lstm {
            w_ih: set.weight(&format!("{path}.weight_ih"), [inputs, 4 * units], init, Layout::Linear),
            w_hh: set.weight(&format!("{path}.weight_hh"), [units, 4 * units], init, Layout::Linear),
            bias: set.weight(&format!("{path}.bias"), [4 * units], init, Layout::Same),
            units,
        }
    }

    /// `x[n, t, i] -> y[n, t, d]`: the state after each step. The state before the first step is zero.
    ///
    /// It is recorded as a Row LSTM over images of one column that reads one state of the row above. That is
    /// the recurrence over time for sequences that are stored one after another, as the images of a batch
    /// are.
    #[track_caller]
    pub fn sequence(&self, env: &Env, x: Var) -> Var {
        let (t, d) = (env.t, self.units);
        let &[n, steps, inputs] = t.shape(x).dims() else { panic!("a batch of sequences has rank 3") };
        let z = self.input_part(env, t.reshape(x, [n * steps, inputs]));
        let w_ss = t.reshape(env.get(&self.w_hh), [1, 1, d, 4 * d]);
        t.reshape(t.row_lstm(t.reshape(z, [n, steps, 1, 4 * d]), w_ss), [n, steps, d])
    }

    /// One step: `x[n, i]` and the state before it, `[n, d]` each, to the state behind it.
    #[track_caller]
    pub fn step(&self, env: &Env, x: Var, state: LstmState<Var>) -> LstmState<Var> {
        let t = env.t;
        let recurrent = t.matmul(state.h, env.get(&self.w_hh), false, false);
        let [h, c] = t.lstm_cell(t.add(recurrent, self.input_part(env, x)), state.c);
        LstmState { h, c }
    }

    /// `x[m, i] -> x w_ih + bias`, `[m, 4d]`
    #[track_caller]
    fn input_part(&self, env: &Env, x: Var) -> Var {
        env.t.add_bias(env.t.matmul(x, env.get(&self.w_ih), false, false), env.get(&self.bias))
    }
}
