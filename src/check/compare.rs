//! The error of a value, compared with its expected value.

use crate::shape::DType;

/// `|got - want| / |want|` in the Euclidean norm, or `|got - want|` if all of `want` is zero. The result
/// is NaN if `got` contains a NaN or if the lengths differ, so that it is within no tolerance.
pub fn relative_error(got: &[f64], want: &[f64]) -> f64 {
    if got.len() != want.len() {
        return f64::NAN;
    }
    let norm = |of: &dyn Fn(usize) -> f64| (0..want.len()).map(|i| of(i) * of(i)).sum::<f64>().sqrt();
    let (error, size) = (norm(&|i| got[i] - want[i]), norm(&|i| want[i]));
    if size == 0.0 { error } else { error / size }
}

/// The error of a value of this type. For indices it is the fraction that is wrong.
pub fn error_of(dtype: DType, got: &[f64], want: &[f64]) -> f64 {
    if dtype == DType::F32 || got.len() != want.len() {
        return relative_error(got, want);
    }
    let wrong = got.iter().zip(want).filter(|(got, want)| got != want).count();
    wrong as f64 / want.len().max(1) as f64
}

/// Whether an error is within a tolerance. A NaN never is.
pub fn within(error: f64, tolerance: f64) -> bool {
    error <= tolerance
}

/// One element of a value, with its expected value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Element {
    /// Its index.
    pub index: usize,
    /// The computed value.
    pub got: f64,
    /// The expected value.
    pub want: f64,
}

impl Element {
    /// The distance of both values; infinite if it is not a number.
    fn distance(&self) -> f64 {
        let distance = (self.got - self.want).abs();
        if distance.is_nan() { f64::INFINITY } else { distance }
    }
}

/// The element with the largest distance, for a message. `None` if there is no element.
pub fn worst_element(got: &[f64], want: &[f64]) -> Option<Element> {
    let all = got.iter().zip(want).enumerate().map(|(index, (got, want))| Element { index, got: *got, want: *want });
    all.max_by(|a, b| a.distance().total_cmp(&b.distance()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_relative_but_for_zeros_and_never_hides_a_nan() {
        assert!((relative_error(&[3.0, 4.0], &[3.0, 4.5]) - 0.5 / 29.25f64.sqrt()).abs() < 1e-15);
        assert_eq!(relative_error(&[0.5], &[0.0]), 0.5);
        assert_eq!(relative_error(&[], &[]), 0.0);
        for (got, want) in [(&[f64::NAN][..], &[0.0][..]), (&[1.0, f64::NAN], &[1.0, 1.0]), (&[1.0], &[1.0, 0.0])] {
            assert!(!within(relative_error(got, want), f64::INFINITY), "{got:?} {want:?}");
        }
        assert!(!within(relative_error(&[f64::INFINITY], &[f64::INFINITY]), 1.0));
        assert_eq!(error_of(DType::U32, &[7.0, 1e9, 3.0], &[7.0, 1e9 + 1.0, 3.0]), 1.0 / 3.0);
        assert_eq!(worst_element(&[1.0, f64::NAN, 9.0], &[1.0, 1.0, 1.0]).map(|w| w.index), Some(1));
    }
}
