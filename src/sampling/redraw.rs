//! Images that a model draws again from a part of them: from their upper rows, or from reduced images.

use super::{DrawOptions, Drawn, Sampler, crop_to_bytes, middle};
use crate::backend::Backend;
use crate::data::{Images, Order, Range, Reduction};
use crate::error::{Error, Result};
use crate::models::{Family, Model};
#[cfg(feature = "cli")]
use crate::pictures::grid::sections_png;
use crate::pictures::grid::{Pictures, before_after_png};
use crate::shape::ImageSize;
use std::sync::Arc;

/// Images that are drawn together at most.
const BATCH: usize = 64;

/// The level that pictures show for pixels that the model has not been given.
const HIDDEN: u8 = 128;

/// How often and how images are drawn again.
#[derive(Clone, Copy, Debug)]
pub struct Redraw {
    /// Number of draws of each image.
    pub draws: usize,
    /// Seed of the draws.
    pub seed: u32,
    /// Divisor of the logits; 1 is the model itself.
    pub temperature: f32,
}

/// Images, what the model was given of each, and what it drew: bytes `[n, height, width, channels]`.
#[derive(Clone, Debug)]
pub struct Redrawn {
    /// The size of originals and draws.
    pub size: ImageSize,
    /// The images themselves, as the model reads them.
    pub originals: Vec<u8>,
    /// What the model was given, at the height and width of the originals.
    pub given: Vec<u8>,
    /// Channels of what was given.
    pub given_channels: usize,
    /// The draws: first one of every image, then a second one of every image, and so on.
    pub draws: Vec<Vec<u8>>,
}

impl Redrawn {
    /// From values in 0 to 1: images of this size of which the model was given the first `given` values
    /// each, and its draws, in which all draws of an image come one after the other.
    pub fn after_beginning(size: ImageSize, images: &[f32], drawn: &[f32], given: usize) -> Redrawn {
        let (len, draws) = (size.dims(), drawn.len() / images.len().max(1));
        let originals = to_bytes(images, size);
        let mut masked = originals.clone();
        masked.chunks_mut(len).for_each(|image| image[given..].fill(HIDDEN));
        Redrawn {
            size,
            originals,
            given: masked,
            given_channels: size.channels,
            draws: by_draw(&to_bytes(drawn, size), len, draws),
        }
    }

    /// A PNG file with one row per image: the original, what was given, and the draws.
    ///
    /// # Errors
    /// If there is no image, or the picture is too large.
    pub fn original_first_png(&self) -> Result<Vec<u8>> {
        let columns = [self.original_pictures(), self.given_pictures()];
        before_after_png(&columns.into_iter().chain(self.drawn_pictures()).collect::<Vec<_>>())
    }

    /// A PNG file with one row per image: what was given, the draws, and the original.
    ///
    /// # Errors
    /// If there is no image, or the picture is too large.
    pub fn original_last_png(&self) -> Result<Vec<u8>> {
        let columns =
            [self.given_pictures()].into_iter().chain(self.drawn_pictures()).chain([self.original_pictures()]);
        before_after_png(&columns.collect::<Vec<_>>())
    }

    /// A PNG file with one row per image for several models that drew the same images: what they were given,
    /// the draws of each model, and the original. Models may read the images in different ways, binary or
    /// not. So what a model was given is shown before its draws if it differs from what the model before it
    /// was given, and each different form of the original is shown.
    ///
    /// # Errors
    /// If there is no image, or the picture is too large.
    ///
    /// # Panics
    /// If the models differ in the number or the size of the images.
    #[cfg(feature = "cli")]
    pub(crate) fn side_by_side_png(models: &[Redrawn]) -> Result<Vec<u8>> {
        let mut originals: Vec<&Redrawn> = vec![];
        let mut sections = vec![];
        for (nth, model) in models.iter().enumerate() {
            let is_new = nth == 0 || models[nth - 1].given != model.given;
            sections.push(is_new.then(|| model.given_pictures()).into_iter().chain(model.drawn_pictures()).collect());
            if originals.iter().all(|shown| shown.originals != model.originals) {
                originals.push(model);
            }
        }
        sections.push(originals.into_iter().map(Redrawn::original_pictures).collect());
        sections_png(&sections)
    }

