//! Moves parameters between a seed, a device and a checkpoint.

use crate::backend::Backend;
use crate::error::Result;
use crate::memory;
use crate::nn::ParamSet;
use crate::shape::Shape;
use crate::store::{Checkpoint, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

/// Gives every parameter its initial value under `seed`.
///
/// # Errors
/// If the machine does not have enough memory for them.
pub fn initialize(backend: &mut dyn Backend, set: &ParamSet, seed: u32) -> Result<()> {
    // Initial values are made here before they go to the device.
    let bytes = set.specs().iter().map(|spec| 4 * spec.param.shape.len() as u64).sum();
    memory::check(bytes, "the model", "choose a smaller model")?;
    set.specs().iter().try_for_each(|spec| backend.write_param(spec.param.id, &spec.initial(seed)))
}

/// Sets every parameter to its value in the checkpoint, whose file is `path`.
///
/// # Errors
/// If the checkpoint's tensors are not those of the set.
pub fn load(backend: &mut dyn Backend, set: &ParamSet, checkpoint: &Checkpoint, path: &Path) -> Result<()> {
    let shapes: BTreeMap<String, Shape> =
        set.specs().iter().map(|s| (s.param.path.to_string(), s.param.shape)).collect();
    checkpoint.expect(path, &["params", "optim", "ema", "state"], &shapes)?;
    set.specs().iter().try_for_each(|s| backend.write_param(s.param.id, &checkpoint.tensors[&*s.param.path].data))
}

/// Sets the weights, moving averages and running statistics to their values in the checkpoint, whose file is
/// `path`. The states of optimisers are left out, and so are averages that `set` does not have.
///
/// # Errors
/// If the checkpoint's tensors are not those of the set.
pub fn load_for_inference(
    backend: &mut dyn Backend,
    set: &ParamSet,
    checkpoint: &Checkpoint,
    path: &Path,
) -> Result<()> {
    expect_for_inference(set, checkpoint, path)?;
    let mut used = set.specs().iter().filter(|s| !s.param.path.starts_with("optim/"));
    used.try_for_each(|s| backend.write_param(s.param.id, &checkpoint.tensors[&*s.param.path].data))
}

/// Checks that the checkpoint, whose file is `path`, has what [`load_for_inference`] reads.
///
/// # Errors
/// If the checkpoint's tensors are not those of the set.
pub(crate) fn expect_for_inference(set: &ParamSet, checkpoint: &Checkpoint, path: &Path) -> Result<()> {
    let used = set.specs().iter().filter(|s| !s.param.path.starts_with("optim/"));
    let shapes: BTreeMap<String, Shape> = used.map(|s| (s.param.path.to_string(), s.param.shape)).collect();
    let averaged = shapes.keys().any(|name| name.starts_with("ema/"));
    let groups: &[&str] = if averaged { &["params", "state", "ema"] } else { &["params", "state"] };
    checkpoint.expect(path, groups, &shapes)
}

/// The current values of all parameters.
pub fn snapshot(backend: &mut dyn Backend, set: &ParamSet) -> Result<BTreeMap<String, Tensor>> {
    let mut read = |spec: &crate::nn::ParamSpec| {
        let mut data = vec![0.0; spec.param.shape.len()];
        backend.read_param(spec.param.id, &mut data)?;
        Ok((spec.param.path.to_string(), Tensor::new(spec.param.shape, data)))
    };
    set.specs().iter().map(&mut read).collect()
}
