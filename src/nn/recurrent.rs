//! The LSTM layers of PixelRNN (van den Oord et al. 2016, section 3).
//!
//! One masked convolution computes the input's part of the gates of all pixels. A scan adds the part of the
//! other pixels.

use super::env::Env;
use super::layers::{Channels, by_fan_in};
use super::params::{Init, Layout, ParamSet};
use crate::tape::Var;
use crate::tape::geometry::Mask;
use crate::tape::op::Param;
use crate::tape::record::ConvAttrs;

/// The parameters of one scan, gates in the order i f g o.
#[derive(Clone, Debug)]
struct Gates {
    /// Input to state, mask B in four blocks: `[1, k, cin, 4h]`
    w_is: Param,
    /// State to state: `[1, k, h, 4h]` or `[2, 1, h, 4h]`
    w_ss: Param,
    /// `[4h]`
    b: Param,
    attrs: ConvAttrs,
}

impl Gates {
    /// Declares `<prefix>w_is` with `k` taps in a row, `<prefix>w_ss` with `taps`, and `<prefix>b`. The
    /// weights start as convolutions do. The biases start at 0, those of the forget gates at 1. So a cell
    /// keeps its content until it has learned to forget, and gradients reach far back from the first step on
    /// (Jozefowicz, Zaremba & Sutskever 2015).
    fn new(set: &mut ParamSet, prefix: &str, channels: Channels, k: usize, taps: [usize; 2], groups: usize) -> Self {
        let Channels { inputs: cin, outputs: h } = channels;
        let (pad, pad_end) = ([0, k / 2], [0, (k / 2) as isize]);
        let attrs = ConvAttrs { pad, pad_end, mask: Mask::B, groups, blocks: 4, ..ConvAttrs::default() };
        let mut weight = |name: &str, shape: [usize; 4]| {
            let fan_in = shape[..3].iter().product();
            set.weight(&format!("{prefix}{name}"), shape, by_fan_in(fan_in), Layout::Conv)
        };
        let w_is = weight("w_is", [1, k, cin, 4 * h]);
        let w_ss = weight("w_ss", [taps[0], taps[1], h, 4 * h]);
        let b = set.weight(&format!("{prefix}b"), [4 * h], Init::ForgetGate(1.0), Layout::Same);
        Gates { w_is, w_ss, b, attrs }
    }

    /// The gates that come from the input: `[n, h, w, cin] -> [n, h, w, 4h]`
    fn forward(&self, env: &Env, x: Var) -> Var {
        env.t.add_bias(env.t.conv(x, env.get(&self.w_is), self.attrs), env.get(&self.b))
    }
}

/// Row LSTM: every pixel reads its own input and that of its left neighbour, and three states of the row
/// above.
#[derive(Clone, Debug)]
pub struct RowLstm(Gates);

impl RowLstm {
    /// Taps of the input-to-state and of the state-to-state convolution.
    const TAPS: usize = 3;

    /// Declares `<path>.{w_is,w_ss,b}` from `channels.inputs` to `channels.outputs` units, `groups`
    /// colours.
    pub fn new(set: &mut ParamSet, path: &str, channels: Channels, groups: usize) -> Self {
        RowLstm(Gates::new(set, &format!("{path}."), channels, Self::TAPS, [1, Self::TAPS], groups))
    }

    /// `[n, h, w, cin] -> [n, h, w, units]`
    pub fn forward(&self, env: &Env, x: Var) -> Var {
        env.t.row_lstm(self.0.forward(env, x), env.get(&self.0.w_ss))
    }
}

/// Diagonal LSTM: every pixel reads its own input and the states above and to its left. A second direction,
/// which is added, brings the state to its right one row up. Together they reach (nearly) all pixels that
/// come before.
#[derive(Clone, Debug)]
pub struct DiagonalLstm {
    left: Gates,
    right: Option<Gates>,
}

impl DiagonalLstm {
    /// Declares `<path>.l_{w_is,w_ss,b}` from `channels.inputs` to `channels.outputs` units, `groups`
    /// colours, and
    /// `<path>.r_..` where there are two directions.
    pub fn new(set: &mut ParamSet, path: &str, channels: Channels, groups: usize, directions: usize) -> Self {
        let mut gates = |side: &str| Gates::new(set, &format!("{path}.{side}_"), channels, 1, [2, 1], groups);
        DiagonalLstm { left: gates("l"), right: (directions > 1).then(|| gates("r")) }
    }

    /// `[n, h, w, cin] -> [n, h, w, units]`
    pub fn forward(&self, env: &Env, x: Var) -> Var {
        let t = env.t;
        let scan = |gates: &Gates, reverse| t.diagonal_lstm(gates.forward(env, x), env.get(&gates.w_ss), reverse);
        let left = t.scope("left", || scan(&self.left, false));
        match &self.right {
            // In its own row, a scan from the right has seen later pixels. So its result is used one row
            // further down.
            Some(gates) => t.add(left, t.shift_down(t.scope("right", || scan(gates, true)))),
            None => left,
        }
    }
}
