use proptest::prelude::*;

use super::compile;

fn matches(expression: &str, text: &str) -> bool {
    compile(expression.as_bytes()).unwrap_or_else(|| panic!("{expression} does not compile")).is_match(text)
}

#[test]
fn classes_with_a_letter_are_of_ascii() {
    for (expression, inside, outside) in [
        (r"^\d$", "7", "\u{0667}"),
        (r"^\D$", "\u{0667}", "7"),
        (r"^\w$", "_", "ä"),
        (r"^\W$", "ä", "a"),
        (r"^\s$", " ", "\u{a0}"),
        (r"^\S$", "\u{a0}", "\n"),
        (r"^[\d-]$", "-", "x"),
        (r"^[^\w]$", "-", "x"),
        (r"^[\D]$", "x", "1"),
        (r"^\bx\b$", "x", "xx"),
        (r"ä\b", "äx", "ä"),
        (r"^x\Bx$", "xx", "x x"),
        (r"^\pL$", "ä", "1"),
        (r"^\p{Greek}$", "α", "a"),
        (r"^\p{^Greek}$", "a", "α"),
        (r"^\P{^Greek}$", "α", "a"),
        (r"^[\p{Greek}a]$", "α", "b"),
        (r"^[[:alpha:][:digit:]]$", "1", "-"),
        (r"^[[:^alpha:]]$", "1", "a"),
    ] {
        assert!(matches(expression, inside), "{expression} on {inside}");
        assert!(!matches(expression, outside), "{expression} on {outside}");
    }
}

#[test]
fn signs_that_mean_something_elsewhere_stand_for_themselves() {
    for (expression, text) in [
        (r"^\<a\>$", "<a>"),
        (r"^a{$", "a{"),
        (r"^a{,2}$", "a{,2}"),
        (r"^a{x}$", "a{x}"),
        (r"^a{01}$", "a{01}"),
        (r"^{$", "{"),
        (r"^a}]$", "a}]"),
        (r"^[a&&b]$", "&"),
        (r"^[+--]$", ","),
        (r"^[a~~b]$", "~"),
        (r"^[[a]$", "["),
        (r"^[]a]$", "]"),
        (r"^[^]a]$", "b"),
        (r"^[a-]$", "-"),
        (r"^[-a]$", "-"),
        (r"^[[:a]$", ":"),
        (r"^[\]\\^]+$", "]\\^"),
        (r"^\Qa.b*\E+$", "a.b**"),
        (r"^\Q[$", "[$"),
        (r"^\_\-\/\@$", "_-/@"),
        (r"^a#b c$", "a#b c"),
    ] {
        assert!(matches(expression, text), "{expression} on {text}");
    }
    assert!(!matches(r"^[a&&b]$", "c"));
    assert!(!matches(r"^\<a", "a"));
}

#[test]
fn escapes_of_one_character_are_known() {
    assert!(matches(r"^\a\f\n\r\t\v$", "\x07\x0c\n\r\t\x0b"));
    assert!(matches(r"^\101\x41\x{1F600}\0$", "AA\u{1f600}\0"));
    assert!(matches(r"^[\x41-\x43\102]$", "B"));
    assert!(matches(r"^\12$", "\n"));
}

#[test]
fn groups_flags_and_repetitions_are_known() {
    assert!(matches(r"^(?P<first>a)(?<second>b)(?:c)(d)$", "abcd"));
    assert!(matches(r"(?i)^ABC$", "abc"));
    assert!(matches(r"^(?i:A)b$", "ab"));
    assert!(!matches(r"^(?i:A)b$", "aB"));
    assert!(matches(r"(?s)^a.b$", "a\nb"));
    assert!(!matches(r"^a.b$", "a\nb"));
    assert!(matches(r"(?m)^b$", "a\nb\nc"));
    assert!(!matches(r"^b$", "a\nb\nc"));
    assert!(matches(r"^a{2}b{1,}c{0,2}d*?e+?f??$", "aabccdde"));
    assert!(matches(r"^a|b$", "b"));
    assert!(matches("", "anything"));
}

#[test]
fn what_re2_refuses_never_compiles() {
    for expression in [
        "a**",
        "a+*",
        "a{2}{3}",
        "a???",
        "*",
        "a|*",
        "(",
        ")",
        "(?P<>a)",
        "(?P<a",
        "(?P<a-b>c)",
        "(?x)a",
        "(?u:a)",
        "(?=a)",
        "(?",
        r"\",
        r"\1",
        r"\8",
        r"\u0041",
        r"\C",
        r"\Z",
        r"\E",
        r"\x4",
        r"\x{110000}",
        r"\pX{",
        r"\p{}",
        r"\p{Nothing}",
        "a{1001}",
        "a{2,1}",
        "a{99999999999}",
        "[",
        "[]",
        "[a",
        r"[\",
        r"[b-a]",
        "[a--b]",
        "[a--b]",
        r"[a-\d]",
        r"[\b]",
        "[[:foo:]]",
        r"[\Qa\E]",
        "\\ä",
    ] {
        assert!(compile(expression.as_bytes()).is_none(), "{expression}");
    }
    assert!(compile(b"\xff").is_none());
}

#[test]
fn the_longest_expression_compiles_and_a_longer_one_does_not() {
    let longest = "a".repeat(super::MAX_EXPRESSION_BYTES);
    assert!(compile(longest.as_bytes()).is_some());
    assert!(compile(format!("{longest}a").as_bytes()).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_expression_makes_it_panic(expression in r"[\\\[\]^$.|?*+(){}:<>PQEpdDxna-c&~0-9,ä-]{0,12}|\PC{0,20}") {
        let _either_way = compile(expression.as_bytes());
    }

    #[test]
    fn an_escaped_text_matches_itself(text in r"[ -~äα]{0,12}") {
        let escaped: String = text
            .chars()
            .map(|character| match character.is_alphanumeric() {
                true => character.to_string(),
                false => format!("\\{character}"),
            })
            .collect();
        let expression = format!("^{escaped}$");
        prop_assert!(matches(&expression, &text), "{}", expression);
        let class: String = text.chars().map(|character| format!("\\x{{{:x}}}", character as u32)).collect();
        if !text.is_empty() {
            let class = format!("^[{class}]+$");
            prop_assert!(matches(&class, &text), "{}", class);
        }
    }
}
