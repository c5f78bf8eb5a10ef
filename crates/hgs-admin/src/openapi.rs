//! The API as an OpenAPI 3.1 document, made from the declarations of the operations. `docs/openapi.json` is this document;
//! a test compares the two.

use std::fmt::Write as _;

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Map, Value, json};

use crate::describe::{Body, Description};
use crate::operations::Operation;
use crate::{AdminError, ErrorCode, OPERATIONS};

/// Where named schemas stand in the document.
const SCHEMAS: &str = "/components/schemas";

/// The document.
#[must_use]
pub fn document() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = SCHEMAS.into();
    settings.meta_schema = None;
    let settings = settings.with_transform(RecursiveTransform(values_as_enumeration));
    let mut generator = settings.into_generator();
    let error = generator.subschema_for::<AdminError>().to_value();
    let mut paths = Map::new();
    for operation in OPERATIONS.all() {
        let description = operation.description(&mut generator);
        let entry = described(operation, description);
        let path = paths
            .entry(operation.path)
            .or_insert_with(|| Value::Object(Map::new()));
        path[operation.method.as_str().to_ascii_lowercase()] = entry;
    }
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "OpenHGS administration",
            "version": "1",
            "summary": "The API of a guardian for its administrators.",
            "description": INFORMATION,
            "license": {"name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT"},
        },
        "servers": [{
            "url": "http://hgs",
            "description": "HTTP over the Unix socket of [listen.admin]; the name of the server has no meaning.",
        }, {
            "url": "https://{guardian}:{port}",
            "description": "The same under mutual TLS, where [listen.api] is enabled.",
            "variables": {"guardian": {"default": "hgs.example"}, "port": {"default": "9443"}},
        }],
        "security": [{}, {"clientCertificate": []}],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "responses": error_responses(&error),
            "securitySchemes": {"clientCertificate": {"type": "mutualTLS", "description": CERTIFICATE}},
        },
    })
}

const INFORMATION: &str = "At the socket the kernel says which user asks, and the user's groups decide what is permitted. \
    Over the network the caller shows a client certificate, to which roles are given. \
    Each operation names the permission that it needs as `x-permission`. \
    Answers may gain fields and enumerations may gain values; nothing is removed or changes its meaning.";

const CERTIFICATE: &str = "Over the network: a certificate that the guardian's file of clients names. At the socket there is none.";

/// Writes an enumeration of described values, a `oneOf` of `const`, as `enum`, with the values' descriptions in its own.
/// Generators of clients take `oneOf` for different types, and read no value but the first.
fn values_as_enumeration(schema: &mut Schema) {
    let Some(variants) = schema.get("oneOf").and_then(Value::as_array) else {
        return;
    };
    let values: Option<Vec<_>> = variants.iter().map(described_value).collect();
    let Some(values) = values else { return };
    let mut description = schema
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    for (value, meaning) in &values {
        let _ = write!(description, "\n- `{value}`: {meaning}");
    }
    let values: Vec<String> = values
        .iter()
        .map(|(value, _)| (*value).to_owned())
        .collect();
    schema.remove("oneOf");
    for (keyword, value) in [
        ("type", json!("string")),
        ("enum", json!(values)),
        ("description", json!(description)),
    ] {
        schema.insert(keyword.to_owned(), value);
    }
}

/// The value that a schema is about and what it means, if it is about one string.
fn described_value(schema: &Value) -> Option<(&str, &str)> {
    let described = schema.get("description").and_then(Value::as_str);
    Some((
        schema.get("const")?.as_str()?,
        described.unwrap_or_default(),
    ))
}

fn described(operation: &Operation, description: Description<'_>) -> Value {
    let mut responses = Map::new();
    responses.insert(
        "200".to_owned(),
        match description.is_stream {
            // OpenAPI 3.1 has no word for the schema of each event.
            true => json!({
                "description": EVENTS,
                "content": {"text/event-stream": {
                    "schema": {"type": "string"},
                    "x-event-schema": description.answer,
                }},
            }),
            false => json!({
                "description": "Done.",
                "content": {"application/json": {"schema": description.answer}},
            }),
        },
    );
    for (code, _) in ErrorCode::OF_SERVERS {
        let reference = format!("#/components/responses/{}", name_of(*code));
        responses.insert(
            code.status().as_u16().to_string(),
            json!({"$ref": reference}),
        );
    }
    let mut entry = json!({
        "operationId": operation.name,
        "summary": operation.summary(),
        "x-permission": operation.permission,
        "responses": responses,
    });
    if !description.parameters.is_empty() {
        entry["parameters"] = description.parameters.into();
    }
    if let Some(Body { schema, with_key }) = description.body {
        let mut body = json!({
            "required": true,
            "content": {"application/json": {"schema": schema}},
        });
        if with_key {
            body["description"] = WITH_KEY.into();
        }
        entry["requestBody"] = body;
    }
    entry
}

