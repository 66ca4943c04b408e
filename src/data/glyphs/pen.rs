//! Draws strokes: splines through control points, then lines drawn with a soft round pen.

use super::SIDE;

/// `[x, y]`, with y pointing down.
pub(super) type Point = [f32; 2];

/// Number of straight segments per span between two control points.
const PARTS: usize = 8;

/// The Catmull-Rom spline through the points of each piece, as one polyline. Consecutive pieces meet at
/// the corner that they share.
pub(super) fn spline(pieces: &[Vec<Point>]) -> Vec<Point> {
    let mut line: Vec<Point> = Vec::new();
    for piece in pieces {
        line.extend(piece.first().filter(|_| line.is_empty()));
        for span in 0..piece.len().saturating_sub(1) {
            // The first and the last point stand in for their missing neighbours.
            let at = |offset: usize| piece[(span + offset).saturating_sub(1).min(piece.len() - 1)];
            let points = [at(0), at(1), at(2), at(3)];
            line.extend((1..=PARTS).map(|part| catmull_rom(points, part as f32 / PARTS as f32)));
        }
    }
    line
}

/// The point at `t` of the curve from `p[1]` (t = 0) to `p[2]` (t = 1). At both ends the tangent is
/// parallel to the line between the neighbouring points.
fn catmull_rom(p: [Point; 4], t: f32) -> Point {
    std::array::from_fn(|axis| {
        let [a, b, c, d] = p.map(|point| point[axis]);
        let linear = c - a;
        let square = 2.0 * a - 5.0 * b + 4.0 * c - d;
        let cube = 3.0 * (b - c) + d - a;
        b + 0.5 * t * (linear + t * (square + t * cube))
    })
}

/// A round pen: its radius, and the width of the soft edge, in pixels.
#[derive(Clone, Copy)]
pub(super) struct Nib {
    pub(super) radius: f32,
    pub(super) edge: f32,
}

/// The relative change of the radius along a line.
#[derive(Clone, Copy)]
pub(super) struct Pressure {
    /// The change from one end to the other.
    pub(super) slope: f32,
    /// The change from the ends to the middle.
    pub(super) bow: f32,
}

/// Draws a line. Each pixel becomes the maximum of its old value and the ink of the line, from 0 to 1.
pub(super) fn ink(line: &[Point], nib: Nib, pressure: Pressure, ink: &mut [f32; SIDE * SIDE]) {
    let segments = line.len().saturating_sub(1).max(1) as f32;
    for (at, ends) in line.windows(2).enumerate() {
        let along = (2.0 * at as f32 + 1.0) / segments - 1.0;
        let factor = 1.0 + pressure.slope * along + pressure.bow * (0.5 - along * along);
        segment(ends[0], ends[1], Nib { radius: nib.radius * factor.clamp(0.5, 1.5), ..nib }, ink);
    }
}

fn segment(from: Point, to: Point, nib: Nib, ink: &mut [f32; SIDE * SIDE]) {
    let reach = nib.radius + nib.edge;
    let pixels = |axis: usize| {
        let low = (from[axis].min(to[axis]) - reach).max(0.0) as usize;
        let high = (from[axis].max(to[axis]) + reach).clamp(0.0, SIDE as f32 - 1.0) as usize;
        low..=high
    };
    let way = [to[0] - from[0], to[1] - from[1]];
    let square = (way[0] * way[0] + way[1] * way[1]).max(1e-12);
    for y in pixels(1) {
        for x in pixels(0) {
            let [px, py] = [x as f32 + 0.5 - from[0], y as f32 + 0.5 - from[1]];
            let nearest = ((px * way[0] + py * way[1]) / square).clamp(0.0, 1.0);
            let [dx, dy] = [px - nearest * way[0], py - nearest * way[1]];
            let distance = (dx * dx + dy * dy).sqrt();
            let value = ((nib.radius - distance) / nib.edge + 0.5).clamp(0.0, 1.0);
            let cell = &mut ink[y * SIDE + x];
            *cell = cell.max(value);
        }
    }
}
