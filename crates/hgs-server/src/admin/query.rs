//! The query string of `GET /v1/audit`, and a flag of another route, in both directions. Values are names, numbers, times and digests: what RFC 3986
//! lets stand in a query as it is, so nothing is encoded.

use super::AdminError;
use super::types::AuditQuery;

/// The query string of `query`.
pub(super) fn write(query: &AuditQuery) -> Result<String, AdminError> {
    let AuditQuery {
        limit,
        before,
        since,
        until,
        host,
        action,
        outcome,
        protector,
        lineage,
    } = query;
    let pairs = [
        ("limit", limit.map(|limit| limit.to_string())),
        ("before", before.map(|before| before.to_string())),
        ("since", since.clone()),
        ("until", until.clone()),
        ("host", host.clone()),
        ("action", action.clone()),
        ("outcome", outcome.clone()),
        ("protector", protector.clone()),
        ("lineage", lineage.clone()),
    ];
    let mut text = String::new();
    for (key, value) in pairs {
        let Some(value) = value else { continue };
        check(key, &value)?;
        let separator = if text.is_empty() { "" } else { "&" };
        text.push_str(&format!("{separator}{key}={value}"));
    }
    Ok(text)
}

/// Reads a query string; each key may stand there once.
pub(super) fn read(text: &str) -> Result<AuditQuery, AdminError> {
    let mut query = AuditQuery::default();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        check(key, value)?;
        let place = match key {
            "limit" => {
                set(key, &mut query.limit, number(key, value)?)?;
                continue;
            }
            "before" => {
                set(key, &mut query.before, number(key, value)?)?;
                continue;
            }
            "since" => &mut query.since,
            "until" => &mut query.until,
            "host" => &mut query.host,
            "action" => &mut query.action,
            "outcome" => &mut query.outcome,
            "protector" => &mut query.protector,
            "lineage" => &mut query.lineage,
            _ => {
                return Err(AdminError::invalid(format_args!(
                    "there is no filter `{key}`"
                )));
            }
        };
        set(key, place, value.to_owned())?;
    }
    Ok(query)
}

/// The flag of `DELETE /v1/certificates/{item}`.
pub(super) const EVEN_IF_NEEDED: &str = "even_if_needed";

/// The query string with `flag`, if it is set.
pub(super) fn write_flag(flag: &str, is_set: bool) -> String {
    if is_set {
        format!("{flag}=true")
    } else {
        String::new()
    }
}

/// Whether `flag` is set in a query string that has nothing else.
pub(super) fn read_flag(text: &str, flag: &str) -> Result<bool, AdminError> {
    match text.split_once('=') {
        None if text.is_empty() => Ok(false),
        Some((key, "true")) if key == flag => Ok(true),
        Some((key, "false")) if key == flag => Ok(false),
        _ => Err(AdminError::invalid(format_args!(
            "the only thing that can be said is `{flag}=true`"
        ))),
    }
}

fn set<T>(key: &str, place: &mut Option<T>, value: T) -> Result<(), AdminError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(AdminError::invalid(format_args!(
            "the filter `{key}` is given twice"
        ))),
    }
}

fn number<T: std::str::FromStr>(key: &str, value: &str) -> Result<T, AdminError> {
    let number = value.parse();
    number.map_err(|_| AdminError::invalid(format_args!("the filter `{key}` takes a number")))
}

fn check(key: &str, value: &str) -> Result<(), AdminError> {
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-._:".contains(&octet);
    if !value.is_empty() && value.bytes().all(plain) {
        return Ok(());
    }
    Err(AdminError::invalid(format_args!(
        "the filter `{key}` does not take this value"
    )))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ErrorCode;
    use super::*;

    fn value() -> impl Strategy<Value = Option<String>> {
        proptest::option::of("[A-Za-z0-9._:-]{1,12}")
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            limit: Option<usize>,
            before: Option<u64>,
            texts in [value(), value(), value(), value(), value(), value(), value()],
        ) {
            let [since, until, host, action, outcome, protector, lineage] = texts;
            let query = AuditQuery { limit, before, since, until, host, action, outcome, protector, lineage };
            prop_assert_eq!(read(&write(&query).unwrap()).unwrap(), query);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = read(&text);
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_by_name() {
        for text in [
            "limit=x",
            "limit=",
            "limit=1&limit=2",
            "tenant=fabric",
            "host=a%20b",
            "host",
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidRequest, "{text}");
        }
        let unwritable = AuditQuery {
            host: Some("a b&limit=7".to_owned()),
            ..AuditQuery::default()
        };
        assert!(write(&unwritable).is_err());
    }

    #[test]
    fn a_flag_is_set_or_not_and_nothing_else() {
        for is_set in [true, false] {
            let text = write_flag(EVEN_IF_NEEDED, is_set);
            assert_eq!(read_flag(&text, EVEN_IF_NEEDED).unwrap(), is_set);
        }
        for text in ["even_if_needed", "even_if_needed=1", "yes=true", "&"] {
            assert!(read_flag(text, EVEN_IF_NEEDED).is_err(), "{text}");
        }
    }
}
