//! References that hold only while a condition about their target does (G15).
//!
//! A label `containerd.io/gc.cond.snapshot.<snapshotter>` of an image or a blob says
//! `usedat<op><duration>[,...]|<snapshot key>`, and the snapshot says in `containerd.io/gc.cond.value-usedat` when it was
//! used. One condition that holds is enough.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use corten_types::Labels;

use crate::{
    node::{Node, gc_labels},
    rfc3339,
};

const SNAPSHOT: &str = "containerd.io/gc.cond.snapshot";
const USED_AT: &str = "containerd.io/gc.cond.value-usedat";

/// A reference to a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conditional {
    pub(super) target: Node,
    conditions: Vec<Condition>,
}

/// A time since the snapshot was used, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Within(i128),
    LongerAgoThan(i128),
}

impl Conditional {
    /// Whether the snapshot with these labels is referred to at `now`.
    pub(super) fn holds(&self, snapshot: &Labels, now: SystemTime) -> bool {
        let Some(used_at) = snapshot.get(USED_AT).and_then(|text| rfc3339::parse(text)) else { return false };
        let since = nanoseconds(now) - nanoseconds(used_at);
        self.conditions.iter().any(|condition| match *condition {
            Condition::Within(limit) => since < limit,
            Condition::LongerAgoThan(limit) => since > limit,
        })
    }
}

/// The conditional references of something with these labels. What cannot be read refers to nothing.
pub(super) fn references(namespace: &Arc<str>, labels: &Labels) -> Vec<Conditional> {
    let conditional = |(key, value): (&str, &str)| {
        let snapshotter = key.strip_prefix(SNAPSHOT)?.strip_prefix(['.', '/'])?;
        let snapshotter = snapshotter.split_once('/').map_or(snapshotter, |(name, _)| name);
        let (conditions, key) = value.split_once('|')?;
        let conditions: Vec<_> = conditions.split(',').filter_map(condition).collect();
        let target = Node::snapshot(namespace, snapshotter, key);
        (!conditions.is_empty()).then_some(Conditional { target, conditions })
    };
    gc_labels(labels).filter_map(conditional).collect()
}

fn condition(text: &str) -> Option<Condition> {
    let rest = text.strip_prefix("usedat")?;
    match rest.split_at_checked(1)? {
        ("<", limit) => duration(limit).map(Condition::Within),
        (">", limit) => duration(limit).map(Condition::LongerAgoThan),
        _ => None,
    }
}

/// A duration as Go writes it: `72h`, `1h30m`, `-1.5s`.
fn duration(text: &str) -> Option<i128> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|digits| *digits > 0)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let unit = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * unit;
        rest = tail;
    }
    #[expect(clippy::cast_possible_truncation, reason = "it was compared with what fits")]
    let total = (!text.is_empty() && total < i64::MAX as f64).then_some(total as i128)?;
    Some(if negative { -total } else { total })
}

fn nanoseconds(instant: SystemTime) -> i128 {
    let signed = |nanos: u128| i128::try_from(nanos).unwrap_or(i128::MAX);
    match instant.duration_since(UNIX_EPOCH) {
        Ok(since) => signed(since.as_nanos()),
        Err(before) => -signed(before.duration().as_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(key: &str, value: &str) -> Vec<Conditional> {
        references(&"ns".into(), &Labels::from([(key.to_owned(), value.to_owned())]))
    }

    #[test]
    fn labels_name_conditions_and_a_snapshot() {
        let target = Node::snapshot(&"ns".into(), "overlayfs", "key|with,bars");
        for key in
            ["gc.cond.snapshot.overlayfs", "gc.cond.snapshot/overlayfs", "gc.cond.snapshot.overlayfs/name"]
        {
            let found = read(&format!("containerd.io/{key}"), "usedat<1h,usedat>2h,other<1h|key|with,bars");
            let hour = 3_600_000_000_000;
            let conditions = vec![Condition::Within(hour), Condition::LongerAgoThan(2 * hour)];
            assert_eq!(found, [Conditional { target: target.clone(), conditions }], "{key}");
        }
        for (key, value) in [
            ("gc.cond.snapshotoverlayfs", "usedat<1h|key"),
            ("gc.cond.snapshot.overlayfs", "usedat<1h"),
            ("gc.cond.snapshot.overlayfs", "usedat=1h|key"),
            ("gc.cond.snapshot.overlayfs", "usedat<=1h|key"),
            ("gc.cond.snapshot.overlayfs", "usedat<soon|key"),
            ("gc.cond.snapshot.overlayfs", "usedat|key"),
            ("gc.cond.snapshot.overlayfs", "|key"),
        ] {
            assert_eq!(read(&format!("containerd.io/{key}"), value), [], "{key}={value}");
        }
    }

    #[test]
    fn durations_are_those_of_go() {
        let second = 1_000_000_000;
        for (text, expected) in [
            ("1s", Some(second)),
            ("1h30m", Some(5400 * second)),
            ("1.5s", Some(3 * second / 2)),
            ("-2ms", Some(-2_000_000)),
            ("+1ns", Some(1)),
            ("1us1µs", Some(2000)),
            ("0", Some(0)),
            ("", None),
            ("1", None),
            ("h", None),
            ("1d", None),
            ("1 h", None),
            ("99999999999h", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[test]
    fn one_condition_that_holds_is_enough() {
        let used = Labels::from([(USED_AT.to_owned(), "2026-01-01T00:00:00Z".to_owned())]);
        let now = rfc3339::parse("2026-01-01T01:00:00Z").expect("a time");
        let holds = |value: &str, snapshot: &Labels| {
            read("containerd.io/gc.cond.snapshot.native", value)[0].holds(snapshot, now)
        };
        for (value, expected) in [
            ("usedat<2h|k", true),
            ("usedat<1h|k", false),
            ("usedat>1h|k", false),
            ("usedat>30m|k", true),
            ("usedat<1m,usedat>59m|k", true),
            ("usedat<1m,usedat>2h|k", false),
        ] {
            assert_eq!(holds(value, &used), expected, "{value}");
        }
        assert!(!holds("usedat<2h|k", &Labels::new()), "it does not say when it was used");
        let later = now + Duration::from_secs(7200);
        let unread = read("containerd.io/gc.cond.snapshot.native", "usedat<2h|k");
        assert!(!unread[0].holds(&used, later));
    }
}
