//! A file of reference cases: any bytes are cases or a sentence, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| pixtape::check::reference::fuzz_parse(bytes));
