//! Batches of images as an endless sequence. The sequence depends only on the images, the options and the
//! seed, and can be resumed at any position.
//!
//! [`Batches`] is the sequence, [`BatchOptions`] its settings, [`Batch`] one element of it, and
//! [`Cursor`] a position in it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::augment::Augment;
use super::binarize::Binarize;
use super::images::{Images, Levels};
use super::reduction::Reduction;
use crate::backend::Feed;
use crate::rng::{Stream, words};
use crate::shape::ImageSize;
use crate::tape::plan::Plan;
use crate::tape::{InputRole, InputSpec};
use crate::{Error, Result};

/// The order in which an epoch visits the images, and what happens to its last, incomplete batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// For training: a new permutation in every epoch. Images that do not fill a batch are left out of
    /// the epoch.
    Shuffled,
    /// For evaluation: the order of the file. The last batch of an epoch may be smaller.
    InOrder,
}

/// The range of numbers that pixel levels are mapped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// 0 to 1.
    Unit,
    /// -1 to 1, for a generator that ends in tanh.
    Symmetric,
}

impl Range {
    /// A value of this range as a byte: the lower end is 0, the upper end is 255. Values outside are
    /// clipped.
    pub(crate) fn to_byte(self, value: f32) -> u8 {
        let (lowest, highest) = match self {
            Range::Unit => (0.0, 1.0),
            Range::Symmetric => (-1.0, 1.0),
        };
        (((value - lowest) / (highest - lowest)).clamp(0.0, 1.0) * 255.0).round() as u8
    }
}

/// Settings of a sequence of batches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchOptions {
    /// Images per batch, at least 1.
    pub batch: usize,
    /// Seed of the order and of dynamic binarisation.
    pub seed: u32,
    /// The order of the images.
    pub order: Order,
    /// How the images are binarised.
    pub binarize: Binarize,
    /// Range of [`Batch::pixels`].
    pub range: Range,
    /// Pads every image to this size. The image is centred and the padding is level 0 (MNIST is padded to
    /// 32 x 32 for a GAN).
    pub pad_to: Option<ImageSize>,
    /// How the images are changed at random in every epoch.
    pub augment: Augment,
    /// Also computes a reduced version of each image, for a model that is conditioned on it.
    pub reduction: Option<Reduction>,
}

impl BatchOptions {
    /// Shuffled batches of `batch` images with values in 0 to 1, neither binarised nor padded nor
    /// augmented.
    pub fn new(batch: usize, seed: u32) -> BatchOptions {
        let (order, range) = (Order::Shuffled, Range::Unit);
        let (binarize, augment) = (Binarize::None, Augment::default());
        BatchOptions { batch, seed, order, binarize, range, pad_to: None, augment, reduction: None }
    }
}

/// One batch. Its vectors are reused for later batches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The epoch that the batch belongs to, counted from 0.
    pub epoch: u32,
    /// Index of each image in its [`Images`], `[n]`.
    pub indices: Vec<u32>,
    /// Pixel values in the chosen range, `[n, height, width, channels]`.
    pub pixels: Vec<f32>,
    /// The same pixels as integer levels (0 to 255, or 0 and 1); `pixels` is computed from them.
    pub levels: Vec<u32>,
    /// Labels, `[n]`. Empty if the data set has none.
    pub labels: Vec<u32>,
    /// Reduced images with values in 0 to 1, `[n, height', width', channels']`. Empty if none are
    /// requested.
    pub reduced: Vec<f32>,
}

impl Batch {
    /// What a plan that reads images is fed: pixels, labels and reduced images, in the order of its inputs.
    ///
    /// Panics if the plan has an input without a role: a bug in a program.
    pub fn feeds(&self, plan: &Plan) -> Vec<Feed<'_>> {
        BatchFeeds { images: &self.pixels, labels: &self.labels, reduced: &self.reduced }.in_order(&plan.inputs)
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether it holds no image, as before it is first written.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }
}

/// The values for the inputs that are fed from a batch of images, by their role. Values that no input needs
/// are ignored.
#[derive(Clone, Copy, Debug)]
pub struct BatchFeeds<'a> {
    /// For [`InputRole::Images`].
    pub images: &'a [f32],
    /// For [`InputRole::Labels`].
    pub labels: &'a [u32],
    /// For [`InputRole::Reduced`].
    pub reduced: &'a [f32],
}

impl<'a> BatchFeeds<'a> {
    /// The values in the order of a plan's inputs.
    ///
    /// # Panics
    /// If an input has no role.
    #[doc(hidden)]
    pub fn in_order(&self, inputs: &[InputSpec]) -> Vec<Feed<'a>> {
        let feed = |input: &InputSpec| match input.role {
            Some(InputRole::Images) => Feed::F32(self.images),
            Some(InputRole::Labels) => Feed::U32(self.labels),
            Some(InputRole::Reduced) => Feed::F32(self.reduced),
            None => panic!("a batch of images has nothing to feed the input {:?}", input.name),
        };
        inputs.iter().map(feed).collect()
    }
}

