//! Sums the times of single kernels by operation.

use crate::backend::StepTime;
use crate::report::html::OpTime;
use std::collections::BTreeMap;

/// Sums a profile by operation. The operation with the longest time comes first.
pub fn by_operation(profile: &[StepTime]) -> Vec<OpTime> {
    let mut sums: BTreeMap<&str, OpTime> = BTreeMap::new();
    for step in profile {
        let empty = || OpTime { name: step.op.to_string(), calls: 0, ms: 0.0, flops: 0.0 };
        let sum = sums.entry(step.op).or_insert_with(empty);
        sum.calls += 1;
        sum.ms += step.ms;
        sum.flops += step.cost.flops as f64;
    }
    let mut all: Vec<OpTime> = sums.into_values().collect();
    all.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tape::cost::Cost;

    #[test]
    fn kernels_of_one_operation_are_added_up() {
        let step = |op: &'static str, ms, flops| StepTime {
            scope: "layer".into(),
            label: op.into(),
            op,
            ms,
            cost: Cost { flops, bytes: 0 },
        };
        let all = by_operation(&[step("conv", 1.0, 10), step("sum", 5.0, 1), step("conv", 2.0, 20)]);
        let facts: Vec<_> = all.iter().map(|o| (o.name.as_str(), o.calls, o.ms, o.flops)).collect();
        assert_eq!(facts, [("sum", 1, 5.0, 1.0), ("conv", 2, 3.0, 30.0)]);
    }
}
