//! The exact support of every autoregressive network, of every mask, and of networks that leak.
//!
//! The *support* of an output is the set of input dimensions that it depends on. Two methods compute it, by
//! gradient and by perturbation, and must agree. It is compared with the context that the papers describe.

use super::{models, network};
use pixtape::backend::{self, Backend};
use pixtape::config::NetworkKind;
use pixtape::eval::causality::{Dependency, Subject, Support, Supports, supports};
use pixtape::models::Model;
use pixtape::nn::{Channels, Conv, Env, ParamSet};
use pixtape::shape::ImageSize;
use pixtape::tape::Var;
use pixtape::tape::geometry::Mask;
use pixtape::tape::record::ConvAttrs;

fn device() -> Box<dyn Backend> {
    backend::open("cpu", 1).unwrap()
}

/// The support of a model. Panics if the two methods that compute it disagree.
fn support_of(model: &Model) -> Support {
    let mut last = (0, 0);
    let Supports { by_gradient, by_perturbation } =
        supports(&mut *device(), &model.set, network(model), &mut |done, of| last = (done, of)).unwrap();
    let name = model.config.name();
    assert_eq!(last.0, last.1, "{name}: progress ends when everything is done");
    assert_eq!(by_gradient.differences(&by_perturbation), vec![], "{name}: the two ways differ");
    by_gradient
}

/// The pixels that the first output of `pixel` sees.
fn pixels_seen(support: &Support, pixel: usize) -> Vec<usize> {
    let output = pixel * support.outputs;
    (0..support.input.height * support.input.width).filter(|q| support.sees_pixel(output, *q)).collect()
}

/// Whether every output sees exactly the earlier colours of its own pixel, and all colours or none of any
/// other pixel. The Diagonal BiLSTM has one exception: it sees the last pixel of the row above only through
/// the features of that pixel, and no feature sees the last colour of its own pixel.
fn colours_are_exact(name: &str, support: &Support) -> bool {
    let ImageSize { height, width, channels: colours } = support.input;
    let is_exception = |own: usize, q: usize| name.starts_with("diagonal") && q + 1 == own / width * width;
    let outputs = (0..height * width * colours).map(|output| (output, output / colours, output % colours));
    outputs.into_iter().all(|(output, own, colour)| {
        let exact = (0..colours).all(|c| support.sees(output, own * colours + c) == (c < colour));
        let whole = (0..own).all(|q| {
            let seen = (0..colours).filter(|c| support.sees(output, q * colours + c)).count();
            seen == 0 || seen == colours || (is_exception(own, q) && seen == colours - 1)
        });
        exact && whole
    })
}

#[test]
fn no_autoregressive_model_leaks_and_colours_see_those_before_them() {
    for (size, levels) in [([7, 6, 1], 2), ([6, 5, 3], 4), ([1, 9, 1], 2), ([8, 1, 3], 3)] {
        for model in models(size, levels) {
            let (name, support) = (model.config.name(), support_of(&model));
            assert_eq!(support.leaks(), vec![], "{name} {size:?}");
            assert!(colours_are_exact(name, &support), "{name} {size:?}: colours");
            // The context is not trivially small: the last pixel sees five pixels, or all pixels before it.
            let last = size[0] * size[1] - 1;
            assert!(pixels_seen(&support, last).len() >= last.min(5), "{name} {size:?} sees next to nothing");
        }
    }
}

/// The pixels that a plain PixelCNN sees: one step of a 3x3 kernel with mask B per block, then one step of a
/// 7x7 kernel with mask A.
fn context_of_pixelcnn([height, width]: [usize; 2], pixel: usize, blocks: usize) -> Vec<usize> {
    let step = |from: Vec<bool>, reach: isize, with_centre: bool| {
        let mut to = vec![false; from.len()];
        for p in (0..from.len()).filter(|p| from[*p]) {
            for (dr, dc) in (-reach..=0).flat_map(|dr| (-reach..=reach).map(move |dc| (dr, dc))) {
                let (r, c) = ((p / width) as isize + dr, (p % width) as isize + dc);
                let is_open = dr < 0 || dc < 0 || (dc == 0 && with_centre);
                if is_open && r >= 0 && r < height as isize && c >= 0 && c < width as isize {
                    to[r as usize * width + c as usize] = true;
                }
            }
        }
        to
    };
    let mut seen = vec![false; height * width];
    seen[pixel] = true;
    for _ in 0..blocks {
        seen = step(seen, 1, true);
    }
    let seen = step(seen, 3, false);
    (0..height * width).filter(|q| seen[*q]).collect()
}

/// The pixels that a gated PixelCNN sees: all pixels within its reach, above and to the left.
fn context_of_gated([_, width]: [usize; 2], pixel: usize, layers: usize, kernel: usize) -> Vec<usize> {
    let reach = 3 + (layers - 1) * (kernel / 2);
    let (row, column) = (pixel / width, pixel % width);
    let sees = |q: &usize| {
        let (r, c) = (q / width, q % width);
        let above = r < row && r + reach + 1 >= row && c.abs_diff(column) <= reach;
        above || (r == row && c < column && c + reach >= column)
    };
    (0..pixel).filter(sees).collect()
}

