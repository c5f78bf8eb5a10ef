use std::fmt::{self, Write as _};
use std::io;

use unicode_width::UnicodeWidthStr as _;

use crate::printable;

/// Columns that a table may take where standard output is no terminal.
const COLUMNS: usize = 100;

/// The fewest columns that a table is fitted to.
const FEWEST_COLUMNS: usize = 40;

/// Columns between two cells, and before a line that continues a row.
const GAP: usize = 2;

/// A table of text without lines. A row that is wider than the terminal goes on in further, indented lines, as does the
/// heading; a cell is broken at spaces only.
#[derive(Debug, Default)]
pub struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
    is_of_pairs: bool,
}

impl Table {
    /// A table with these headings.
    #[must_use]
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self {
            headings: headings.map(str::to_owned).to_vec(),
            ..Self::default()
        }
    }

    /// A list of names and values, without headings.
    #[must_use]
    pub fn of_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let mut table = Self {
            is_of_pairs: true,
            ..Self::default()
        };
        for (name, value) in pairs {
            table.row([format!("{name}:"), value]);
        }
        table
    }

    /// Adds a row. A line feed in a cell, which would break the row, is shown as an escape.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        let cells = cells.map(|cell| printable(&cell).replace('\n', "\\n"));
        self.rows.push(cells.to_vec());
    }

    /// The table in at most `columns` columns, unless a word is longer.
    fn fitted(&self, columns: usize) -> String {
        let headings = (!self.headings.is_empty()).then_some(&self.headings);
        let rows: Vec<&Vec<String>> = headings.into_iter().chain(&self.rows).collect();
        let count = rows.iter().map(|row| row.len()).max().unwrap_or_default();
        let widths: Vec<usize> = (0..count)
            .map(|column| {
                let cells = rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| cell.width()).max().unwrap_or_default()
            })
            .collect();
        let lines = match self.is_of_pairs {
            true => broken(&widths, usize::MAX),
            false => broken(&widths, columns),
        };
        let mut text = String::new();
        for row in rows {
            for (number, line) in lines.iter().enumerate() {
                let indent = if number == 0 { 0 } else { GAP };
                write_line(
                    &mut text,
                    &row[line.clone()],
                    &widths[line.clone()],
                    indent,
                    columns,
                );
            }
        }
        text
    }
}

/// Which cells stand in which line of a row: as many in each as there is room for.
fn broken(widths: &[usize], columns: usize) -> Vec<std::ops::Range<usize>> {
    let mut lines = Vec::new();
    let (mut start, mut end) = (0, 0);
    for (column, width) in widths.iter().enumerate() {
        if column > start && end + width > columns {
            lines.push(start..column);
            (start, end) = (column, GAP);
        }
        end += width + GAP;
    }
    lines.push(start..widths.len());
    lines
}

/// One line of a row. The last cell takes further lines below itself if there is no room for it.
fn write_line(
    text: &mut String,
    cells: &[String],
    widths: &[usize],
    indent: usize,
    columns: usize,
) {
    let Some((last, others)) = cells.split_last() else {
        return;
    };
    let mut line = " ".repeat(indent);
    let mut start = indent;
    for (cell, width) in others.iter().zip(widths) {
        let padding = " ".repeat(width + GAP - cell.width());
        let _ = write!(line, "{cell}{padding}");
        start += width + GAP;
    }
    let room = columns.saturating_sub(start).max(1);
    let mut words = last.split(' ').peekable();
    let mut used = 0;
    while let Some(word) = words.next() {
        line.push_str(word);
        used += word.width();
        match words.peek() {
            Some(next) if used + 1 + next.width() > room => {
                text.push_str(line.trim_end());
                text.push('\n');
                line = " ".repeat(start);
                used = 0;
            }
            Some(_) => {
                line.push(' ');
                used += 1;
            }
            None => {}
        }
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terminal = terminal_size::terminal_size_of(io::stdout());
        let columns = terminal.map_or(COLUMNS, |(width, _)| usize::from(width.0));
        formatter.write_str(&self.fitted(columns.max(FEWEST_COLUMNS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["NAME", "SUBJECT", "REASON"]);
        table.row(["ann", "CN=a\nb", "a reason in many words"].map(str::to_owned));
        table.row(["bartholomew", "CN=b", "none"].map(str::to_owned));
        table
    }

    #[test]
    fn columns_line_up_and_rows_stay_whole() {
        let shown = "\
NAME         SUBJECT  REASON
ann          CN=a\\nb  a reason in many words
bartholomew  CN=b     none
";
        assert_eq!(table().fitted(100), shown);
        let pairs = Table::of_pairs([("name", "ann".to_owned()), ("x", "y".to_owned())]);
        assert_eq!(pairs.fitted(100), "name:  ann\nx:     y\n");
        assert_eq!(Table::of_pairs([]).fitted(100), "");
    }

    #[test]
    fn a_row_that_is_too_wide_goes_on_below() {
        let shown = "\
NAME         SUBJECT
  REASON
ann          CN=a\\nb
  a reason in many words
bartholomew  CN=b
  none
";
        assert_eq!(table().fitted(40), shown);
        let narrow = table().fitted(20);
        assert!(
            narrow.contains("\n  a reason in many\n  words\n"),
            "{narrow}"
        );
        assert!(narrow.lines().all(|line| line.len() <= 20), "{narrow}");
    }

    #[test]
    fn a_long_word_is_never_broken_and_a_long_value_hangs() {
        let digest = "0".repeat(64);
        let mut table = Table::new(["KIND", "DIGEST"]);
        table.row(["signing".to_owned(), digest.clone()]);
        assert!(table.fitted(40).contains(&digest));
        let pairs = Table::of_pairs([("reason", "one two three".to_owned())]);
        assert_eq!(pairs.fitted(16), "reason:  one two\n         three\n");
    }

    #[test]
    fn wide_letters_count_as_wide() {
        let mut table = Table::new(["NAME", "X"]);
        table.row(["\u{6f22}\u{5b57}".to_owned(), "y".to_owned()]);
        assert_eq!(table.fitted(100), "NAME  X\n\u{6f22}\u{5b57}  y\n");
    }
}
