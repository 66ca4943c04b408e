//! The output of subcommands: results go to stdout, everything else to stderr.

use super::signals;
use crate::error::{Error, Result};
use crate::pictures::png::with_text;
use crate::store::write_atomically;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Prints a result. If the reader closes the pipe early (`| head`), the program ends without an error. A
/// signal may have ended the reader or the terminal too, and is then no reason for an error either.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(_) if signals::has_arrived() => Ok(()),
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
pub(super) fn json(value: &Value) -> Result<()> {
    line(&format!("{value:#}"))
}

/// A path as a JSON value. JSON is Unicode; bytes of a name that are not become replacement characters.
pub(super) fn path(path: &Path) -> Value {
    path.to_string_lossy().into()
}

/// Prints a note that is not a result. A closed stderr does not stop the program.
pub(super) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints a note that is not a result, if it has not been printed before: a command may open a data set
/// twice.
pub(super) fn note_once(text: &str) {
    static PRINTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let is_new = PRINTED.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_string());
    if is_new {
        note(text);
    }
}

/// Writes a file atomically: it is always either the old file or the new one.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically(path, |out| out.write_all(bytes))
}

/// Writes a picture with the text that says where it comes from.
pub(super) fn write_png(path: &Path, png: &[u8], provenance: &Value) -> Result<()> {
    write(path, &with_text(png, &provenance.to_string()))
}

/// The object `value` with all keys of the object `more`.
pub(super) fn merged(mut value: Value, more: &Value) -> Value {
    if let (Value::Object(all), Value::Object(more)) = (&mut value, more) {
        more.iter().for_each(|(key, value)| _ = all.insert(key.clone(), value.clone()));
    }
    value
}
