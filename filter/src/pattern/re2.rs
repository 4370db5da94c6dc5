//! Rewrites an expression of RE2 for the `regex` crate.
//!
//! The two are close, and where they differ it is silent: `\d` is ASCII here and Unicode there, `\<` is a `<` here and the
//! beginning of a word there, `[a&&b]` is three characters here and an intersection there, `{` may stand for itself here,
//! `a**` is malformed here. So everything is read by RE2's rules and written so that only one reading is left.

/// The most that `{n}` may repeat.
const MAX_REPEAT: u32 = 1000;

/// The classes that may stand as `[:name:]` in brackets.
const NAMED_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

/// The same expression for the `regex` crate; `None` if RE2 takes it for malformed.
pub(super) fn translate(expression: &str) -> Option<String> {
    let mut translator = Translator { rest: expression, written: String::new(), has_no_named_class: false };
    translator.expression()?;
    Some(translator.written)
}

struct Translator<'a> {
    rest: &'a str,
    written: String,
    /// It was found that no `:]` follows, so that it need not be looked for again.
    has_no_named_class: bool,
}

impl<'a> Translator<'a> {
    fn expression(&mut self) -> Option<()> {
        let mut was_repeated = false;
        while let Some(character) = self.next() {
            let repeats = match character {
                '*' | '+' | '?' => {
                    self.written.push(character);
                    true
                }
                '{' => self.counted_repetition()?,
                '\\' => {
                    self.escape()?;
                    false
                }
                '[' => {
                    self.class()?;
                    false
                }
                '(' => {
                    self.group()?;
                    false
                }
                ')' | '|' | '^' | '$' | '.' => {
                    self.written.push(character);
                    false
                }
                _ => {
                    self.literal(character);
                    false
                }
            };
            if repeats {
                // Repetitions cannot be stacked; one question mark makes this one take as little as possible.
                if was_repeated {
                    return None;
                }
                if self.take("?") {
                    self.written.push('?');
                }
            }
            was_repeated = repeats;
        }
        Some(())
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        self.next_if(|_| true)
    }

    fn next_if(&mut self, wanted: impl Fn(char) -> bool) -> Option<char> {
        let character = self.peek().filter(|character| wanted(*character))?;
        self.rest = &self.rest[character.len_utf8()..];
        Some(character)
    }

    /// Takes `wanted` if that comes next.
    fn take(&mut self, wanted: &str) -> bool {
        let rest = self.rest.strip_prefix(wanted);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// The characters before `end`, which is taken, too.
    fn take_until(&mut self, end: char) -> Option<&'a str> {
        let (text, rest) = self.rest.split_once(end)?;
        self.rest = rest;
        Some(text)
    }

    fn literal(&mut self, character: char) {
        self.written.push_str(&regex::escape(character.encode_utf8(&mut [0; 4])));
    }

    /// After `{`: a repetition if the form is exactly one, otherwise the brace itself. `None` for too much of it.
    fn counted_repetition(&mut self) -> Option<bool> {
        let rest = self.rest;
        let Some((least, most)) = self.bounds() else {
            self.rest = rest;
            self.literal('{');
            return Some(false);
        };
        if least > MAX_REPEAT || most.is_some_and(|most| most > MAX_REPEAT || most < least) {
            return None;
        }
        let most = most.map(|most| most.to_string()).unwrap_or_default();
        self.written.push_str(&format!("{{{least},{most}}}"));
        Some(true)
    }

    /// `n}`, `n,}` or `n,m}`.
    fn bounds(&mut self) -> Option<(u32, Option<u32>)> {
        let least = self.number()?;
        if self.take("}") {
            return Some((least, Some(least)));
        }
        if !self.take(",") {
            return None;
        }
        if self.take("}") {
            return Some((least, None));
        }
        let most = self.number()?;
        self.take("}").then_some((least, Some(most)))
    }

