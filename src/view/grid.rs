//! Rows and columns of text, laid out for a terminal.

use std::io::{self, Write};

use anstyle::Style;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

use super::escape::terminal;

/// A column of a table.
pub(super) struct Column {
    /// What stands above it.
    pub(super) title: &'static str,
    /// Whether it holds numbers, which are set right.
    is_number: bool,
}

impl Column {
    /// A column of text.
    pub(super) const fn text(title: &'static str) -> Self {
        Self {
            title,
            is_number: false,
        }
    }

    /// A column of numbers.
    pub(super) const fn number(title: &'static str) -> Self {
        Self {
            title,
            is_number: true,
        }
    }
}

/// A table without lines; its header is dimmed.
pub(super) struct Grid(Table);

impl Grid {
    /// A table with these columns.
    pub(super) fn new<'a>(columns: impl Iterator<Item = &'a Column> + Clone) -> Self {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(columns.clone().map(|column| column.title));
        for (layout, column) in table.column_iter_mut().zip(columns) {
            layout.set_padding((0, 2));
            if column.is_number {
                layout.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self(table)
    }

    /// Adds a row; its text may be hostile.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0
            .add_row(cells.into_iter().map(|text| Cell::new(terminal(&text))));
    }

    /// Writes it, no wider than `width`; `style` tells how each row looks, counted from 0.
    pub(super) fn write(
        &self,
        width: Option<u16>,
        style: impl Fn(usize) -> Style,
        to: &mut dyn Write,
    ) -> io::Result<()> {
        for (index, line) in self.0.lines().enumerate() {
            let line = clipped(line.trim_end(), width);
            let style = match index {
                0 => Style::new().dimmed(),
                row => style(row - 1),
            };
            writeln!(to, "{style}{line}{style:#}")?;
        }
        Ok(())
    }
}

fn clipped(line: &str, width: Option<u16>) -> String {
    match width.map(usize::from) {
        Some(width) if line.chars().count() > width => {
            let kept: String = line.chars().take(width.saturating_sub(1)).collect();
            kept + "\u{2026}"
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_wide_is_cut_and_says_so() {
        assert_eq!(clipped("abcdef", Some(4)), "abc\u{2026}");
        assert_eq!(clipped("abcd", Some(4)), "abcd");
        assert_eq!(clipped("abcdef", None), "abcdef");
    }
}
