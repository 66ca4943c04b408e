//! `data::open` on small data sets of every kind, valid and damaged, which the tests write.
//!
//! Valid sets must give the expected images, labels and splits. Damaged sets must give an error that names
//! the file and the problem. `data_real.rs` tests the publishers' real files.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::{Compression, write::GzEncoder};
use image::{GrayImage, Luma, Rgb, RgbImage};
use pixtape::data::{Images, Levels, Split, open};
use tempfile::{TempDir, tempdir};

fn idx_images(count: u32, height: u32, width: u32) -> Vec<u8> {
    let mut bytes = [2051, count, height, width].map(u32::to_be_bytes).concat();
    bytes.extend((0..count * height * width).map(|i| i as u8));
    bytes
}

fn idx_labels(count: u32) -> Vec<u8> {
    let mut bytes = [2049, count].map(u32::to_be_bytes).concat();
    bytes.extend((0..count).map(|i| (i % 10) as u8));
    bytes
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A data folder with a small `mnist` of 12 training and 3 test images.
fn small_mnist() -> TempDir {
    let dir = tempdir().unwrap();
    let file = |name: &str| dir.path().join("mnist").join(name);
    write(file("train-images-idx3-ubyte.gz"), gz(&idx_images(12, 5, 4)));
    write(file("train-labels-idx1-ubyte"), idx_labels(12));
    write(file("t10k-images-idx3-ubyte"), idx_images(3, 5, 4));
    write(file("t10k-labels-idx1-ubyte.gz"), gz(&idx_labels(3)));
    dir
}

fn error(name: &str, split: Split, dir: &Path) -> String {
    let error = open(name, split, Some(dir)).unwrap_err();
    let text = error.to_string();
    assert!(!text.contains('\n') && text.len() < 500, "not one sentence: {text}");
    text
}

fn assert_has(text: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(text.contains(part), "`{part}` is not in: {text}"));
}

#[test]
fn names_are_looked_up_in_the_data_folder_and_splits_are_cut_from_the_files() {
    let dir = small_mnist();
    let count = |split| open("mnist", split, Some(dir.path())).unwrap().len();
    assert_eq!([Split::Train, Split::Fit, Split::Valid, Split::Test].map(count), [12, 10, 2, 3]);
    let valid = open("mnist", Split::Valid, Some(dir.path())).unwrap();
    assert_eq!((valid.name(), valid.height(), valid.width(), valid.channels()), ("mnist", 5, 4, 1));
    assert_eq!((valid.image(0)[0], valid.labels().unwrap()), (200, &[0, 1][..]));
}

#[test]
fn an_unknown_name_is_a_usage_error_with_the_nearest_known_one() {
    let error = open("fashion_mnist", Split::Train, None).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert_has(&error.to_string(), &["`fashion_mnist`", "did you mean `fashion-mnist`?", "cifar-10", "glyphs"]);
}

#[test]
fn a_missing_set_names_the_folder_and_the_command_that_fetches_it() {
    let dir = tempdir().unwrap();
    let text = error("cifar-10", Split::Train, dir.path());
    assert_has(
        &text,
        &["cifar-10", dir.path().to_str().unwrap(), "data_batch_1.bin is missing", "`pixtape data fetch cifar-10`"],
    );
    assert_has(&error("./nowhere", Split::Train, dir.path()), &["nowhere: there is no such file or folder"]);
}

#[test]
fn labels_that_are_missing_differ_in_number_or_are_out_of_range_are_errors() {
    let dir = small_mnist();
    let labels = dir.path().join("mnist/train-labels-idx1-ubyte");
    write(&labels, idx_labels(11));
    assert_has(
        &error("mnist", Split::Train, dir.path()),
        &["train-labels-idx1-ubyte: it has 11 labels", "has 12 images"],
    );
    write(&labels, [idx_labels(12)[..19].to_vec(), vec![99]].concat());
    assert_has(&error("mnist", Split::Train, dir.path()), &["the label 99, but mnist has 10 classes"]);
    fs::remove_file(&labels).unwrap();
    assert_has(&error("mnist", Split::Train, dir.path()), &["train-labels-idx1-ubyte is missing", "data fetch mnist"]);
}

#[test]
fn damaged_idx_files_are_errors() {
    let dir = small_mnist();
    let images = dir.path().join("mnist/train-images-idx3-ubyte.gz");
    let whole = fs::read(&images).unwrap();
    let cases: [(Vec<u8>, &str); 6] = [
        (whole[..whole.len() / 2].to_vec(), "it is truncated"),
        ([&whole[..40], &[0xff; 40], &whole[80..]].concat(), "gzip data are corrupt"),
        (gz(&idx_labels(12)), "1 dimensions, but idx images have 3"),
        (gz(&[2051, u32::MAX, 28, 28].map(u32::to_be_bytes).concat()), "more than the"),
        ([2051, u32::MAX, 28, 28].map(u32::to_be_bytes).concat(), "truncated"),
        (vec![], "it is empty"),
    ];
    for (bytes, expected) in cases {
        write(&images, bytes);
        assert_has(&error("mnist", Split::Train, dir.path()), &["train-images-idx3-ubyte.gz: ", expected]);
    }
}

