//! Records one reference case on a tape: finds its tensors, checks them against the shapes that the op
//! expects, and reads the results back.
//!
//! Nothing here may panic, whatever the file contains. Every shape is verified before it is recorded, and
//! every output is compared with the shape of its expected tensor before anything is computed.

use super::compared::Compared;
use super::file::{ReferenceCase, Tensor};
use super::layout::MemoryLayout;
use crate::backend::{Backend, Scalars};
use crate::check::elements::Values;
use crate::shape::{DType, Meta};
use crate::tape::op::Scalar;
use crate::tape::plan::Plan;
use crate::tape::{Tape, Var};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The largest extent or padding that is accepted. Larger ones could overflow.
const MAX_EXTENT: u64 = 1 << 20;

/// An input on the tape.
struct Fed {
    name: &'static str,
    v: Var,
    torch: Vec<usize>,
    layout: MemoryLayout,
    graded: bool,
}

/// A value that is read back.
struct Read {
    name: String,
    want: Tensor,
    layout: MemoryLayout,
    is_gradient: bool,
}

/// The case while it is recorded.
pub struct Recorder<'a> {
    case: &'a ReferenceCase,
    /// The tape that the case is recorded on.
    pub tape: Tape,
    scalars: Scalars,
    /// The extents that the letters of the shapes stand for.
    extents: BTreeMap<char, usize>,
    /// The rank of the inputs of any shape, once there is one.
    rank: Option<usize>,
    fed: Vec<Fed>,
    feeds: Vec<Values>,
    reads: Vec<Read>,
    projections: Vec<(Var, Var)>,
    used: BTreeSet<String>,
}

/// A recorded case.
pub struct Recorded {
    tape: Tape,
    scalars: Scalars,
    feeds: Vec<Values>,
    reads: Vec<Read>,
}

impl<'a> Recorder<'a> {
    /// A recorder for a case, with an empty tape.
    pub fn new(case: &'a ReferenceCase) -> Self {
        Recorder {
            case,
            tape: Tape::new(),
            scalars: Scalars::default(),
            extents: BTreeMap::new(),
            rank: None,
            fed: vec![],
            feeds: vec![],
            reads: vec![],
            projections: vec![],
            used: BTreeSet::new(),
        }
    }

    /// Returns the recorded case, including its gradients if it has cotangents. The error is a sentence.
    pub fn finish(mut self) -> Result<Recorded, String> {
        self.gradients()?;
        if let Some(extra) = self.case.tensors.keys().find(|name| !self.used.contains(*name)) {
            return Err(format!("it has a tensor {extra} that {} does not know", self.case.op));
        }
        Ok(Recorded { tape: self.tape, scalars: self.scalars, feeds: self.feeds, reads: self.reads })
    }

    /// Declares the input `name`. Its shape is spelled with one character per extent: a letter stands for
    /// the same extent wherever it appears in a case, and a digit stands for itself.
    pub fn input(&mut self, name: &'static str, letters: &str, layout: MemoryLayout) -> Result<Var, String> {
        self.feed(name, letters, layout, true)
    }

    /// Declares an input without a gradient.
    pub fn constant(&mut self, name: &'static str, letters: &str, layout: MemoryLayout) -> Result<Var, String> {
        self.feed(name, letters, layout, false)
    }

    /// Declares an input that may be missing.
    pub fn optional(&mut self, name: &'static str, letters: &str, layout: MemoryLayout) -> Result<Option<Var>, String> {
        if !self.case.tensors.contains_key(&format!("in/{name}")) {
            return Ok(None);
        }
        self.input(name, letters, layout).map(Some)
    }

    /// Declares an input of any shape. All such inputs of a case have the same shape.
    pub fn any(&mut self, name: &'static str, graded: bool) -> Result<Var, String> {
        let rank = self.shape(name)?.len();
        let letters = &"abcd"[..*self.rank.get_or_insert(rank)];
        self.feed(name, letters, MemoryLayout::Same, graded)
    }

    /// Declares an input of indices below the extent `below`.
    pub fn index(&mut self, name: &'static str, letters: &str, below: char) -> Result<Var, String> {
        let tensor = self.tensor(&format!("in/{name}"))?;
        let Values::U32(indices) = &tensor.values else {
            return Err(format!("its input {name} must be I64"));
        };
        let limit = self.extent(below);
        if let Some(large) = indices.iter().find(|i| **i as usize >= limit) {
            return Err(format!("its input {name} holds {large}, but there are only {limit} classes"));
        }
        self.bind(&format!("in/{name}"), letters, &tensor.shape)?;
        let v = self.tape.input(name, Meta::u32(MemoryLayout::Same.shape(&tensor.shape)));
        self.feeds.push(tensor.values.clone());
        Ok(v)
    }

