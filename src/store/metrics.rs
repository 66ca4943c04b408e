//! The metrics of a run: `metrics.jsonl`, one JSON object per line with the step, the time, the speed and
//! every loss term.

use super::atomic::write_atomically;
use crate::error::{Error, Result};
use crate::files::{check_regular, read_regular};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// One line of `metrics.jsonl`:
/// `{"step":100,"seconds":2.5,"images_per_s":2560.0,"learning_rate":0.001,"loss":98.1,"kl":24.0}`.
///
/// A number that is not finite is written as `null`, which keeps the line valid JSON, and reads back as NaN.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Training steps done.
    pub step: u64,
    /// Seconds of training since the run began, including the time before it was resumed.
    pub seconds: f64,
    /// Training images per second since the row before.
    pub images_per_s: f64,
    /// The learning rate of the step. Lines of earlier versions have none.
    pub learning_rate: Option<f32>,
    /// Every loss term by name, in the order of the model (the total first).
    pub losses: Vec<(String, f64)>,
}

impl Row {
    /// The loss term of this name.
    pub fn loss(&self, name: &str) -> Option<f64> {
        self.losses.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("step", &self.step)?;
        map.serialize_entry("seconds", &self.seconds)?;
        map.serialize_entry("images_per_s", &self.images_per_s)?;
        if let Some(rate) = self.learning_rate {
            map.serialize_entry("learning_rate", &rate)?;
        }
        for (name, value) in &self.losses {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RowVisitor)
    }
}

/// Reads a row without losing the order of its loss terms.
struct RowVisitor;

impl<'de> Visitor<'de> for RowVisitor {
    type Value = Row;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an object with step, seconds, images_per_s and loss terms")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
        let mut step = None;
        let mut row =
            Row { step: 0, seconds: f64::NAN, images_per_s: f64::NAN, learning_rate: None, losses: Vec::new() };
        while let Some(key) = map.next_key::<String>()? {
            if key == "step" {
                step = Some(map.next_value()?);
                continue;
            }
            let value = map.next_value::<Option<f64>>()?.unwrap_or(f64::NAN);
            match key.as_str() {
                "seconds" => row.seconds = value,
                "images_per_s" => row.images_per_s = value,
                "learning_rate" => row.learning_rate = Some(value as f32),
                _ => row.losses.push((key, value)),
            }
        }
        row.step = step.ok_or_else(|| de::Error::missing_field("step"))?;
        Ok(row)
    }
}

/// Appends rows to `metrics.jsonl`. Each row is written at once, so a kill leaves at most one torn line.
#[derive(Debug)]
pub struct MetricsWriter {
    file: File,
    path: PathBuf,
}

impl MetricsWriter {
    /// Starts a new file at `path` and replaces an existing one.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        write_atomically(path, |_| Ok(()))?;
        Self::append(path)
    }

    /// Continues the file at `path` after step `step`. Rows of later steps and a torn last line are removed,
    /// so that the curve has every step once. The other lines keep their bytes. A missing file is started.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read or written, or has a line that is no row.
    pub(crate) fn resume(path: &Path, step: u64) -> Result<Self> {
        let bytes = read_bytes(path)?;
        let kept: Vec<&[u8]> =
            rows_of(path, &bytes)?.into_iter().filter(|(row, _)| row.step <= step).map(|(_, line)| line).collect();
        write_atomically(path, |out| {
            for line in kept {
                // Numbers that are read and written again could differ in their last digit.
                out.write_all(line)?;
                out.write_all(b"\n")?;
            }
            Ok(())
        })?;
        Self::append(path)
    }

    /// Writes all rows to the disk, so that a power loss cannot remove them.
    ///
    /// # Errors
    /// [`Error::File`] if they cannot be written.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|error| Error::io(&self.path, "write", error))
    }

    fn append(path: &Path) -> Result<Self> {
        check_regular(path)?;
        let file = OpenOptions::new().append(true).open(path).map_err(|error| Error::io(path, "write", error))?;
        Ok(MetricsWriter { file, path: path.to_path_buf() })
    }

    /// Appends one row.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn write(&mut self, row: &Row) -> Result<()> {
        let line = to_line(row) + "\n";
        self.file.write_all(line.as_bytes()).map_err(|error| Error::io(&self.path, "write", error))
    }
}

fn to_line(row: &Row) -> String {
    serde_json::to_string(row).expect("a row of strings and numbers is valid JSON")
}

/// The rows of `metrics.jsonl`; none if the file is missing. A torn last line, which a kill may leave, is
/// ignored.
///
/// # Errors
/// [`Error::File`] naming the first line that is no row.
pub(super) fn read_metrics(path: &Path) -> Result<Vec<Row>> {
    let bytes = read_bytes(path)?;
    Ok(rows_of(path, &bytes)?.into_iter().map(|(row, _)| row).collect())
}

fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    // If it cannot be said whether the file exists, reading it gives the reason.
    if path.try_exists().unwrap_or(true) { read_regular(path, u64::MAX) } else { Ok(Vec::new()) }
}

/// The rows in the bytes of a file, each with its line.
fn rows_of<'a>(path: &Path, bytes: &'a [u8]) -> Result<Vec<(Row, &'a [u8])>> {
    let mut rows = Vec::new();
    let mut lines = bytes.split(|byte| *byte == b'\n').enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(line) {
            Ok(row) => rows.push((row, line)),
            // Only the text after the last newline can be torn.
            Err(_) if lines.peek().is_none() => {}
            Err(error) => {
                let reason = format!("its line {} is not a row of metrics ({error})", index + 1);
                return Err(Error::file(path, reason, "remove that line and try again").because(error));
            }
        }
    }
    Ok(rows)
}

/// The body of the fuzz target: no bytes make the parser panic, and the rows that it accepts survive a round
/// trip. The error is the message of a refusal.
pub fn fuzz_metrics(bytes: &[u8]) -> Result<(), String> {
    let lines = |rows: Vec<(Row, &[u8])>| rows.iter().map(|(row, _)| to_line(row) + "\n").collect::<String>();
    let written = lines(rows_of(Path::new("file"), bytes).map_err(|error| error.to_string())?);
    let again = rows_of(Path::new("file"), written.as_bytes()).expect("what was written can be read");
    assert_eq!(lines(again), written);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(step: u64, losses: &[(&str, f64)]) -> Row {
        let losses = losses.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        Row { step, seconds: step as f64 * 0.5, images_per_s: 1234.5, learning_rate: Some(0.001), losses }
    }

    #[test]
    fn a_row_is_flat_json_and_keeps_the_order_of_its_terms() {
        let row = row(100, &[("loss", 98.25), ("reconstruction", 70.0), ("kl", 28.25)]);
        let line = to_line(&row);
        assert_eq!(
            line,
            r#"{"step":100,"seconds":50.0,"images_per_s":1234.5,"learning_rate":0.001,"loss":98.25,"reconstruction":70.0,"kl":28.25}"#
        );
        assert_eq!(serde_json::from_str::<Row>(&line).unwrap(), row);
        // A line of an earlier version.
        let old: Row = serde_json::from_str(&line.replace("\"learning_rate\":0.001,", "")).unwrap();
        assert_eq!(old, Row { learning_rate: None, ..row });
    }

    #[test]
    fn what_is_not_finite_stays_valid_json_and_reads_back_as_nan() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let line = to_line(&row(1, &[("loss", value)]));
            let json: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert!(json["loss"].is_null());
            assert!(serde_json::from_str::<Row>(&line).unwrap().loss("loss").unwrap().is_nan());
        }
    }

    #[test]
    fn resuming_cuts_later_rows_and_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut writer = MetricsWriter::create(&path).unwrap();
        for step in [10, 20, 30] {
            writer.write(&row(step, &[("loss", step as f64)])).unwrap();
        }
        let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(b"{\"step\":40,\"sec").unwrap();
        assert_eq!(read_metrics(&path).unwrap().len(), 3);

        let mut writer = MetricsWriter::resume(&path, 20).unwrap();
        writer.write(&row(30, &[("loss", 31.0)])).unwrap();
        let rows = read_metrics(&path).unwrap();
        assert_eq!(rows.iter().map(|row| row.step).collect::<Vec<_>>(), [10, 20, 30]);
        assert_eq!(rows[2].loss("loss"), Some(31.0));
    }

    #[test]
    fn a_last_line_without_newline_is_kept_and_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, to_line(&row(10, &[]))).unwrap();
        MetricsWriter::resume(&path, 10).unwrap().write(&row(20, &[])).unwrap();
        assert_eq!(read_metrics(&path).unwrap().len(), 2);
    }

    #[test]
    fn resuming_without_a_file_starts_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        MetricsWriter::resume(&path, 10).unwrap().write(&row(20, &[])).unwrap();
        assert_eq!(read_metrics(&path).unwrap().len(), 1);
    }

    #[test]
    fn a_bad_line_in_the_middle_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        for bad in ["nonsense", "{\"seconds\":1.0}", "{\"step\":1,\"loss\":\"x\"}", "{\"step\":-1}", "\u{feff}[]"] {
            std::fs::write(&path, format!("{}\n{bad}\n", to_line(&row(10, &[])))).unwrap();
            let message = read_metrics(&path).unwrap_err().to_string();
            assert!(message.contains("its line 2 is not a row"), "{message}");
        }
        std::fs::write(&path, [b'{', 0xff, b'}', b'\n']).unwrap();
        assert!(read_metrics(&path).unwrap_err().to_string().contains("line 1"));
    }
}
