//! Opens a data set by its name or path.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::amat::{AmatImages, read_amat};
use super::cifar::{self, CifarImages, read_cifar};
#[cfg(feature = "cli")]
use super::folder::open_whole;
use super::folder::{open_folder, part_of_hundred};
use super::glyphs::draw_split;
use super::idx::{IdxImages, read_idx_images, read_idx_labels};
use super::images::{Images, Levels, Split};
use super::layout::counted;
use super::names::{Known, find, recognise, unread, without_coding};
use super::series;
use super::sets::{Drawn, FileFormat, SETS, Set};
use super::source::Source;
use crate::shape::ImageSize;
use crate::{Error, Result};

/// The folder of the known data sets: `chosen` (`--data-dir`), or else the environment variable
/// `PIXTAPE_DATA`, or else `data`.
pub fn data_dir(chosen: Option<&Path>) -> PathBuf {
    let environment = || std::env::var_os("PIXTAPE_DATA").filter(|value| !value.is_empty()).map(PathBuf::from);
    chosen.map(Path::to_path_buf).or_else(environment).unwrap_or_else(|| PathBuf::from("data"))
}

/// Opens a data set: either a known name (`mnist`, `fashion-mnist`, `cifar-10`, `binarized-mnist`,
/// `glyphs`, `oscillator`, `pendulum`), whose files are in [`data_dir`], or a path. A path is a folder of
/// images, a folder with the files of MNIST or CIFAR-10, or one idx, amat or CIFAR-10 file. [`Split`]
/// describes the contents of each split.
///
/// # Errors
/// If the name is unknown ([`Error::Usage`]), if a file is missing or damaged, or if the data set does
/// not have the split.
pub fn open(name_or_path: &str, split: Split, data_dir: Option<&Path>) -> Result<Images> {
    if let Some(set) = Set::named(name_or_path) {
        return open_set(set, split, &self::data_dir(data_dir));
    }
    let path = Path::new(name_or_path);
    let name = path.file_name().map_or(name_or_path.into(), |name| name.to_string_lossy());
    if path.is_dir() {
        match recognise(path)? {
            Some(known) => open_known(&known, path, &name, split),
            None => open_folder(path, &name, split),
        }
    } else if path.exists() {
        open_file(path, &name, split)
    } else if name_or_path.contains(['/', '\\', '.']) {
        Err(Error::file(path, "there is no such file or folder", format!("check the path, or name one of {}", names())))
    } else {
        let nearest = SETS.iter().max_by(|a, b| {
            let likeness = |set: &Set| strsim::jaro_winkler(set.name, name_or_path);
            likeness(a).total_cmp(&likeness(b))
        });
        let nearest = nearest.map_or(String::new(), |set| format!(", did you mean `{}`?", set.name));
        Err(Error::Usage(format!(
            "there is no data set `{name_or_path}`{nearest} The known ones are {}; give a folder of images or a file by its path",
            names()
        )))
    }
}

/// Opens all images of a folder, whatever split they belong to: samples that somebody has drawn.
///
/// # Errors
/// If it is no folder of images of one size.
#[cfg(feature = "cli")]
pub(crate) fn open_all_of_folder(folder: &Path) -> Result<Images> {
    let name = folder.file_name().map_or_else(|| folder.to_string_lossy(), |name| name.to_string_lossy());
    open_whole(folder, &name)
}

fn names() -> String {
    SETS.iter().map(|set| set.name).collect::<Vec<_>>().join(", ")
}

/// The validation images are the last of the training images: one part in this many.
fn valid_fraction(format: FileFormat) -> usize {
    if format == FileFormat::Cifar { 10 } else { 6 }
}

fn open_set(set: &Set, split: Split, data_dir: &Path) -> Result<Images> {
    let folder = set.folder(data_dir);
    let missing = |file: &str| {
        // The Python version of CIFAR-10 is the one that most programs download.
        let python = (set.format == FileFormat::Cifar).then(|| data_dir.join("cifar-10-batches-py"));
        if let Some(Err(error)) = python.filter(|path| path.is_dir()).map(|path| recognise(&path)) {
            return error;
        }
        Error::file(
            &folder,
            format!("the data set {} was not found: {file} is missing", set.name),
            format!(
                "run `pixtape data fetch {}`, or set --data-dir or PIXTAPE_DATA to the folder that contains it",
                set.name
            ),
        )
    };
    let images = read_files(set.format, "", &folder, set.name, split, &missing)?;
    let classes = images.classes();
    if classes > set.classes {
        let reason = format!("it has the label {}, but {} has {} classes", classes - 1, set.name, set.classes);
        return Err(Error::file(&folder, reason, "fetch the labels again"));
    }
    Ok(images)
}