    fn feed(&mut self, name: &'static str, letters: &str, layout: MemoryLayout, graded: bool) -> Result<Var, String> {
        let tensor = self.tensor(&format!("in/{name}"))?;
        let values = self.placed(&format!("in/{name}"), tensor, letters, layout)?;
        let v = self.tape.input(name, Meta::f32(layout.shape(&tensor.shape)));
        self.fed.push(Fed { name, v, torch: tensor.shape.clone(), layout, graded });
        self.feeds.push(values);
        Ok(v)
    }

    /// The extent that a letter stands for, or 0 if no input has set it.
    pub fn extent(&self, letter: char) -> usize {
        self.extents.get(&letter).copied().unwrap_or(0)
    }

    /// The shape of an input in PyTorch's layout.
    pub fn shape(&self, input: &str) -> Result<&'a [usize], String> {
        let tensor = self.case.tensors.get(&format!("in/{input}"));
        tensor.map(|t| t.shape.as_slice()).ok_or_else(|| format!("its tensor in/{input} is missing"))
    }

    /// Declares that `v` is the output `name`. Its expected value must have the same shape.
    pub fn output(&mut self, name: &'static str, v: Var, layout: MemoryLayout) -> Result<(), String> {
        let (key, meta) = (format!("out/{name}"), self.tape.meta(v));
        let want = self.tensor(&key)?;
        self.must_be(&key, want, meta, layout)?;
        self.read(key, v, want, layout, false);
        let cotangent = format!("cot/{name}");
        if self.case.tensors.contains_key(&cotangent) {
            let tensor = self.tensor(&cotangent)?;
            self.must_be(&cotangent, tensor, Meta::f32(meta.shape), layout)?;
            let Values::F32(values) = &tensor.values else { return Err(format!("its tensor {cotangent} must be F32")) };
            let dy = self.tape.input(&cotangent, Meta::f32(meta.shape));
            self.feeds.push(Values::F32(layout.to_ours(&tensor.shape, values)));
            self.projections.push((v, dy));
        }
        Ok(())
    }

    /// Records the gradient of every input that has one.
    fn gradients(&mut self) -> Result<(), String> {
        let is = |role: &str| self.case.tensors.keys().any(|name| name.starts_with(role));
        if !is("grad/") && !is("cot/") {
            return Ok(());
        }
        let missing = self.reads.iter().map(|r| r.name.replace("out/", "cot/"));
        if let Some(name) = missing.into_iter().find(|name| !self.case.tensors.contains_key(name)) {
            return Err(format!("it has gradients, but its tensor {name} is missing"));
        }
        let graded: Vec<Fed> = std::mem::take(&mut self.fed).into_iter().filter(|fed| fed.graded).collect();
        let xs: Vec<Var> = graded.iter().map(|fed| fed.v).collect();
        let gradients = self.tape.grad_from(&self.projections, &xs);
        for (fed, g) in graded.into_iter().zip(gradients) {
            let key = format!("grad/{}", fed.name);
            let want = self.tensor(&key)?;
            if want.shape != fed.torch {
                return Err(format!("its tensor {key} has the shape {:?}, its input {:?}", want.shape, fed.torch));
            }
            self.read(key, g, want, fed.layout, true);
        }
        Ok(())
    }

    fn read(&mut self, name: String, v: Var, want: &Tensor, layout: MemoryLayout, is_gradient: bool) {
        self.tape.output(&name, v);
        self.reads.push(Read { name, want: want.clone(), layout, is_gradient });
    }

    fn tensor(&mut self, name: &str) -> Result<&'a Tensor, String> {
        let tensor = self.case.tensors.get(name).ok_or_else(|| format!("its tensor {name} is missing"))?;
        self.used.insert(name.to_string());
        Ok(tensor)
    }

    /// A float tensor in our order.
    fn placed(&mut self, name: &str, tensor: &Tensor, letters: &str, layout: MemoryLayout) -> Result<Values, String> {
        let Values::F32(values) = &tensor.values else { return Err(format!("its tensor {name} must be F32")) };
        self.bind(name, letters, &tensor.shape)?;
        Ok(Values::F32(layout.to_ours(&tensor.shape, values)))
    }

    /// Compares a shape with its letters, and sets letters that are new.
    fn bind(&mut self, name: &str, letters: &str, shape: &[usize]) -> Result<(), String> {
        if shape.contains(&0) {
            return Err(format!("its tensor {name} is empty (shape {shape:?})"));
        }
        let known = |letter: char| match letter.to_digit(10) {
            Some(digit) => Some(digit as usize),
            None => self.extents.get(&letter).copied(),
        };
        let fits = letters.chars().count() == shape.len()
            && letters.chars().zip(shape).all(|(letter, extent)| known(letter).is_none_or(|k| k == *extent));
        if !fits {
            let spelled = |letter: char| known(letter).map_or(letter.to_string(), |extent| extent.to_string());
            let want = letters.chars().map(spelled).collect::<Vec<_>>().join(", ");
            return Err(format!("its tensor {name} has the shape {shape:?}, not [{want}]"));
        }
        self.extents.extend(letters.chars().filter(|l| !l.is_ascii_digit()).zip(shape.iter().copied()));
        Ok(())
    }

    fn must_be(&self, name: &str, tensor: &Tensor, meta: Meta, layout: MemoryLayout) -> Result<(), String> {
        let fits = tensor.shape.len() == meta.shape.rank() && layout.shape(&tensor.shape) == meta.shape;
        if !fits {
            let (got, want) = (&tensor.shape, meta.shape);
            return Err(format!("its tensor {name} has the shape {got:?}, the op gives {want} (channels last)"));
        }
        if tensor.dtype() != meta.dtype {
            let want = if meta.dtype == DType::U32 { "I64" } else { "F32" };
            return Err(format!("its tensor {name} must be {want}"));
        }
        Ok(())
    }
}

