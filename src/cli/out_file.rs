//! The files that subcommands write, such as that of `--out`. What can be known beforehand is checked
//! before the work starts: its ending, its folder, and that it replaces nothing that is still needed.

use crate::error::{Error, Result};
use clap::builder::{OsStringValueParser, TypedValueParser};
use serde::{Serialize, Serializer};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// Bytes at the start of a file in which the format of a checkpoint is looked for.
const MAX_START: u64 = 1 << 16;

/// The entry of a checkpoint's header that says what it is.
const CHECKPOINT: &[u8] = b"\"format\":\"pixtape-checkpoint\"";

/// The folders of a run that only training writes to.
const OF_RUN: [&str; 2] = ["checkpoints", "samples"];

/// The name of a file to write. Its ending fits its contents.
#[derive(Clone, Debug)]
pub(super) struct OutFile(PathBuf);

impl Deref for OutFile {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Serialize for OutFile {
    /// JSON is Unicode. Bytes of a name that are not become replacement characters.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_string_lossy())
    }
}

/// Parses the name of a picture for clap.
pub(super) fn picture() -> impl TypedValueParser<Value = OutFile> {
    parser(&["png"], "a picture is written as PNG; give a name that ends in .png")
}

/// Parses the name of a plot for clap.
pub(super) fn plot() -> impl TypedValueParser<Value = OutFile> {
    parser(&["svg"], "a plot is written as SVG; give a name that ends in .svg")
}

/// Parses the name of a page for clap.
pub(super) fn page() -> impl TypedValueParser<Value = OutFile> {
    parser(&["html"], "a page is written as HTML; give a name that ends in .html")
}

/// Parses the name of a file with a Markdown table for clap.
pub(super) fn markdown() -> impl TypedValueParser<Value = OutFile> {
    parser(&["md"], "a table is written as Markdown; give a name that ends in .md")
}

/// Parses the name of a file of tensors for clap.
pub(super) fn tensors() -> impl TypedValueParser<Value = OutFile> {
    parser(&["safetensors"], "tensors are written as safetensors; give a name that ends in .safetensors")
}

/// Parses the name of a picture or of a file of tensors for clap.
pub(super) fn picture_or_tensors() -> impl TypedValueParser<Value = OutFile> {
    let remedy = "the ending says what is written; give a name that ends in .png (picture) or .safetensors (tensors)";
    parser(&["png", "safetensors"], remedy)
}

fn parser(endings: &'static [&'static str], remedy: &'static str) -> impl TypedValueParser<Value = OutFile> {
    OsStringValueParser::new().try_map(move |name| {
        let path = PathBuf::from(name);
        let fits = |ending: &OsStr| endings.iter().any(|known| ending.eq_ignore_ascii_case(known));
        // A device or a pipe has no ending. A folder is refused by `check`, whatever its name.
        let is_file = std::fs::metadata(&path).map_or(true, |meta| meta.is_file());
        if is_file && !path.extension().is_some_and(fits) { Err(remedy) } else { Ok(OutFile(path)) }
    })
}

impl OutFile {
    /// The picture `name.png` in the current folder.
    pub fn default_picture(name: &str) -> Self {
        OutFile(PathBuf::from(format!("{name}.png")))
    }

    /// Checks that the file can be written, and that it is none of `inputs`, no checkpoint, and not in a
    /// folder that belongs to the training of a run.
    ///
    /// # Errors
    /// [`Error::File`] that says what is in the way.
    pub fn check(&self, inputs: &[&Path]) -> Result<()> {
        let path = &*self.0;
        if path.is_dir() {
            return Err(Error::file(path, "it is a folder", "give the name of a file in it"));
        }
        // A name that is too long, or a link that leads to itself.
        if let Err(error) = std::fs::metadata(path)
            && !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied)
        {
            if path.is_symlink() {
                return Err(Error::file(
                    path,
                    "it is a link that leads to itself",
                    "choose another name for the output",
                ));
            }
            return Err(Error::io(path, "write", error));
        }
        if inputs.iter().any(|input| is_same_file(path, input)) {
            let reason = "the command reads this file and would overwrite it";
            return Err(Error::file(path, reason, "choose another name for the output"));
        }
        let target = target(path);
        if std::fs::metadata(&target).is_ok_and(|meta| !meta.is_file()) {
            // A device or a pipe is written to, not replaced.
            return Ok(());
        }
        if is_checkpoint(&target) {
            return Err(Error::file(
                path,
                "it is a checkpoint, which would be lost",
                "choose another name for the output",
            ));
        }
        let folder = folder_of(&target);
        if is_of_run(folder) {
            let reason = format!("only `pixtape train` writes into {}, the folder of a run", folder.display());
            return Err(Error::file(path, reason, "choose another folder for the output"));
        }
        check_writable(path, folder)
    }

    /// Checks that the file is neither the file of `images` nor in the folder of `images`, whose next reader
    /// would take it for one of them.
    ///
    /// # Errors
    /// [`Error::File`] that names both.
    pub fn check_outside(&self, images: &Path) -> Result<()> {
        let path = &*self.0;
        let target = target(path);
        let whole = |path: &Path| path.canonicalize().ok();
        let is_inside = whole(folder_of(&target))
            .zip(whole(images))
            .is_some_and(|(folder, images)| images.is_dir() && folder.starts_with(images));
        if is_inside || is_same_file(path, images) {
            let reason = format!("the output would become part of the images in {}", images.display());
            return Err(Error::file(path, reason, "choose another folder for the output"));
        }
        Ok(())
    }
}

/// The path that is written to: if `path` is a link, what it leads to.
fn target(path: &Path) -> PathBuf {
    let link = || Some(folder_of(path).join(std::fs::read_link(path).ok()?));
    path.canonicalize().ok().or_else(link).unwrap_or_else(|| path.to_path_buf())
}

/// The folder of a file.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whether both names lead to one file, also through links.
fn is_same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let of = |path: &Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
        of(a).is_some_and(|file| of(b) == Some(file))
    }
    #[cfg(not(unix))]
    {
        let whole = |path: &Path| path.canonicalize().ok();
        whole(a).is_some_and(|file| whole(b) == Some(file))
    }
}

/// Whether a regular file is a checkpoint. What cannot be read is none.
pub(super) fn is_checkpoint(path: &Path) -> bool {
    let mut start = vec![];
    let read = File::open(path).and_then(|file| file.take(MAX_START).read_to_end(&mut start));
    read.is_ok() && start.windows(CHECKPOINT.len()).any(|window| window == CHECKPOINT)
}

/// Whether a folder is one of those that a run's training fills.
fn is_of_run(folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return false };
    let is_named = folder.file_name().is_some_and(|name| OF_RUN.iter().any(|known| name == *known));
    is_named && folder_of(&folder).join("config.toml").is_file()
}

/// Checks that a file can be made in `folder`, by making one that has no name.
fn check_writable(path: &Path, folder: &Path) -> Result<()> {
    if !folder.is_dir() {
        let reason = match folder.exists() {
            true => format!("{} is not a folder", folder.display()),
            false => format!("there is no folder {}", folder.display()),
        };
        return Err(Error::file(path, reason, "make the folder, or check the path"));
    }
    // The text of the library's error holds a temporary name.
    tempfile::tempfile_in(folder).map(drop).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => {
            let reason = format!("the folder {} cannot be written to ({})", folder.display(), error.kind());
            Error::file(path, reason, "choose another folder, or change its permissions")
        }
        kind => Error::io(path, "write", io::Error::from(kind)),
    })
}
