//! Finds the images in a folder: its splits and classes, and what is left out.
//!
//! A folder holds images, or one sub-folder of images per class, or one sub-folder per split that holds
//! either. Anything else that holds images is refused: no image is left out without a word, and none gets
//! into another split. [`Layout::find`] reads names only.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::images::Split;
use crate::files::quoted;
use crate::{Error, Result};

/// Endings of files that are read.
pub(super) const ENDINGS: [&str; 5] = ["png", "jpg", "jpeg", "jpe", "jfif"];

/// Endings of pictures that are not read.
const OTHER_PICTURES: [&str; 18] = [
    "bmp", "gif", "tif", "tiff", "webp", "ppm", "pgm", "pbm", "pnm", "avif", "heic", "heif", "jp2", "jxl", "tga",
    "ico", "dng", "exr",
];

/// The names of the sub-folders of each split, in lower case.
const SPLIT_NAMES: [(Split, &[&str]); 3] = [
    (Split::Train, &["train", "training"]),
    (Split::Valid, &["valid", "val", "validation", "dev"]),
    (Split::Test, &["test", "testing"]),
];

/// How deep images are looked for that are in no place where they are read.
const MAX_DEPTH: usize = 5;

/// One image file: its path, its name within its part, and its class.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) name: String,
    pub(super) class: Option<u8>,
}

/// The images of one split, or of a folder without splits.
pub(super) struct Part {
    /// `None` if the folder has no splits.
    pub(super) split: Option<Split>,
    /// The name of its folder.
    pub(super) folder: String,
    /// In the order of their names, class by class.
    pub(super) entries: Vec<Entry>,
}

/// The images of a folder.
pub(super) struct Layout {
    pub(super) parts: Vec<Part>,
    /// The names of the classes by label. A class has the same label in every part.
    pub(super) classes: Vec<String>,
    /// How many of what is left out.
    pub(super) left_out: BTreeMap<String, usize>,
}

/// The direct contents of a folder. The lists are sorted by name.
#[derive(Default)]
pub(super) struct Children {
    pub(super) images: Vec<PathBuf>,
    pub(super) folders: Vec<PathBuf>,
    /// Pictures of formats that are not read.
    other_pictures: Vec<PathBuf>,
    /// Files that are no pictures.
    pub(super) others: Vec<PathBuf>,
    hidden: usize,
}

impl Children {
    pub(super) fn of(folder: &Path) -> Result<Children> {
        let failed = |error: std::io::Error| Error::io(folder, "list", error);
        let mut found = Children::default();
        for child in std::fs::read_dir(folder).map_err(failed)? {
            let child = child.map_err(failed)?;
            let path = child.path();
            let ending = ending(&path);
            if child.file_name().as_encoded_bytes().starts_with(b".") {
                found.hidden += 1;
            } else if path.is_dir() {
                found.folders.push(path);
            } else if ENDINGS.contains(&ending.as_str()) {
                found.images.push(path);
            } else if OTHER_PICTURES.contains(&ending.as_str()) {
                found.other_pictures.push(path);
            } else {
                found.others.push(path);
            }
        }
        for list in [&mut found.images, &mut found.folders, &mut found.other_pictures, &mut found.others] {
            list.sort();
        }
        Ok(found)
    }
}

