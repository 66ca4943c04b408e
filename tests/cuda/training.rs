//! Compares one training step of every preset, at its full size and with two images, on the stand-in driver
//! with the CPU backend.

use crate::presets::{self, test_every_preset};
use crate::stand_in::StandIn;

test_every_preset!(one_step_agrees_with_the_cpu: crate::training::agrees);

fn agrees(name: &str) {
    let Some(cuda) = StandIn::backend() else { return };
    presets::agrees(name, Box::new(cuda), 1e-5);
}

#[test]
fn images_of_other_sizes_train_as_on_the_cpu() {
    if StandIn::backend().is_none() {
        return;
    }
    presets::other_sizes_agree(|| Box::new(StandIn::backend().expect("there is one")), 1e-5);
}
