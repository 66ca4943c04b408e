//! Prepares a folder of pictures of any sizes: crops, scales and converts them to the one size that a model
//! reads.
//!
//! [`prepare`] writes a new folder with the same sub-folders, so splits and classes stay what they are. It
//! is written under a temporary name and renamed at the end: an interrupted command leaves nothing behind
//! that looks like a data set.

use super::decode::{Header, decode_file, read_header};
use super::layout::{Entry, Layout};
use crate::files::quoted;
use crate::shape::ImageSize;
use crate::{Error, Result};
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The colours of prepared images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colours {
    /// RGB if any picture has colours, else grey.
    AsFound,
    /// Grey.
    Grey,
    /// RGB.
    Rgb,
}

/// What [`prepare`] has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prepared {
    /// The size of every image.
    pub(crate) size: ImageSize,
    /// Number of images.
    pub(crate) images: usize,
    /// Number of pictures of another shape, whose edges were cut off.
    pub(crate) cropped: usize,
    /// Number of pictures that are smaller than the size, and were enlarged.
    pub(crate) enlarged: usize,
}

/// Writes every picture of `folder` to the new folder `out`, as a PNG file of `height` x `width` pixels.
/// The largest part of the middle of a picture that has this shape is scaled by a Lanczos filter with
/// three lobes (`image::imageops`). `done` is called after each picture, from any thread.
///
/// # Errors
/// If `out` exists, if a picture cannot be read, or if a file cannot be written.
pub(crate) fn prepare(
    folder: &Path,
    out: &Path,
    [height, width]: [usize; 2],
    colours: Colours,
    done: &(dyn Fn() + Sync),
) -> Result<Prepared> {
    if out.symlink_metadata().is_ok() {
        return Err(Error::file(out, "it exists", "give the name of a new folder, or remove it"));
    }
    let inside = || Some(out.parent()?.canonicalize().ok()?.starts_with(folder.canonicalize().ok()?));
    if inside() == Some(true) {
        return Err(Error::file(out, "it would be one of the folders that are read", "give a name outside of them"));
    }
    let layout = Layout::find(folder)?;
    let entries: Vec<&Entry> = layout.parts.iter().flat_map(|part| &part.entries).collect();
    let headers: Vec<Header> = entries.par_iter().map(|entry| read_header(&entry.path)).collect::<Result<_>>()?;
    let has_colours = match colours {
        Colours::AsFound => headers.iter().any(|header| header.has_color),
        Colours::Grey => false,
        Colours::Rgb => true,
    };
    let size = ImageSize { height, width, channels: if has_colours { 3 } else { 1 } };
    let names = names(folder, &entries);
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".pixtape-prepare-");
    // A temporary folder is closed to other users, but this one stays. The process's mask applies to it.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    let temporary = builder.tempdir_in(parent).map_err(|error| Error::io(parent, "write to", error))?;
    let folders: BTreeSet<&Path> = names.iter().filter_map(|name| name.parent()).collect();
    for folder in folders {
        let folder = temporary.path().join(folder);
        std::fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, "make", error))?;
    }
    entries.par_iter().zip(&names).try_for_each(|(entry, name)| {
        let image = fitted(decode_file(&entry.path)?.image, size);
        let path = temporary.path().join(name);
        image.save_with_format(&path, ImageFormat::Png).map_err(|error| {
            let reason = format!("{} could not be written ({error})", quoted(name));
            Error::file(out, reason, "make room or choose another folder, and run the command again").because(error)
        })?;
        done();
        Ok::<(), Error>(())
    })?;
    let kept = temporary.keep();
    if let Err(error) = std::fs::rename(&kept, out) {
        // What was written is of no use under its temporary name.
        drop(std::fs::remove_dir_all(&kept));
        return Err(Error::io(out, "make", error));
    }
    let count = |is: &dyn Fn(&Header) -> bool| headers.iter().filter(|header| is(header)).count();
    Ok(Prepared {
        size,
        images: entries.len(),
        cropped: count(&|header| header.height * width != header.width * height),
        enlarged: count(&|header| header.height < height || header.width < width),
    })
}

