//! One self-contained HTML page. Style sheet, curves and pictures are embedded; the page loads nothing
//! and runs no script.
//!
//! A [`Report`] has [`Section`]s, which have [`Element`]s. All texts are escaped when the page is written.

use crate::likelihood::Likelihood;
use crate::report::compare::Ranking;
use crate::report::curves::Chart;
use crate::report::text::{is_numeric, printable, short};

/// The style sheet of the page, with a light and a dark theme.
const STYLE: &str = include_str!("style.css");

/// The alphabet of base64, RFC 4648.
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A page.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Its title.
    pub title: String,
    /// A sentence below the title.
    pub subtitle: String,
    /// The most important facts: name and value.
    pub summary: Vec<(String, String)>,
    /// The sections below the summary.
    pub sections: Vec<Section>,
}

/// A part of the page with a heading.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// Its heading.
    pub heading: String,
    /// Its contents.
    pub elements: Vec<Element>,
}

/// An element of a section.
#[derive(Clone, Debug)]
pub enum Element {
    /// A smaller heading.
    Heading(String),
    /// A paragraph.
    Text(String),
    /// Names and values, shown as cards.
    Facts(Vec<(String, String)>),
    /// A line chart.
    Chart(Chart),
    /// Pictures with captions.
    Pictures(Vec<Picture>),
    /// A table. Columns of numbers are aligned to the right.
    Table {
        /// Names of the columns.
        head: Vec<String>,
        /// The cells, row by row.
        rows: Vec<Vec<String>>,
    },
    /// Preformatted text, folded by default.
    Code {
        /// The line that is shown while it is folded.
        summary: String,
        /// The text.
        text: String,
    },
    /// Time per operation, largest first.
    OpTimes(Vec<OpTime>),
    /// Likelihoods, with one table per protocol.
    Likelihoods(Vec<Ranking>),
}

/// A picture with its caption.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The text below the picture.
    pub caption: String,
    /// The bytes of a PNG file.
    pub png: Vec<u8>,
    /// Whether it is shown at twice the width of the others.
    pub large: bool,
}

/// Time spent in one kind of operation.
#[derive(Clone, Debug, PartialEq)]
pub struct OpTime {
    /// Its name.
    pub name: String,
    /// How often it ran.
    pub calls: u64,
    /// Total milliseconds of all calls.
    pub ms: f64,
    /// Total floating-point operations of all calls; 0 if there are none.
    pub flops: f64,
}

impl Report {
    /// A page with a title and a sentence below it.
    pub fn new(title: impl Into<String>, subtitle: impl Into<String>) -> Self {
        Report { title: title.into(), subtitle: subtitle.into(), ..Report::default() }
    }

    /// Formats the page as HTML. All texts are escaped.
    pub fn to_html(&self) -> String {
        let mut html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
             <header>\n<h1>{title}</h1>\n<p>{subtitle}</p>\n",
            title = escape(&self.title),
            subtitle = escape(&self.subtitle),
        );
        if self.sections.len() > 2 {
            html += "<nav>\n";
            for (index, section) in self.sections.iter().enumerate() {
                html += &format!("<a href=\"#s{index}\">{}</a>\n", escape(&section.heading));
            }
            html += "</nav>\n";
        }
        write_facts(&mut html, &self.summary);
        html += "</header>\n";
        for (index, section) in self.sections.iter().enumerate() {
            html += &format!("<section id=\"s{index}\">\n<h2>{}</h2>\n", escape(&section.heading));
            for block in &section.elements {
                block.write(&mut html);
            }
            html += "</section>\n";
        }
        let version = env!("CARGO_PKG_VERSION");
        html += &format!("<footer>Made by pixtape {version}.</footer>\n</main>\n</body>\n</html>\n");
        html
    }
}

