//! The data sets known by name: what they hold, and what their publishers' files are called.

use std::path::Path;

use super::source::find;

/// A data set known by name.
#[derive(Debug)]
pub struct Set {
    /// Its name on the command line, and of its folder.
    pub name: &'static str,
    /// `[height, width, channels]` of an image.
    pub size: [usize; 3],
    /// Images of each part.
    pub counts: Counts,
    /// Classes; 0 without labels.
    pub classes: usize,
    /// How its files are laid out.
    pub layout: Layout,
    /// Base addresses of public servers, in the order in which they are tried; a file's name follows.
    pub mirrors: &'static [&'static str],
    /// In which form those servers have the files.
    pub served: Served,
    /// Who published it and under which terms, as far as they say.
    pub terms: &'static str,
    /// The publisher's files; none for the set that is drawn, not read.
    pub files: &'static [SetFile],
}

impl Set {
    /// The set of this name.
    pub fn named(name: &str) -> Option<&'static Set> {
        SETS.iter().find(|set| set.name == name)
    }

    /// Whether its items are time series, an observation a row, rather than pictures.
    pub fn is_series(&self) -> bool {
        matches!(self.layout, Layout::Drawn(Drawn::Oscillator | Drawn::Pendulum))
    }

    /// Names of the files that are not in the set's folder in `data_dir`; none where the set can be opened.
    pub fn missing(&self, data_dir: &Path) -> Vec<&'static str> {
        let folder = data_dir.join(self.name);
        self.files.iter().map(|file| file.name).filter(|name| find(&folder, name).is_none()).collect()
    }
}

/// Images of each part of a data set; 0 where its files have no such part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// For training.
    pub train: usize,
    /// For validation.
    pub valid: usize,
    /// For testing.
    pub test: usize,
}

/// How the publishers' servers hold the files of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// Each by itself, with this ending behind its name.
    As(&'static str),
    /// All in one gzipped tar archive of this name.
    Tar(&'static str),
}

/// A file of a data set; it may lie compressed, with `.gz` or `.xz` behind its name.
#[derive(Debug)]
pub struct SetFile {
    /// Its name, unpacked.
    pub name: &'static str,
    /// Its length, unpacked.
    pub bytes: u64,
    /// The SHA-256 of its bytes, unpacked.
    pub sha256: &'static str,
}

/// How the files of a data set are laid out and named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Images and labels in idx files, as MNIST.
    Idx,
    /// Five training files and a test file of records, as CIFAR-10.
    Cifar,
    /// A text file a split, as the fixed binarisation of MNIST.
    Amat,
    /// No files: drawn by this crate.
    Drawn(Drawn),
}

/// What this crate draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// Digits in a random hand.
    Glyphs,
    /// Time series of damped oscillations with noise.
    Oscillator,
    /// Time series of a pendulum under random torques.
    Pendulum,
}

/// Every data set known by name. Lengths and sums are those of the publishers' files, unpacked.
pub const SETS: [Set; 7] = [
    Set {
        name: "mnist",
        size: [28, 28, 1],
        counts: Counts { train: 60_000, valid: 0, test: 10_000 },
        classes: 10,
        layout: Layout::Idx,
        mirrors: &[
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "http://yann.lecun.com/exdb/mnist/",
        ],
        served: Served::As(".gz"),
        terms: "LeCun, Cortes and Burges; the publisher names no licence, redistributors say CC BY-SA 3.0",
        files: &[
            SetFile {
                name: "train-images-idx3-ubyte",
                bytes: 47_040_016,
                sha256: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            },
            SetFile {
                name: "train-labels-idx1-ubyte",
                bytes: 60_008,
                sha256: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            },
            SetFile {
                name: "t10k-images-idx3-ubyte",
                bytes: 7_840_016,
                sha256: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            },
            SetFile {
                name: "t10k-labels-idx1-ubyte",
                bytes: 10_008,
                sha256: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            },
        ],
    },
    Set {
        name: "fashion-mnist",
        size: [28, 28, 1],
        counts: Counts { train: 60_000, valid: 0, test: 10_000 },
        classes: 10,
        layout: Layout::Idx,
        mirrors: &[
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ],
        served: Served::As(".gz"),
        terms: "MIT, copyright 2017 Zalando SE",
        files: &[
            SetFile {
                name: "train-images-idx3-ubyte",
                bytes: 47_040_016,
                sha256: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            },
            SetFile {
                name: "train-labels-idx1-ubyte",
                bytes: 60_008,
                sha256: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            },
            SetFile {
                name: "t10k-images-idx3-ubyte",
                bytes: 7_840_016,
                sha256: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            },
            SetFile {
                name: "t10k-labels-idx1-ubyte",
                bytes: 10_008,
                sha256: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            },
        ],
    },
    Set {
        name: "cifar-10",
        size: [32, 32, 3],
        counts: Counts { train: 50_000, valid: 0, test: 10_000 },
        classes: 10,
        layout: Layout::Cifar,
        mirrors: &["https://www.cs.toronto.edu/~kriz/"],
        served: Served::Tar("cifar-10-binary.tar.gz"),
        terms: "Krizhevsky, Nair and Hinton; no licence named, cite the technical report",
        files: &[
            SetFile {
                name: "data_batch_1.bin",
                bytes: 30_730_000,
                sha256: "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
            },
            SetFile {
                name: "data_batch_2.bin",
                bytes: 30_730_000,
                sha256: "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
            },
            SetFile {
                name: "data_batch_3.bin",
                bytes: 30_730_000,
                sha256: "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
            },
            SetFile {
                name: "data_batch_4.bin",
                bytes: 30_730_000,
                sha256: "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
            },
            SetFile {
                name: "data_batch_5.bin",
                bytes: 30_730_000,
                sha256: "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
            },
            SetFile {
                name: "test_batch.bin",
                bytes: 30_730_000,
                sha256: "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
            },
        ],
    },
    Set {
        name: "binarized-mnist",
        size: [28, 28, 1],
        counts: Counts { train: 50_000, valid: 10_000, test: 10_000 },
        classes: 0,
        layout: Layout::Amat,
        mirrors: &["http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"],
        served: Served::As(""),
        terms: "Larochelle; no licence named, a derivative of MNIST",
        files: &[
            SetFile {
                name: "binarized_mnist_train.amat",
                bytes: 78_400_000,
                sha256: "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
            },
            SetFile {
                name: "binarized_mnist_valid.amat",
                bytes: 15_680_000,
                sha256: "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
            },
            SetFile {
                name: "binarized_mnist_test.amat",
                bytes: 15_680_000,
                sha256: "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
            },
        ],
    },
    Set {
        name: "glyphs",
        size: [28, 28, 1],
        counts: Counts { train: 10_000, valid: 1_000, test: 2_000 },
        classes: 10,
        layout: Layout::Drawn(Drawn::Glyphs),
        mirrors: &[],
        served: Served::As(""),
        terms: "drawn by this program",
        files: &[],
    },
    Set {
        name: "oscillator",
        size: [100, 1, 1],
        counts: Counts { train: 8_000, valid: 1_000, test: 1_000 },
        classes: 0,
        layout: Layout::Drawn(Drawn::Oscillator),
        mirrors: &[],
        served: Served::As(""),
        terms: "drawn by this program",
        files: &[],
    },
    Set {
        name: "pendulum",
        size: [100, 4, 1],
        counts: Counts { train: 8_000, valid: 1_000, test: 1_000 },
        classes: 0,
        layout: Layout::Drawn(Drawn::Pendulum),
        mirrors: &[],
        served: Served::As(""),
        terms: "drawn by this program",
        files: &[],
    },
];
