//! The parameters of a model: names, shapes, initial values, and how PyTorch would store them.

use crate::math;
use crate::rng::{self, Stream};
use crate::shape::{ImageSize, Shape};
use crate::tape::op::{Param, ParamId};
use std::rc::Rc;

/// The initial value of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// The same number everywhere.
    Fill(f32),
    /// Uniform in [-bound, bound).
    Uniform(f32),
    /// Normal with this mean and standard deviation.
    Normal(f32, f32),
    /// The biases of LSTM gates in the order i f g o: this number for the forget gates (the second quarter),
    /// 0 for the others.
    ForgetGate(f32),
}

/// How PyTorch orders the axes of a parameter, which is channels-last here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The same order.
    Same,
    /// `[kh, kw, cin, cout]` here, `[cout, cin, kh, kw]` there; for a transposed convolution, whose weight
    /// is that of the convolution it is the gradient of, that is `[in, out, kh, kw]`.
    Conv,
    /// `[in, out]` here, `[out, in]` there.
    Linear,
    /// A linear layer that reads a flattened map of this size: `[h, w, c]` here, `[c, h, w]` there.
    LinearFromMap(ImageSize),
    /// A linear layer that writes a flattened map of this size: `[h, w, c]` here, `[c, h, w]` there.
    LinearToMap(ImageSize),
    /// The bias of such a layer: its elements are a map `[h, w, c]` here, `[c, h, w]` there.
    BiasOfMap(ImageSize),
}

/// One entry of a [`ParamSet`].
#[derive(Clone, Debug)]
pub struct ParamSpec {
    /// The handle.
    pub param: Param,
    /// How its initial value is drawn.
    pub init: Init,
    /// Its layout in files that other programs read.
    pub layout: Layout,
    /// The name that seeds its initial value: its own, or that of the weight that it averages.
    starts_as: Rc<str>,
}

/// All parameters and state of a model, shared by its plans.
#[derive(Clone, Debug, Default)]
pub struct ParamSet {
    specs: Vec<ParamSpec>,
}

impl ParamSet {
    /// An empty set.
    pub fn new() -> Self {
        ParamSet::default()
    }

    /// Adds a trainable parameter under `params/<path>`.
    #[track_caller]
    pub fn weight(&mut self, path: &str, shape: impl Into<Shape>, init: Init, layout: Layout) -> Param {
        self.add(format!("params/{path}"), shape.into(), init, layout)
    }

    /// Adds a piece of state under `state/<path>` (running statistics).
    #[track_caller]
    pub fn state(&mut self, path: &str, shape: impl Into<Shape>, init: Init) -> Param {
        self.add(format!("state/{path}"), shape.into(), init, Layout::Same)
    }

    /// Adds a companion of `param` under `<group>/<its name>`, e.g. `optim/m`, with the same shape and
    /// layout. The name of `params/a` and of `state/a` is `a`.
    #[track_caller]
    pub fn companion(&mut self, group: &str, param: &Param, init: Init) -> Param {
        let layout = self.specs[param.id.0 as usize].layout;
        let name = param.path.split_once('/').map_or(&*param.path, |(_, name)| name);
        self.add(format!("{group}/{name}"), param.shape, init, layout)
    }

    /// Adds the moving average of `param` under `ema/<its name>`. It has the same initial value.
    #[track_caller]
    pub fn average(&mut self, param: &Param) -> Param {
        let average = self.companion("ema", param, self.specs[param.id.0 as usize].init);
        self.specs[average.id.0 as usize].starts_as = param.path.clone();
        average
    }

    #[track_caller]
    fn add(&mut self, path: String, shape: Shape, init: Init, layout: Layout) -> Param {
        assert!(self.find(&path).is_none(), "parameter {path} is declared twice");
        let param = Param { id: ParamId(self.specs.len() as u32), path: path.into(), shape };
        self.specs.push(ParamSpec { starts_as: param.path.clone(), param: param.clone(), init, layout });
        param
    }

    /// All entries, in the order of declaration.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// The entry of this name.
    pub fn find(&self, path: &str) -> Option<&ParamSpec> {
        self.specs.iter().find(|s| &*s.param.path == path)
    }

    /// The trainable parameters, in the order of declaration.
    pub fn weights(&self) -> impl Iterator<Item = &Param> {
        self.specs.iter().map(|s| &s.param).filter(|p| p.path.starts_with("params/"))
    }
}

impl ParamSpec {
    /// The initial value under `seed`. It depends on the name, not on the order of declaration, so a model
    /// keeps its initial values if another parameter is declared before.
    pub fn initial(&self, seed: u32) -> Vec<f32> {
        let draw = |i: usize| rng::words(seed ^ name_hash(&self.starts_as), Stream::Init, [0, i as u32]);
        let len = self.param.shape.len();
        match self.init {
            Init::Fill(value) => vec![value; len],
            Init::Uniform(bound) => (0..len).map(|i| bound * (2.0 * rng::unit(draw(i)[0]) - 1.0)).collect(),
            Init::ForgetGate(value) => (0..len).map(|i| if i * 4 / len == 1 { value } else { 0.0 }).collect(),
            Init::Normal(mean, std) => (0..len).map(|i| mean + std * math::normal(draw(i))).collect(),
        }
    }

    /// The value in PyTorch's order, with PyTorch's shape.
    pub fn to_torch(&self, value: &[f32]) -> (Vec<usize>, Vec<f32>) {
        let (shape, order) = self.torch_order();
        (shape, order.into_iter().map(|i| value[i]).collect())
    }

    /// PyTorch's shape.
    pub(crate) fn torch_shape(&self) -> Vec<usize> {
        self.torch_order().0
    }

    /// The value from PyTorch's order.
    pub fn from_torch(&self, value: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; value.len()];
        for (theirs, ours) in self.torch_order().1.into_iter().enumerate() {
            out[ours] = value[theirs];
        }
        out
    }

    /// PyTorch's shape, and for each of its elements the index of ours.
    fn torch_order(&self) -> (Vec<usize>, Vec<usize>) {
        let dims = self.param.shape.dims();
        // Channels-first position -> channels-last position of a flattened map.
        let map = |ImageSize { height, width, channels }| {
            let pixels = height * width;
            move |i: usize| (i % pixels) * channels + i / pixels
        };
        match self.layout {
            Layout::Same => (dims.to_vec(), (0..self.param.shape.len()).collect()),
            Layout::Conv => {
                let (taps, cin, cout) = (dims[0] * dims[1], dims[2], dims[3]);
                let of = |i: usize| (i % taps * cin + i / taps % cin) * cout + i / taps / cin;
                (vec![cout, cin, dims[0], dims[1]], (0..taps * cin * cout).map(of).collect())
            }
            Layout::Linear => linear(dims, |i| i, |o| o),
            Layout::LinearFromMap(size) => linear(dims, map(size), |o| o),
            Layout::LinearToMap(size) => linear(dims, |i| i, map(size)),
            Layout::BiasOfMap(size) => (dims.to_vec(), (0..dims[0]).map(map(size)).collect()),
        }
    }
}

fn linear(dims: &[usize], input: impl Fn(usize) -> usize, output: impl Fn(usize) -> usize) -> (Vec<usize>, Vec<usize>) {
    let (n_in, n_out) = (dims[0], dims[1]);
    let order = (0..n_out * n_in).map(|i| input(i % n_in) * n_out + output(i / n_in)).collect();
    (vec![n_out, n_in], order)
}

/// FNV-1a, 32 bits.
fn name_hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
