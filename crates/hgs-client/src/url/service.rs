//! The URLs of a service that runs on several nodes.

use std::fmt;
use std::str::FromStr;

use super::{Url, UrlError};

/// Most URLs of one service.
const MAX_URLS: usize = 16;

/// The URLs of one service: one for each node that runs it, as a rule. Any of them can be asked. The first stands for the
/// service where it has to be named, and health certificates are kept under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceUrls(Vec<Url>);

impl ServiceUrls {
    /// These URLs, of which there is one at least.
    ///
    /// # Errors
    /// When there is none, when there are too many, or when one is there twice.
    pub fn new(urls: Vec<Url>) -> Result<Self, UrlError> {
        if urls.is_empty() {
            return Err(UrlError::None);
        }
        if urls.len() > MAX_URLS {
            return Err(UrlError::TooMany(MAX_URLS));
        }
        for (index, url) in urls.iter().enumerate() {
            if urls[..index].contains(url) {
                return Err(UrlError::Twice(url.to_string()));
            }
        }
        Ok(Self(urls))
    }

    /// The first.
    #[must_use]
    pub fn first(&self) -> &Url {
        &self.0[0]
    }

    /// All, in the order in which they were configured.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Url> {
        self.0.iter()
    }

    /// The URLs of something below these; `below` starts with a slash and is a plain path.
    #[must_use]
    pub fn join(&self, below: &'static str) -> Self {
        Self(self.0.iter().map(|url| url.join(below)).collect())
    }
}

impl From<Url> for ServiceUrls {
    fn from(url: Url) -> Self {
        Self(vec![url])
    }
}

/// A service with one URL.
impl FromStr for ServiceUrls {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        text.parse().map(|url| Self(vec![url]))
    }
}

impl fmt::Display for ServiceUrls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, url) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(formatter, "{separator}{url}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_one_to_sixteen_different_urls() {
        let url = |node: usize| -> Url { format!("http://n{node}/A").parse().unwrap() };
        assert_eq!(ServiceUrls::new(vec![]), Err(UrlError::None));
        let all: Vec<_> = (0..=MAX_URLS).map(url).collect();
        assert_eq!(
            ServiceUrls::new(all.clone()),
            Err(UrlError::TooMany(MAX_URLS))
        );
        let most = ServiceUrls::new(all[1..].to_vec()).unwrap();
        assert_eq!((most.first(), most.iter().len()), (&all[1], MAX_URLS));
        let twice = vec![url(1), url(2), "HTTP://N1:80/A/".parse().unwrap()];
        assert_eq!(
            ServiceUrls::new(twice),
            Err(UrlError::Twice("http://n1/A".to_owned()))
        );
    }
}
