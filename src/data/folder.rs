//! A folder of PNG and JPEG files of one size, read in the order of their names.
//!
//! `layout` finds the files, `decode` decodes them. All headers are read before the first image is decoded,
//! so different sizes and a lack of memory are found early. A folder without sub-folders for the splits is
//! divided by a fixed hash of the file names.

use std::path::Path;

use image::DynamicImage;
use rayon::prelude::*;

use super::decode::{Header, Remarks, decode_file, read_header};
use super::images::{Images, Levels, Split};
use super::layout::{Entry, Layout, Part, counted, images};
use crate::shape::ImageSize;
use crate::{Error, Result, memory};

/// Class names that are listed in a notice.
const MAX_NAMES: usize = 8;

/// Reads the images of a split.
///
/// # Errors
/// If there are no images, if a file cannot be decoded, if images differ in size, if they do not fit into
/// memory, if there are more than 256 classes, or if the split is empty.
pub(super) fn open_folder(folder: &Path, name: &str, split: Split) -> Result<Images> {
    let layout = Layout::find(folder)?;
    let chosen = choose(folder, &layout, split)?;
    read(folder, name, &layout, &chosen)
}

/// Reads all images of a folder, whatever split they belong to.
///
/// # Errors
/// As [`open_folder`], but there is no split that could be empty.
#[cfg(feature = "cli")]
pub(super) fn open_whole(folder: &Path, name: &str) -> Result<Images> {
    let layout = Layout::find(folder)?;
    let entries = layout.parts.iter().flat_map(|part| part.entries.iter().cloned()).collect();
    read(folder, name, &layout, &Chosen { entries, number: Split::Train as u32 })
}

/// Reads the chosen images.
fn read(folder: &Path, name: &str, layout: &Layout, chosen: &Chosen) -> Result<Images> {
    let size = common_size(folder, layout)?;
    let per_pixel = 8; // Bytes while an image is decoded: four channels of 16 bits.
    let decoding = rayon::current_num_threads() * size.height * size.width * per_pixel;
    let bytes = (chosen.entries.len() * size.dims() + decoding) as u64;
    memory::check(bytes, &format!("reading the images in {}", folder.display()), "scale them down, or use fewer")?;
    let mut pixels = vec![0; chosen.entries.len() * size.dims()];
    let remarks: Vec<Remarks> = chosen
        .entries
        .par_iter()
        .zip(pixels.par_chunks_mut(size.dims()))
        .map(|(entry, into)| read_into(entry, size, into))
        .collect::<Result<_>>()?;
    let labels: Option<Vec<u8>> = chosen.entries.iter().map(|entry| entry.class).collect();
    let found = [describe(name, layout, size)];
    let left_out = (!layout.left_out.is_empty()).then(|| format!("{name}: left out: {}", counted(&layout.left_out)));
    let notices = found.into_iter().chain(left_out).chain(remarked(name, &chosen.entries, &remarks));
    let is_labelled = labels.is_some();
    let images = Images::new(name, size, pixels, labels, Levels::Grey256)?.with_part(chosen.number);
    let images = if is_labelled { images.with_class_names(layout.classes.clone()) } else { images };
    Ok(images.with_notices(notices))
}

/// Decodes a file into the pixels of its image.
fn read_into(entry: &Entry, size: ImageSize, into: &mut [u8]) -> Result<Remarks> {
    let decoded = decode_file(&entry.path)?;
    let image: DynamicImage = decoded.image;
    let raw = if size.channels == 1 { image.into_luma8().into_raw() } else { image.into_rgb8().into_raw() };
    if raw.len() != into.len() {
        return Err(Error::file(&entry.path, "it changed while it was read", "try again when nothing writes to it"));
    }
    into.copy_from_slice(&raw);
    Ok(decoded.remarks)
}

/// The size of all images of all parts. It has one channel if no file has colours.
fn common_size(folder: &Path, layout: &Layout) -> Result<ImageSize> {
    let all: Vec<&Entry> = layout.parts.iter().flat_map(|part| &part.entries).collect();
    let headers: Vec<Header> = all.par_iter().map(|entry| read_header(&entry.path)).collect::<Result<_>>()?;
    let first = headers[0];
    let differs = |header: &Header| (header.height, header.width) != (first.height, first.width);
    if let Some(index) = headers.iter().position(differs) {
        let name = |entry: &Entry| entry.path.strip_prefix(folder).unwrap_or(&entry.path).display().to_string();
        let (Header { height, width, .. }, other) = (first, headers[index]);
        let reason = format!(
            "its images have different sizes: {} is {height} x {width}, {} is {} x {} (height x width)",
            name(all[0]),
            name(all[index]),
            other.height,
            other.width
        );
        return Err(Error::file(
            folder,
            reason,
            "run `pixtape data prepare FOLDER NEW_FOLDER --size N`, which crops and scales them to one size",
        ));
    }
    let channels = if headers.iter().any(|header| header.has_color) { 3 } else { 1 };
    Ok(ImageSize { height: first.height, width: first.width, channels })
}

