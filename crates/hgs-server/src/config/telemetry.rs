//! `[telemetry]`: traces for a collector of OpenTelemetry.

use std::fmt;
use std::path::PathBuf;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::public_url::PublicUrl;

/// Where a collector takes traces, after the beginning of its URLs.
const TRACES: &str = "v1/traces";

/// `[telemetry]`: where traces of requests are sent, and how many. None are made unless there is an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// The beginning of the collector's URLs.
    pub otlp_endpoint: Option<OtlpEndpoint>,
    /// Which part of the requests is traced.
    pub sampling_ratio: SamplingRatio,
    /// File with header fields that the collector asks for, such as an `Authorization`.
    pub headers_file: Option<PathBuf>,
    /// PEM file of the authorities that may vouch for the collector's certificate; the system's when absent.
    pub authorities: Option<PathBuf>,
}

/// What the URLs of a collector begin with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OtlpEndpoint(PublicUrl);

/// Not the beginning of a collector's URLs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "write the beginning of the collector's URLs, without /v1/traces: such as http://127.0.0.1:4318"
)]
pub struct OtlpEndpointError;

impl OtlpEndpoint {
    /// Where traces are sent.
    #[must_use]
    pub fn traces(&self) -> String {
        format!("{}/{TRACES}", self.0)
    }
}

impl TryFrom<String> for OtlpEndpoint {
    type Error = OtlpEndpointError;

    fn try_from(text: String) -> Result<Self, OtlpEndpointError> {
        let url: PublicUrl = text.parse().map_err(|_| OtlpEndpointError)?;
        // The path of its traces is added.
        if url.as_str().ends_with(TRACES) {
            return Err(OtlpEndpointError);
        }
        Ok(Self(url))
    }
}

impl From<OtlpEndpoint> for String {
    fn from(endpoint: OtlpEndpoint) -> Self {
        endpoint.0.into()
    }
}

/// Which part of the requests is traced, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SamplingRatio(u32);

impl SamplingRatio {
    const WHOLE: u32 = 1_000_000;

    /// Between 0 and 1.
    #[must_use]
    pub fn get(self) -> f64 {
        f64::from(self.0) / f64::from(Self::WHOLE)
    }
}

impl Default for SamplingRatio {
    fn default() -> Self {
        Self(Self::WHOLE)
    }
}

impl Serialize for SamplingRatio {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.get())
    }
}

impl<'de> Deserialize<'de> for SamplingRatio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RatioVisitor)
    }
}

struct RatioVisitor;

impl Visitor<'_> for RatioVisitor {
    type Value = SamplingRatio;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number from 0 to 1, such as 0.1")
    }

    fn visit_f64<E: de::Error>(self, ratio: f64) -> Result<SamplingRatio, E> {
        if !(0.0..=1.0).contains(&ratio) {
            return Err(E::invalid_value(de::Unexpected::Float(ratio), &self));
        }
        let millionths = (ratio * f64::from(SamplingRatio::WHOLE)).round();
        Ok(SamplingRatio(millionths as u32))
    }

    fn visit_i64<E: de::Error>(self, ratio: i64) -> Result<SamplingRatio, E> {
        match ratio {
            0 | 1 => self.visit_f64(ratio as f64),
            _ => Err(E::invalid_value(de::Unexpected::Signed(ratio), &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Telemetry, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn an_endpoint_is_the_beginning_of_urls() {
        for (text, traces) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            (
                "https://a.example/otlp/",
                "https://a.example/otlp/v1/traces",
            ),
        ] {
            let read = read(&format!("otlp_endpoint = \"{text}\"")).unwrap();
            assert_eq!(read.otlp_endpoint.unwrap().traces(), traces);
        }
        for text in [
            "127.0.0.1:4318",
            "grpc://a:4317",
            "http://user@a",
            "http://a/v1/traces",
            "",
        ] {
            let refused = read(&format!("otlp_endpoint = \"{text}\"")).unwrap_err();
            assert!(refused.contains("collector's URLs"), "{text}: {refused}");
        }
    }

    #[test]
    fn a_ratio_is_from_0_to_1() {
        for (text, ratio) in [("0", 0.0), ("1", 1.0), ("0.25", 0.25), ("1e-6", 1e-6)] {
            let read = read(&format!("sampling_ratio = {text}")).unwrap();
            assert!((read.sampling_ratio.get() - ratio).abs() < 1e-9, "{text}");
        }
        for text in ["2", "-0.1", "1.1", "nan", "\"1\""] {
            let refused = read(&format!("sampling_ratio = {text}")).unwrap_err();
            assert!(refused.contains("from 0 to 1"), "{text}: {refused}");
        }
    }
}
