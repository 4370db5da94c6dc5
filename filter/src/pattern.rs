//! Regular expressions in RE2's syntax.

use regex::{Regex, RegexBuilder};

/// The most memory that a compiled expression may take. One that needs more does not compile.
const MAX_COMPILED_BYTES: usize = 1 << 20;

/// Compiles `expression`; `None` if that is not possible (row F01).
pub(crate) fn compile(expression: &[u8]) -> Option<Regex> {
    let expression = std::str::from_utf8(expression).ok()?;
    RegexBuilder::new(expression).size_limit(MAX_COMPILED_BYTES).build().ok()
}
