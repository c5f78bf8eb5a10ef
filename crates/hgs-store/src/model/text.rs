//! How values that have a text form of their own are written in records.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer, Serializer};

/// By `Display` and `FromStr`.
pub(crate) mod display {
    use super::*;

    pub(crate) fn serialize<T: Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// The same for what may be absent.
pub(crate) mod optional {
    use super::*;

    #[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
    pub(crate) fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = Option::<String>::deserialize(deserializer)?;
        let value = text.map(|text| text.parse()).transpose();
        value.map_err(D::Error::custom)
    }
}

/// A set of such values.
pub(crate) mod set {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;

    pub(crate) fn serialize<T: Display, S: Serializer>(
        values: &Arc<BTreeSet<T>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(T::to_string))
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<Arc<BTreeSet<T>>, D::Error>
    where
        T: FromStr<Err: Display> + Ord,
        D: Deserializer<'de>,
    {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let values = texts
            .iter()
            .map(|text| text.parse())
            .collect::<Result<BTreeSet<T>, _>>();
        values.map(Arc::new).map_err(D::Error::custom)
    }
}

/// Long text that is shared.
pub(crate) mod shared {
    use std::sync::Arc;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        text: &Arc<str>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<str>, D::Error> {
        String::deserialize(deserializer).map(Arc::from)
    }
}

/// Octets as Base64.
pub(crate) mod octets {
    use hgs_crypto::base64;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        octets: &[u8],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64::encode(octets))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        base64::decode(&text).map_err(|_| D::Error::custom("not Base64"))
    }
}

/// The same for what may be absent.
pub(crate) mod optional_octets {
    use super::*;

    #[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(given) => octets::serialize(given, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        octets::deserialize(deserializer).map(Some)
    }
}

/// A certificate as the Base64 of its DER: parsed when it is read, and never again.
pub(crate) mod certificate {
    use hgs_pki::Certificate;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        certificate: &Certificate,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        octets::serialize(certificate.der(), serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Certificate, D::Error> {
        let der = octets::deserialize(deserializer)?;
        Certificate::from_der(&der).map_err(D::Error::custom)
    }
}
