//! Diagnoses.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Facts for `hgs trace`. Their fields belong to the diagnostics of the same version of the program, not to version 1 of
/// this API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Diagnosis<T>(pub T);

impl<T> JsonSchema for Diagnosis<T> {
    fn schema_name() -> Cow<'static, str> {
        "Facts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "Facts for `hgs trace`. Their fields belong to the diagnostics of the same version of the program.",
        })
    }
}
