//! Durations and sizes as people write them: `"30s"`, `"8h"`, `"512KiB"`.
//!
//! Each key states its bounds in the type that it deserialises with, so that a value out of range
//! is refused with the line it stands on.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serializer};

/// Milliseconds in a second, for the bounds of [`period`].
pub(super) const SECOND: u64 = 1000;
/// Milliseconds in a minute.
pub(super) const MINUTE: u64 = 60 * SECOND;
/// Milliseconds in an hour.
pub(super) const HOUR: u64 = 60 * MINUTE;
/// Milliseconds in a day.
pub(super) const DAY: u64 = 24 * HOUR;

/// Octets in a kibibyte, for the bounds of [`size`].
pub(super) const KIBIBYTE: u64 = 1024;
/// Octets in a mebibyte.
pub(super) const MEBIBYTE: u64 = 1024 * KIBIBYTE;
/// Octets in a gibibyte.
pub(super) const GIBIBYTE: u64 = 1024 * MEBIBYTE;

/// Units of time from the largest down, so that the first that divides a period is its spelling.
const TIME_UNITS: [(&str, u64); 5] = [
    ("d", DAY),
    ("h", HOUR),
    ("min", MINUTE),
    ("s", SECOND),
    ("ms", 1),
];

/// Units of size from the largest down.
const SIZE_UNITS: [(&str, u64); 4] = [
    ("GiB", GIBIBYTE),
    ("MiB", MEBIBYTE),
    ("KiB", KIBIBYTE),
    ("B", 1),
];

/// Periods: a number with a unit.
pub(super) mod period {
    use super::*;

    /// Reads a period of `LEAST` to `MOST` milliseconds.
    pub(in crate::config) fn between<'de, D, const LEAST: u64, const MOST: u64>(
        deserializer: D,
    ) -> Result<Duration, D::Error>
    where
        D: Deserializer<'de>,
    {
        let text = String::deserialize(deserializer)?;
        let milliseconds = read(&text, &TIME_UNITS).ok_or_else(|| {
            de::Error::custom(format_args!(
                "`{text}` is no period; write a number and one of ms, s, min, h, d, such as \"30s\""
            ))
        })?;
        if !(LEAST..=MOST).contains(&milliseconds) {
            return Err(de::Error::custom(format_args!(
                "`{text}` is out of range; least {}, most {}",
                write(LEAST, &TIME_UNITS),
                write(MOST, &TIME_UNITS)
            )));
        }
        Ok(Duration::from_millis(milliseconds))
    }

    /// Writes a period in the largest unit that divides it.
    pub(in crate::config) fn serialize<S: Serializer>(
        period: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let milliseconds = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
        serializer.serialize_str(&write(milliseconds, &TIME_UNITS))
    }
}

/// Sizes: octets, plain or with a binary unit.
pub(super) mod size {
    use super::*;

    /// Reads a size of `LEAST` to `MOST` octets.
    pub(in crate::config) fn between<'de, D, const LEAST: u64, const MOST: u64>(
        deserializer: D,
    ) -> Result<usize, D::Error>
    where
        D: Deserializer<'de>,
    {
        let octets = deserializer.deserialize_any(SizeVisitor)?;
        usize::try_from(octets)
            .ok()
            .filter(|_| (LEAST..=MOST).contains(&octets))
            .ok_or_else(|| {
                de::Error::custom(format_args!(
                    "{} is out of range; least {}, most {}",
                    write(octets, &SIZE_UNITS),
                    write(LEAST, &SIZE_UNITS),
                    write(MOST, &SIZE_UNITS)
                ))
            })
    }

    /// Writes a size in the largest unit that divides it.
    pub(in crate::config) fn serialize<S: Serializer>(
        octets: &usize,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&write(
            u64::try_from(*octets).unwrap_or(u64::MAX),
            &SIZE_UNITS,
        ))
    }

    struct SizeVisitor;

    impl Visitor<'_> for SizeVisitor {
        type Value = u64;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a number of octets, or a size such as \"512KiB\"")
        }

        fn visit_i64<E: de::Error>(self, octets: i64) -> Result<u64, E> {
            u64::try_from(octets)
                .map_err(|_| E::invalid_value(de::Unexpected::Signed(octets), &self))
        }

        fn visit_u64<E: de::Error>(self, octets: u64) -> Result<u64, E> {
            Ok(octets)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
            read(text, &SIZE_UNITS)
                .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }
}

/// Reads a whole number from `LEAST` to `MOST`.
pub(super) fn count_between<'de, D, const LEAST: usize, const MOST: usize>(
    deserializer: D,
) -> Result<usize, D::Error>
where
    D: Deserializer<'de>,
{
    let count = usize::deserialize(deserializer)?;
    if !(LEAST..=MOST).contains(&count) {
        return Err(de::Error::custom(format_args!(
            "{count} is out of range; least {LEAST}, most {MOST}"
        )));
    }
    Ok(count)
}

/// Reads a period of time as the configuration writes it, such as `30s` or `24h`.
#[must_use]
pub fn parse_period(text: &str) -> Option<Duration> {
    read(text, &TIME_UNITS).map(Duration::from_millis)
}

/// A whole number, then one of `units`; no sign, no fraction, white space only between the two.
fn read(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn write(quantity: u64, units: &[(&str, u64)]) -> String {
    units
        .iter()
        .find(|(_, factor)| quantity != 0 && quantity.is_multiple_of(*factor))
        .or_else(|| units.last())
        .map_or_else(String::new, |(name, factor)| {
            format!("{}{name}", quantity / factor)
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn periods_are_read_in_every_unit_and_nothing_else() {
        for (text, milliseconds) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("5 min", 300_000),
            ("8h", 28_800_000),
            ("30d", 2_592_000_000),
        ] {
            assert_eq!(read(text, &TIME_UNITS), Some(milliseconds), "{text}");
        }
        for text in [
            "",
            "30",
            "s",
            "-1s",
            "1.5h",
            "1 day",
            "+3s",
            "99999999999999999999s",
            "9999999999999999d",
        ] {
            assert_eq!(read(text, &TIME_UNITS), None, "{text}");
        }
    }

    #[test]
    fn the_largest_unit_that_divides_is_written() {
        assert_eq!(write(28_800_000, &TIME_UNITS), "8h");
        assert_eq!(write(90_000, &TIME_UNITS), "90s");
        assert_eq!(write(0, &TIME_UNITS), "0ms");
        assert_eq!(write(524_288, &SIZE_UNITS), "512KiB");
        assert_eq!(write(1000, &SIZE_UNITS), "1000B");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(quantity: u64) {
            prop_assert_eq!(read(&write(quantity, &TIME_UNITS), &TIME_UNITS), Some(quantity));
            prop_assert_eq!(read(&write(quantity, &SIZE_UNITS), &SIZE_UNITS), Some(quantity));
        }
    }
}
