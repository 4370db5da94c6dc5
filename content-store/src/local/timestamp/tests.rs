use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::{read, write};

#[test]
fn moments_are_written_as_go_writes_them() {
    assert_eq!(write(UNIX_EPOCH), "1970-01-01T00:00:00.000000000Z");
    assert_eq!(write(UNIX_EPOCH + Duration::new(951_782_400, 5)), "2000-02-29T00:00:00.000000005Z");
    assert_eq!(write(UNIX_EPOCH + Duration::from_secs(4_102_444_799)), "2099-12-31T23:59:59.000000000Z");
}

#[test]
fn zones_and_short_fractions_are_read() {
    let moment = UNIX_EPOCH + Duration::new(1_785_585_601, 500_000_000);
    for text in ["2026-08-01T12:00:01.5Z", "2026-08-01T14:00:01.500+02:00\n", "2026-08-01T10:30:01.5-01:30"] {
        assert_eq!(read(text), Some(moment), "{text}");
    }
}

#[test]
fn what_is_no_moment_is_nothing() {
    for text in [
        "",
        "now",
        "2026-08-01",
        "2026-13-01T00:00:00Z",
        "2026-08-01 00:00:00Z",
        "2026-08-01T00:00:00",
        "2026-08-01T00:00:00.Z",
        "2026-08-01T00:00:00.0123456789Z",
        "2026-08-01T00:00:00+1:00",
        "1969-12-31T23:59:59Z",
        "２026-08-01T00:00:00Z",
    ] {
        assert_eq!(read(text), None, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(seconds in 0_u64..253_402_300_800, nanos in 0_u32..1_000_000_000) {
        let moment = UNIX_EPOCH + Duration::new(seconds, nanos);
        prop_assert_eq!(read(&write(moment)), Some(moment));
    }

    #[test]
    fn no_text_makes_it_panic(text in "[0-9TZ:.+-]{0,40}|\\PC{0,30}") {
        let _either_way = read(&text);
    }
}
