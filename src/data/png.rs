//! Checks that a PNG file is whole: every chunk with its checksum, up to the chunk that ends the file. The
//! decoder of the crate `image` stops when it has all pixels.

/// What a sound file holds besides its image.
pub(super) struct Sound {
    /// Bytes after the end of the image.
    pub(super) trailing: usize,
    /// Whether it is an animation, of which only the first image is read.
    pub(super) is_animation: bool,
}

/// Length, type and checksum of a chunk, in bytes.
const FRAME: usize = 12;

/// Checks the whole file. An error is the reason, as the rest of a sentence about the file.
pub(super) fn check(bytes: &[u8]) -> Result<Sound, String> {
    let mut rest = bytes.get(8..).unwrap_or_default();
    let mut is_animation = false;
    loop {
        let ended = || "it is truncated: the chunk that ends a PNG file is missing".to_string();
        let (length, _) = rest.split_first_chunk::<4>().ok_or_else(ended)?;
        let length = u32::from_be_bytes(*length) as usize;
        let chunk = rest.get(4..8 + length).ok_or_else(ended)?;
        let (sum, _) = rest[8 + length..].split_first_chunk::<4>().ok_or_else(ended)?;
        let (kind, name) = (&chunk[..4], String::from_utf8_lossy(&chunk[..4]));
        let mut crc = flate2::Crc::new();
        crc.update(chunk);
        if crc.sum() != u32::from_be_bytes(*sum) {
            return Err(format!("the checksum of its chunk {} is wrong", name.escape_debug()));
        }
        rest = &rest[FRAME + length..];
        is_animation |= kind == b"acTL";
        if kind == b"IEND" {
            return Ok(Sound { trailing: rest.len(), is_animation });
        }
    }
}
