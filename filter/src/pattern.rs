//! Regular expressions in the syntax of RE2, as Go's `regexp` takes them (row F01).

mod re2;

use regex::{Regex, RegexBuilder};

/// The most memory that a compiled expression may take. One that needs more does not compile.
const MAX_COMPILED_BYTES: usize = 1 << 20;

/// The longest expression.
const MAX_EXPRESSION_BYTES: usize = 16 << 10;

/// Compiles `expression`; `None` if that is not possible.
pub(crate) fn compile(expression: &[u8]) -> Option<Regex> {
    if expression.len() > MAX_EXPRESSION_BYTES {
        return None;
    }
    let translated = re2::translate(std::str::from_utf8(expression).ok()?)?;
    RegexBuilder::new(&translated).size_limit(MAX_COMPILED_BYTES).build().ok()
}

#[cfg(test)]
mod tests;
