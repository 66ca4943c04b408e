//! Prepares the batches of a [`Batches`] sequence ahead of time in a background thread.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use super::batches::{Batch, Batches, Cursor};
use crate::{Error, Result};

/// How many prepared batches may wait. In total there are three buffers: one in use, one ready, and one
/// being written.
const AHEAD: usize = 1;

/// A source of training batches.
pub trait BatchSource {
    /// The next batch.
    ///
    /// # Errors
    /// If it cannot be prepared.
    fn next_batch(&mut self) -> Result<&Batch>;
}

/// One batch that is returned again and again.
impl BatchSource for Batch {
    fn next_batch(&mut self) -> Result<&Batch> {
        Ok(self)
    }
}

/// A background thread that prepares batches. The buffers are recycled, so nothing is allocated after the
/// first few batches.
pub struct Loader {
    ready: Option<Receiver<(Batch, Cursor)>>,
    used: Option<Sender<Batch>>,
    current: Option<Batch>,
    cursor: Cursor,
    worker: Option<JoinHandle<()>>,
}

impl Loader {
    /// Starts to prepare the batches from the current position of `batches`.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub fn new(batches: Batches) -> Result<Loader> {
        let cursor = batches.cursor();
        let (ready_sender, ready) = sync_channel(AHEAD);
        let (used, used_receiver) = channel();
        let worker = std::thread::Builder::new()
            .name("loader".into())
            .spawn(move || prepare(batches, &ready_sender, &used_receiver))
            .map_err(|error| {
                Error::Failed(format!("could not start the loader thread ({error}); free some memory")).because(error)
            })?;
        Ok(Loader { ready: Some(ready), used: Some(used), current: None, cursor, worker: Some(worker) })
    }

    /// The position of the batch after the last one that was returned. Checkpoints store it. Batches that
    /// were only prepared do not count.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }
}

impl BatchSource for Loader {
    /// The next batch. Waits until it is ready. The previous batch is recycled.
    ///
    /// # Errors
    /// If the thread has died.
    fn next_batch(&mut self) -> Result<&Batch> {
        if let (Some(batch), Some(used)) = (self.current.take(), &self.used) {
            // If the worker has panicked, this fails and the `recv` below reports it.
            let _ = used.send(batch);
        }
        let received = self.ready.as_ref().and_then(|ready| ready.recv().ok());
        let (batch, cursor) = received.ok_or_else(|| {
            Error::Failed("the loader thread stopped while preparing a batch; resume from the last checkpoint".into())
        })?;
        self.cursor = cursor;
        Ok(self.current.insert(batch))
    }
}

/// The background thread: fills recycled batches until the receiver is dropped.
fn prepare(mut batches: Batches, ready: &SyncSender<(Batch, Cursor)>, used: &Receiver<Batch>) {
    loop {
        let mut batch = used.try_recv().unwrap_or_default();
        batches.next_into(&mut batch);
        if ready.send((batch, batches.cursor())).is_err() {
            return;
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // Closing both channels wakes the worker, whatever it waits for.
        self.ready = None;
        self.used = None;
        if let Some(worker) = self.worker.take() {
            // A panic of the worker was reported by `next_batch`, or no longer matters.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::data::{BatchOptions, Binarize, Images, Levels};

    fn batches() -> Batches {
        let pixels = (0..50 * 16).map(|i| (i * 7 % 256) as u8).collect();
        let images = Images::new("test", [4, 4, 1], pixels, None, Levels::Grey256).unwrap();
        let options = BatchOptions { binarize: Binarize::Dynamic, ..BatchOptions::new(8, 5) };
        Batches::new(Arc::new(images), options).unwrap()
    }

    #[test]
    fn background_and_foreground_give_the_same_batches_and_cursors() {
        let mut foreground = batches();
        let mut background = Loader::new(batches()).unwrap();
        for _ in 0..25 {
            assert_eq!(background.cursor(), foreground.cursor());
            assert_eq!(*background.next_batch().unwrap(), foreground.next_batch());
        }
        let mut resumed = batches();
        resumed.seek(background.cursor()).unwrap();
        assert_eq!(Loader::new(resumed).unwrap().next_batch().unwrap(), background.next_batch().unwrap());
    }

    #[test]
    fn buffers_go_round() {
        let mut loader = Loader::new(batches()).unwrap();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..200 {
            seen.insert(loader.next_batch().unwrap().pixels.as_ptr() as usize);
            std::thread::sleep(std::time::Duration::from_micros(50));
        }
        assert!(seen.len() <= AHEAD + 3, "{} buffers for 200 batches", seen.len());
    }

    #[test]
    fn dropping_it_ends_the_thread_at_any_moment() {
        drop(Loader::new(batches()).unwrap());
        let source = batches();
        let images = Arc::downgrade(source.images());
        let mut loader = Loader::new(source).unwrap();
        loader.next_batch().unwrap();
        assert!(images.upgrade().is_some());
        drop(loader);
        assert!(images.upgrade().is_none(), "the thread still holds the images");
    }
}
