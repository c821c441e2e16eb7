//! Tables for people: fitted to the terminal when there is one, and as wide as their content when piped.

use std::io::IsTerminal as _;

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};

use super::output::printable;

/// Columns assumed for a terminal that does not say.
const COLUMNS: u16 = 100;

/// A table narrower than this would break every word.
const COLUMNS_MIN: u16 = 40;

/// Returns the columns of the terminal on stdout; `None` when stdout is no terminal.
pub(super) fn columns() -> Option<u16> {
    let stdout = std::io::stdout();
    stdout
        .is_terminal()
        .then(|| terminal_size::terminal_size_of(&stdout).map_or(COLUMNS, |(width, _)| width.0))
}

/// How a column behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    /// Wraps when the terminal is narrow.
    Text,
    /// Never wraps: ids, words and times that are copied or compared.
    Whole,
    /// A number: never wraps, and stands to the right.
    Number,
}

/// Makes a table of rows below a header line. Rows may be shorter than the header.
pub(super) fn table(header: &[(&str, Column)], rows: Vec<Vec<String>>, columns: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if let Some(columns) = columns {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns.max(COLUMNS_MIN));
    } else {
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    table.set_header(header.iter().map(|(name, column)| align(Cell::new(name.to_uppercase()), *column)));
    for row in rows {
        let cells = row
            .into_iter()
            .zip(header)
            .map(|(text, (_, column))| align(Cell::new(printable(&text)), *column));
        table.add_row(cells);
    }
    for (at, (_, column)) in header.iter().enumerate() {
        if let Some(made) = table.column_mut(at) {
            made.set_padding((0, 2));
            if *column != Column::Text {
                made.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
    }
    trimmed(&table)
}

/// Makes the lines `name  value` of one thing; rows without a value are left out.
pub(super) fn details(rows: &[(&str, String)]) -> String {
    let shown = rows.iter().filter(|(_, value)| !value.is_empty());
    let width = shown.clone().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    shown.map(|(name, value)| format!("{name:<width$}  {}\n", printable(value))).collect()
}

fn align(cell: Cell, column: Column) -> Cell {
    if column == Column::Number { cell.set_alignment(CellAlignment::Right) } else { cell }
}

/// Spaces at line ends are noise to whoever copies the lines.
fn trimmed(table: &Table) -> String {
    table.lines().fold(String::new(), |text, line| text + line.trim_end() + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [(&str, Column); 3] =
        [("id", Column::Whole), ("what", Column::Text), ("n", Column::Number)];

    fn rows() -> Vec<Vec<String>> {
        let long = "a sentence that is far too long for the terminal it is shown in";
        vec![
            vec!["0193-abc".into(), "short".into(), "7".into()],
            vec!["0193-def".into(), long.into(), "12345".into()],
        ]
    }

    #[test]
    fn a_table_fits_the_terminal_and_keeps_ids_whole() {
        let text = table(&HEADER, rows(), Some(50));
        assert!(text.lines().all(|line| line.chars().count() <= 50), "{text}");
        assert!(text.contains("0193-def"), "{text}");
        assert!(text.lines().count() > 3, "the sentence wraps: {text}");
    }

    #[test]
    fn a_piped_table_has_one_line_per_row_and_no_spaces_at_line_ends() {
        let text = table(&HEADER, rows(), None);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.lines().all(|line| line == line.trim_end()));
        let ends: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert!(ends.iter().all(|end| *end == ends[0]), "numbers stand to the right: {text}");
    }

    #[test]
    fn details_line_up_and_leave_out_what_is_empty() {
        let text = details(&[("id", "1".into()), ("waiting for", "a\u{7}b".into()), ("key", String::new())]);
        assert_eq!(text, "id           1\nwaiting for  a b\n");
    }
}
