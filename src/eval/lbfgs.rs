//! L-BFGS: the minimum of a smooth convex function by its gradients (Liu & Nocedal, "On the limited memory
//! BFGS method for large scale optimization", 1989).

/// Pairs of steps and changes of the gradient that are remembered.
const MEMORY: usize = 10;

/// The search ends at a gradient of this norm.
const SMALL: f64 = 1e-4;

/// The most steps.
const STEPS: usize = 200;

/// The most halvings of a step; then rounding hides any further descent.
const HALVINGS: usize = 20;

/// A step, the change of the gradient along it, and the inverse of their product.
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    inverse: f64,
}

/// Searches the minimum from `at`. `function` returns the value at a point and writes the gradient.
pub(super) fn minimise(mut at: Vec<f64>, mut function: impl FnMut(&[f64], &mut [f64]) -> f64) -> Vec<f64> {
    let mut gradient = vec![0.0; at.len()];
    let mut value = function(&at, &mut gradient);
    let mut pairs: Vec<Pair> = vec![];
    for _ in 0..STEPS {
        if dot(&gradient, &gradient).sqrt() <= SMALL {
            break;
        }
        let direction = direction(&gradient, &pairs);
        let slope = dot(&direction, &gradient);
        let mut found = None;
        let mut size = 1.0;
        for _ in 0..HALVINGS {
            let next: Vec<f64> = at.iter().zip(&direction).map(|(at, by)| at + size * by).collect();
            let mut next_gradient = vec![0.0; at.len()];
            let next_value = function(&next, &mut next_gradient);
            // Sufficient decrease (Armijo 1966).
            if next_value <= value + 1e-4 * size * slope {
                found = Some((next, next_gradient, next_value));
                break;
            }
            size /= 2.0;
        }
        let Some((next, next_gradient, next_value)) = found else { break };
        let step: Vec<f64> = next.iter().zip(&at).map(|(next, at)| next - at).collect();
        let change: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(next, now)| next - now).collect();
        let product = dot(&step, &change);
        // The product is above 0 for a strictly convex function, except by rounding.
        if product > 1e-12 * dot(&change, &change) {
            if pairs.len() == MEMORY {
                pairs.remove(0);
            }
            pairs.push(Pair { step, change, inverse: 1.0 / product });
        }
        (at, gradient, value) = (next, next_gradient, next_value);
    }
    at
}

/// The negative gradient times the estimate of the inverse Hessian (the two loops of algorithm 2.1).
fn direction(gradient: &[f64], pairs: &[Pair]) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut factors = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let factor = pair.inverse * dot(&pair.step, &q);
        add(&mut q, -factor, &pair.change);
        factors.push(factor);
    }
    if let Some(last) = pairs.last() {
        let scale = 1.0 / (last.inverse * dot(&last.change, &last.change));
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for (pair, factor) in pairs.iter().zip(factors.into_iter().rev()) {
        let back = pair.inverse * dot(&pair.change, &q);
        add(&mut q, factor - back, &pair.step);
    }
    q
}

fn add(to: &mut [f64], factor: f64, other: &[f64]) {
    to.iter_mut().zip(other).for_each(|(to, other)| *to += factor * other);
}

/// The sum of products, in eight interleaved sums that are added in order.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 8;
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_valley_ends_at_its_lowest_point() {
        // Curvatures from 1 to 10 000, turned so that no axis is a direction of the valley.
        let function = |at: &[f64], gradient: &mut [f64]| {
            let (a, b) = (at[0] + at[1] - 3.0, at[0] - at[1] + 1.0);
            (gradient[0], gradient[1]) = (1e4 * a + b, 1e4 * a - b);
            0.5 * (1e4 * a * a + b * b)
        };
        let found = minimise(vec![-40.0, 7.0], function);
        assert!((found[0] - 1.0).abs() < 1e-3 && (found[1] - 2.0).abs() < 1e-3, "{found:?}");
    }

    #[test]
    fn a_minimum_that_is_given_is_kept() {
        let mut calls = 0;
        let found = minimise(vec![2.0], |at, gradient| {
            calls += 1;
            gradient[0] = at[0] - 2.0;
            0.5 * gradient[0] * gradient[0]
        });
        assert_eq!((found, calls), (vec![2.0], 1));
    }

    #[test]
    fn sums_of_products_have_every_element() {
        let a: Vec<f64> = (1..20).map(f64::from).collect();
        assert_eq!(dot(&a, &a), (1..20).map(|i| f64::from(i * i)).sum::<f64>());
    }
}
