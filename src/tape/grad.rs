//! Reverse-mode differentiation. [`Tape::grad`] appends ordinary nodes, so its results can be differentiated
//! again.
//!
//! [`Tape::grad_from`] walks the nodes backwards and accumulates the adjoint of each value. `Rule::apply`
//! has the rule of every op in one exhaustive match, each with its formula; the methods below it have the
//! longer rules.

use super::geometry::{ConvGeom, Mask};
use super::op::{Binary, Op, Unary};
use super::{Node, Tape, Var, text};
use crate::shape::DType;
use std::collections::HashMap;
use std::panic::Location;

impl Tape {
    /// Gradients of `y` (one element) with respect to each of `xs`, as nodes that can be differentiated
    /// again. If `y` does not depend on an x, the gradient of that x is a fill of zeros. An integer index
    /// receives no gradient.
    ///
    /// Panics if `y` has more than one element, or if the gradient of an x needs the derivative of an op
    /// that has none. The message names the op and the line that recorded it.
    #[track_caller]
    pub fn grad(&self, y: Var, xs: &[Var]) -> Vec<Var> {
        assert_eq!(self.shape(y).len(), 1, "grad needs a y of one element, got {}", self.shape(y));
        let dy = self.fill(1.0, self.shape(y));
        self.grad_from(&[(y, dy)], xs)
    }

    /// Vector-Jacobian product: gradients of the sum over all `(y, dy)` of `<y, dy>` with respect to each of
    /// `xs`.
    ///
    /// Panics if a `dy` does not have the shape of its `y`, or if an op on the way has no derivative, as in
    /// [`Tape::grad`].
    #[track_caller]
    pub fn grad_from(&self, ys: &[(Var, Var)], xs: &[Var]) -> Vec<Var> {
        let caller = Location::caller();
        for (y, dy) in ys {
            assert_eq!(self.shape(*y), self.shape(*dy), "a cotangent has the shape of its value");
        }
        for x in xs {
            self.own(*x);
        }
        let end = ys.iter().map(|(y, _)| y.node + 1).max().unwrap_or(0);
        let on_path = self.depends_on(xs, end);
        let outer = self.gradient_of.get();
        let mut adjoints: HashMap<Var, Var> = HashMap::new();
        self.gradient_of.set(Some(caller));
        for (y, dy) in ys {
            self.accumulate(&mut adjoints, *y, *dy);
        }
        for index in (0..end).rev().filter(|i| on_path[*i as usize]) {
            let node = self.node(index);
            let dys: Vec<Option<Var>> =
                (0..node.outs.len()).map(|out| adjoints.get(&self.var(index as usize, out)).copied()).collect();
            if dys.iter().all(Option::is_none) {
                continue;
            }
            let wanted: Vec<bool> =
                node.inputs.iter().map(|v| on_path[v.node as usize] && self.meta(*v).dtype == DType::F32).collect();
            // If no input needs a gradient, the op needs no derivative: an x may be the output of any op.
            // Dequantize is the exception. Its index has no gradient, but the pixels must not lose theirs
            // silently.
            let makes_pixels = matches!(node.op, Op::Dequantize { .. }) && on_path[node.inputs[0].node as usize];
            if !(makes_pixels || wanted.contains(&true)) {
                continue;
            }
            self.gradient_of.set(Some(node.at));
            let grads = self.scope_of(&node, || Rule { tape: self, node: &node, index, dys }.apply(&wanted));
            for (input, g) in node.inputs.iter().zip(grads) {
                if let Some(g) = g
                    && on_path[input.node as usize]
                {
                    self.accumulate(&mut adjoints, *input, g);
                }
            }
        }
        self.gradient_of.set(Some(caller));
        let result =
            xs.iter().map(|x| adjoints.get(x).copied().unwrap_or_else(|| self.fill(0.0, self.shape(*x)))).collect();
        self.gradient_of.set(outer);
        result
    }

    fn accumulate(&self, adjoints: &mut HashMap<Var, Var>, v: Var, g: Var) {
        let sum = match adjoints.get(&v) {
            Some(sum) => self.add(*sum, g),
            None => g,
        };
        adjoints.insert(v, sum);
    }

