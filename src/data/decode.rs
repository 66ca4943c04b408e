//! Decodes PNG and JPEG files: first the header, for the size, and then the pixels.
//!
//! A damaged file is an error. What is changed or left out while a file is decoded is noted in [`Remarks`].

use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::{jpeg, png};
use crate::files::{RegularFile, open_regular, read_regular};
use crate::{Error, Result};

/// The largest height and width that are accepted.
pub(super) const MAX_SIDE: u32 = 4096;

/// The memory limit for decoding one file, in bytes.
const MAX_DECODING: u64 = 256 << 20;

/// The largest file that is accepted, in bytes.
const MAX_FILE: u64 = 64 << 20;

/// The size of an image as it is read, and whether it has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) has_color: bool,
}

/// What is noted about a decoded file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Remarks {
    /// Turned or mirrored as its EXIF orientation says.
    pub(super) is_turned: bool,
    /// It has an alpha channel that is not opaque everywhere. The channel is left out.
    pub(super) is_transparent: bool,
    /// The largest value, if it has 16 bits per value. They are rounded to 8 bits.
    pub(super) largest_of_16_bits: Option<u16>,
    /// An animation, of which the first image is read.
    pub(super) is_animation: bool,
    /// Bytes follow after the end of the image.
    pub(super) has_trailing_bytes: bool,
    /// It has four colours (CMYK), which are converted to RGB.
    pub(super) is_cmyk: bool,
}

/// A decoded file.
pub(super) struct Decoded {
    pub(super) image: DynamicImage,
    pub(super) remarks: Remarks,
}

/// Reads the header of an image file.
///
/// # Errors
/// If it is no regular file, cannot be read, is no PNG or JPEG file, or is too large.
pub(super) fn read_header(path: &Path) -> Result<Header> {
    let RegularFile { file, length } = open_regular(path)?;
    if length > MAX_FILE {
        let reason = format!("it has {} MiB, and at most {} MiB are read", length >> 20, MAX_FILE >> 20);
        return Err(Error::file(path, reason, "scale the image down"));
    }
    let mut decoder = decoder(BufReader::new(file), path)?;
    let has_color = decoder.color_type().has_color();
    let (width, height) = decoder.dimensions();
    let (width, height) = if swaps_sides(orientation(&mut decoder)) { (height, width) } else { (width, height) };
    Ok(Header { height: height as usize, width: width as usize, has_color })
}

/// Reads and decodes an image file.
///
/// # Errors
/// As [`decode`], or if the file cannot be read.
pub(super) fn decode_file(path: &Path) -> Result<Decoded> {
    decode(&read_regular(path, MAX_FILE)?, path)
}

/// Decodes one PNG or JPEG image of at most 4096 x 4096 pixels. `path` is only used in error messages.
///
/// # Errors
/// If the image has another format, is damaged or incomplete, or is too large.
pub(super) fn decode(bytes: &[u8], path: &Path) -> Result<Decoded> {
    let mut decoder = decoder(Cursor::new(bytes), path)?;
    let damaged = |reason| Error::file(path, reason, REMEDY);
    let mut remarks = Remarks::default();
    if bytes.starts_with(b"\x89PNG") {
        let sound = png::check(bytes).map_err(damaged)?;
        (remarks.is_animation, remarks.has_trailing_bytes) = (sound.is_animation, sound.trailing > 0);
    } else {
        let sound = jpeg::check(bytes).map_err(damaged)?;
        (remarks.is_cmyk, remarks.has_trailing_bytes) = (sound.components == 4, sound.trailing > 0);
    }
    let orientation = orientation(&mut decoder);
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| not_decoded(path, error))?;
    remarks.is_turned = orientation != Orientation::NoTransforms;
    image.apply_orientation(orientation);
    remarks.is_transparent = is_transparent(&image);
    remarks.largest_of_16_bits = match &image {
        DynamicImage::ImageLuma16(image) => image.iter().max().copied(),
        DynamicImage::ImageRgb16(image) => image.iter().max().copied(),
        DynamicImage::ImageLumaA16(image) => image.pixels().map(|pixel| pixel.0[0]).max(),
        DynamicImage::ImageRgba16(image) => image.pixels().flat_map(|pixel| pixel.0[..3].to_vec()).max(),
        _ => None,
    };
    Ok(Decoded { image, remarks })
}

/// Decodes one PNG or JPEG image of at most 4096 x 4096 pixels. `path` is only used in error messages.
///
/// # Errors
/// If the image has another format, is damaged or incomplete, or is too large.
pub fn decode_image(bytes: &[u8], path: &Path) -> Result<DynamicImage> {
    Ok(decode(bytes, path)?.image)
}

const REMEDY: &str = "replace or remove it";

fn not_decoded(path: &Path, error: image::ImageError) -> Error {
    Error::file(path, format!("it could not be decoded as PNG or JPEG ({error})"), REMEDY).because(error)
}

/// A decoder that has read the header. The size is checked.
fn decoder<'a>(reader: impl BufRead + Seek + 'a, path: &Path) -> Result<Box<dyn ImageDecoder + 'a>> {
    let mut reader = ImageReader::new(reader).with_guessed_format().map_err(|error| Error::io(path, "read", error))?;
    if !matches!(reader.format(), Some(ImageFormat::Png | ImageFormat::Jpeg)) {
        let found = reader.format().map_or("of no known format".into(), |format| format!("{format:?}").to_uppercase());
        let reason = format!("it could not be decoded as PNG or JPEG (its contents are {found})");
        return Err(Error::file(path, reason, REMEDY));
    }
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODING);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|error| not_decoded(path, error))?;
    let (width, height) = decoder.dimensions();
    if width.max(height) > MAX_SIDE || width.min(height) == 0 {
        let reason = format!("it has {height} x {width} pixels, and at most {MAX_SIDE} x {MAX_SIDE} are read");
        return Err(Error::file(path, reason, "scale the image down"));
    }
    Ok(Box::new(decoder))
}

/// The orientation in the EXIF data. If they cannot be read, the image is taken as it is.
fn orientation(decoder: &mut dyn ImageDecoder) -> Orientation {
    decoder.orientation().unwrap_or(Orientation::NoTransforms)
}

fn swaps_sides(orientation: Orientation) -> bool {
    use Orientation::*;
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

fn is_transparent(image: &DynamicImage) -> bool {
    match image {
        DynamicImage::ImageLumaA8(image) => image.pixels().any(|pixel| pixel.0[1] < u8::MAX),
        DynamicImage::ImageRgba8(image) => image.pixels().any(|pixel| pixel.0[3] < u8::MAX),
        DynamicImage::ImageLumaA16(image) => image.pixels().any(|pixel| pixel.0[1] < u16::MAX),
        DynamicImage::ImageRgba16(image) => image.pixels().any(|pixel| pixel.0[3] < u16::MAX),
        _ => false,
    }
}
