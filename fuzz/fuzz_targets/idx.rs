//! idx images and labels, plain, gzip or xz: whatever is accepted has the sizes that it claims.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pixtape::data::{IdxImages, Source, read_idx_images, read_idx_labels};

fuzz_target!(|bytes: &[u8]| {
    let source = || Source::from_bytes(bytes.to_vec(), "fuzz").unwrap();
    if let Ok(IdxImages { height, width, pixels }) = read_idx_images(&mut source()) {
        assert!(!pixels.is_empty() && pixels.len().is_multiple_of(height * width));
    }
    if let Ok(labels) = read_idx_labels(&mut source()) {
        assert!(!labels.is_empty());
    }
});
