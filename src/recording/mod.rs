//! Floor 5: the engine's inputs as JSON lines, written and read.
