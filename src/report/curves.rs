//! Line charts as SVG, for losses and speeds over training.
//!
//! [`Chart::to_svg`] smooths and thins the series, and draws with the `plotters` library.

use super::axis::Axis;
use super::text::{printable, short};
use plotters::prelude::*;

/// Width and height of a chart in its own units. A chart is drawn large and shown smaller, because the
/// library rounds positions to whole units, which would make lines look jagged.
const SIZE: (u32, u32) = (1600, 660);

/// Font size in the units of the chart. In a chart that is shown 800 pixels wide, letters are 13 pixels
/// high.
pub(super) const LETTERS: f64 = 26.0;

/// The library divides font sizes by this for SVG.
pub(super) const FONT_FACTOR: f64 = 1.24;

/// The largest number of points that are drawn per series. More would not be visible.
const MAX_POINTS: usize = 800;

/// Larger values are treated as not finite, because their differences could overflow.
const HUGE: f64 = 1e30;

/// The colour of text and axes. The style sheet of the page replaces exactly this colour by that of its
/// light or dark theme.
pub(super) const INK: RGBColor = RGBColor(0x6B, 0x72, 0x80);

/// The colour of grid lines, which the style sheet replaces, too.
pub(super) const GRID: RGBColor = RGBColor(0xE2, 0xE5, 0xEA);

/// Colours of the series, which are readable on white and on nearly black backgrounds.
pub(super) const PALETTE: [RGBColor; 8] = [
    RGBColor(0x3B, 0x82, 0xF6),
    RGBColor(0xF0, 0x8C, 0x2E),
    RGBColor(0x2F, 0xA8, 0x66),
    RGBColor(0xE0, 0x52, 0x63),
    RGBColor(0x9A, 0x6B, 0xDE),
    RGBColor(0x1F, 0xA6, 0xB8),
    RGBColor(0xD9, 0x5F, 0xA8),
    RGBColor(0x9A, 0x8A, 0x2C),
];

/// A named series of points.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its points `(x, y)` in ascending order of x. A y that is not finite leaves a gap.
    pub points: Vec<(f64, f64)>,
}

/// A line chart.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// The title above the chart.
    pub title: String,
    /// The label of the x axis, with its unit.
    pub x_label: String,
    /// The label of the y axis, with its unit.
    pub y_label: String,
    /// Whether the y axis is logarithmic. Values that are not positive are left out then.
    pub log_y: bool,
    /// Width of the running mean as a fraction of the series. The mean is drawn over the raw values,
    /// which are pale. If it is 0, only the raw values are drawn.
    pub smoothing: f64,
    /// Whether the y axis starts at 0. Only for linear axes with values that are not negative.
    pub from_zero: bool,
    /// The lines.
    pub series: Vec<Series>,
}

/// The drawn parts of a series, in the coordinates of the chart.
struct Line {
    raw: Vec<Vec<(f64, f64)>>,
    smooth: Vec<Vec<(f64, f64)>>,
    last: f64,
}

impl Chart {
    /// Draws the chart as an SVG element.
    pub fn to_svg(&self) -> String {
        let lines: Vec<Line> = self.series.iter().map(|series| self.line(series)).collect();
        let points = || lines.iter().flat_map(|line| line.raw.iter().flatten().copied());
        let x_axis = Axis::over(points().map(|(x, _)| x), false, 8);
        let floor = (self.from_zero && !self.log_y && points().next().is_some()).then_some(0.0);
        let y_axis = Axis::over(points().map(|(_, y)| y).chain(floor), self.log_y, 6);
        let mut svg = String::new();
        self.draw(&mut svg, &lines, &x_axis, &y_axis).expect("drawing into memory does not fail");
        svg
    }

    /// Converts a series to its drawn parts: contiguous pieces of finite values, raw and smoothed,
    /// thinned out.
    fn line(&self, series: &Series) -> Line {
        let finite = series.points.iter().filter(|(x, _)| x.abs() < HUGE);
        let raw: Vec<(f64, f64)> = finite
            .map(|&(x, y)| {
                let y = if self.log_y { y.log10() } else { y };
                (x, if y.abs() < HUGE { y } else { f64::NAN })
            })
            .collect();
        let smooth = running_mean(&raw, self.smoothing);
        let last = smooth.iter().rev().map(|(_, y)| *y).find(|y| y.is_finite()).unwrap_or(f64::NAN);
        let last = if self.log_y { 10f64.powf(last) } else { last };
        Line { raw: pieces(thin(raw)), smooth: pieces(thin(smooth)), last }
    }