/// The extension in lower case; empty without one.
fn ending(path: &Path) -> String {
    path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The split that a sub-folder of this name holds, if its name is one of [`SPLIT_NAMES`].
fn split_named(path: &Path) -> Option<Split> {
    let name = name_of(path).to_lowercase();
    SPLIT_NAMES.iter().find(|(_, names)| names.contains(&name.as_str())).map(|(split, _)| *split)
}

/// Adds the files that are no images, and the hidden ones, to what is left out.
pub(super) fn leave_out(children: &Children, left_out: &mut BTreeMap<String, usize>) {
    for path in &children.others {
        let ending = ending(path);
        let kind = if ending.is_empty() { "files without an ending".to_string() } else { format!("{ending} files") };
        *left_out.entry(kind).or_default() += 1;
    }
    if children.hidden > 0 {
        *left_out.entry("hidden files".to_string()).or_default() += children.hidden;
    }
}

impl Layout {
    /// Finds the images of `folder`.
    ///
    /// # Errors
    /// If there are none, if they are in places that do not fit together, if there are pictures of other
    /// formats, or if there are more than 256 classes.
    pub(super) fn find(folder: &Path) -> Result<Layout> {
        let top = Children::of(folder)?;
        let mut splits: Vec<(Split, PathBuf)> =
            top.folders.iter().filter_map(|path| Some((split_named(path)?, path.clone()))).collect();
        splits.sort_by_key(|(split, _)| *split as u32);
        let mut left_out = BTreeMap::new();
        let (contents, splits) = if splits.is_empty() {
            (vec![Contents::of(folder, top)?], vec![None])
        } else {
            check_beside_splits(folder, &top, &splits, &mut left_out)?;
            leave_out(&top, &mut left_out);
            let contents = splits.iter().map(|(_, path)| Contents::of(path, Children::of(path)?));
            (contents.collect::<Result<Vec<_>>>()?, splits.iter().map(|(split, _)| Some(*split)).collect())
        };
        for (kind, count) in contents.iter().flat_map(|contents| &contents.left_out) {
            *left_out.entry(kind.clone()).or_default() += count;
        }
        let names: BTreeSet<&OsString> = contents.iter().flat_map(|contents| contents.classes.keys()).collect();
        if names.len() > 256 {
            let reason = format!("it has {} sub-folders of images, and a label is one of 256 classes", names.len());
            return Err(Error::file(folder, reason, "merge some, or put all images into one folder"));
        }
        let labels: BTreeMap<&OsString, u8> = names.iter().copied().zip(0..=255).collect();
        let part = |(contents, split): (&Contents, &Option<Split>)| Part {
            split: *split,
            folder: name_of(&contents.folder),
            entries: contents.entries(&labels),
        };
        let parts: Vec<Part> = contents.iter().zip(&splits).map(part).collect();
        let classes = names.into_iter().map(class_name).collect();
        Ok(Layout { parts, classes, left_out })
    }
}

/// The name of a class. Bytes that are not UTF-8 are escaped, so that different names stay different.
fn class_name(folder: &OsString) -> String {
    let bytes = || folder.as_encoded_bytes().escape_ascii().to_string();
    folder.to_str().map_or_else(bytes, str::to_string)
}

/// Checks what is next to the folders of splits.
fn check_beside_splits(
    folder: &Path,
    top: &Children,
    splits: &[(Split, PathBuf)],
    left_out: &mut BTreeMap<String, usize>,
) -> Result<()> {
    for (index, (split, path)) in splits.iter().enumerate() {
        if let Some((_, other)) = splits[..index].iter().find(|(other, _)| other == split) {
            let reason =
                format!("its sub-folders {} and {} both name the split {split}", name_of(other), name_of(path));
            return Err(Error::file(folder, reason, "merge or rename them"));
        }
    }
    let named = splits.iter().map(|(_, path)| name_of(path)).collect::<Vec<_>>().join(", ");
    let loose = top.images.iter().chain(&top.other_pictures);
    if let Some(first) = loose.clone().next() {
        let (count, first) = (loose.count(), name_of(first));
        let reason = format!("it has {} (the first is {first}) next to its splits ({named})", images(count));
        return Err(Error::file(folder, reason, "move them into one of the splits, or away"));
    }
    for other in top.folders.iter().filter(|path| split_named(path).is_none()) {
        if first_image_below(other, 0)?.is_some() {
            let reason = format!("its sub-folder {} holds images, but is none of its splits ({named})", name_of(other));
            let remedy = "move it away, or rename the folders of splits if they are meant as classes";
            return Err(Error::file(folder, reason, remedy));
        }
        *left_out.entry("folders without images".to_string()).or_default() += 1;
    }
    Ok(())
}

/// The images of one folder: directly in it, or in one sub-folder per class.
struct Contents {
    folder: PathBuf,
    images: Vec<PathBuf>,
    classes: BTreeMap<OsString, Vec<PathBuf>>,
    left_out: BTreeMap<String, usize>,
}

impl Contents {
    fn of(folder: &Path, top: Children) -> Result<Contents> {
        let mut left_out = BTreeMap::new();
        let (mut classes, mut other_pictures) = (BTreeMap::new(), top.other_pictures.clone());
        leave_out(&top, &mut left_out);
        for path in &top.folders {
            let children = Children::of(path)?;
            leave_out(&children, &mut left_out);
            other_pictures.extend(children.other_pictures);
            for deeper in &children.folders {
                if let Some(image) = first_image_below(deeper, 1)? {
                    return Err(too_deep(folder, &image));
                }
                *left_out.entry("folders without images".to_string()).or_default() += 1;
            }
            if children.images.is_empty() {
                *left_out.entry("folders without images".to_string()).or_default() += 1;
            } else {
                classes.insert(path.file_name().unwrap_or_default().to_os_string(), children.images);
            }
        }
        if let Some(first) = other_pictures.first() {
            let (count, ending, name) = (other_pictures.len(), ending(first), below(folder, first));
            let reason = format!("{count} of its pictures have a format that is not read, such as {ending} ({name})");
            return Err(Error::file(folder, reason, "convert them to PNG, or move them away"));
        }
        if let (Some(first), Some(class)) = (top.images.first(), classes.keys().next()) {
            let (count, first, class) = (top.images.len(), name_of(first), class.to_string_lossy());
            let count = images(count);
            let reason = format!("it has {count} (the first is {first}) next to sub-folders of images like {class}");
            return Err(Error::file(folder, reason, "put all images into sub-folders, one per class, or none"));
        }
        if top.images.is_empty() && classes.is_empty() {
            let reason = "it contains no PNG or JPEG image".to_string();
            let found = if left_out.is_empty() { String::new() } else { format!(" (found: {})", counted(&left_out)) };
            let remedy = "give a folder of images, or of sub-folders of images with one sub-folder per class";
            return Err(Error::file(folder, reason + &found, remedy));
        }
        Ok(Contents { folder: folder.to_path_buf(), images: top.images, classes, left_out })
    }

    fn entries(&self, labels: &BTreeMap<&OsString, u8>) -> Vec<Entry> {
        let entry = |path: &PathBuf, class| Entry { path: path.clone(), name: below(&self.folder, path), class };
        let in_classes = self.classes.iter().flat_map(|(name, images)| images.iter().map(move |path| (path, name)));
        let loose = self.images.iter().map(|path| entry(path, None));
        loose.chain(in_classes.map(|(path, name)| entry(path, labels.get(name).copied()))).collect()
    }
}

/// The path of a file relative to `folder`, with `/` between its names.
fn below(folder: &Path, path: &Path) -> String {
    path.strip_prefix(folder).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

fn too_deep(folder: &Path, image: &Path) -> Error {
    // The folder that holds splits or, if there are none, the one that holds classes.
    let within = || image.ancestors().skip(1).take_while(|above| *above != folder);
    let of_splits = within().find(|above| split_named(above).is_some()).and_then(Path::parent);
    let better = of_splits.or_else(|| image.parent()?.parent()).unwrap_or(image);
    let reason = format!("its images are too deep, like {}", below(folder, image));
    let remedy =
        format!("one folder per split, and in it one per class, is the most; give a folder like {}", quoted(better));
    Error::file(folder, reason, remedy)
}

/// The first image in `folder` or below it. Links to folders are not followed.
fn first_image_below(folder: &Path, depth: usize) -> Result<Option<PathBuf>> {
    let children = Children::of(folder)?;
    if let Some(image) = children.images.into_iter().chain(children.other_pictures).next() {
        return Ok(Some(image));
    }
    if depth < MAX_DEPTH {
        for deeper in children.folders.iter().filter(|path| !path.is_symlink()) {
            if let Some(image) = first_image_below(deeper, depth + 1)? {
                return Ok(Some(image));
            }
        }
    }
    Ok(None)
}

/// "1 image" or "2 images".
pub(super) fn images(count: usize) -> String {
    format!("{count} image{}", if count == 1 { "" } else { "s" })
}

/// "2 txt files, 1 hidden file".
pub(super) fn counted(left_out: &BTreeMap<String, usize>) -> String {
    let one = |kind: &str| kind.replacen("files", "file", 1).replacen("folders", "folder", 1);
    let count = |(kind, count): (&String, &usize)| {
        if *count == 1 { format!("1 {}", one(kind)) } else { format!("{count} {kind}") }
    };
    left_out.iter().map(count).collect::<Vec<_>>().join(", ")
}
