//! The input of the parsers: a file, plain or compressed, read as a stream that is not trusted.
//!
//! Memory grows with the bytes that actually arrive, so a false header cannot cause a large allocation.
//! The size of decompressed data is limited, so a decompression bomb ends in an error.

use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};

use crate::files::{RegularFile, open_regular};
use crate::{Error, Result, memory};

/// The largest unpacked size of a compressed file in bytes. A larger file must be unpacked first; then
/// its length is the limit.
pub(super) const MAX_UNPACKED: u64 = 1 << 30;

/// The memory limit for an xz decoder in bytes. `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 128 << 20;

/// The buffer grows by this many bytes at a time.
const CHUNK: usize = 1 << 20;

#[derive(Clone, Copy, PartialEq)]
enum Coding {
    Plain,
    Gzip,
    Xz,
}

/// A stream of unpacked bytes, with the path that its errors name.
pub struct Source {
    reader: Box<dyn Read + Send>,
    path: PathBuf,
    coding: Coding,
    /// Bytes that may still be read: the rest of a plain file, or of the limit for a compressed one.
    left: u64,
}

impl Source {
    /// Opens a file. Its first bytes determine how it is compressed; its name does not matter.
    ///
    /// # Errors
    /// If it cannot be opened or read.
    pub fn open(path: impl AsRef<Path>) -> Result<Source> {
        let path = path.as_ref();
        let RegularFile { file, length } = open_regular(path)?;
        Source::new(file, path, length).map_err(|error| Error::io(path, "read", error))
    }

    /// A source over bytes in memory. `path` is only used in error messages.
    ///
    /// # Errors
    /// If the decoder cannot be created.
    pub fn from_bytes(bytes: Vec<u8>, path: impl AsRef<Path>) -> Result<Source> {
        let (path, length) = (path.as_ref(), bytes.len() as u64);
        Source::new(Cursor::new(bytes), path, length).map_err(|error| Error::io(path, "read", error))
    }

