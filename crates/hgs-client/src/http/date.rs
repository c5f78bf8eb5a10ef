//! The time in the header `Date`, RFC 9110 section 5.6.7.

use hgs_pki::Time;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Reads the form that is written today, `Sun, 06 Nov 1994 08:49:37 GMT`; `None` for any other.
pub(super) fn read(text: &str) -> Option<Time> {
    let (_, date) = text.split_once(", ")?;
    let parts: Vec<&str> = date.split(' ').collect();
    let [day, month, year, time, "GMT"] = parts[..] else {
        return None;
    };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    format!("{year}-{month:02}-{day}T{time}Z").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 9110, and `date --utc --date='1994-11-06 08:49:37' +%s`.
    #[test]
    fn the_example_of_the_standard() {
        let time = read("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(time.unix(), 784_111_777);
    }

    #[test]
    fn other_forms_are_no_time() {
        for text in [
            "",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
