//! A folder of PNG and JPEG files of one size, read in the order of their names.
//!
//! If all images are in sub-folders, each sub-folder is a class. Sub-folders named `train`, `valid` and
//! `test` are splits. A folder without such sub-folders is divided by a fixed hash of the file names.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageReader, Limits};
use rayon::prelude::*;

use super::images::{Images, Levels, Split};
use crate::shape::ImageSize;
use crate::{Error, Result};

/// The largest height and width that are accepted.
const MAX_SIDE: u32 = 4096;

/// The memory limit for decoding one file, in bytes.
const MAX_DECODING: u64 = 256 << 20;

/// The largest file that is accepted, in bytes.
const MAX_FILE: u64 = 64 << 20;

const ENDINGS: [&str; 3] = ["png", "jpg", "jpeg"];

/// One image file: its path, its name relative to the data set, and its class.
struct Entry {
    path: PathBuf,
    name: String,
    class: Option<u8>,
}

/// Reads the images of a split.
///
/// # Errors
/// If there are no images, if a file cannot be decoded, if images differ in size, if there are more than
/// 256 classes, or if the split is empty.
pub(super) fn open_folder(folder: &Path, name: &str, split: Split) -> Result<Images> {
    let Chosen { entries, classes, part } = entries_of(folder, split)?;
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
    let flat = |(image, _): (DynamicImage, &Entry)| {
        if grey { image.into_luma8().into_raw() } else { image.into_rgb8().into_raw() }
    };
    let pixels = found.into_iter().flat_map(flat).collect();
    let size = ImageSize { height: height as usize, width: width as usize, channels: if grey { 1 } else { 3 } };
    let labelled = labels.is_some();
    let images = Images::new(name, size, pixels, labels, Levels::Grey256)?.with_part(part);
    Ok(if labelled { images.with_class_names(classes) } else { images })
}

/// The files of a split.
struct Chosen {
    /// At least one file.
    entries: Vec<Entry>,
    /// The names of the classes in the order of their labels.
    classes: Vec<String>,
    /// The number of the part that they belong to.
    part: u32,
}

/// The name of a class. Bytes that are not UTF-8 are escaped, so that different names stay different.
fn class_name(folder: &OsString) -> String {
    let bytes = || folder.as_encoded_bytes().escape_ascii().to_string();
    folder.to_str().map_or_else(bytes, str::to_string)
}

/// Chooses the files of `split`.
fn entries_of(folder: &Path, split: Split) -> Result<Chosen> {
    let wanted = if split == Split::Fit { Split::Train } else { split };
    let sub_folder = |split: Split| folder.join(split.name());
    let parts: Vec<Split> =
        [Split::Train, Split::Valid, Split::Test].into_iter().filter(|&part| sub_folder(part).is_dir()).collect();
    let whole = parts.is_empty();
    let (source, part) = if whole {
        (folder.to_path_buf(), Split::Train)
    } else if parts.contains(&wanted) {
        (sub_folder(wanted), wanted)
    } else if wanted == Split::Valid && parts.contains(&Split::Train) {
        (sub_folder(Split::Train), Split::Train)
    } else {
        let reason = format!("it has a sub-folder `{}` but none for the split {wanted}", parts[0]);
        return Err(Error::file(folder, reason, format!("add a sub-folder `{wanted}`")).of_missing_split());
    };
    // A class has the same label in every part, even if a part has no image of some class.
    let parents = if whole { vec![source.clone()] } else { parts.iter().map(|&part| sub_folder(part)).collect() };
    let classes = classes_of(&parents)?;
    let mut entries = list(&source, &classes)?;
    if entries.is_empty() {
        return Err(Error::file(
            &source,
            format!("it contains no {} image", ENDINGS.join(", ")),
            "give a folder of images, or of sub-folders of images with one sub-folder per class",
        ));
    }
    let count = entries.len();
    if whole {
        entries.retain(|entry| part_by_name(&entry.name) == wanted);
    } else if !parts.contains(&Split::Valid) && (split == Split::Valid || split == Split::Fit) {
        entries.retain(|entry| (part_by_name(&entry.name) == Split::Valid) == (split == Split::Valid));
    }
    if entries.is_empty() {
        return Err(Error::file(
            folder,
            format!("none of its {count} images falls into the split {split}, by the fixed hash of their names"),
            "sort them into sub-folders train, valid and test",
        )
        .of_missing_split());
    }
    // All splits that come from one folder count as one part: those divided by name, and the validation
    // images taken from `train`.
    Ok(Chosen { entries, classes: classes.keys().map(class_name).collect(), part: part as u32 })
}