/// A position in the sequence of batches. Checkpoints store it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The epoch, counted from 0.
    pub epoch: u32,
    /// How many images of this epoch the earlier batches have taken.
    pub position: u32,
}

/// An endless, deterministic sequence of batches over [`Images`].
pub struct Batches {
    images: Arc<Images>,
    options: BatchOptions,
    levels: Levels,
    /// The size of an image in a batch, padding included.
    size: ImageSize,
    values: [f32; 256],
    cursor: Cursor,
    /// The order of the images in epoch `ordered`. It is computed when a batch of that epoch is first
    /// requested.
    order: Vec<u32>,
    ordered: Option<u32>,
    scratch: Vec<u8>,
    /// One image before it is augmented.
    unchanged: Vec<u32>,
}

impl Batches {
    /// The sequence from its beginning.
    ///
    /// # Errors
    /// If a batch has 0 images, if a shuffled batch is larger than the data set, if the padded size is
    /// smaller than the images or has other colours, or if a binary data set is to be binarised dynamically.
    pub fn new(images: Arc<Images>, options: BatchOptions) -> Result<Batches> {
        if options.batch == 0 {
            return Err(Error::Usage("a batch of 0 images trains nothing; choose a batch of at least 1".into()));
        }
        if options.order == Order::Shuffled && options.batch > images.len() {
            return Err(Error::Failed(format!(
                "{} has {} images, too few for one batch of {}; choose a smaller batch",
                images.name(),
                images.len(),
                options.batch
            )));
        }
        let levels = options.binarize.levels(&images)?;
        let size = match options.pad_to {
            None => images.size(),
            Some(size) if can_be_padded(images.size(), size) => size,
            Some(size) => {
                let (name, have) = (images.name(), images.size());
                return Err(Error::Failed(format!(
                    "the images of {name} are {have} and cannot be padded to {size}; choose a larger size"
                )));
            }
        };
        let values = std::array::from_fn(|level| {
            let unit = level as f32 / f32::from(levels.max());
            match options.range {
                Range::Unit => unit,
                Range::Symmetric => unit * 2.0 - 1.0,
            }
        });
        let (scratch, unchanged) = (vec![0; images.dims()], vec![0; size.dims()]);
        let (cursor, order, ordered) = (Cursor::default(), Vec::new(), None);
        Ok(Batches { images, options, levels, size, values, cursor, order, ordered, scratch, unchanged })
    }

    /// The images that the batches are made of.
    pub(crate) fn images(&self) -> &Arc<Images> {
        &self.images
    }

    /// The settings of the sequence.
    pub(crate) fn options(&self) -> &BatchOptions {
        &self.options
    }

    /// The size of an image in a batch, padding included.
    #[doc(hidden)]
    pub fn size(&self) -> ImageSize {
        self.size
    }

    /// Batches per epoch.
    pub fn per_epoch(&self) -> usize {
        match self.options.order {
            Order::Shuffled => self.images.len() / self.options.batch,
            Order::InOrder => self.images.len().div_ceil(self.options.batch),
        }
    }

    /// The position of the next batch.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Continues at `cursor`, which [`Batches::cursor`] returned. The following batches have the same
    /// bits as in a sequence that was never interrupted.
    ///
    /// # Errors
    /// If no batch of this sequence begins at `cursor`: it belongs to another data set or batch size.
    pub fn seek(&mut self, cursor: Cursor) -> Result<()> {
        let position = cursor.position as usize;
        let batch = self.options.batch;
        if !position.is_multiple_of(batch) || position / batch >= self.per_epoch() {
            return Err(Error::Failed(format!(
                "no batch of {batch} begins at image {position} of {}; resume with the data set and batch size of the run",
                self.images.name()
            )));
        }
        self.cursor = cursor;
        Ok(())
    }

