//! The whole check under the sanitizers. They find accesses outside of a kernel's buffers, undefined
//! behaviour, and data races between threads.

use crate::stand_in::{Build, StandIn, text};

fn check(build: Build, arguments: &str) {
    let Some(stand_in) = StandIn::get(build) else { return };
    let output = stand_in.pixtape(&format!("check --device cuda --threads 1 {arguments}")).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn address_and_undefined_behaviour() {
    check(Build::Asan, "");
}

#[test]
fn threads() {
    check(Build::Tsan, "");
}
