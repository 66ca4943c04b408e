//! The classes that a classifier sees in a set of images: how many there are, and how far their shares are
//! from those of the data.

/// How often each class occurs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClassCounts(pub Vec<usize>);

impl ClassCounts {
    /// Counts labels below `classes`.
    pub fn of(labels: &[u32], classes: usize) -> ClassCounts {
        let mut counts = vec![0; classes];
        labels.iter().for_each(|label| counts[*label as usize] += 1);
        ClassCounts(counts)
    }

    /// The same number of images of each class.
    pub fn uniform(classes: usize) -> ClassCounts {
        ClassCounts(vec![1; classes])
    }

    /// The fraction of each class.
    pub fn shares(&self) -> Vec<f64> {
        let total = self.0.iter().sum::<usize>() as f64;
        self.0.iter().map(|count| *count as f64 / total).collect()
    }

    /// Number of classes that occur.
    pub fn present(&self) -> usize {
        self.0.iter().filter(|count| **count > 0).count()
    }

    /// Number of classes of `data` that are as frequent here as in `data`, times `least`, or more frequent.
    pub fn covered(&self, data: &ClassCounts, least: f64) -> usize {
        let pairs = self.shares().into_iter().zip(data.shares());
        pairs.filter(|(here, there)| *there > 0.0 && *here >= least * there).count()
    }

    /// Half the sum of the absolute differences of the shares: 0 for equal ones, 1 for disjoint ones.
    pub fn total_variation(&self, data: &ClassCounts) -> f64 {
        self.shares().iter().zip(data.shares()).map(|(here, there)| (here - there).abs()).sum::<f64>() / 2.0
    }

    /// KL(these shares || those of `data`) in nats; infinite if a class occurs here and not there.
    pub fn divergence(&self, data: &ClassCounts) -> f64 {
        let pairs = self.shares().into_iter().zip(data.shares());
        pairs.filter(|(here, _)| *here > 0.0).map(|(here, there)| here * (here / there).ln()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_shares_have_no_distance() {
        let (few, many) = (ClassCounts(vec![1, 2, 1]), ClassCounts(vec![10, 20, 10]));
        assert_eq!((few.total_variation(&many), few.divergence(&many), few.covered(&many, 1.0)), (0.0, 0.0, 3));
        assert_eq!(ClassCounts::of(&[2, 0, 2], 3), ClassCounts(vec![1, 0, 2]));
    }

    #[test]
    fn a_missing_class_is_not_covered() {
        let (half, data) = (ClassCounts(vec![50, 50, 0, 0]), ClassCounts::uniform(4));
        assert_eq!((half.covered(&data, 0.25), half.present()), (2, 2));
        assert_eq!((half.total_variation(&data), half.divergence(&data)), (0.5, 2f64.ln()));
        assert_eq!(data.divergence(&half), f64::INFINITY);
        // 6 % of a class that should have 25 % is less than a quarter of it; 7 % is more.
        assert_eq!(ClassCounts(vec![6, 30, 30, 34]).covered(&data, 0.25), 3);
        assert_eq!(ClassCounts(vec![7, 30, 30, 33]).covered(&data, 0.25), 4);
        // A class that the data lack cannot be covered.
        assert_eq!(data.covered(&half, 0.25), 2);
    }
}
