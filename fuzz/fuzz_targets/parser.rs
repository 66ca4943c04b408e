//! One parser under a coverage-guided fuzzer: the one that the variable `PARSER` names. What must hold is in
//! `tests/mutations/parsers.rs`.
#![no_main]

#[path = "../../tests/mutations/parsers.rs"]
mod parsers;

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static PARSER: LazyLock<parsers::Parser> = LazyLock::new(|| {
    let name = std::env::var("PARSER").unwrap_or_default();
    let found = parsers::PARSERS.iter().find(|(parser, _)| *parser == name);
    let names: Vec<&str> = parsers::PARSERS.iter().map(|(parser, _)| *parser).collect();
    *found.unwrap_or_else(|| panic!("set PARSER to one of {names:?}"))
});

// A refusal is fine. A panic is not.
fuzz_target!(|bytes: &[u8]| drop((PARSER.1)(bytes)));
