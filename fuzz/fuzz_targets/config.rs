//! A configuration: any text is a valid configuration or a sentence, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(config) = pixtape::config::Config::from_toml(text, std::path::Path::new("fuzz")) {
        config.validate().unwrap();
    }
});