    /// Writes the next batch into `batch`, reusing its memory.
    pub(crate) fn next_into(&mut self, batch: &mut Batch) {
        self.order_epoch();
        let start = self.cursor.position as usize;
        let end = (start + self.options.batch).min(self.images.len());
        batch.epoch = self.cursor.epoch;
        batch.indices.clear();
        batch.indices.extend_from_slice(&self.order[start..end]);
        batch.labels.clear();
        if let Some(labels) = self.images.labels() {
            batch.labels.extend(batch.indices.iter().map(|&index| u32::from(labels[index as usize])));
        }
        let dims = self.size.dims();
        // The padding must be level 0, whatever the reused batch held before.
        batch.levels.clear();
        batch.levels.resize(batch.indices.len() * dims, 0);
        for (levels, &index) in batch.levels.chunks_exact_mut(dims).zip(&batch.indices) {
            self.options.binarize.apply(
                &self.images,
                index as usize,
                self.options.seed,
                self.cursor.epoch,
                &mut self.scratch,
            );
            place(&self.scratch, &self.images, self.size, levels);
            if self.options.augment.is_active() {
                let change = self.options.augment.draw(self.options.seed, self.cursor.epoch, index);
                self.unchanged.copy_from_slice(levels);
                change.apply(&self.unchanged, self.size, levels);
            }
        }
        batch.reduced.clear();
        if let Some(reduction) = self.options.reduction {
            let top = u32::from(self.levels.max());
            for image in batch.levels.chunks_exact(dims) {
                let reduced = reduction.apply(image, self.size, top);
                batch.reduced.extend(reduced.into_iter().map(|byte| f32::from(byte) / 255.0));
            }
        }
        batch.pixels.clear();
        batch.pixels.extend(batch.levels.iter().map(|&level| self.values[level as usize]));
        self.advance(end);
    }

    /// Returns the next batch in newly allocated memory.
    pub fn next_batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        self.next_into(&mut batch);
        batch
    }

    /// Moves the cursor past image `end`, or to the next epoch if no further batch begins in this one.
    fn advance(&mut self, end: usize) {
        if end / self.options.batch >= self.per_epoch() || end == self.images.len() {
            self.cursor = Cursor { epoch: self.cursor.epoch + 1, position: 0 };
        } else {
            self.cursor.position = end as u32;
        }
    }

    /// Fills `order` with the order of the cursor's epoch. A permutation sorts the images by one random
    /// 64-bit key per image: that is unbiased, and the permutation of an epoch can be computed without
    /// those of the epochs before it.
    fn order_epoch(&mut self) {
        let epoch = self.cursor.epoch;
        let known = self.ordered == Some(epoch) || (self.options.order == Order::InOrder && self.ordered.is_some());
        if known {
            return;
        }
        let count = self.images.len() as u32;
        self.order.clear();
        self.order.extend(0..count);
        if self.options.order == Order::Shuffled {
            let seed = self.options.seed;
            let key = |&index: &u32| (words(seed, Stream::Shuffle, [epoch, index]), index);
            self.order.sort_by_cached_key(key);
        }
        self.ordered = Some(epoch);
    }
}

/// Whether images of this size fit into padded ones of size `to`.
fn can_be_padded(size: ImageSize, to: ImageSize) -> bool {
    size.height <= to.height && size.width <= to.width && size.channels == to.channels
}