impl Element {
    fn write(&self, html: &mut String) {
        match self {
            Element::Heading(text) => *html += &format!("<h3>{}</h3>\n", escape(text)),
            Element::Text(text) => *html += &format!("<p>{}</p>\n", escape(text)),
            Element::Facts(facts) => write_facts(html, facts),
            Element::Chart(chart) => {
                let (title, svg) = (escape(&chart.title), chart.to_svg());
                *html += &format!("<figure class=\"chart\">\n<figcaption>{title}</figcaption>\n{svg}</figure>\n");
            }
            Element::Pictures(pictures) => {
                *html += "<div class=\"pictures\">\n";
                for picture in pictures {
                    let class = if picture.large { " class=\"large\"" } else { "" };
                    let (data, caption) = (base64(&picture.png), escape(&picture.caption));
                    *html += &format!("<figure{class}><img alt=\"{caption}\" src=\"data:image/png;base64,{data}\">");
                    *html += &format!("<figcaption>{caption}</figcaption></figure>\n");
                }
                *html += "</div>\n";
            }
            Element::Table { head, rows } => {
                let cells = |row: &Vec<String>| row.iter().map(|cell| escape(cell)).collect();
                let numeric: Vec<bool> = (0..head.len()).map(|column| is_numeric(rows, column)).collect();
                let rows: Vec<Row> = rows.iter().map(|row| Row { cells: cells(row), ours: false }).collect();
                write_table(html, head, &numeric, &rows);
            }
            Element::Code { summary, text } => {
                let (summary, text) = (escape(summary), escape(text));
                *html += &format!("<details>\n<summary>{summary}</summary>\n<pre>{text}</pre>\n</details>\n");
            }
            Element::OpTimes(ops) => write_op_times(html, ops),
            Element::Likelihoods(rankings) => write_likelihoods(html, rankings),
        }
    }
}

/// A row of a table. Its cells are HTML already.
struct Row {
    cells: Vec<String>,
    ours: bool,
}

fn write_table(html: &mut String, head: &[String], numeric: &[bool], rows: &[Row]) {
    let class = |column: usize| if numeric.get(column) == Some(&true) { " class=\"number\"" } else { "" };
    *html += "<div class=\"scroll\"><table>\n<thead><tr>";
    for (column, name) in head.iter().enumerate() {
        *html += &format!("<th{}>{}</th>", class(column), escape(name));
    }
    *html += "</tr></thead>\n<tbody>\n";
    for row in rows {
        *html += if row.ours { "<tr class=\"ours\">" } else { "<tr>" };
        for (column, cell) in row.cells.iter().enumerate() {
            *html += &format!("<td{}>{cell}</td>", class(column));
        }
        *html += "</tr>\n";
    }
    *html += "</tbody></table></div>\n";
}

fn write_facts(html: &mut String, facts: &[(String, String)]) {
    if facts.is_empty() {
        return;
    }
    *html += "<dl class=\"facts\">\n";
    for (name, value) in facts {
        *html += &format!("<div><dt>{}</dt><dd>{}</dd></div>\n", escape(name), escape(value));
    }
    *html += "</dl>\n";
}

fn write_op_times(html: &mut String, ops: &[OpTime]) {
    let mut ops: Vec<&OpTime> = ops.iter().collect();
    ops.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    let total: f64 = ops.iter().map(|op| op.ms).sum();
    let head = ["operation", "calls", "ms", "share", "GFLOP/s"].map(String::from);
    let mut rows = Vec::new();
    for op in ops {
        let share = if total > 0.0 { 100.0 * op.ms / total } else { 0.0 };
        let bar = format!("<span class=\"bar\"><i style=\"width:{share:.1}%\"></i></span>{share:.1} %");
        let speed = if op.flops > 0.0 && op.ms > 0.0 { short(op.flops / op.ms / 1e6) } else { "-".to_string() };
        rows.push(Row {
            cells: vec![escape(&op.name), op.calls.to_string(), format!("{:.3}", op.ms), bar, speed],
            ours: false,
        });
    }
    let all = ["all", "", &format!("{total:.3}"), "", ""].map(String::from);
    rows.push(Row { cells: all.to_vec(), ours: false });
    write_table(html, &head, &[false, true, true, false, true], &rows);
}

fn write_likelihoods(html: &mut String, rankings: &[Ranking]) {
    for ranking in rankings {
        *html += &format!("<h3>{}</h3>\n", escape(&ranking.protocol.to_string()));
        let head = ["model", ranking.protocol.unit(), "source"].map(String::from);
        let row = |row: &Likelihood| Row {
            cells: vec![escape(&row.model), escape(&row.value().replace("<=", "≤")), escape(&row.origin())],
            ours: row.is_ours(),
        };
        write_table(html, &head, &[false, true, false], &ranking.rows.iter().map(row).collect::<Vec<_>>());
    }
    if rankings.len() > 1 {
        *html += "<p>Numbers in different tables were measured differently and cannot be ranked.</p>\n";
    }
}

