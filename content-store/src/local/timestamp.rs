//! Moments as Go writes them into text files: RFC 3339 with up to nine digits after the point.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECONDS_PER_DAY: i64 = 86_400;

/// The days from year 0 to 1970, counted in years that begin in March.
const DAYS_TO_EPOCH: i64 = 719_468;

/// Writes a moment in UTC. Moments before 1970 are written as its beginning.
pub(crate) fn write(time: SystemTime) -> String {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
    let (year, month, day) = date_of(seconds / SECONDS_PER_DAY);
    let second = seconds % SECONDS_PER_DAY;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since_epoch.subsec_nanos()
    )
}

/// Reads a moment; `None` if the text is none, or lies before 1970.
pub(crate) fn read(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    if !text.is_ascii() || text.len() < "2000-01-01T00:00:00Z".len() {
        return None;
    }
    let (moment, rest) = text.split_at("2000-01-01T00:00:00".len());
    let number =
        |range: std::ops::Range<usize>, most: i64| digits(&moment[range]).filter(|number| *number <= most);
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, wanted)| moment.as_bytes()[*at] != *wanted) {
        return None;
    }
    let (year, month, day) = (number(0..4, 9999)?, number(5..7, 12)?, number(8..10, 31)?);
    let (hour, minute, second) = (number(11..13, 23)?, number(14..16, 59)?, number(17..19, 59)?);
    let (nanos, zone) = fraction(rest)?;
    let days = days_of(year, month.max(1), day.max(1));
    let seconds = days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second - zone_seconds(zone)?;
    Some(UNIX_EPOCH + Duration::new(u64::try_from(seconds).ok()?, nanos))
}

/// The nanoseconds at the beginning of `rest`, and what follows them.
fn fraction(rest: &str) -> Option<(u32, &str)> {
    let Some(after_point) = rest.strip_prefix('.') else { return Some((0, rest)) };
    let end = after_point.find(|character: char| !character.is_ascii_digit())?;
    let (written, zone) = after_point.split_at(end);
    if !(1..=9).contains(&written.len()) {
        return None;
    }
    Some((format!("{written:0<9}").parse().ok()?, zone))
}

/// The seconds that a zone (`Z`, `+01:30`) is ahead of UTC.
fn zone_seconds(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    Some(sign * (digits(hours)? * 3600 + digits(minutes)? * 60))
}

fn digits(text: &str) -> Option<i64> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// The days since 1970. Years begin in March, so that a leap day is the last of its year; 400 of them are one era.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - DAYS_TO_EPOCH
}

/// The inverse of [`days_of`].
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_TO_EPOCH;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests;
