//! Features compared with few labels: the latent means of the model, those of other models, and raw pixels,
//! all of the same images.

use super::{Args, Known};
use crate::cli::args::DataArgs;
use crate::cli::progress::Busy;
use crate::cli::trained::{Stored, Trained};
use crate::data::Split;
use crate::error::{Error, Result};
use crate::eval::{self, FewLabels, LabelDraws, Latents, Probe, pixels};
use crate::memory;
use serde_json::Value;

/// What is printed.
pub(super) struct Comparison {
    /// The numbers of labels, in ascending order.
    pub counts: Vec<usize>,
    pub draws: usize,
    pub train_images: usize,
    pub test_images: usize,
    /// A sentence for each number of labels that there cannot be.
    pub left_out: Vec<String>,
    pub rows: Vec<Row>,
}

/// One kind of features.
pub(super) struct Row {
    pub name: String,
    pub dims: usize,
    /// Where the model comes from; null for raw pixels.
    pub provenance: Value,
    /// The fraction of the test images that a linear probe classifies correctly with all labels.
    pub probe_of_all: f64,
    pub few: FewLabels,
}

/// Checks that the latent vectors of this model say nothing of the label but by the image.
pub(super) fn check_compared(stored: &Stored) -> Result<()> {
    if stored.model.classes() == 0 {
        return Ok(());
    }
    Err(Error::Failed(format!(
        "the encoder of {} is given the class of each image, so its latent vectors may hold the label; give a model \
         without model.classes",
        stored.origin()
    )))
}

/// Measures all features. `known` are the images and the latent vectors of the model, and `probe` what a
/// linear probe of these has measured.
pub(super) fn compare(
    args: &Args,
    trained: &mut Trained,
    others: Vec<Stored>,
    known: Known,
    probe: &Probe,
) -> Result<Comparison> {
    let Known { images: [train, test], latents } = known;
    let (draws, left_out) = LabelDraws::new(&latents[0].labels, &args.labels, args.draws, args.seed);
    let pool = args.device.pool()?;
    let data = DataArgs { data: Some(args.data.name_for(&trained.stored)?), ..args.data.clone() };
    let provenance = trained.stored.provenance(&*trained.backend);
    let mut measure = |name: String, provenance: Value, [train, test]: &[Latents; 2], probe: Option<&Probe>| {
        let _busy = Busy::new(&format!("few labels with {name}"));
        let probe_of_all = match probe {
            Some(probe) => probe.test_accuracy,
            None => eval::linear_probe(args.device.name()?, args.device.threads, train, test, args.seed)?.test_accuracy,
        };
        let few = FewLabels::measure(&mut *trained.backend, &pool, train, test, &draws)?;
        Ok::<Row, Error>(Row { name, dims: train.dims, provenance, probe_of_all, few })
    };
    let mut rows = vec![measure(trained.stored.origin(), provenance, &latents, Some(probe))?];
    for stored in others {
        let mut other = Trained::of(stored, &args.device)?;
        let mut encoded = |split: Split| -> Result<Latents> {
            let images = data.open(&other.stored, split)?;
            eval::encode(&mut *other.backend, &other.stored.model, images)
        };
        let latents = [encoded(Split::Train)?, encoded(Split::Test)?];
        rows.push(measure(other.stored.origin(), other.stored.provenance(&*other.backend), &latents, None)?);
    }
    let bytes = 3 * 4 * ((train.len() + test.len()) * train.dims()) as u64;
    memory::check(bytes, "the comparison with raw pixels", "leave it out by --no-probe")?;
    rows.push(measure("raw pixels".to_string(), Value::Null, &[pixels(&train), pixels(&test)], None)?);
    Ok(Comparison {
        counts: draws.counts().to_vec(),
        draws: draws.len(),
        train_images: train.len(),
        test_images: test.len(),
        left_out,
        rows,
    })
}