    fn original_pictures(&self) -> Pictures<'_> {
        Pictures::new(&self.originals, self.size)
    }

    fn given_pictures(&self) -> Pictures<'_> {
        Pictures::new(&self.given, ImageSize { channels: self.given_channels, ..self.size })
    }

    fn drawn_pictures(&self) -> impl Iterator<Item = Pictures<'_>> {
        self.draws.iter().map(|draw| Pictures::new(draw, self.size))
    }
}

/// Whether `model` can complete images of which it is given the first `rows` rows.
///
/// # Errors
/// A sentence for a model that does not draw pixel by pixel, and if no row is left to draw.
pub(crate) fn check_completion(model: &Model, rows: usize) -> Result<()> {
    let Family::Autoregressive(_) = &model.family else {
        return Err(Error::Failed(format!(
            "{} does not draw pixel by pixel and cannot complete images; give a checkpoint of pixelcnn-mnist",
            model.config.name()
        )));
    };
    let height = model.image.height;
    if rows >= height {
        return Err(Error::Usage(format!("keeping {rows} rows leaves nothing to draw; keep fewer than {height} rows")));
    }
    Ok(())
}

/// Draws the rows after the first `rows` rows of each image. `progress` is called with the number of images,
/// as a fraction, that have been drawn since the last call.
///
/// # Errors
/// For a model that cannot complete images; for images that do not fit the model; and whatever the device
/// reports.
pub fn complete(
    backend: &mut dyn Backend,
    model: &Model,
    images: Arc<Images>,
    rows: usize,
    how: &Redraw,
    progress: &Drawn,
) -> Result<Redrawn> {
    check_completion(model, rows)?;
    let (n, given) = (images.len(), rows * model.image.width * model.image.channels);
    let seen = model.batch_of(images)?;
    // All completions of an image come one after the other, so that each draw has an index of its own.
    let mut drawn = repeat_each(&seen.pixels, n, how.draws);
    let classes: Vec<u32> = seen.labels.iter().flat_map(|label| vec![*label; how.draws]).collect();
    let reduced = repeat_each(&seen.reduced, n, how.draws);
    let sampler = Sampler::new(backend, model, (n * how.draws).min(BATCH))?;
    let draw = DrawOptions { seed: how.seed, temperature: how.temperature, classes: &classes, reduced: &reduced };
    sampler.complete(backend, &mut drawn, given, draw, progress)?;
    Ok(Redrawn::after_beginning(model.image, &seen.pixels, &drawn, given))
}

/// Whether `model` draws images that are given as `reduction` makes them.
///
/// # Errors
/// A sentence that names models that do.
pub(crate) fn check_restoration(model: &Model, reduction: Reduction) -> Result<()> {
    if model.reduction() == Some(reduction) {
        return Ok(());
    }
    let fitting = match reduction {
        Reduction::Grey => "colorize-cifar or colorize-gan-cifar",
        Reduction::Small => "superres-mnist, superres-cifar or superres-gan-mnist",
    };
    let name = model.config.name();
    Err(Error::Failed(format!("{name} has not learned to do this; give a checkpoint of {fitting}")))
}

/// Reduces images and draws them from their reduced images. `progress` is called with the number of images,
/// as a fraction, that have been drawn since the last call.
///
/// # Errors
/// For a model that restores something else or nothing; for images that do not fit the model; and whatever
/// the device reports.
pub fn restore(
    backend: &mut dyn Backend,
    model: &Model,
    images: Arc<Images>,
    reduction: Reduction,
    how: &Redraw,
    progress: &Drawn,
) -> Result<Redrawn> {
    check_restoration(model, reduction)?;
    let (n, size) = (images.len(), model.image);
    // Some models read padded images, and are given the reduced form of these.
    let options = model.batch_options(Order::InOrder);
    let padded = options.pad_to.unwrap_or(size);
    let seen = model.batch_of(images)?;
    let reduced = repeat_each(&seen.reduced, n, how.draws);
    let classes: Vec<u32> = seen.labels.iter().flat_map(|label| vec![*label; how.draws]).collect();
    let sampler = Sampler::new(backend, model, (n * how.draws).min(BATCH))?;
    let draw = DrawOptions { seed: how.seed, temperature: how.temperature, classes: &classes, reduced: &reduced };
    let drawn = sampler.draw_with(backend, n * how.draws, draw, progress)?;
    let small = reduction.size(padded);
    let given_size = |whole: ImageSize| ImageSize { channels: small.channels, ..whole };
    let enlarged = |image: &[f32]| {
        let bytes = reduction.enlarged(&to_bytes(image, small), padded);
        middle(&bytes, given_size(padded), given_size(size)).collect::<Vec<u8>>()
    };
    let originals = seen.pixels.chunks(padded.dims());
    Ok(Redrawn {
        size,
        originals: originals.flat_map(|image| crop_to_bytes(image, padded, size, options.range)).collect(),
        given: seen.reduced.chunks(small.dims()).flat_map(enlarged).collect(),
        given_channels: small.channels,
        draws: by_draw(&drawn, size.dims(), how.draws),
    })
}