    /// For each node below `end`, whether it is one of `xs` or depends on one without a detach in between.
    fn depends_on(&self, xs: &[Var], end: u32) -> Vec<bool> {
        let nodes = self.nodes.borrow();
        let mut on_path = vec![false; nodes.len()];
        for x in xs {
            on_path[x.node as usize] = true;
        }
        for (i, node) in nodes.iter().enumerate().take(end as usize) {
            let passes = !matches!(node.op, Op::Detach);
            on_path[i] |= passes && node.inputs.iter().any(|v| on_path[v.node as usize]);
        }
        on_path
    }

    /// Records under the scope of a forward node, so that a plan shows which layer a gradient belongs to.
    fn scope_of<T>(&self, node: &Node, body: impl FnOnce() -> T) -> T {
        let outer = self.scope.replace(vec![node.scope.to_string()]);
        let result = body();
        self.scope.replace(outer);
        result
    }
}

/// One forward node with the adjoints of its outputs; `None` for an output that nothing depends on.
struct Rule<'a> {
    tape: &'a Tape,
    node: &'a Node,
    index: u32,
    dys: Vec<Option<Var>>,
}

impl Rule<'_> {
    fn x(&self, i: usize) -> Var {
        self.node.inputs[i]
    }

    fn y(&self, out: usize) -> Var {
        self.tape.var(self.index as usize, out)
    }

    /// The adjoint of an output; zeros if nothing depends on it.
    fn dy(&self, out: usize) -> Var {
        self.dys[out].unwrap_or_else(|| self.tape.fill(0.0, self.node.outs[out].shape))
    }

    fn no_derivative(&self, why: &str) -> ! {
        panic!("{} recorded at {} {why}", text::name(&self.node.op), self.node.at)
    }

    /// Panics if a gradient reaches an output from `first` on. These outputs are by-products without a
    /// derivative, and a gradient must not be dropped silently.
    fn only_outputs_below(&self, first: usize) {
        if self.dys[first..].iter().any(Option::is_some) {
            self.no_derivative(&format!("has no derivative through its outputs from {first} on"));
        }
    }

    /// The gradients of the inputs. `wanted` says which of them are needed; a rule need not record the
    /// others.
    fn apply(&self, wanted: &[bool]) -> Vec<Option<Var>> {
        let t = self.tape;
        let want = |i: usize, f: &dyn Fn() -> Var| wanted[i].then(f);
        match &self.node.op {
            // These ops have no inputs or only integer ones. No gradient passes a detach: `depends_on` stops
            // there.
            Op::Input(_) | Op::Param(_) | Op::Scalar(_) | Op::Fill { .. } | Op::Random { .. } => vec![],
            Op::Detach => vec![None],
            // dx = dy f'(.)
            Op::Unary(f) => {
                let saved = if f.saves_output() { self.y(0) } else { self.x(0) };
                vec![want(0, &|| t.unary_bwd(*f, self.dy(0), saved))]
            }
            // r = dy f'(s): d dy = g f'(s); d s = g dy df'/ds
            Op::UnaryBwd(f) => vec![
                want(0, &|| t.unary_bwd(*f, self.dy(0), self.x(1))),
                wanted[1].then(|| self.second_derivative(*f)).flatten(),
            ],
            Op::Binary(Binary::Add) => vec![want(0, &|| self.dy(0)), want(1, &|| self.dy(0))],
            Op::Binary(Binary::Sub) => vec![want(0, &|| self.dy(0)), want(1, &|| t.scale(self.dy(0), -1.0))],
            Op::Binary(Binary::Mul) => {
                vec![want(0, &|| t.mul(self.dy(0), self.x(1))), want(1, &|| t.mul(self.dy(0), self.x(0)))]
            }
            // d a = dy / b; d b = -dy y / b
            Op::Binary(Binary::Div) => vec![
                want(0, &|| t.div(self.dy(0), self.x(1))),
                want(1, &|| t.scale(t.div(t.mul(self.dy(0), self.y(0)), self.x(1)), -1.0)),
            ],
            Op::Affine { scale, .. } => vec![want(0, &|| t.scale(self.dy(0), *scale))],
            Op::Gated => vec![want(0, &|| t.record(Op::GatedBwd, &[self.dy(0), self.x(0)]))],
            // z = mu + s eps with s = exp(logvar / 2): d mu = dz; d logvar = dz (z - mu) / 2; d eps = dz s
            Op::Reparameterize => vec![
                want(0, &|| self.dy(0)),
                want(1, &|| t.scale(t.mul(self.dy(0), t.sub(self.y(0), self.x(0))), 0.5)),
                want(2, &|| t.mul(self.dy(0), t.exp(t.scale(self.x(1), 0.5)))),
            ],
            Op::Reshape(_) => vec![want(0, &|| t.reshape(self.dy(0), t.shape(self.x(0))))],
            Op::Pad { before, after } => vec![want(0, &|| t.slice(self.dy(0), *before, *after))],
            Op::Slice { before, after } => vec![want(0, &|| t.pad(self.dy(0), *before, *after))],
            Op::Gather => {
                let rows = t.shape(self.x(0)).rows();
                vec![want(0, &|| t.scatter(self.dy(0), self.x(1), rows)), None]
            }
            Op::Scatter { .. } => vec![want(0, &|| t.gather(self.dy(0), self.x(1))), None],
            Op::Sum(_) => vec![want(0, &|| t.expand(self.dy(0), t.shape(self.x(0))))],
            Op::Expand(_) => vec![want(0, &|| t.sum_to(self.dy(0), t.shape(self.x(0))))],
            Op::Matmul { ta, tb } => self.matmul(*ta, *tb, wanted),
            // The three convolutions belong to one trilinear form, so the derivatives of each are the other
            // two.
            Op::Conv(g) => vec![
                want(0, &|| t.record(Op::ConvDx(*g), &[self.dy(0), self.x(1)])),
                want(1, &|| t.record(Op::ConvDw(*g), &[self.x(0), self.dy(0)])),
            ],
            Op::ConvDx(g) => vec![
                want(0, &|| t.record(Op::Conv(*g), &[self.dy(0), self.x(1)])),
                want(1, &|| t.record(Op::ConvDw(*g), &[self.dy(0), self.x(0)])),
            ],
            Op::ConvDw(g) => self.conv_dw(*g, wanted),
            Op::BatchNorm { .. } => {
                self.only_outputs_below(1);
                self.three(Op::BatchNormBwd, &[self.dy(0), self.x(0), self.x(1), self.y(1), self.y(2)])
            }
            Op::LayerNorm { .. } => {
                self.only_outputs_below(1);
                self.three(Op::LayerNormBwd, &[self.dy(0), self.x(0), self.x(1), self.y(1), self.y(2)])
            }
            Op::GroupNorm { .. } => {
                self.only_outputs_below(1);
                self.three(Op::GroupNormBwd, &[self.dy(0), self.x(0), self.x(1), self.y(1), self.y(2)])
            }
            // d l = dy (sigmoid(l) - target); d target = -dy l
            Op::BceWithLogits => vec![
                want(0, &|| t.mul(self.dy(0), t.sub(t.sigmoid(self.x(0)), self.x(1)))),
                want(1, &|| t.scale(t.mul(self.dy(0), self.x(0)), -1.0)),
            ],
            // d x = 2 dy (x - target) = -d target
            Op::Mse => {
                let d = t.scale(t.mul(self.dy(0), t.sub(self.x(0), self.x(1))), 2.0);
                vec![Some(d), want(1, &|| t.scale(d, -1.0))]
            }
            Op::SoftmaxCrossEntropy => {
                vec![want(0, &|| t.record(Op::SoftmaxCrossEntropyBwd, &[self.dy(0), self.x(0), self.x(1)])), None]
            }
            // kl = sum (mu^2 + exp(lv) - 1 - lv) / 2: d mu = dkl mu; d lv = dkl (exp(lv) - 1) / 2
            Op::GaussianKl => {
                let shape = t.shape(self.x(0));
                let rows = t.reshape(self.dy(0), [shape.rows(), 1]);
                let dkl = t.expand(rows, shape);
                vec![want(0, &|| t.mul(dkl, self.x(0))), want(1, &|| t.mul(dkl, t.affine(t.exp(self.x(1)), 0.5, -0.5)))]
            }
            // z = mu + s eps, and the divergence. `GaussianSampleBwd` uses s eps = z - mu, so eps is not
            // stored.
            Op::GaussianSample { .. } => {
                let inputs = [self.dy(0), self.dy(1), self.x(0), self.x(1), self.y(0)];
                let dmu = t.record(Op::GaussianSampleBwd, &inputs);
                vec![Some(dmu), Some(t.output_of(dmu, 1)), None, None]
            }
            Op::GaussianSampleBwd => self.gaussian_sample_bwd(wanted),
            Op::LstmCell => {
                self.only_outputs_below(2);
                let dz = t.record(Op::LstmCellBwd, &[self.dy(0), self.dy(1), self.x(1), self.y(1), self.y(2)]);
                vec![Some(dz), Some(t.output_of(dz, 1))]
            }
            Op::Lstm => {
                self.only_outputs_below(2);
                let dz = t.record(Op::LstmBwd, &[self.dy(0), self.dy(1), self.x(2), self.x(3), self.y(2)]);
                let dw_hh = wanted[3].then(|| self.lstm_dw_hh(dz));
                vec![Some(dz), Some(t.output_of(dz, 1)), Some(t.output_of(dz, 2)), dw_hh]
            }
            Op::RowLstm => self.scan(Op::RowLstmBwd, wanted, |dz| self.row_dw_ss(dz)),
            Op::DiagonalLstm { reverse } => {
                self.scan(Op::DiagonalLstmBwd { reverse: *reverse }, wanted, |dz| self.diagonal_dw_ss(dz, *reverse))
            }
            // decay average + (1 - decay) value
            Op::Ema { decay } => {
                vec![want(0, &|| t.scale(self.dy(0), *decay)), want(1, &|| t.scale(self.dy(0), 1.0 - *decay))]
            }
            Op::GatedBwd
            | Op::BatchNormBwd
            | Op::LayerNormBwd
            | Op::GroupNormBwd
            | Op::SoftmaxCrossEntropyBwd
            | Op::LstmCellBwd
            | Op::LstmBwd
            | Op::RowLstmBwd
            | Op::DiagonalLstmBwd { .. } => {
                self.no_derivative("has no derivative: its forward op can be differentiated only once")
            }
            Op::BatchNormInfer { .. } => self.no_derivative("has no derivative: train with batch_norm"),
            Op::Clamp { .. } | Op::Quantize { .. } | Op::Dequantize { .. } | Op::Categorical | Op::Bernoulli => {
                self.no_derivative("has no derivative: detach its result where none is meant")
            }
            Op::Adam { .. } | Op::RmsProp { .. } | Op::Sgd { .. } | Op::Store(_) => {
                self.no_derivative("has no derivative: detach the new parameter before using it")
            }
        }
    }

    /// The gradients of all three inputs of a normalisation.
    fn three(&self, op: Op, inputs: &[Var]) -> Vec<Option<Var>> {
        let dx = self.tape.record(op, inputs);
        (0..3).map(|out| Some(self.tape.output_of(dx, out))).collect()
    }

    /// The op computes dmu = dz + dkl mu and dlogvar = (dz (z - mu) + dkl (exp(logvar) - 1)) / 2. With
    /// cotangents a of dmu and b of dlogvar:
    /// - `d dz = a + b (z - mu) / 2`
    /// - `d dkl = a mu + b (exp(logvar) - 1) / 2`, summed over a row
    /// - `d mu = a dkl - b dz / 2`
    /// - `d logvar = b dkl exp(logvar) / 2`
    /// - `d z = b dz / 2`
    fn gaussian_sample_bwd(&self, wanted: &[bool]) -> Vec<Option<Var>> {
        let (t, a) = (self.tape, self.dy(0));
        let b = t.scale(self.dy(1), 0.5);
        let [dz, dkl, mu, logvar, z] = [0, 1, 2, 3, 4].map(|i| self.x(i));
        let shape = t.shape(mu);
        let dkl = || t.expand(t.reshape(dkl, [shape.rows(), 1]), shape);
        let want = |i: usize, f: &dyn Fn() -> Var| wanted[i].then(f);
        vec![
            want(0, &|| t.add(a, t.mul(b, t.sub(z, mu)))),
            want(1, &|| t.sum_rows(t.add(t.mul(a, mu), t.mul(b, t.affine(t.exp(logvar), 1.0, -1.0))))),
            want(2, &|| t.sub(t.mul(a, dkl()), t.mul(b, dz))),
            want(3, &|| t.mul(t.mul(b, dkl()), t.exp(logvar))),
            want(4, &|| t.mul(b, dz)),
        ]
    }

    /// C = op(A) op(B): d op(A) = dC op(B)^T; d op(B) = op(A)^T dC.
    fn matmul(&self, ta: bool, tb: bool, wanted: &[bool]) -> Vec<Option<Var>> {
        let (t, dc, a, b) = (self.tape, self.dy(0), self.x(0), self.x(1));
        let da = || if ta { t.matmul(b, dc, tb, true) } else { t.matmul(dc, b, false, !tb) };
        let db = || if tb { t.matmul(dc, a, true, ta) } else { t.matmul(a, dc, !ta, false) };
        vec![wanted[0].then(da), wanted[1].then(db)]
    }

    /// From z_t = .. + h_{t-1} w_hh follows d w_hh = sum over t of h_{t-1}^T dz_t. The first term has h0 and
    /// is a product of its own. The others are one product of all dz with y shifted by one step, with zeros
    /// in front. y is shifted and not dz, because y is smaller.
    fn lstm_dw_hh(&self, dz: Var) -> Var {
        let (t, y, h0) = (self.tape, self.y(0), self.x(1));
        let (&[steps, n, h], gates) = (t.shape(y).dims(), t.shape(dz).last()) else { unreachable!("inferred") };
        let first_dz = t.reshape(t.slice(dz, [0; 4], [0, steps - 1, 0, 0]), [n, gates]);
        let first = t.matmul(h0, first_dz, true, false);
        if steps == 1 {
            return first;
        }
        let earlier = t.pad(t.slice(y, [0; 4], [0, 1, 0, 0]), [0, 1, 0, 0], [0; 4]);
        let rows = |v, columns| t.reshape(v, [steps * n, columns]);
        t.add(t.matmul(rows(earlier, h), rows(dz, gates), true, false), first)
    }

    /// The gradients of z and w_ss of a scan over an image.
    fn scan(&self, bwd: Op, wanted: &[bool], dw_ss: impl FnOnce(Var) -> Var) -> Vec<Option<Var>> {
        self.only_outputs_below(1);
        let dz = self.tape.record(bwd, &[self.dy(0), self.x(1), self.y(1)]);
        vec![Some(dz), wanted[1].then(|| dw_ss(dz))]
    }

    /// From `z(r, c) = .. + sum over j of y(r - 1, c + j - k/2) w_ss[j]`: this is a convolution of y with
    /// one row of k taps, shifted up by one row.
    fn row_dw_ss(&self, dz: Var) -> Var {
        let k = self.tape.shape(self.x(1)).dims()[1];
        self.dw_of_window(dz, k, [1, k / 2])
    }

    /// `z(r, c) = .. + y(r - 1, c) w_ss[0] + y(r, c - 1) w_ss[1]`. With `reverse` the second state is
    /// `y(r, c + 1)`, which the second of two taps reads.
    fn diagonal_dw_ss(&self, dz: Var, reverse: bool) -> Var {
        let (t, one_tap) = (self.tape, [1, 0, 0, 0]);
        let above = self.dw_of_window(dz, 1, [1, 0]);
        let beside = if reverse {
            t.slice(self.dw_of_window(dz, 2, [0, 0]), [0, 1, 0, 0], [0; 4])
        } else {
            self.dw_of_window(dz, 1, [0, 1])
        };
        t.add(t.pad(above, [0; 4], one_tap), t.pad(beside, one_tap, [0; 4]))
    }

    /// The weight gradient of a convolution from y to z with one row of k taps, and with `pad` zero rows
    /// above and zero columns left of y. The padding shifts the window, so no shifted copy of y is needed.
    fn dw_of_window(&self, dz: Var, k: usize, pad: [usize; 2]) -> Var {
        let (t, y) = (self.tape, self.y(0));
        let (&[n, h, w, cin], cout) = (t.shape(y).dims(), t.shape(dz).last()) else { unreachable!("inferred") };
        let (mask, groups, blocks) = (Mask::None, 1, 1);
        let g = ConvGeom { n, h, w, cin, oh: h, ow: w, cout, kh: 1, kw: k, stride: [1, 1], pad, mask, groups, blocks };
        t.record(Op::ConvDw(g), &[y, dz])
    }

    /// dw = conv_dw(x, dy), with cotangent g of dw: d x = conv_dx(dy, g); d dy = conv(x, g).
    fn conv_dw(&self, geometry: ConvGeom, wanted: &[bool]) -> Vec<Option<Var>> {
        let t = self.tape;
        vec![
            wanted[0].then(|| t.record(Op::ConvDx(geometry), &[self.x(1), self.dy(0)])),
            wanted[1].then(|| t.record(Op::Conv(geometry), &[self.x(0), self.dy(0)])),
        ]
    }

    /// The gradient of `dy f'(s)` with respect to s, where s is the output or input that f saves. `None` if
    /// it is zero everywhere.
    fn second_derivative(&self, f: Unary) -> Option<Var> {
        let (t, s) = (self.tape, self.x(1));
        let g = t.mul(self.dy(0), self.x(0));
        Some(match f {
            Unary::Relu | Unary::LeakyRelu(_) => return None,
            // f' = y + 1 for y <= 0, else 1: df'/dy = 1 - [y > 0]
            Unary::Elu => t.sub(g, t.unary_bwd(Unary::Relu, g, s)),
            // f' = 1 - y^2
            Unary::Tanh => t.mul(g, t.scale(s, -2.0)),
            // f' = y (1 - y)
            Unary::Sigmoid => t.mul(g, t.affine(s, -2.0, 1.0)),
            // f' = sigmoid(x)
            Unary::Softplus => t.unary_bwd(Unary::Sigmoid, g, t.sigmoid(s)),
            // f' = p (1 + x (1 - p)), f'' = p (1 - p) (2 + x (1 - 2 p)) with p = sigmoid(x)
            Unary::Silu => {
                let p = t.sigmoid(s);
                let factor = t.affine(t.mul(s, t.affine(p, -2.0, 1.0)), 1.0, 2.0);
                t.mul(t.unary_bwd(Unary::Sigmoid, g, p), factor)
            }
            // f' = y
            Unary::Exp => g,
            // f' = 1 / x
            Unary::Log => t.scale(t.div(g, t.square(s)), -1.0),
            // f' = 1 / (2 y)
            Unary::Sqrt => t.scale(t.div(g, t.square(s)), -0.5),
            // f' = 2 x
            Unary::Square => t.scale(g, 2.0),
            // f' = -y^2
            Unary::Recip => t.mul(g, t.scale(s, -2.0)),
            // f = x p with p = sigmoid(u), u = a x + b x^3, w = u' = a + 3 b x^2, w' = 6 b x:
            // f' = p + x p (1 - p) w, f'' = p (1 - p) (2 w + x ((1 - 2 p) w^2 + w'))
            Unary::Gelu => {
                let a = (8.0 / std::f64::consts::PI).sqrt();
                let (b, square) = (0.044715 * a, t.square(s));
                let p = t.sigmoid(t.mul(s, t.affine(square, b, a)));
                let w = t.affine(square, 3.0 * b, a);
                let bend = t.add(t.mul(t.affine(p, -2.0, 1.0), t.square(w)), t.scale(s, 6.0 * b));
                t.mul(t.unary_bwd(Unary::Sigmoid, g, p), t.add(t.scale(w, 2.0), t.mul(s, bend)))
            }
        })
    }
}
