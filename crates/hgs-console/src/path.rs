//! Paths of the console, which are all that links and forms lead to.

use std::fmt;

use hgs_admin::is_plain;
use maud::{Escaper, Render};
use serde::Serialize;

use crate::notice::Notice;

/// A path of this console: it begins with one `/`, and every character in it can stand in a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// The first screen.
    #[must_use]
    pub fn start() -> Self {
        Self("/".to_owned())
    }

    /// A path that has no place for anything that varies.
    #[must_use]
    pub(crate) fn fixed(path: &'static str) -> Self {
        debug_assert!(path.starts_with('/') && !path.starts_with("//"));
        Self(path.to_owned())
    }

    /// `pattern` with `segment` in the place of its braces; `None` if the segment can't stand in a path.
    #[must_use]
    pub(crate) fn below(pattern: &'static str, segment: &str) -> Option<Self> {
        let (before, rest) = pattern.split_once('{')?;
        let (_, after) = rest.split_once('}')?;
        is_plain(segment).then(|| Self([before, segment, after].concat()))
    }

    /// The path of something that was made just now, whose name is in `text`.
    pub(crate) fn or_start(path: Option<Self>) -> Self {
        path.unwrap_or_else(Self::start)
    }

    /// The same with a query.
    #[must_use]
    pub(crate) fn with_query(&self, query: &impl Serialize) -> Self {
        match serde_urlencoded::to_string(query) {
            Ok(query) if !query.is_empty() => Self(format!("{}?{query}", self.0)),
            _ => self.clone(),
        }
    }

    /// The same with what was done, which the page there says.
    #[must_use]
    pub fn with_notice(&self, notice: Notice) -> Self {
        let separator = if self.0.contains('?') { '&' } else { '?' };
        Self(format!("{}{separator}notice={notice}", self.0))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Render for Path {
    fn render_to(&self, buffer: &mut String) {
        let _ = fmt::Write::write_str(&mut Escaper::new(buffer), &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_stand_in_a_path_is_in_none() {
        let path = |segment| Path::below("/hosts/{host}/revoke", segment);
        assert_eq!(path("node-1").unwrap().as_str(), "/hosts/node-1/revoke");
        for hostile in [
            "",
            "..",
            "a/b",
            "a?b",
            "a#b",
            "\"><script>",
            "javascript:x",
            "a b",
            "%2e",
        ] {
            assert_eq!(path(hostile), None, "{hostile}");
        }
        let query = [("after", "a&b=\"<")];
        let path = Path::fixed("/hosts").with_query(&query);
        assert_eq!(path.as_str(), "/hosts?after=a%26b%3D%22%3C");
    }
}
