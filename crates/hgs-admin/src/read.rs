//! How JSON is read where serde and JSON Schema differ.
//!
//! * A struct is written as an object. serde takes an array of its fields' values too, which the document does not have.
//! * `1.0` is an integer, as some programs write one.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// A struct that was written as an object.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(Object)
    }
}

/// A field that is an object.
pub(crate) fn object<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|Object(value)| value)
}

/// A field that is a list of objects.
pub(crate) fn objects<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let objects = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|Object(value)| value).collect())
}

/// A field that is an integer which is not negative.
pub(crate) fn integer<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let Integer(number) = Integer::deserialize(deserializer)?;
    of_type(number)
}

/// A field that may be such an integer.
pub(crate) fn optional_integer<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let number = Option::<Integer>::deserialize(deserializer)?;
    number.map(|Integer(number)| of_type(number)).transpose()
}

fn of_type<T: TryFrom<u64>, E: Error>(number: u64) -> Result<T, E> {
    T::try_from(number)
        .map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &"a smaller number"))
}

struct Integer(u64);

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u64(IntegerVisitor)
    }
}

struct IntegerVisitor;

impl Visitor<'_> for IntegerVisitor {
    type Value = Integer;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an integer that is not negative")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Integer, E> {
        Ok(Integer(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Integer, E> {
        // Beyond this, not every integer is a number of this type.
        let is_exact = number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number);
        match is_exact {
            true => Ok(Integer(number as u64)),
            false => Err(E::invalid_value(Unexpected::Float(number), &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::types::{AddHosts, RecordExport, RotateCertificates, SetServer};
    use crate::{Call, ErrorCode};

    fn call(body: &str) -> Call<'_> {
        Call {
            segment: "",
            query: "",
            body: body.as_bytes(),
            last_event_id: None,
            may_have_key: true,
        }
    }

    #[test]
    fn an_array_is_no_object() {
        let refused = call("[null, null]").body::<RotateCertificates>();
        assert_eq!(refused.unwrap_err().code, ErrorCode::InvalidRequest);
        let refused = call(r#"["name"]"#).body_with_key::<AddHosts>();
        assert_eq!(refused.unwrap_err().code, ErrorCode::InvalidRequest);
        for (body, is_read) in [
            (r#"{"hosts":[{"name":"host1"}]}"#, true),
            (r#"{"hosts":[["host1"]]}"#, false),
            (r#"{"hosts":[{"name":"host1","name":"host2"}]}"#, false),
        ] {
            assert_eq!(call(body).body::<AddHosts>().is_ok(), is_read, "{body}");
        }
    }

    #[test]
    fn an_integer_may_be_written_with_a_fraction_of_zero() {
        let file = "00".repeat(32);
        let export = |octets: &str| {
            let body = format!(
                r#"{{"file":"{file}","octets":{octets},"generation":1.0,"recipients":[]}}"#
            );
            let export: Result<RecordExport, _> = call(&body).body();
            export.ok().map(|export| export.octets)
        };
        assert_eq!(export("29844.0"), Some(29_844));
        assert_eq!(export("18446744073709551615"), Some(u64::MAX));
        for no_integer in ["1.5", "-1", "-1.0", "1e300", "\"1\"", "null"] {
            assert_eq!(export(no_integer), None, "{no_integer}");
        }
        let seconds = |body: &str| {
            let change: SetServer = call(body).body().unwrap();
            change.rekey_window_seconds
        };
        assert_eq!(seconds(r#"{"rekey_window_seconds":60.0}"#), Some(60));
        assert_eq!(seconds(r#"{"rekey_window_seconds":null}"#), None);
        assert_eq!(seconds("{}"), None);
    }
}