    fn new(reader: impl Read + Send + 'static, path: &Path, length: u64) -> io::Result<Source> {
        let mut reader = BufReader::with_capacity(1 << 17, reader);
        let coding = match io::BufRead::fill_buf(&mut reader)? {
            [0x1f, 0x8b, ..] => Coding::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Coding::Xz,
            _ => Coding::Plain,
        };
        let reader: Box<dyn Read + Send> = match coding {
            Coding::Plain => Box::new(reader),
            Coding::Gzip => Box::new(MultiGzDecoder::new(reader)),
            Coding::Xz => {
                let decoder = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?;
                Box::new(XzDecoder::new_stream(reader, decoder))
            }
        };
        let left = if coding == Coding::Plain { length } else { MAX_UNPACKED };
        Ok(Source { reader, path: path.to_path_buf(), coding, left })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An error about this file.
    pub(super) fn fault(&self, reason: impl Into<String>, remedy: &str) -> Error {
        Error::file(&self.path, reason, remedy)
    }

    /// An error about damaged contents, for which only another copy of the file helps.
    pub(super) fn corrupt(&self, reason: impl Into<String>) -> Error {
        self.fault(reason, "fetch or copy it again")
    }

    /// Checks that the unpacked contents fit into memory, if their length is known.
    pub(super) fn check_memory(&self) -> Result<()> {
        let bytes = if self.coding == Coding::Plain { self.left } else { 0 };
        memory::check(bytes, &format!("the contents of {}", self.path.display()), "use a smaller file")
    }

    /// Fills `buffer` as far as possible. Returns the number of bytes, which is smaller only at the end
    /// of the stream.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.unreadable(error)),
            }
        }
        // If a plain file grows while it is read, it is cut at its original length.
        if filled as u64 > self.left {
            if self.coding != Coding::Plain {
                return Err(self.fault(
                    format!("it unpacks to more than {} MiB", MAX_UNPACKED >> 20),
                    "if that is intended, unpack it by hand and give the unpacked file",
                ));
            }
            filled = self.left as usize;
        }
        self.left -= filled as u64;
        Ok(filled)
    }

    /// Reads exactly `count` bytes, the length that a header claims. `what` names them in the error.
    pub(super) fn take(&mut self, count: u64, what: &str) -> Result<Vec<u8>> {
        if count > self.left {
            let have = self.left;
            return Err(match self.coding {
                Coding::Plain => {
                    self.corrupt(format!("it is truncated: {count} bytes of {what} should follow, not {have}"))
                }
                _ => self.fault(
                    format!(
                        "its header claims {count} bytes of {what}, more than the {have} a compressed file may hold"
                    ),
                    "if that is intended, unpack it by hand and give the unpacked file",
                ),
            });
        }
        memory::check(count, &format!("the {what} of {}", self.path.display()), "use a smaller file")?;
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < count {
            let start = bytes.len();
            bytes.resize(start + CHUNK.min((count - start as u64) as usize), 0);
            let filled = self.fill(&mut bytes[start..])?;
            if start + filled < bytes.len() {
                let have = start + filled;
                return Err(self.corrupt(format!("it is truncated: {count} bytes of {what} should follow, not {have}")));
            }
        }
        bytes.shrink_to_fit();
        Ok(bytes)
    }

    /// Checks that nothing follows. Reading to the end also makes the decoder verify its checksum.
    pub(super) fn finish(&mut self) -> Result<()> {
        match self.fill(&mut [0])? {
            0 => Ok(()),
            _ => Err(self.corrupt("more bytes follow than its header announces")),
        }
    }

    fn unreadable(&self, error: io::Error) -> Error {
        use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
        let coding = match self.coding {
            Coding::Plain => return Error::io(&self.path, "read", error),
            Coding::Gzip => "gzip",
            Coding::Xz => "xz",
        };
        match error.kind() {
            UnexpectedEof => self.corrupt(format!("it is truncated: its {coding} data end too early")).because(error),
            InvalidData | InvalidInput | Other => {
                self.corrupt(format!("its {coding} data are corrupt ({error})")).because(error)
            }
            _ => Error::io(&self.path, "read", error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 6);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn all(bytes: Vec<u8>, count: u64) -> Result<Vec<u8>> {
        let mut source = Source::from_bytes(bytes, "some.file")?;
        let bytes = source.take(count, "pixels")?;
        source.finish()?;
        Ok(bytes)
    }

    fn message(bytes: Vec<u8>, count: u64) -> String {
        all(bytes, count).unwrap_err().to_string()
    }

    fn noise(count: u32) -> Vec<u8> {
        (0..count).map(|i| crate::rng::threefry2x32([1, 2], [i, 0])[0] as u8).collect()
    }

    #[test]
    fn plain_gzip_and_xz_give_the_same_bytes_also_in_two_members() {
        let bytes = noise(3_000_000);
        for packed in [bytes.clone(), gz(&bytes), xz(&bytes)] {
            assert!(all(packed, 3_000_000).unwrap() == bytes);
        }
        for pack in [gz, xz] {
            assert!(all([pack(&bytes[..9]), pack(&bytes[9..])].concat(), 3_000_000).unwrap() == bytes);
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = noise(300);
        for packed in [bytes.clone(), gz(&bytes), xz(&bytes)] {
            for length in 0..packed.len() {
                let text = message(packed[..length].to_vec(), 300);
                assert!(text.contains("some.file: it is truncated") || text.contains("corrupt"), "{length}: {text}");
            }
        }
    }

    #[test]
    fn flipped_bits_in_compressed_data_are_found() {
        let bytes = noise(300);
        // Skips the header's name, time and flags.
        for (packed, from) in [(gz(&bytes), 10), (xz(&bytes), 0)] {
            for at in from..packed.len() {
                let mut broken = packed.clone();
                broken[at] ^= 1;
                assert!(all(broken, 300).is_err(), "byte {at}");
            }
        }
    }

    #[test]
    fn more_and_fewer_bytes_than_announced_are_errors() {
        let bytes = noise(300);
        assert!(message(bytes.clone(), 299).contains("more bytes follow"));
        assert!(message(gz(&bytes), 299).contains("more bytes follow"));
        assert!(message(bytes.clone(), 301).contains("301 bytes of pixels should follow, not 300"));
        assert!(message(gz(&bytes), 301).contains("301 bytes of pixels should follow, not 300"));
        assert!(message(bytes.clone(), u64::MAX).contains("truncated"));
        assert!(message(gz(&bytes), u64::MAX).contains("more than the"));
    }

    #[test]
    fn a_bomb_ends_at_the_cap() {
        let mut source = Source::from_bytes(gz(&vec![0; 5 << 20]), "bomb.gz").unwrap();
        source.left = 1 << 20;
        let mut buffer = vec![0; 3 << 20];
        let text = source.fill(&mut buffer).unwrap_err().to_string();
        assert!(text.contains("bomb.gz: it unpacks to more than 1024 MiB; if that is intended"), "{text}");
    }

    #[test]
    fn an_xz_header_cannot_ask_for_gigabytes() {
        let mut options = liblzma::stream::LzmaOptions::new_preset(6).unwrap();
        options.dict_size(1 << 30);
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&options);
        let stream = Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32).unwrap();
        let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        encoder.write_all(&[0; 100]).unwrap();
        assert!(message(encoder.finish().unwrap(), 100).contains("xz data are corrupt"));
    }
}
