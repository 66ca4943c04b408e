//! A case: an op recorded from drawn inputs, how often it can be differentiated, and how exact it must be.

use super::draw::Draw;
use crate::backend::Scalars;
use crate::shape::Shape;
use crate::tape::{Tape, Var};
use std::fmt;

/// Largest relative error (Euclidean norm) of a value in f32.
pub const VALUE_TOLERANCE: f64 = 1e-5;

/// The same for a gradient.
pub const GRADIENT_TOLERANCE: f64 = 1e-4;

/// An input of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseInput {
    /// Its name.
    pub name: &'static str,
    /// Its shape.
    pub shape: Shape,
    /// How it is drawn.
    pub draw: Draw,
    /// Whether gradients with respect to it are taken, where the op has any.
    pub graded: bool,
    /// Whether it is a parameter of the plan rather than fed, so that it can be stored.
    pub param: bool,
}

impl CaseInput {
    /// An input that is drawn like this.
    pub fn new(name: &'static str, shape: impl Into<Shape>, draw: Draw) -> Self {
        CaseInput { name, shape: shape.into(), draw, graded: !matches!(draw, Draw::Index(_)), param: false }
    }

    /// No gradient with respect to it.
    pub fn constant(self) -> Self {
        CaseInput { graded: false, ..self }
    }

    /// A parameter of the plan.
    pub fn param(self) -> Self {
        CaseInput { graded: false, param: true, ..self }
    }
}

/// A standard normal input.
pub fn normal(name: &'static str, shape: impl Into<Shape>) -> CaseInput {
    CaseInput::new(name, shape, Draw::Normal)
}

/// An input that is drawn otherwise.
pub fn drawn(name: &'static str, shape: impl Into<Shape>, draw: Draw) -> CaseInput {
    CaseInput::new(name, shape, draw)
}

/// How often a case can be differentiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// Not at all.
    Zero,
    /// Once: its gradient has no gradient.
    Once,
    /// Twice.
    Twice,
}

/// An output that replaces the value of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaseStore {
    /// Which output.
    pub output: usize,
    /// Which input; it is a parameter.
    pub input: usize,
}

/// Records the case on a tape, from its inputs to its outputs.
pub type Record = Box<dyn Fn(&Tape, &[Var]) -> Vec<Var> + Send + Sync>;

/// One line of the table.
pub struct Case {
    /// Root word of the op.
    pub op: &'static str,
    /// `op/what is special`: unique, and what a filter is matched against.
    pub name: String,
    /// Inputs, in the order in which `record` takes them.
    pub inputs: Vec<CaseInput>,
    /// What is computed.
    pub record: Record,
    /// Device scalars.
    pub scalars: Scalars,
    /// How often it can be differentiated.
    pub order: Order,
    /// How many of the leading outputs have a gradient; the others are by-products.
    pub graded_outputs: usize,
    /// Whether a function with a kink is applied to what the inputs do not show, so that finite differences lie.
    pub kinked: bool,
    /// Outputs that are stored to parameters when the plan ends.
    pub stores: Vec<CaseStore>,
    /// Tolerance of the values.
    pub tol: f64,
    /// Tolerance of the gradients, first and second.
    pub grad_tol: f64,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Case({})", self.name)
    }
}

impl Case {
    /// A case that cannot be differentiated, in the tolerances of f32.
    pub fn new(
        op: &'static str,
        detail: impl fmt::Display,
        inputs: Vec<CaseInput>,
        record: impl Fn(&Tape, &[Var]) -> Vec<Var> + Send + Sync + 'static,
    ) -> Self {
        Case {
            op,
            name: format!("{op}/{detail}"),
            inputs,
            record: Box::new(record),
            scalars: Scalars::default(),
            order: Order::Zero,
            graded_outputs: usize::MAX,
            kinked: false,
            stores: vec![],
            tol: VALUE_TOLERANCE,
            grad_tol: GRADIENT_TOLERANCE,
        }
    }

    /// Can be differentiated once.
    pub fn once(self) -> Self {
        Case { order: Order::Once, ..self }
    }

    /// Can be differentiated twice.
    pub fn twice(self) -> Self {
        Case { order: Order::Twice, ..self }
    }

    /// Only the first `count` outputs have a gradient.
    pub fn graded_outputs(self, count: usize) -> Self {
        Case { graded_outputs: count, ..self }
    }

    /// Finite differences may cross a kink.
    pub fn kinked(self) -> Self {
        Case { kinked: true, ..self }
    }

    /// Other tolerances, for values and gradients.
    pub fn tolerances(self, tol: f64, grad_tol: f64) -> Self {
        Case { tol, grad_tol, ..self }
    }

    /// Other device scalars.
    pub fn scalars(mut self, set: impl Fn(&mut Scalars)) -> Self {
        set(&mut self.scalars);
        self
    }

    /// Stores output number `output` to the parameter that is input number `input`.
    pub fn store(mut self, output: usize, input: usize) -> Self {
        self.stores.push(CaseStore { output, input });
        self
    }

    /// Whether any of the filters is part of the name; no filter lets everything pass.
    pub fn matches(&self, filters: &[String]) -> bool {
        filters.is_empty() || filters.iter().any(|f| self.name.contains(f.as_str()))
    }
}
