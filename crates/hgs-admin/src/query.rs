//! Query strings: `application/x-www-form-urlencoded`, as browsers and `curl --data-urlencode` write them. One rule
//! differs: a `+` is a plus sign, as in `2026-01-01T00:00:00+02:00`; a space is written `%20`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::AdminError;

pub(crate) fn write(query: &impl Serialize) -> Result<String, AdminError> {
    let query = serde_urlencoded::to_string(query).map_err(AdminError::invalid)?;
    Ok(query.replace('+', "%20"))
}

/// Reads a query string; a key that is unknown or stands there twice is an error.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, AdminError> {
    let query = serde_urlencoded::from_str(&text.replace('+', "%2B"));
    query.map_err(|error| AdminError::invalid(format_args!("query: {error}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorCode;
    use crate::types::{AuditQuery, Outcome, RemoveCertificate, RequestId};

    fn value() -> impl Strategy<Value = Option<String>> {
        proptest::option::of(".{1,12}")
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            limit: Option<usize>,
            before: Option<u64>,
            refused: bool,
            request in proptest::option::of((any::<u32>(), 1..1_000_000_u64)),
            texts in [value(), value(), value(), value(), value()],
        ) {
            let [since, until, host, protector, lineage] = texts;
            let query = AuditQuery {
                limit, before, since, until, host, protector, lineage,
                request: request.map(|(run, sequence)| RequestId { run, sequence }),
                outcome: refused.then_some(Outcome::Refused),
                action: Some("release".parse().unwrap()),
            };
            prop_assert_eq!(read::<AuditQuery>(&write(&query).unwrap()).unwrap(), query);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = read::<AuditQuery>(&text);
            let _ = read::<RemoveCertificate>(&text);
        }
    }

    #[test]
    fn an_offset_needs_no_encoding() {
        let query: AuditQuery = read("since=2026-01-01T00:00:00+02:00").unwrap();
        assert_eq!(query.since.as_deref(), Some("2026-01-01T00:00:00+02:00"));
        let encoded: AuditQuery = read("since=2026-01-01T00%3A00%3A00%2B02%3A00").unwrap();
        assert_eq!(encoded, query);
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for text in [
            "limit=x",
            "limit=",
            "limit=1&limit=2",
            "tenant=fabric",
            "outcome=perhaps",
            "request=17",
        ] {
            let error = read::<AuditQuery>(text).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidRequest, "{text}");
        }
    }

    #[test]
    fn a_flag_is_set_or_not_and_nothing_else() {
        for even_if_needed in [true, false] {
            let query = RemoveCertificate { even_if_needed };
            let text = write(&query).unwrap();
            assert_eq!(read::<RemoveCertificate>(&text).unwrap(), query);
        }
        assert_eq!(
            read::<RemoveCertificate>("").unwrap(),
            RemoveCertificate::default()
        );
        for text in ["even_if_needed", "even_if_needed=1", "yes=true"] {
            assert!(read::<RemoveCertificate>(text).is_err(), "{text}");
        }
    }
}
