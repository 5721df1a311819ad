//! Floor 5: the history: SQLite rows by minute, written and read.
