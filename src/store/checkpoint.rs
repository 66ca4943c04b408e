//! The checkpoint: one safetensors file with everything that is needed to continue a run bit for bit.
//!
//! Tensors are `params/<path>`, `optim/<slot>/<path>`, `ema/<path>` and `state/<path>`, all f32. The
//! metadata has the configuration, the step, and the positions in the random streams and in the data. It
//! also says which images the run was trained on, by which version of the program, and on which kind of
//! device. The file contains no time and no path, and everything is sorted, so the same
//! content gives the same bytes.

use super::atomic::write_atomically;
use super::tensor_file::{Kind, Parsed, write_tensors};
use crate::error::{Error, Result};
use crate::shape::Shape;
use safetensors::Dtype;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

/// The value of `format` in the metadata.
const FORMAT: &str = "pixtape-checkpoint";

/// The version of a run whose moving averages have a constant decay. It is still read, and a run that began
/// with it goes on with it.
const CONSTANT_DECAY: u32 = 1;

/// The version of new runs, and the newest that is read.
const VERSION: u32 = 2;

const KIND: Kind = Kind {
    format: FORMAT,
    oldest: CONSTANT_DECAY,
    newest: VERSION,
    noun: "a checkpoint",
    damaged: "use an earlier checkpoint of the run, or train again",
    wrong: "give a file from the checkpoints folder of a run",
};

/// One dense f32 tensor on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its shape, outermost dimension first.
    pub shape: Shape,
    /// Its elements, row major, `shape.len()` of them.
    pub data: Vec<f32>,
}

impl Tensor {
    /// A tensor from its shape and elements. Panics if the number of elements does not match the shape.
    #[track_caller]
    pub fn new(shape: impl Into<Shape>, data: Vec<f32>) -> Self {
        let shape = shape.into();
        assert_eq!(shape.len(), data.len(), "a tensor of shape {shape} has {} elements", shape.len());
        Tensor { shape, data }
    }
}

/// The rule of the moving averages of the weights.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Averaging {
    /// The decay of every step is `ema`. With a decay near 1 the averages stay near the initial weights for
    /// long.
    Constant,
    /// The decay after t steps is `min(ema, (1 + t) / (10 + t))`, so that the averages soon forget the
    /// initial weights.
    #[default]
    WarmedUp,
}

/// A training run at one step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// Tensors by name: `params/<path>`, `optim/<slot>/<path>`, `ema/<path>`, `state/<path>`.
    pub tensors: BTreeMap<String, Tensor>,
    /// The complete configuration as TOML.
    pub config: String,
    /// Training steps done.
    pub step: u64,
    /// The position in the random streams (seed and replay count), as the training loop writes it.
    pub rng: String,
    /// The position in the data (epoch and images dealt out), as the training loop writes it.
    pub data_cursor: String,
    /// The rule of its moving averages, which the version of the file says.
    pub averaging: Averaging,
    /// The identity of the training images, as JSON. Files of earlier versions of the program have none.
    pub data: Option<String>,
    /// The names of the classes in the order of their labels, as JSON, if the training images have named
    /// classes.
    pub classes: Option<String>,
    /// The version of the program that wrote it. Files of earlier versions have none.
    pub program: Option<String>,
    /// The kind of device that it was trained on: `cpu`, `cuda` or `wgpu`. Files of earlier versions of the
    /// program have none.
    pub device: Option<String>,
}

impl Checkpoint {
    /// Adds a tensor under `name`. Panics if its number of elements does not match its shape, or if it has
    /// none.
    #[track_caller]
    pub fn insert(&mut self, name: impl Into<String>, shape: impl Into<Shape>, data: Vec<f32>) {
        self.tensors.insert(name.into(), Tensor::new(shape, data));
    }