/// Each of `n` equal parts of the values `times` times in a row.
pub(super) fn repeat_each(values: &[f32], n: usize, times: usize) -> Vec<f32> {
    let len = (values.len() / n.max(1)).max(1);
    values.chunks(len).flat_map(|one| one.repeat(times)).collect()
}

/// Images of `len` bytes, of which `draws` at a time belong together, by the number of the draw.
fn by_draw(images: &[u8], len: usize, draws: usize) -> Vec<Vec<u8>> {
    let draw = |number: usize| images.chunks(len).skip(number).step_by(draws).flatten().copied().collect();
    (0..draws).map(draw).collect()
}

/// Values in 0 to 1 of images of this size as bytes.
fn to_bytes(values: &[f32], size: ImageSize) -> Vec<u8> {
    values.chunks(size.dims()).flat_map(|image| crop_to_bytes(image, size, size, Range::Unit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_sorted_by_number_and_what_was_not_given_is_grey() {
        // Two images of two values, two draws of each.
        let (images, drawn) = ([0.0, 1.0, 1.0, 0.0], repeat_each(&[0.0, 0.2, 1.0, 0.4], 2, 2));
        assert_eq!(drawn, [0.0, 0.2, 0.0, 0.2, 1.0, 0.4, 1.0, 0.4]);
        let drawn: Vec<f32> = drawn.iter().enumerate().map(|(i, v)| if i % 4 == 3 { 0.6 } else { *v }).collect();
        let redrawn = Redrawn::after_beginning([2, 1, 1].into(), &images, &drawn, 1);
        assert_eq!((&redrawn.originals[..], &redrawn.given[..]), (&[0, 255, 255, 0][..], &[0, 128, 255, 128][..]));
        assert_eq!(redrawn.draws, [[0, 51, 255, 102], [0, 153, 255, 153]]);
    }

    #[test]
    fn a_picture_begins_or_ends_with_the_original() {
        let redrawn = Redrawn::after_beginning([1, 2, 1].into(), &[1.0, 1.0], &[0.0, 0.0], 1);
        let row = |png: Vec<u8>| {
            let picture = image::load_from_memory(&png).unwrap().into_luma8();
            let (width, separators) = (picture.width(), 2);
            let each = (width - 2 * separators) / 3;
            [0, 1, 2].map(|column| picture.get_pixel(column * (each + separators) + each - 1, 0).0[0])
        };
        assert_eq!(row(redrawn.original_first_png().unwrap()), [255, 128, 0]);
        assert_eq!(row(redrawn.original_last_png().unwrap()), [128, 0, 255]);
    }

    #[cfg(feature = "cli")]
    #[test]
    fn models_are_shown_next_to_each_other_and_what_they_share_once() {
        let redrawn =
            |image: f32, drawn: f32| Redrawn::after_beginning([1, 2, 1].into(), &[image, image], &[drawn, drawn], 1);
        // The last pixel of each column; a section ends with a space.
        let row = |models: &[Redrawn], columns: &[u32]| -> Vec<u8> {
            let picture = image::load_from_memory(&Redrawn::side_by_side_png(models).unwrap()).unwrap().into_luma8();
            let last = columns.last().unwrap();
            let scale = (picture.width() - last) / 2 / columns.len() as u32;
            let at = |(i, space): (usize, &u32)| space + (2 * i as u32 + 2) * scale - 1;
            columns.iter().enumerate().map(|column| picture.get_pixel(at(column), 0).0[0]).collect()
        };
        let same = [redrawn(1.0, 0.0), redrawn(1.0, 0.2)];
        assert_eq!(row(&same, &[0, 2, 8, 14]), [128, 0, 51, 255]);
        // The second model reads the image in another way.
        let different = [redrawn(1.0, 0.0), redrawn(0.6, 0.2)];
        assert_eq!(row(&different, &[0, 2, 8, 10, 16, 18]), [128, 0, 128, 51, 255, 153]);
    }
}
