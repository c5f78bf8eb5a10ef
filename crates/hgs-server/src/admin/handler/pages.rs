//! Pages of lists.

use hgs_admin::AdminError;
use hgs_admin::types::{DigestPageQuery, MAX_PAGE};
use hgs_store::Digest;

/// The entries after a key, and so many of them; all where neither is said. They are in the order of their keys.
pub(super) fn page<T, K: Ord>(
    entries: impl Iterator<Item = T>,
    limit: Option<usize>,
    after: Option<K>,
    key: impl Fn(&T) -> K,
) -> Result<Vec<T>, AdminError> {
    check_limit(limit)?;
    let is_after = |entry: &T| after.as_ref().is_none_or(|after| key(entry) > *after);
    let mut wanted: Vec<T> = entries.filter(is_after).collect();
    wanted.sort_by_cached_key(|entry| key(entry));
    wanted.truncate(limit.unwrap_or(usize::MAX));
    Ok(wanted)
}

/// A page of what has an order of its own as a whole: pages are in the order of the digests that name the entries.
pub(super) fn by_digest<T>(
    entries: Vec<T>,
    wanted: &DigestPageQuery,
    digest_of: impl Fn(&T) -> String,
) -> Result<Vec<T>, AdminError> {
    if *wanted == DigestPageQuery::default() {
        return Ok(entries);
    }
    let after = digest(wanted)?.map(|digest| digest.to_string());
    page(entries.into_iter(), wanted.limit, after, digest_of)
}

/// Whether so many entries may be asked for at once.
pub(super) fn check_limit(limit: Option<usize>) -> Result<(), AdminError> {
    match limit.is_none_or(|limit| (1..=MAX_PAGE).contains(&limit)) {
        true => Ok(()),
        false => Err(AdminError::invalid(format_args!(
            "the limit is 1 to {MAX_PAGE}"
        ))),
    }
}

/// The key of a list that is in the order of digests.
pub(super) fn digest(page: &DigestPageQuery) -> Result<Option<Digest>, AdminError> {
    let after = page.after.as_deref().map(str::parse);
    after.transpose().map_err(AdminError::invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_in_a_row_have_every_entry_once() {
        let entries = || [5, 1, 4, 2, 3].into_iter();
        let after = |after| page(entries(), Some(2), after, |entry| *entry).unwrap();
        assert_eq!(after(None), [1, 2]);
        assert_eq!(after(Some(2)), [3, 4]);
        // What the key named is gone.
        assert_eq!(
            page([1, 4, 5].into_iter(), Some(2), Some(2), |entry| *entry).unwrap(),
            [4, 5]
        );
        assert_eq!(after(Some(4)), [5]);
        assert!(after(Some(5)).is_empty());
        assert_eq!(
            page(entries(), None, None, |entry| *entry).unwrap().len(),
            5
        );
        for limit in [0, MAX_PAGE + 1] {
            assert!(page(entries(), Some(limit), None, |entry| *entry).is_err());
        }
    }

    #[test]
    fn pages_of_digests_have_every_entry_once() {
        let [one, two, three] = ["3c", "a1", "0f"].map(|octet| octet.repeat(32));
        let all = || vec![one.clone(), two.clone(), three.clone()];
        let page = |limit, after: Option<&str>| {
            let wanted = DigestPageQuery {
                limit,
                after: after.map(str::to_owned),
            };
            by_digest(all(), &wanted, Clone::clone).map_err(|error| error.code)
        };
        assert_eq!(page(None, None), Ok(all()));
        assert_eq!(page(Some(2), None), Ok(vec![three.clone(), one.clone()]));
        assert_eq!(
            page(Some(2), Some(&one.to_uppercase())),
            Ok(vec![two.clone()])
        );
        assert_eq!(page(Some(2), Some(&two)), Ok(Vec::new()));
        let invalid = Err(hgs_admin::ErrorCode::InvalidRequest);
        assert_eq!(page(None, Some("a1")), invalid);
        assert_eq!(page(Some(0), None), invalid);
    }
}
