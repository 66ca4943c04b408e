//! The file format of reference cases: a safetensors file whose metadata list the cases.
//! `docs/reference-cases.md` describes it.

use crate::check::case::GRADIENT_TOLERANCE;
use crate::check::elements::Values;
use crate::error::Result;
use crate::shape::DType;
use crate::store::{Kind, Parsed};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

const KIND: Kind = Kind {
    format: "pixtape-cases",
    oldest: 1,
    newest: 1,
    noun: "a file of reference cases",
    damaged: "write it again",
    wrong: "give a file of reference cases",
};

/// All cases of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseFile {
    /// The cases, in the order of the metadata.
    pub cases: Vec<ReferenceCase>,
}

/// One case. Its tensors have PyTorch's layout.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferenceCase {
    /// Its name, which is unique in the file.
    pub name: String,
    /// Its op, one of [`super::OPS`].
    pub op: String,
    /// Attributes.
    pub attrs: Map<String, Value>,
    /// Tolerance of the values.
    pub tol: f64,
    /// Tolerance of the gradients.
    pub grad_tol: f64,
    /// Tensors by `in/<input>`, `out/<output>`, `cot/<output>`, `grad/<input>`.
    pub tensors: BTreeMap<String, Tensor>,
}

/// A tensor of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// PyTorch's shape.
    pub shape: Vec<usize>,
    /// Its elements, in PyTorch's order.
    pub values: Values,
}

impl Tensor {
    /// The type of its elements on the tape.
    pub fn dtype(&self) -> DType {
        match self.values {
            Values::F32(_) => DType::F32,
            Values::U32(_) => DType::U32,
        }
    }
}

/// A case, as the metadata list it.
#[derive(Deserialize)]
struct Entry {
    name: String,
    op: String,
    #[serde(default)]
    attrs: Map<String, Value>,
    tol: f64,
    #[serde(default = "default_grad_tol")]
    grad_tol: f64,
}

fn default_grad_tol() -> f64 {
    GRADIENT_TOLERANCE
}

impl CaseFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::File`](crate::error::Error::File) if it cannot be read, is truncated or damaged, is
    /// another kind of file, or is newer than this program.
    pub fn load(path: &Path) -> Result<Self> {
        CaseFile::parse(path, &KIND.read(path)?)
    }

    /// Reads the bytes of a file. `path` is only used in messages.
    ///
    /// # Errors
    /// [`Error::File`](crate::error::Error::File) for any bytes that are not a valid file of a version
    /// that this program knows.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let damaged = |reason: String| KIND.damaged(path, reason);
        let Parsed { metadata, tensors: views, .. } = KIND.parse(path, bytes)?;
        let list = metadata.get("cases").ok_or_else(|| damaged("its metadata have no `cases`".to_string()))?;
        let entries: Vec<Entry> = serde_json::from_str(list)
            .map_err(|e| damaged(format!("its list of cases cannot be read ({e})")).because(e))?;
        if entries.is_empty() {
            return Err(damaged("it lists no case".to_string()));
        }
        let mut names = HashSet::new();
        if let Some(twice) = entries.iter().find(|e| !names.insert(&e.name)) {
            return Err(damaged(format!("it lists the case {:?} twice", twice.name)));
        }
        let mut tensors = tensors_by_case(&views).map_err(damaged)?;
        let cases = entries.into_iter().map(|e| {
            let tensors = tensors.remove(&e.name).unwrap_or_default();
            ReferenceCase { name: e.name, op: e.op, attrs: e.attrs, tol: e.tol, grad_tol: e.grad_tol, tensors }
        });
        let cases = cases.collect();
        match tensors.keys().next() {
            Some(name) => Err(damaged(format!("it has tensors of a case {name:?} that it does not list"))),
            None => Ok(CaseFile { cases }),
        }
    }

    /// The ops of all cases, without duplicates.
    pub fn ops(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        self.cases.iter().map(|c| c.op.as_str()).filter(|op| seen.insert(*op)).collect()
    }
}

/// The tensors by the name of the case, then by role and name: `conv/in/x` is the input x of the case
/// `conv`.
fn tensors_by_case(views: &SafeTensors) -> Result<BTreeMap<String, BTreeMap<String, Tensor>>, String> {
    let mut all: BTreeMap<String, BTreeMap<String, Tensor>> = BTreeMap::new();
    for (name, view) in views.iter() {
        // Split from the end, because the name of a case may contain slashes.
        let mut parts = name.rsplitn(3, '/');
        let (what, role, case) = (parts.next(), parts.next(), parts.next());
        let (Some(what), Some(role @ ("in" | "out" | "cot" | "grad")), Some(case)) = (what, role, case) else {
            return Err(format!("its tensor {name:?} is not called <case>/in|out|cot|grad/<name>"));
        };
        let tensor = read_tensor(&view).map_err(|why| format!("its tensor {name:?} {why}"))?;
        all.entry(case.to_string()).or_default().insert(format!("{role}/{what}"), tensor);
    }
    Ok(all)
}

fn read_tensor(view: &TensorView) -> Result<Tensor, String> {
    let shape = view.shape().to_vec();
    if shape.len() > 4 {
        return Err(format!("has {} dimensions; at most 4 are known", shape.len()));
    }
    let values = match view.dtype() {
        Dtype::F32 => Values::F32(view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        Dtype::I64 => {
            let index =
                |b: &[u8; 8]| u32::try_from(i64::from_le_bytes(*b)).map_err(|_| "has an index below 0 or above 2^32");
            Values::U32(view.data().as_chunks().0.iter().map(index).collect::<Result<_, _>>()?)
        }
        other => return Err(format!("is {other}; floats are F32, integers I64")),
    };
    Ok(Tensor { shape, values })
}
