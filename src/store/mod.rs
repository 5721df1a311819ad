//! Floor 5: the history: rows by minute, written and read.
