//! Weights in files that other programs read and write: safetensors in PyTorch's layout, under the names of
//! `docs/models.md`.

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::files::read_regular;
use crate::nn::{ParamSet, ParamSpec};
use crate::store::{Checkpoint, write_atomically, write_tensors};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::Path;

/// The largest file that is read, in bytes: far above every model here.
const MAX_BYTES: u64 = 4 << 30;

/// The remedy for a file of weights that does not fit.
const REMEDY: &str = "it needs the names and shapes that `pixtape export` writes for such a model (docs/models.md)";

/// What wrappers of PyTorch put before the names: data parallel and compiled models.
const PREFIXES: [&str; 2] = ["module.", "_orig_mod."];

/// The end of the name of a counter in PyTorch's batch norm, which nothing here needs.
const COUNTER: &str = "num_batches_tracked";

/// Writes the weights and running statistics of a checkpoint in PyTorch's layout: `first.weight`, not
/// `params/first.weight`. If `set` has moving averages, their values replace those that they average.
/// `provenance` says where the weights come from and becomes the metadata `pixtape`. Returns the number of
/// tensors.
///
/// # Errors
/// [`Error::File`] if `out` cannot be written. The checkpoint must have every tensor of the set.
pub fn export(set: &ParamSet, checkpoint: &Checkpoint, provenance: &str, out: &Path) -> Result<usize> {
    let mut tensors: BTreeMap<&str, (Vec<usize>, Vec<f32>)> = BTreeMap::new();
    for (name, spec) in exchanged(set) {
        let average = format!("ema/{name}");
        // Earlier versions did not average running statistics.
        let is_averaged = set.find(&average).is_some() && checkpoint.tensors.contains_key(&average);
        let source = if is_averaged { &average } else { &*spec.param.path };
        tensors.insert(name, spec.to_torch(&checkpoint.tensors[source].data));
    }
    // Other programs expect the entry `format`.
    let metadata = BTreeMap::from([("format", "pt"), ("pixtape", provenance)]);
    let sorted = tensors.iter().map(|(name, (shape, values))| (*name, &shape[..], &values[..]));
    write_atomically(out, |file| write_tensors(file, metadata, sorted))?;
    Ok(tensors.len())
}

/// Sets every weight, and its moving average if it has one, to its value in the file. Running statistics
/// that the file lacks keep their initial values. Floats of 16 and 64 bits are converted, and what PyTorch
/// adds to a model (a prefix `module.`, the counters of batch norms) is left out.
///
/// # Errors
/// [`Error::File`] if the file cannot be read, is no safetensors file, has other names or shapes, or values
/// that are not finite.
pub fn import(backend: &mut dyn Backend, set: &ParamSet, path: &Path) -> Result<()> {
    let bytes = read_regular(path, MAX_BYTES)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| {
        Error::file(path, format!("it is not a sound safetensors file ({error})"), REMEDY).because(error)
    })?;
    let values = parse(set, &file).map_err(|reason| Error::file(path, reason, REMEDY))?;
    for (name, value) in values {
        for group in ["params", "ema", "state"] {
            if let Some(spec) = set.find(&format!("{group}/{name}")) {
                backend.write_param(spec.param.id, &value)?;
            }
        }
    }
    Ok(())
}

/// The values in our own layout by name, or why the file is not one of the set.
fn parse(set: &ParamSet, file: &SafeTensors) -> Result<BTreeMap<String, Vec<f32>>, String> {
    let known: BTreeMap<&str, &ParamSpec> = exchanged(set).collect();
    let mut values = BTreeMap::new();
    for (full, view) in file.iter() {
        let name = PREFIXES.iter().fold(full, |name, prefix| name.strip_prefix(prefix).unwrap_or(name));
        if name.ends_with(COUNTER) {
            continue;
        }
        let Some(spec) = known.get(name) else {
            return Err(format!("its tensor {full} is not one of this model"));
        };
        let want = spec.torch_shape();
        let floats = floats(&view).filter(|_| view.shape() == want);
        let Some(value) = floats else {
            return Err(format!("its tensor {full} is {} {:?}, not F32 {want:?}", view.dtype(), view.shape()));
        };
        if value.iter().any(|x| !x.is_finite()) {
            return Err(format!("its tensor {full} has values that are not finite as 32-bit floats"));
        }
        if values.insert(name.to_string(), spec.from_torch(&value)).is_some() {
            return Err(format!("it has the tensor {name} twice, with and without a prefix"));
        }
    }
    match known.iter().find(|(name, spec)| spec.param.path.starts_with("params/") && !values.contains_key(**name)) {
        Some((name, _)) => Err(format!("it has no tensor {name}")),
        None => Ok(values),
    }
}

