use super::*;

fn seconds(text: &str) -> Option<i64> {
    parse(text).map(|instant| match instant.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap(),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap(),
    })
}

#[test]
fn well_known_instants_are_read() {
    assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
    assert_eq!(seconds("2000-02-29T12:00:00Z"), Some(951_825_600));
    assert_eq!(seconds("2026-11-22T05:52:43Z"), Some(1_795_326_763));
    assert_eq!(seconds("2026-11-22T07:22:43+01:30"), Some(1_795_326_763));
    assert_eq!(seconds("2026-11-21T23:52:43-06:00"), Some(1_795_326_763));
    assert_eq!(seconds("1969-12-31T23:59:59Z"), Some(-1));
}

#[test]
fn fractions_are_nanoseconds() {
    let instant = parse("1970-01-01T00:00:01.25Z").unwrap();
    assert_eq!(instant.duration_since(UNIX_EPOCH).unwrap(), Duration::from_millis(1250));
    assert!(parse("1970-01-01T00:00:01.1234567891234+00:00").is_some());
}

#[test]
fn malformed_texts_are_refused() {
    for text in [
        "",
        "tomorrow",
        "2026-11-22",
        "2026-11-22 05:52:43Z",
        "2026-13-22T05:52:43Z",
        "2026-02-29T05:52:43Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T05:52:43",
        "2026-11-22T05:52:43.Z",
        "2026-11-22T05:52:43.5",
        "2026-11-22T05:52:43+0130",
        "2026-11-22T05:52:43+25:00",
        "+026-11-22T05:52:43Z",
        "2026-11-22T05:52:4éZ",
    ] {
        assert_eq!(parse(text), None, "{text:?}");
    }
}