/// The names of the new files, relative to the folder: those of the pictures with the ending `png`. A
/// picture whose name differs from another one's in its ending alone keeps that ending as a part of its
/// name.
fn names(folder: &Path, entries: &[&Entry]) -> Vec<PathBuf> {
    let relative = |entry: &Entry| entry.path.strip_prefix(folder).unwrap_or(&entry.path).to_path_buf();
    let as_png: Vec<PathBuf> = entries.iter().map(|entry| relative(entry).with_extension("png")).collect();
    let mut seen = BTreeSet::new();
    let shared: BTreeSet<&PathBuf> = as_png.iter().filter(|name| !seen.insert(*name)).collect();
    let name = |(entry, name): (&&Entry, &PathBuf)| {
        let mut whole = relative(entry).into_os_string();
        whole.push(".png");
        if shared.contains(name) { PathBuf::from(whole) } else { name.clone() }
    };
    entries.iter().zip(&as_png).map(name).collect()
}

/// The middle of a picture in the shape of `size`, scaled and converted to it.
fn fitted(picture: DynamicImage, size: ImageSize) -> DynamicImage {
    let (width, height) = (size.width as u32, size.height as u32);
    // Fills the size and cuts off what protrudes, equally on both sides.
    let image = picture.resize_to_fill(width, height, FilterType::Lanczos3);
    if size.channels == 1 { image.into_luma8().into() } else { image.into_rgb8().into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Rgb, RgbImage};

    fn picture(path: &Path, [height, width]: [u32; 2], color: impl Fn(u32, u32) -> [u8; 3]) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_fn(width, height, |x, y| Rgb(color(y, x))).save(path).unwrap();
    }

    #[test]
    fn pictures_of_any_size_become_images_of_one_size() {
        let place = tempfile::tempdir().unwrap();
        let (from, out) = (place.path().join("from"), place.path().join("out"));
        picture(&from.join("a/wide.png"), [20, 60], |_, x| if x < 30 { [255, 0, 0] } else { [0, 0, 255] });
        picture(&from.join("a/small.jpg"), [8, 8], |_, _| [10, 200, 30]);
        picture(&from.join("b/small.png"), [16, 12], |_, _| [90, 90, 90]);
        picture(&from.join("b/small.jpg"), [16, 12], |_, _| [9, 9, 9]);
        let prepared = prepare(&from, &out, [16, 12], Colours::AsFound, &|| {}).unwrap();
        let size = ImageSize { height: 16, width: 12, channels: 3 };
        assert_eq!(prepared, Prepared { size, images: 4, cropped: 2, enlarged: 1 });
        let open = |name: &str| image::open(out.join(name)).unwrap().into_rgb8();
        let wide = open("a/wide.png");
        assert_eq!(wide.dimensions(), (12, 16));
        // The middle of the wide picture: red on the left, blue on the right.
        let (left, right) = (wide.get_pixel(1, 8).0, wide.get_pixel(10, 8).0);
        assert!(left[0] > 240 && left[2] < 15 && right[0] < 15 && right[2] > 240, "{left:?} {right:?}");
        assert_eq!(open("b/small.png.png").get_pixel(3, 3).0, [90, 90, 90]);
        assert!(open("b/small.jpg.png").get_pixel(3, 3).0[0] < 20);
        assert!(out.join("a/small.png").exists());
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2, "nothing else is left");
        let mode = |folder: &Path| std::fs::metadata(folder).unwrap().permissions();
        assert_eq!(mode(&out), mode(&from), "the folder is open to those to whom a new folder is");
    }

    #[test]
    fn grey_is_asked_for_or_found() {
        let place = tempfile::tempdir().unwrap();
        let from = place.path().join("from");
        picture(&from.join("a.png"), [9, 9], |y, x| [(y * 9 + x) as u8; 3]);
        let grey = prepare(&from, &place.path().join("grey"), [9, 9], Colours::Grey, &|| {}).unwrap();
        assert_eq!((grey.size.channels, grey.cropped, grey.enlarged), (1, 0, 0));
        let copy = image::open(place.path().join("grey/a.png")).unwrap().into_luma8();
        assert_eq!(copy.into_raw(), (0..81).collect::<Vec<u8>>(), "an image of the right size keeps its pixels");
    }

    #[test]
    fn an_existing_folder_is_not_touched() {
        let place = tempfile::tempdir().unwrap();
        let from = place.path().join("from");
        picture(&from.join("a.png"), [9, 9], |_, _| [1, 2, 3]);
        for out in [place.path().to_path_buf(), from.clone(), from.join("new")] {
            assert!(prepare(&from, &out, [8, 8], Colours::AsFound, &|| {}).is_err(), "{}", out.display());
        }
        std::fs::write(from.join("b.png"), b"no picture").unwrap();
        let error = prepare(&from, &place.path().join("out"), [8, 8], Colours::AsFound, &|| {}).unwrap_err();
        assert!(error.to_string().contains("b.png"), "{error}");
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
    }
}
