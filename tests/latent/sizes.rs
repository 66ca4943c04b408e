//! Images of any size.

use super::{noise, small};
use pixtape::backend::{self, Backend};
use pixtape::data::{Batches, Order, Split};
use pixtape::eval;
use pixtape::models::Model;
use pixtape::shape::ImageSize;
use pixtape::train::trainer::Trainer;

#[test]
fn a_model_has_the_size_of_its_images_and_counts_their_pixels_only() {
    for name in ["vae-mnist", "vae-mlp-mnist", "autoencoder-mnist"] {
        for [height, width, channels] in [[28, 28, 1], [9, 8, 3], [40, 27, 1], [17, 64, 3]] {
            let keys = [("height", height), ("width", width), ("colours", channels)];
            let keys = keys.map(|(key, value)| format!("model.{key}={value}"));
            let config = small(name, &keys.each_ref().map(|key| key.as_str()));
            let (model, size) = (Model::new(&config).unwrap(), ImageSize { height, width, channels });
            assert_eq!(model.image, size);
            let (images, dims) = (noise(size, 6), height * width * channels);
            let batches = Batches::new(images.clone(), model.batch_options(Order::Shuffled));
            let device = backend::open("cpu", 1).unwrap();
            let mut trainer = Trainer::new(model.clone(), device, 2).unwrap();
            let mut batches = batches.unwrap();
            for _ in 0..2 {
                trainer.step(&mut batches.next_batch()).unwrap();
            }
            trainer.losses().unwrap();
            let device = &mut *trainer.backend;
            let shown = eval::reconstruct(device, &model, images.clone()).unwrap();
            assert!(shown.iter().all(|bytes| bytes.len() == 6 * dims), "{name} {size}");
            if name != "autoencoder-mnist" {
                // With weights of zero every pixel is 1 with probability one half.
                let zeros = |device: &mut dyn Backend| {
                    for spec in model.set.specs() {
                        device.write_param(spec.param.id, &vec![0.0; spec.param.shape.len()]).unwrap();
                    }
                };
                zeros(device);
                let found = eval::evaluate(device, &model, images, Split::Test, 2, "here").unwrap();
                let want = dims as f64 * std::f64::consts::LN_2;
                for row in found.likelihoods {
                    assert!((row.nats - want).abs() < 1e-4 * want, "{name} {size}: {} and {want}", row.nats);
                    assert_eq!(row.protocol.dims, dims);
                }
            }
        }
    }
}
