//! The names under which data sets are common, and the forms that are not read.

use super::{assert_has, notices, read, refusal, write};
use flate2::{Compression, write::GzEncoder};
use pixtape::data::{Split, open};
use std::io::Write;
use std::path::Path;
use tempfile::tempdir;

fn idx_images(count: u32, value: u8) -> Vec<u8> {
    let mut bytes = [2051, count, 2, 3].map(u32::to_be_bytes).concat();
    bytes.resize(16 + 6 * count as usize, value);
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

/// Writes the four files of MNIST, whose names `name` makes of the part and the kind ("images-idx3").
fn write_mnist(folder: &Path, name: impl Fn(&str, &str) -> String) {
    for (part, count, value) in [("train", 12, 50), ("t10k", 3, 90)] {
        for (kind, bytes) in [("images-idx3", idx_images(count, value)), ("labels-idx1", idx_labels(count))] {
            let name = name(part, kind);
            let bytes = if name.ends_with(".gz") { gz(&bytes) } else { bytes };
            write(folder.join(name), bytes);
        }
    }
}

fn batch(label: u8) -> Vec<u8> {
    (0..10).flat_map(|i| [vec![label], vec![i * 20; 3072]].concat()).collect()
}

fn write_cifar(folder: &Path) {
    (1..=5).for_each(|number| write(folder.join(format!("data_batch_{number}.bin")), batch(number)));
    write(folder.join("test_batch.bin"), batch(9));
}

#[test]
fn mnist_is_found_under_its_other_names() {
    let names: [fn(&str, &str) -> String; 6] = [
        |part, kind| format!("{part}-{kind}-ubyte"),
        |part, kind| format!("{part}-{}-ubyte", kind.replace("-idx", ".idx")),
        |part, kind| format!("{part}-{}-ubyte.gz", kind.replace("-idx", ".idx")),
        |part, kind| format!("{part}-{kind}-ubyte/{part}-{kind}-ubyte"),
        |part, kind| format!("{}-{kind}-ubyte", part.replace("t10k", "test")),
        |part, kind| format!("emnist-letters-{}-{kind}-ubyte.gz", part.replace("t10k", "test")),
    ];
    for name in names {
        let dir = tempdir().unwrap();
        write_mnist(dir.path(), name);
        let (train, test) = (read(dir.path(), Split::Train), read(dir.path(), Split::Test));
        let example = name("train", "images-idx3");
        assert_eq!((train.len(), train.image(0)[0], train.height(), train.width()), (12, 50, 2, 3), "{example}");
        assert_eq!((test.len(), test.image(0)[0], test.labels()), (3, 90, Some(&[0, 1, 2][..])), "{example}");
        let expected: &[&str] = if example.starts_with("emnist") {
            &["EMNIST stores its images with rows and columns exchanged; they are read as they are stored"]
        } else {
            &[]
        };
        assert_eq!(notices(&train), expected, "{example}");
    }
}

#[test]
fn a_file_finds_its_labels_under_the_same_kind_of_name() {
    let dir = tempdir().unwrap();
    write_mnist(dir.path(), |part, kind| format!("{part}-{}-ubyte", kind.replace("-idx", ".idx")));
    let images = read(&dir.path().join("train-images.idx3-ubyte"), Split::Train);
    assert_eq!((images.len(), images.labels().map(<[u8]>::len)), (12, Some(12)));
}

#[test]
fn known_sets_are_found_in_the_folders_of_other_programs() {
    let count = |dir: &Path, set: &str| open(set, Split::Test, Some(dir)).map(|images| images.len());
    for folder in ["mnist", "MNIST/raw", "mnist/raw"] {
        let dir = tempdir().unwrap();
        write_mnist(&dir.path().join(folder), |part, kind| format!("{part}-{kind}-ubyte"));
        assert_eq!(count(dir.path(), "mnist").unwrap(), 3, "{folder}");
    }
    for folder in ["cifar-10", "cifar-10-batches-bin", "cifar-10/cifar-10-batches-bin"] {
        let dir = tempdir().unwrap();
        write_cifar(&dir.path().join(folder));
        assert_eq!(count(dir.path(), "cifar-10").unwrap(), 10, "{folder}");
    }
    // The folder of the set's own name comes first.
    let dir = tempdir().unwrap();
    write_mnist(&dir.path().join("mnist"), |part, kind| format!("{part}-{kind}-ubyte"));
    write(dir.path().join("MNIST/raw/t10k-images-idx3-ubyte"), "damaged");
    assert_eq!(count(dir.path(), "mnist").unwrap(), 3);
}

#[test]
fn the_python_version_of_cifar_is_named() {
    let dir = tempdir().unwrap();
    let folder = dir.path().join("cifar-10-batches-py");
    ["data_batch_1", "data_batch_2", "test_batch", "batches.meta"]
        .iter()
        .for_each(|name| write(folder.join(name), "x"));
    let parts = ["cifar-10-batches-py: it is the Python version of CIFAR-10", "`pixtape data fetch cifar-10`"];
    assert_has(&refusal(&folder, Split::Train), &parts);
    assert_has(&open("cifar-10", Split::Train, Some(dir.path())).unwrap_err().to_string(), &parts);
}

#[test]
fn forms_that_are_not_read_are_named_with_what_to_do() {
    let dir = tempdir().unwrap();
    write(dir.path().join("kaggle/mnist_train.csv"), "5,0,0");
    let parts = ["mnist_train.csv: it is a table (CSV), as Kaggle stores MNIST, which is not read", "data fetch mnist"];
    assert_has(&refusal(&dir.path().join("kaggle"), Split::Train), &parts);
    assert_has(&refusal(&dir.path().join("kaggle/mnist_train.csv"), Split::Train), &parts);
    for (name, part) in [
        ("kmnist-train-imgs.npz", "array of NumPy"),
        ("a.zip", "unpack it"),
        ("x.tar.gz", "unpack it"),
        ("mnist.pkl.gz", "pickle"),
        ("b.png", "give the folder"),
    ] {
        write(dir.path().join(name), "x");
        assert_has(&refusal(&dir.path().join(name), Split::Train), &[name, part]);
    }
    // Tables next to images are left out, which is said.
    super::png(dir.path().join("mixed/train/a.png"), 3);
    write(dir.path().join("mixed/train.csv"), "name,label");
    let images = read(&dir.path().join("mixed"), Split::Train);
    assert_eq!(notices(&images)[1..], ["left out: 1 csv file"]);
}

#[test]
fn a_folder_above_or_with_several_sets_says_which_to_give() {
    let dir = tempdir().unwrap();
    let usual = |part: &str, kind: &str| format!("{part}-{kind}-ubyte");
    write_mnist(&dir.path().join("above/MNIST/raw"), usual);
    let better = dir.path().join("above/MNIST/raw");
    let give = format!("give that folder: {}", better.display());
    assert_has(&refusal(&dir.path().join("above"), Split::Train), &[&give]);
    assert_has(&refusal(&dir.path().join("above/MNIST"), Split::Train), &[&give]);
    assert_eq!(read(&better, Split::Train).len(), 12);
    let both = dir.path().join("both");
    write_mnist(&both, |part, kind| format!("emnist-letters-{part}-{kind}-ubyte"));
    write_mnist(&both, |part, kind| format!("emnist-digits-{part}-{kind}-ubyte"));
    let text = refusal(&both, Split::Train);
    assert_has(&text, &["the files of several data sets: emnist-digits, emnist-letters", "a folder of its own"]);
    let mixed = dir.path().join("mixed");
    write_mnist(&mixed, usual);
    write_cifar(&mixed);
    assert_has(&refusal(&mixed, Split::Train), &["several data sets: MNIST's names, CIFAR-10"]);
}

#[test]
fn what_else_is_in_a_folder_of_data_files_is_said() {
    let dir = tempdir().unwrap();
    write_cifar(dir.path());
    write(dir.path().join("batches.meta.txt"), "airplane");
    super::png(dir.path().join("a.png"), 1);
    assert_eq!(notices(&read(dir.path(), Split::Test)), ["left out: 1 image file, 1 txt file"]);
}

#[test]
fn bytes_after_the_end_of_data_files_are_errors() {
    let dir = tempdir().unwrap();
    let labels = dir.path().join("train-labels-idx1-ubyte");
    write(dir.path().join("train-images-idx3-ubyte"), idx_images(12, 1));
    let text = |bytes: &[u8]| {
        write(&labels, bytes);
        refusal(dir.path(), Split::Train)
    };
    assert_has(&text(&[&idx_labels(12)[..], &[1]].concat()), &["train-labels-idx1-ubyte: more bytes follow"]);
    assert_has(
        &text(&[&gz(&idx_labels(12))[..], b"bytes after the end"].concat()),
        &["train-labels-idx1-ubyte: its gzip data are"],
    );
    assert_has(&text(&idx_labels(13)), &["it has 13 labels", "has 12 images"]);
    let cifar = dir.path().join("train.bin");
    write(&cifar, [batch(1), vec![1]].concat());
    assert_has(&refusal(&cifar, Split::Train), &["train.bin: it ends 1 bytes into record 10"]);
}
