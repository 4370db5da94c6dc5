//! SQLite opened for durability: one writer with group commit, many readers.
