//! Conversion between the memory layouts of PyTorch (channels first) and of this crate (channels last).

use crate::shape::{ImageSize, Shape};

/// How the layout of a tensor in this crate ("here") differs from that in PyTorch ("there").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLayout {
    /// The same order.
    Same,
    /// `[n, c, h, w]` there, `[n, h, w, c]` here.
    Image,
    /// `[out, in, kh, kw]` there, `[kh, kw, in, out]` here.
    Conv,
    /// `[out, in]` there, `[in, out]` here.
    Linear,
    /// `[out, c * h * w]` there, `[h * w * c, out]` here: a linear layer after a flattened map of this size.
    LinearFromMap(ImageSize),
}

impl MemoryLayout {
    /// The extents of PyTorch's axes, with merged axes split, and for each of our axes the index of
    /// PyTorch's axis.
    fn axes(self, torch: &[usize]) -> (Vec<usize>, Vec<usize>) {
        match self {
            MemoryLayout::Same => (torch.to_vec(), (0..torch.len()).collect()),
            MemoryLayout::Image => (torch.to_vec(), vec![0, 2, 3, 1]),
            MemoryLayout::Conv => (torch.to_vec(), vec![2, 3, 1, 0]),
            MemoryLayout::Linear => (torch.to_vec(), vec![1, 0]),
            MemoryLayout::LinearFromMap(map) => (vec![torch[0], map.channels, map.height, map.width], vec![2, 3, 1, 0]),
        }
    }

    /// The shape here of a tensor with this shape in PyTorch.
    pub fn shape(self, torch: &[usize]) -> Shape {
        let (dims, order) = self.axes(torch);
        match self {
            MemoryLayout::LinearFromMap(map) => [map.dims(), torch[0]].into(),
            _ => Shape::new(&order.iter().map(|axis| dims[*axis]).collect::<Vec<_>>()),
        }
    }

    /// For each element in our order, its position in PyTorch's order.
    fn positions(self, torch: &[usize]) -> Vec<usize> {
        let (dims, order) = self.axes(torch);
        let stride = |axis: usize| dims[axis + 1..].iter().product::<usize>();
        let mut all = vec![0];
        for axis in order {
            let (extent, stride) = (dims[axis], stride(axis));
            all = all.iter().flat_map(|at| (0..extent).map(move |i| at + i * stride)).collect();
        }
        all
    }

    /// Reorders elements from PyTorch's order to ours.
    pub fn to_ours<T: Copy>(self, torch: &[usize], values: &[T]) -> Vec<T> {
        self.positions(torch).into_iter().map(|at| values[at]).collect()
    }

    /// Reorders elements from our order to PyTorch's.
    pub fn to_torch(self, torch: &[usize], values: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; values.len()];
        for (value, at) in values.iter().zip(self.positions(torch)) {
            out[at] = *value;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_goes_there_and_back() {
        let cases = [
            (MemoryLayout::Same, vec![2, 3]),
            (MemoryLayout::Image, vec![2, 3, 4, 5]),
            (MemoryLayout::Conv, vec![2, 3, 4, 5]),
            (MemoryLayout::Linear, vec![2, 3]),
            (MemoryLayout::LinearFromMap([4, 5, 3].into()), vec![2, 60]),
        ];
        for (layout, torch) in cases {
            let values: Vec<f64> = (0..torch.iter().product()).map(|i: usize| i as f64).collect();
            let ours = layout.to_ours(&torch, &values);
            assert_eq!(layout.to_torch(&torch, &ours), values);
            assert_eq!(layout.shape(&torch).len(), values.len());
        }
    }

    #[test]
    fn channels_move_to_the_end() {
        // Two channels of 1x3 pixels.
        assert_eq!(MemoryLayout::Image.to_ours(&[1, 2, 1, 3], &[0, 1, 2, 10, 11, 12]), [0, 10, 1, 11, 2, 12]);
        // Two outputs, three inputs.
        assert_eq!(MemoryLayout::Linear.to_ours(&[2, 3], &[0, 1, 2, 10, 11, 12]), [0, 10, 1, 11, 2, 12]);
        let from_map = MemoryLayout::LinearFromMap([1, 3, 2].into());
        assert_eq!(from_map.to_ours(&[1, 6], &[0, 1, 2, 10, 11, 12]), [0, 10, 1, 11, 2, 12]);
    }
}
