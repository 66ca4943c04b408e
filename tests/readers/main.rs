//! The readers of image files and of folders: what they find, and that nothing is read wrongly or left out
//! without a word. `tests/data_open.rs` tests the formats of data files.

mod folders;
mod images;
mod names;

use image::{GrayImage, Luma};
use pixtape::data::{Images, Split, open};
use std::fs;
use std::path::Path;

/// Writes a file into folders that may not exist yet.
fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Writes a grey PNG file of 4 x 4 pixels with one value.
fn png(path: impl AsRef<Path>, value: u8) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    GrayImage::from_pixel(4, 4, Luma([value])).save(path).unwrap();
}

fn read(folder: &Path, split: Split) -> Images {
    open(folder.to_str().unwrap(), split, None).unwrap()
}

/// The first value of each image.
fn values(images: &Images) -> Vec<u8> {
    images.pixels().chunks(images.dims()).map(|image| image[0]).collect()
}

/// The message of a folder or file that cannot be opened.
fn refusal(path: &Path, split: Split) -> String {
    let error = open(path.to_str().unwrap(), split, None).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    error.to_string()
}

#[track_caller]
fn assert_has(text: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(text.contains(part), "`{part}` is not in: {text}"));
}

/// The notices without the name of the set, which is the name of a temporary folder.
fn notices(images: &Images) -> Vec<String> {
    let start = format!("{}: ", images.name());
    images.notices().iter().map(|notice| notice.strip_prefix(&start).unwrap().to_string()).collect()
}
