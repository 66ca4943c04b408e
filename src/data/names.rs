//! Recognises the files of data sets by the names under which they are common, and names what is not read.
//!
//! The files of MNIST are found as `train-images-idx3-ubyte` and `train-images.idx3-ubyte`, each also with
//! `.gz` or `.xz`, within a folder of the same name, or with a prefix as in EMNIST's
//! `emnist-letters-train-images-idx3-ubyte`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::layout::{Children, leave_out};
use super::sets::FileFormat;
use crate::files::quoted;
use crate::{Error, Result};

/// The file `name` in `folder`: under this name, with a dot before `idx`, with the extension of a
/// compression, or in a folder of the same name, into which some programs unpack a file.
pub(super) fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    for name in [name.to_string(), name.replace("-idx", ".idx")] {
        for name in ["", ".gz", ".xz"].map(|ending| format!("{name}{ending}")) {
            let path = folder.join(&name);
            if path.is_file() {
                return Some(path);
            }
            let within = path.join(&name);
            if within.is_file() {
                return Some(within);
            }
        }
    }
    None
}

/// A folder whose files are recognised.
pub(super) struct Known {
    pub(super) format: FileFormat,
    /// What precedes the common part of the names: "emnist-letters-"; empty as a rule.
    pub(super) prefix: String,
    /// What the folder holds besides the files of the format.
    pub(super) left_out: BTreeMap<String, usize>,
}

/// The name without the extension of a compression.
pub(super) fn without_coding(name: &str) -> &str {
    name.strip_suffix(".gz").or(name.strip_suffix(".xz")).unwrap_or(name)
}

/// The prefix of the name of an idx file of images or labels; `None` for another name.
fn idx_prefix(name: &str) -> Option<&str> {
    let bare = without_coding(name);
    let bare = bare.strip_suffix("idx3-ubyte").or(bare.strip_suffix("idx1-ubyte"))?.strip_suffix(['-', '.'])?;
    let bare = bare.strip_suffix("-images").or(bare.strip_suffix("-labels"))?;
    ["train", "t10k", "test"].into_iter().find_map(|part| bare.strip_suffix(part))
}

fn is_cifar(name: &str) -> bool {
    let bare = without_coding(name);
    bare == "test_batch.bin" || (bare.starts_with("data_batch_") && bare.ends_with(".bin"))
}

fn is_amat(name: &str) -> bool {
    name.starts_with("binarized_mnist_") && without_coding(name).ends_with(".amat")
}

/// Recognises the files of a folder. `None` if it may be a folder of images.
///
/// # Errors
/// If it holds files of several data sets, or none but those of a format that is not read.
pub(super) fn recognise(folder: &Path) -> Result<Option<Known>> {
    let Children { folders, others, .. } = Children::of(folder)?;
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let nested = folders.iter().filter(|path| path.join(name(path)).is_file());
    let names: Vec<String> = others.iter().chain(nested).map(name).collect();
    let prefixes: BTreeSet<&str> = names.iter().filter_map(|name| idx_prefix(name)).collect();
    let (cifar, amat) = (names.iter().any(|name| is_cifar(name)), names.iter().any(|name| is_amat(name)));
    let of_sets =
        prefixes.iter().map(|prefix| if prefix.is_empty() { "MNIST's names" } else { prefix.trim_end_matches('-') });
    let sets: Vec<&str> = of_sets.chain(cifar.then_some("CIFAR-10")).chain(amat.then_some("binarised MNIST")).collect();
    if sets.len() > 1 {
        let reason = format!("it holds the files of several data sets: {}", sets.join(", "));
        return Err(Error::file(
            folder,
            reason,
            "move the files of one into a folder of its own, and give that folder",
        ));
    }
    let (format, prefix) = match prefixes.first() {
        Some(prefix) => (FileFormat::Idx, prefix.to_string()),
        None if cifar => (FileFormat::Cifar, String::new()),
        None if amat => (FileFormat::Amat, String::new()),
        None => return not_recognised(folder, &names),
    };
    let mut children = Children::of(folder)?;
    children.others.retain(|path| {
        let name = name(path);
        idx_prefix(&name).is_none() && !is_cifar(&name) && !is_amat(&name)
    });
    let mut left_out = BTreeMap::new();
    leave_out(&children, &mut left_out);
    if !children.images.is_empty() {
        left_out.insert("image files".to_string(), children.images.len());
    }
    Ok(Some(Known { format, prefix, left_out }))
}

