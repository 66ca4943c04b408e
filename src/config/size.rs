//! The size of the images that a model reads, taken from the images that it is trained on.

use super::{Config, DecoderKind, NetworkKind};
use crate::data::Binarize;
use crate::shape::ImageSize;
use std::collections::BTreeSet;

/// `size=N` stands for both of these keys.
pub(super) const SIDES: [&str; 2] = ["model.height", "model.width"];

/// The dotted keys that the user has given. They stay as they are when a configuration is fitted to images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenKeys(BTreeSet<String>);

impl GivenKeys {
    /// The keys of assignments `key=value`.
    pub fn of(assignments: &[String]) -> GivenKeys {
        let key = |assignment: &String| assignment.split('=').next().unwrap_or_default().trim().to_string();
        let mut keys: BTreeSet<String> = assignments.iter().map(key).collect();
        if keys.remove("size") {
            keys.extend(SIDES.map(str::to_string));
        }
        GivenKeys(keys)
    }

    fn has(&self, key: &str) -> bool {
        self.0.contains(key)
    }
}

impl Config {
    /// Takes height, width and colours from images of this size, unless they are given. If the images have
    /// colours, pixels also keep their 256 levels, unless it is given how they become binary or how they are
    /// modelled: a binary image in colour is seldom what is meant. Sequence models stay as they are, because
    /// what they model are the observations of their preset.
    ///
    /// Returns a sentence that says what was changed; `None` if nothing was.
    pub(crate) fn fit_to(&mut self, images: ImageSize, given: &GivenKeys) -> Option<String> {
        if self.network == NetworkKind::Lstm {
            return None;
        }
        let mut changed = vec![];
        let model = &mut self.model;
        let axes = [
            ("model.height", &mut model.height, images.height),
            ("model.width", &mut model.width, images.width),
            ("model.colours", &mut model.colours, images.channels),
        ];
        for (key, value, of_images) in axes {
            if value.is_some_and(|value| value != of_images) && !given.has(key) {
                *value = Some(of_images);
                changed.push(format!("{key}={of_images}"));
            }
        }
        let is_free = ["binarize", "model.levels", "model.decoder"].iter().all(|key| !given.has(key));
        if images.channels > 1 && is_free && self.binarize != Binarize::None {
            self.binarize = Binarize::None;
            changed.push("binarize=none".to_string());
            if let Some(levels) = model.levels.as_mut() {
                *levels = 256;
                changed.push("model.levels=256".to_string());
            }
            if let Some(decoder) = model.decoder.as_mut() {
                *decoder = DecoderKind::Logistic;
                changed.push("model.decoder=logistic".to_string());
            }
        }
        let list = changed.join(", ");
        (!changed.is_empty()).then(|| format!("{} is fitted to images of {images}: {list}", self.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::named;
    use super::*;

    const PHOTO: ImageSize = ImageSize { height: 64, width: 48, channels: 3 };
    const GREY: ImageSize = ImageSize { height: 40, width: 28, channels: 1 };

    fn fitted(name: &str, images: ImageSize, given: &[&str]) -> (Config, Option<String>) {
        let mut config = named(name).unwrap();
        let given: Vec<String> = given.iter().map(|text| text.to_string()).collect();
        given.iter().for_each(|assignment| config.set(assignment).unwrap());
        let said = config.fit_to(images, &GivenKeys::of(&given));
        (config, said)
    }

    #[test]
    fn sizes_come_from_the_images_unless_they_are_given() {
        for name in ["vae", "dcgan", "pixelcnn", "row-lstm", "classifier"] {
            let (config, said) = fitted(name, GREY, &[]);
            let model = &config.model;
            assert_eq!((model.height, model.width, model.colours), (Some(40), Some(28), Some(1)), "{name}");
            assert_eq!(config.binarize, named(name).unwrap().binarize, "{name}");
            assert!(said.is_some_and(|said| said.contains("model.height=40")), "{name}");
            let (config, _) = fitted(name, GREY, &["model.height=32"]);
            assert_eq!((config.model.height, config.model.width), (Some(32), Some(28)), "{name}");
            let (config, _) = fitted(name, GREY, &["size=64"]);
            assert_eq!((config.model.height, config.model.width), (Some(64), Some(64)), "{name}");
        }
    }

    #[test]
    fn images_that_fit_change_nothing() {
        for name in ["vae-mnist", "gan-mnist", "pixelcnn-mnist", "vae-mlp-mnist"] {
            let (config, said) = fitted(name, ImageSize { height: 28, width: 28, channels: 1 }, &[]);
            assert_eq!((config, said), (named(name).unwrap(), None));
        }
        // A sequence model has observations, not images.
        assert_eq!(fitted("lstm-rows-mnist", PHOTO, &[]), (named("lstm-rows-mnist").unwrap(), None));
    }

    #[test]
    fn pixels_in_colour_keep_their_levels_unless_it_is_said_how_they_are_modelled() {
        let (vae, said) = fitted("vae-mnist", PHOTO, &[]);
        assert_eq!((vae.binarize, vae.model.decoder), (Binarize::None, Some(DecoderKind::Logistic)));
        let said = said.unwrap();
        assert!(said.starts_with("vae-mnist is fitted to images of 64x48x3: model.height=64"), "{said}");
        let (pixelcnn, _) = fitted("pixelcnn-mnist", PHOTO, &[]);
        assert_eq!((pixelcnn.binarize, pixelcnn.model.levels), (Binarize::None, Some(256)));
        let (kept, _) = fitted("vae-mnist", PHOTO, &["binarize=threshold"]);
        assert_eq!((kept.binarize, kept.model.decoder), (Binarize::Threshold, Some(DecoderKind::Bernoulli)));
    }
}
