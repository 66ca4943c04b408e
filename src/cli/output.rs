//! Where a subcommand speaks: results on stdout, everything else on stderr.

use crate::error::{Error, Result};
use crate::store::write_atomically;
use std::io::{ErrorKind, Write};
use std::path::Path;

/// Prints a result. A reader that has seen enough (`| head`) ends the program quietly.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            Err(Error::Failed(format!("the result could not be printed ({error}); check where stdout leads")))
        }
    }
}

/// Prints a line of a result.
pub(super) fn line(text: &str) -> Result<()> {
    print(&format!("{text}\n"))
}

/// Prints the one JSON value of `--json`.
pub(super) fn json(value: &serde_json::Value) -> Result<()> {
    line(&format!("{value:#}"))
}

/// Says something that is no result. A closed stderr is no reason to stop.
pub(super) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes a file that is either the old one or the new one.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically(path, |out| out.write_all(bytes))
}
