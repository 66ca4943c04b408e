//! Weights that are packed once for many products.

use super::gather::{Direction, Gather};
use super::isa::Isa;
use super::scatter::Scatter;
use super::{Gemm, check, rows};
use crate::tape::geometry::ConvGeom;

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
}

impl Packing {
    /// The packing of a matrix product's right side; `None` if the left side is transposed, because then the
    /// right side is no weight.
    pub fn gemm(s: Gemm) -> Option<Packing> {
        (!s.ta).then(|| Packing { gather: s.gather(), scatter: None, weights: s.k * s.n })
    }

    /// The packing of the weights of [`conv`](super::conv).
    pub fn conv(g: &ConvGeom) -> Packing {
        Packing::of(Gather::new(g, Direction::Forward, true))
    }

    /// The packing of the weights of [`conv_dx`](super::conv_dx).
    pub fn conv_dx(g: &ConvGeom) -> Packing {
        Packing::of(Gather::new(g, Direction::Backward, true))
    }

    fn of(gather: Gather) -> Packing {
        Packing { scatter: Scatter::choose(&gather), weights: gather.geom.w_shape().len(), gather }
    }

    /// Floats of the packed weights, whatever the instruction set.
    pub fn packed_len(&self) -> usize {
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
        match &self.scatter {
            Some(plan) => plan.pack(isa, w, packed),
            None => rows::pack(isa, &self.gather, w, packed),
        }
    }
}