/// Opens a folder whose files are recognised.
fn open_known(known: &Known, folder: &Path, name: &str, split: Split) -> Result<Images> {
    let Known { format, prefix, left_out } = known;
    let missing = |file: &str| Error::file(folder, format!("its file {file} is missing"), "copy it there");
    let images = read_files(*format, prefix, folder, name, split, &missing)?;
    let left_out = (!left_out.is_empty()).then(|| format!("{name}: left out: {}", counted(left_out)));
    let transposed = prefix.starts_with("emnist").then(|| {
        format!("{name}: EMNIST stores its images with rows and columns exchanged; they are read as they are stored")
    });
    Ok(images.with_notices(left_out.into_iter().chain(transposed)))
}

fn read_files(
    format: FileFormat,
    prefix: &str,
    folder: &Path,
    name: &str,
    split: Split,
    missing: &(dyn Fn(&str) -> Error + Sync),
) -> Result<Images> {
    let test = split == Split::Test;
    let located = |file: &str| find(folder, file).ok_or_else(|| missing(file));
    match format {
        FileFormat::Idx => {
            let is_called_test = test && find(folder, &format!("{prefix}test-images-idx3-ubyte")).is_some();
            let stem = match (test, is_called_test) {
                (false, _) => "train",
                (true, false) => "t10k",
                (true, true) => "test",
            };
            let images = located(&format!("{prefix}{stem}-images-idx3-ubyte")).map_err(Error::of_missing_split)?;
            let labels = located(&format!("{prefix}{stem}-labels-idx1-ubyte"))?;
            let images = read_idx(&images, Some(&labels), name)?;
            part_of_file(images, format, if test { Split::Test } else { Split::Train }, split)
        }
        FileFormat::Cifar => {
            let files: Vec<PathBuf> = if test {
                vec![located("test_batch.bin").map_err(Error::of_missing_split)?]
            } else {
                (1..=5).map(|i| located(&format!("data_batch_{i}.bin"))).collect::<Result<_>>()?
            };
            let images = read_cifar_files(&files, name)?;
            part_of_file(images, format, if test { Split::Test } else { Split::Train }, split)
        }
        FileFormat::Amat => {
            let part = if split == Split::Fit { Split::Train } else { split };
            let file = located(&format!("binarized_mnist_{part}.amat")).map_err(Error::of_missing_split)?;
            read_amat_file(&file, name)
        }
        FileFormat::Drawn(Drawn::Glyphs) => draw_split(split),
        FileFormat::Drawn(Drawn::Oscillator) => series::oscillators(split),
        FileFormat::Drawn(Drawn::Pendulum) => series::pendulums(split),
    }
}

/// The images of `split` in a file whose images all belong to `file_split`.
fn part_of_file(images: Images, format: FileFormat, file_split: Split, split: Split) -> Result<Images> {
    let count = images.len();
    let valid = count / valid_fraction(format);
    match (file_split, split) {
        (Split::Train, Split::Valid) if valid == 0 => Err(Error::Failed(format!(
            "{} has {count} training images, too few to set some aside for validation; use the split train or test",
            images.name()
        ))
        .of_missing_split()),
        (Split::Train, Split::Valid) => Ok(images.slice(count - valid, count)),
        (Split::Train, Split::Fit) => Ok(images.slice(0, count - valid)),
        (Split::Train, _) => Ok(images),
        _ => Ok(images.with_part(file_split as u32)),
    }
}

fn read_idx(path: &Path, labels: Option<&Path>, name: &str) -> Result<Images> {
    let IdxImages { height, width, pixels } = read_idx_images(&mut Source::open(path)?)?;
    let labels =
        labels.map(|path| read_idx_labels(&mut Source::open(path)?).map(|labels| (path, labels))).transpose()?;
    let count = pixels.len() / (height * width);
    if let Some((labels_path, labels)) = &labels
        && labels.len() != count
    {
        let reason = format!("it has {} labels, but {} has {count} images", labels.len(), path.display());
        return Err(Error::file(labels_path, reason, "the files do not belong together: fetch or copy both again"));
    }
    Images::new(
        name,
        ImageSize { height, width, channels: 1 },
        pixels,
        labels.map(|(_, labels)| labels),
        Levels::Grey256,
    )
}