/// The files of a split (at least one), and the number of the part that they belong to.
struct Chosen {
    entries: Vec<Entry>,
    number: u32,
}

fn choose(folder: &Path, layout: &Layout, split: Split) -> Result<Chosen> {
    let wanted = if split == Split::Fit { Split::Train } else { split };
    let part_of = |split: Option<Split>| layout.parts.iter().find(|part| part.split == split);
    let (part, number) = if let Some(whole) = part_of(None) {
        (whole, Split::Train)
    } else if let Some(part) = part_of(Some(wanted)) {
        (part, wanted)
    } else if let (Split::Valid, Some(train)) = (wanted, part_of(Some(Split::Train))) {
        (train, Split::Train)
    } else {
        let reason = format!("it has a sub-folder `{}` but none for the split {wanted}", layout.parts[0].folder);
        return Err(Error::file(folder, reason, format!("add a sub-folder `{wanted}`")).of_missing_split());
    };
    let mut entries = part.entries.clone();
    if part.split.is_none() {
        entries.retain(|entry| part_by_name(&entry.name) == wanted);
    } else if part_of(Some(Split::Valid)).is_none() && (split == Split::Valid || split == Split::Fit) {
        entries.retain(|entry| (part_by_name(&entry.name) == Split::Valid) == (split == Split::Valid));
    }
    if entries.is_empty() {
        let count = part.entries.len();
        let reason =
            format!("none of its {count} images falls into the split {split}, by the fixed hash of their names");
        let error = Error::file(folder, reason, "sort them into sub-folders train, valid and test");
        return Err(error.of_missing_split());
    }
    // All splits that come from one folder count as one part: those divided by name, and the validation
    // images taken from `train`.
    Ok(Chosen { entries, number: number as u32 })
}

/// What was found in the folder: images, classes and splits.
fn describe(name: &str, layout: &Layout, size: ImageSize) -> String {
    let total: usize = layout.parts.iter().map(|part| part.entries.len()).sum();
    let names = &layout.classes;
    let more = if names.len() > MAX_NAMES { ", ..." } else { "" };
    let listed = names[..names.len().min(MAX_NAMES)].join(", ");
    let classes = match names.len() {
        0 => "without classes".to_string(),
        1 => format!("in 1 class ({listed})"),
        count => format!("in {count} classes ({listed}{more})"),
    };
    let splits = match &layout.parts[..] {
        [Part { split: None, entries, .. }] => {
            let count = |split| entries.iter().filter(|entry| part_by_name(&entry.name) == split).count();
            let [train, valid, test] = [Split::Train, Split::Valid, Split::Test].map(count);
            format!("divided by a hash of their names into {train} train, {valid} valid, {test} test")
        }
        parts => {
            let mut texts = Vec::new();
            for Part { split, folder, entries } in parts {
                let split = split.map_or("", Split::name);
                let unlabelled = !names.is_empty() && entries.iter().any(|entry| entry.class.is_none());
                let labels = if unlabelled { ", without labels" } else { "" };
                texts.push(format!("{} {split} (folder {folder}{labels})", entries.len()));
            }
            let text = format!("in the splits {}", texts.join(", "));
            let has = |split| parts.iter().any(|part| part.split == Some(split));
            let is_cut = has(Split::Train) && !has(Split::Valid);
            text + if is_cut { "; valid is a part of train, by a hash of the names" } else { "" }
        }
    };
    format!("{name}: {} of {size} {classes}, {splits}", images(total))
}

/// What was changed or left out while the files were decoded.
fn remarked(name: &str, entries: &[Entry], remarks: &[Remarks]) -> Vec<String> {
    let tell = |is: &dyn Fn(&Remarks) -> bool, what: &str| {
        let first = remarks.iter().position(is)?;
        let (count, all) = (remarks.iter().filter(|remarks| is(remarks)).count(), remarks.len());
        Some(format!("{name}: {what}: {count} of {all} images, such as {}", entries[first].name))
    };
    let largest = remarks.iter().filter_map(|remarks| remarks.largest_of_16_bits).max();
    // Data of 10, 12 or 14 bits that were stored in 16 bits without scaling.
    let dark = largest.filter(|&largest| largest < 1 << 14).map(|largest| {
        let bits = 16 - largest.leading_zeros();
        format!(
            "{name}: its 16-bit values use only the lowest {bits} bits, so the images are dark; scale them to 16 bits"
        )
    });
    let told = [
        tell(&|r| r.is_turned, "turned as the EXIF orientation says"),
        tell(&|r| r.is_transparent, "partly transparent, and read without the alpha channel"),
        tell(&|r| r.largest_of_16_bits.is_some(), "rounded from 16 to 8 bits per value"),
        dark,
        tell(&|r| r.is_cmyk, "converted from CMYK to RGB"),
        tell(&|r| r.is_animation, "an animation, of which only the first image is read"),
        tell(&|r| r.has_trailing_bytes, "read without the bytes that follow after the end of the image"),
    ];
    told.into_iter().flatten().collect()
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