/// The elements of a tensor of floats of any width, rounded to 32 bits; `None` for other types.
fn floats(view: &TensorView) -> Option<Vec<f32>> {
    let data = view.data();
    match view.dtype() {
        Dtype::F32 => Some(data.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect()),
        Dtype::F64 => Some(data.as_chunks().0.iter().map(|word| f64::from_le_bytes(*word) as f32).collect()),
        Dtype::F16 => Some(data.as_chunks().0.iter().map(|word| from_f16(u16::from_le_bytes(*word))).collect()),
        Dtype::BF16 => {
            let from_bf16 = |word: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*word)) << 16);
            Some(data.as_chunks().0.iter().map(from_bf16).collect())
        }
        _ => None,
    }
}

/// The value of a 16-bit float: 1 bit of sign, 5 bits of exponent, 10 bits of mantissa (IEEE 754 binary16).
fn from_f16(bits: u16) -> f32 {
    let (exponent, mantissa) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    let size = match exponent {
        0 => mantissa * 2f32.powi(-24),
        31 if mantissa == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + mantissa) * 2f32.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -size } else { size }
}

/// Weights and running statistics, with their names in such a file.
fn exchanged(set: &ParamSet) -> impl Iterator<Item = (&str, &ParamSpec)> {
    set.specs().iter().filter_map(|spec| {
        let path = &*spec.param.path;
        let name = path.strip_prefix("params/").or_else(|| path.strip_prefix("state/"))?;
        Some((name, spec))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend;
    use crate::config::preset;
    use crate::models::Model;
    use crate::parameters;

    #[test]
    fn what_is_exported_comes_back_and_starts_the_average_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let mut config = preset("gan-mnist").unwrap();
        for setting in ["model.channels=2", "model.latent=3", "ema=0.5"] {
            config.set(setting).unwrap();
        }
        let set = Model::new(&config).unwrap().set;
        let mut device = backend::open("cpu", 1).unwrap();
        parameters::initialize(&mut *device, &set, 1).unwrap();
        let mut checkpoint =
            Checkpoint { tensors: parameters::snapshot(&mut *device, &set).unwrap(), ..Checkpoint::default() };
        for (name, tensor) in &mut checkpoint.tensors {
            let shift = if name.starts_with("ema/") { 1.0 } else { 0.0 };
            tensor.data.iter_mut().for_each(|v| *v += shift);
        }
        export(&set, &checkpoint, "{}", &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.tensor("g.t1.weight").unwrap().shape(), [3, 8, 4, 4]);
        assert!(file.tensor("g.n1.running_mean").is_ok());

        parameters::initialize(&mut *device, &set, 2).unwrap();
        import(&mut *device, &set, &path).unwrap();
        let back = parameters::snapshot(&mut *device, &set).unwrap();
        for group in ["params", "ema"] {
            assert_eq!(back[&format!("{group}/g.t1.weight")], checkpoint.tensors["ema/g.t1.weight"], "{group}");
        }
    }

    #[test]
    fn a_file_of_another_model_or_cut_short_is_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let set_of = |name: &str| Model::new(&preset(name).unwrap()).unwrap().set;
        let (dense, gan) = (set_of("vae-mlp-mnist"), set_of("gan-mnist"));
        let mut device = backend::open("cpu", 1).unwrap();
        parameters::initialize(&mut *device, &dense, 1).unwrap();
        let tensors = parameters::snapshot(&mut *device, &dense).unwrap();
        export(&dense, &Checkpoint { tensors, ..Checkpoint::default() }, "{}", &path).unwrap();
        let other = import(&mut *device, &gan, &path).unwrap_err().to_string();
        assert!(other.contains("is not one of this model"), "{other}");
        let bytes = std::fs::read(&path).unwrap();
        for cut in [0, 5, 100, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let cut = import(&mut *device, &dense, &path).unwrap_err().to_string();
            assert!(cut.contains("not a sound safetensors file"), "{cut}");
        }
    }
}
