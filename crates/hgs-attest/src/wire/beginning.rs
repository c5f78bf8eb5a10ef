//! What the beginning of a request says, of which the rest has not come yet.

use std::fmt;

use hgs_crypto::base64;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::AttestationProvidedContentType;

/// The endorsement key that a request of TPM mode names, if that stands in its beginning: before the context, which is
/// what makes such a request long. When all has come, it is read again, and strictly.
pub(crate) fn endorsement_key(beginning: &[u8]) -> Option<Vec<u8>> {
    let mut found = None;
    let mut parser = serde_json::Deserializer::from_slice(beginning);
    // It ends with an error where the beginning does.
    let _ = parser.deserialize_map(Request(&mut found));
    base64::decode(&found?).ok()
}

/// The members of a request.
struct Request<'f>(&'f mut Option<String>);

impl<'de> Visitor<'de> for Request<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a request")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "RtpmPublicEndorsementKey" => *self.0 = Some(map.next_value()?),
                "ProvidedContent" => map.next_value_seed(Contents(&mut *self.0))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// The provided contents.
struct Contents<'f>(&'f mut Option<String>);

/// One of them.
#[derive(Deserialize)]
struct Content {
    #[serde(rename = "m_Item1")]
    content_type: u32,
    #[serde(rename = "m_Item2")]
    octets: String,
}

impl<'de> DeserializeSeed<'de> for Contents<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Contents<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("provided contents")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let wanted = AttestationProvidedContentType::EndorsementKeyCertificate.number();
        while let Some(content) = sequence.next_element::<Content>()? {
            if content.content_type == wanted {
                *self.0 = Some(content.octets);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endorsement_key_is_found_before_the_rest_has_come() {
        let content = |number, text| format!(r#"{{"m_Item2":"{text}", "m_Item1":{number}}}"#);
        let (key, context) = (content(4, "Zm9v"), content(2, &"A".repeat(4000)));
        let start = r#" {"SessionId":"","Other":[{}],"ProvidedContent": ["#;
        let body = format!("{start}{key},{context}]}}");
        let first = start.len() + key.len();
        let found = Some(b"foo".to_vec());
        for length in 0..body.len() {
            let expected = found.clone().filter(|_| length >= first);
            assert_eq!(endorsement_key(&body.as_bytes()[..length]), expected);
        }
        let first =
            r#"{"__type":"TpmRequestContinue","RtpmPublicEndorsementKey":"Zm9v","RtpmNewCon"#;
        assert_eq!(endorsement_key(first.as_bytes()), found);
        // Behind the context it is not found in time, and other octets are no request.
        let behind = format!("{start}{context},{key}]}}");
        assert_eq!(endorsement_key(&behind.as_bytes()[..2000]), None);
        for octets in [&b""[..], b"[", b"{\"ProvidedContent\":7", b"\xff"] {
            assert_eq!(endorsement_key(octets), None);
        }
    }
}