    fn draw(
        &self,
        svg: &mut String,
        lines: &[Line],
        x_axis: &Axis,
        y_axis: &Axis,
    ) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let text = TextStyle::from(("sans-serif", LETTERS * FONT_FACTOR).into_font()).color(&INK);
        let (legend, plot) = root.split_vertically(60);
        let mut chart = ChartBuilder::on(&plot)
            .margin_right(60)
            .margin_top(10)
            .x_label_area_size(84)
            .y_label_area_size(130)
            .build_cartesian_2d(x_axis.clone(), y_axis.clone())?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.stroke_width(2))
            .axis_style(INK.stroke_width(2))
            .label_style(text.clone())
            .axis_desc_style(text.clone())
            .x_desc(printable(&self.x_label))
            .y_desc(printable(&self.y_label))
            .x_label_formatter(&|x| x_axis.label(*x))
            .y_label_formatter(&|y| y_axis.label(*y))
            .draw()?;
        let smoothed = self.smoothing > 0.0;
        // All raw lines are drawn first, so that no pale line covers a mean.
        for (index, line) in lines.iter().enumerate() {
            let style = if smoothed {
                PALETTE[index % PALETTE.len()].mix(0.35).stroke_width(2)
            } else {
                PALETTE[index % PALETTE.len()].stroke_width(4)
            };
            for piece in line.raw.iter().filter(|piece| piece.len() > 1) {
                chart.draw_series(LineSeries::new(piece.iter().copied(), style))?;
            }
        }
        for (index, line) in lines.iter().enumerate() {
            let colour = PALETTE[index % PALETTE.len()];
            for piece in line.smooth.iter().filter(|piece| smoothed && piece.len() > 1) {
                chart.draw_series(LineSeries::new(piece.iter().copied(), colour.stroke_width(5)))?;
            }
            // A piece of one point would not be visible as a line.
            let single = line.raw.iter().filter(|piece| piece.len() == 1).flatten();
            chart.draw_series(single.map(|point| Circle::new(*point, 6, colour.filled())))?;
        }
        let mut x = 130;
        for (index, (series, line)) in self.series.iter().zip(lines).enumerate() {
            let last = if line.last.is_finite() { short(line.last) } else { "no values".to_string() };
            let name = format!("{}  {last}", printable(&series.name));
            let colour = PALETTE[index % PALETTE.len()];
            legend.draw(&Rectangle::new([(x, 24), (x + 36, 32)], colour.filled()))?;
            legend.draw(&Text::new(name.clone(), (x + 50, 16), text.clone()))?;
            // The SVG backend cannot measure text. Letters are about 0.56 times as wide as they are high.
            x += 50 + (name.chars().count() as f64 * LETTERS * 0.56) as i32 + 50;
        }
        root.present()
    }
}

/// Weighted means of the neighbourhood of each value, with weights that decrease exponentially on both
/// sides over `width` of the series. A mean over past values alone would lag behind a steep curve. Gaps
/// stay gaps.
fn running_mean(points: &[(f64, f64)], width: f64) -> Vec<(f64, f64)> {
    let keep = 1.0 - 1.0 / (1.0 + width.max(0.0) * points.len() as f64);
    let (mut sums, mut weights) = (vec![0.0; points.len()], vec![0.0; points.len()]);
    let both_ways: [&mut dyn Iterator<Item = usize>; 2] = [&mut (0..points.len()), &mut (0..points.len()).rev()];
    for order in both_ways {
        let (mut sum, mut weight) = (0.0, 0.0);
        for index in order {
            let (_, y) = points[index];
            if y.is_finite() {
                sums[index] += sum * keep + y / 2.0;
                weights[index] += weight * keep + 0.5;
                (sum, weight) = (sum * keep + y, weight * keep + 1.0);
            }
        }
    }
    let mean = |index: usize, y: f64| if y.is_finite() { sums[index] / weights[index] } else { f64::NAN };
    points.iter().enumerate().map(|(index, (x, y))| (*x, mean(index, *y))).collect()
}

/// Reduces a series to at most [`MAX_POINTS`] points: the lowest and the highest of every interval. An
/// interval without finite values stays a gap.
fn thin(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() <= MAX_POINTS {
        return points;
    }
    let stretch = points.len().div_ceil(MAX_POINTS / 2);
    let mut kept = Vec::with_capacity(MAX_POINTS);
    for part in points.chunks(stretch) {
        let drawn = || part.iter().filter(|(_, y)| y.is_finite());
        let by_y = |(_, a): &&(f64, f64), (_, b): &&(f64, f64)| a.total_cmp(b);
        match (drawn().min_by(by_y), drawn().max_by(by_y)) {
            (Some(low @ (low_x, _)), Some(high @ (high_x, _))) => {
                kept.extend(if low_x <= high_x { [*low, *high] } else { [*high, *low] });
            }
            _ => kept.push(part[0]),
        }
    }
    kept
}

