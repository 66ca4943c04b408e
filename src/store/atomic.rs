//! Writes a file so that a crash at any moment leaves either the old file or the new one.

use crate::error::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// The end of temporary names. They start with a dot, so that no listing of checkpoints contains them.
const SUFFIX: &str = ".partial";

/// The start of our temporary names. Only files with such names are cleaned up.
const PREFIX: &str = ".pixtape-";

/// The most links that are followed to the file that a name stands for.
const MAX_LINKS: usize = 40;

/// The most temporary files that are made until one is still there when its lock is held.
const MAX_TRIES: usize = 100;

/// Replaces `path` by what `write` produces. The content is written to a temporary name in the same folder,
/// synced and renamed, and the folder is synced. On any failure the temporary file is removed and an earlier
/// `path` is untouched. Temporary files of killed processes in that folder are removed first. If `path` is a
/// link, the file that it leads to is replaced and the link stays. A file that is replaced passes on its
/// permissions. If `path` is a device or a pipe, it is written to directly.
///
/// # Errors
/// [`Error::File`] if the folder is missing or cannot be written to, or if the disk is full.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    try_write(path, write).map_err(|error| Error::io(path, "write", error))
}

/// Writes the changes of a folder to the disk: which names it has. Only Unix needs and knows that.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

fn try_write(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let path = &followed(path)?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let earlier = std::fs::metadata(path).ok();
    if earlier.as_ref().is_some_and(|meta| meta.is_dir()) {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder"));
    }
    if earlier.as_ref().is_some_and(|meta| !meta.is_file()) {
        // A device or a pipe is written to, not replaced.
        let mut special = io::BufWriter::new(OpenOptions::new().write(true).open(path)?);
        write(&mut special)?;
        return special.flush();
    }
    remove_leftovers(folder);
    let mut temporary = new_temporary(folder)?;
    let mut buffered = io::BufWriter::with_capacity(1 << 20, temporary.as_file_mut());
    write(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    if let Some(meta) = earlier {
        temporary.as_file().set_permissions(meta.permissions())?;
    }
    temporary.as_file().sync_all()?;
    rename(temporary, path)?;
    // The rename is a change of the folder. Without this sync a power cut could undo it.
    sync_folder(folder)
}

/// Gives a temporary file its final name. It is removed if that fails. The standard library renames it,
/// because it calls the C library, where a test can make the call fail (`tests/crashes/faults.c`).
fn rename(temporary: NamedTempFile, path: &Path) -> io::Result<()> {
    // The file stays open until the end, and with it the lock.
    let (_file, name) = temporary.keep().map_err(|failed| failed.error)?;
    std::fs::rename(&name, path).inspect_err(|_| {
        // The first error is the one that is reported.
        let _ = std::fs::remove_file(&name);
    })
}

/// The path that `path` leads to if it is a link, even if nothing exists there yet; otherwise `path` itself.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        if !std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_symlink()) {
            return Ok(path);
        }
        let target = std::fs::read_link(&path)?;
        // A relative target starts at the folder of the link. An absolute one replaces the whole path.
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a link that leads to itself"))
}

/// A temporary file that this process has locked.
fn new_temporary(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    #[cfg(unix)]
    {
        // Temporary files are private by default; a finished one gets the usual permissions, less the umask.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    for _ in 0..MAX_TRIES {
        let temporary = builder.tempfile_in(folder).map_err(without_name)?;
        // A running writer holds this lock, so that another one does not remove its file. On a file system
        // without locks, this protection is missing.
        let _ = temporary.as_file().lock();
        // Before the lock was held, another writer may have taken the file for that of a killed process.
        if temporary.path().exists() {
            return Ok(temporary);
        }
    }
    Err(io::Error::other("other processes remove its temporary files"))
}

/// The error without the temporary name that the library adds to its text.
fn without_name(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once(" at path ") {
        Some((reason, _)) => io::Error::new(error.kind(), reason.to_string()),
        None => error,
    }
}

/// Removes the temporary files of killed writers in `folder`. The file of a running writer is left alone. A
/// folder that cannot be listed is left as it is.
fn remove_leftovers(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            let Ok(file) = File::open(entry.path()) else { continue };
            if file.try_lock().is_ok() {
                // Another process may have removed it first; that is fine.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        for text in ["first", "second"] {
            write_atomically(&path, |out| out.write_all(text.as_bytes())).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn a_failed_write_keeps_the_earlier_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, "earlier").unwrap();
        let failed = write_atomically(&path, |out| {
            out.write_all(b"half of it")?;
            Err(io::Error::new(io::ErrorKind::StorageFull, "no space left"))
        });
        assert!(failed.unwrap_err().to_string().contains("free some disk space"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "earlier");
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn leftovers_of_a_killed_writer_go_but_not_those_of_a_living_one() {
        let folder = tempfile::tempdir().unwrap();
        let dead = folder.path().join(".pixtape-dead.partial");
        let alive = folder.path().join(".pixtape-alive.partial");
        let foreign = folder.path().join("download.partial");
        for path in [&dead, &alive, &foreign] {
            std::fs::write(path, "half").unwrap();
        }
        let held = File::open(&alive).unwrap();
        held.lock().unwrap();
        write_atomically(&folder.path().join("a.txt"), |out| out.write_all(b"x")).unwrap();
        assert_eq!(names(folder.path()), [".pixtape-alive.partial", "a.txt", "download.partial"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_device_is_written_to_and_stays_what_it_is() {
        let full = Path::new("/dev/full");
        let refused = write_atomically(full, |out| out.write_all(b"x")).unwrap_err().to_string();
        assert!(refused.contains("free some disk space"), "{refused}");
        write_atomically(Path::new("/dev/null"), |out| out.write_all(b"x")).unwrap();
        assert!(!std::fs::metadata(full).unwrap().is_file());
    }

    #[test]
    fn a_missing_folder_and_a_folder_in_the_way_are_sentences() {
        let folder = tempfile::tempdir().unwrap();
        let missing = write_atomically(&folder.path().join("no/a.txt"), |_| Ok(())).unwrap_err().to_string();
        assert!(missing.contains("check the path"), "{missing}");
        let in_the_way = write_atomically(folder.path(), |_| Ok(())).unwrap_err().to_string();
        assert!(in_the_way.contains("it is a folder"), "{in_the_way}");
    }
}