const EVENTS: &str = "Server-sent events. The data of each is JSON as `x-event-schema` describes it; the name of the event is its `kind`.";

const WITH_KEY: &str = "The JSON on one line. After a line feed the private key may follow, as unencrypted PKCS#8 in PEM.";

fn error_responses(schema: &Value) -> Value {
    let responses = ErrorCode::OF_SERVERS.iter().map(|(code, meaning)| {
        let response = json!({
            "description": meaning,
            "content": {"application/json": {"schema": schema}},
        });
        (name_of(*code), response)
    });
    Value::Object(responses.collect())
}

/// The name of the component with the response of a code.
fn name_of(code: ErrorCode) -> String {
    let name = json!(code);
    name.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::tests::assert_page;

    #[test]
    fn the_document_in_docs_is_this_one() {
        let text = serde_json::to_string_pretty(&document()).unwrap() + "\n";
        assert_page("openapi.json", &text);
    }

    /// Every reference leads to a component, every parameter of a path is described, every operation has its own id.
    #[test]
    fn the_document_is_complete_in_itself() {
        let document = document();
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
        let mut ids = std::collections::BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for entry in methods.as_object().unwrap().values() {
                assert!(ids.insert(entry["operationId"].as_str().unwrap()));
                let parameters = entry["parameters"].as_array().cloned().unwrap_or_default();
                for segment in path.split('/').filter(|segment| segment.starts_with('{')) {
                    let name = segment.trim_matches(['{', '}']);
                    let described =
                        |parameter: &Value| parameter["in"] == "path" && parameter["name"] == name;
                    assert!(parameters.iter().any(described), "{path}");
                }
            }
        }
        assert_eq!(ids.len(), OPERATIONS.all().len());
    }

    #[test]
    fn enumerations_are_written_as_enumerations() {
        let document = document();
        assert!(!document.to_string().contains("\"oneOf\""));
        let outcome = &document["components"]["schemas"]["Outcome"];
        assert_eq!(outcome["enum"], json!(["done", "refused"]));
        let description = outcome["description"].as_str().unwrap();
        assert!(
            description.ends_with("\n- `refused`: It was refused, and changed nothing."),
            "{description}"
        );
    }

    /// No property of an answer or of a request can hold a secret. (Records of the state that the audit log shows are
    /// looked at by the server's tests.)
    #[test]
    fn no_schema_has_room_for_a_secret() {
        fn visit(value: &Value, names: &mut Vec<String>) {
            match value {
                Value::Object(members) => {
                    if let Some(properties) = members.get("properties").and_then(Value::as_object) {
                        names.extend(properties.keys().cloned());
                    }
                    members.values().for_each(|member| visit(member, names));
                }
                Value::Array(items) => items.iter().for_each(|item| visit(item, names)),
                _ => {}
            }
        }
        let mut names = Vec::new();
        visit(&document(), &mut names);
        assert!(names.len() > 80, "the schemas were read: {}", names.len());
        for name in names {
            for word in [
                "secret",
                "private",
                "passphrase",
                "password",
                "pin",
                "sealed",
                "pkcs8",
            ] {
                assert!(!name.split('_').any(|part| part == word), "{name}");
            }
        }
    }

    /// If a type of secrets could be serialised, both implementations would apply and this would not compile.
    #[test]
    fn types_of_secrets_do_not_serialise() {
        trait AmbiguousIfSerialisable<Marker> {
            fn holds() {}
        }
        impl<T: ?Sized> AmbiguousIfSerialisable<()> for T {}
        impl<T: ?Sized + serde::Serialize> AmbiguousIfSerialisable<u8> for T {}

        <hgs_crypto::SecretBytes as AmbiguousIfSerialisable<_>>::holds();
        <hgs_custody::SoftwareKey as AmbiguousIfSerialisable<_>>::holds();
        <hgs_custody::seal::MasterKey as AmbiguousIfSerialisable<_>>::holds();
        <hgs_protector::TransportKey as AmbiguousIfSerialisable<_>>::holds();
        <crate::WithKey<crate::types::AddCertificate> as AmbiguousIfSerialisable<_>>::holds();
    }
}
