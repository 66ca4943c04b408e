//! Results as numbers: safetensors files in PyTorch's layout.

use crate::error::{Error, Result};
use crate::shape::ImageSize;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// Whether a file with this name is written as tensors.
pub(super) fn is_meant(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors"))
}

/// The tensors of one file.
#[derive(Default)]
pub(super) struct Tensors(Vec<Entry>);

/// One tensor of a file.
struct Entry {
    name: &'static str,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Its elements, little endian.
    bytes: Vec<u8>,
}

impl Tensors {
    /// Adds floats.
    pub(super) fn f32(&mut self, name: &'static str, shape: Vec<usize>, values: &[f32]) {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.0.push(Entry { name, dtype: Dtype::F32, shape, bytes });
    }

    /// Adds bytes.
    pub(super) fn u8(&mut self, name: &'static str, shape: Vec<usize>, values: Vec<u8>) {
        self.0.push(Entry { name, dtype: Dtype::U8, shape, bytes: values });
    }

    /// Adds integers `[values]` as 64-bit integers, the type of PyTorch's indices.
    pub(super) fn index(&mut self, name: &'static str, values: &[u32]) {
        let bytes = values.iter().flat_map(|v| i64::from(*v).to_le_bytes()).collect();
        self.0.push(Entry { name, dtype: Dtype::I64, shape: vec![values.len()], bytes });
    }

    /// The bytes of the file. The protocol is its only metadata entry, because the order of several
    /// entries would be random.
    ///
    /// # Errors
    /// [`Error::Failed`] if the format cannot represent the tensors.
    pub(super) fn file(&self, protocol: &Value) -> Result<Vec<u8>> {
        let views = self.0.iter().map(|Entry { name, dtype, shape, bytes }| {
            (name, TensorView::new(*dtype, shape.clone(), bytes).expect("as many bytes as the shape says"))
        });
        let metadata = HashMap::from([("protocol".to_string(), protocol.to_string())]);
        safetensors::serialize(views, Some(metadata))
            .map_err(|e| Error::Failed(format!("the result could not be put into a safetensors file ({e})")).because(e))
    }
}

/// Converts images `[n, h, w, c]` of this size to `[n, c, h, w]`.
pub(super) fn channels_first(images: &[u8], size: ImageSize) -> Vec<u8> {
    let mut out = Vec::with_capacity(images.len());
    for image in images.chunks_exact(size.dims().max(1)) {
        (0..size.channels).for_each(|channel| out.extend(image.iter().skip(channel).step_by(size.channels)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_come_first() {
        // Two images of 1 x 2 pixels in three colours.
        let images = [1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16];
        assert_eq!(channels_first(&images, [1, 2, 3].into()), [1, 4, 2, 5, 3, 6, 11, 14, 12, 15, 13, 16]);
    }

    #[test]
    fn a_name_says_what_is_written() {
        assert!(is_meant(Path::new("a/b.safetensors")) && !is_meant(Path::new("a.png")) && !is_meant(Path::new("x")));
    }
}
