//! What the class of an image adds to a feature map, place by place (van den Oord et al., "Conditional image
//! generation with PixelCNN decoders", NIPS 2016, section 2.3, eq. 5): the class says where to draw, too.

use super::Pixels;
use crate::nn::{Channels, ConvTranspose, Embedding, Env, ParamSet};
use crate::shape::ImageSize;
use crate::tape::Var;
use crate::tape::record::ConvAttrs;

/// Channels of the small map of each class.
const CHANNELS: usize = 8;

/// The factor by which the small map is enlarged.
const FACTOR: usize = 4;

/// A small map per class, and the transposed convolution that enlarges it to the size of the image. What it
/// would draw below and to the right of the image is left out.
#[derive(Clone, Debug)]
pub(super) struct ClassMap {
    maps: Embedding,
    enlarge: ConvTranspose,
    size: ImageSize,
}

impl ClassMap {
    /// Declares the parameters `class.map` and `class.up`, if the model has classes.
    pub fn new(set: &mut ParamSet, pixels: Pixels, channels: usize) -> Option<Self> {
        let (classes, size) = (pixels.classes, pixels.size);
        (classes > 0).then(|| {
            let [rows, columns] = small(size);
            let maps = Embedding::new(set, "class.map", classes, rows * columns * CHANNELS);
            let between = Channels { inputs: CHANNELS, outputs: channels };
            let enlarge = ConvTranspose::new(set, "class.up", between, FACTOR, ConvAttrs::new(FACTOR, 0));
            ClassMap { maps, enlarge, size }
        })
    }

    /// `class[n] -> [n, h, w, channels]`
    pub fn forward(&self, env: &Env, class: Var) -> Var {
        let (t, ImageSize { height, width, .. }) = (env.t, self.size);
        let [rows, columns] = small(self.size);
        let maps = t.reshape(self.maps.forward(env, class), [t.shape(class).dims()[0], rows, columns, CHANNELS]);
        self.enlarge.forward_to(env, maps, [height, width])
    }
}

/// Rows and columns of the small map of an image of this size.
fn small(size: ImageSize) -> [usize; 2] {
    [size.height, size.width].map(|pixels| pixels.div_ceil(FACTOR))
}

#[cfg(test)]
mod tests {
    use crate::config::preset;
    use crate::models::Model;

    #[test]
    fn a_map_covers_images_whose_sides_are_no_multiples_of_its_factor() {
        for (height, rows) in [(1, 1), (4, 1), (7, 2), (28, 7)] {
            let mut config = preset("row-lstm-mnist").unwrap();
            let settings = ["model.classes=3", &format!("model.height={height}")];
            settings.iter().try_for_each(|setting| config.set(setting)).unwrap();
            let model = Model::new(&config).unwrap();
            let map = model.set.weights().find(|param| param.path.as_ref() == "params/class.map.weight").unwrap();
            assert_eq!(map.shape.dims(), [3, rows * 7 * 8], "{height} rows");
        }
    }
}
