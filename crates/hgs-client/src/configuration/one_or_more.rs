//! A value that is one text or a list of texts.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::url::ServiceUrls;

/// The URLs of a service as the file has them. One is written as one, so that earlier programs read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OneOrMore(pub(super) Vec<String>);

impl From<&ServiceUrls> for OneOrMore {
    fn from(urls: &ServiceUrls) -> Self {
        Self(urls.iter().map(ToString::to_string).collect())
    }
}

impl Serialize for OneOrMore {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [one] => one.serialize(serializer),
            more => more.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UrlOrList)
    }
}

struct UrlOrList;

impl<'de> Visitor<'de> for UrlOrList {
    type Value = OneOrMore;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a URL or a list of URLs")
    }

    fn visit_str<E>(self, text: &str) -> Result<OneOrMore, E> {
        Ok(OneOrMore(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMore, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok(OneOrMore(texts))
    }
}