/// Access to the attributes of the case.
impl Recorder<'_> {
    fn attr(&self, name: &str) -> Option<&Value> {
        self.case.attrs.get(name)
    }

    /// A number that is required and finite.
    pub fn number(&self, name: &str) -> Result<f64, String> {
        // It must also be finite as an f32.
        let number = self.attr(name).and_then(Value::as_f64).filter(|x| (*x as f32).is_finite());
        number.ok_or_else(|| format!("its attribute {name} must be a number"))
    }

    /// A device scalar that is set by an attribute.
    pub fn scalar(&mut self, name: &str, scalar: Scalar) -> Result<Var, String> {
        let value = self.number(name)? as f32;
        self.scalars.set(scalar, value);
        Ok(self.tape.scalar(scalar))
    }

    /// True or false; false if it is missing.
    pub fn flag(&self, name: &str) -> Result<bool, String> {
        let value = self.attr(name).map_or(Some(false), Value::as_bool);
        value.ok_or_else(|| format!("its attribute {name} must be true or false"))
    }

    /// A word; `default` if it is missing.
    pub fn word(&self, name: &str, default: &'static str) -> Result<&str, String> {
        let value = self.attr(name).map_or(Some(default), Value::as_str);
        value.ok_or_else(|| format!("its attribute {name} must be a word"))
    }

    /// An integer; `default` if it is missing.
    pub fn whole(&self, name: &str, default: u64) -> Result<usize, String> {
        let value = self.attr(name).map_or(Some(default), Value::as_u64);
        extent(value).ok_or_else(|| format!("its attribute {name} must be a whole number up to {MAX_EXTENT}"))
    }

    /// One integer for both axes, or `[h, w]`; `default` if it is missing.
    pub fn pair(&self, name: &str, default: u64) -> Result<[usize; 2], String> {
        let both = |value: Option<u64>| extent(value).map(|v| [v, v]);
        let value = match self.attr(name) {
            None => both(Some(default)),
            Some(Value::Array(two)) => match two.as_slice() {
                [h, w] => extent(h.as_u64()).zip(extent(w.as_u64())).map(|(h, w)| [h, w]),
                _ => None,
            },
            Some(one) => both(one.as_u64()),
        };
        value.ok_or_else(|| format!("its attribute {name} must be one or two whole numbers up to {MAX_EXTENT}"))
    }
}

fn extent(value: Option<u64>) -> Option<usize> {
    value.filter(|v| *v <= MAX_EXTENT).map(|v| v as usize)
}

impl Recorded {
    /// Runs the case and pairs every result with its expected value. The error is a sentence.
    pub fn run(self, backend: &mut dyn Backend) -> Result<Vec<Compared>, String> {
        let plan = Plan::new("reference case", &self.tape);
        let feeds: Vec<_> = self.feeds.iter().map(Values::feed).collect();
        let compiled = backend.compile(&plan).map_err(|e| e.to_string())?;
        backend.run(compiled, &feeds, &self.scalars).map_err(|e| e.to_string())?;
        let mut results = vec![];
        for (i, read) in self.reads.into_iter().enumerate() {
            let want = read.want.values.to_f64();
            let mut words = vec![0; want.len()];
            backend.read_words(compiled, i, &mut words).map_err(|e| e.to_string())?;
            let dtype = read.want.dtype();
            let number = |w: u32| if dtype == DType::U32 { f64::from(w) } else { f64::from(f32::from_bits(w)) };
            let got: Vec<f64> = words.into_iter().map(number).collect();
            let got = read.layout.to_torch(&read.want.shape, &got);
            results.push(Compared { name: read.name, is_gradient: read.is_gradient, dtype, got, want });
        }
        backend.free(compiled);
        Ok(results)
    }
}
