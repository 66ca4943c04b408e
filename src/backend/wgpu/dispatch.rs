//! One dispatch of a kernel as plain data. `launch` makes it; `compiled` binds and encodes it.

use super::shaders::Shader;
use crate::tape::plan::{Buffer, Operand, Step};
use bytemuck::Pod;

/// Threads of a workgroup of the elementwise kernels, and elements per thread.
const THREADS: usize = 256;
const QUAD: usize = 4;
/// Most workgroups along one dimension of a grid.
const WIDEST: usize = 65_535;

/// The buffer that a binding of a kernel gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A buffer of the plan.
    Buffer(Buffer),
    /// A scratch buffer of the step, by number.
    Scratch(usize),
    /// A dummy buffer that the kernel does not read or write.
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
    /// Shader file and entry point.
    pub(super) shader: Shader,
    pub(super) entry: &'static str,
    /// Values of pipeline-overridable constants.
    pub(super) constants: Vec<(&'static str, u32)>,
    /// Storage buffers by binding.
    pub(super) bindings: Vec<(u32, Place)>,
    /// The bytes of the argument struct.
    pub(super) args: Vec<u8>,
    /// Number of workgroups.
    pub(super) groups: usize,
}

impl Dispatch {
    /// A dispatch of one workgroup, without bindings.
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

    /// Sets the number of workgroups.
    pub(super) fn groups(self, groups: usize) -> Self {
        Dispatch { groups, ..self }
    }

    /// Sets as many workgroups as `len` elements need at one thread per element.
    pub(super) fn each(self, len: usize) -> Self {
        self.groups(len.div_ceil(THREADS))
    }

    /// Sets as many workgroups as `len` elements need at one thread per four elements.
    pub(super) fn quads(self, len: usize) -> Self {
        self.groups(len.div_ceil(THREADS * QUAD))
    }
}

/// All dispatches of a step in order, and the scratch that they share.
#[derive(Clone, Debug, Default)]
pub(super) struct Launch {
    /// The dispatches.
    pub(super) dispatches: Vec<Dispatch>,
    /// Words of each scratch buffer.
    pub(super) scratch: Vec<usize>,
}

impl Launch {
    /// Appends a dispatch.
    pub(super) fn push(&mut self, dispatch: Dispatch) {
        self.dispatches.push(dispatch);
    }

    /// Adds a scratch buffer of `len` words.
    pub(super) fn take_scratch(&mut self, len: usize) -> Place {
        self.scratch.push(len);
        Place::Scratch(self.scratch.len() - 1)
    }
}

/// Output `i` as a place.
pub(super) fn out(step: &Step, i: usize) -> Place {
    (&step.outputs[i]).into()
}

/// Binds all inputs of the step, from binding 1 on.
pub(super) fn with_inputs(dispatch: Dispatch, step: &Step) -> Dispatch {
    (1..).zip(&step.inputs).fold(dispatch, |d, (binding, input)| d.bind(binding, input))
}

/// Binds all outputs of the step from binding 6 on, as the kernels of `lstm.wgsl` expect them.
pub(super) fn with_outputs(dispatch: Dispatch, step: &Step) -> Dispatch {
    (6..).zip(&step.outputs).fold(dispatch, |d, (binding, output)| d.bind(binding, output))
}

/// Folds workgroups into a grid of two dimensions. Returns `None` if there are too many for such a grid.
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
