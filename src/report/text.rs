//! Tables and numbers as plain text.

/// Formats a table with two spaces between its columns. Text is aligned to the left, columns of numbers
/// to the right. `rows` may be shorter than `head`.
pub fn text_table(head: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |row: &'_ [String], column: usize| row.get(column).cloned().unwrap_or_default();
    let widths: Vec<usize> = (0..head.len())
        .map(|column| rows.iter().map(|row| cell(row, column).chars().count()).max().unwrap_or(0))
        .zip(head)
        .map(|(width, name)| width.max(name.chars().count()))
        .collect();
    let numeric: Vec<bool> = (0..head.len()).map(|column| is_numeric(rows, column)).collect();
    let mut text = String::new();
    let head: Vec<String> = head.iter().map(|name| name.to_string()).collect();
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    for row in [&head, &rule].into_iter().chain(rows) {
        let mut line = String::new();
        for (column, width) in widths.iter().enumerate() {
            let value = cell(row, column);
            let gap = if column == 0 { "" } else { "  " };
            line += &if numeric[column] { format!("{gap}{value:>width$}") } else { format!("{gap}{value:<width$}") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Whether a column has values, and all of them that are not empty start like a number.
pub(crate) fn is_numeric(rows: &[Vec<String>], column: usize) -> bool {
    let mut values = rows.iter().filter_map(|row| row.get(column)).filter(|value| !value.is_empty()).peekable();
    let number = |value: &String| {
        let value = value.trim_start_matches(['<', '=', '≤', ' ', '-', '+']);
        value.starts_with(|c: char| c.is_ascii_digit())
    };
    values.peek().is_some() && values.all(number)
}

/// Replaces control characters, which neither HTML nor SVG allows in any form.
pub(crate) fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' && c != '\t' { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().map(shown).collect()
}

/// Formats a number with about three significant digits: `98.8`, `1234`, `1e-9`.
pub fn short(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 {
        return "0".to_string();
    }
    if !value.is_finite() {
        return "not finite".to_string();
    }
    if !(1e-3..1e6).contains(&magnitude) {
        let text = format!("{value:.2e}");
        return text.split_once('e').map_or(text.clone(), |(digits, power)| format!("{}e{power}", trimmed(digits)));
    }
    let decimals = (2 - magnitude.log10().floor() as i32).max(0) as usize;
    trimmed(&format!("{value:.decimals$}")).to_string()
}

/// Removes trailing zeros after the decimal point.
fn trimmed(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_stand_to_the_right() {
        let rows = [vec!["PixelCNN".to_string(), "81.30".to_string()], vec!["conv VAE é".to_string()], vec![]];
        let text = text_table(&["model", "nats per image"], &rows);
        assert_eq!(
            text,
            "model       nats per image\n----------  --------------\nPixelCNN             81.30\nconv VAE é\n\n"
        );
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [0.0, 1.0, 0.12345, 98.7654, 1234.5, 1e9, 1e-9, -0.5, 10.0, 1200.0];
        let texts = ["0", "1", "0.123", "98.8", "1234", "1e9", "1e-9", "-0.5", "10", "1200"];
        for (number, text) in numbers.into_iter().zip(texts) {
            assert_eq!(short(number), text);
        }
    }
}
