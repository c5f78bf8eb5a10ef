//! What only one host has: values of parameters, and alternatives of components that are the host's own.

use hgs_pki::Time;
use serde::{Deserialize, Deserializer, Serialize};

use super::alternative::{Alternative, Parameters, State, check_alternatives, check_parameters};
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

    /// Takes what a host measured of files that it will boot next, as alternatives that expire unless the host boots them.
    /// Parameters are not taken: a host does not choose them. The host was healthy when it said so, and no more is known;
    /// whether that suffices is for the caller's policy.
    pub fn accept_claim(
        &self,
        claim: &Self,
        host: &str,
        expires: Time,
    ) -> Result<Self, DocumentError> {
        claim.check()?;
        let mut accepted = self.clone();
        for component in &claim.components {
            for alternative in &component.alternatives {
                accepted.add(&component.name, alternative.staged_by(host, expires));
            }
        }
        accepted.check()?;
        Ok(accepted)
    }

    fn state_mut(&mut self, component: &str, alternative: &str) -> Option<&mut State> {
        let component = self
            .components
            .iter_mut()
            .find(|found| found.name == component)?;
        let mut alternatives = component.alternatives.iter_mut();
        alternatives
            .find(|found| found.name == alternative)
            .map(|found| &mut found.state)
    }

    /// Records that the host booted a staged alternative. `false` if there is none of that name that is staged.
    pub fn promote(&mut self, component: &str, alternative: &str, host: &str, now: Time) -> bool {
        let state = self.state_mut(component, alternative);
        state.is_some_and(|state| state.promote(host, now))
    }

    /// Withdraws an alternative. `false` if there is none of that name that is accepted.
    pub fn retire(&mut self, component: &str, alternative: &str, now: Time) -> bool {
        let state = self.state_mut(component, alternative);
        state.is_some_and(|state| state.retire(now))
    }

    /// Takes out staged alternatives that expired. How many there were.
    pub fn remove_expired(&mut self, now: Time) -> usize {
        let mut removed = 0;
        for component in &mut self.components {
            removed += component.alternatives.len();
            component
                .alternatives
                .retain(|alternative| !alternative.state.is_expired(now));
            removed -= component.alternatives.len();
        }
        self.components
            .retain(|component| !component.alternatives.is_empty());
        removed
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
