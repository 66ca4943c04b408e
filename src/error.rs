//! The one error type of the crate, [`Error`].
//!
//! Every message is a sentence that names the thing, the reason and the remedy. The command line prints it
//! and ends with [`Error::exit_code`].

use std::path::{Path, PathBuf};

/// Everything that can go wrong outside of the program. Mistakes in recording (wrong shapes) are bugs and
/// panic instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A mistake that is visible in the arguments alone: an unknown preset, device or key, a batch of 0.
    /// Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// A file or folder that cannot be used: its path, why, and what to do.
    #[error("{}: {reason}; {remedy}", path.display())]
    #[non_exhaustive]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why it cannot be used.
        reason: String,
        /// What to do about it.
        remedy: String,
        /// The error of the system or of a decoder that caused this one, if there is one.
        source: Option<Cause>,
    },
    /// A device that cannot do what was asked: why, and what to do.
    #[error("{0}")]
    Device(String),
    /// A data set that does not have the requested split. The message is that of the error inside. Nothing
    /// is damaged, so a caller may use another split.
    #[error("{0}")]
    MissingSplit(Box<Error>),
    /// Any other failure, already a sentence.
    #[error("{0}")]
    Failed(String),
    /// An error of another kind, with the error of the system or of another library that caused it. The
    /// message is that of `error`.
    #[error("{error}")]
    #[non_exhaustive]
    Caused {
        /// What failed.
        error: Box<Error>,
        /// The error that caused it.
        source: Cause,
    },
}

/// The error of the system or of another library.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Shorthand used by the whole crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A file error with its reason and remedy. The reason may quote the file, so it is made short and
    /// printable.
    pub fn file(path: impl AsRef<Path>, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        let reason = printable(reason.into());
        Error::File { path: path.as_ref().to_path_buf(), reason, remedy: remedy.into(), source: None }
    }

    /// Turns an I/O error on `path` into a sentence; `doing` says what was tried ("read", "write").
    pub fn io(path: impl AsRef<Path>, doing: &str, error: std::io::Error) -> Self {
        use std::io::ErrorKind::*;
        let remedy = match error.kind() {
            NotFound | NotADirectory | InvalidInput | InvalidFilename => "check the path",
            IsADirectory => "move the folder away, or choose another path",
            PermissionDenied => "check the permissions of the file and its folder",
            StorageFull | QuotaExceeded => "free some disk space and run the command again",
            FileTooLarge => "raise the limit on the size of files (ulimit -f) and run the command again",
            ReadOnlyFilesystem => "choose a folder that can be written to",
            _ => "check the disk and try again",
        };
        Error::file(path, format!("could not {doing} it ({error})"), remedy).because(error)
    }

    /// The same error with `cause` as its [source](std::error::Error::source). The message does not change.
    pub fn because(self, cause: impl Into<Cause>) -> Self {
        match self {
            Error::File { path, reason, remedy, .. } => {
                Error::File { path, reason, remedy, source: Some(cause.into()) }
            }
            other => Error::Caused { error: Box::new(other), source: cause.into() },
        }
    }

    /// Marks the error as that of a data set that does not have the requested split.
    pub(crate) fn of_missing_split(self) -> Self {
        Error::MissingSplit(Box::new(self))
    }

    /// The process's exit code for this error: 2 if the arguments alone show the mistake, otherwise 1.
    pub fn exit_code(&self) -> i32 {
        match self {
            Error::Usage(_) => 2,
            Error::Caused { error, .. } | Error::MissingSplit(error) => error.exit_code(),
            Error::File { .. } | Error::Device(_) | Error::Failed(_) => 1,
        }
    }
}

/// The text without control characters, which could change what a terminal shows, in at most three lines,
/// and shortened in the middle if it is long.
pub(crate) fn printable(mut text: String) -> String {
    const MOST_LINES: usize = 3;
    const LONGEST: usize = 600;
    let one_line = text.lines().count() > MOST_LINES;
    let is_odd = |c: char| {
        let turns_text = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        turns_text || (c.is_control() && (c != '\n' || one_line))
    };
    if text.contains(is_odd) {
        let escaped = |c: char| if is_odd(c) { c.escape_default().to_string() } else { c.to_string() };
        text = text.chars().map(escaped).collect();
    }
    let count = text.chars().count();
    if count <= LONGEST {
        return text;
    }
    let part = |skip: usize| text.chars().skip(skip).take(LONGEST / 2).collect::<String>();
    format!("{} [...] {}", part(0), part(count - LONGEST / 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;
    use std::io::{self, ErrorKind};

    #[test]
    fn an_error_keeps_its_cause_and_its_message() {
        let missing = || io::Error::from(ErrorKind::NotFound);
        let of_file = Error::io("a.txt", "read", missing());
        assert!(matches!(of_file, Error::File { .. }));
        assert_eq!(of_file.to_string(), format!("a.txt: could not read it ({}); check the path", missing()));
        let of_usage = Error::Usage("there is no such preset".into()).because(missing());
        assert_eq!((of_usage.to_string().as_str(), of_usage.exit_code()), ("there is no such preset", 2));
        for error in [of_file, of_usage] {
            let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
            assert_eq!(source.map(io::Error::kind), Some(ErrorKind::NotFound));
        }
        assert!(Error::file("a.txt", "it is empty", "replace it").source().is_none());
    }
}
