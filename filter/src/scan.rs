//! Cuts a filter into tokens.
//!
//! Whether `docker.io/library/x:1` is one value or a path of fields depends on what came before: after an operator the
//! scanner reads a value (row F04).

use std::sync::LazyLock;

use regex::Regex;

/// What is wrong with a text, and the byte where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) at: usize,
    pub(crate) why: String,
}

/// A token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    End,
    /// `.` or `,`
    Separator,
    Operator(&'a str),
    /// A run of `[A-Za-z0-9_]`.
    Field(&'a str),
    Value(&'a str),
    Quoted {
        quote: char,
        content: Vec<u8>,
    },
    /// A character that begins no token here.
    Other(char),
}

/// Characters beyond ASCII that may stand in a value without quotes.
static GRAPHIC: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[\p{L}\p{M}\p{N}\p{P}\p{S}]").expect("the expression is a constant and compiles")
});

pub(crate) struct Scanner<'a> {
    input: &'a str,
    position: usize,
    value_follows: bool,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(input: &'a str) -> Self {
        Self { input, position: 0, value_follows: false }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// The next character; whitespace counts.
    pub(crate) fn peek(&self) -> Option<char> {
        self.input[self.position..].chars().next()
    }

    /// The next token and where it begins. Whitespace before it is skipped (row F06).
    pub(crate) fn scan(&mut self) -> Result<(usize, Token<'a>), Malformed> {
        self.skip_while(char::is_whitespace);
        let start = self.position;
        let Some(first) = self.take()? else { return Ok((start, Token::End)) };
        let token = match first {
            '"' | '/' | '|' => Token::Quoted { quote: first, content: self.quoted(start, first)? },
            ',' | '.' => {
                self.value_follows = false;
                Token::Separator
            }
            '=' | '!' | '~' => {
                self.skip_while(|character| matches!(character, '=' | '!' | '~'));
                self.value_follows = true;
                Token::Operator(&self.input[start..self.position])
            }
            _ if self.value_follows => {
                self.skip_while(may_stand_in_a_value);
                self.value_follows = false;
                Token::Value(&self.input[start..self.position])
            }
            _ if may_stand_in_a_field(first) => {
                self.skip_while(may_stand_in_a_field);
                Token::Field(&self.input[start..self.position])
            }
            other => Token::Other(other),
        };
        Ok((start, token))
    }

    fn skip_while(&mut self, wanted: impl Fn(char) -> bool) {
        let rest = &self.input[self.position..];
        self.position += rest.find(|character| !wanted(character)).unwrap_or(rest.len());
    }

    /// The next character, which NUL and the replacement character may not be: containerd takes them for damage.
    fn take(&mut self) -> Result<Option<char>, Malformed> {
        let Some(character) = self.peek() else { return Ok(None) };
        if matches!(character, '\0' | char::REPLACEMENT_CHARACTER) {
            return Err(Malformed { at: self.position, why: format!("{character:?} is not allowed") });
        }
        self.position += character.len_utf8();
        Ok(Some(character))
    }

    /// Reads up to the closing quote and resolves Go's escapes (row F05).
    fn quoted(&mut self, start: usize, quote: char) -> Result<Vec<u8>, Malformed> {
        let mut content = Vec::new();
        loop {
            match self.take()? {
                None | Some('\n') => {
                    return Err(Malformed { at: start, why: "the quoted text does not end".to_owned() });
                }
                Some('\\') => self.escape(quote, &mut content)?,
                Some(character) if character == quote => return Ok(content),
                Some(character) => push(&mut content, character),
            }
        }
    }

    fn escape(&mut self, quote: char, content: &mut Vec<u8>) -> Result<(), Malformed> {
        let start = self.position - 1;
        let wrong = |why: &str| Malformed { at: start, why: why.to_owned() };
        let byte = match self.take()? {
            Some('a') => 0x07,
            Some('b') => 0x08,
            Some('f') => 0x0c,
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('v') => 0x0b,
            Some('\\') => b'\\',
            Some(character) if character == quote => quote as u8,
            Some('x') => self.digits(16, 2, 0).ok_or_else(|| wrong("\\x needs two hex digits"))? as u8,
            Some(digit @ '0'..='7') => {
                let first = u32::from(digit) - u32::from('0');
                let value =
                    self.digits(8, 2, first).ok_or_else(|| wrong("an octal escape needs three digits"))?;
                u8::try_from(value).map_err(|_| wrong("an octal escape must not pass \\377"))?
            }
            Some(letter @ ('u' | 'U')) => {
                let count = if letter == 'u' { 4 } else { 8 };
                let value =
                    self.digits(16, count, 0).ok_or_else(|| wrong("\\u needs four hex digits, \\U eight"))?;
                if value > u32::from(char::MAX) {
                    return Err(wrong("there is no such character"));
                }
                // Go writes half of a surrogate pair as the replacement character.
                push(content, char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER));
                return Ok(());
            }
            _ => return Err(wrong("there is no such escape")),
        };
        content.push(byte);
        Ok(())
    }

    /// The number whose digits so far are `value` and of which `count` more follow.
    fn digits(&mut self, base: u32, count: usize, mut value: u32) -> Option<u32> {
        for _ in 0..count {
            let digit = self.peek()?.to_digit(base)?;
            self.position += 1;
            value = (value << base.trailing_zeros()) | digit;
        }
        Some(value)
    }
}

fn push(content: &mut Vec<u8>, character: char) {
    content.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

fn may_stand_in_a_field(character: char) -> bool {
    character == '_' || character.is_ascii_alphanumeric()
}

fn may_stand_in_a_value(character: char) -> bool {
    match character {
        ',' | char::REPLACEMENT_CHARACTER => false,
        _ if character.is_ascii() => character.is_ascii_graphic(),
        _ => !character.is_whitespace() && GRAPHIC.is_match(character.encode_utf8(&mut [0; 4])),
    }
}
