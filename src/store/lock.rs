//! The lock of a run folder: only one process at a time trains in it.
//!
//! It is a lock of the operating system on the file `lock`, which also holds the number of the process. The
//! system releases it when the process ends, however it ends. The mere existence of the file means nothing.

use crate::error::{Error, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// The name of the file in the run folder.
pub(super) const NAME: &str = "lock";

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    /// Why the folder is not protected; `None` if it is.
    pub(super) unprotected: Option<String>,
}

/// Locks the run folder `run`, which must exist. A file system that has no locks gives an unprotected one.
///
/// # Errors
/// [`Error::File`] naming the process that trains in the folder, or if the file cannot be written.
pub(super) fn lock(run: &Path) -> Result<Lock> {
    let path = run.join(NAME);
    let failed = |error| Error::io(&path, "write", error);
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(held(run, file)),
        Err(TryLockError::Error(error)) => Ok(Lock { _file: file, unprotected: Some(error.to_string()) }),
        Ok(()) => {
            file.set_len(0).map_err(failed)?;
            file.rewind().map_err(failed)?;
            writeln!(file, "{}", std::process::id()).map_err(failed)?;
            Ok(Lock { _file: file, unprotected: None })
        }
    }
}

/// Checks that no process trains in the folder `run`, which may be missing.
///
/// # Errors
/// [`Error::File`] naming the process that does.
pub(super) fn expect_free(run: &Path) -> Result<()> {
    let path = run.join(NAME);
    if !path.is_file() {
        return Ok(());
    }
    match File::open(path) {
        Ok(file) if matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) => Err(held(run, file)),
        _ => Ok(()),
    }
}

/// Whether the file at `path` may be replaced by a lock: it holds nothing but the number of a process.
pub(super) fn is_lock(path: &Path) -> bool {
    let mut text = String::new();
    let mut read = || File::open(path)?.take(64).read_to_string(&mut text);
    path.is_file() && read().is_ok() && text.trim().bytes().all(|byte| byte.is_ascii_digit())
}

fn held(run: &Path, mut file: File) -> Error {
    let mut text = String::new();
    let number = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok());
    let who = number.map_or("another process".to_string(), |number| format!("process {number}"));
    Error::file(
        run,
        format!("{who} is training in this folder"),
        "wait until it ends, stop it, or choose another folder by --out",
    )
}
