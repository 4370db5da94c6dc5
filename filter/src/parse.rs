//! Makes selectors of tokens.
//!
//! ```text
//! selectors = selector { "," selector }
//! selector  = path [ operator value ]
//! path      = field { "." field }
//! ```
//! As in containerd, whitespace may stand before a field, an operator and a value, not before `.`, `,` or the end.

use corten_types::{Error, Result};

use crate::{
    scan::{Malformed, Scanner, Token},
    selector::{Selector, Test},
};

/// How much of a long filter an error repeats.
const TEXT_IN_ERROR_BYTES: usize = 256;

/// The selectors of one text; none when it is empty.
pub(crate) fn selectors(text: &str) -> Result<Vec<Selector>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    Parser { scanner: Scanner::new(text) }.selectors().map_err(|Malformed { at, why }| {
        let (shown, cut) = match text.len() {
            0..=TEXT_IN_ERROR_BYTES => (text, ""),
            _ => (&text[..text.floor_char_boundary(TEXT_IN_ERROR_BYTES)], " (cut)"),
        };
        Error::invalid_argument(format!("filter {shown:?}{cut} is malformed at byte {at}: {why}"))
    })
}

struct Parser<'a> {
    scanner: Scanner<'a>,
}

impl Parser<'_> {
    fn selectors(mut self) -> Result<Vec<Selector>, Malformed> {
        let mut selectors = vec![self.selector()?];
        loop {
            match self.scanner.peek() {
                None => return Ok(selectors),
                Some(',') => {
                    self.scanner.scan()?;
                    selectors.push(self.selector()?);
                }
                Some(other) => {
                    return Err(expected(self.scanner.position(), "',' or the end", &Token::Other(other)));
                }
            }
        }
    }

    fn selector(&mut self) -> Result<Selector, Malformed> {
        let path = self.path()?;
        let test = match self.scanner.peek() {
            None | Some(',') => Test::Present,
            Some(_) => self.test()?,
        };
        Ok(Selector { path, test })
    }

    /// The parts of a path; `None` when one is not UTF-8.
    fn path(&mut self) -> Result<Option<Vec<String>>, Malformed> {
        let mut parts = vec![self.field()?];
        while self.scanner.peek() == Some('.') {
            self.scanner.scan()?;
            parts.push(self.field()?);
        }
        Ok(parts.into_iter().map(|part| String::from_utf8(part).ok()).collect())
    }

    fn field(&mut self) -> Result<Vec<u8>, Malformed> {
        match self.scanner.scan()? {
            (_, Token::Field(name)) => Ok(name.as_bytes().to_vec()),
            (_, Token::Quoted { quote: '"', content }) => Ok(content),
            (at, other) => Err(expected(at, "a field", &other)),
        }
    }

    fn test(&mut self) -> Result<Test, Malformed> {
        let build: fn(Vec<u8>) -> Test = match self.scanner.scan()? {
            (_, Token::Operator("==")) => Test::Equal,
            (_, Token::Operator("!=")) => Test::NotEqual,
            (_, Token::Operator("~=")) => return Ok(Test::matching(&self.value(true)?)),
            (at, other) => return Err(expected(at, "an operator (==, != or ~=)", &other)),
        };
        Ok(build(self.value(false)?))
    }

    /// A value. Slashes and bars quote only a regular expression (row F05).
    fn value(&mut self, is_expression: bool) -> Result<Vec<u8>, Malformed> {
        match self.scanner.scan()? {
            (_, Token::Value(text)) => Ok(text.as_bytes().to_vec()),
            (_, Token::Quoted { quote, content }) if quote == '"' || is_expression => Ok(content),
            (at, Token::Quoted { quote, .. }) => {
                Err(Malformed { at, why: format!("{quote} quotes only the value of ~=, use \"") })
            }
            (at, other) => Err(expected(at, "a value", &other)),
        }
    }
}

fn expected(at: usize, what: &str, found: &Token<'_>) -> Malformed {
    let found = match found {
        Token::End => "the end".to_owned(),
        Token::Separator => "'.' or ','".to_owned(),
        Token::Operator(text) | Token::Field(text) | Token::Value(text) => format!("{text:?}"),
        Token::Quoted { quote, .. } => format!("a text quoted with {quote}"),
        Token::Other(character) => format!("{character:?}"),
    };
    Malformed { at, why: format!("expected {what}, found {found}") }
}
