//! The summary as one Markdown table per data set.

use super::Summary;
use super::tables::{Table, tables, whole};
use crate::report::text::is_numeric;

/// The table of each data set, with a sentence about the images above it and what the columns mean below.
pub(crate) fn to_markdown(summary: &Summary) -> String {
    let mut text = String::new();
    for set in &summary.sets {
        let Table { head, rows, .. } = whole(summary, set);
        text += &format!("{}\n\n", escaped(&set.title));
        let line = |cells: &mut dyn Iterator<Item = String>| format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
        text += &line(&mut head.iter().map(|cell| escaped(cell)));
        let rule = (0..head.len()).map(|column| if is_numeric(&rows, column) { "---:" } else { "---" });
        text += &line(&mut rule.map(String::from));
        for row in &rows {
            text += &line(&mut row.iter().map(|cell| escaped(cell)));
        }
        for Table { note, .. } in tables(summary, set) {
            text += &format!("\n{}\n", escaped(&note));
        }
        text.push('\n');
    }
    text
}

/// A text that Markdown shows as it is, in one line.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '|' | '\\' | '`' | '*' | '_' | '<' | '>' | '[' | ']' | '#' => out.extend(['\\', character]),
            control if control.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::super::made_up::{run, summary};
    use super::*;
    use crate::likelihood::Estimate;

    #[test]
    fn every_row_has_the_columns_of_the_head_and_names_are_harmless() {
        let mut vae = run("vae-mnist", Kind::Variational, 0, &[(Estimate::Elbo, 97.0)]);
        vae.model = "a|b\n`c`".to_string();
        let text = to_markdown(&summary(vec![vae, run("gan-mnist", Kind::Adversarial, 0, &[])]));
        let table: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        // The head, the rule, two groups and two anchors.
        assert_eq!(table.len(), 6, "{text}");
        let columns = |line: &str| line.replace("\\|", "").matches('|').count();
        assert!(table.iter().all(|line| columns(line) == columns(table[0])), "{text}");
        assert!(
            table[2].starts_with("| a\\|b \\`c\\` | \\<= 97.00 nats (bound, ELBO) | the only likelihood"),
            "{text}"
        );
        assert!(table[1].contains("---:") && text.contains("variance of the Laplacian"), "{text}");
    }
}
