//! The few durable file operations behind a seam that tests can script.
