//! A strict reader of JSON (RFC 8259) within budgets.
//!
//! Two readers of one document must not see two things, so a member that stands twice in one object is refused
//! anywhere in the document, also inside members that are ignored. `__type`, where it stands, comes first, as readers of
//! .NET demand it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// What a JSON document may cost before it is refused; each limit has a [`JsonError`] of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonLimits {
    /// Octets of the document.
    pub octets: usize,
    /// Arrays and objects open at once. Below the recursion limit of the parser, which is 128.
    pub depth: usize,
    /// Values in all: an array of three numbers counts four.
    pub values: usize,
    /// Members of one object, because each is compared with those before it.
    pub members: usize,
}

/// Why octets were refused before anything was looked for in them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// More octets than [`JsonLimits::octets`].
    #[error("the document has {found} octets, more than {limit}")]
    TooManyOctets {
        /// The limit.
        limit: usize,
        /// The size of the document.
        found: usize,
    },
    /// Arrays and objects nest deeper than [`JsonLimits::depth`].
    #[error("arrays and objects nest deeper than {limit} levels")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// More values than [`JsonLimits::values`].
    #[error("the document has more than {limit} values")]
    TooManyValues {
        /// The limit.
        limit: usize,
    },
    /// More members in one object than [`JsonLimits::members`].
    #[error("an object has more than {limit} members")]
    TooManyMembers {
        /// The limit.
        limit: usize,
    },
    /// One member stands twice in one object.
    #[error("the member `{name}` stands twice in one object")]
    DoubledMember {
        /// Its name, escaped and cut short.
        name: String,
    },
    /// `__type` follows another member.
    #[error("`__type` is not the first member of its object")]
    TypeNotFirst,
    /// Not JSON in UTF-8, or something follows it.
    #[error("not JSON at line {line}, column {column}")]
    Malformed {
        /// The line, from 1.
        line: usize,
        /// The column, from 1; 0 at the end of a line.
        column: usize,
    },
}

/// A value, which borrows its text where the document has no escapes in it.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'t> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A number from 0 on.
    Unsigned(u64),
    /// A number that is not read: negative, with a fraction or exponent, or too large.
    OtherNumber,
    /// Text.
    Text(Cow<'t, str>),
    /// An array.
    Array(Vec<Self>),
    /// An object: its members in their order, each once.
    Object(Vec<(Cow<'t, str>, Self)>),
}

impl<'t> Json<'t> {
    /// Reads one document.
    ///
    /// # Errors
    /// What is wrong with it, or which limit it does not keep.
    pub fn read(octets: &'t [u8], limits: &JsonLimits) -> Result<Self, JsonError> {
        if octets.len() > limits.octets {
            return Err(JsonError::TooManyOctets {
                limit: limits.octets,
                found: octets.len(),
            });
        }
        let mut budget = Budget {
            limits,
            values: 0,
            refusal: None,
        };
        let mut parser = serde_json::Deserializer::from_slice(octets);
        let value = Value {
            budget: &mut budget,
            depth: 0,
        }
        .deserialize(&mut parser);
        let result = value.and_then(|value| parser.end().map(|()| value));
        result.map_err(|error| {
            budget.refusal.unwrap_or_else(|| JsonError::Malformed {
                line: error.line(),
                column: error.column(),
            })
        })
    }

    /// The value of a member of this object; `None` if this is no object or has no such member.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else {
            return None;
        };
        members
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value)
    }

    /// The text, if this is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if this is one of 32 bits.
    #[must_use]
    pub fn unsigned_int(&self) -> Option<u32> {
        match self {
            Self::Unsigned(number) => u32::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The number, if this is one of 64 bits.
    #[must_use]
    pub fn unsigned(&self) -> Option<u64> {
        match self {
            Self::Unsigned(number) => Some(*number),
            _ => None,
        }
    }

    /// The truth value, if this is one.
    #[must_use]
    pub fn boolean(&self) -> Option<bool> {
        match self {
            Self::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    /// The values, if this is an array.
    #[must_use]
    pub fn array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }
}

struct Budget<'l> {
    limits: &'l JsonLimits,
    values: usize,
    /// What the parser's own error type has no room for.
    refusal: Option<JsonError>,
}

impl Budget<'_> {
    fn refuse<E: de::Error>(&mut self, refusal: JsonError) -> E {
        self.refusal = Some(refusal);
        E::custom("refused")
    }

    fn take_value<E: de::Error>(&mut self) -> Result<(), E> {
        self.values += 1;
        if self.values > self.limits.values {
            let limit = self.limits.values;
            return Err(self.refuse(JsonError::TooManyValues { limit }));
        }
        Ok(())
    }

    fn take_level<E: de::Error>(&mut self, depth: usize) -> Result<(), E> {
        if depth > self.limits.depth {
            let limit = self.limits.depth;
            return Err(self.refuse(JsonError::TooDeep { limit }));
        }
        Ok(())
    }

    fn check_member<E: de::Error>(
        &mut self,
        before: &[(Cow<'_, str>, Json<'_>)],
        name: &str,
    ) -> Result<(), E> {
        if before.len() == self.limits.members {
            let limit = self.limits.members;
            return Err(self.refuse(JsonError::TooManyMembers { limit }));
        }
        if before.iter().any(|(found, _)| found == name) {
            let name = quoted(name);
            return Err(self.refuse(JsonError::DoubledMember { name }));
        }
        if name == "__type" && !before.is_empty() {
            return Err(self.refuse(JsonError::TypeNotFirst));
        }
        Ok(())
    }
}

