//! Cases of the three convolutions (forward, gradient of the input, gradient of the weight) over one list
//! of geometries, and of everything that can be fused into them.

use crate::check::case::{Case, CaseInput, drawn, normal};
use crate::check::elements::Elements;
use crate::shape::Shape;
use crate::tape::geometry::{ConvGeom, Mask};
use crate::tape::op::{Op, Unary};
use crate::tape::record::ConvAttrs;

/// The activations that can be fused into a step.
pub fn activations() -> impl Iterator<Item = Unary> {
    let is_activation = |f: &Unary| f.saves_output() && !matches!(f, Unary::Exp | Unary::Sqrt | Unary::Recip);
    Unary::EACH.into_iter().filter(is_activation)
}

/// Marks a case if its activation has a kink, or a second derivative with a jump.
pub fn is_kinked(f: Unary, case: Case) -> Case {
    if matches!(f, Unary::Relu | Unary::LeakyRelu(_) | Unary::Elu) { case.kinked() } else { case }
}

fn geometry(x: [usize; 4], w: [usize; 4], attrs: ConvAttrs) -> ConvGeom {
    attrs.geometry(Shape::from(x), Shape::from(w)).unwrap_or_else(|why| panic!("a case of the table: {why}"))
}

/// Various strides, paddings and sizes.
fn plain() -> Vec<ConvGeom> {
    let attrs = ConvAttrs::new;
    let rectangular = |stride: [usize; 2], pad: [usize; 2], pad_end: [isize; 2]| ConvAttrs {
        stride,
        pad,
        pad_end,
        ..ConvAttrs::default()
    };
    vec![
        geometry([1, 1, 1, 1], [1, 1, 1, 1], attrs(1, 0)),
        geometry([3, 7, 6, 5], [1, 1, 5, 4], attrs(1, 0)),
        geometry([2, 5, 4, 130], [1, 1, 130, 17], attrs(1, 0)),
        geometry([2, 9, 9, 8], [3, 3, 8, 16], attrs(1, 1)),
        geometry([1, 5, 5, 3], [3, 3, 3, 2], attrs(1, 0)),
        geometry([3, 5, 4, 17], [3, 3, 17, 33], attrs(1, 1)),
        geometry([2, 12, 12, 3], [4, 4, 3, 8], attrs(2, 1)),
        geometry([1, 13, 11, 3], [4, 4, 3, 5], attrs(2, 1)),
        geometry([1, 13, 10, 2], [5, 5, 2, 3], attrs(3, 2)),
        // Here some rows and columns of x do not contribute to any output.
        geometry([2, 7, 7, 3], [1, 1, 3, 4], attrs(2, 0)),
        geometry([1, 11, 9, 2], [2, 2, 2, 3], attrs(3, 0)),
        // Images of one pixel, and a kernel as large as x: both ends of a DCGAN.
        geometry([17, 1, 1, 3], [3, 3, 3, 5], attrs(1, 1)),
        geometry([3, 4, 4, 7], [4, 4, 7, 10], attrs(1, 0)),
        // With this padding the transposed convolution needs an `output_padding`.
        geometry([1, 10, 12, 3], [3, 3, 3, 4], rectangular([2, 2], [1, 1], [0, 0])),
        geometry([2, 8, 11, 4], [1, 3, 4, 6], rectangular([1, 1], [0, 1], [0, 1])),
        geometry([2, 9, 8, 3], [3, 2, 3, 4], rectangular([2, 1], [1, 0], [0, 2])),
        // A vertical stack, which reads only rows above.
        geometry([2, 6, 7, 3], [2, 3, 3, 6], rectangular([1, 1], [2, 1], [0, 1])),
        geometry([2, 1, 40, 3], [1, 5, 3, 3], rectangular([1, 1], [0, 2], [0, 2])),
        // A shift by one row and one by two columns: the last ones of x do not contribute to any output.
        geometry([2, 5, 6, 8], [1, 1, 8, 7], rectangular([1, 1], [1, 0], [-1, 0])),
        geometry([2, 1, 3, 4], [1, 1, 4, 4], rectangular([1, 1], [1, 0], [-1, 0])),
        geometry([2, 4, 7, 3], [2, 2, 3, 5], rectangular([1, 1], [0, 3], [1, -2])),
        geometry([0, 5, 5, 3], [3, 3, 3, 4], attrs(1, 1)),
        // The padding is wider than the kernel, so some outputs read only zeros.
        geometry([1, 3, 3, 2], [2, 2, 2, 3], attrs(1, 3)),
    ]
}