/// An error if the folder holds a data set in a form that is not read, or in a sub-folder.
fn not_recognised(folder: &Path, names: &[String]) -> Result<Option<Known>> {
    let has = |name: &str| names.iter().any(|other| other == name);
    if has("data_batch_1") && has("test_batch") {
        let reason = "it is the Python version of CIFAR-10 (pickle files), which is not read";
        let remedy = "get the binary version, by `pixtape data fetch cifar-10` or as cifar-10-binary.tar.gz";
        return Err(Error::file(folder, reason, remedy));
    }
    if has("fine_label_names.txt") || (has("meta") && has("train") && has("test")) {
        return Err(Error::file(folder, "it is CIFAR-100, which is not read", "write its images as PNG files"));
    }
    let Children { images, folders, others, .. } = Children::of(folder)?;
    if !images.is_empty() {
        return Ok(None);
    }
    if let Some((path, (what, remedy))) = others.iter().find_map(|path| Some((path, unread(path)?))) {
        // The folder may still hold sub-folders of images.
        if !folders.iter().any(|path| Children::of(path).is_ok_and(|children| !children.images.is_empty())) {
            return Err(Error::file(path, format!("it is {what}, which is not read"), remedy));
        }
    }
    for sub in &folders {
        for candidate in [sub.clone(), sub.join("raw")].iter().filter(|path| path.is_dir()) {
            if matches!(recognise_here(candidate), Some(true)) {
                let reason = "it does not hold the files of a data set itself, but a folder in it does";
                return Err(Error::file(folder, reason, format!("give that folder: {}", quoted(candidate))));
            }
        }
    }
    Ok(None)
}

/// Whether the folder directly holds files of a data set. `None` if it cannot be listed.
fn recognise_here(folder: &Path) -> Option<bool> {
    let names = Children::of(folder).ok()?.others;
    let names = names.iter().filter_map(|path| path.file_name()?.to_str());
    Some(names.into_iter().any(|name| idx_prefix(name).is_some() || is_cifar(name) || is_amat(name)))
}

/// What a file is that is known but not read, and what to do about it.
pub(super) fn unread(path: &Path) -> Option<(&'static str, &'static str)> {
    let name = path.file_name()?.to_str()?.to_lowercase();
    let ending = without_coding(&name).rsplit_once('.')?.1;
    let as_png = "write its images as PNG files, in one sub-folder per class";
    match ending {
        "csv" => Some((
            "a table (CSV), as Kaggle stores MNIST",
            "use `pixtape data fetch mnist` or fashion-mnist, or write the images as PNG files, one folder per class",
        )),
        "zip" | "tar" | "tgz" | "7z" | "rar" => Some(("an archive", "unpack it, and give the folder")),
        "npz" | "npy" => Some(("an array of NumPy", as_png)),
        "mat" => Some(("an array of MATLAB", as_png)),
        "parquet" | "arrow" => Some(("a table (Parquet)", as_png)),
        "pkl" | "pickle" | "pt" | "pth" => Some(("a file of Python (pickle)", as_png)),
        "h5" | "hdf5" | "tfrecord" | "tfrecords" | "lmdb" => Some(("a container of another program", as_png)),
        "bmp" | "gif" | "webp" | "tif" | "tiff" => Some(("a picture in this format", "give a folder of PNG files")),
        "png" | "jpg" | "jpeg" => Some(("a single image", "give the folder that holds the images")),
        _ => None,
    }
}
