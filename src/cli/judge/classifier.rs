//! A classifier as a judge: what it sees in images, measured next to the training images of its data set.

use super::super::args::{DataArgs, DeviceArgs};
use super::super::progress::Busy;
use super::super::trained::{CheckpointArgs, Stored, Trained};
use crate::data::{Binarize, Identity, Images, Levels, Split};
use crate::error::{Error, Result};
use crate::eval::{self, Accuracy, Judged, LEAST, Quality, Reference};
use crate::models::{Family, Model};
use crate::rng::{Stream, words};
use crate::store::Checkpoint;
use rayon::ThreadPool;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;

/// The training and the test images that a classifier judges by.
pub(in crate::cli) struct JudgeData {
    pub train: Arc<Images>,
    pub test: Arc<Images>,
}

/// A classifier on its device, and what it says of its data. All images are binarised in the same way first.
pub(in crate::cli) struct Judge {
    trained: Trained,
    /// The classifier as it reads images that have their levels already.
    reader: Model,
    pub binarisation: Binarize,
    /// The training images as they were opened.
    pub train: Identity,
    /// The test images as they were opened.
    pub test: Identity,
    test_images: Arc<Images>,
    pub reference: Reference,
    /// On the test images.
    pub accuracy: Accuracy,
    pool: ThreadPool,
}

/// Reads the checkpoint of a classifier.
///
/// # Errors
/// If it cannot be read or is that of another model.
pub(in crate::cli) fn read_classifier(path: &Path) -> Result<Stored> {
    let stored = Stored::read(&CheckpointArgs { checkpoint: path.to_path_buf(), weights: None })?;
    if matches!(stored.model.family, Family::Classifier(_)) {
        return Ok(stored);
    }
    let name = stored.model.config.name();
    Err(Error::Failed(format!("{name} is no classifier; train one, for example by `pixtape train classifier-mnist`")))
}

/// Checks that there are enough images to be judged.
///
/// # Errors
/// If there are fewer than [`LEAST`].
pub(super) fn expect_enough(images: &Images, what: &str) -> Result<()> {
    let n = images.len();
    if n >= LEAST {
        return Ok(());
    }
    Err(Error::Failed(format!("there are {n} {what}, too few to be judged; give at least {LEAST}")))
}

impl JudgeData {
    /// Opens the data set of a classifier, or the one that is named.
    ///
    /// # Errors
    /// If it cannot be opened, does not fit the classifier, or is too small.
    pub fn open(classifier: &Stored, data: &DataArgs) -> Result<JudgeData> {
        let (train, test) = (data.open(classifier, Split::Train)?, data.open(classifier, Split::Test)?);
        for (images, what) in [(&train, "training images"), (&test, "test images")] {
            expect_enough(images, what)?;
        }
        Ok(JudgeData { train, test })
    }
}

impl Judge {
    /// Looks at the training and the test images.
    ///
    /// # Errors
    /// Whatever the device reports.
    pub fn new(classifier: Stored, data: JudgeData, binarisation: Binarize, device: &DeviceArgs) -> Result<Judge> {
        let pool = device.pool()?;
        let mut trained = Trained::of(classifier, device)?;
        let JudgeData { train, test } = data;
        let identities =
            [(&train, Split::Train), (&test, Split::Test)].map(|(images, split)| Identity::of(images, split));
        let seed = trained.stored.model.config.seed;
        let (train, test) = (binarisation.apply_to(&train, seed)?, binarisation.apply_to(&test, seed)?);
        let mut reader = trained.stored.model.clone();
        reader.config.binarize = Binarize::None;
        let of_train = see(&mut trained, &reader, &train, "training images")?;
        let accuracy = see(&mut trained, &reader, &test, "test images")?.accuracy();
        let reference = pool.install(|| Reference::new(train, &of_train));
        let [train, test_identity] = identities;
        Ok(Judge {
            trained,
            reader,
            binarisation,
            train,
            test: test_identity,
            test_images: test,
            reference,
            accuracy,
            pool,
        })
    }

    /// The classifier.
    pub fn stored(&self) -> &Stored {
        &self.trained.stored
    }

    /// The classifier in words.
    pub fn title(&self) -> String {
        let stored = self.stored();
        format!("{} ({}, {} weights)", stored.model.config.name(), stored.origin(), stored.weights.name())
    }

    /// The kind of the device: `cpu`, `cuda` or `wgpu`.
    pub fn device(&self) -> String {
        self.trained.backend.describe().kind
    }

    /// The images as they are judged.
    ///
    /// # Errors
    /// If they cannot be binarised.
    pub fn prepare(&self, images: &Arc<Images>) -> Result<Arc<Images>> {
        self.binarisation.apply_to(images, self.stored().model.config.seed)
    }

    /// What the classifier says of prepared images, which `what` names.
    ///
    /// # Errors
    /// Whatever the device reports.
    pub fn see(&mut self, images: &Arc<Images>, what: &str) -> Result<Judged> {
        see(&mut self.trained, &self.reader, images, what)
    }

    /// Compares prepared images with the training images.
    pub fn measure(&self, images: &Images, judged: &Judged) -> Quality {
        // The device cannot be shared between threads, but the reference can.
        let reference = &self.reference;
        self.pool.install(|| reference.measure(images, judged))
    }

    /// Runs work on the worker threads of the judge.
    pub fn install<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.pool.install(work)
    }

    /// `n` of the test images, or all if there are fewer, prepared. As many as there are samples, so that
    /// all distances have the same bias.
    pub fn test_images(&self, n: usize) -> Arc<Images> {
        if n < self.test_images.len() { Arc::new(self.test_images.sample(n, 0)) } else { self.test_images.clone() }
    }

    /// As many images of independent uniform bytes, prepared.
    ///
    /// # Errors
    /// Never for sound images.
    pub fn noise(&self, n: usize) -> Result<Arc<Images>> {
        let like = &self.test_images;
        let (n, dims) = (n.min(like.len()), like.dims());
        let image = |i: usize| (0..dims).map(move |at| words(0, Stream::Noise, [i as u32, at as u32])[0] as u8);
        let pixels = (0..n).flat_map(image).collect();
        self.prepare(&Arc::new(Images::new("noise", like.size(), pixels, None, Levels::Grey256)?))
    }

    /// A hash of the weights that the classifier judges by, 64 hexadecimal digits: of the name, shape and
    /// values of each tensor in the order of their names. Where the weights have moving averages, these are
    /// hashed.
    pub fn sha256_of_weights(&self) -> String {
        let Stored { model, checkpoint: Checkpoint { tensors, .. }, .. } = self.stored();
        let mut hash = Sha256::new();
        for spec in model.set.specs() {
            let path = &*spec.param.path;
            let average = path.replacen("params/", "ema/", 1);
            let is_read = path.starts_with("params/") || path.starts_with("state/");
            let name = if model.set.find(&average).is_some() { &average } else { path };
            if let (true, Some(tensor)) = (is_read, tensors.get(name)) {
                hash.update(format!("{path} {}\n", tensor.shape));
                tensor.data.iter().for_each(|value| hash.update(value.to_le_bytes()));
            }
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn see(trained: &mut Trained, reader: &Model, images: &Arc<Images>, what: &str) -> Result<Judged> {
    let _busy = Busy::new(&format!("judging {} {what}", images.len()));
    eval::judge(&mut *trained.backend, reader, images.clone())
}
