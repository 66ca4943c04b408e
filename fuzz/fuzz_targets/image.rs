//! The PNG and JPEG files of a folder: decoding ends in an image within the limits, or in an error.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pixtape::data::decode_image;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(image) = decode_image(bytes, Path::new("fuzz")) {
        assert!((1..=4096).contains(&image.width()) && (1..=4096).contains(&image.height()));
    }
});