/// The pixels that a PixelRNN sees: those under a 7x7 kernel with mask A at any pixel whose features its
/// layers reach.
fn context_of_pixelrnn([height, width]: [usize; 2], features: impl Fn([usize; 2]) -> bool) -> Vec<usize> {
    let pixels = || (0..height * width).map(|p| [p / width, p % width]);
    let under = |[r, c]: [usize; 2], [fr, fc]: [usize; 2]| {
        (r < fr || (r == fr && c < fc)) && r + 3 >= fr && c.abs_diff(fc) <= 3
    };
    let reached: Vec<[usize; 2]> = pixels().filter(|at| features(*at)).collect();
    (0..height * width).filter(|q| reached.iter().any(|f| under([q / width, q % width], *f))).collect()
}

/// Row LSTMs reach a triangle, which is one column wider on each side with every row up. They also reach
/// `layers` pixels to the left, because each layer reads the neighbour on that side.
fn context_of_row_lstm(size: [usize; 2], pixel: usize, layers: usize) -> Vec<usize> {
    let (row, column) = (pixel / size[1], pixel % size[1]);
    context_of_pixelrnn(size, |[r, c]| r <= row && c <= column + (row - r) && c + (row - r) + layers >= column)
}

/// Diagonal BiLSTMs reach every row above in its full width, and the pixels to the left.
fn context_of_diagonal_bilstm(size: [usize; 2], pixel: usize) -> Vec<usize> {
    let (row, column) = (pixel / size[1], pixel % size[1]);
    context_of_pixelrnn(size, |[r, c]| r < row || (r == row && c <= column))
}

#[test]
fn contexts_are_those_of_the_papers_and_only_the_plain_pixelcnn_has_a_blind_spot() {
    let size = [10, 13];
    let (mut plain, mut gated) = (0, 0);
    for model in models([size[0], size[1], 1], 2) {
        let support = support_of(&model);
        let name = model.config.name();
        let want: &dyn Fn(usize) -> Vec<usize> = match model.config.network {
            NetworkKind::PixelCnn => {
                plain += 1;
                assert!(support.blind_outputs() > 0, "{name} has no blind spot");
                &|pixel| context_of_pixelcnn(size, pixel, 2)
            }
            NetworkKind::GatedPixelCnn => {
                gated += 1;
                assert_eq!(support.blind_outputs(), 0, "{name} has a blind spot");
                &|pixel| context_of_gated(size, pixel, 3, model.config.model.kernel.unwrap())
            }
            NetworkKind::RowLstm => &|pixel| context_of_row_lstm(size, pixel, 3),
            NetworkKind::DiagonalBiLstm => {
                // The pixel sees everything before it except the last pixel of the row above, because no
                // feature within reach sees that pixel.
                assert_eq!(support.blind_spot(6 * 13 + 2), [6 * 13 - 1]);
                &|pixel| context_of_diagonal_bilstm(size, pixel)
            }
            other => panic!("{other} is not autoregressive"),
        };
        for pixel in 0..size[0] * size[1] {
            assert_eq!(pixels_seen(&support, pixel), want(pixel), "{name} pixel {pixel}");
        }
    }
    assert!(plain >= 2 && gated >= 2, "{plain} plain and {gated} gated models");
}

#[test]
fn a_blind_spot_is_where_it_was_drawn() {
    // With two blocks the reach to the upper right of (6, 6) is three columns in the row above, and one
    // column more per row up, to at most five.
    let model = &models([10, 13, 1], 2)[0];
    let support = support_of(model);
    let blind = support.blind_spot(6 * 13 + 6);
    assert!(blind.contains(&(5 * 13 + 11)) && !blind.contains(&(5 * 13 + 9)), "{blind:?}");
    assert!(blind.iter().all(|p| p % 13 > 6), "the spot lies to the right: {blind:?}");
}

/// Both supports of a network of one convolution. Every channel is an input or an output of its own.
fn one_conv(attrs: ConvAttrs, kernel: [usize; 2], [cin, cout]: [usize; 2]) -> [Support; 2] {
    let mut set = ParamSet::new();
    let conv = Conv::rectangular(&mut set, "conv", Channels { inputs: cin, outputs: cout }, kernel, attrs);
    let network = |env: &Env, x: Var| conv.forward(env, x);
    let subject = Subject { set: &set, input: [5, 6, cin].into(), outputs: cout, zero: 0.0, network: &network };
    let mut device = device();
    [subject.by_gradient(&mut *device, &mut |_, _| ()), subject.by_perturbation(&mut *device, &mut |_, _| ())]
        .map(Result::unwrap)
}