#[test]
fn cifar_is_read_plain_gz_and_xz() {
    let dir = tempdir().unwrap();
    let batch = |label: u8| (0..10).flat_map(|i| [vec![label], vec![i * 20; 3072]].concat()).collect::<Vec<_>>();
    for number in 1..=5 {
        let path = dir.path().join(format!("cifar-10/data_batch_{number}.bin"));
        match number {
            1 => write(path.with_extension("bin.xz"), xz(&batch(1))),
            2 => write(path.with_extension("bin.gz"), gz(&batch(2))),
            _ => write(path, batch(number)),
        }
    }
    let train = open("cifar-10", Split::Train, Some(dir.path())).unwrap();
    let labels: Vec<u8> = (1..=5).flat_map(|label| [label; 10]).collect();
    assert_eq!((train.len(), train.channels(), train.labels()), (50, 3, Some(&labels[..])));
    assert_eq!(open("cifar-10", Split::Valid, Some(dir.path())).unwrap().labels().unwrap(), [5; 5]);
    let file = dir.path().join("cifar-10/data_batch_3.bin");
    let path = file.to_str().unwrap();
    assert_eq!(open(path, Split::Fit, None).unwrap().labels().unwrap(), [3; 9]);
    assert_has(&error(path, Split::Test, dir.path()), &["holds training images, but the split test was requested"]);
    write(&file, &batch(3)[..3000]);
    assert_has(&error("cifar-10", Split::Train, dir.path()), &["data_batch_3.bin: it ends 3000 bytes into record 0"]);
}

#[test]
fn amat_is_read_by_name_and_by_path_and_a_letter_in_it_is_found() {
    let dir = tempdir().unwrap();
    for (split, text) in [("train", "0 1 1 0\n1 1 1 1\n"), ("valid", "0 0 0 0\n"), ("test", "1 0 0 1\n0 1 0 0\n")] {
        let path = dir.path().join(format!("binarized-mnist/binarized_mnist_{split}.amat"));
        if split == "valid" { write(path, text) } else { write(path.with_extension("amat.gz"), gz(text.as_bytes())) }
    }
    let read = |split| open("binarized-mnist", split, Some(dir.path())).unwrap();
    assert_eq!(read(Split::Train), read(Split::Fit));
    assert_eq!((read(Split::Valid).pixels(), read(Split::Test).levels()), (&[0; 4][..], Levels::Binary));
    let file = dir.path().join("anything.amat");
    write(&file, "0 1 1 0\n".repeat(100));
    let counts = Split::ALL.map(|split| open(file.to_str().unwrap(), split, None).unwrap().len());
    assert_eq!((counts[0], counts[0] + counts[2] + counts[3]), (counts[1], 100));
    assert!(counts[0] > 80, "{counts:?}");
    write(&file, "0 1 1 0\n0 a 1 0\n");
    assert_has(&error(file.to_str().unwrap(), Split::Train, dir.path()), &["anything.amat: line 2, column 3 has `a`"]);
}

#[test]
fn a_file_of_unknown_kind_is_told_what_is_known() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("thing.txt");
    write(&file, "hello");
    assert_has(
        &error(file.to_str().unwrap(), Split::Train, dir.path()),
        &["thing.txt: its name does not show", "amat"],
    );
    let labels = dir.path().join("train-labels-idx1-ubyte");
    write(&labels, idx_labels(3));
    assert_has(&error(labels.to_str().unwrap(), Split::Train, dir.path()), &["it holds labels"]);
}

fn png(path: impl AsRef<Path>, width: u32, height: u32, value: u8) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    GrayImage::from_pixel(width, height, Luma([value])).save(path).unwrap();
}

fn open_dir(dir: &Path, split: Split) -> pixtape::Result<Images> {
    open(dir.to_str().unwrap(), split, None)
}

#[test]
fn a_folder_of_images_is_split_by_name_and_sorted() {
    let dir = tempdir().unwrap();
    for number in 0..200 {
        png(dir.path().join(format!("{number:03}.png")), 6, 5, number);
    }
    write(dir.path().join("notes.txt"), "not an image");
    write(dir.path().join(".hidden.png"), "not an image either");
    let parts = [Split::Train, Split::Valid, Split::Test].map(|split| open_dir(dir.path(), split).unwrap());
    assert_eq!(parts[0], open_dir(dir.path(), Split::Fit).unwrap());
    assert_eq!((parts[0].height(), parts[0].width(), parts[0].channels(), parts[0].labels()), (5, 6, 1, None));
    assert!(parts[0].len() > 160 && parts[1].len() > 1 && parts[2].len() > 1);
    let mut all: Vec<u8> = Vec::new();
    for part in &parts {
        let values: Vec<u8> = part.pixels().chunks(30).map(|image| image[0]).collect();
        assert!(values.is_sorted());
        all.extend(values);
    }
    all.sort();
    assert_eq!(all, (0..200).collect::<Vec<u8>>());
    fs::remove_file(dir.path().join("199.png")).unwrap();
    let fewer = open_dir(dir.path(), Split::Test).unwrap();
    assert!(parts[2].pixels().starts_with(fewer.pixels()), "another file moved between splits");
}

