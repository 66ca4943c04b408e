//! amat, the text format of the fixed binarisation of MNIST: one square image per line, written as `0`
//! and `1` separated by blanks.
//!
//! The reader accepts spaces, tabs and carriage returns between values, and skips empty lines. Anything
//! else is an error that names the line.

use super::source::Source;
use crate::Result;

/// The longest line that is accepted, in values: an image of 256 x 256.
const MAX_LINE: usize = 256 * 256;

/// The contents of an amat file.
#[derive(Debug, PartialEq)]
pub struct AmatImages {
    /// Height and width of an image.
    pub side: usize,
    /// `[n, side, side]`, each 0 or 1.
    pub pixels: Vec<u8>,
}

/// Reads all images.
///
/// # Errors
/// If the text contains anything but `0`, `1`, blanks and line ends, if lines differ in length, if a
/// length is not a square, or if the file is damaged.
pub fn read_amat(source: &mut Source) -> Result<AmatImages> {
    source.check_memory()?;
    let mut parser = Parser::default();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let filled = source.fill(&mut buffer)?;
        if filled == 0 {
            break;
        }
        parser.feed(&buffer[..filled]).map_err(|fault| fault.into_error(source))?;
    }
    parser.end_line().map_err(|fault| fault.into_error(source))?;
    let Parser { mut pixels, line_length, .. } = parser;
    if pixels.is_empty() {
        return Err(source.corrupt("it holds no images"));
    }
    let side = line_length.isqrt();
    if side * side != line_length {
        return Err(source.fault(
            format!("its lines have {line_length} values, which is not a square image"),
            "write one square image per line, 784 values for 28 x 28",
        ));
    }
    pixels.shrink_to_fit();
    Ok(AmatImages { side, pixels })
}

#[derive(Default)]
struct Parser {
    pixels: Vec<u8>,
    /// Values in the first line. Every other line must have as many.
    line_length: usize,
    /// Lines read so far, including empty ones.
    lines: usize,
    /// Values in the line being read.
    values: usize,
    /// Bytes read in the line being read.
    column: usize,
    /// Whether the previous byte was a value. Two values need a blank between them.
    after_value: bool,
}

enum Fault {
    Letter { line: usize, column: usize, byte: u8 },
    Length { line: usize, values: usize, expected: usize },
    Endless { line: usize },
}

impl Fault {
    fn into_error(self, source: &Source) -> crate::Error {
        let remedy = "it is not a binary .amat file, or it is damaged; fetch or copy it again";
        match self {
            Fault::Letter { line, column, byte } => {
                let found = char::from(byte).escape_default();
                source.fault(
                    format!("line {line}, column {column} has `{found}` where a single 0 or 1 is expected"),
                    remedy,
                )
            }
            Fault::Length { line, values, expected } => {
                source.corrupt(format!("line {line} has {values} values, the lines before have {expected}"))
            }
            Fault::Endless { line } => source.fault(format!("line {line} has more than {MAX_LINE} values"), remedy),
        }
    }
}

impl Parser {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        for &byte in bytes {
            self.column += 1;
            match byte {
                b'0' | b'1' if !self.after_value => {
                    self.pixels.push(byte - b'0');
                    self.values += 1;
                    self.after_value = true;
                    if self.values > MAX_LINE {
                        return Err(Fault::Endless { line: self.lines + 1 });
                    }
                }
                b' ' | b'\t' | b'\r' => self.after_value = false,
                b'\n' => self.end_line()?,
                _ => return Err(Fault::Letter { line: self.lines + 1, column: self.column, byte }),
            }
        }
        Ok(())
    }

    /// Ends the current line. A line that holds only blanks is not an image.
    fn end_line(&mut self) -> Result<(), Fault> {
        self.lines += 1;
        let values = std::mem::take(&mut self.values);
        (self.column, self.after_value) = (0, false);
        if self.line_length == 0 {
            self.line_length = values;
        }
        if values != 0 && values != self.line_length {
            return Err(Fault::Length { line: self.lines, values, expected: self.line_length });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn amat(text: &str) -> Result<AmatImages> {
        read_amat(&mut Source::from_bytes(text.into(), "b.amat")?)
    }

    fn message(text: &str) -> String {
        amat(text).unwrap_err().to_string()
    }

    #[test]
    fn lines_are_images_whatever_ends_them() {
        let pixels = vec![0, 1, 1, 0, 1, 1, 1, 1];
        let expected = AmatImages { side: 2, pixels };
        for text in ["0 1 1 0\n1 1 1 1\n", "0 1 1 0 \r\n1 1\t1  1", "\n 0 1 1 0\n\n1 1 1 1\n\n"] {
            assert_eq!(amat(text).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn bad_text_is_named_with_its_place() {
        assert!(message("0 1 1 0\n0 1 x 0\n").contains("b.amat: line 2, column 5 has `x` where"));
        assert!(message("0 1 10\n").contains("line 1, column 6 has `0` where a single 0 or 1"));
        assert!(message("0 1 2 0").contains("`2`"));
        assert!(message("0 1 1 0\n0 1 1\n").contains("line 2 has 3 values, the lines before have 4"));
        assert!(message("0 1 1\n").contains("3 values, which is not a square"));
        assert!(message("").contains("no images"));
        assert!(message("\n \n").contains("no images"));
        assert!(message(&"0 ".repeat(MAX_LINE + 1)).contains("more than 65536 values"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(side in 1usize..6, count in 1usize..5, seed: u32) {
            let value = |i: usize| (crate::rng::threefry2x32([seed, 0], [i as u32, 0])[0] & 1) as u8;
            let pixels: Vec<u8> = (0..side * side * count).map(value).collect();
            let line = |line: &[u8]| line.iter().map(u8::to_string).collect::<Vec<_>>().join(" ") + "\n";
            let text: String = pixels.chunks(side * side).map(line).collect();
            prop_assert_eq!(amat(&text).unwrap(), AmatImages { side, pixels });
        }

        #[test]
        fn anything_else_is_an_error_not_a_panic(text in "[01 \\n\\rx]{0,40}") {
            if let Ok(AmatImages { side, pixels }) = amat(&text) {
                prop_assert!(!pixels.is_empty() && pixels.len().is_multiple_of(side * side));
                prop_assert!(pixels.iter().all(|&value| value < 2) && !text.contains('x'));
            }
        }
    }
}