    /// The tensors whose name starts with `group` and a slash, without that prefix: `group("params")`.
    pub fn group<'a>(&'a self, group: &str) -> impl Iterator<Item = (&'a str, &'a Tensor)> {
        let prefix = format!("{group}/");
        self.tensors.iter().filter_map(move |(name, tensor)| Some((name.strip_prefix(&prefix)?, tensor)))
    }

    /// The name of the first tensor that contains a NaN or an infinity. Such a file loads, but training does
    /// not save one, and it is neither resumed nor sampled from.
    #[doc(hidden)]
    pub fn first_non_finite(&self) -> Option<&str> {
        self.first_non_finite_of(|_| true)
    }

    /// Like [`first_non_finite`](Checkpoint::first_non_finite), among the tensors whose names are `used`.
    fn first_non_finite_of(&self, used: fn(&str) -> bool) -> Option<&str> {
        let mut broken = self.tensors.iter().filter(|(_, tensor)| tensor.data.iter().any(|x| !x.is_finite()));
        broken.find(|(name, _)| used(name)).map(|(name, _)| name.as_str())
    }

    /// Checks that the tensors whose names are `used` have only finite values. `path` is the file of the
    /// checkpoint, for the message.
    ///
    /// # Errors
    /// [`Error::File`] naming the first tensor that has others.
    pub(crate) fn expect_finite(&self, path: &Path, used: fn(&str) -> bool) -> Result<()> {
        let Some(name) = self.first_non_finite_of(used) else { return Ok(()) };
        let reason = format!("its tensor {name} holds values that are not finite, so the training had diverged");
        Err(Error::file(path, reason, "use an earlier checkpoint of the run if there is one, or train again"))
    }

    /// Compares the tensors of `groups` (`params`, `optim`, `ema`, `state`) with the names and shapes that a
    /// model expects; other groups are ignored. `path` is the file of the checkpoint, for the message.
    ///
    /// # Errors
    /// [`Error::File`] listing what is missing, extra or of another shape.
    #[doc(hidden)]
    pub fn expect(&self, path: &Path, groups: &[&str], expected: &BTreeMap<String, Shape>) -> Result<()> {
        let looked_at = |name: &&String| groups.contains(&name.split('/').next().unwrap_or_default());
        let missing = expected.keys().filter(|name| !self.tensors.contains_key(*name)).cloned();
        let extra = self.tensors.keys().filter(looked_at).filter(|name| !expected.contains_key(*name)).cloned();
        let misshapen = expected.iter().filter_map(|(name, want)| {
            let have = self.tensors.get(name)?.shape;
            (have != *want).then(|| format!("{name} is {have}, not {want}"))
        });
        let found: Vec<String> = [
            shortened("missing", missing.collect()),
            shortened("extra", extra.collect()),
            shortened("misshapen", misshapen.collect()),
        ]
        .into_iter()
        .flatten()
        .collect();
        if found.is_empty() {
            return Ok(());
        }
        let reason = format!("its tensors are not those of this model ({})", found.join("; "));
        Err(Error::file(path, reason, "use it with the network and sizes that it was trained with"))
    }

    /// Writes the checkpoint to `path` so that a crash at any moment leaves either the old file or the new
    /// one.
    ///
    /// # Errors
    /// [`Error::File`] if the folder is missing or cannot be written to, or if the disk is full. Nothing
    /// else in the folder changes then.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_atomically(path, |out| self.write(out))
    }

    /// The bytes of the file.
    #[doc(hidden)]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes).expect("writing to memory does not fail");
        bytes
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let version = match self.averaging {
            Averaging::Constant => CONSTANT_DECAY,
            Averaging::WarmedUp => VERSION,
        };
        let (version, step) = (version.to_string(), self.step.to_string());
        let metadata = [
            ("format", FORMAT),
            ("version", &version),
            ("config", &self.config),
            ("step", &step),
            ("rng", &self.rng),
            ("data_cursor", &self.data_cursor),
        ];
        let provenance =
            [("data", &self.data), ("classes", &self.classes), ("program", &self.program), ("device", &self.device)];
        let provenance = provenance.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?)));
        let tensors = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.shape.dims(), &tensor.data[..]));
        write_tensors(out, metadata.into_iter().chain(provenance).collect(), tensors)
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read, is truncated or damaged, is no checkpoint, or was written
    /// by a newer pixtape.
    pub fn load(path: &Path) -> Result<Self> {
        Checkpoint::parse(path, &KIND.read(path)?)
    }

    /// Reads a checkpoint from the bytes of a file; `path` is only for the message.
    ///
    /// # Errors
    /// [`Error::File`] if the bytes are not a sound checkpoint of a version that this crate knows.
    #[doc(hidden)]
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let Parsed { version, metadata, tensors: views } = KIND.parse(path, bytes)?;
        let damaged = |reason: String| KIND.damaged(path, reason);
        let text =
            |key: &str| metadata.get(key).cloned().ok_or_else(|| damaged(format!("its metadata have no `{key}`")));
        let step = text("step")?;
        let step = step.parse().map_err(|_| damaged(format!("its step is \"{step}\", not a whole number")))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in views.iter() {
            if view.dtype() != Dtype::F32 {
                return Err(damaged(format!("its tensor {name} is {}, not F32", view.dtype())));
            }
            if view.shape().len() > 4 || view.shape().contains(&0) {
                return Err(damaged(format!("its tensor {name} has the impossible shape {:?}", view.shape())));
            }
            let data = view.data().as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect();
            tensors.insert(name.to_string(), Tensor::new(Shape::new(view.shape()), data));
        }
        let optional = |key: &str| metadata.get(key).cloned();
        Ok(Checkpoint {
            tensors,
            config: text("config")?,
            step,
            rng: text("rng")?,
            data_cursor: text("data_cursor")?,
            averaging: if version == CONSTANT_DECAY { Averaging::Constant } else { Averaging::WarmedUp },
            data: optional("data"),
            classes: optional("classes"),
            program: optional("program"),
            device: optional("device"),
        })
    }
}

/// The body of the fuzz target: no bytes make the parser panic, and what it accepts survives a round trip.
/// The error is the message of a refusal.
pub fn fuzz_parse(bytes: &[u8]) -> Result<(), String> {
    let checkpoint = Checkpoint::parse(Path::new("file"), bytes).map_err(|error| error.to_string())?;
    let written = checkpoint.to_bytes();
    let again = Checkpoint::parse(Path::new("file"), &written).expect("what was written can be read");
    // Bytes, not values: a NaN is not equal to itself.
    assert_eq!(again.to_bytes(), written);
    Ok(())
}

/// A text such as "2 missing: a, b" with at most two names, so that three lists fit into a message; empty
/// for an empty list.
fn shortened(what: &str, names: Vec<String>) -> Option<String> {
    const SHOWN: usize = 2;
    if names.is_empty() {
        return None;
    }
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    let shown = &names[..names.len().min(SHOWN)];
    Some(format!("{} {what}: {}{more}", names.len(), shown.join(", ")))
}
