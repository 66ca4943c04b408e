//! One dispatch of a kernel as plain data: made by `launch`, bound and encoded by the backend.

use super::shaders::Shader;
use crate::tape::plan::{Buffer, Operand, Step};
use bytemuck::Pod;

/// Threads of a workgroup of the elementwise kernels, and elements that each of them takes.
const THREADS: usize = 256;
const QUAD: usize = 4;
/// Workgroups along one dimension of a grid.
const WIDEST: usize = 65_535;

/// What a binding of a kernel is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A buffer of the plan.
    Buffer(Buffer),
    /// Scratch of the step, by number.
    Scratch(usize),
    /// Nothing that the kernel looks at.
    Unused,
}

impl From<&Operand> for Place {
    fn from(operand: &Operand) -> Self {
        Place::Buffer(operand.buffer)
    }
}

/// One dispatch.
#[derive(Clone, Debug)]
pub(super) struct Dispatch {
    /// File and entry point.
    pub(super) shader: Shader,
    pub(super) entry: &'static str,
    /// Values of pipeline-overridable constants.
    pub(super) constants: Vec<(&'static str, u32)>,
    /// Storage buffers by binding.
    pub(super) bindings: Vec<(u32, Place)>,
    /// The argument structure.
    pub(super) args: Vec<u8>,
    /// Workgroups.
    pub(super) groups: usize,
}

impl Dispatch {
    /// A kernel with its arguments, one workgroup for the time being.
    pub(super) fn new(shader: Shader, entry: &'static str, args: &impl Pod) -> Self {
        let args = bytemuck::bytes_of(args).to_vec();
        Dispatch { shader, entry, constants: vec![], bindings: vec![], args, groups: 1 }
    }

    /// Gives `place` to `binding`.
    pub(super) fn bind(mut self, binding: u32, place: impl Into<Place>) -> Self {
        self.bindings.push((binding, place.into()));
        self
    }

    /// Sets a constant of the pipeline.
    pub(super) fn constant(mut self, name: &'static str, value: u32) -> Self {
        self.constants.push((name, value));
        self
    }

    /// So many workgroups.
    pub(super) fn groups(self, groups: usize) -> Self {
        Dispatch { groups, ..self }
    }

    /// A thread for each of `len` elements.
    pub(super) fn each(self, len: usize) -> Self {
        self.groups(len.div_ceil(THREADS))
    }

    /// A thread for every four of `len` elements.
    pub(super) fn quads(self, len: usize) -> Self {
        self.groups(len.div_ceil(THREADS * QUAD))
    }
}

/// All dispatches of a step, in order, and the scratch they share.
#[derive(Clone, Debug, Default)]
pub(super) struct Launch {
    /// What runs.
    pub(super) dispatches: Vec<Dispatch>,
    /// Words of each scratch buffer.
    pub(super) scratch: Vec<usize>,
}

impl Launch {
    /// One more dispatch.
    pub(super) fn push(&mut self, dispatch: Dispatch) {
        self.dispatches.push(dispatch);
    }

    /// A scratch buffer of `len` words.
    pub(super) fn take_scratch(&mut self, len: usize) -> Place {
        self.scratch.push(len);
        Place::Scratch(self.scratch.len() - 1)
    }
}

/// Output `i` as a place.
pub(super) fn out(step: &Step, i: usize) -> Place {
    (&step.outputs[i]).into()
}

/// Binds all inputs of the step, from 1 on.
pub(super) fn with_inputs(dispatch: Dispatch, step: &Step) -> Dispatch {
    (1..).zip(&step.inputs).fold(dispatch, |d, (binding, input)| d.bind(binding, input))
}

/// Binds all outputs of the step as the recurrences take them, from 6 on.
pub(super) fn with_outputs(dispatch: Dispatch, step: &Step) -> Dispatch {
    (6..).zip(&step.outputs).fold(dispatch, |d, (binding, output)| d.bind(binding, output))
}

/// Workgroups folded into two dimensions; `None` if even that does not hold them.
pub(super) fn grid(groups: usize) -> Option<[u32; 2]> {
    let rows = groups.div_ceil(WIDEST);
    (rows <= WIDEST).then(|| [groups.min(WIDEST) as u32, rows as u32])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_holds_its_groups() {
        assert_eq!(grid(1), Some([1, 1]));
        assert_eq!(grid(WIDEST), Some([65_535, 1]));
        assert_eq!(grid(WIDEST + 1), Some([65_535, 2]));
        assert_eq!(grid(WIDEST * WIDEST + 1), None);
    }
}