/// The contiguous runs of points between gaps.
fn pieces(points: Vec<(f64, f64)>) -> Vec<Vec<(f64, f64)>> {
    let runs = points.split(|(_, y)| !y.is_finite());
    runs.filter(|run| !run.is_empty()).map(<[_]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: &[(f64, f64)]) -> Chart {
        let series = vec![Series { name: "loss".to_string(), points: points.to_vec() }];
        Chart { x_label: "step".to_string(), y_label: "nats".to_string(), series, ..Chart::default() }
    }

    /// The texts of a chart.
    fn texts(svg: &str) -> Vec<String> {
        svg.split("<text").skip(1).map(|part| part.split(['>', '<']).nth(1).unwrap().trim().to_string()).collect()
    }

    #[test]
    fn a_chart_has_its_labels_and_round_ticks() {
        let svg = chart(&[(0.0, 0.0), (1000.0, 10.0)]).to_svg();
        let texts = texts(&svg);
        for want in ["step", "nats", "0", "200", "1000", "2", "10", "loss  10"] {
            assert!(texts.iter().any(|text| text == want), "{want} in {texts:?}");
        }
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("#3B82F6"));
    }

    #[test]
    fn nothing_in_it_makes_it_fail() {
        let awkward = [
            vec![],
            vec![(0.0, f64::NAN)],
            vec![(1.0, 2.0)],
            vec![(1.0, 2.0), (2.0, f64::INFINITY), (3.0, 4.0), (4.0, f64::NAN), (5.0, f64::MAX), (6.0, 1.0)],
            vec![(0.0, 5.0), (1.0, 5.0)],
            vec![(0.0, -5.0), (1.0, 1e29)],
            vec![(0.0, 1e-300), (1.0, 1e-301)],
            vec![(f64::NAN, 1.0), (1e20, 2.0)],
            vec![(0.0, 1e-30), (1.0, 1e29)],
            (0..100_000).map(|i| (i as f64, (i % 7) as f64)).collect(),
        ];
        for points in awkward {
            for (log_y, smoothing) in [(false, 0.0), (true, 0.0), (false, 0.9), (true, 0.99), (false, 1.0)] {
                let svg = Chart { log_y, smoothing, ..chart(&points) }.to_svg();
                assert!(svg.len() < 200_000 && !svg.contains("NaN"), "{}", points.len());
            }
        }
    }

    #[test]
    fn a_gap_is_a_gap_and_a_lone_point_a_dot() {
        let ys = [1.0, 2.0, f64::NAN, 2.0, 1.0, f64::NAN, 1.0];
        let points: Vec<(f64, f64)> = ys.iter().enumerate().map(|(x, y)| (x as f64, *y)).collect();
        let svg = chart(&points).to_svg();
        let lines = svg.split("<polyline").skip(1).filter(|line| line.split('>').next().unwrap().contains("#3B82F6"));
        assert_eq!((lines.count(), svg.matches("<circle").count()), (2, 1));
    }

    #[test]
    fn thinning_keeps_the_extremes() {
        let mut points: Vec<(f64, f64)> = (0..10_000).map(|i| (i as f64, 0.0)).collect();
        points[5000].1 = 9.0;
        points[7001].1 = -9.0;
        let thinned = thin(points);
        assert!(thinned.len() <= MAX_POINTS && thinned.contains(&(5000.0, 9.0)) && thinned.contains(&(7001.0, -9.0)));
        assert!(thinned.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    }

    #[test]
    fn the_running_mean_neither_lags_nor_is_pulled_by_its_ends() {
        let slope: Vec<(f64, f64)> = (0..101).map(|i| (i as f64, 3.0 * i as f64)).collect();
        let mean = running_mean(&slope, 0.02);
        assert!((mean[50].1 - 150.0).abs() < 1e-9);
        assert!(
            running_mean(&[(0.0, 8.0), (1.0, f64::NAN), (2.0, 8.0)], 0.5).iter().all(|(_, y)| *y == 8.0 || y.is_nan())
        );
        // Alternating values are smoothed to about their mean.
        let noise: Vec<(f64, f64)> = (0..1000).map(|i| (i as f64, f64::from(i % 2))).collect();
        assert!(running_mean(&noise, 0.02)[100..900].iter().all(|(_, y)| (y - 0.5).abs() < 0.05));
        assert_eq!(running_mean(&noise, 0.0), noise);
    }

    #[test]
    fn an_axis_can_start_at_zero() {
        let zero = |from_zero| {
            texts(&Chart { from_zero, ..chart(&[(5.0, 900.0), (6.0, 1000.0)]) }.to_svg()).contains(&"0".to_string())
        };
        assert!(zero(true) && !zero(false));
    }
}
