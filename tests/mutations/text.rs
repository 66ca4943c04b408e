//! Mutations of text: numbers, words, lines, and what does not belong into text.

use super::bytes::{self, LONGEST, Random};
use std::ops::Range;

const NUMBERS: [&str; 19] = [
    "0",
    "1",
    "-1",
    "-0",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e38",
    "1e39",
    "1e-46",
    "1e309",
    "-1e309",
    "0.99999999999",
    "nan",
    "inf",
    "",
];

const ODD: [&[u8]; 12] = [
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\"",
    b"'",
    b"\\",
    b"\\u0000",
    b"\x1b[31m",
    "\u{202e}".as_bytes(),
    b"\r",
    b"#",
    b"null",
];

/// One to four mutations of one of the files.
pub fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut text = random.pick(seeds).clone();
    for _ in 0..1 + random.below(4) {
        once(random, &mut text);
    }
    if random.one_in(8) {
        text = bytes::mutate(random, &[text]);
    }
    text.truncate(LONGEST);
    text
}

fn once(random: &mut Random, text: &mut Vec<u8>) {
    let is_digit = |byte: u8| byte.is_ascii_digit() || b".eE+-".contains(&byte);
    match random.below(10) {
        0..=2 => {
            if let Some(span) = run_at(random, text, is_digit) {
                text.splice(span, random.pick(&NUMBERS).bytes());
            }
        }
        3 | 4 => {
            // A word takes the place of another.
            let is_letter = |byte: u8| byte.is_ascii_alphabetic() || b"_-/".contains(&byte);
            if let (Some(one), Some(other)) = (run_at(random, text, is_letter), run_at(random, text, is_letter)) {
                let word = text[other].to_vec();
                text.splice(one, word);
            }
        }
        5 => {
            let line = line_at(random, text);
            text.drain(line);
        }
        6 => {
            let (line, at) = (line_at(random, text), line_at(random, text).start);
            let copy = text[line].to_vec();
            text.splice(at..at, copy);
        }
        7 => {
            let at = random.below(text.len() + 1);
            text.splice(at..at, random.pick(&ODD).iter().copied());
        }
        8 => {
            // Deep nesting, or a very long word.
            let (at, what) = (random.below(text.len() + 1), *random.pick(b"[{(\"a9 ,"));
            let times = *random.pick(&[2, 100, 3000]);
            text.splice(at..at, std::iter::repeat_n(what, times));
        }
        _ => {
            let block = random.block(text);
            text.drain(block);
        }
    }
}

/// A run of bytes of one kind, found from a random place on. `None` if there is none behind it.
fn run_at(random: &mut Random, text: &[u8], is_part: impl Fn(u8) -> bool) -> Option<Range<usize>> {
    let from = random.below(text.len() + 1);
    let start = from + text[from..].iter().position(|byte| is_part(*byte))?;
    let len = text[start..].iter().position(|byte| !is_part(*byte)).unwrap_or(text.len() - start);
    Some(start..start + len)
}

/// A line with its end; empty if the text is.
fn line_at(random: &mut Random, text: &[u8]) -> Range<usize> {
    let at = random.below(text.len() + 1);
    let start = text[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let end = text[at..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |end| at + end + 1);
    start..end
}
