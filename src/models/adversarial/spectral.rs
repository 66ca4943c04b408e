//! Spectral normalisation (Miyato, Kataoka, Koyama & Yoshida, "Spectral normalization for generative
//! adversarial networks", ICLR 2018): a weight divided by its largest singular value.
//!
//! The value is estimated by one power iteration per step of the critic. The vectors of the iteration are
//! kept from step to step: a weight changes little in a step, so the estimate follows it.

use crate::nn::{Env, Init, ParamSet};
use crate::tape::op::Param;
use crate::tape::{Tape, Var};

/// Added to the length of a vector before it is divided by it.
const EPS: f64 = 1e-12;

/// The largest singular value of a weight and its singular vectors, estimated.
///
/// The matrix W of the paper is `[out, rest]`. The weight has its outputs last, so it is the transpose of W:
/// `[rest, out]`.
#[derive(Clone, Debug)]
pub(super) struct SpectralNorm {
    /// `[.., out]`
    weight: Param,
    /// `[out, 1]`, the left singular vector.
    u: Param,
    /// `[rest, 1]`, the right singular vector.
    v: Param,
}

impl SpectralNorm {
    /// Declares the vectors of `weight` as the states `<path>.u` and `<path>.v`.
    pub fn new(set: &mut ParamSet, path: &str, weight: &Param) -> Self {
        let (rest, out) = (weight.shape.rows(), weight.shape.last());
        let u = set.state(&format!("{path}.u"), [out, 1], Init::Normal(0.0, 1.0));
        let v = set.state(&format!("{path}.v"), [rest, 1], Init::Normal(0.0, 1.0));
        SpectralNorm { weight: weight.clone(), u, v }
    }

    /// One power iteration (algorithm 1, step 1). From here on `env` has the new vectors, through which no
    /// gradient flows.
    pub fn advance(&self, env: &Env) {
        let (t, transposed) = (env.t, self.matrix(env));
        // v = W^T u / |W^T u|
        let v = unit(t, t.matmul(transposed, env.get(&self.u), false, false));
        // u = W v / |W v|
        let u = unit(t, t.matmul(transposed, v, true, false));
        env.set(&self.v, v);
        env.set(&self.u, u);
    }

    /// The current weight divided by sigma = u^T W v (algorithm 1, step 2), with the current vectors. They
    /// are constants, so the derivative of sigma by W is u v^T (section 2.3).
    pub fn normalized(&self, env: &Env) -> Var {
        let t = env.t;
        let along = t.matmul(self.matrix(env), env.get(&self.v), true, false);
        let sigma = t.matmul(env.get(&self.u), along, true, false);
        t.mul_scalar(env.get(&self.weight), t.recip(sigma))
    }

    /// The current weight as the transpose of W, `[rest, out]`.
    fn matrix(&self, env: &Env) -> Var {
        env.t.reshape(env.get(&self.weight), [self.weight.shape.rows(), self.weight.shape.last()])
    }
}

/// A vector of length 1 in the direction of x.
fn unit(t: &Tape, x: Var) -> Var {
    let length = t.sqrt(t.sum(t.square(x)));
    t.mul_scalar(x, t.recip(t.affine(length, 1.0, EPS)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{self, Scalars};
    use crate::nn::{Layout, Mode};
    use crate::tape::plan::Plan;

    const SHAPE: [usize; 4] = [2, 3, 2, 5];

    /// The gradient of <g, W / sigma> is (g - <g, W / sigma> u v^T) / sigma (section 2.3): it has a part
    /// through the weight and a part through sigma.
    #[test]
    fn the_gradient_goes_through_the_weight_and_through_sigma() {
        let mut set = ParamSet::new();
        let normal = |set: &mut ParamSet, name: &str| set.weight(name, SHAPE, Init::Normal(0.0, 1.0), Layout::Conv);
        let (weight, direction) = (normal(&mut set, "w"), normal(&mut set, "g"));
        let norm = SpectralNorm::new(&mut set, "w", &weight);
        let t = Tape::new();
        let env = Env::new(&t, Mode::Train);
        norm.advance(&env);
        let loss = t.sum(t.mul(norm.normalized(&env), env.get(&direction)));
        let values = [loss, t.grad(loss, &[env.get(&weight)])[0], env.get(&norm.u), env.get(&norm.v)];
        values.iter().enumerate().for_each(|(i, value)| t.output(&format!("v{i}"), *value));
        let mut device = backend::open("cpu", 1).unwrap();
        for spec in set.specs() {
            device.write_param(spec.param.id, &spec.initial(1)).unwrap();
        }
        let plan = device.compile(&Plan::new("spectral", &t)).unwrap();
        device.run(plan, &[], &Scalars::default()).unwrap();
        let mut read = |i: usize| {
            let mut out = vec![0.0; t.shape(values[i]).len()];
            backend::read(&mut *device, plan, i, &mut out).unwrap();
            out.into_iter().map(f64::from).collect::<Vec<_>>()
        };
        let (loss, gradient, u, v) = (read(0)[0], read(1), read(2), read(3));
        let of = |name: &str| set.find(name).unwrap().initial(1).into_iter().map(f64::from).collect::<Vec<_>>();
        let (w, g) = (of("params/w"), of("params/g"));
        let outer: Vec<f64> = v.iter().flat_map(|v| u.iter().map(move |u| u * v)).collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let sigma = dot(&w, &outer);
        assert!((dot(&w, &g) / sigma - loss).abs() < 1e-5 * loss.abs(), "{loss}");
        let expected: Vec<f64> = g.iter().zip(&outer).map(|(g, o)| (g - loss * o) / sigma).collect();
        let differences: Vec<f64> = gradient.iter().zip(&expected).map(|(a, b)| a - b).collect();
        let error = (dot(&differences, &differences) / dot(&expected, &expected)).sqrt();
        assert!(error < 1e-5, "off by {error:.1e}");
    }
}
