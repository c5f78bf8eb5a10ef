//! Points in time as arguments: seconds since the Unix epoch, written as RFC 3339.

use std::fmt;
use std::str::FromStr;

/// A point in time in UTC, to the second, within the years 0000 to 9999 that RFC 3339 can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(u64);

/// The text is not a date and time of RFC 3339 to the second, such as `2026-11-21T19:00:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a time to the second in the form of RFC 3339, such as 2026-11-21T19:00:00Z")]
pub struct TimeError;

impl Time {
    /// The start of the year 0000.
    pub const MIN: Self = Self(-62_167_219_200);
    /// The last second of the year 9999.
    pub const MAX: Self = Self(253_402_300_799);

    /// From seconds since 1970-01-01T00:00:00Z; what lies outside [`Self::MIN`] to [`Self::MAX`]
    /// becomes the nearer of the two.
    #[must_use]
    pub const fn from_unix(seconds: i64) -> Self {
        if seconds < Self::MIN.0 {
            Self::MIN
        } else if seconds > Self::MAX.0 {
            Self::MAX
        } else {
            Self(seconds)
        }
    }

    /// Seconds since 1970-01-01T00:00:00Z, negative before it.
    #[must_use]
    pub const fn unix(self) -> i64 {
        self.0
    }

    /// This time and `seconds` more; `None` after the year 9999.
    #[must_use]
    pub fn checked_add(self, seconds: Seconds) -> Option<Self> {
        let sum = self.0.checked_add_unsigned(seconds.0)?;
        (sum <= Self::MAX.0).then_some(Self(sum))
    }

    /// This time and `seconds` less; `None` before the year 0000.
    #[must_use]
    pub fn checked_sub(self, seconds: Seconds) -> Option<Self> {
        let difference = self.0.checked_sub_unsigned(seconds.0)?;
        (difference >= Self::MIN.0).then_some(Self(difference))
    }

    /// How long ago `earlier` was; `None` when it lies in the future.
    #[must_use]
    pub fn since(self, earlier: Self) -> Option<Seconds> {
        u64::try_from(self.0 - earlier.0).ok().map(Seconds)
    }
}

impl Seconds {
    /// A number of seconds.
    #[must_use]
    pub const fn new(seconds: u64) -> Self {
        Self(seconds)
    }

    /// A number of minutes.
    #[must_use]
    pub const fn from_minutes(minutes: u32) -> Self {
        Self(minutes as u64 * 60)
    }

    /// A number of hours.
    #[must_use]
    pub const fn from_hours(hours: u32) -> Self {
        Self(hours as u64 * 3_600)
    }

    /// A number of days of 24 hours.
    #[must_use]
    pub const fn from_days(days: u32) -> Self {
        Self(days as u64 * SECONDS_PER_DAY as u64)
    }

