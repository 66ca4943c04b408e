//! Adds a text to a PNG file: where the picture comes from.
//!
//! The encoder of the crate `image` writes no text chunks, so the chunk is inserted into its output. See
//! the PNG specification (third edition), sections 5.3 and 11.3.3.4.

use flate2::Crc;

/// The keyword of the text.
const KEYWORD: &str = "pixtape";

/// The length of the signature and of the chunk IHDR, which comes first in every PNG file.
const HEAD: usize = 8 + 25;

/// The PNG file with `text` in an uncompressed `iTXt` chunk after the header, under the keyword `pixtape`.
///
/// # Panics
/// If `png` is too short to be a PNG file.
#[track_caller]
pub(crate) fn with_text(png: &[u8], text: &str) -> Vec<u8> {
    let (head, rest) = png.split_at(HEAD);
    // A zero ends the keyword. No compression, no compression method, no language, no translated keyword.
    let body = [b"iTXt", KEYWORD.as_bytes(), &[0, 0, 0, 0, 0], text.as_bytes()].concat();
    let mut crc = Crc::new();
    crc.update(&body);
    // The length counts neither itself nor the type of the chunk.
    let length = (body.len() - 4) as u32;
    [head, &length.to_be_bytes(), &body, &crc.sum().to_be_bytes(), rest].concat()
}
