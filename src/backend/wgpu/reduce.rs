//! Sums in a fixed order, in as many stages as needed.

use super::args::ReduceArgs;
use super::dispatch::{Dispatch, Launch, Place};
use super::shaders::Shader;

/// A sum of at most this many rows is computed by one thread per element.
const SHORT: usize = 32;

/// `y = sum of x`, in as many stages as needed.
pub(super) fn sum(run: &mut Launch, args: ReduceArgs, x: Place, y: Place) {
    let (sums, width) = (args.sums(), args.width as usize);
    if args.summed_rows() <= SHORT {
        run.push(Dispatch::new(Shader::Reduce, "sum_short", &args).bind(1, x).bind(2, y).each(sums * width));
        return;
    }
    let groups = sums * args.parts as usize * width.div_ceil(args.columns as usize);
    let dispatch = Dispatch::new(Shader::Reduce, "sum", &args).bind(1, x).groups(groups);
    if args.parts == 1 {
        run.push(dispatch.bind(2, y));
        return;
    }
    let partial = run.take_scratch(sums * args.parts as usize * width);
    run.push(dispatch.bind(2, partial));
    sum(run, args.second_stage(), partial, y);
}
