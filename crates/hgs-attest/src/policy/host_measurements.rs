//! What only one host has: values of parameters, and alternatives of components that are the host's own.

use serde::{Deserialize, Deserializer, Serialize};

use super::alternative::{Alternative, Parameters, check_alternatives, check_parameters};
use super::baseline::MAX_COMPONENTS;
use super::document::{self, DocumentError, check_count, check_name};

/// `kind` of the document.
pub const HOST_MEASUREMENTS_KIND: &str = "openhgs-host-measurements";
/// Octets of the longest document.
pub const MAX_HOST_MEASUREMENTS_OCTETS: usize = 1024 * 1024;

/// What only one host has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HostMeasurements {
    /// What texts of the baseline name, such as `root`.
    #[serde(skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
    /// Its own alternatives, by component of the baseline.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<HostComponent>,
}

/// A host's alternatives of one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostComponent {
    /// The name of the component in the baseline.
    pub name: String,
    /// What was approved for this host.
    pub alternatives: Vec<Alternative>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "version")]
    _version: u32,
    #[serde(default, deserialize_with = "parameters")]
    parameters: Parameters,
    #[serde(default)]
    components: Vec<HostComponent>,
}

/// A map that refuses a name that stands there twice.
fn parameters<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Parameters, D::Error> {
    struct Members;

    impl<'de> serde::de::Visitor<'de> for Members {
        type Value = Parameters;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("an object with the values of parameters")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(
            self,
            mut map: A,
        ) -> Result<Parameters, A::Error> {
            let mut parameters = Parameters::new();
            while let Some((name, value)) = map.next_entry::<String, String>()? {
                if parameters.insert(name, value).is_some() {
                    return Err(serde::de::Error::custom("a parameter stands there twice"));
                }
            }
            Ok(parameters)
        }
    }

    deserializer.deserialize_map(Members)
}

impl HostMeasurements {
    /// Reads a document, strictly.
    pub fn from_json(octets: &[u8]) -> Result<Self, DocumentError> {
        let document: Document =
            document::read(HOST_MEASUREMENTS_KIND, octets, MAX_HOST_MEASUREMENTS_OCTETS)?;
        let measurements = Self {
            parameters: document.parameters,
            components: document.components,
        };
        measurements.check()?;
        Ok(measurements)
    }

    /// Writes the document.
    #[must_use]
    pub fn to_json(&self) -> String {
        document::write(HOST_MEASUREMENTS_KIND, self)
    }

    /// Its own alternatives of a component.
    #[must_use]
    pub fn alternatives_of(&self, component: &str) -> &[Alternative] {
        let found = self.components.iter().find(|found| found.name == component);
        found.map_or(&[], |found| &found.alternatives)
    }

    /// Adds an alternative of a component, unless one measures the same; a name that is taken gets a number.
    pub fn add(&mut self, component: &str, alternative: Alternative) {
        let place = self
            .components
            .iter()
            .position(|found| found.name == component);
        let place = place.unwrap_or_else(|| {
            self.components.push(HostComponent {
                name: component.to_owned(),
                alternatives: Vec::new(),
            });
            self.components.len() - 1
        });
        super::approve::add(&mut self.components[place].alternatives, alternative);
    }

    pub(super) fn check(&self) -> Result<(), DocumentError> {
        check_parameters(&self.parameters)?;
        check_count("components", self.components.len(), MAX_COMPONENTS)?;
        for (place, component) in self.components.iter().enumerate() {
            check_name("the component", &component.name)?;
            check_alternatives(&component.name, &component.alternatives)?;
            if self.components[..place]
                .iter()
                .any(|before| before.name == component.name)
            {
                return Err(DocumentError::Inconsistent(format!(
                    "the component `{}` stands there twice",
                    component.name
                )));
            }
        }
        Ok(())
    }
}
