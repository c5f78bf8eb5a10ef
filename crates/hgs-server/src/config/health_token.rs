//! `[health_token]`: whether tokens are issued that tell others what hosts attested, and for whom.

use std::time::Duration;

use hgs_attest::health_token::{Audience, Issuer};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::PublicUrl;
use super::quantity::{HOUR, MINUTE, period};

/// Audiences at most.
const MOST_AUDIENCES: usize = 64;

/// `[health_token]`: signed tokens for programs that speak neither protocol. Without an issuer there are none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthToken {
    /// Who issues them: the URL of this guardian as verifiers reach it.
    #[serde(serialize_with = "write", deserialize_with = "issuer")]
    pub issuer: Option<Issuer>,
    /// For whom tokens are issued. Other audiences are refused.
    #[serde(serialize_with = "write_all", deserialize_with = "audiences")]
    pub audiences: Vec<Audience>,
    /// For how long a token is valid, as far as the health certificate is.
    #[serde(
        serialize_with = "period::serialize",
        deserialize_with = "period::between::<_, { 2 * MINUTE }, { 24 * HOUR }>"
    )]
    pub lifetime: Duration,
}

impl Default for HealthToken {
    fn default() -> Self {
        Self {
            issuer: None,
            audiences: Vec::new(),
            lifetime: Duration::from_mins(10),
        }
    }
}

/// The URL, which has a host as URLs have them, and a port that there is.
fn issuer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Issuer>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let issuer: Issuer = text.parse().map_err(de::Error::custom)?;
    let url: PublicUrl = text.parse().map_err(de::Error::custom)?;
    debug_assert_eq!(url.as_str(), issuer.as_str());
    Ok(Some(issuer))
}

fn audiences<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Audience>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    if texts.len() > MOST_AUDIENCES {
        return Err(de::Error::custom(format_args!(
            "{} audiences; {MOST_AUDIENCES} are accepted",
            texts.len()
        )));
    }
    let audiences = texts.iter().map(|text| {
        text.parse()
            .map_err(|error| de::Error::custom(format_args!("`{text}`: {error}")))
    });
    audiences.collect()
}

fn write<S: Serializer>(issuer: &Option<Issuer>, serializer: S) -> Result<S::Ok, S::Error> {
    issuer.as_ref().map(Issuer::as_str).serialize(serializer)
}

fn write_all<S: Serializer>(audiences: &[Audience], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(audiences.iter().map(Audience::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_off_unless_an_issuer_says_who_vouches_for_them() {
        let read = |text: &str| toml::from_str::<HealthToken>(text);
        let off = read("").unwrap();
        assert_eq!(off, HealthToken::default());
        assert!(off.issuer.is_none() && off.audiences.is_empty());
        let on = read(
            "issuer = \"https://hgs.example\"\naudiences = [\"kubernetes\"]\nlifetime = \"5min\"",
        );
        let on = on.unwrap();
        assert_eq!(on.issuer.unwrap().as_str(), "https://hgs.example");
        assert_eq!(on.audiences[0].as_str(), "kubernetes");
        let many = format!("audiences = [{}]", "\"a\",".repeat(65));
        for wrong in [
            "issuer = \"http://hgs.example\"",
            "issuer = \"https://hgs.example/\"",
            "issuer = \"https://hgs.example:0\"",
            "issuer = \"\"",
            "audiences = [\"two words\"]",
            "audiences = [\"\"]",
            "lifetime = \"1min\"",
            "lifetime = \"25h\"",
            "audience = []",
            &many,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
