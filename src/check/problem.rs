//! Turns a case into a plan with inputs: for its values, for its gradients, or for the gradients of its
//! gradients.

use super::case::{Case, Order};
use super::elements::{Elements, Values};
use crate::backend::{Backend, Compiled, Feed, Scalars};
use crate::error::Result;
use crate::shape::{DType, Meta};
use crate::tape::op::{Param, ParamId};
use crate::tape::plan::{Plan, Precision};
use crate::tape::{Tape, Var};

/// A recorded case, and everything that its plan is fed.
pub struct Problem {
    /// The tape. Its outputs are `results`, in order.
    pub tape: Tape,
    /// The name and the value of each result.
    pub results: Vec<(String, Var)>,
    /// The values of the inputs, in the order of declaration.
    pub feeds: Vec<Values>,
    /// Inputs with respect to which the next derivative is taken.
    pub variables: Vec<Variable>,
    /// The parameters, and their values before the plan runs.
    pub params: Vec<(ParamId, Vec<f32>)>,
    /// Device scalars.
    pub scalars: Scalars,
    /// How many of the first results can be differentiated.
    graded_results: usize,
    seed: u32,
    /// Precision of the operands of products in its plan.
    precision: Precision,
}

/// An input with respect to which a derivative is taken.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// The input on the tape.
    pub v: Var,
    /// The index of its values among the feeds.
    pub feed: usize,
}

impl Case {
    /// Records the values of the case (`Order::Zero`), the gradients of a random projection of them
    /// (`Once`), or the gradients of a random projection of those gradients (`Twice`). Each derivative
    /// adds its projection to the inputs of the one before. Parameters are numbered from `first_param`,
    /// so that several cases can share a backend.
    ///
    /// # Panics
    /// If the case cannot be differentiated this often, which is a bug in the calling program.
    pub fn problem(&self, order: Order, seed: u32, first_param: u32) -> Problem {
        assert!(order <= self.order, "{} can be differentiated {:?}, not {order:?}", self.name, self.order);
        let mut problem = self.values(seed, first_param);
        if order >= Order::Once {
            problem.differentiate();
        }
        if order == Order::Twice {
            problem.differentiate();
        }
        for (name, v) in &problem.results {
            problem.tape.output(name, *v);
        }
        problem
    }

    fn values(&self, seed: u32, first_param: u32) -> Problem {
        let tape = Tape::new();
        let (mut vars, mut handles, mut variables) = (vec![], vec![], vec![]);
        let (mut feeds, mut params) = (vec![], vec![]);
        for (i, input) in self.inputs.iter().enumerate() {
            let values = input.elements.values(seed, i, input.shape.len());
            if let (true, Values::F32(value)) = (input.param, &values) {
                let id = ParamId(first_param + params.len() as u32);
                let param = Param { id, path: input.name.into(), shape: input.shape };
                params.push((id, value.clone()));
                vars.push(tape.param(&param));
                handles.push(Some(param));
                continue;
            }
            let dtype = if matches!(values, Values::U32(_)) { DType::U32 } else { DType::F32 };
            let v = tape.input(input.name, Meta { shape: input.shape, dtype });
            if input.graded {
                variables.push(Variable { v, feed: feeds.len() });
            }
            feeds.push(values);
            vars.push(v);
            handles.push(None);
        }
        let outputs = (self.record)(&tape, &vars);
        for store in &self.stores {
            let param = handles[store.input].as_ref().expect("only a parameter can be stored");
            tape.store(param, outputs[store.output]);
        }
        let graded_results = self.graded_outputs.min(outputs.len());
        let results = outputs.into_iter().enumerate().map(|(i, v)| (format!("out{i}"), v)).collect();
        Problem {
            tape,
            results,
            feeds,
            variables,
            params,
            scalars: self.scalars.clone(),
            graded_results,
            seed,
            precision: Precision::F32,
        }
    }
}

impl Problem {
    /// Replaces the results by the gradients of a random projection of them, with respect to every
    /// variable. The projections of earlier derivatives are variables, too.
    fn differentiate(&mut self) {
        let mut ys = vec![];
        let mut projections = vec![];
        for (name, y) in &self.results[..self.graded_results] {
            let shape = self.tape.shape(*y);
            let dy = self.tape.input(&format!("d {name}"), Meta::f32(shape));
            projections.push(Variable { v: dy, feed: self.feeds.len() });
            self.feeds.push(Elements::Normal.values(self.seed, self.feeds.len() + 1000, shape.len()));
            ys.push((*y, dy));
        }
        let xs: Vec<Var> = self.variables.iter().map(|variable| variable.v).collect();
        let names = self.tape.input_specs();
        let gradients = self.tape.grad_from(&ys, &xs);
        let name = |variable: &Variable| format!("d/d {}", names[variable.feed].name);
        self.results = self.variables.iter().map(name).zip(gradients).collect();
        self.graded_results = self.results.len();
        self.variables.extend(projections);
    }

    /// The feeds as a backend takes them.
    pub fn feeds(&self) -> Vec<Feed<'_>> {
        self.feeds.iter().map(Values::feed).collect()
    }

    /// The same problem, whose plan has products with operands in this precision.
    pub fn in_precision(self, precision: Precision) -> Problem {
        Problem { precision, ..self }
    }

    /// The plan that computes all results.
    pub fn plan(&self, name: &str) -> Plan {
        Plan::new(name, &self.tape).in_precision(self.precision)
    }

    /// Writes the parameters and compiles the plan.
    ///
    /// # Errors
    /// Whatever the device reports.
    pub fn compile(&self, name: &str, backend: &mut dyn Backend) -> Result<Compiled> {
        for (id, value) in &self.params {
            backend.write_param(*id, value)?;
        }
        backend.compile(&self.plan(name))
    }

    /// Runs the plan once and reads every result as exact numbers.
    ///
    /// # Errors
    /// Whatever the device reports.
    pub fn run(&self, name: &str, backend: &mut dyn Backend) -> Result<Vec<Vec<f64>>> {
        let compiled = self.compile(name, backend)?;
        let results = backend.run(compiled, &self.feeds(), &self.scalars).and_then(|()| self.read(compiled, backend));
        backend.free(compiled);
        results
    }

    /// Reads every result of the last replay as exact numbers.
    ///
    /// # Errors
    /// Whatever the device reports.
    pub fn read(&self, compiled: Compiled, backend: &mut dyn Backend) -> Result<Vec<Vec<f64>>> {
        let mut all = vec![];
        for (i, (_, v)) in self.results.iter().enumerate() {
            let meta = self.tape.meta(*v);
            let mut words = vec![0; meta.shape.len()];
            backend.read_words(compiled, i, &mut words)?;
            all.push(match meta.dtype {
                DType::F32 => words.iter().map(|w| f64::from(f32::from_bits(*w))).collect(),
                DType::U32 => words.iter().map(|w| f64::from(*w)).collect(),
            });
        }
        Ok(all)
    }
}
