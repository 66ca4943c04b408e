//! Roofline plots (Williams et al. 2009): the work per byte of each result and its speed, under what the
//! machine can do at most.

use super::axis::Axis;
use super::curves::{FONT_FACTOR, GRID, INK, LETTERS, PALETTE};
use super::text::{printable, short};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Width of the plot and height of the whole in their own units, if the list of results is not longer.
const PLOT: (u32, u32) = (1300, 900);

/// Width of the list of results.
const LIST_WIDTH: u32 = 940;

/// Height of a line of the list.
const LINE: i32 = 30;

/// Height of the title.
const TITLE: u32 = 70;

/// Font size of the list and of the labels in the plot.
const SMALL: f64 = 20.0;

/// Characters of a name that fit into the list.
const MAX_NAME: usize = 60;

/// A bandwidth that limits the speed of what does little work per byte.
#[derive(Clone, Debug)]
pub struct Slope {
    /// Where the bytes come from, such as `memory`.
    pub name: String,
    /// GB/s.
    pub gbs: f64,
}

/// One result.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Its name in the list.
    pub name: String,
    /// Floating-point operations per byte that has to be moved.
    pub flops_per_byte: f64,
    /// GFLOP/s.
    pub gflops: f64,
}

/// A roofline plot.
#[derive(Clone, Debug)]
pub struct Roofline {
    /// The title, which names the machine.
    pub title: String,
    /// The peak of arithmetic in GFLOP/s.
    pub peak_gflops: f64,
    /// The bandwidths.
    pub slopes: Vec<Slope>,
    /// The results. Those without arithmetic or without bytes have no place on logarithmic axes: they are
    /// only listed.
    pub marks: Vec<Mark>,
}

impl Mark {
    fn has_place(&self) -> bool {
        [self.flops_per_byte, self.gflops].into_iter().all(|v| v.is_finite() && v > 0.0)
    }

    /// Its place in decimal logarithms.
    fn place(&self) -> (f64, f64) {
        (self.flops_per_byte.log10(), self.gflops.log10())
    }
}

impl Roofline {
    /// Draws the plot as the text of an SVG file.
    pub fn to_svg(&self) -> String {
        let height = PLOT.1.max(TITLE + (self.marks.len() as i32 * LINE) as u32 + 40);
        let mut svg = String::new();
        self.draw(&mut svg, (PLOT.0 + LIST_WIDTH, height)).expect("drawing into memory does not fail");
        svg
    }

    fn draw(&self, svg: &mut String, size: (u32, u32)) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
        let root = SVGBackend::with_string(svg, size).into_drawing_area();
        // A file is opened by viewers of any background.
        root.fill(&WHITE)?;
        let (title, below) = root.split_vertically(TITLE as i32);
        title.draw(&Text::new(printable(&self.title), (40, 24), font(LETTERS)))?;
        let (plot, list) = below.split_horizontally(PLOT.0 as i32);
        let (plot, _) = plot.split_vertically((PLOT.1 - TITLE) as i32);
        self.draw_plot(&plot)?;
        for (index, mark) in self.marks.iter().enumerate() {
            let text = format!("{}  {}", index + 1, self.listed(mark));
            list.draw(&Text::new(text, (10, 10 + index as i32 * LINE), font(SMALL)))?;
        }
        root.present()
    }

    /// The line of a result in the list: its name and its share of the roof above it.
    fn listed(&self, mark: &Mark) -> String {
        let name = printable(&mark.name);
        let name = match name.chars().count() > MAX_NAME {
            true => name.chars().take(MAX_NAME - 3).collect::<String>() + "...",
            false => name,
        };
        if !mark.has_place() {
            return format!("{name}: no arithmetic");
        }
        let share = 100.0 * mark.gflops / self.roof(mark.flops_per_byte);
        format!("{name}: {} GFLOP/s, {share:.0} %", short(mark.gflops))
    }

    /// The most GFLOP/s at this work per byte, with bytes from the first of the slopes.
    fn roof(&self, flops_per_byte: f64) -> f64 {
        self.slopes.first().map_or(self.peak_gflops, |slope| (flops_per_byte * slope.gbs).min(self.peak_gflops))
    }

    fn draw_plot(&self, plot: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
        let places: Vec<(f64, f64)> = self.marks.iter().filter(|m| m.has_place()).map(Mark::place).collect();
        let peak = self.peak_gflops.log10();
        // Every ridge is inside, with some of the slope on its left and of the peak on its right.
        let ridges: Vec<f64> = self.slopes.iter().map(|slope| peak - slope.gbs.log10()).collect();
        let inside = ridges.iter().flat_map(|ridge| [ridge - 1.0, ridge + 1.0]);
        let x_axis = Axis::over(places.iter().map(|(x, _)| *x).chain(inside), true, 6);
        let left = x_axis.low;
        let lowest = self.slopes.iter().map(|slope| left + slope.gbs.log10());
        let y_axis = Axis::over(places.iter().map(|(_, y)| *y).chain(lowest).chain([peak + 0.1]), true, 6);
        let mut chart = ChartBuilder::on(plot)
            .margin_right(60)
            .margin_top(10)
            .x_label_area_size(84)
            .y_label_area_size(130)
            .build_cartesian_2d(x_axis.clone(), y_axis.clone())?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.stroke_width(2))
            .axis_style(INK.stroke_width(2))
            .label_style(font(LETTERS))
            .axis_desc_style(font(LETTERS))
            .x_desc("FLOPs per byte")
            .y_desc("GFLOP/s")
            .x_label_formatter(&|x| x_axis.label(*x))
            .y_label_formatter(&|y| y_axis.label(*y))
            .draw()?;
        for ((slope, ridge), colour) in self.slopes.iter().zip(&ridges).zip(PALETTE.iter().skip(1)) {
            let start = (left, left + slope.gbs.log10());
            chart.draw_series(LineSeries::new([start, (*ridge, peak)], colour.stroke_width(4)))?;
            // In the middle of its visible part, to the left of the line.
            let middle = ((start.0 + ridge) / 2.0, (start.1 + peak) / 2.0);
            let text = format!("{}, {} GB/s", slope.name, short(slope.gbs));
            let style = font(SMALL).color(colour).pos(Pos::new(HPos::Right, VPos::Bottom));
            chart.draw_series([EmptyElement::at(middle) + Text::new(text, (-8, -4), style)])?;
        }
        let first = ridges.iter().copied().fold(x_axis.high, f64::min);
        chart.draw_series(LineSeries::new([(first, peak), (x_axis.high, peak)], PALETTE[0].stroke_width(4)))?;
        let text = format!("peak, {} GFLOP/s", short(self.peak_gflops));
        let style = font(SMALL).color(&PALETTE[0]).pos(Pos::new(HPos::Right, VPos::Bottom));
        chart.draw_series([EmptyElement::at((x_axis.high, peak)) + Text::new(text, (-4, -8), style)])?;
        for (index, mark) in self.marks.iter().enumerate().filter(|(_, mark)| mark.has_place()) {
            let number = Text::new((index + 1).to_string(), (9, -22), font(SMALL));
            chart
                .draw_series([EmptyElement::at(mark.place()) + Circle::new((0, 0), 6, PALETTE[3].filled()) + number])?;
        }
        Ok(())
    }
}

