//! Progress on a terminal, on one that cannot move its cursor, and in a file.

use super::{Place, tiny};
use std::process::{Command, Output};

/// Runs `pixtape` on a pseudo-terminal, with `TERM` set to `term` or not set.
fn on_terminal(place: &Place, term: Option<&str>, arguments: &str) -> String {
    let program = env!("CARGO_BIN_EXE_pixtape");
    let mut command = Command::new("script");
    command.args(["-qec", &format!("{program} {arguments}"), "/dev/null"]).current_dir(place.path(""));
    command.env_remove("PIXTAPE_DATA").env_remove("TERM").env("XDG_RUNTIME_DIR", place.path(""));
    if let Some(term) = term {
        command.env("TERM", term);
    }
    let Output { status, stdout, .. } = command.output().unwrap();
    let shown = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{shown}");
    shown
}

#[test]
fn plain_lines_replace_a_bar_that_would_be_hidden() {
    let place = Place::new();
    for (run, term) in [("dumb", Some("dumb")), ("unset", None)] {
        let shown = on_terminal(&place, term, &tiny("vae-mlp-mnist", 3, run));
        assert!(shown.contains("step 3/3: ") && shown.contains("images/s"), "TERM {run}: {shown}");
        let shown = on_terminal(&place, term, &format!("sample {run} -n 2"));
        assert!(shown.contains("drawing 2 images"), "TERM {run}: {shown}");
        let shown = on_terminal(&place, term, &format!("eval {run} --images 5 --iwae 1"));
        assert!(shown.contains("measuring 5 images"), "TERM {run}: {shown}");
    }
    let output = place.run("sample dumb -n 2");
    assert!(String::from_utf8_lossy(&output.stderr).contains("drawing 2 images"), "nothing is said into a file");
}

#[test]
fn a_terminal_shows_a_bar() {
    let place = Place::new();
    let shown = on_terminal(&place, Some("xterm"), &tiny("vae-mlp-mnist", 3, "run"));
    assert!(shown.contains("3/3") && !shown.contains("step 3/3"), "{shown}");
    assert!(shown.contains('\x1b') || shown.contains('\u{2588}'), "{shown}");
}
