//! What the declaration of an operation says about its arguments and its answer, as JSON schemas.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use crate::key::WithKey;
use crate::path::Segment;

/// The arguments and the answer of an operation. Schemas of named types are references into the generator.
pub(crate) struct Description<'g> {
    pub(crate) generator: &'g mut SchemaGenerator,
    /// Path and query parameters as OpenAPI describes them.
    pub(crate) parameters: Vec<Value>,
    /// The schema of the body.
    pub(crate) body: Option<Body>,
    /// The schema of the answer, or of each of its events.
    pub(crate) answer: Value,
    /// Whether the answer is a stream of events.
    pub(crate) is_stream: bool,
}

pub(crate) struct Body {
    pub(crate) schema: Value,
    /// Whether a private key may follow the JSON.
    pub(crate) with_key: bool,
}

impl<'g> Description<'g> {
    pub(crate) fn new(generator: &'g mut SchemaGenerator) -> Self {
        Self {
            generator,
            parameters: Vec::new(),
            body: None,
            answer: Value::Null,
            is_stream: false,
        }
    }
}

/// The names of these methods are the places of `operations!`.
impl Description<'_> {
    pub(crate) fn path<T: Segment>(mut self, name: &str) -> Self {
        self.parameters.push(json!({
            "name": name,
            "in": "path",
            "required": true,
            "schema": T::Form::json_schema(self.generator).to_value(),
        }));
        self
    }

    /// Each field is a parameter.
    pub(crate) fn query<T: JsonSchema>(mut self, _: &str) -> Self {
        let schema = T::json_schema(self.generator).to_value();
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let properties = schema["properties"].as_object().cloned();
        for (name, mut property) in properties.unwrap_or_default() {
            let description = property
                .as_object_mut()
                .and_then(|property| property.remove("description"));
            self.parameters.push(json!({
                "name": name,
                "in": "query",
                "description": description,
                "required": required.contains(&name.as_str().into()),
                "schema": property,
            }));
        }
        self
    }

    pub(crate) fn body<T: JsonSchema>(mut self, _: &str) -> Self {
        self.body = Some(Body {
            schema: self.generator.subschema_for::<T>().to_value(),
            with_key: false,
        });
        self
    }

    pub(crate) fn body_with_key<T: RequestWithKey>(mut self, _: &str) -> Self {
        self.body = Some(Body {
            schema: self.generator.subschema_for::<T::Request>().to_value(),
            with_key: true,
        });
        self
    }

    pub(crate) fn last_event_id<T: JsonSchema>(mut self, _: &str) -> Self {
        self.parameters.push(json!({
            "name": "Last-Event-ID",
            "in": "header",
            "description": "The last `id` that a client was told which comes back.",
            "required": false,
            "schema": T::json_schema(self.generator).to_value(),
        }));
        self
    }

    pub(crate) fn events<T: JsonSchema>(mut self) -> Self {
        self.is_stream = true;
        self.answer::<T>()
    }

    pub(crate) fn answer<T: JsonSchema>(mut self) -> Self {
        self.answer = self.generator.subschema_for::<T>().to_value();
        self
    }
}

/// A request with a private key beside it.
pub(crate) trait RequestWithKey {
    type Request: JsonSchema;
}

impl<T: JsonSchema> RequestWithKey for WithKey<T> {
    type Request = T;
}
