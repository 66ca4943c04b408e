//! A custom layer: squeeze-and-excitation (Hu et al. 2018), which scales each channel by a factor that is
//! computed from the whole image.
//!
//! A layer is a struct of parameters with a method that records arithmetic; its gradient follows from the
//! tape. The example compares the gradient with respect to the input with central differences.
//!
//!     cargo run --release --no-default-features --example new_layer

use pixtape::backend::{self, Feed, Scalars};
use pixtape::nn::{Env, Linear, Mode, ParamSet};
use pixtape::parameters;
use pixtape::shape::Meta;
use pixtape::tape::{Tape, Var, plan::Plan};

/// `y = x * sigmoid(excite(relu(squeeze(mean of x over the image))))`, with one factor per image and
/// channel.
struct SqueezeExcite {
    squeeze: Linear,
    excite: Linear,
}

impl SqueezeExcite {
    /// Declares the parameters under `path`. The means of the channels pass through `channels / ratio`
    /// hidden units.
    fn new(set: &mut ParamSet, path: &str, channels: usize, ratio: usize) -> Self {
        SqueezeExcite {
            squeeze: Linear::new(set, &format!("{path}.squeeze"), channels, channels / ratio),
            excite: Linear::new(set, &format!("{path}.excite"), channels / ratio, channels),
        }
    }

    /// `[n, h, w, c] -> [n, h, w, c]`
    fn forward(&self, env: &Env, x: Var) -> Var {
        let t = env.t;
        let shape = t.shape(x);
        let &[n, h, w, c] = shape.dims() else { panic!("images have four dimensions, not those of {shape}") };
        let mean = t.scale(t.reshape(t.sum_to(x, [n, 1, 1, c]), [n, c]), 1.0 / (h * w) as f64);
        let factor = t.sigmoid(self.excite.forward(env, t.relu(self.squeeze.forward(env, mean))));
        t.mul(x, t.expand(t.reshape(factor, [n, 1, 1, c]), shape))
    }
}

const SHAPE: [usize; 4] = [2, 4, 4, 8];

fn main() -> pixtape::Result<()> {
    let mut set = ParamSet::new();
    let layer = SqueezeExcite::new(&mut set, "se", SHAPE[3], 4);

    let t = Tape::new();
    let env = Env::new(&t, Mode::Train);
    let x = t.input("x", Meta::f32(SHAPE));
    let loss = t.mean(t.square(layer.forward(&env, x)));
    t.output("loss", loss);
    t.output("dx", t.grad(loss, &[x])[0]);
    let plan = Plan::new("squeeze-and-excitation", &t);

    let mut device = backend::open("cpu", 0)?;
    parameters::initialize(&mut *device, &set, 1)?;
    let compiled = device.compile(&plan)?;
    let len = SHAPE.iter().product();
    let at: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7).sin()).collect();
    let mut dx = vec![0.0; len];
    let mut loss_at = |x: &[f32], dx: &mut [f32]| -> pixtape::Result<f32> {
        device.run(compiled, &[Feed::F32(x)], &Scalars::default())?;
        backend::read(&mut *device, compiled, plan.output("dx"), dx)?;
        let mut loss = [0.0];
        backend::read(&mut *device, compiled, plan.output("loss"), &mut loss)?;
        Ok(loss[0])
    };
    println!("loss {:.6}", loss_at(&at, &mut dx)?);
    println!("element   gradient  difference");
    let step = 0.1;
    for i in (0..len).step_by(len / 8) {
        let mut moved = |by: f32| {
            let mut x = at.clone();
            x[i] += by;
            loss_at(&x, &mut vec![0.0; len])
        };
        let difference = (moved(step)? - moved(-step)?) / (2.0 * step);
        println!("{i:7} {:10.6} {difference:11.6}", dx[i]);
        assert!((dx[i] - difference).abs() < 1e-4, "the gradient of element {i} is wrong");
    }
    Ok(())
}
