//! Whether images fit a model: their size, levels and labels, and what to do if they do not.

use crate::data::{self, Images, Levels, Split};
use crate::error::{Error, Result};
use crate::models::{Family, Model};
use crate::shape::ImageSize;
use std::path::Path;

/// Opens images and checks that they fit the model.
pub(crate) fn open_images(model: &Model, name: &str, split: Split, data_dir: Option<&Path>) -> Result<Images> {
    fitting(model, data::open(name, split, data_dir)?)
}

/// The images in the model's channels, if they fit the model.
pub(super) fn fitting(model: &Model, images: Images) -> Result<Images> {
    let images = in_channels_of(model, images);
    check_images(model, &images)?;
    Ok(images)
}

/// The images with one channel, if the model needs that and they are grey but stored in colour.
pub(crate) fn in_channels_of(model: &Model, images: Images) -> Images {
    let is_stored_in_colour = model.image.channels == 1 && images.channels() == 3;
    is_stored_in_colour.then(|| images.as_grey()).flatten().unwrap_or(images)
}

/// Checks that the images have the model's size and the levels that its likelihood needs.
pub(crate) fn check_images(model: &Model, images: &Images) -> Result<()> {
    if images.size() != model.image {
        let (have, want, name) = (images.size(), model.image, model.config.name());
        let remedy = size_remedy(model, have);
        let is = images.name();
        return Err(Error::Failed(format!("{is} has images of {have}, but {name} models images of {want}; {remedy}")));
    }
    check_labels(model, images)?;
    let name = model.config.name();
    let wanted = match &model.family {
        Family::Autoregressive(net) => Some(net.pixels().levels),
        Family::Latent(net) => net.levels(),
        Family::Sequence(net) => Some(net.observations().levels()),
        Family::Adversarial(_) | Family::Classifier(_) => None,
    };
    let (Some(wanted), have) = (wanted, model.config.binarize.levels(images)?) else { return Ok(()) };
    match (wanted, have) {
        (2, Levels::Binary) | (256, Levels::Grey256) => Ok(()),
        (2, Levels::Grey256) => {
            let has_decoder = model.config.model.decoder.is_some();
            let or = if has_decoder { ", or model.decoder to logistic or gaussian" } else { "" };
            Err(Error::Usage(format!("{name} models binary pixels; set binarize to static, dynamic or threshold{or}")))
        }
        (256, Levels::Binary) => {
            let keys = &model.config.model;
            let or = match (keys.levels, keys.decoder) {
                (Some(_), _) => ", or model.levels to 2",
                (_, Some(_)) => ", or model.decoder to bernoulli",
                _ => "",
            };
            Err(Error::Usage(format!(
                "{name} models 256 levels, but the pixels of {} are binary here; set binarize to none with a grey or \
                 colour data set{or}",
                images.name()
            )))
        }
        (levels, _) => {
            Err(Error::Usage(format!("no data set has pixels of {levels} levels; set model.levels to 2 or 256")))
        }
    }
}

/// What to do so that images of this size fit the model: the keys to set, if it has them and can have such a
/// size.
fn size_remedy(model: &Model, images: ImageSize) -> String {
    let (keys, wanted) = (&model.config.model, model.image);
    let axes = [
        (keys.height, "height", images.height, wanted.height),
        (keys.width, "width", images.width, wanted.width),
        (keys.colours, "colours", images.channels, wanted.channels),
    ];
    let differing: Vec<_> = axes.into_iter().filter(|(.., have, want)| have != want).collect();
    let settings: Vec<_> = differing.iter().map(|(_, key, have, _)| format!("model.{key}={have}")).collect();
    let mut resized = model.config.clone();
    let is_possible = settings.iter().all(|setting| resized.set(setting).is_ok()) && Model::new(&resized).is_ok();
    if !is_possible {
        let kind = if wanted.channels == 1 { "grey" } else { "RGB" };
        return format!("choose a data set of that size, or scale the images to {kind} images of {wanted}");
    }
    let set = settings.iter().map(|setting| format!("--set {setting}")).collect::<Vec<_>>();
    format!("choose a data set of that size, or train with {}", set.join(" "))
}

/// Checks that the images are labelled if the model has classes.
fn check_labels(model: &Model, images: &Images) -> Result<()> {
    let (classes, have, name) = (model.classes(), images.classes(), images.name());
    let (how, or) = match model.family {
        Family::Classifier(_) => ("tells apart", ""),
        _ => ("is conditional on", ", or set model.classes to 0"),
    };
    match (classes, have) {
        (0, _) => Ok(()),
        (_, 0) => Err(Error::Failed(format!(
            "{name} has no labels, but {} {how} {classes} classes; choose a set that has them, like mnist{or}",
            model.config.name()
        ))),
        _ if have > classes => Err(Error::Failed(format!(
            "{name} has {have} classes, but the model knows {classes}; set model.classes to {have}"
        ))),
        _ => Ok(()),
    }
}
