//! Merges optimiser steps: consecutive steps of the same optimiser become one launch over a table of
//! updates.

use super::lowering::{Card, Lowered, Lowering, Ptr, Update, blocks_of_threads, kernel};
use crate::backend::args::{Optim, word};
use crate::error::Result;
use crate::tape::op::Op;
use crate::tape::plan::{Buffer, Step};

/// Elements of a piece, which one block updates: `PIECE` of `optim.cu`.
const PIECE: usize = 4096;

/// The operands of an optimiser step.
struct Operands {
    /// Indices of the inputs, in the order of [`Update::pointers`].
    inputs: [Option<usize>; 4],
    /// Indices of the outputs, in the order of [`Update::pointers`].
    outputs: [Option<usize>; 3],
    /// The scalars that the step reads.
    scalars: Vec<Buffer>,
}

/// The operands of an optimiser; `None` for any other op.
fn operands(step: &Step) -> Option<Operands> {
    let scalars = |from: usize| step.inputs[from..].iter().map(|o| o.buffer).collect();
    let (inputs, outputs, scalars) = match step.op {
        Op::Adam { .. } => ([Some(0), Some(1), Some(2), Some(3)], [Some(0), Some(1), Some(2)], scalars(4)),
        Op::RmsProp { .. } | Op::Sgd { .. } => {
            ([Some(0), Some(1), Some(2), None], [Some(0), Some(1), None], scalars(3))
        }
        Op::Ema { .. } => ([Some(0), Some(1), None, None], [Some(0), None, None], vec![]),
        _ => return None,
    };
    Some(Operands { inputs, outputs, scalars })
}

/// Number of steps, from the first one on, that can be one launch: they are the same optimiser with the same
/// attributes and scalars, and none of them reads or writes a buffer that another one writes.
pub(super) fn group_len(steps: &[Step]) -> usize {
    let Some((first, Operands { scalars, .. })) = steps.first().and_then(|s| Some((s, operands(s)?))) else { return 1 };
    let mut touched: Vec<Buffer> = vec![];
    let mut written: Vec<Buffer> = vec![];
    for (i, step) in steps.iter().enumerate() {
        let same = step.op == first.op && operands(step).is_some_and(|o| o.scalars == scalars);
        let outputs = || step.outputs.iter().map(|o| o.buffer);
        let inputs = || step.inputs.iter().map(|o| o.buffer);
        let apart = outputs().all(|b| !touched.contains(&b)) && inputs().all(|b| !written.contains(&b));
        if !same || !apart {
            return i;
        }
        touched.extend(inputs().chain(outputs()));
        written.extend(outputs());
    }
    steps.len()
}

/// One launch for a group of steps.
pub(super) fn lower(steps: &[&Step], card: Card) -> Result<Lowered> {
    let mut l = Lowering::new(steps[0], card);
    let (mut updates, mut pieces) = (vec![], 0);
    for step in steps {
        let Some(Operands { inputs, outputs, .. }) = operands(step) else {
            unreachable!("only optimisers are grouped")
        };
        let len = step.inputs[0].meta.shape.len();
        let read = inputs.map(|i| i.map_or(Ptr::Null, |i| Ptr::Buffer(step.inputs[i].buffer)));
        let write = outputs.map(|o| o.map_or(Ptr::Null, |o| Ptr::Buffer(step.outputs[o].buffer)));
        let pointers = [read[0], read[1], read[2], read[3], write[0], write[1], write[2]];
        if len > 0 {
            updates.push(Update { pointers, len: word(len)?, first_piece: word(pieces)? });
            pieces += len.div_ceil(PIECE);
        }
    }
    if updates.is_empty() {
        return Ok(l.out);
    }
    let keeping = |keep: f64, eps: f64| Optim {
        keep: keep as f32,
        to_v: (1.0 - keep) as f32,
        eps: eps as f32,
        ..Optim::default()
    };
    let (name, args) = match steps[0].op {
        Op::Adam { beta1, beta2, eps } => {
            ("adam", Optim { beta1, beta2, to_m: (1.0 - beta1) as f32, ..keeping(beta2, eps) })
        }
        Op::RmsProp { alpha, eps } => ("rmsprop", keeping(alpha, eps)),
        Op::Sgd { momentum } => ("sgd", keeping(momentum, 0.0)),
        Op::Ema { decay } => ("ema", keeping(decay, 0.0)),
        _ => unreachable!("only optimisers are grouped"),
    };
    let scalars = operands(steps[0]).map_or(vec![], |o| o.scalars);
    let pointers: Vec<Ptr> = [Ptr::Updates].into_iter().chain(scalars.into_iter().map(Ptr::Buffer)).collect();
    let args = Optim { len: word(updates.len())?, ..args };
    l.launch(kernel("optim", name), blocks_of_threads([word(pieces)?, 1, 1]), args, &pointers)?;
    l.out.updates = updates;
    Ok(l.out)
}
