//! amat text, plain, gzip or xz: whatever is accepted is square images of zeros and ones.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pixtape::data::{AmatImages, Source, read_amat};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(AmatImages { side, pixels }) = read_amat(&mut Source::from_bytes(bytes.to_vec(), "fuzz").unwrap()) {
        assert!(!pixels.is_empty() && pixels.len().is_multiple_of(side * side) && pixels.iter().all(|&bit| bit < 2));
    }
});
