//! The one error type. Every message is a sentence that names the thing, the reason and the remedy.

use std::path::{Path, PathBuf};

/// Everything that can go wrong outside of the program. Mistakes in recording (wrong shapes) are bugs and
/// panic instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A mistake that the arguments alone show: an unknown preset, device or key, a batch of 0. Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// A file or folder that cannot be used: its path, why, and what to do.
    #[error("{}: {reason}; {remedy}", path.display())]
    File { path: PathBuf, reason: String, remedy: String },
    /// A device that cannot do what was asked: why, and what to do.
    #[error("{0}")]
    Device(String),
    /// Any other failure, already a sentence.
    #[error("{0}")]
    Failed(String),
}

/// Shorthand used by the whole crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A file error with its reason and remedy.
    pub fn file(path: impl AsRef<Path>, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Error::File { path: path.as_ref().to_path_buf(), reason: reason.into(), remedy: remedy.into() }
    }

    /// Turns an I/O error on `path` into a sentence; `doing` says what was tried ("read", "write").
    pub fn io(path: impl AsRef<Path>, doing: &str, error: &std::io::Error) -> Self {
        use std::io::ErrorKind::*;
        let remedy = match error.kind() {
            NotFound | NotADirectory => "check the path",
            PermissionDenied => "check the permissions of the file and its folder",
            StorageFull | QuotaExceeded => "free some disk space and run the command again",
            FileTooLarge => "raise the limit on the size of files (ulimit -f) and run the command again",
            ReadOnlyFilesystem => "choose a folder that can be written to",
            _ => "check the disk and try again",
        };
        Error::file(path, format!("could not {doing} it ({error})"), remedy)
    }

    /// The process's exit code for this error: 2 for what the arguments alone show, 1 otherwise.
    pub fn exit_code(&self) -> i32 {
        if matches!(self, Error::Usage(_)) { 2 } else { 1 }
    }
}
