//! The identity of a set of images: what it is called, and a hash of what it contains.
//!
//! A name says where images were found, not what they are. Results therefore carry an [`Identity`], and
//! only results with equal hashes are compared. [`publishers_sha256`] lists the hashes of the data sets
//! that literature reports results on.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::images::{Images, Split};

/// The first bytes that are hashed, so that a later rule gives other hashes.
const RULE: &[u8] = b"pixtape images 1\n";

/// The number of hexadecimal digits of a hash that are printed.
const SHOWN: usize = 12;

/// Which images a result belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The name of the data set: a known name, or the last part of its path.
    pub name: String,
    /// The name of the split.
    pub split: String,
    /// Number of images.
    pub count: usize,
    /// The hash of the content, [`Images::sha256`].
    pub sha256: String,
}

impl Identity {
    /// The identity of images that are the split `split` of their data set, or a selection from it.
    pub fn of(images: &Images, split: Split) -> Identity {
        Identity {
            name: images.name().to_string(),
            split: split.name().to_string(),
            count: images.len(),
            sha256: images.sha256(),
        }
    }

    /// The hash as it is printed.
    pub(crate) fn short(&self) -> &str {
        short(&self.sha256)
    }

    /// As JSON, for metadata.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and a number are valid JSON")
    }

    /// Whether the name is that of a published data set, but the content is another one. The identity must
    /// be that of a whole split.
    pub(crate) fn is_impostor(&self) -> bool {
        let published = self.split.parse().ok().and_then(|split| publishers_sha256(&self.name, split));
        published.is_some_and(|expected| expected != self.sha256)
    }

    /// The warning about images that are not what their name says ([`Identity::is_impostor`]).
    pub(crate) fn impostor_warning(&self) -> String {
        format!(
            "the files of {self}, are not those of the publisher of {}; nothing is ranked among published results",
            self.name
        )
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, {} images, content {}", self.name, self.split, self.count, self.short())
    }
}

/// The part of a hash that is printed.
pub(crate) fn short(sha256: &str) -> &str {
    sha256.get(..SHOWN).unwrap_or(sha256)
}

impl Images {
    /// The SHA-256 hash of the content, as 64 hexadecimal digits. It covers the size of an image, the
    /// number of levels, the number of images, all pixels, all labels, and the names of the classes in
    /// order. The name of the data set and the places of its files do not matter.
    #[doc(hidden)]
    pub fn sha256(&self) -> String {
        if let Some(known) = self.opened_as() {
            return known.to_string();
        }
        let mut hash = Sha256::new();
        let number = |hash: &mut Sha256, n: usize| hash.update((n as u64).to_le_bytes());
        hash.update(RULE);
        for n in [self.height(), self.width(), self.channels(), self.levels().count(), self.len()] {
            number(&mut hash, n);
        }
        hash.update(self.pixels());
        match self.labels() {
            Some(labels) => {
                hash.update([1]);
                hash.update(labels);
            }
            None => hash.update([0]),
        }
        let names = self.class_names().unwrap_or_default();
        number(&mut hash, names.len());
        for name in names {
            number(&mut hash, name.len());
            hash.update(name);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The hash of a split of a data set as it was published ([`Images::sha256`]); `None` if there are no
/// published files of this name.
#[doc(hidden)]
pub fn publishers_sha256(name: &str, split: Split) -> Option<&'static str> {
    let found = PUBLISHED.iter().find(|known| known.name == name && known.split == split);
    found.map(|known| known.sha256)
}

/// The content of a split of a published data set.
struct Published {
    name: &'static str,
    split: Split,
    sha256: &'static str,
}

const fn published(name: &'static str, split: Split, sha256: &'static str) -> Published {
    Published { name, split, sha256 }
}

/// Computed from the files whose checksums are in [`SETS`](super::SETS); `tests/data_real.rs` computes them
/// again.
const PUBLISHED: [Published; 16] = [
    published("mnist", Split::Train, "22153967fc0c3f8d894a1a186b4cd448291f3b5d3d540ca951c4b7c7afcee868"),
    published("mnist", Split::Fit, "c9ec2de0669d7858537fdd2a926b8cf3e602f869a766909f1e4d9809b9c01041"),
    published("mnist", Split::Valid, "1f1c0b908710e2d93728719f275d6bb2f28edff892609320b931f863c47ee810"),
    published("mnist", Split::Test, "4d56c8384cd4db86b34fbe450fad1801de930fba5e90cc433d74229b94f61154"),
    published("fashion-mnist", Split::Train, "3ed8a400c4e6583d07c1b2ab5e076f1e7284535273401323a826259a1488cf06"),
    published("fashion-mnist", Split::Fit, "0104fa77c6ef43050779480116b2e07d84c9e5cec0acf073573e36d372accbec"),
    published("fashion-mnist", Split::Valid, "6cf0d866c00417a8dd46b2a75fa7aac878a3ed294eac222105c146b45ce2853e"),
    published("fashion-mnist", Split::Test, "90b13fccf2fa74ebfc3cc1042dc083cae4d61ebc62242860e47552dde4bbc1e2"),
    published("cifar-10", Split::Train, "6efd738aaa9ed9337cbb45d148c1afc4c63ff576be74804a3fc17122bc59cea4"),
    published("cifar-10", Split::Fit, "fc7bb980b6772a3222a391726ec4e3add7219d7a310ab59c6e864a2be5b166aa"),
    published("cifar-10", Split::Valid, "97ffd09e11aac95a7320f5d28e4e98df5d8919005fd0baae72d3e29fcb8dc164"),
    published("cifar-10", Split::Test, "d828c5d71a7b001ca4501eb742be5f630951c5692f07636b897a32c8f5818fd0"),
    published("binarized-mnist", Split::Train, "c07d2cc5eaa12d58f32e2476b863bcdb1e67a08a716d3bcf258200844036a57b"),
    published("binarized-mnist", Split::Fit, "c07d2cc5eaa12d58f32e2476b863bcdb1e67a08a716d3bcf258200844036a57b"),
    published("binarized-mnist", Split::Valid, "20c52371db704670e6722cc2df8feba3754bb50a5c3b21433ca101987e7eeffd"),
    published("binarized-mnist", Split::Test, "d8ef74a803737ddd1711807dc0deff3675e1a368c2c59205dd9c381aff7b6959"),
];