/// Copies one image into the middle of a padded one.
fn place(image: &[u8], images: &Images, padded: ImageSize, out: &mut [u32]) {
    let ImageSize { height, width, channels } = images.size();
    let (top, left) = ((padded.height - height) / 2, (padded.width - width) / 2);
    let row = width * channels;
    for y in 0..height {
        let start = ((top + y) * padded.width + left) * channels;
        let target = &mut out[start..start + row];
        target.iter_mut().zip(&image[y * row..]).for_each(|(to, &from)| *to = u32::from(from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(count: usize) -> Arc<Images> {
        let pixels = (0..count * 4).map(|i| (i % 256) as u8).collect();
        let labels = (0..count).map(|i| (i % 10) as u8).collect();
        Arc::new(Images::new("test", [2, 2, 1], pixels, Some(labels), Levels::Grey256).unwrap())
    }

    #[test]
    fn an_epoch_visits_every_image_once_and_the_next_one_in_another_order() {
        let mut batches = Batches::new(images(40), BatchOptions::new(8, 1)).unwrap();
        let mut epochs = [Vec::new(), Vec::new()];
        for step in 0..10 {
            let batch = batches.next_batch();
            assert_eq!(batch.epoch as usize, step / 5);
            for (&index, &label) in batch.indices.iter().zip(&batch.labels) {
                assert_eq!(index % 10, label);
            }
            for (at, &index) in batch.indices.iter().enumerate() {
                assert_eq!(batch.levels[at * 4], index * 4 % 256);
                assert_eq!(batch.pixels[at * 4], (index * 4 % 256) as f32 / 255.0);
            }
            epochs[step / 5].extend(batch.indices);
        }
        assert_ne!(epochs[0], epochs[1]);
        for mut epoch in epochs {
            epoch.sort_unstable();
            assert_eq!(epoch, (0..40).collect::<Vec<_>>());
        }
    }

    #[test]
    fn training_drops_the_incomplete_batch_and_evaluation_keeps_it() {
        let mut training = Batches::new(images(10), BatchOptions::new(4, 1)).unwrap();
        assert_eq!(training.per_epoch(), 2);
        let lengths: Vec<_> = (0..3).map(|_| training.next_batch()).map(|b| (b.epoch, b.len())).collect();
        assert_eq!(lengths, [(0, 4), (0, 4), (1, 4)]);

        let options = BatchOptions { order: Order::InOrder, ..BatchOptions::new(4, 1) };
        let mut evaluation = Batches::new(images(10), options).unwrap();
        assert_eq!(evaluation.per_epoch(), 3);
        let lengths: Vec<_> = (0..4).map(|_| evaluation.next_batch()).map(|b| (b.epoch, b.len())).collect();
        assert_eq!(lengths, [(0, 4), (0, 4), (0, 2), (1, 4)]);
        assert_eq!(evaluation.next_batch().indices, [4, 5, 6, 7]);
    }

    #[test]
    fn resuming_at_any_cursor_gives_the_same_bits() {
        let options = BatchOptions { binarize: Binarize::Dynamic, ..BatchOptions::new(7, 3) };
        let mut whole = Batches::new(images(30), options).unwrap();
        for _ in 0..11 {
            let cursor = whole.cursor();
            let mut resumed = Batches::new(images(30), options).unwrap();
            resumed.seek(cursor).unwrap();
            assert_eq!(whole.next_batch(), resumed.next_batch());
            assert_eq!(whole.cursor(), resumed.cursor());
        }
        assert!(whole.seek(Cursor { epoch: 0, position: 3 }).is_err());
        assert!(whole.seek(Cursor { epoch: 0, position: 28 }).is_err());
    }

    #[test]
    fn augmented_images_change_in_every_epoch_and_resume_with_the_same_bits() {
        let augment = Augment { flip: true, shift: 1 };
        let options = BatchOptions { augment, ..BatchOptions::new(8, 3) };
        let (mut plain, mut batches) =
            (Batches::new(images(40), BatchOptions::new(8, 3)).unwrap(), Batches::new(images(40), options).unwrap());
        let mut changed = 0;
        let mut epochs = [vec![], vec![]];
        for step in 0..10 {
            let mut resumed = Batches::new(images(40), options).unwrap();
            resumed.seek(batches.cursor()).unwrap();
            let (batch, unchanged) = (batches.next_batch(), plain.next_batch());
            assert_eq!(batch, resumed.next_batch());
            assert_eq!((&batch.indices, &batch.labels), (&unchanged.indices, &unchanged.labels));
            changed += usize::from(batch.levels != unchanged.levels);
            let of = |at: usize| (batch.indices[at], batch.levels[4 * at..][..4].to_vec());
            epochs[step / 5].extend((0..8).map(of));
        }
        assert_eq!(changed, 10);
        epochs.iter_mut().for_each(|epoch| epoch.sort());
        let same = epochs[0].iter().zip(&epochs[1]).filter(|(a, b)| a == b).count();
        assert!(same < 20, "{same} of 40 images are changed in the same way in both epochs");
    }

    #[test]
    fn padding_is_level_0_around_the_image_and_the_low_end_of_the_range() {
        let options = BatchOptions { range: Range::Symmetric, order: Order::InOrder, ..BatchOptions::new(2, 0) };
        let padded_to = |size: [usize; 3]| BatchOptions { pad_to: Some(size.into()), ..options };
        let options = padded_to([4, 4, 1]);
        let mut batches = Batches::new(images(64), options).unwrap();
        assert_eq!(batches.size(), [4, 4, 1].into());
        let mut batch = Batch { levels: vec![77; 500], pixels: vec![7.0; 500], ..Batch::default() };
        batches.seek(Cursor { epoch: 0, position: 62 }).unwrap();
        batches.next_into(&mut batch);
        assert_eq!(batch.levels[16..], [0, 0, 0, 0, 0, 252, 253, 0, 0, 254, 255, 0, 0, 0, 0, 0]);
        assert_eq!((batch.pixels[16], batch.pixels[26]), (-1.0, 1.0));
        for size in [[1, 1, 1], [1, 4, 1], [4, 1, 1], [4, 4, 3]] {
            assert!(Batches::new(images(3), padded_to(size)).is_err(), "{size:?}");
        }
        // Three rows and five columns: one row below, one column left and two right.
        let mut batches = Batches::new(images(3), padded_to([3, 5, 1])).unwrap();
        assert_eq!(batches.next_batch().levels[..15], [0, 0, 1, 0, 0, 0, 2, 3, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_batch_of_nothing_or_more_than_all_is_refused() {
        assert_eq!(Batches::new(images(5), BatchOptions::new(0, 0)).err().map(|e| e.exit_code()), Some(2));
        assert!(Batches::new(images(5), BatchOptions::new(6, 0)).is_err());
        let options = BatchOptions { order: Order::InOrder, ..BatchOptions::new(6, 0) };
        assert_eq!(Batches::new(images(5), options).unwrap().next_batch().len(), 5);
    }
}