#[test]
fn sub_folders_are_splits_and_classes() {
    let dir = tempdir().unwrap();
    for (path, value) in [
        ("train/cat/a.png", 1),
        ("train/cat/b.png", 2),
        ("train/dog/a.png", 3),
        ("test/cat/c.png", 4),
        ("test/dog/d.png", 5),
    ] {
        png(dir.path().join(path), 4, 4, value);
    }
    let train = open_dir(dir.path(), Split::Train).unwrap();
    assert_eq!((train.labels(), train.image(2)[0]), (Some(&[0, 0, 1][..]), 3));
    assert_eq!(open_dir(dir.path(), Split::Test).unwrap().labels(), Some(&[0, 1][..]));
    fs::remove_dir_all(dir.path().join("test/cat")).unwrap();
    assert_eq!(open_dir(dir.path(), Split::Test).unwrap().labels(), Some(&[1][..]), "dog is class 1 in every part");
    fs::remove_dir_all(dir.path().join("test")).unwrap();
    assert_has(
        &open_dir(dir.path(), Split::Test).unwrap_err().to_string(),
        &["none for the split test", "add a sub-folder `test`"],
    );
}

#[test]
fn validation_images_are_taken_out_of_fit_and_not_of_train() {
    let dir = tempdir().unwrap();
    (0..100).for_each(|number| png(dir.path().join(format!("train/{number:03}.png")), 2, 2, number));
    let [train, fit, valid] =
        [Split::Train, Split::Fit, Split::Valid].map(|split| open_dir(dir.path(), split).unwrap());
    assert_eq!((train.len(), fit.len() + valid.len()), (100, 100));
    assert!(valid.len() < 15 && !valid.pixels().iter().any(|value| fit.pixels().contains(value)));
    fs::rename(dir.path().join("train"), dir.path().join("test")).unwrap();
    assert_has(&open_dir(dir.path(), Split::Train).unwrap_err().to_string(), &["`test` but none for the split train"]);
}

#[test]
fn one_colour_image_makes_the_folder_rgb_and_jpeg_is_read() {
    let dir = tempdir().unwrap();
    png(dir.path().join("train/a.png"), 8, 8, 7);
    RgbImage::from_pixel(8, 8, Rgb([200, 100, 0])).save(dir.path().join("train/b.JPG")).unwrap();
    let images = open_dir(dir.path(), Split::Train).unwrap();
    assert_eq!((images.len(), images.channels(), &images.image(0)[..3]), (2, 3, &[7, 7, 7][..]));
    let colour = &images.image(1)[..3];
    assert!(colour.iter().zip([200, 100, 0]).all(|(&got, want): (&u8, i32)| (i32::from(got) - want).abs() < 6));
}

#[test]
fn folders_that_are_no_data_set_are_errors() {
    let dir = tempdir().unwrap();
    let message = || open_dir(dir.path(), Split::Train).unwrap_err().to_string();
    assert_has(&message(), &["it contains no PNG or JPEG image"]);
    png(dir.path().join("train/a.png"), 6, 5, 0);
    png(dir.path().join("train/b.png"), 6, 6, 0);
    assert_has(&message(), &["different sizes: train/a.png is 5 x 6, train/b.png is 6 x 6", "one size"]);
    let whole = fs::read(dir.path().join("train/a.png")).unwrap();
    for (bytes, reason) in [
        (b"no image".to_vec(), "it could not be decoded as PNG or JPEG"),
        (vec![], "it could not be decoded as PNG or JPEG"),
        (whole[..whole.len() - 20].to_vec(), "it is truncated"),
    ] {
        write(dir.path().join("train/b.png"), bytes);
        assert_has(&message(), &["train/b.png: ", reason, "replace or remove it"]);
    }
}

#[test]
fn a_png_header_of_a_huge_image_allocates_nothing() {
    let dir = tempdir().unwrap();
    png(dir.path().join("train/a.png"), 6, 5, 0);
    let mut bytes = fs::read(dir.path().join("train/a.png")).unwrap();
    bytes[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    let sum = flate2_crc(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&sum.to_be_bytes());
    write(dir.path().join("train/a.png"), bytes);
    let text = open_dir(dir.path(), Split::Train).unwrap_err().to_string();
    assert_has(&text, &["a.png: it has 65536 x 65536 pixels, and at most 4096 x 4096 are read"]);
}

/// The checksum of a PNG chunk.
fn flate2_crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}
