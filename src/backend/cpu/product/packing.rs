//! Weights that are packed once for many products.

use super::bf16::WeightWords;
use super::gather::{Direction, Gather};
use super::isa::{Isa, Target};
use super::scatter::Scatter;
use super::{Gemm, bf16, check, rounds, rows};
use crate::tape::geometry::ConvGeom;
use crate::tape::plan::Precision;

/// The weights of a product: the right side of a matrix product, the weights of `conv` and `conv_dx`.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a> {
    /// As the op has them.
    Plain(&'a [f32]),
    /// As [`Packing::pack`] writes them for the same product, or for one with other numbers of images or
    /// rows.
    Packed(&'a [f32]),
}

/// How the weights of a product are packed. It does not depend on the number of images or rows.
pub struct Packing {
    gather: Gather,
    scatter: Option<Scatter>,
    /// Number of weights.
    weights: usize,
    /// How weights are rounded to bf16 before they are packed, if they are.
    rounded: Option<WeightWords>,
}

impl Packing {
    /// The packing of a matrix product's right side; `None` if the left side is transposed, because then the
    /// right side is no weight.
    pub fn gemm(s: Gemm, precision: Precision) -> Option<Packing> {
        let rounded = rounds(precision, bf16::takes_gemm(&s)).then_some(WeightWords::Gemm(s));
        let gather = rounded.map_or_else(|| s.gather(), |words| words.gather());
        (!s.ta).then_some(Packing { gather, scatter: None, weights: s.k * s.n, rounded })
    }

    /// The packing of the weights of [`conv`](super::conv).
    pub fn conv(g: &ConvGeom, precision: Precision) -> Packing {
        let rounded = rounds(precision, bf16::takes_conv(g)).then_some(WeightWords::Conv(*g));
        Packing::of(g, Direction::Forward, rounded)
    }

    /// The packing of the weights of [`conv_dx`](super::conv_dx).
    pub fn conv_dx(g: &ConvGeom, precision: Precision) -> Packing {
        let rounded = rounds(precision, bf16::takes_conv_dx(g)).then_some(WeightWords::ConvDx(*g));
        Packing::of(g, Direction::Backward, rounded)
    }

    fn of(g: &ConvGeom, direction: Direction, rounded: Option<WeightWords>) -> Packing {
        let gather = rounded.map_or_else(|| Gather::new(g, direction, true), |words| words.gather());
        Packing { scatter: Scatter::choose(&gather), weights: g.w_shape().len(), gather, rounded }
    }

    /// Floats of the packed weights, whatever the instruction set. While weights are packed, their rounded
    /// words lie behind them.
    pub fn packed_len(&self) -> usize {
        self.panels_len() + self.rounded.map_or(0, |words| words.len())
    }

    fn panels_len(&self) -> usize {
        match &self.scatter {
            Some(plan) => plan.packed_len(),
            None => rows::packed_len(&self.gather),
        }
    }

    /// Packs weights.
    ///
    /// # Panics
    /// Panics if there are not as many weights as the geometry says, or if `packed` is shorter than
    /// [`Packing::packed_len`].
    #[track_caller]
    pub fn pack(&self, isa: Isa, w: &[f32], packed: &mut [f32]) {
        check("packing", [("w", w.len(), self.weights)]);
        assert!(packed.len() >= self.packed_len(), "there is too little room for the packed weights");
        let (panels, words) = packed.split_at_mut(self.panels_len());
        let Some(rounded) = self.rounded else { return self.pack_panels(isa.into(), w, panels) };
        let words = &mut words[..rounded.len()];
        rounded.round(isa, w, words);
        self.pack_panels(Target::pairs(isa), words, panels);
    }

    fn pack_panels(&self, target: Target, w: &[f32], panels: &mut [f32]) {
        match &self.scatter {
            Some(plan) => plan.pack(target, w, panels),
            None => rows::pack(target, &self.gather, w, panels),
        }
    }
}