/// Text of this size.
fn font(size: f64) -> TextStyle<'static> {
    TextStyle::from(("sans-serif", size * FONT_FACTOR).into_font()).color(&INK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(name: &str, flops_per_byte: f64, gflops: f64) -> Mark {
        Mark { name: name.to_string(), flops_per_byte, gflops }
    }

    fn roofline(marks: Vec<Mark>) -> Roofline {
        let slope = |name: &str, gbs| Slope { name: name.to_string(), gbs };
        let slopes = vec![slope("memory", 10.0), slope("L3", 50.0)];
        Roofline { title: "a <machine>".to_string(), peak_gflops: 200.0, slopes, marks }
    }

    /// The texts of a plot.
    fn texts(svg: &str) -> Vec<String> {
        svg.split("<text").skip(1).map(|part| part.split(['>', '<']).nth(1).unwrap().trim().to_string()).collect()
    }

    #[test]
    fn it_has_the_limits_and_a_numbered_mark_per_result() {
        let marks = vec![mark("conv", 40.0, 150.0), mark("add", 0.1, 0.5), mark("copy", 0.0, 0.0)];
        let svg = roofline(marks).to_svg();
        let texts = texts(&svg);
        for want in [
            "a &lt;machine&gt;",
            "peak, 200 GFLOP/s",
            "memory, 10 GB/s",
            "L3, 50 GB/s",
            "FLOPs per byte",
            "1  conv: 150 GFLOP/s, 75 %",
            // The roof at 0.1 FLOPs per byte from memory is 1 GFLOP/s.
            "2  add: 0.5 GFLOP/s, 50 %",
            "3  copy: no arithmetic",
            "1",
            "2",
        ] {
            assert!(texts.iter().any(|text| text == want), "{want} in {texts:?}");
        }
        assert_eq!((svg.matches("<circle").count(), texts.iter().filter(|text| *text == "3").count()), (2, 0));
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn a_faster_result_is_higher_and_one_with_more_work_per_byte_further_right() {
        let svg = roofline(vec![mark("a", 1.0, 5.0), mark("b", 10.0, 50.0)]).to_svg();
        let value = |circle: &str, key: &str| -> i32 {
            circle.split(&format!("{key}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
        };
        let at: Vec<_> = svg.split("<circle").skip(1).map(|c| (value(c, "cx"), value(c, "cy"))).collect();
        assert!(at[0].0 < at[1].0 && at[0].1 > at[1].1, "{at:?}");
    }

    #[test]
    fn nothing_in_it_makes_it_fail() {
        let many = (0..300).map(|i| mark(&"long name ".repeat(20), f64::from(i), 1.0)).collect();
        let awkward = vec![mark("", f64::NAN, 1.0), mark("\u{1}", 1e300, 1e-300), mark("x", f64::INFINITY, 3.0)];
        for marks in [vec![], many, awkward] {
            let svg = roofline(marks.clone()).to_svg();
            assert!(!svg.contains("NaN") && !svg.contains('\u{1}') && svg.len() < 1_000_000);
            let svg = Roofline { slopes: vec![], ..roofline(marks) }.to_svg();
            assert!(!svg.contains("NaN"));
        }
    }
}
