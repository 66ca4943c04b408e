//! Opens input files, and writes paths into messages.
//!
//! Every reader of the crate opens its files here. Only regular files are opened, after links are followed:
//! a pipe would block the program, and a device such as `/dev/zero` never ends.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

use crate::{Error, Result, memory};

/// A regular file that is open for reading.
pub(crate) struct RegularFile {
    pub(crate) file: File,
    /// Its length when it was opened, in bytes. A reader stops there, even if the file grows.
    pub(crate) length: u64,
}

/// Opens a regular file for reading.
///
/// # Errors
/// [`Error::File`] if it cannot be opened, or if it is a folder, a pipe, a socket or a device.
pub(crate) fn open_regular(path: &Path) -> Result<RegularFile> {
    let failed = |error: io::Error| Error::io(path, "read", error);
    // To open a device can have effects, so the kind is looked at first.
    check_kind(path, std::fs::metadata(path).map_err(failed)?.file_type())?;
    let mut options = OpenOptions::new();
    options.read(true);
    // If a pipe takes the place of the file in between, opening it does not wait for a writer.
    #[cfg(target_os = "linux")]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    let file = options.open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    check_kind(path, meta.file_type())?;
    Ok(RegularFile { file, length: meta.len() })
}

/// Checks that a file that will be opened in another way than for reading is regular, if it exists.
///
/// # Errors
/// [`Error::File`] if it is a folder, a pipe, a socket or a device.
pub(crate) fn check_regular(path: &Path) -> Result<()> {
    std::fs::metadata(path).map_or(Ok(()), |meta| check_kind(path, meta.file_type()))
}

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// As [`open_regular`]; if the file is longer, or longer than the free memory.
pub(crate) fn read_regular(path: &Path, most: u64) -> Result<Vec<u8>> {
    let RegularFile { file, length } = open_regular(path)?;
    if length > most {
        let reason = format!("it has {length} bytes, and at most {most} are read");
        return Err(Error::file(path, reason, "check whether it is the right file"));
    }
    memory::check(length, &format!("the file {}", path.display()), "use a smaller file")?;
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(length).read_to_end(&mut bytes).map_err(|error| Error::io(path, "read", error))?;
    Ok(bytes)
}

/// Reads a regular file of at most `most` bytes as text. A byte order mark is left out.
///
/// # Errors
/// As [`read_regular`], or if the file is not UTF-8. UTF-16 is named, because some editors write it.
pub(crate) fn read_text(path: &Path, most: u64) -> Result<String> {
    let bytes = read_regular(path, most)?;
    let is_utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').map(str::to_string).unwrap_or(text)),
        Err(_) if is_utf16 => Err(Error::file(path, "it is text in UTF-16", "save it as UTF-8")),
        Err(error) => {
            let reason = format!("it is not text in UTF-8 (byte {} is not)", error.utf8_error().valid_up_to());
            Err(Error::file(path, reason, "save it as UTF-8, or use another file").because(error))
        }
    }
}

fn check_kind(path: &Path, kind: FileType) -> Result<()> {
    if kind.is_file() {
        return Ok(());
    }
    let what = if kind.is_dir() { "a folder" } else { special_kind(kind) };
    let remedy = if kind.is_dir() { "give a file in it" } else { "copy its contents into a file, and give that" };
    Err(Error::file(path, format!("it is {what}, not a file"), remedy))
}

#[cfg(unix)]
fn special_kind(kind: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(not(unix))]
fn special_kind(_: FileType) -> &'static str {
    "a device"
}

/// The path as it can be pasted into a shell command. Plain names stay as they are.
pub(crate) fn quoted(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,=".contains(byte);
    // A path that begins with a minus would be read as an option.
    let start = if bytes.first() == Some(&b'-') { "./" } else { "" };
    match path.to_str() {
        Some(text) if !text.is_empty() && bytes.iter().all(is_plain) => format!("{start}{text}"),
        Some(text) if !text.chars().any(char::is_control) => format!("'{start}{}'", text.replace('\'', r"'\''")),
        // The form $'...' is the only one that can name every byte.
        _ => {
            let escaped = bytes.iter().map(|&byte| match byte {
                b'\'' | b'\\' => format!("\\{}", char::from(byte)),
                b' '..=b'~' => char::from(byte).to_string(),
                _ => format!("\\x{byte:02x}"),
            });
            format!("$'{start}{}'", escaped.collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_a_shell() {
        for (path, expected) in [
            ("runs/vae-mnist", "runs/vae-mnist"),
            ("my runs/a", "'my runs/a'"),
            ("it's", r"'it'\''s'"),
            ("-n", "./-n"),
            ("- n", "'./- n'"),
            ("a$(b)", "'a$(b)'"),
            ("a\nb", r"$'a\x0ab'"),
            ("größe", "'größe'"),
        ] {
            assert_eq!(quoted(Path::new(path)), expected);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_shell_reads_back_what_is_quoted() {
        use std::os::unix::ffi::OsStrExt;
        for bytes in [&b"a b"[..], b"x'y\"$z`", b"bad\xff\\n", b"\ttab\n", b"*?[a]", b"~", b"#", b"!", b"a\x01b1"] {
            let path = Path::new(std::ffi::OsStr::from_bytes(bytes));
            let command = format!("printf %s {}", quoted(path));
            let output = std::process::Command::new("bash").args(["-c", &command]).output().unwrap();
            assert_eq!(output.stdout, bytes, "{command}");
        }
    }
}