    /// The number of seconds.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

const SECONDS_PER_DAY: i64 = 86_400;

impl fmt::Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date_from_days(self.0.div_euclid(SECONDS_PER_DAY));
        let second = self.0.rem_euclid(SECONDS_PER_DAY);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(
            formatter,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

impl FromStr for Time {
    type Err = TimeError;

    /// Reads `date-time` of RFC 3339 section 5.6 with `Z` or a numeric offset. A fraction of a
    /// second and a leap second are refused, since neither survives being written again.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        parse(text.as_bytes()).ok_or(TimeError)
    }
}

impl Time {
    /// Reads a time as people write it to an option: as [`FromStr`](Self::from_str) does, and also a date alone (its
    /// beginning, in UTC), a space in place of the `T`, and an offset without a colon. A fraction of a second is left away.
    ///
    /// # Errors
    /// When it is none of these; a time without a date or an offset is not guessed.
    pub fn from_option(text: &str) -> Result<Self, TimeError> {
        let text = text.trim();
        let (date, rest) = text.split_at_checked(10).ok_or(TimeError)?;
        let Some(time) = rest.strip_prefix(['T', 't', ' ']) else {
            return match rest {
                "" => format!("{date}T00:00:00Z").parse(),
                _ => Err(TimeError),
            };
        };
        let (time, after) = time.split_at_checked(8).ok_or(TimeError)?;
        let offset = match after.strip_prefix('.') {
            Some(fraction) => {
                let offset = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
                (offset.len() < fraction.len())
                    .then_some(offset)
                    .ok_or(TimeError)?
            }
            None => after,
        };
        let offset = offset.trim_start();
        let colon = match offset.split_at_checked(3) {
            Some((hours, minutes)) if minutes.len() == 2 => format!("{hours}:{minutes}"),
            _ => offset.to_owned(),
        };
        format!("{date}T{time}{colon}").parse()
    }
}

fn parse(text: &[u8]) -> Option<Time> {
    let (date_and_time, offset) = text.split_at_checked(19)?;
    let [date @ .., b'T' | b't', _, _, _, _, _, _, _, _] = date_and_time else {
        return None;
    };
    let [y @ .., b'-', mo1, mo2, b'-', d1, d2] = date else {
        return None;
    };
    let [h1, h2, b':', m1, m2, b':', s1, s2] = date_and_time.last_chunk::<8>()? else {
        return None;
    };
    let (year, month) = (number(y)?, number(&[*mo1, *mo2])?);
    let day = within(number(&[*d1, *d2])?, 1, days_in_month(year, month)?)?;
    let second = within(number(&[*h1, *h2])?, 0, 23)? * 3_600
        + within(number(&[*m1, *m2])?, 0, 59)? * 60
        + within(number(&[*s1, *s2])?, 0, 59)?;
    let local = days_from_date(year, month, day) * SECONDS_PER_DAY + second;
    let unix = local - parse_offset(offset)?;
    (Time::MIN.0..=Time::MAX.0)
        .contains(&unix)
        .then_some(Time(unix))
}

fn parse_offset(text: &[u8]) -> Option<i64> {
    match text {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let seconds = within(number(&[*h1, *h2])?, 0, 23)? * 3_600
                + within(number(&[*m1, *m2])?, 0, 59)? * 60;
            Some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        Some(value * 10 + i64::from(digit))
    })
}

fn within(value: i64, least: i64, most: i64) -> Option<i64> {
    (least..=most).contains(&value).then_some(value)
}

fn days_in_month(year: i64, month: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if leap { 29 } else { 28 }),
        _ => None,
    }
}

// The calendar repeats every 400 years of 146,097 days. Years are counted from 1 March, so that
// the leap day is the last of its year; day 0 of the arithmetic is 0000-03-01, which is 719,468
// days before the epoch.
const DAYS_PER_ERA: i64 = 146_097;
const DAYS_TO_EPOCH: i64 = 719_468;

fn days_from_date(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_PER_ERA + day_of_era - DAYS_TO_EPOCH
}

