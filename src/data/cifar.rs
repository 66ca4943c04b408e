//! The binary version of CIFAR-10. A file is a sequence of records without a header. A record is a label
//! byte followed by three planes of 32 x 32 bytes: red, green and blue.

use super::source::Source;
use crate::Result;

/// Height and width of a CIFAR-10 image.
pub(super) const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const RECORD: usize = 1 + 3 * PLANE;

/// An upper limit on the number of records, above all of CIFAR-10. It stops a compressed file that never
/// ends.
const MAX_RECORDS: usize = 100_000;

/// The contents of a CIFAR-10 file.
#[derive(Debug)]
pub struct CifarImages {
    /// `[n, 32, 32, 3]`, channels last.
    pub pixels: Vec<u8>,
    /// `[n]`, from 0 to 9.
    pub labels: Vec<u8>,
}

/// Reads all records.
///
/// # Errors
/// If the length is not a whole number of records, if a label is above 9, if there are more than 100,000
/// records, or if the file is damaged.
pub fn read_cifar(source: &mut Source) -> Result<CifarImages> {
    source.check_memory()?;
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    let mut record = [0; RECORD];
    loop {
        match source.fill(&mut record)? {
            0 if labels.is_empty() => return Err(source.corrupt("it is empty")),
            0 => break,
            RECORD => {}
            rest => {
                let have = labels.len();
                return Err(source.corrupt(format!(
                    "it ends {rest} bytes into record {have}: CIFAR-10 files are whole records of {RECORD} bytes"
                )));
            }
        }
        let (label, planes) = (record[0], &record[1..]);
        if label > 9 {
            let number = labels.len();
            return Err(source.fault(
                format!("record {number} has the label {label}, but CIFAR-10 has the classes 0 to 9"),
                "it is not a CIFAR-10 binary file, or it is damaged; fetch or copy it again",
            ));
        }
        if labels.len() == MAX_RECORDS {
            return Err(source.corrupt(format!("it holds more than {MAX_RECORDS} records")));
        }
        labels.push(label);
        let start = pixels.len();
        pixels.resize(start + 3 * PLANE, 0);
        for (at, pixel) in pixels[start..].chunks_exact_mut(3).enumerate() {
            pixel.copy_from_slice(&[planes[at], planes[PLANE + at], planes[2 * PLANE + at]]);
        }
    }
    pixels.shrink_to_fit();
    Ok(CifarImages { pixels, labels })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cifar(bytes: Vec<u8>) -> Result<CifarImages> {
        read_cifar(&mut Source::from_bytes(bytes, "data_batch_1.bin")?)
    }

    fn record(label: u8) -> Vec<u8> {
        let planes = (0..3 * PLANE).map(|i| (i / PLANE * 80 + i % PLANE % 80) as u8);
        std::iter::once(label).chain(planes).collect()
    }

    #[test]
    fn planes_become_channels_last() {
        let CifarImages { pixels, labels } = cifar([record(3), record(9)].concat()).unwrap();
        assert_eq!(labels, [3, 9]);
        assert_eq!(pixels.len(), 2 * 3 * PLANE);
        for image in pixels.chunks(3 * PLANE) {
            assert_eq!(image[..6], [0, 80, 160, 1, 81, 161]);
            assert_eq!(image[3 * 81..3 * 81 + 3], [1, 81, 161], "plane row 2, column 17");
        }
    }

    #[test]
    fn bad_files_are_named() {
        let message = |bytes| cifar(bytes).unwrap_err().to_string();
        assert!(message(vec![]).contains("it is empty"));
        let text = message([record(1), record(2)[..100].to_vec()].concat());
        assert!(text.contains("data_batch_1.bin: it ends 100 bytes into record 1"), "{text}");
        assert!(message([record(1), record(10)].concat()).contains("record 1 has the label 10"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn any_length_is_whole_records_or_an_error(length in 0usize..4 * RECORD, value in 0u8..12) {
            match cifar(vec![value; length]) {
                Ok(CifarImages { pixels, labels }) => {
                    prop_assert!(value < 10);
                    prop_assert_eq!(labels.len() * RECORD, length);
                    prop_assert_eq!(pixels.len(), labels.len() * 3 * PLANE);
                }
                Err(_) => prop_assert!(length == 0 || length % RECORD != 0 || value > 9),
            }
        }
    }
}
