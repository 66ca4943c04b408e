//! The output of subcommands: results go to stdout, everything else to stderr.

use crate::error::{Error, Result};
use crate::store::write_atomically;
use std::io::{ErrorKind, Write};
use std::path::Path;

/// Prints a result. If the reader closes the pipe early (`| head`), the program ends without an error.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Error::Failed(format!(
            "the result could not be printed ({error}); check where stdout is redirected to"
        ))),
    }
}

/// Prints one line of a result.
pub(super) fn line(text: &str) -> Result<()> {
    print(&format!("{text}\n"))
}

/// Prints the one JSON value of `--json`.
pub(super) fn json(value: &serde_json::Value) -> Result<()> {
    line(&format!("{value:#}"))
}

/// Prints a note that is not a result. A closed stderr does not stop the program.
pub(super) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes a file atomically: it is always either the old file or the new one.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically(path, |out| out.write_all(bytes))
}