/// One value to come, `depth` arrays and objects inside the document.
struct Value<'b, 'l> {
    budget: &'b mut Budget<'l>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Value<'_, '_> {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<'de>, D::Error> {
        self.budget.take_value()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, '_> {
    type Value = Json<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Boolean(value))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json<'de>, E> {
        Ok(Json::Unsigned(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json<'de>, E> {
        Ok(Json::OtherNumber)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json<'de>, E> {
        Ok(Json::OtherNumber)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Json<'de>, A::Error> {
        let Self { budget, depth } = self;
        let depth = depth + 1;
        budget.take_level(depth)?;
        let mut values = Vec::new();
        while let Some(value) = sequence.next_element_seed(Value { budget, depth })? {
            values.push(value);
        }
        Ok(Json::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json<'de>, A::Error> {
        let Self { budget, depth } = self;
        let depth = depth + 1;
        budget.take_level(depth)?;
        let mut members = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            budget.check_member(&members, &name)?;
            members.push((name, map.next_value_seed(Value { budget, depth })?));
        }
        Ok(Json::Object(members))
    }
}

/// Text of a peer as an error quotes it: escaped, so that it can't steer a log or a terminal, and cut short.
#[must_use]
pub fn quoted(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

/// The name of a member, borrowed where it can be.
struct Name<'t>(Cow<'t, str>);

impl<'de> de::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;

        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the name of a member")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }

        deserializer.deserialize_str(NameVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: JsonLimits = JsonLimits {
        octets: 512 * 1024,
        depth: 16,
        values: 1024,
        members: 64,
    };

    fn read(text: &str) -> Result<Json<'_>, JsonError> {
        Json::read(text.as_bytes(), &LIMITS)
    }

    #[test]
    fn reads_every_kind_of_value() {
        let json = read(r#" {"a": [null, true, 7, -1, 1.0, 1e0, "\u0041", "b"]} "#).unwrap();
        let expected = [
            Json::Null,
            Json::Boolean(true),
            Json::Unsigned(7),
            Json::OtherNumber,
            Json::OtherNumber,
            Json::OtherNumber,
            Json::Text("A".into()),
            Json::Text("b".into()),
        ];
        assert_eq!(json.member("a").and_then(Json::array), Some(&expected[..]));
        assert_eq!(json.member("b"), None);
    }

    #[test]
    fn a_doubled_member_is_refused_however_it_is_written_and_wherever_it_stands() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"unread":[{"a":1,"b":2,"a":3}]}"#,
        ] {
            let name = "a".to_owned();
            assert_eq!(read(text), Err(JsonError::DoubledMember { name }), "{text}");
        }
        assert!(read(r#"{"a":1,"A":1}"#).is_ok());
    }

    #[test]
    fn what_an_error_quotes_can_t_steer_a_terminal() {
        let name = "\\u{1b}[2J\\u{202e}".to_owned() + &"a".repeat(80 - 5);
        let member = r#""\u001b[2J\u202e"#.to_owned() + &"a".repeat(100) + "\":0";
        let text = format!("{{{member},{member}}}");
        assert_eq!(read(&text), Err(JsonError::DoubledMember { name }));
    }

    #[test]
    fn a_type_after_other_members_is_refused() {
        assert!(read(r#"{"__type":"T","a":1}"#).is_ok());
        assert_eq!(
            read(r#"{"a":1,"__type":"T"}"#),
            Err(JsonError::TypeNotFirst)
        );
    }

    #[test]
    fn what_is_not_one_json_document_is_refused_with_its_place() {
        for (text, line, column) in [
            ("", 1, 0),
            ("{} {}", 1, 4),
            ("{}\n\u{0}", 2, 1),
            ("\u{feff}{}", 1, 1),
            ("{'a':1}", 1, 2),
            ("[1,]", 1, 4),
            ("[01]", 1, 3),
            ("\"\\ud800\"", 1, 8),
        ] {
            let expected = JsonError::Malformed { line, column };
            assert_eq!(read(text), Err(expected), "{text:?}");
        }
        let not_utf8 = Json::read(b"\"\xff\"", &LIMITS);
        assert!(matches!(not_utf8, Err(JsonError::Malformed { .. })));
    }

    #[test]
    fn k13_each_limit_is_met_exactly_and_has_an_error_of_its_own() {
        let limits = LIMITS;

        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(read(&nested(limits.depth)).is_ok());
        let limit = limits.depth;
        assert_eq!(read(&nested(limit + 1)), Err(JsonError::TooDeep { limit }));
        assert_eq!(
            read(&"[".repeat(100_000)),
            Err(JsonError::TooDeep { limit })
        );

        let numbers = |count: usize| format!("[{}]", vec!["0"; count].join(","));
        let limit = limits.values;
        assert!(read(&numbers(limit - 1)).is_ok());
        assert_eq!(
            read(&numbers(limit)),
            Err(JsonError::TooManyValues { limit })
        );

        let members = |count: usize| {
            let members: Vec<_> = (0..count).map(|n| format!("\"{n}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        let limit = limits.members;
        assert!(read(&members(limit)).is_ok());
        assert_eq!(
            read(&members(limit + 1)),
            Err(JsonError::TooManyMembers { limit })
        );

        let limit = limits.octets;
        let text = |octets: usize| format!("\"{}\"", "a".repeat(octets - 2));
        assert!(read(&text(limit)).is_ok());
        let found = limit + 1;
        assert_eq!(
            read(&text(found)),
            Err(JsonError::TooManyOctets { limit, found })
        );
    }
}
