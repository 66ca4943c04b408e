//! idx, the format of MNIST. A file has two zero bytes, a type byte, the number of dimensions, a
//! big-endian u32 per dimension, and then the values.

use super::source::Source;
use crate::Result;

/// The type byte of unsigned bytes. Images use no other type.
const UNSIGNED_BYTE: u8 = 8;

/// A larger height or width means that the header is damaged.
const MAX_SIDE: u32 = 4096;

/// The images of an idx file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdxImages {
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Values, `[n, height, width]`.
    pub pixels: Vec<u8>,
}

/// Reads images (magic number 2051).
///
/// # Errors
/// If the magic number is wrong, if the sizes are implausible or do not fit the length of the file, or if
/// the file is damaged.
pub fn read_idx_images(source: &mut Source) -> Result<IdxImages> {
    let [count, height, width] = header(source, "images", 3)?;
    if height == 0 || width == 0 || height > MAX_SIDE || width > MAX_SIDE {
        return Err(source.corrupt(format!("its header claims images of {height} x {width} pixels")));
    }
    // Below 2^32 * 2^24, so the product of the sizes cannot overflow.
    let bytes = u64::from(count) * u64::from(height) * u64::from(width);
    let pixels = body(source, bytes, "pixels")?;
    Ok(IdxImages { height: height as usize, width: width as usize, pixels })
}

/// Reads labels `[n]` (magic number 2049).
///
/// # Errors
/// As for [`read_idx_images`].
pub fn read_idx_labels(source: &mut Source) -> Result<Vec<u8>> {
    let [count] = header(source, "labels", 1)?;
    body(source, u64::from(count), "labels")
}

/// Checks the magic number of a file with `N` dimensions and reads their sizes.
fn header<const N: usize>(source: &mut Source, what: &str, dims: u8) -> Result<[u32; N]> {
    let mut magic = [0; 4];
    let have = source.fill(&mut magic)?;
    if have < 4 {
        return Err(source.corrupt(if have == 0 { "it is empty" } else { "it is truncated within its header" }));
    }
    match magic {
        [0, 0, UNSIGNED_BYTE, found] if found == dims => {}
        [0, 0, UNSIGNED_BYTE, found @ 1..=4] => {
            return Err(source.fault(
                format!("it has {found} dimensions, but idx {what} have {dims}"),
                "images are in the file named ...idx3, labels in the one named ...idx1",
            ));
        }
        [0, 0, kind @ 9..=14, 1..=4] => {
            return Err(source
                .fault(format!("its values are of idx type {kind:#04x}"), "write it with unsigned bytes, type 0x08"));
        }
        _ => {
            return Err(source.fault(
                format!(
                    "it begins with {:#010x}, not with the magic number of idx {what}, {:#010x}",
                    u32::from_be_bytes(magic),
                    u32::from_be_bytes([0, 0, UNSIGNED_BYTE, dims])
                ),
                "it is another kind of file, or it is damaged; fetch or copy it again",
            ));
        }
    }
    let mut sizes = [0; N];
    for size in &mut sizes {
        let mut word = [0; 4];
        if source.fill(&mut word)? < 4 {
            return Err(source.corrupt("it is truncated within its header"));
        }
        *size = u32::from_be_bytes(word);
    }
    Ok(sizes)
}

fn body(source: &mut Source, bytes: u64, what: &str) -> Result<Vec<u8>> {
    if bytes == 0 {
        return Err(source.corrupt(format!("its header claims 0 {what}")));
    }
    let values = source.take(bytes, what)?;
    source.finish()?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn idx(magic: u32, sizes: &[u32], values: &[u8]) -> Vec<u8> {
        let mut bytes = magic.to_be_bytes().to_vec();
        sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
        bytes.extend(values);
        bytes
    }

    fn images(bytes: Vec<u8>) -> Result<IdxImages> {
        read_idx_images(&mut Source::from_bytes(bytes, "x-idx3-ubyte")?)
    }

    fn message(bytes: Vec<u8>) -> String {
        images(bytes).unwrap_err().to_string()
    }

    #[test]
    fn bad_headers_are_named() {
        let text = message(idx(0x0403_0201, &[1, 1, 1], &[0]));
        assert!(
            text.contains(
                "x-idx3-ubyte: it begins with 0x04030201, not with the magic number of idx images, 0x00000803"
            )
        );
        assert!(message(idx(2049, &[1], &[0])).contains("1 dimensions, but idx images have 3"));
        assert!(message(idx(0x0d03, &[1, 1, 1], &[0])).contains("idx type 0x0d"));
        assert!(message(idx(2051, &[u32::MAX; 3], &[0])).contains("images of 4294967295 x 4294967295"));
        assert!(message(idx(2051, &[u32::MAX, 4096, 4096], &[0])).contains("truncated"));
        assert!(message(idx(2051, &[0, 28, 28], &[])).contains("claims 0 pixels"));
        assert!(message(idx(2051, &[1, 0, 28], &[])).contains("images of 0 x 28"));
        assert!(message(idx(2051, &[1, 28], &[])).contains("within its header"));
        assert!(message(vec![]).contains("it is empty"));
        assert!(message(idx(2051, &[2, 1, 1], &[0, 1, 2])).contains("more bytes follow"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(count in 1u32..5, height in 1u32..6, width in 1u32..6, seed: u8) {
            let values: Vec<u8> = (0..count * height * width).map(|i| seed.wrapping_add(i as u8)).collect();
            let read = images(idx(2051, &[count, height, width], &values)).unwrap();
            let pixels = values.clone();
            prop_assert_eq!(read, IdxImages { height: height as usize, width: width as usize, pixels });
            let labels = idx(2049, &[values.len() as u32], &values);
            let read = read_idx_labels(&mut Source::from_bytes(labels, "l").unwrap()).unwrap();
            prop_assert_eq!(read, values);
        }

        #[test]
        fn anything_else_is_an_error_not_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), valid_magic: bool) {
            let bytes = if valid_magic { [&[0, 0, 8, 3], &bytes[..]].concat() } else { bytes };
            if let Ok(IdxImages { height, width, pixels }) = images(bytes.clone()) {
                prop_assert!(pixels.len() + 16 == bytes.len() && pixels.len().is_multiple_of(height * width));
            }
            let _ = read_idx_labels(&mut Source::from_bytes(bytes, "l").unwrap());
        }
    }
}
