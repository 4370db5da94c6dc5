use std::time::{Duration, UNIX_EPOCH};

use super::Rfc3339;

#[test]
fn times_are_written_as_rfc_3339() {
    for (seconds, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (1_795_326_756, "2026-11-22T05:52:36Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
    ] {
        assert_eq!(Rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)).to_string(), text);
    }
}
