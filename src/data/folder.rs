//! A folder of PNG and JPEG files of one size, in the order of their names.
//!
//! Where all images lie in sub-folders, each sub-folder is a class; sub-folders `train`, `valid` and `test` are splits.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageReader, Limits};
use rayon::prelude::*;

use super::images::{Images, Levels, Split};
use crate::{Error, Result};

/// Sides beyond this are no training image.
const MAX_SIDE: u32 = 4096;

/// The most memory that decoding one file may take.
const MAX_DECODING: u64 = 256 << 20;

/// The most bytes that one file may have.
const MAX_FILE: u64 = 64 << 20;

const ENDINGS: [&str; 3] = ["png", "jpg", "jpeg"];

/// One file: its path, the part of it that names it within the set, its class.
struct Entry {
    path: PathBuf,
    name: String,
    class: Option<u8>,
}

/// Reads the images of a split.
///
/// # Errors
/// No images, a file that cannot be decoded, two sizes, more than 256 classes, an empty split.
pub(super) fn open_folder(folder: &Path, name: &str, split: Split) -> Result<Images> {
    let (entries, part) = entries_of(folder, split)?;
    let found: Vec<(DynamicImage, &Entry)> =
        entries.par_iter().map(|entry| Ok((decode_file(&entry.path)?, entry))).collect::<Result<_>>()?;
    let grey = found.iter().all(|(image, _)| !image.color().has_color());
    let (first, first_entry) = &found[0];
    let (width, height) = (first.width(), first.height());
    if let Some((image, entry)) = found.iter().find(|(image, _)| (image.width(), image.height()) != (width, height)) {
        return Err(Error::file(
            folder,
            format!(
                "its images have different sizes: {} is {height} x {width}, {} is {} x {} (height x width)",
                first_entry.name,
                entry.name,
                image.height(),
                image.width()
            ),
            "scale or crop them to one size",
        ));
    }
    let labels: Option<Vec<u8>> = found.iter().map(|(_, entry)| entry.class).collect();
    let flat = |(image, _): (DynamicImage, &Entry)| match grey {
        true => image.into_luma8().into_raw(),
        false => image.into_rgb8().into_raw(),
    };
    let pixels = found.into_iter().flat_map(flat).collect();
    let size = [height as usize, width as usize, if grey { 1 } else { 3 }];
    Ok(Images::new(name, size, pixels, labels, Levels::Grey256)?.with_part(part))
}

/// The entries of `split`, never none, and the number of the part that they were read from.
fn entries_of(folder: &Path, split: Split) -> Result<(Vec<Entry>, u32)> {
    let none = || {
        Error::file(
            folder,
            format!("there is no {} image in it", ENDINGS.join(", ")),
            "name a folder of images, or of sub-folders of images, one a class",
        )
    };
    let sub_folder = |split: Split| Some(folder.join(split.name())).filter(|path| path.is_dir());
    let wanted = if split == Split::Fit { Split::Train } else { split };
    let (part, by_name) = match (sub_folder(wanted), sub_folder(Split::Train)) {
        (Some(path), _) => (Some(path), split == Split::Fit && sub_folder(Split::Valid).is_none()),
        (None, Some(path)) if split == Split::Valid => (Some(path), true),
        (None, Some(_)) => {
            return Err(Error::file(
                folder,
                format!("it has a sub-folder `train` but none for the split {split}"),
                format!("add a sub-folder `{split}`"),
            ));
        }
        (None, None) => (None, true),
    };
    let whole = part.is_none();
    let number = if whole || by_name || wanted == Split::Train { 0 } else { wanted as u32 };
    let mut entries = list(part.as_deref().unwrap_or(folder))?;
    if entries.is_empty() {
        return Err(none());
    }
    if by_name {
        let count = entries.len();
        entries.retain(|entry| {
            let part = part_by_name(&entry.name);
            part == wanted || (!whole && part == Split::Test && wanted == Split::Train)
        });
        if entries.is_empty() {
            return Err(Error::file(
                folder,
                format!("none of its {count} images falls into the split {split} (5 % of the names, by a fixed hash)"),
                "sort them into sub-folders train, valid and test",
            ));
        }
    }
    Ok((entries, number))
}

/// 90 % of the names are for training, 5 % for validation, 5 % for testing; the same name always for the same.
fn part_by_name(name: &str) -> Split {
    let fnv = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    // FNV's low bits alone are not even enough for a percentage.
    let [word, _] = crate::rng::threefry2x32([0, 0], [fnv as u32, (fnv >> 32) as u32]);
    part_of_hundred(word % 100)
}

/// The split of a percentile, and of a position in a file without splits.
pub(super) fn part_of_hundred(percentile: u32) -> Split {
    match percentile {
        0..90 => Split::Train,
        90..95 => Split::Valid,
        _ => Split::Test,
    }
}

/// All images right in `folder`, else all in its sub-folders with these as classes; sorted by name.
fn list(folder: &Path) -> Result<Vec<Entry>> {
    let (files, folders) = children(folder)?;
    let entry = |path: PathBuf, class: Option<(u8, &str)>| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let name = class.map_or(file.to_string(), |(_, class)| format!("{class}/{file}"));
        Entry { class: class.map(|(number, _)| number), name, path }
    };
    if !files.is_empty() {
        return Ok(files.into_iter().map(|path| entry(path, None)).collect());
    }
    let mut classes = Vec::new();
    for path in folders {
        let (files, _) = children(&path)?;
        if !files.is_empty() {
            classes.push((path.file_name().unwrap_or_default().to_string_lossy().to_string(), files));
        }
    }
    if classes.len() > 256 {
        let reason = format!("it has {} sub-folders of images, and a label is one of 256 classes", classes.len());
        return Err(Error::file(folder, reason, "merge some, or put all images into one folder"));
    }
    let numbered = classes.into_iter().zip(0..=255u8);
    Ok(numbered
        .flat_map(|((class, files), number)| {
            files
                .into_iter()
                .map(move |path| {
                    let class = Some((number, class.as_str()));
                    entry(path, class)
                })
                .collect::<Vec<_>>()
        })
        .collect())
}

/// Image files and folders right in `folder`, each sorted by name; hidden ones do not count.
fn children(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let failed = |error: std::io::Error| Error::io(folder, "list", &error);
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for child in std::fs::read_dir(folder).map_err(failed)? {
        let child = child.map_err(failed)?;
        let path = child.path();
        let hidden = child.file_name().as_encoded_bytes().starts_with(b".");
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        if hidden {
            continue;
        } else if path.is_dir() {
            folders.push(path);
        } else if ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str())) {
            files.push(path);
        }
    }
    files.sort();
    folders.sort();
    Ok((files, folders))
}

fn decode_file(path: &Path) -> Result<DynamicImage> {
    let failed = |error: std::io::Error| Error::io(path, "read", &error);
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > MAX_FILE {
        return Err(Error::file(path, format!("it has {} MiB", length >> 20), "scale the images down first"));
    }
    decode_image(&std::fs::read(path).map_err(failed)?, path)
}

/// Decodes one PNG or JPEG, of at most 4096 x 4096 pixels; `path` appears in errors.
///
/// # Errors
/// Another format, a damaged file, an image that is too large.
pub fn decode_image(bytes: &[u8], path: &Path) -> Result<DynamicImage> {
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
    limits.max_alloc = Some(MAX_DECODING);
    let mut reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| Error::io(path, "read", &error))?;
    reader.limits(limits);
    reader.decode().map_err(|error| {
        Error::file(path, format!("it could not be decoded as PNG or JPEG ({error})"), "replace or remove it")
    })
}
