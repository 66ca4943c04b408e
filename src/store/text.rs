//! Texts that people edit.

use crate::error::{Error, Result};
use std::path::Path;

/// The text of the file `path`, which must be UTF-8 as TOML is. A byte order mark is left out.
///
/// # Errors
/// [`Error::File`] if it is not UTF-8. UTF-16 is named, because some editors write it.
pub fn utf8(path: &Path, bytes: Vec<u8>) -> Result<String> {
    let is_utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').map(str::to_string).unwrap_or(text)),
        Err(_) if is_utf16 => Err(Error::file(path, "it is text in UTF-16", "save it as UTF-8")),
        Err(_) => {
            let remedy = "give a preset, a network, or a file like config.toml";
            Err(Error::file(path, "it is not text in UTF-8", remedy))
        }
    }
}
