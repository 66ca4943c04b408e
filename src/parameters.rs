//! Moves parameters between a seed, a device and a checkpoint.

use crate::backend::Backend;
use crate::error::Result;
use crate::memory;
use crate::nn::{ParamSet, ParamSpec};
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
    let shapes = stored_shapes(set.specs().iter(), set, checkpoint);
    checkpoint.expect(path, &["params", "optim", "ema", "state"], &shapes)?;
    set.specs().iter().try_for_each(|s| write(backend, set, s, checkpoint))
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
    used.try_for_each(|s| write(backend, set, s, checkpoint))
}

/// Checks that the checkpoint, whose file is `path`, has what [`load_for_inference`] reads.
///
/// # Errors
/// If the checkpoint's tensors are not those of the set.
pub(crate) fn expect_for_inference(set: &ParamSet, checkpoint: &Checkpoint, path: &Path) -> Result<()> {
    let used = set.specs().iter().filter(|s| !s.param.path.starts_with("optim/"));
    let shapes = stored_shapes(used, set, checkpoint);
    let averaged = shapes.keys().any(|name| name.starts_with("ema/"));
    let groups: &[&str] = if averaged { &["params", "state", "ema"] } else { &["params", "state"] };
    checkpoint.expect(path, groups, &shapes)
}

/// The names and shapes of the tensors that a checkpoint of `set` has. Earlier versions averaged the weights
/// of both players of a GAN, but no running statistics: of a checkpoint with averages, those of the critic
/// are left out, and a statistic without an average is its own.
fn stored_shapes<'a>(
    specs: impl Iterator<Item = &'a ParamSpec>,
    set: &ParamSet,
    checkpoint: &Checkpoint,
) -> BTreeMap<String, Shape> {
    let mut shapes: BTreeMap<String, Shape> = specs.map(|s| (s.param.path.to_string(), s.param.shape)).collect();
    if !shapes.keys().any(|name| name.starts_with("ema/")) {
        return shapes;
    }
    shapes.retain(|name, _| checkpoint.tensors.contains_key(name) || statistic_of(set, name).is_none());
    for (name, _) in checkpoint.group("ema") {
        if let Some(weight) = set.find(&format!("params/{name}")) {
            shapes.insert(format!("ema/{name}"), weight.param.shape);
        }
    }
    shapes
}

/// The running statistic of `set` whose average is called `name`, if it is one.
fn statistic_of<'a>(set: &'a ParamSet, name: &str) -> Option<&'a ParamSpec> {
    set.find(&format!("state/{}", name.strip_prefix("ema/")?))
}

/// Sets a parameter to its value in the checkpoint.
fn write(backend: &mut dyn Backend, set: &ParamSet, spec: &ParamSpec, checkpoint: &Checkpoint) -> Result<()> {
    let name = &spec.param.path;
    let tensor =
        checkpoint.tensors.get(&**name).or_else(|| checkpoint.tensors.get(&*statistic_of(set, name)?.param.path));
    backend.write_param(spec.param.id, &tensor.expect("the names were compared").data)
}

/// The current values of all parameters.
pub fn snapshot(backend: &mut dyn Backend, set: &ParamSet) -> Result<BTreeMap<String, Tensor>> {
    let mut read = |spec: &ParamSpec| {
        let mut data = vec![0.0; spec.param.shape.len()];
        backend.read_param(spec.param.id, &mut data)?;
        Ok((spec.param.path.to_string(), Tensor::new(spec.param.shape, data)))
    };
    set.specs().iter().map(&mut read).collect()
}
