//! Single image files: damage, truncation, orientation, transparency, depth and size.

use super::{assert_has, notices, read, refusal, write};
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, GrayAlphaImage, GrayImage, ImageBuffer, Luma, LumaA, Rgb, RgbImage, Rgba, RgbaImage};
use pixtape::data::{Images, Split};
use std::fs;
use std::io::Cursor;
use std::path::Path;
use tempfile::tempdir;

/// 37 x 29 pixels in colour with restart markers and halved chroma, written by libjpeg-turbo (Pillow).
const SEQUENTIAL: &[u8] = include_bytes!("sequential.jpg");
const PROGRESSIVE: &[u8] = include_bytes!("progressive.jpg");

/// A sequential JPEG of noise without restart markers.
fn noise(width: u32, height: u32) -> Vec<u8> {
    let value = |x: u32, y: u32| (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)).rotate_left(9) as u8;
    let image = RgbImage::from_fn(width, height, |x, y| Rgb([value(x, y), value(y, x), value(x + y, y)]));
    jpeg(&image.into())
}

fn jpeg(image: &DynamicImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(image).unwrap();
    bytes
}

fn png(image: &DynamicImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// What `pixtape` says about a file of these bytes; `None` if it is read.
fn fault(name: &str, bytes: &[u8]) -> Option<String> {
    pixtape::data::decode_image(bytes, Path::new(name)).err().map(|error| error.to_string())
}

/// A folder whose only split is `train` with this file.
fn only(name: &str, bytes: &[u8]) -> Images {
    let dir = tempdir().unwrap();
    write(dir.path().join("train").join(name), bytes);
    read(dir.path(), Split::Train)
}

#[test]
fn sound_jpegs_of_each_kind_are_read() {
    for bytes in [SEQUENTIAL.to_vec(), PROGRESSIVE.to_vec(), noise(37, 29), jpeg(&GrayImage::new(8, 9).into())] {
        assert_eq!(fault("sound.jpg", &bytes), None);
    }
}

#[test]
fn every_truncation_of_a_jpeg_is_refused_by_its_name() {
    for bytes in [SEQUENTIAL.to_vec(), PROGRESSIVE.to_vec(), noise(37, 29)] {
        for length in 0..bytes.len() {
            let text = fault("cut.jpg", &bytes[..length]).unwrap_or_else(|| panic!("{length} bytes are accepted"));
            assert_has(&text, &["cut.jpg: "]);
        }
    }
    let dir = tempdir().unwrap();
    write(dir.path().join("train/a.jpg"), noise(37, 29));
    write(dir.path().join("train/b.jpg"), &noise(37, 29)[..1500]);
    let text = refusal(dir.path(), Split::Train);
    assert_has(&text, &["train/b.jpg: it is truncated: its end-of-image marker is missing; replace or remove it"]);
}

#[test]
fn a_truncated_jpeg_with_an_end_marker_is_refused() {
    for bytes in [SEQUENTIAL.to_vec(), PROGRESSIVE.to_vec(), noise(37, 29)] {
        let start = bytes.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap() + 14;
        for length in (start..bytes.len() - 3).step_by(3).filter(|&length| bytes[length - 1] != 0xff) {
            let cut = [&bytes[..length], &[0xff, 0xd9]].concat();
            assert!(fault("cut.jpg", &cut).is_some(), "{length} of {} bytes are accepted", bytes.len());
        }
    }
}

#[test]
fn overwritten_bytes_of_a_jpeg_are_found_if_they_change_its_structure() {
    // The numbers are lower bounds. Some changes give another valid image; see docs/reliability.md.
    for (bytes, least) in [(SEQUENTIAL.to_vec(), 0.8), (PROGRESSIVE.to_vec(), 0.9), (noise(120, 90), 0.95)] {
        let start = bytes.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap() + 14;
        let places = (start..bytes.len() - 66).step_by(7);
        let (mut found, mut all) = (0, 0);
        for at in places {
            let mut broken = bytes.clone();
            broken[at..at + 64].iter_mut().zip(0_u32..).for_each(|(byte, i)| {
                *byte = (at as u32 * 31 + i * 167).wrapping_mul(2_654_435_761).to_be_bytes()[0];
            });
            all += 1;
            found += u32::from(fault("broken.jpg", &broken).is_some());
        }
        assert!(f64::from(found) >= least * f64::from(all), "{found} of {all}");
    }
    let mut zeros = noise(120, 90);
    let middle = zeros.len() / 2;
    zeros[middle..middle + 100].fill(0);
    assert_has(&fault("zeros.jpg", &zeros).unwrap(), &["zeros.jpg: ", "replace or remove it"]);
}

#[test]
fn any_changed_byte_and_any_truncation_of_a_png_is_refused() {
    let image = RgbImage::from_fn(9, 7, |x, y| Rgb([(x * 20) as u8, (y * 30) as u8, 5]));
    let bytes = png(&image.into());
    assert_eq!(fault("sound.png", &bytes), None);
    for at in 0..bytes.len() {
        let mut broken = bytes.clone();
        broken[at] ^= 0x10;
        assert_has(&fault("broken.png", &broken).unwrap_or_else(|| panic!("byte {at}")), &["broken.png: "]);
        assert_has(&fault("cut.png", &bytes[..at]).unwrap_or_else(|| panic!("{at} bytes")), &["cut.png: "]);
    }
}

#[test]
fn bytes_after_the_end_are_said() {
    let image = DynamicImage::from(GrayImage::from_pixel(4, 4, Luma([9])));
    for (name, bytes) in [("a.png", png(&image)), ("a.jpg", jpeg(&image))] {
        assert_eq!(notices(&only(name, &bytes)).len(), 1);
        let said = notices(&only(name, &[&bytes[..], b"more"].concat()));
        let expected =
            format!("read without the bytes that follow after the end of the image: 1 of 1 images, such as {name}");
        assert_eq!(said[1..], [expected]);
    }
}

/// The JPEG with an EXIF segment that holds only this orientation.
fn oriented(bytes: &[u8], orientation: u8) -> Vec<u8> {
    let exif =
        [&b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0"[..], &[orientation, 0, 0, 0, 0, 0, 0]].concat();
    let length = (exif.len() as u16 + 2).to_be_bytes();
    [&bytes[..2], &[0xff, 0xe1], &length, &exif, &bytes[2..]].concat()
}

#[test]
fn the_exif_orientation_is_applied_and_said() {
    // The left half is black, the right half is white: 16 x 8 (width x height).
    let image = GrayImage::from_fn(16, 8, |x, _| Luma([if x < 8 { 0 } else { 255 }]));
    let bytes = jpeg(&image.into());
    let plain = only("a.jpg", &oriented(&bytes, 1));
    assert_eq!((plain.height(), plain.width(), notices(&plain).len()), (8, 16, 1));
    // 6: row 0 of the file is the right side, and column 0 is the top. So the black half is at the top.
    let turned = only("a.jpg", &oriented(&bytes, 6));
    assert_eq!((turned.height(), turned.width()), (16, 8));
    let mean = |part: &[u8]| part.iter().map(|&value| u32::from(value)).sum::<u32>() / part.len() as u32;
    let (top, bottom) = turned.image(0).split_at(turned.dims() / 2);
    assert!(mean(top) < 10 && mean(bottom) > 245, "{top:?} {bottom:?}");
    assert_eq!(notices(&turned)[1..], ["turned as the EXIF orientation says: 1 of 1 images, such as a.jpg"]);
    let mirrored = only("a.jpg", &oriented(&bytes, 2));
    assert!(mirrored.image(0)[0] > 245 && mirrored.image(0)[16 * mirrored.channels() - 1] < 10);
}

#[test]
fn transparency_is_left_out_and_said_unless_all_is_opaque() {
    let opaque = RgbaImage::from_pixel(4, 4, Rgba([10, 20, 30, 255]));
    let images = only("a.png", &png(&opaque.into()));
    assert_eq!((&images.image(0)[..3], notices(&images).len()), (&[10, 20, 30][..], 1));
    let clear = GrayAlphaImage::from_pixel(4, 4, LumaA([40, 0]));
    let images = only("a.png", &png(&clear.into()));
    assert_eq!((images.channels(), images.image(0)[0]), (1, 40));
    let said = "partly transparent, and read without the alpha channel: 1 of 1 images, such as a.png";
    assert_eq!(notices(&images)[1..], [said]);
}

#[test]
fn sixteen_bits_are_rounded_and_said_and_twelve_in_sixteen_too() {
    let of = |value: u16| {
        let image: ImageBuffer<Luma<u16>, Vec<u16>> = ImageBuffer::from_pixel(4, 4, Luma([value]));
        only("a.png", &png(&image.into()))
    };
    let said = "rounded from 16 to 8 bits per value: 1 of 1 images, such as a.png";
    let bright = of(0xabcd);
    assert_eq!((bright.image(0)[0], &notices(&bright)[1..]), (0xab, &[said.to_string()][..]));
    let dark = of(0x0fff);
    assert_eq!(dark.image(0)[0], 16);
    let dark_said = "its 16-bit values use only the lowest 12 bits, so the images are dark; scale them to 16 bits";
    assert_eq!(notices(&dark)[1..], [said, dark_said]);
}

#[test]
fn headers_are_read_before_images_are_decoded() {
    let dir = tempdir().unwrap();
    // The first file would be refused if it were decoded: it is cut within its data.
    write(dir.path().join("train/a.jpg"), &noise(120, 90)[..2000]);
    write(dir.path().join("train/b.jpg"), noise(120, 91));
    assert_has(
        &refusal(dir.path(), Split::Train),
        &["different sizes: train/a.jpg is 90 x 120, train/b.jpg is 91 x 120 (height x width)"],
    );
    fs::remove_file(dir.path().join("train/b.jpg")).unwrap();
    assert_has(&refusal(dir.path(), Split::Train), &["a.jpg: it is truncated"]);
}

#[test]
fn the_largest_size_is_stated() {
    for bytes in [png(&GrayImage::new(4097, 1).into()), jpeg(&GrayImage::new(4097, 1).into())] {
        let text = fault("wide.png", &bytes).unwrap();
        assert_eq!(text, "wide.png: it has 1 x 4097 pixels, and at most 4096 x 4096 are read; scale the image down");
    }
    assert_eq!(fault("just.png", &png(&GrayImage::new(4096, 1).into())), None);
}