/// Escapes text for use in HTML, including quoted attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in printable(text).chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            other => escaped.push(other),
        }
    }
    escaped
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let word = part.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        for index in 0..4 {
            let digit = BASE64[(word >> (18 - 6 * index)) as usize & 63];
            text.push(if index <= part.len() { digit as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::likelihood::{Measurement, Source};
    use crate::report::compare::{beside_published, published};
    use crate::report::curves::Series;

    const EVIL: &str = "<script>alert('x')</script> & \"quoted\"\u{0}\u{1b}";

    fn measurement(run: &str) -> Measurement {
        let [weights, program, device] = ["raw", "0.1.0", "cpu"].map(String::from);
        Measurement { run: run.into(), weights, program, device }
    }

    fn evil_report() -> Report {
        let series = vec![Series { name: EVIL.into(), points: vec![(0.0, 1.0), (1.0, 2.0)] }];
        let chart =
            Chart { title: EVIL.into(), x_label: EVIL.into(), y_label: EVIL.into(), series, ..Chart::default() };
        let mut likelihood = published()[0].clone();
        likelihood = Likelihood { model: EVIL.into(), source: Source::Run(measurement(EVIL)), ..likelihood };
        let text = || EVIL.to_string();
        let elements = vec![
            Element::Heading(text()),
            Element::Text(text()),
            Element::Facts(vec![(text(), text())]),
            Element::Chart(chart),
            Element::Pictures(vec![Picture { caption: text(), png: b"PNG".to_vec(), large: true }]),
            Element::Table { head: vec![text()], rows: vec![vec![text()]] },
            Element::Code { summary: text(), text: text() },
            Element::OpTimes(vec![OpTime { name: text(), calls: 1, ms: 2.0, flops: 3e9 }]),
            Element::Likelihoods(beside_published(&[likelihood])),
        ];
        let sections = vec![Section { heading: text(), elements }; 3];
        Report { summary: vec![(text(), text())], sections, ..Report::new(EVIL, EVIL) }
    }

    #[test]
    fn every_text_is_escaped() {
        let html = evil_report().to_html();
        assert!(!html.contains("<script") && !html.contains("\"quoted\""));
        assert!(html.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;quoted&quot;"));
        assert!(!html.contains(['\0', '\u{1b}']));
    }

    #[test]
    fn nothing_is_fetched() {
        let html = evil_report().to_html().replace("http://www.w3.org/2000/svg", "");
        for part in ["http:", "https:", "url(", "@import", "<link", "src=\"/", "srcset"] {
            assert!(!html.contains(part), "{part}");
        }
    }

    #[test]
    fn every_element_is_closed() {
        let html = evil_report().to_html();
        let mut open: Vec<&str> = Vec::new();
        for tag in html.split('<').skip(1) {
            let name = tag.split([' ', '>', '\n']).next().unwrap();
            if let Some(name) = name.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !["!doctype", "meta", "img"].contains(&name) && !tag.split('>').next().unwrap().ends_with('/') {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn operations_come_by_time_with_their_share_and_speed() {
        let op = |name: &str, ms, flops| OpTime { name: name.into(), calls: 2, ms, flops };
        let mut html = String::new();
        Element::OpTimes(vec![op("relu", 1.0, 0.0), op("conv", 3.0, 6e9)]).write(&mut html);
        assert!(html.find("conv").unwrap() < html.find("relu").unwrap());
        for part in ["75.0 %", "25.0 %", "2000", "<td class=\"number\">-</td>", "4.000"] {
            assert!(html.contains(part), "{part} in {html}");
        }
        Element::OpTimes(vec![]).write(&mut html);
    }

    #[test]
    fn our_likelihood_stands_out() {
        let ours = Likelihood { source: Source::Run(measurement("runs/a")), ..published()[0].clone() };
        let mut html = String::new();
        Element::Likelihoods(beside_published(&[ours])).write(&mut html);
        assert_eq!(html.matches("<tr class=\"ours\">").count(), 1);
        assert!(html.contains("static binarisation, exact") && html.contains("cannot be ranked"));
        assert!(html.contains("≤ 87.41"));
    }

    #[test]
    fn base64_gives_the_known_answers() {
        let answers = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (length, answer) in answers.iter().enumerate() {
            assert_eq!(base64(&b"foobar"[..length]), *answer);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }
}
