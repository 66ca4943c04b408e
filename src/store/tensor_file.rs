//! Safetensors files in formats of our own. Nothing in a file is trusted.
//!
//! The header's length is compared with the file's length before anything is allocated. The `safetensors`
//! crate verifies the offsets. The metadata must name the format and a known version. What is written is
//! sorted, so the same content gives the same bytes.

use crate::error::{Error, Result};
use crate::files::{RegularFile, open_regular};
use crate::memory;
use safetensors::{SafeTensorError, SafeTensors};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::path::Path;

/// The longest header that the safetensors format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// What a file is expected to be, and what to advise where it is not.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// The value of `format` in the metadata.
    pub format: &'static str,
    /// The oldest version that is understood.
    pub oldest: u32,
    /// The newest version that is understood.
    pub newest: u32,
    /// What a user calls such a file, with its article: "a checkpoint".
    pub noun: &'static str,
    /// Remedy for a damaged file.
    pub damaged: &'static str,
    /// Remedy for a file of another kind.
    pub wrong: &'static str,
}

/// A file that has been read.
#[derive(Debug)]
pub struct Parsed<'a> {
    /// The version of its format.
    pub version: u32,
    /// Its metadata.
    pub metadata: HashMap<String, String>,
    /// Its tensors.
    pub tensors: SafeTensors<'a>,
}

impl Kind {
    /// An error for a damaged file.
    pub fn damaged(&self, path: &Path, reason: impl Into<String>) -> Error {
        Error::file(path, reason, self.damaged)
    }

    /// Reads the bytes of a file. One of another kind is turned away by its first eight bytes, before
    /// gigabytes of it are read.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be read or cannot be a safetensors file.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>> {
        let failed = |error: io::Error| Error::io(path, "read", error);
        let RegularFile { mut file, length } = open_regular(path)?;
        let mut first = [0; 8];
        let mut bytes = Vec::new();
        if length >= 8 {
            file.read_exact(&mut first).map_err(failed)?;
            self.check_header_length(path, u64::from_le_bytes(first), length)?;
            memory::check(length, &format!("the file {}", path.display()), "free some memory")?;
            bytes.reserve_exact(length as usize);
            bytes.extend(first);
        }
        file.take(length - bytes.len() as u64).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    /// Version, metadata and tensors from the bytes of a file; `path` is only for the message.
    ///
    /// # Errors
    /// [`Error::File`] for any bytes that are not a sound file of this format and a known version.
    pub fn parse<'a>(&self, path: &Path, bytes: &'a [u8]) -> Result<Parsed<'a>> {
        let Some(length) = bytes.first_chunk::<8>() else {
            return Err(self.damaged(path, format!("it is truncated ({} bytes)", bytes.len())));
        };
        self.check_header_length(path, u64::from_le_bytes(*length), bytes.len() as u64)?;
        let (_, header) =
            SafeTensors::read_metadata(bytes).map_err(|error| self.damaged(path, explain(&error)).because(error))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let version = self.version(path, metadata.get("format"), metadata.get("version"))?;
        let tensors =
            SafeTensors::deserialize(bytes).map_err(|error| self.damaged(path, explain(&error)).because(error))?;
        Ok(Parsed { version, metadata, tensors })
    }

    fn check_header_length(&self, path: &Path, header: u64, file: u64) -> Result<()> {
        if header > MAX_HEADER || header > file - 8 {
            let reason = format!(
                "it is truncated or not a safetensors file (a header of {header} bytes in a file of {file} bytes)"
            );
            return Err(self.damaged(path, reason));
        }
        Ok(())
    }

    /// The version of the file, if it has this format and a known version.
    fn version(&self, path: &Path, format: Option<&String>, version: Option<&String>) -> Result<u32> {
        if format.map(String::as_str) != Some(self.format) {
            let reason = match format {
                Some(format) => format!("it is a \"{format}\" file, not {}", self.noun),
                None => format!("it is a safetensors file, but not {} of pixtape", self.noun),
            };
            return Err(Error::file(path, reason, self.wrong));
        }
        match version.and_then(|version| version.parse::<u32>().ok()) {
            Some(version) if (self.oldest..=self.newest).contains(&version) => Ok(version),
            Some(newer) if newer > self.newest => {
                Err(Error::file(path, format!("it was written by a newer pixtape (version {newer})"), "update pixtape"))
            }
            _ => Err(self.damaged(path, "its metadata have no version that pixtape knows")),
        }
    }
}

/// A tensor's entry in the header. The order of the fields is that of the bytes.
#[derive(Serialize)]
struct Entry<'a> {
    dtype: &'static str,
    shape: &'a [usize],
    data_offsets: [usize; 2],
}

/// The header. The names come after `__metadata__` and sorted, as the data do.
#[derive(Serialize)]
struct Header<'a> {
    __metadata__: BTreeMap<&'static str, &'a str>,
    #[serde(flatten)]
    tensors: BTreeMap<&'a str, Entry<'a>>,
}

/// Writes a safetensors file of f32 tensors. `tensors` are the name, shape and elements of each, sorted by
/// name.
///
/// # Errors
/// What the writer reports.
pub(crate) fn write_tensors<'a>(
    out: &mut dyn Write,
    metadata: BTreeMap<&'static str, &'a str>,
    tensors: impl Iterator<Item = (&'a str, &'a [usize], &'a [f32])> + Clone,
) -> io::Result<()> {
    let mut end = 0;
    let entries = tensors.clone().map(|(name, shape, data)| {
        let start = end;
        end += 4 * data.len();
        (name, Entry { dtype: "F32", shape, data_offsets: [start, end] })
    });
    let header = Header { __metadata__: metadata, tensors: entries.collect() };
    let mut text = serde_json::to_vec(&header)?;
    // The data start at a multiple of eight bytes, so that a reader can map them.
    text.resize(text.len().next_multiple_of(8), b' ');
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(&text)?;
    for (_, _, data) in tensors {
        for block in data.chunks(1 << 14) {
            let bytes: Vec<u8> = block.iter().flat_map(|x| x.to_le_bytes()).collect();
            out.write_all(&bytes)?;
        }
    }
    Ok(())
}

fn explain(error: &SafeTensorError) -> String {
    match error {
        SafeTensorError::MetadataIncompleteBuffer => {
            "it is truncated, or has bytes after its end (its tensors do not fill it exactly)".to_string()
        }
        other => format!("it is damaged ({other})"),
    }
}
