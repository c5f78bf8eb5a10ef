use std::fmt;

use comfy_table::presets::NOTHING;

use crate::printable;

/// A table of text without lines, one row to a line, so that `grep` and `cut` work on it.
#[derive(Debug)]
pub struct Table(comfy_table::Table);

impl Table {
    /// A table with these headings.
    #[must_use]
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING);
        table.set_header(headings);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Self(table)
    }

    /// A list of names and values, without headings.
    #[must_use]
    pub fn of_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let mut table = Self(comfy_table::Table::new());
        table.0.load_style(NOTHING);
        for (name, value) in pairs {
            table.row([format!("{name}:"), value]);
        }
        for column in table.0.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table
    }

    /// Adds a row. A line feed in a cell, which would break the row, is shown as an escape.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        let cells = cells.map(|cell| printable(&cell).replace('\n', "\\n"));
        self.0.add_row(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.header().is_none() && self.0.row_count() == 0 {
            return Ok(());
        }
        writeln!(formatter, "{}", self.0.trim_fmt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_rows_stay_whole() {
        let mut table = Table::new(["NAME", "SUBJECT"]);
        table.row(["ann".to_owned(), "CN=a\nb".to_owned()]);
        table.row(["bartholomew".to_owned(), "CN=b".to_owned()]);
        let shown = "NAME         SUBJECT\nann          CN=a\\nb\nbartholomew  CN=b\n";
        assert_eq!(table.to_string(), shown);
        let pairs = Table::of_pairs([("name", "ann".to_owned()), ("x", "y".to_owned())]);
        assert_eq!(pairs.to_string(), "name:  ann\nx:     y\n");
    }
}
