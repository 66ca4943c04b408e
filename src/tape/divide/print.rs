//! Divided plans as text, for `pixtape plan` and for error messages.

use super::{Divided, Stage, Stretch};
use std::fmt;

/// Lists the stretches and which steps of the plan they have. Steps are named by their numbers in the plan.
impl fmt::Display for Divided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut whole: Vec<usize> = vec![];
        for stage in &self.stages {
            match stage {
                Stage::Whole { index, .. } => whole.push(*index),
                Stage::Stretch(stretch) => {
                    whole_batch(f, &mut whole)?;
                    writeln!(f, "{stretch}")?;
                }
            }
        }
        whole_batch(f, &mut whole)
    }
}

fn whole_batch(f: &mut fmt::Formatter<'_>, steps: &mut Vec<usize>) -> fmt::Result {
    if !steps.is_empty() {
        writeln!(f, "  whole batch: steps {}", ranges(steps))?;
        steps.clear();
    }
    Ok(())
}

impl fmt::Display for Stretch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stretch { images, groups, unit, microbatch, local_len, sums_len, .. } = self;
        let kib = |words: usize| words as f64 * 4.0 / 1024.0;
        let steps: Vec<usize> = self.pieces.iter().map(|piece| piece.index).collect();
        write!(f, "  {microbatch} of {images} images at a time: steps {}; ", ranges(&steps))?;
        write!(f, "{:.1} KiB per thread", kib(*local_len))?;
        if *sums_len > 0 {
            write!(f, ", sums by {groups} groups ({:.1} KiB each), {unit} images at a time", kib(*sums_len))?;
        }
        Ok(())
    }
}

/// `[0, 1, 2, 5]` as "0-2, 5".
fn ranges(steps: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = vec![];
    for &step in steps {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == step => *last = step,
            _ => runs.push((step, step)),
        }
    }
    let text =
        |&(first, last): &(usize, usize)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    runs.iter().map(text).collect::<Vec<_>>().join(", ")
}