/// Assigns a split to a file by its name alone: 90 % of the names to training, 5 % to validation and 5 %
/// to test.
fn part_by_name(name: &str) -> Split {
    let fnv = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    // The low bits of FNV are not uniform enough for percentages, so the hash is mixed once more.
    let [word, _] = crate::rng::threefry2x32([0, 0], [fnv as u32, (fnv >> 32) as u32]);
    part_of_hundred(word % 100)
}

/// The split that a percentile from 0 to 99 belongs to. Also used for images in a file without splits.
pub(super) fn part_of_hundred(percentile: u32) -> Split {
    match percentile {
        0..90 => Split::Train,
        90..95 => Split::Valid,
        _ => Split::Test,
    }
}

/// Numbers the classes: the names of the sub-folders of `parents` that contain images, sorted, become 0,
/// 1, and so on.
fn classes_of(parents: &[PathBuf]) -> Result<BTreeMap<OsString, u8>> {
    let mut names = BTreeSet::new();
    for parent in parents {
        for path in children(parent)?.folders {
            if !children(&path)?.files.is_empty() {
                names.extend(path.file_name().map(OsString::from));
            }
        }
        if names.len() > 256 {
            let reason = format!("it has {} sub-folders of images, and a label is one of 256 classes", names.len());
            return Err(Error::file(parent, reason, "merge some, or put all images into one folder"));
        }
    }
    Ok(names.into_iter().zip(0..=255).collect())
}

/// The images directly in `folder`. If there are none, the images in its sub-folders, with one class per
/// sub-folder, sorted by name.
fn list(folder: &Path, classes: &BTreeMap<OsString, u8>) -> Result<Vec<Entry>> {
    let entry = |path: PathBuf, class: Option<u8>| {
        let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        Entry { path, name, class }
    };
    let files = children(folder)?.files;
    if !files.is_empty() {
        return Ok(files.into_iter().map(|path| entry(path, None)).collect());
    }
    let mut entries = Vec::new();
    for (name, &class) in classes {
        let path = folder.join(name);
        if path.is_dir() {
            entries.extend(children(&path)?.files.into_iter().map(|path| entry(path, Some(class))));
        }
    }
    Ok(entries)
}

/// The direct contents of a folder, each list sorted by name.
#[derive(Default)]
struct Children {
    /// Image files.
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

/// Lists the image files and folders directly in `folder`. Hidden ones are skipped.
fn children(folder: &Path) -> Result<Children> {
    let failed = |error: std::io::Error| Error::io(folder, "list", error);
    let mut found = Children::default();
    for child in std::fs::read_dir(folder).map_err(failed)? {
        let child = child.map_err(failed)?;
        let path = child.path();
        let hidden = child.file_name().as_encoded_bytes().starts_with(b".");
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        if hidden {
            continue;
        } else if path.is_dir() {
            found.folders.push(path);
        } else if ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str())) {
            found.files.push(path);
        }
    }
    found.files.sort();
    found.folders.sort();
    Ok(found)
}

fn decode_file(path: &Path) -> Result<DynamicImage> {
    let failed = |error: std::io::Error| Error::io(path, "read", error);
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > MAX_FILE {
        return Err(Error::file(path, format!("it has {} MiB", length >> 20), "scale the images down first"));
    }
    decode_image(&std::fs::read(path).map_err(failed)?, path)
}

/// Decodes one PNG or JPEG image of at most 4096 x 4096 pixels. `path` is only used in error messages.
///
/// # Errors
/// If the image has another format, is damaged or is too large.
pub fn decode_image(bytes: &[u8], path: &Path) -> Result<DynamicImage> {
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
    limits.max_alloc = Some(MAX_DECODING);
    let mut reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| Error::io(path, "read", error))?;
    reader.limits(limits);
    reader.decode().map_err(|error| {
        Error::file(path, format!("it could not be decoded as PNG or JPEG ({error})"), "replace or remove it")
            .because(error)
    })
}
