//! Weights that are packed once for many products.

use super::gather::{Direction, Gather};
use super::isa::{Code, Isa};
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
    rounded: Option<bf16::Right>,
}

impl Packing {
    /// The packing of a matrix product's right side; `None` if the left side is transposed, because then the
    /// right side is no weight.
    pub fn gemm(s: Gemm, precision: Precision) -> Option<Packing> {
        let rounds = rounds(precision, bf16::takes_gemm(&s));
        let (words, rounded) = if rounds { (bf16::halved_gemm(&s), Some(bf16::Right::Gemm(s))) } else { (s, None) };
        (!s.ta).then(|| Packing { gather: words.gather(), scatter: None, weights: s.k * s.n, rounded })
    }

    /// The packing of the weights of [`conv`](super::conv).
    pub fn conv(g: &ConvGeom, precision: Precision) -> Packing {
        if rounds(precision, bf16::takes_conv(g)) {
            return Packing::of(bf16::conv_gather(g), g, Some(bf16::Right::Conv(*g)));
        }
        Packing::of(Gather::new(g, Direction::Forward, true), g, None)
    }

    /// The packing of the weights of [`conv_dx`](super::conv_dx).
    pub fn conv_dx(g: &ConvGeom, precision: Precision) -> Packing {
        if rounds(precision, bf16::takes_conv_dx(g)) {
            return Packing::of(bf16::conv_dx_gather(g), g, Some(bf16::Right::ConvDx(*g)));
        }
        Packing::of(Gather::new(g, Direction::Backward, true), g, None)
    }

    fn of(gather: Gather, g: &ConvGeom, rounded: Option<bf16::Right>) -> Packing {
        Packing { scatter: Scatter::choose(&gather), weights: g.w_shape().len(), gather, rounded }
    }

    /// Floats of the packed weights, whatever the instruction set. While weights are packed, their rounded
    /// words lie behind them.
    pub fn packed_len(&self) -> usize {
        self.panels_len() + self.rounded.map_or(0, |right| right.len())
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
        let Some(right) = self.rounded else { return self.pack_panels(isa.into(), w, panels) };
        let words = &mut words[..right.len()];
        right.round(isa, w, words);
        self.pack_panels(Code::pairs(isa), words, panels);
    }

    fn pack_panels(&self, code: Code, w: &[f32], panels: &mut [f32]) {
        match &self.scatter {
            Some(plan) => plan.pack(code, w, panels),
            None => rows::pack(code, &self.gather, w, panels),
        }
    }
}