#[test]
fn every_mask_opens_exactly_the_taps_and_colours_that_it_should() {
    for mask in [Mask::None, Mask::A, Mask::B] {
        for (groups, blocks, [cin, cout]) in [
            (1, 1, [1, 4]),
            (1, 2, [4, 4]),
            (3, 1, [3, 7]),
            (3, 1, [7, 12]),
            (3, 2, [6, 12]),
            (3, 2, [7, 10]),
            (3, 4, [5, 24]),
        ] {
            if mask == Mask::None && (groups, blocks) != (1, 1) {
                continue;
            }
            for kernel in [[1, 1], [1, 3], [3, 3], [5, 3]] {
                let pad = kernel.map(|k| k / 2);
                let pad_end = pad.map(|p| p as isize);
                let attrs = ConvAttrs { pad, pad_end, mask, groups, blocks, ..ConvAttrs::default() };
                let what = format!("{mask:?} groups {groups} blocks {blocks} {cin}->{cout} {kernel:?}");
                let [by_gradient, by_perturbation] = one_conv(attrs, kernel, [cin, cout]);
                assert_eq!(by_gradient, by_perturbation, "{what}");
                for (output, input) in (0..5 * 6 * cout).flat_map(|o| (0..5 * 6 * cin).map(move |i| (o, i))) {
                    let at = |index: usize, channels: usize| {
                        let pixel = (index / channels) as isize;
                        ([pixel / 6, pixel % 6], index % channels)
                    };
                    let (([r, c], o), ([y, x], i)) = (at(output, cout), at(input, cin));
                    let (dr, dc) = (y - r, x - c);
                    let inside = dr.unsigned_abs() <= pad[0] && dc.unsigned_abs() <= pad[1];
                    // Colours are contiguous groups of channels, within each block of the outputs.
                    let (from, to) = (i * groups / cin, (o % (cout / blocks)) * groups / (cout / blocks));
                    let is_open = match mask {
                        Mask::None => true,
                        _ if (dr, dc) != (0, 0) => dr < 0 || (dr == 0 && dc < 0),
                        Mask::A => from < to,
                        Mask::B => from <= to,
                    };
                    assert_eq!(by_gradient.sees(output, input), inside && is_open, "{what}: {output} from {input}");
                }
            }
        }
    }
}

/// The leaks of a network in three colours, found by both methods. `first` masks the first layer, whose
/// channels form `blocks` blocks and feed a gated unit; `second` masks the second layer.
fn leaky(first: Mask, blocks: usize, second: Mask) -> [Vec<Dependency>; 2] {
    let mut set = ParamSet::new();
    let masked = |mask, blocks| ConvAttrs { blocks, ..ConvAttrs::masked(mask, 3, 3) };
    let layers = [
        Conv::new(&mut set, "first", Channels { inputs: 3, outputs: 12 }, 3, masked(first, blocks)),
        Conv::new(&mut set, "second", Channels { inputs: 6, outputs: 6 }, 3, masked(second, 1)),
    ];
    let network = |env: &Env, x: Var| layers[1].forward(env, env.t.gated(layers[0].forward(env, x)));
    let subject = Subject { set: &set, input: [4, 5, 3].into(), outputs: 3, zero: 0.0, network: &network };
    let mut device = device();
    [subject.by_gradient(&mut *device, &mut |_, _| ()), subject.by_perturbation(&mut *device, &mut |_, _| ())]
        .map(|support| support.unwrap().leaks())
}

fn pair(output: usize, input: usize) -> Dependency {
    Dependency { output, input }
}

#[test]
fn a_network_that_leaks_is_caught_both_ways() {
    assert!(leaky(Mask::A, 2, Mask::B).iter().all(Vec::is_empty), "a right network");
    // The first layer must not see the dimension that it predicts.
    let [gradient, perturbation] = leaky(Mask::B, 2, Mask::B);
    assert!(
        gradient == perturbation && gradient.contains(&pair(0, 0)) && !gradient.contains(&pair(0, 1)),
        "{gradient:?}"
    );
    // Without blocks the gates of a colour are computed from later colours.
    let [gradient, perturbation] = leaky(Mask::A, 1, Mask::B);
    assert!(gradient == perturbation && !gradient.is_empty(), "blocks");
    // A later layer without a mask.
    let mut set = ParamSet::new();
    let first = Conv::new(&mut set, "first", Channels { inputs: 1, outputs: 4 }, 3, ConvAttrs::masked(Mask::A, 3, 1));
    let open = Conv::new(&mut set, "open", Channels { inputs: 4, outputs: 2 }, 3, ConvAttrs::new(1, 1));
    let network = |env: &Env, x: Var| open.forward(env, env.t.relu(first.forward(env, x)));
    let subject = Subject { set: &set, input: [4, 4, 1].into(), outputs: 1, zero: 0.0, network: &network };
    let leaks = subject.by_perturbation(&mut *device(), &mut |_, _| ()).unwrap().leaks();
    assert!(leaks.contains(&pair(5, 5)) && leaks.contains(&pair(5, 6)), "{leaks:?}");
}
