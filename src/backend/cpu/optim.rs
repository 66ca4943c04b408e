//! Optimisers and moving averages, which replace their state in place.

use super::product::Isa;
use super::vector::{CHUNK, map, spread, vectorized};
use rayon::prelude::*;

/// The constants of one Adam step.
#[derive(Clone, Copy, Debug)]
struct Adam {
    to_m: f32,
    beta2: f32,
    to_v: f32,
    step_size: f32,
    root_scale: f32,
    eps: f32,
}

/// `m += (1 - beta1) (grad - m)`, `v = beta2 v + (1 - beta2) grad^2`,
/// `param -= lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps)` (Kingma & Ba 2015, algorithm 1)
pub(super) fn adam(
    isa: Isa,
    [beta1, beta2, eps]: [f64; 3],
    [lr, step]: [f32; 2],
    grad: &[f32],
    [param, m, v]: [&mut [f32]; 3],
) {
    let t = f64::from(step);
    let constants = Adam {
        to_m: (1.0 - beta1) as f32,
        beta2: beta2 as f32,
        to_v: (1.0 - beta2) as f32,
        step_size: (f64::from(lr) / (1.0 - beta1.powf(t))) as f32,
        root_scale: (1.0 / (1.0 - beta2.powf(t)).sqrt()) as f32,
        eps: eps as f32,
    };
    let state = m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK)).zip(grad.par_chunks(CHUNK));
    spread(param.par_chunks_mut(CHUNK).zip(state), grad.len())
        .for_each(|(param, ((m, v), grad))| adam_chunk(isa, constants, grad, param, m, v));
}

vectorized! {
    fn adam_chunk(constants: Adam, grad: &[f32], param: &mut [f32], m: &mut [f32], v: &mut [f32]) {
        let Adam { to_m, beta2, to_v, step_size, root_scale, eps } = constants;
        for (((param, m), v), &grad) in param.iter_mut().zip(m).zip(v).zip(grad) {
            *m += to_m * (grad - *m);
            *v = beta2 * *v + to_v * (grad * grad);
            *param -= step_size * (*m / (v.sqrt() * root_scale + eps));
        }
    }
}

/// `v = alpha v + (1 - alpha) grad^2`, `param -= lr * grad / (sqrt(v) + eps)`
pub(super) fn rmsprop(isa: Isa, [alpha, eps]: [f64; 2], lr: f32, grad: &[f32], [param, v]: [&mut [f32]; 2]) {
    let constants = [alpha as f32, (1.0 - alpha) as f32, eps as f32, lr];
    spread(param.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK)).zip(grad.par_chunks(CHUNK)), grad.len())
        .for_each(|((param, v), grad)| rmsprop_chunk(isa, constants, grad, param, v));
}

vectorized! {
    fn rmsprop_chunk(constants: [f32; 4], grad: &[f32], param: &mut [f32], v: &mut [f32]) {
        let [alpha, to_v, eps, lr] = constants;
        for ((param, v), &grad) in param.iter_mut().zip(v).zip(grad) {
            *v = alpha * *v + to_v * (grad * grad);
            *param -= lr * (grad / (v.sqrt() + eps));
        }
    }
}

/// `buf = momentum * buf + grad`, `param -= lr * buf`
pub(super) fn sgd(isa: Isa, momentum: f64, lr: f32, grad: &[f32], [param, buf]: [&mut [f32]; 2]) {
    spread(param.par_chunks_mut(CHUNK).zip(buf.par_chunks_mut(CHUNK)).zip(grad.par_chunks(CHUNK)), grad.len())
        .for_each(|((param, buf), grad)| sgd_chunk(isa, momentum as f32, lr, grad, param, buf));
}

vectorized! {
    fn sgd_chunk(momentum: f32, lr: f32, grad: &[f32], param: &mut [f32], buf: &mut [f32]) {
        for ((param, buf), &grad) in param.iter_mut().zip(buf).zip(grad) {
            *buf = momentum * *buf + grad;
            *param -= lr * *buf;
        }
    }
}

/// `average = decay * average + (1 - decay) * value`
pub(super) fn ema(isa: Isa, decay: f64, value: &[f32], average: &mut [f32]) {
    let (decay, weight) = (decay as f32, (1.0 - decay) as f32);
    spread(average.par_chunks_mut(CHUNK).zip(value.par_chunks(CHUNK)), value.len())
        .for_each(|(average, value)| ema_chunk(isa, decay, weight, value, average));
}

vectorized! {
    fn ema_chunk(decay: f32, weight: f32, value: &[f32], average: &mut [f32]) {
        map!(average <- value: decay * *average + weight * value)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, numbers, same_bits};
    use super::*;

    #[test]
    fn adam_over_many_steps() {
        let (len, lr, eps) = (130, 1e-2, 1e-8);
        let start = numbers(1, len, -1.0, 1.0);
        let grad = |t: usize| numbers(t as u32, len, -1.0, 2.0);
        let state = same_bits(3 * len, 0, |isa, all, _| {
            let (param, rest) = all.split_at_mut(len);
            let (m, v) = rest.split_at_mut(len);
            param.copy_from_slice(&start);
            m.fill(0.0);
            v.fill(0.0);
            (1..=50).for_each(|t| adam(isa, [0.9, 0.999, eps], [lr, t as f32], &grad(t), [param, m, v]));
        });
        let mut want: Vec<[f64; 3]> = start.iter().map(|p| [f64::from(*p), 0.0, 0.0]).collect();
        for t in 1..=50 {
            for ([p, m, v], g) in want.iter_mut().zip(grad(t)) {
                let g = f64::from(g);
                (*m, *v) = (0.9 * *m + 0.1 * g, 0.999 * *v + 0.001 * g * g);
                let corrected = [*m / (1.0 - 0.9f64.powi(t as i32)), *v / (1.0 - 0.999f64.powi(t as i32))];
                *p -= f64::from(lr) * corrected[0] / (corrected[1].sqrt() + eps);
            }
        }
        for (i, part) in state.chunks(len).enumerate() {
            close(part, &want.iter().map(|w| w[i]).collect::<Vec<_>>(), 2e-6);
        }
    }
}