/// Reads the files in parallel, because unpacking takes most of the time.
fn read_cifar_files(paths: &[PathBuf], name: &str) -> Result<Images> {
    let parts: Vec<CifarImages> =
        paths.par_iter().map(|path| read_cifar(&mut Source::open(path)?)).collect::<Result<_>>()?;
    let (pixels, labels): (Vec<_>, Vec<_>) = parts.into_iter().map(|part| (part.pixels, part.labels)).unzip();
    let size = ImageSize { height: cifar::SIDE, width: cifar::SIDE, channels: 3 };
    Images::new(name, size, pixels.concat(), Some(labels.concat()), Levels::Grey256)
}

fn read_amat_file(path: &Path, name: &str) -> Result<Images> {
    let AmatImages { side, pixels } = read_amat(&mut Source::open(path)?)?;
    Images::new(name, ImageSize { height: side, width: side, channels: 1 }, pixels, None, Levels::Binary)
}

/// Opens a single file. Its name determines its format and, if it contains a word such as `train` or
/// `test`, its split.
fn open_file(path: &Path, name: &str, split: Split) -> Result<Images> {
    let lower = name.to_lowercase();
    let bare = without_coding(&lower);
    let has = |word: &str| bare.contains(word);
    let (format, images) = if has("idx1") {
        return Err(Error::file(
            path,
            "it holds labels",
            "give the file of the images; the labels next to it are found",
        ));
    } else if has("idx") {
        (FileFormat::Idx, read_idx(path, labels_beside(path, name).as_deref(), name)?)
    } else if bare.ends_with(".amat") {
        (FileFormat::Amat, read_amat_file(path, name)?)
    } else if bare.ends_with(".bin") {
        (FileFormat::Cifar, read_cifar_files(&[path.to_path_buf()], name)?)
    } else if let Some((what, remedy)) = unread(path) {
        return Err(Error::file(path, format!("it is {what}, which is not read"), remedy));
    } else {
        return Err(Error::file(
            path,
            "its name does not show its format",
            "give an idx file (...idx3-ubyte), a .amat file or a CIFAR-10 .bin file, each also with .gz or .xz, or a folder of images",
        ));
    };
    let file_split = if has("train") || has("data_batch") {
        Split::Train
    } else if has("t10k") || has("test") {
        Split::Test
    } else if has("valid") {
        Split::Valid
    } else {
        return part_by_position(images, split);
    };
    if file_split != Split::Train && file_split != split {
        let reason = format!("its name says that it holds {file_split} images, but the split {split} was requested");
        let error = Error::file(path, reason, "give the file of that split, or the folder of all files");
        return Err(error.of_missing_split());
    }
    if file_split == Split::Train && split == Split::Test {
        let reason = "its name says that it holds training images, but the split test was requested";
        let error = Error::file(path, reason, "give the file of that split, or the folder of all files");
        return Err(error.of_missing_split());
    }
    part_of_file(images, format, file_split, split)
}

/// The label file that belongs to an idx file of images, by the naming of the publishers.
fn labels_beside(path: &Path, name: &str) -> Option<PathBuf> {
    let labels = name.replace("images", "labels").replace("idx3", "idx1");
    if labels == name { None } else { find(path.parent()?, &without_coding(&labels).replace(".idx", "-idx")) }
}

/// Divides a file without splits: 90 % of the images for training, 5 % for validation and 5 % for test,
/// by a fixed hash of their positions.
fn part_by_position(images: Images, split: Split) -> Result<Images> {
    let wanted = if split == Split::Fit { Split::Train } else { split };
    let part = |index: usize| part_of_hundred(crate::rng::threefry2x32([0, 0], [index as u32, 0])[0] % 100);
    let chosen: Vec<usize> = (0..images.len()).filter(|&index| part(index) == wanted).collect();
    if chosen.is_empty() {
        return Err(Error::Failed(format!(
            "none of the {} images of {} falls into the split {split}; put train, valid or test into the file's name",
            images.len(),
            images.name()
        ))
        .of_missing_split());
    }
    Ok(images.select(&chosen))
}
