//! Likelihoods of a checkpoint, and the file `likelihood.json` in its run folder, which stores them so
//! that they are not measured again.

use super::output;
use super::trained::{Stored, Trained};
use crate::data::{Images, Split};
use crate::error::Result;
use crate::eval::{self, Evaluation};
use crate::files::{check_regular, read_text};
use crate::likelihood::{Estimate, Likelihood, Measurement, Protocol, Source};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::sync::Arc;

/// The largest file of likelihoods that is read, in bytes.
const MAX_MEASURED: u64 = 16 << 20;

/// The contents of the file: the likelihoods of one checkpoint, which is identified by the checksum of
/// its bytes.
#[derive(Default, Serialize, Deserialize)]
struct Measured {
    checkpoint_sha256: String,
    step: u64,
    rows: Vec<Row>,
}

/// One likelihood with its protocol.
#[derive(Serialize, Deserialize)]
struct Row {
    weights: String,
    program: String,
    device: String,
    dataset: String,
    /// The hash of the images. A row belongs to these images and to no others of that name.
    sha256: String,
    split: String,
    binarisation: String,
    estimate: String,
    dims: usize,
    images: usize,
    nats: f64,
}

/// Measures a model on a split or on a part of it.
pub(super) fn measure(trained: &mut Trained, images: Arc<Images>, split: Split, iwae_k: u32) -> Result<Evaluation> {
    let name = source(&trained.stored);
    eval::evaluate(&mut *trained.backend, &trained.stored.model, images, split, iwae_k, &name)
}

/// The name of the checkpoint in tables.
fn source(stored: &Stored) -> String {
    stored.run.as_deref().unwrap_or(&stored.path).display().to_string()
}

/// Stores likelihoods on a whole split for [`recall`]. They can be measured again, so a folder that
/// cannot be written to only causes a warning.
pub(super) fn keep(stored: &Stored, rows: &[Likelihood]) {
    let Some(path) = file(stored) else { return };
    let mut measured = read(stored).unwrap_or_default();
    measured.checkpoint_sha256 = checksum(stored);
    measured.step = stored.checkpoint.step;
    for new in rows.iter().filter(|row| row.nats.is_finite()) {
        let Source::Run(Measurement { weights, program, device, .. }) = &new.source else { continue };
        let Protocol { dataset, sha256, split, binarisation, estimate, dims, images } = &new.protocol;
        let row = Row {
            weights: weights.clone(),
            program: program.clone(),
            device: device.clone(),
            dataset: dataset.clone(),
            sha256: sha256.clone(),
            split: split.name().to_string(),
            binarisation: binarisation.name().to_string(),
            estimate: estimate.to_string(),
            dims: *dims,
            images: *images,
            nats: new.nats,
        };
        let is_comparable = |protocol: Protocol| protocol.is_comparable(&new.protocol);
        let is_old = |row: &Row| row.weights == *weights && row.protocol().is_some_and(is_comparable);
        match measured.rows.iter().position(is_old) {
            Some(index) => measured.rows[index] = row,
            None => measured.rows.push(row),
        }
    }
    let text = serde_json::to_string_pretty(&measured).expect("texts and finite numbers are valid JSON");
    // Opening a pipe for writing would wait for a reader.
    if let Err(error) = check_regular(&path).and_then(|()| output::write(&path, text.as_bytes())) {
        output::note(&format!("warning: the likelihood could not be stored: {error}"));
    }
}

/// The stored likelihoods of exactly this checkpoint on exactly these images, which are the split `split`.
pub(super) fn recall(stored: &Stored, images: &Images, split: Split) -> Vec<Likelihood> {
    let rows = read(stored).map_or(vec![], |measured| measured.rows);
    let (weights, sha256) = (stored.model.weights(), images.sha256());
    let of_interest = |row: &&Row| row.weights == weights && row.sha256 == sha256;
    let likelihood = |row: &Row| {
        let (weights, program, device) = (row.weights.clone(), row.program.clone(), row.device.clone());
        Some(Likelihood {
            model: stored.model.config.name().to_string(),
            nats: row.nats,
            protocol: row.protocol().filter(|protocol| protocol.split == split)?,
            source: Source::Run(Measurement { run: source(stored), weights, program, device }),
        })
    };
    rows.iter().filter(of_interest).filter_map(likelihood).collect()
}

impl Row {
    /// `None` if the file was not written by this program.
    fn protocol(&self) -> Option<Protocol> {
        Some(Protocol {
            dataset: self.dataset.clone(),
            sha256: self.sha256.clone(),
            split: self.split.parse().ok()?,
            binarisation: self.binarisation.parse().ok()?,
            estimate: Estimate::named(&self.estimate)?,
            dims: self.dims,
            images: self.images,
        })
    }
}

fn file(stored: &Stored) -> Option<PathBuf> {
    stored.run.as_ref().map(|run| run.join("likelihood.json"))
}

/// Reads the file, if it exists and belongs to this checkpoint. A damaged file is ignored.
fn read(stored: &Stored) -> Option<Measured> {
    let text = read_text(&file(stored)?, MAX_MEASURED).ok()?;
    let measured: Measured = serde_json::from_str(&text).ok()?;
    (measured.checkpoint_sha256 == checksum(stored)).then_some(measured)
}

fn checksum(stored: &Stored) -> String {
    Sha256::digest(stored.checkpoint.to_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
