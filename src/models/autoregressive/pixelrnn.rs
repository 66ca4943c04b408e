//! PixelRNN: layers of LSTM scans over the image (van den Oord et al. 2016, sections 3.1 and 3.2), each in a
//! residual connection (figure 5, right).

use super::class_map::ClassMap;
use super::{Conditions, Pixels};
use crate::config::{Config, NetworkKind};
use crate::error::Result;
use crate::models::required;
use crate::nn::{Channels, Conv, DiagonalLstm, Env, ParamSet, RowLstm};
use crate::tape::Var;
use crate::tape::geometry::Mask;
use crate::tape::record::ConvAttrs;

/// A stack of Row LSTMs or Diagonal LSTMs.
#[derive(Clone, Debug)]
pub struct PixelRnn {
    pixels: Pixels,
    first: Conv,
    /// What the class adds to the output of `first`.
    class: Option<Box<ClassMap>>,
    layers: Vec<Layer>,
    head1: Conv,
    head2: Conv,
}

/// A scan from 2h channels to h units, 1x1 back to 2h; added to its input.
#[derive(Clone, Debug)]
struct Layer {
    scan: Scan,
    widen: Conv,
}

/// The scans.
#[derive(Clone, Debug)]
enum Scan {
    Row(Box<RowLstm>),
    Diagonal(Box<DiagonalLstm>),
}

impl PixelRnn {
    /// Declares the parameters: `first`, `layers.N.{w_is,w_ss,b,up}` (of a Diagonal LSTM
    /// `layers.N.{l_w_is,..,r_b,up}`), `h1`, `h2`; with classes also `class.{map,up}`.
    pub(super) fn new(set: &mut ParamSet, config: &Config, pixels: Pixels) -> Result<Self> {
        let (h, head) = (required(config.model.hidden, "hidden")?, required(config.model.head, "head")?);
        let colours = pixels.colours();
        let is_diagonal = config.network == NetworkKind::DiagonalBiLstm;
        let directions = if is_diagonal { Some(required(config.model.directions, "directions")?) } else { None };
        let pointwise = ConvAttrs::masked(Mask::B, 1, colours);
        let masked_a = ConvAttrs::masked(Mask::A, 7, colours);
        let first = Conv::new(set, "first", Channels { inputs: colours, outputs: 2 * h }, 7, masked_a);
        let class = ClassMap::new(set, pixels, 2 * h).map(Box::new);
        let to_units = Channels { inputs: 2 * h, outputs: h };
        let to_wide = Channels { inputs: h, outputs: 2 * h };
        let layers = (0..required(config.model.layers, "layers")?).map(|i| {
            let path = format!("layers.{i}");
            let scan = match directions {
                Some(count) => Scan::Diagonal(Box::new(DiagonalLstm::new(set, &path, to_units, colours, count))),
                None => Scan::Row(Box::new(RowLstm::new(set, &path, to_units, colours))),
            };
            Layer { scan, widen: Conv::new(set, &format!("{path}.up"), to_wide, 1, pointwise) }
        });
        let layers = layers.collect();
        let head1 = Conv::new(set, "h1", Channels { inputs: 2 * h, outputs: head }, 1, pointwise);
        let head2 = Conv::new(set, "h2", Channels { inputs: head, outputs: pixels.logits_per_pixel() }, 1, pointwise);
        Ok(PixelRnn { pixels, first, class, layers, head1, head2 })
    }

    /// `x[n, h, w, c] -> logits[n, h, w, c * k]`
    pub fn logits(&self, env: &Env, x: Var, conditions: Conditions) -> Var {
        let t = env.t;
        let mut y = t.scope("first", || self.first.forward(env, self.pixels.centred(t, x)));
        if let (Some(map), Some(class)) = (&self.class, conditions.class) {
            y = t.add(y, t.scope("class", || map.forward(env, class)));
        }
        for (i, layer) in self.layers.iter().enumerate() {
            y = t.scope(&format!("layers.{i}"), || layer.forward(env, y));
        }
        let y = t.scope("h1", || self.head1.forward(env, t.relu(y)));
        t.scope("h2", || self.head2.forward(env, t.relu(y)))
    }
}

impl Layer {
    /// `[n, h, w, 2h] -> [n, h, w, 2h]`
    fn forward(&self, env: &Env, x: Var) -> Var {
        let y = match &self.scan {
            Scan::Row(lstm) => lstm.forward(env, x),
            Scan::Diagonal(lstm) => lstm.forward(env, x),
        };
        env.t.add(self.widen.forward(env, y), x)
    }
}
