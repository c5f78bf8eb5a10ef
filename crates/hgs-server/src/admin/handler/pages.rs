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
}
