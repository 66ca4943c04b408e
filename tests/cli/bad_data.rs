//! Data sets that are damaged in various ways: one sentence, exit code 1.

use super::{Place, draw_colour_folder};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;

/// An idx file: magic number, sizes, then bytes.
fn idx(magic: u32, sizes: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = magic.to_be_bytes().to_vec();
    sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
    bytes.extend(data);
    bytes
}

fn images(count: u32) -> Vec<u8> {
    let data: Vec<u8> = (0..count * 784).map(|i| (i * 31 % 251) as u8).collect();
    idx(0x803, &[count, 28, 28], &data)
}

fn labels(count: u32) -> Vec<u8> {
    idx(0x801, &[count], &(0..count).map(|i| (i % 10) as u8).collect::<Vec<u8>>())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Writes a training set in the files of MNIST and runs two commands that read it.
fn refuse_idx(images_name: &str, images: &[u8], labels: &[u8], parts: &[&str]) {
    let place = Place::new();
    place.write(&format!("set/{images_name}"), images);
    place.write("set/train-labels-idx1-ubyte", labels);
    place.refused(1, "data show set", parts);
    place.refused(1, "train vae-mnist --data set --out run", parts);
    assert!(!place.path("run").exists());
}

#[test]
fn a_sound_set_is_read() {
    let place = Place::new();
    place.write("set/train-images-idx3-ubyte.gz", &gzip(&images(60)));
    place.write("set/train-labels-idx1-ubyte", &labels(60));
    let shown = place.json("data show set");
    assert_eq!((&shown["images"], &shown["per_class"][9]), (&60.into(), &6.into()));
}

#[test]
fn compressed_files_cut_short_or_damaged() {
    let whole = gzip(&images(60));
    refuse_idx("train-images-idx3-ubyte.gz", &whole[..whole.len() / 2], &labels(60), &["train-images"]);
    refuse_idx("train-images-idx3-ubyte.gz", &whole[..whole.len() - 4], &labels(60), &["train-images"]);
    refuse_idx("train-images-idx3-ubyte.gz", &whole[..5], &labels(60), &["train-images"]);
    for at in [2, whole.len() / 3, whole.len() / 2, whole.len() - 6] {
        let mut damaged = whole.clone();
        damaged[at..at + 2].iter_mut().for_each(|byte| *byte ^= 0x5a);
        refuse_idx("train-images-idx3-ubyte.gz", &damaged, &labels(60), &["train-images"]);
    }
    refuse_idx("train-images-idx3-ubyte.gz", b"", &labels(60), &["train-images"]);
}

#[test]
fn headers_that_lie() {
    let plain = "train-images-idx3-ubyte";
    refuse_idx(plain, &idx(0x802, &[60, 28, 28], &[0; 60 * 784]), &labels(60), &["train-images"]);
    refuse_idx(plain, b"PK\x03\x04 not an idx file at all", &labels(60), &["train-images"]);
    refuse_idx(plain, &idx(0x803, &[u32::MAX, u32::MAX, u32::MAX], &[0; 100]), &labels(60), &["train-images"]);
    refuse_idx(plain, &idx(0x803, &[1_000_000, 28, 28], &[0; 784]), &labels(60), &["train-images"]);
    refuse_idx(plain, &idx(0x803, &[0, 28, 28], &[]), &labels(0), &["train-images"]);
    refuse_idx(plain, &idx(0x803, &[60, 0, 28], &[]), &labels(60), &["train-images"]);
    refuse_idx(plain, &images(60)[..20_000], &labels(60), &["train-images"]);
    refuse_idx(plain, &images(60)[..7], &labels(60), &["train-images"]);
    let mut longer = images(60);
    longer.push(0);
    refuse_idx(plain, &longer, &labels(60), &["train-images"]);
    refuse_idx(plain, &gzip(&idx(0x803, &[u32::MAX, 28, 28], &[0; 784])), &labels(60), &["train-images"]);
}

#[test]
fn images_and_labels_that_do_not_belong_together() {
    refuse_idx("train-images-idx3-ubyte", &images(60), &labels(59), &["59 labels", "60 images"]);
    refuse_idx("train-images-idx3-ubyte", &images(60), &labels(60)[..30], &["train-labels"]);
    refuse_idx("train-images-idx3-ubyte", &images(60), &images(60), &["train-labels"]);
    let place = Place::new();
    place.write("set/train-images-idx3-ubyte", &images(60));
    place.refused(1, "data show set", &["train-labels-idx1-ubyte is missing"]);
}

#[test]
fn text_files_with_something_else_than_zeros_and_ones() {
    let place = Place::new();
    let row = |bit: &str| vec![bit; 784].join(" ");
    let good = format!("{}\n{}\n", row("0"), row("1"));
    place.write("good.amat", good.repeat(40).as_bytes());
    assert_eq!(place.json("data show good.amat --split train")["levels"], 2);
    let letter = good.replacen("0 0 0", "0 x 0", 1);
    let short = good.replacen("0 0 0", "0 0", 1);
    for (name, text) in
        [("letter", letter.as_str()), ("short", &short), ("empty", ""), ("two", &good.replace('1', "2"))]
    {
        place.write(&format!("{name}.amat"), text.as_bytes());
        place.refused(1, &format!("data show {name}.amat"), &[&format!("{name}.amat")]);
        place.write(&format!("{name}.amat.gz"), &gzip(text.as_bytes()));
        place.refused(1, &format!("data show {name}.amat.gz"), &[&format!("{name}.amat.gz")]);
    }
}

#[test]
fn colour_files_of_the_wrong_length_or_with_impossible_labels() {
    let place = Place::new();
    let mut record = vec![3];
    record.resize(3073, 100);
    place.write("train.bin", &record.repeat(20));
    assert_eq!(place.json("data show train.bin")["images"], 20);
    place.write("cut_train.bin", &record.repeat(20)[..50_000]);
    place.refused(1, "data show cut_train.bin", &["cut_train.bin"]);
    place.write("empty_train.bin", b"");
    place.refused(1, "data show empty_train.bin", &["empty_train.bin"]);
}

#[test]
fn folders_without_pictures_or_with_odd_ones() {
    let place = Place::new();
    std::fs::create_dir(place.path("empty")).unwrap();
    place.refused(1, "data show empty", &["empty"]);
    place.write("texts/a.txt", b"no picture");
    place.refused(1, "train dcgan-cifar --data texts", &["texts"]);
    draw_colour_folder(&place);
    image::RgbImage::new(31, 32).save(place.path("colour/odd.png")).unwrap();
    place.refused(1, "train dcgan-cifar --data colour", &["colour"]);
    std::fs::remove_file(place.path("colour/odd.png")).unwrap();
    place.write("colour/torn.png", b"\x89PNG\r\n\x1a\n torn");
    place.refused(1, "data show colour", &["torn.png"]);
}

#[test]
fn sets_that_are_absent_or_do_not_fit_the_model() {
    let place = Place::new();
    place.refused(
        1,
        "train gan-mnist --data-dir nowhere",
        &["nowhere/mnist", "pixtape data fetch mnist", "--data-dir"],
    );
    place.refused(1, "train vae-mnist --data ./nowhere", &["./nowhere", "no such file or folder"]);
    draw_colour_folder(&place);
    place.refused(1, "train vae-mnist --data colour --set size=28", &["32x32x3", "28x28x3"]);
    place.refused(2, "train vae-mnist --data glyphs --set binarize=none", &["vae-mnist models binary pixels"]);
    place.refused(1, "data fetch mnist --from http://127.0.0.1:9 --data-dir here", &["mnist"]);
}