fn date_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_TO_EPOCH;
    let (era, day_of_era) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use der::DateTime;
    use proptest::prelude::*;

    use super::*;

    // The examples of RFC 3339 section 5.8 that have neither fractions nor leap seconds, and
    // points that anybody can look up.
    #[test]
    fn options_take_times_as_people_write_them() {
        let expected: Time = "2026-01-01T00:00:00Z".parse().unwrap();
        for text in [
            "2026-01-01",
            "2026-01-01T00:00:00Z",
            "2026-01-01 00:00:00z",
            "2026-01-01T01:00:00+01:00",
            "2026-01-01 01:00:00 +0100",
            "2025-12-31T18:30:00.999-05:30",
            " 2026-01-01 ",
        ] {
            assert_eq!(Time::from_option(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "2026",
            "2026-01-01T",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00Z",
            "2026-13-01",
            "2026-01-01X",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+1",
            "\u{e9}2026-01-01",
            "yesterday",
        ] {
            assert!(Time::from_option(text).is_err(), "{text}");
        }
    }

    #[test]
    fn known_times() {
        for (text, unix) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59Z", -1),
            ("2001-09-09T01:46:40Z", 1_000_000_000),
            ("2038-01-19T03:14:08Z", 1 << 31),
            ("1996-12-19T16:39:57-08:00", 851_042_397),
            ("1996-12-20T00:39:57Z", 851_042_397),
            ("1937-01-01T12:00:27+00:20", -1_041_337_173),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("0000-01-01T00:00:00Z", Time::MIN.unix()),
            ("9999-12-31T23:59:59Z", Time::MAX.unix()),
        ] {
            assert_eq!(text.parse(), Ok(Time::from_unix(unix)), "{text}");
        }
        let lower = "2026-11-21t19:00:00z".parse::<Time>().unwrap();
        assert_eq!(lower.to_string(), "2026-11-21T19:00:00Z");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "2026-11-21",
            "2026-11-21T19:00:00",
            "2026-11-21 19:00:00Z",
            "2026-11-21T19:00Z",
            "2026-11-21T19:00:00.5Z",
            "2016-12-31T23:59:60Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T19:60:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-11-31T00:00:00Z",
            "2026-11-00T00:00:00Z",
            "2025-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2026-11-21T19:00:00+0100",
            "2026-11-21T19:00:00+24:00",
            "2026-11-21T19:00:00+01:00Z",
            "2026-11-21T19:00:00Z ",
            " 2026-11-21T19:00:00Z",
            "+026-11-21T19:00:00Z",
            "2026-1\u{0661}-21T19:00:00Z",
            "0000-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
        ] {
            assert_eq!(text.parse::<Time>(), Err(TimeError), "{text:?}");
        }
    }

    #[test]
    fn arithmetic_stays_within_the_years_that_can_be_written() {
        let second = Seconds::new(1);
        assert_eq!(Time::MAX.checked_add(second), None);
        assert_eq!(Time::MIN.checked_sub(second), None);
        assert_eq!(Time::MAX.checked_add(Seconds::new(u64::MAX)), None);
        assert_eq!(Time::MIN.checked_sub(Seconds::new(u64::MAX)), None);
        assert_eq!(Time::from_unix(i64::MAX), Time::MAX);
        assert_eq!(Time::from_unix(i64::MIN), Time::MIN);
        let day = Time::from_unix(0)
            .checked_add(Seconds::from_days(1))
            .unwrap();
        assert_eq!(day.since(Time::from_unix(0)), Some(Seconds::from_hours(24)));
        assert_eq!(Time::from_unix(0).since(day), None);
        assert_eq!(Seconds::from_minutes(5).get(), 300);
    }

    #[test]
    fn another_calendar_agrees_about_the_end_of_each_february() {
        for year in 1970..=9999 {
            let march: Time = format!("{year}-03-01T00:00:00Z").parse().unwrap();
            let february = march.checked_sub(Seconds::new(1)).unwrap();
            for time in [february, march] {
                let since = std::time::Duration::from_secs(time.unix().unsigned_abs());
                let theirs = DateTime::from_unix_duration(since).unwrap();
                assert_eq!(time.to_string(), theirs.to_string());
            }
        }
    }

    proptest! {
        #[test]
        fn every_time_survives_being_written(unix in Time::MIN.0..=Time::MAX.0) {
            let time = Time::from_unix(unix);
            prop_assert_eq!(time.to_string().parse(), Ok(time));
        }

        #[test]
        fn another_calendar_agrees(unix in 0..=Time::MAX.0) {
            let since = std::time::Duration::from_secs(unix.unsigned_abs());
            let theirs = DateTime::from_unix_duration(since).unwrap();
            prop_assert_eq!(Time::from_unix(unix).to_string(), theirs.to_string());
        }

        #[test]
        fn texts_are_ordered_as_times_are(one in any::<i64>(), other in any::<i64>()) {
            let (one, other) = (Time::from_unix(one), Time::from_unix(other));
            prop_assert_eq!(one.cmp(&other), one.to_string().cmp(&other.to_string()));
        }

        #[test]
        fn offsets_only_move_the_clock(unix in 0..4_000_000_000_i64, minutes in -1439..1440_i64) {
            let local = Time::from_unix(unix + minutes * 60).to_string();
            let sign = if minutes < 0 { '-' } else { '+' };
            let (hours, rest) = (minutes.abs() / 60, minutes.abs() % 60);
            let text = format!("{}{sign}{hours:02}:{rest:02}", local.trim_end_matches('Z'));
            prop_assert_eq!(text.parse(), Ok(Time::from_unix(unix)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = text.parse::<Time>();
        }

        #[test]
        fn adding_and_taking_away_agree(unix in any::<i64>(), seconds in any::<u64>()) {
            let (time, seconds) = (Time::from_unix(unix), Seconds::new(seconds));
            if let Some(later) = time.checked_add(seconds) {
                prop_assert_eq!(later.since(time), Some(seconds));
                prop_assert_eq!(later.checked_sub(seconds), Some(time));
            }
        }
    }
}