    /// Digits without a leading zero. What does not fit counts as too much.
    fn number(&mut self) -> Option<u32> {
        let end = self.rest.find(|character: char| !character.is_ascii_digit())?;
        let (digits, rest) = self.rest.split_at(end);
        if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
            return None;
        }
        self.rest = rest;
        Some(digits.parse().unwrap_or(u32::MAX))
    }

    /// After `(`. Names of groups are dropped: nobody asks for what they caught.
    fn group(&mut self) -> Option<()> {
        if !self.take("?") {
            self.written.push_str("(?:");
            return Some(());
        }
        if self.take("P<") || self.take("<") {
            let name = self.take_until('>')?;
            if name.is_empty() || !name.chars().all(is_word) {
                return None;
            }
            self.written.push_str("(?:");
            return Some(());
        }
        self.written.push_str("(?");
        loop {
            let character = self.next()?;
            self.written.push(character);
            match character {
                'i' | 'm' | 's' | 'U' | '-' => {}
                ':' | ')' => return Some(()),
                _ => return None,
            }
        }
    }

    /// After a backslash outside brackets.
    fn escape(&mut self) -> Option<()> {
        match self.peek()? {
            'A' => self.written.push_str(r"\A"),
            'z' => self.written.push_str(r"\z"),
            'b' => self.written.push_str(r"(?-u:\b)"),
            'B' => self.written.push_str(r"(?-u:\B)"),
            'Q' => {
                self.next();
                self.quoted();
                return Some(());
            }
            'd' | 'D' | 's' | 'S' | 'w' | 'W' => return self.perl_class(),
            'p' | 'P' => return self.unicode_class(),
            _ => {
                let character = self.escaped_character()?;
                self.literal(character);
                return Some(());
            }
        }
        self.next();
        Some(())
    }

    /// Everything up to `\E`, or to the end, stands for itself.
    fn quoted(&mut self) {
        while !self.take(r"\E") {
            let Some(character) = self.next() else { return };
            self.literal(character);
        }
    }

    /// After the backslash of `\d`, `\s`, `\w` and their opposites, which are of ASCII.
    fn perl_class(&mut self) -> Option<()> {
        let letter = self.next()?;
        let members = match letter.to_ascii_lowercase() {
            'd' => "0-9",
            's' => r"\t\n\f\r\x20",
            _ => "0-9A-Za-z_",
        };
        let sign = if letter.is_ascii_uppercase() { "^" } else { "" };
        self.written.push_str(&format!("[{sign}{members}]"));
        Some(())
    }

    /// After the backslash of `\pL`, `\p{Greek}`, `\p{^Greek}` and their opposites.
    fn unicode_class(&mut self) -> Option<()> {
        let mut is_negated = self.next()? == 'P';
        let before = self.rest;
        let name = match self.next()? {
            '{' => self.take_until('}')?,
            letter => &before[..letter.len_utf8()],
        };
        let name = match name.strip_prefix('^') {
            Some(name) => {
                is_negated = !is_negated;
                name
            }
            None => name,
        };
        if name.is_empty() || !name.chars().all(is_word) {
            return None;
        }
        let letter = if is_negated { 'P' } else { 'p' };
        self.written.push_str(&format!(r"\{letter}{{{name}}}"));
        Some(())
    }

    /// After a backslash: an escape of one character.
    fn escaped_character(&mut self) -> Option<char> {
        let character = self.next()?;
        match character {
            // A single digit would be what a group caught, which RE2 does not know.
            '1'..='7' if !self.peek().is_some_and(|next| next.is_digit(8)) => None,
            '0'..='7' => {
                let mut code = character.to_digit(8)?;
                for _ in 0..2 {
                    let Some(digit) = self.next_if(|next| next.is_digit(8)) else { break };
                    code = code * 8 + digit.to_digit(8)?;
                }
                char::from_u32(code)
            }
            'x' => {
                let digits = if self.take("{") {
                    self.take_until('}')?
                } else {
                    let (digits, rest) = self.rest.split_at_checked(2)?;
                    self.rest = rest;
                    digits
                };
                if !digits.chars().all(|digit| digit.is_ascii_hexdigit()) {
                    return None;
                }
                char::from_u32(u32::from_str_radix(digits, 16).ok()?)
            }
            'a' => Some('\x07'),
            'f' => Some('\x0c'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\x0b'),
            sign if sign.is_ascii() && !sign.is_ascii_alphanumeric() => Some(sign),
            _ => None,
        }
    }

    /// After `[`.
    fn class(&mut self) -> Option<()> {
        self.written.push('[');
        if self.take("^") {
            self.written.push('^');
        }
        let mut is_first = true;
        // A bracket that comes first stands for itself.
        while is_first || self.peek()? != ']' {
            is_first = false;
            self.member()?;
        }
        self.next();
        self.written.push(']');
        Some(())
    }

    /// One member of a class: a class itself, a character, or a range.
    fn member(&mut self) -> Option<()> {
        let mut ahead = self.rest.chars();
        match (ahead.next()?, ahead.next()) {
            ('[', Some(':')) if self.named_class()? => return Some(()),
            ('\\', Some('d' | 'D' | 's' | 'S' | 'w' | 'W')) => {
                self.next();
                return self.perl_class();
            }
            ('\\', Some('p' | 'P')) => {
                self.next();
                return self.unicode_class();
            }
            _ => {}
        }
        let low = self.class_character()?;
        let mut ahead = self.rest.chars();
        let is_range = ahead.next() == Some('-') && ahead.next().is_some_and(|next| next != ']');
        if !is_range {
            self.class_literal(low);
            return Some(());
        }
        self.next();
        let high = self.class_character()?;
        if high < low {
            return None;
        }
        self.class_literal(low);
        self.written.push('-');
        self.class_literal(high);
        Some(())
    }

    /// At `[:`: takes `[:name:]`; false if there is no end, and the bracket stands for itself.
    fn named_class(&mut self) -> Option<bool> {
        if self.has_no_named_class {
            return Some(false);
        }
        let Some((name, rest)) = self.rest["[:".len()..].split_once(":]") else {
            self.has_no_named_class = true;
            return Some(false);
        };
        if !NAMED_CLASSES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return None;
        }
        self.written.push_str(&format!("[:{name}:]"));
        self.rest = rest;
        Some(true)
    }

    fn class_character(&mut self) -> Option<char> {
        match self.next()? {
            '\\' => self.escaped_character(),
            character => Some(character),
        }
    }

    /// A member without any other meaning, whatever stands beside it.
    fn class_literal(&mut self, character: char) {
        if character.is_ascii_alphanumeric() || !character.is_ascii() {
            self.written.push(character);
        } else {
            self.written.push_str(&format!(r"\x{:02X}", character as u32));
        }
    }
}

fn is_word(character: char) -> bool {
    character == '_' || character.is_ascii_alphanumeric()
}
