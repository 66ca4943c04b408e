//! A checkpoint: any bytes are a checkpoint or a sentence, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| pixtape::store::fuzz_parse(bytes));
