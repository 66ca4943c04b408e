//! The samples that are judged: read from a file or a folder, or drawn from a checkpoint.

use super::super::out_file::is_checkpoint;
use super::super::output;
use super::super::progress::Drawing;
use super::super::trained::{CheckpointArgs, Stored, Trained};
use super::{Args, is_run};
use crate::data::{self, Images, Levels};
use crate::error::{Error, Result};
use crate::files::read_regular;
use crate::models::Model;
use crate::sampling::{DrawOptions, Sampler};
use crate::shape::ImageSize;
use crate::train::images::in_channels_of;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// Images that are drawn if the arguments do not say how many.
const DRAWN: usize = 2000;

/// The largest number of images that are drawn together.
const BATCH: usize = 64;

/// The largest file of samples that is read, in bytes.
const MAX_BYTES: u64 = 4 << 30;

/// The remedy for a file that holds no samples.
const REMEDY: &str = "give a file that `pixtape sample --out NAME.safetensors` wrote";

/// Images to judge, and where they come from.
pub(super) struct Samples {
    /// With labels if it is known which class each of them should be of.
    pub images: Arc<Images>,
    pub source: Source,
}

/// Where samples come from.
pub(super) struct Source {
    /// The file, folder or run, in words.
    pub place: String,
    /// What is known of the model that drew them; null if nothing is.
    provenance: Value,
}

impl Source {
    /// As a part of the JSON object.
    pub fn to_json(&self) -> Value {
        json!({"source": self.place, "protocol": self.provenance})
    }
}

impl Samples {
    /// Reads or draws the images that the arguments name. They have the size of the classifier's images, and
    /// their labels are numbered as the classifier numbers its classes.
    ///
    /// # Errors
    /// If they cannot be read or drawn, or do not fit the classifier.
    pub fn open(args: &Args, classifier: &Stored) -> Result<Samples> {
        let path = &*args.samples;
        let place = path.display().to_string();
        let samples = if is_run(path) || (path.is_file() && is_checkpoint(path)) {
            draw(args, &classifier.model)?
        } else if path.is_dir() {
            let images = data::open_all_of_folder(path)?;
            // The first notice describes how the folder is divided into splits, which does not matter here.
            images.notices().iter().skip(1).for_each(|notice| output::note(notice));
            Samples { images: Arc::new(images), source: Source { place, provenance: Value::Null } }
        } else {
            read(path)?
        };
        let Samples { images, source } = samples;
        let images = in_channels_of(&classifier.model, Arc::unwrap_or_clone(images));
        check_size(&classifier.model, &images)?;
        // Labels without names are numbers of the classifier's classes.
        let is_named = images.class_names().is_some();
        let images = if is_named { classifier.with_its_classes(images)? } else { images };
        let (classes, known) = (images.classes(), classifier.model.classes());
        if classes > known {
            let name = classifier.model.config.name();
            return Err(Error::Failed(format!(
                "the samples have the label {}, but {name} knows {known} classes, counted from 0; give the classifier that \
                 was trained on their classes",
                classes - 1
            )));
        }
        let images = match args.n {
            Some(n) if n < images.len() => images.sample(n, 0),
            _ => images,
        };
        Ok(Samples { images: Arc::new(images), source })
    }
}

fn check_size(classifier: &Model, images: &Images) -> Result<()> {
    let (have, want, name) = (images.size(), classifier.image, classifier.config.name());
    if have == want {
        return Ok(());
    }
    Err(Error::Failed(format!(
        "the samples are images of {have}, but {name} judges images of {want}; give a classifier of that size"
    )))
}

