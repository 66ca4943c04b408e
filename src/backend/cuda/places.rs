//! Resolves the buffers of a plan to addresses, and holds the parameters of a kernel.

use super::driver::{Address, Memory};
use super::lowering::Ptr;
use crate::tape::op::ParamId;
use crate::tape::plan::Buffer;
use std::collections::HashMap;
use std::ffi::c_void;

/// The memory of each buffer of a plan.
pub(super) struct Places<'a> {
    pub(super) slots: &'a [Memory],
    pub(super) inputs: &'a [Memory],
    pub(super) params: &'a HashMap<ParamId, Memory>,
    pub(super) scalars: &'a Memory,
    pub(super) scratch: &'a Memory,
}

impl Places<'_> {
    pub(super) fn of(&self, buffer: Buffer) -> Address {
        match buffer {
            Buffer::Slot(s) => self.slots[s as usize].address(),
            Buffer::Input(i) => self.inputs[i.0 as usize].address(),
            Buffer::Param(p) => self.params[&p].address(),
            Buffer::Scalar(s) => self.scalars.address() + 4 * u64::from(s.0),
        }
    }

    pub(super) fn resolve(&self, ptr: Ptr, updates: Address) -> Address {
        match ptr {
            Ptr::Buffer(buffer) => self.of(buffer),
            Ptr::Scratch(at) => self.scratch.address() + 4 * at as u64,
            Ptr::Updates => updates,
            Ptr::Null => 0,
        }
    }
}

/// The parameters of a kernel: the argument struct, then the addresses.
pub(super) struct Params {
    pub(super) args: Vec<u8>,
    pub(super) addresses: Vec<Address>,
}

impl Params {
    pub(super) fn pointers(&self) -> Vec<*mut c_void> {
        let args = self.args.as_ptr().cast_mut().cast();
        [args].into_iter().chain(self.addresses.iter().map(|a| std::ptr::from_ref(a).cast_mut().cast())).collect()
    }
}
