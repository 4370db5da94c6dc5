//! Rows F01 to F09.

use corten_filter::Filters;
use corten_types::ErrorKind;

use crate::{Subject, matches};

fn refusal(filter: &str) -> String {
    let error = Filters::parse(&[filter]).expect_err(filter);
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{filter:?}");
    error.message().to_owned()
}

#[test]
fn a_path_alone_asks_for_presence() {
    assert!(matches("name", &[("name", "")]));
    assert!(!matches("name", &[("id", "a")]));
    assert!(matches("labels.foo,name", &[("name", "x"), ("labels.foo", "y")]));
    assert!(!matches("labels.foo,name", &[("name", "x")]));
}

#[test]
fn equality_needs_presence_and_inequality_does_not() {
    assert!(matches("name==foo", &[("name", "foo")]));
    assert!(!matches("name==foo", &[("name", "fooer")]));
    assert!(!matches(r#"name=="""#, &[]));
    assert!(matches(r#"name=="""#, &[("name", "")]));
    assert!(matches("labels.foo!=bar", &[]));
    assert!(!matches("labels.foo!=bar", &[("labels.foo", "bar")]));
    assert!(!matches(r#"labels.foo!="""#, &[]));
}

#[test]
fn an_expression_searches_anywhere_and_takes_an_absent_field_for_the_empty_text() {
    assert!(matches("name~=oo", &[("name", "fooer")]));
    assert!(!matches("name~=^oo", &[("name", "fooer")]));
    assert!(matches("name~=^foo/bar:[0-9]+$", &[("name", "foo/bar:12")]));
    assert!(matches("name~=^$", &[]));
}

#[test]
fn an_expression_that_does_not_compile_never_matches() {
    for filter in ["name~=(", "name~=*", "name~=\"\\xff\"", "name~=(((a{1000}){1000}){1000})"] {
        assert!(!matches(filter, &[("name", "(")]), "{filter}");
        assert!(!matches(filter, &[]), "{filter}");
    }
}

#[test]
fn texts_are_joined_by_or_and_an_empty_one_matches_everything() {
    let nobody = Subject::default();
    assert!(Filters::parse::<&str>(&[]).unwrap().matches(&nobody));
    assert!(Filters::all().matches(&nobody));
    assert!(Filters::parse(&[""]).unwrap().matches(&nobody));
    assert!(Filters::parse(&["name==x", ""]).unwrap().matches(&nobody));
    assert!(Filters::parse(&["name==x", ""]).unwrap().match_everything());
    let either = Filters::parse(&["id==a", "id==b"]).unwrap();
    assert!(!either.match_everything());
    assert_eq!(either.texts(), ["id==a", "id==b"]);
    assert!(either.matches(&Subject::of(&[("id", "b")])));
    assert!(!either.matches(&Subject::of(&[("id", "c")])));
    assert!(Filters::parse(&["", "id="]).is_err(), "a malformed text is refused beside an empty one");
}

#[test]
fn quoted_fields_hold_any_text() {
    assert!(matches(r#"labels."containerd.io/x"==1"#, &[("labels.containerd.io/x", "1")]));
    assert!(matches(r#""a b".c"#, &[("a b.c", "")]));
    assert!(matches(r#"labels."with \\ and \"".post"#, &[("labels.with \\ and \".post", "")]));
    assert!(matches(r#"labels."\xff"!=a"#, &[]), "a name that is not UTF-8 belongs to no field");
}

#[test]
fn values_without_quotes_end_at_a_comma_or_space() {
    assert!(matches("name==localhost/library/x:1", &[("name", "localhost/library/x:1")]));
    assert!(matches("name==a\"b|c=d", &[("name", "a\"b|c=d")]));
    assert!(matches("name~=牛,id", &[("name", "牛"), ("id", "")]));
    assert!(refusal("name==a\u{200b}b").contains("byte 7"), "a format character is not graphic");
}

#[test]
fn slashes_and_bars_quote_expressions_only() {
    assert!(matches("name~=/^foo/", &[("name", "foobar")]));
    assert!(matches("name~=|^a/b|,id", &[("name", "a/b"), ("id", "")]));
    assert!(matches(r"name~=/^a\/b/", &[("name", "a/b")]));
    for filter in ["name==/foo/", "name!=|foo|", "labels.|foo|==x", "/name/", "labels.ns/key==v"] {
        refusal(filter);
    }
}

#[test]
fn escapes_are_those_of_a_go_string() {
    let all = r#"name=="\a\b\f\n\r\t\v\\\"\x41\101\u00e9\U0001F600""#;
    assert!(matches(all, &[("name", "\x07\x08\x0c\n\r\t\x0b\\\"AA\u{e9}\u{1f600}")]));
    assert!(matches(r#"name=="\xc3\xa9""#, &[("name", "\u{e9}")]), "bytes may make a character together");
    assert!(matches(r#"name=="\ud800""#, &[("name", "\u{fffd}")]));
    for escape in [r"\g", r"\'", r"\/", r"\xag", r"\x4", r"\08", r"\400", r"\u12", r"\U00110000", r"\"] {
        refusal(&format!("name==\"{escape}\""));
    }
    refusal(r"name~=/\d/");
}

#[test]
fn whitespace_is_skipped_before_fields_operators_and_values() {
    let service = [("type", "io.containerd.snapshotter.v1"), ("id", "overlayfs")];
    assert!(matches("type==io.containerd.snapshotter.v1, id==overlayfs", &service));
    assert!(matches(" \u{a0}type \t== \nio.containerd.snapshotter.v1,\r\nid", &service));
    for filter in ["id ", "id==a ", "id==a ,type", "labels .a", " "] {
        refusal(filter);
    }
}

#[test]
fn a_refusal_names_the_position_and_what_stands_there() {
    for (filter, at, found) in [
        ("name=foo", 4, "\"=\""),
        ("name==foo,", 10, "the end"),
        ("name==,id", 6, "','"),
        ("name=== foo", 4, "\"===\""),
        ("labels.?", 7, "'?'"),
        ("a b", 2, "\"b\""),
        ("a==\"x\"y", 6, "'y'"),
        ("a==\"x", 3, "does not end"),
        ("a==/foo/", 3, "quotes only"),
        ("a\0b", 1, "'\\0'"),
        ("a==\u{fffd}", 3, "not allowed"),
    ] {
        let message = refusal(filter);
        assert!(message.contains(&format!("at byte {at}: ")), "{filter:?}: {message}");
        assert!(message.contains(found), "{filter:?}: {message}");
    }
    assert!(refusal(&format!("{}=", "ä".repeat(4000))).len() < 600, "a long text is cut");
}