/// Draws images from a checkpoint.
fn draw(args: &Args, classifier: &Model) -> Result<Samples> {
    let checkpoint = CheckpointArgs { checkpoint: args.samples.clone(), weights: None };
    let Trained { stored, mut backend } = Trained::open(&checkpoint, &args.device)?;
    let n = args.n.unwrap_or(DRAWN);
    let size = stored.model.image;
    if size != classifier.image && stored.model.draws() {
        // Drawing may take long, so this is said before.
        let black = Images::new("samples", size, vec![0; size.dims()], None, Levels::Grey256)?;
        check_size(classifier, &in_channels_of(classifier, black))?;
    }
    let sampler = Sampler::new(&mut *backend, &stored.model, n.min(BATCH))?;
    let how = DrawOptions { seed: args.seed, ..DrawOptions::default() };
    let busy = Drawing::new(&format!("drawing {n} images"), n);
    let pixels = sampler.draw_with(&mut *backend, n, how, &|images| busy.advance(images))?;
    drop(busy);
    let known = stored.model.classes();
    let labels = (known > 0).then(|| (0..n).map(|i| how.class(i, known) as u8).collect());
    let images = Images::new("samples", size, pixels, labels, Levels::Grey256)?;
    let images = match (known, &stored.checkpoint.classes) {
        (0, _) | (_, None) => images,
        (_, Some(names)) => match serde_json::from_str(names) {
            Ok(names) => images.with_class_names(names),
            Err(error) => {
                let reason = "its list of classes is damaged";
                return Err(Error::file(&stored.path, reason, "use an earlier checkpoint").because(error));
            }
        },
    };
    let drawn = json!({"seed": args.seed, "temperature": how.temperature});
    let provenance = output::merged(stored.provenance(&*backend), &drawn);
    let place = format!("{}, seed {}", stored.origin(), args.seed);
    Ok(Samples { images: Arc::new(images), source: Source { place, provenance } })
}

/// Reads a file of samples: `images` `[n, c, h, w]` (bytes), and `label` `[n]` if they were drawn by class.
fn read(path: &Path) -> Result<Samples> {
    let bytes = read_regular(path, MAX_BYTES)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| {
        Error::file(path, format!("it is not a sound safetensors file ({error})"), REMEDY).because(error)
    })?;
    let refuse = |reason: String| Error::file(path, reason, REMEDY);
    let view = file.tensor("images").map_err(|_| refuse("it has no tensor images".to_string()))?;
    let (&[n, channels, height, width], Dtype::U8) = (view.shape(), view.dtype()) else {
        return Err(refuse(format!("its tensor images is {} {:?}, not U8 [n, c, h, w]", view.dtype(), view.shape())));
    };
    let size = ImageSize { height, width, channels };
    if n == 0 || size.dims() == 0 || !matches!(channels, 1 | 3) {
        return Err(refuse(format!("its tensor images {:?} holds no grey or RGB images", view.shape())));
    }
    let labels = match file.tensor("label") {
        Err(_) => None,
        Ok(view) => {
            let bad = || refuse(format!("its tensor label is {} {:?}, not I64 [{n}]", view.dtype(), view.shape()));
            if view.dtype() != Dtype::I64 || view.shape() != [n] {
                return Err(bad());
            }
            let values = view.data().as_chunks().0.iter().map(|word| u8::try_from(i64::from_le_bytes(*word)));
            Some(
                values
                    .collect::<Result<Vec<u8>, _>>()
                    .map_err(|_| refuse("it has a label that is no class".to_string()))?,
            )
        }
    };
    let images = Images::new("samples", size, channels_last(view.data(), size), labels, Levels::Grey256)?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| refuse(error.to_string()).because(error))?;
    let protocol = header.metadata().as_ref().and_then(|metadata| serde_json::from_str(metadata.get("protocol")?).ok());
    let source = Source { place: path.display().to_string(), provenance: protocol.unwrap_or(Value::Null) };
    Ok(Samples { images: Arc::new(images), source })
}

/// Converts images `[n, c, h, w]` of this size to `[n, h, w, c]`.
fn channels_last(images: &[u8], size: ImageSize) -> Vec<u8> {
    let pixels = size.height * size.width;
    let mut out = Vec::with_capacity(images.len());
    for image in images.chunks_exact(size.dims()) {
        (0..pixels).for_each(|pixel| out.extend(image.iter().skip(pixel).step_by(pixels)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::super::tensors::channels_first;
    use super::*;

    #[test]
    fn channels_come_last_again() {
        let size = ImageSize { height: 2, width: 3, channels: 3 };
        let images: Vec<u8> = (0..2 * 18).collect();
        assert_eq!(channels_last(&channels_first(&images, size), size), images);
        assert_ne!(channels_first(&images, size), images);
    }
}
