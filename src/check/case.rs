//! A case of the table: an op recorded from random inputs, how often it can be differentiated, and its
//! tolerances.

use super::elements::Elements;
use crate::backend::Scalars;
use crate::shape::Shape;
use crate::tape::{Tape, Var};
use std::fmt;

/// The largest relative error of a value in f32, in the Euclidean norm.
pub const VALUE_TOLERANCE: f64 = 1e-5;

/// The largest relative error of a gradient in f32, in the Euclidean norm.
pub const GRADIENT_TOLERANCE: f64 = 1e-4;

/// An input of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseInput {
    /// Its name.
    pub name: &'static str,
    /// Its shape.
    pub shape: Shape,
    /// How its elements are distributed.
    pub elements: Elements,
    /// Whether gradients with respect to it are checked, if the op has gradients.
    pub graded: bool,
    /// Whether it is a parameter of the plan instead of an input that is fed. Only parameters can be
    /// stored to.
    pub param: bool,
}

impl CaseInput {
    /// An input with these elements.
    pub fn new(name: &'static str, shape: impl Into<Shape>, elements: Elements) -> Self {
        CaseInput { name, shape: shape.into(), elements, graded: !matches!(elements, Elements::Index(_)), param: false }
    }

    /// The same input without a gradient.
    pub fn constant(self) -> Self {
        CaseInput { graded: false, ..self }
    }

    /// The same input as a parameter of the plan.
    pub fn param(self) -> Self {
        CaseInput { graded: false, param: true, ..self }
    }
}

/// A standard normal input.
pub fn normal(name: &'static str, shape: impl Into<Shape>) -> CaseInput {
    CaseInput::new(name, shape, Elements::Normal)
}

/// An input with another distribution.
pub fn drawn(name: &'static str, shape: impl Into<Shape>, elements: Elements) -> CaseInput {
    CaseInput::new(name, shape, elements)
}

/// How often a case can be differentiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// Not at all.
    Zero,
    /// Once: its gradient cannot be differentiated.
    Once,
    /// Twice.
    Twice,
}

/// An output that is stored to a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaseStore {
    /// Index of the output.
    pub output: usize,
    /// Index of the input, which is a parameter.
    pub input: usize,
}

/// Records a case on a tape, from its inputs to its outputs.
pub type Record = Box<dyn Fn(&Tape, &[Var]) -> Vec<Var> + Send + Sync>;

/// One case of the table.
pub struct Case {
    /// The op, without attributes.
    pub op: &'static str,
    /// A unique name `op/details`. Filters are compared with it.
    pub name: String,
    /// Inputs, in the order in which `record` takes them.
    pub inputs: Vec<CaseInput>,
    /// Records the computation.
    pub record: Record,
    /// Device scalars.
    pub scalars: Scalars,
    /// How often it can be differentiated.
    pub order: Order,
    /// How many of the first outputs have a gradient. The others are by-products.
    pub graded_outputs: usize,
    /// Whether finite differences can be wrong, because a function with a kink is applied to an
    /// intermediate value.
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
    /// A case that cannot be differentiated, with the tolerances of f32.
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

    /// Marks the case as differentiable once.
    pub fn once(self) -> Self {
        Case { order: Order::Once, ..self }
    }

    /// Marks the case as differentiable twice.
    pub fn twice(self) -> Self {
        Case { order: Order::Twice, ..self }
    }

    /// Only the first `count` outputs have a gradient.
    pub fn graded_outputs(self, count: usize) -> Self {
        Case { graded_outputs: count, ..self }
    }

    /// Marks a case for which finite differences may cross a kink.
    pub fn kinked(self) -> Self {
        Case { kinked: true, ..self }
    }

    /// Sets the tolerances of values and gradients.
    pub fn tolerances(self, tol: f64, grad_tol: f64) -> Self {
        Case { tol, grad_tol, ..self }
    }

    /// Sets device scalars.
    pub fn scalars(mut self, set: impl Fn(&mut Scalars)) -> Self {
        set(&mut self.scalars);
        self
    }

    /// Stores output number `output` to the parameter that is input number `input`.
    pub fn store(mut self, output: usize, input: usize) -> Self {
        self.stores.push(CaseStore { output, input });
        self
    }

    /// Whether one of the filters is a part of the name. Without filters every case matches.
    pub fn matches(&self, filters: &[String]) -> bool {
        filters.is_empty() || filters.iter().any(|f| self.name.contains(f.as_str()))
    }
}