/// Various masks, colour groups and blocks.
pub fn masked() -> Vec<ConvGeom> {
    let of = |x: [usize; 4], kernel: usize, cout: usize, mask: Mask, groups: usize, blocks: usize| {
        let attrs = ConvAttrs { blocks, ..ConvAttrs::masked(mask, kernel, groups) };
        geometry(x, [kernel, kernel, x[3], cout], attrs)
    };
    let row = |x: [usize; 4], kernel: usize, cout: usize, mask: Mask, groups: usize, blocks: usize| {
        let pad = [0, kernel / 2];
        let attrs = ConvAttrs { pad, pad_end: pad.map(|p| p as isize), mask, groups, blocks, ..ConvAttrs::default() };
        geometry(x, [1, kernel, x[3], cout], attrs)
    };
    vec![
        of([2, 10, 9, 1], 7, 16, Mask::A, 1, 1),
        of([2, 10, 9, 16], 3, 16, Mask::B, 1, 1),
        of([2, 6, 6, 16], 1, 8, Mask::B, 1, 1),
        // No tap is open.
        of([2, 3, 3, 4], 1, 5, Mask::A, 1, 1),
        of([1, 1, 1, 3], 3, 5, Mask::A, 1, 1),
        of([2, 9, 9, 3], 7, 12, Mask::A, 3, 1),
        of([2, 8, 8, 12], 3, 24, Mask::B, 3, 1),
        of([2, 5, 5, 24], 1, 9, Mask::B, 3, 1),
        of([2, 5, 5, 9], 5, 6, Mask::A, 3, 1),
        // Numbers of channels that are not divisible by three colours.
        of([2, 6, 5, 16], 3, 32, Mask::B, 3, 1),
        of([2, 6, 5, 7], 3, 10, Mask::A, 3, 1),
        of([1, 6, 6, 1], 3, 7, Mask::A, 3, 1),
        // Blocks, as in gated units and LSTM gates.
        of([2, 6, 6, 6], 3, 12, Mask::B, 3, 2),
        of([2, 6, 6, 6], 3, 12, Mask::A, 3, 2),
        of([2, 5, 5, 16], 1, 36, Mask::B, 3, 4),
        of([2, 5, 5, 3], 7, 20, Mask::A, 1, 4),
        row([2, 6, 7, 4], 3, 20, Mask::B, 1, 4),
        row([2, 5, 5, 3], 3, 24, Mask::A, 3, 4),
        of([0, 5, 5, 3], 3, 6, Mask::B, 3, 1),
        of([2, 7, 17, 33], 3, 130, Mask::B, 1, 1),
    ]
}

fn geometries() -> Vec<ConvGeom> {
    let mut all = plain();
    all.extend(masked());
    all
}

fn triple(
    op: &'static str,
    make: fn(ConvGeom) -> Op,
    a: fn(&ConvGeom) -> CaseInput,
    b: fn(&ConvGeom) -> CaseInput,
) -> Vec<Case> {
    let one = |g: ConvGeom| {
        let case = Case::new(op, g, vec![a(&g), b(&g)], move |t, v| vec![t.record(make(g), &[v[0], v[1]])]);
        case.twice()
    };
    geometries().into_iter().map(one).collect()
}

pub fn conv() -> Vec<Case> {
    let mut all = triple("conv", Op::Conv, |g| normal("x", g.x_shape()), |g| normal("w", g.w_shape()));
    all.extend(epilogues("conv"));
    all
}

pub fn conv_dx() -> Vec<Case> {
    let mut all = triple("conv_dx", Op::ConvDx, |g| normal("dy", g.y_shape()), |g| normal("w", g.w_shape()));
    all.extend(epilogues("conv_dx"));
    all
}

pub fn conv_dw() -> Vec<Case> {
    triple("conv_dw", Op::ConvDw, |g| normal("x", g.x_shape()), |g| normal("dy", g.y_shape()))
}

/// Bias, residual and activation after a convolution or a transposed convolution, and two layers whose
/// gradients have an activation gradient fused in.
fn epilogues(op: &'static str) -> Vec<Case> {
    let transposed = op == "conv_dx";
    let mut all = vec![];
    let geometries = [
        geometry([2, 6, 7, 5], [3, 3, 5, 17], ConvAttrs::new(1, 1)),
        geometry([2, 8, 8, 3], [4, 4, 3, 6], ConvAttrs::new(2, 1)),
        geometry([2, 5, 3, 6], [1, 1, 6, 33], ConvAttrs::new(1, 0)),
        geometry([2, 6, 6, 6], [3, 3, 6, 12], ConvAttrs { blocks: 2, ..ConvAttrs::masked(Mask::B, 3, 3) }),
    ];
    for (i, g) in geometries.into_iter().enumerate() {
        let make = if transposed { Op::ConvDx } else { Op::Conv };
        let (from, to) = if transposed { (g.y_shape(), g.x_shape()) } else { (g.x_shape(), g.y_shape()) };
        let scale = Elements::Uniform(-0.2, 0.2);
        let inputs = || vec![normal("x", from), drawn("w", g.w_shape(), scale), drawn("bias", [to.last()], scale)];
        let case = Case::new(op, format!("{g} +bias"), inputs(), move |t, v| {
            vec![t.add_bias(t.record(make(g), &[v[0], v[1]]), v[2])]
        });
        all.push(case.twice());
        // The first geometry has every activation, the others have one each.
        for f in activations().enumerate().filter(|(k, _)| i == 0 || *k == i).map(|(_, f)| f) {
            let case = Case::new(op, format!("{g} +bias {f}"), inputs(), move |t, v| {
                vec![t.unary(f, t.add_bias(t.record(make(g), &[v[0], v[1]]), v[2]))]
            });
            all.push(is_kinked(f, case.twice()));
            let mut residual = inputs();
            residual.push(normal("residual", to));
            let case = Case::new(op, format!("{g} +bias +add {f}"), residual, move |t, v| {
                let y = t.add_bias(t.record(make(g), &[v[0], v[1]]), v[2]);
                vec![t.unary(f, t.add(y, v[3]))]
            });
            all.push(is_kinked(f, case.twice()));
            // The first layer is 1x1, so that the gradient of this convolution meets the gradient of the
            // activation.
            let two = vec![
                normal("x", from),
                drawn("w1", [1, 1, from.last(), from.last()], scale),
                drawn("w2", g.w_shape(), scale),
            ];
            let case = Case::new(op, format!("{g} behind a 1x1 with {f}"), two, move |t, v| {
                let hidden = t.unary(f, t.conv(v[0], v[1], ConvAttrs::new(1, 0)));
                vec![t.record(make(g), &[hidden, v[2]])]
            });
            all.push(is_kinked(f, case.twice()));
        }
    }
    all
}
