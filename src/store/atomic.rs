//! Writes a file so that a crash at any moment leaves either the old file or the new one.

use crate::error::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// The end of temporary names. They start with a dot, so that no listing of checkpoints contains them.
const SUFFIX: &str = ".partial";

/// The start of our temporary names. Only files with such names are cleaned up.
const PREFIX: &str = ".pixtape-";

/// Replaces `path` by what `write` produces. The content is written to a temporary name in the same folder,
/// synced and renamed, and the folder is synced. On any failure the temporary file is removed and an earlier
/// `path` is untouched. Temporary files of killed processes in that folder are removed first. If `path` is a
/// device or a pipe, it is written to directly.
///
/// # Errors
/// [`Error::File`] if the folder is missing or cannot be written to, or if the disk is full.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    try_write(path, write).map_err(|error| Error::io(path, "write", error))
}

fn try_write(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if path.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder"));
    }
    if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        // A device or a pipe is written to, not replaced.
        let mut special = io::BufWriter::new(OpenOptions::new().write(true).open(path)?);
        write(&mut special)?;
        return special.flush();
    }
    remove_leftovers(folder)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    #[cfg(unix)]
    {
        // Temporary files are private by default; a finished one gets the usual permissions, less the umask.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut temporary = builder.tempfile_in(folder)?;
    // A running writer holds this lock, so that another one does not remove its file. On a file system
    // without locks, this protection is missing.
    let _ = temporary.as_file().try_lock();
    let mut buffered = io::BufWriter::with_capacity(1 << 20, temporary.as_file_mut());
    write(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|failed| failed.error)?;
    // The rename is a change of the folder. Without this sync a power cut could undo it.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// Removes the temporary files of killed writers in `folder`. The file of a running writer is left alone.
fn remove_leftovers(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)?.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            let free = File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok());
            if free {
                // Another process may have removed it first; that is fine.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
    Ok(())
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
