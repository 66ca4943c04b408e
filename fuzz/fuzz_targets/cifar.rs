//! CIFAR-10 records, plain, gzip or xz: whatever is accepted is whole records with labels 0 to 9.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pixtape::data::{CifarImages, Source, read_cifar};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(CifarImages { pixels, labels }) = read_cifar(&mut Source::from_bytes(bytes.to_vec(), "fuzz").unwrap()) {
        assert!(!labels.is_empty() && pixels.len() == labels.len() * 3072 && labels.iter().all(|&label| label < 10));
    }
});
