//! One operation as data, and how a request finds it and reaches the method that carries it out.

use bytes::Bytes;
use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::describe::Description;
use crate::key::{self, WithKey};
use crate::operations::{Administration, OPERATIONS};
use crate::path::{Segment, is_plain};
use crate::{AdminError, Caller, Permission, query};

/// What [`operations`](crate::operations) declares about an operation.
#[derive(Debug)]
pub struct Operation {
    /// The name of its method in [`Administration`], also in logs, metrics and as `operationId`.
    pub name: &'static str,
    /// The method of its requests.
    pub method: Method,
    /// The path of its requests. One segment may stand for one thing among many; it is written in braces.
    pub path: &'static str,
    /// What a caller must be permitted.
    pub permission: Permission,
    /// What it does, for people.
    pub documentation: &'static str,
    pub(crate) describe: fn(Description<'_>) -> Description<'_>,
    pub(crate) perform: fn(&dyn Administration, &Call<'_>) -> Result<Vec<u8>, AdminError>,
}

/// A request for an operation that was found, as it was sent.
#[derive(Debug, Clone, Copy)]
pub struct Call<'c> {
    /// The segment of the path that stands for one thing; empty where the operation has none.
    pub segment: &'c str,
    /// What follows the `?`.
    pub query: &'c str,
    /// The body.
    pub body: &'c [u8],
}

/// What a method and a path lead to.
#[derive(Debug)]
pub enum RouteMatch<'p> {
    /// An operation, and the segment of the path that stands for one thing.
    Operation(&'static Operation, &'p str),
    /// The path is right, the method is not: these are.
    OtherMethods(Vec<&'static Method>),
    /// Nothing.
    Nothing,
}

/// Finds the operation of a request. Paths match octet by octet; nothing is decoded (attacks.md K11).
#[must_use]
pub fn find<'p>(method: &Method, path: &'p str) -> RouteMatch<'p> {
    let at_path: Vec<_> = OPERATIONS
        .all()
        .into_iter()
        .filter_map(|operation| Some((operation, operation.segment_of(path)?)))
        .collect();
    match at_path.iter().find(|(found, _)| found.method == *method) {
        Some((operation, segment)) => RouteMatch::Operation(operation, segment),
        None if at_path.is_empty() => RouteMatch::Nothing,
        None => RouteMatch::OtherMethods(at_path.iter().map(|(found, _)| &found.method).collect()),
    }
}

impl Operation {
    /// Checks the permission of `caller`, has `administration` carry out the call, and returns the answer in JSON.
    ///
    /// # Errors
    /// [`ErrorCode::Forbidden`](crate::ErrorCode::Forbidden),
    /// [`ErrorCode::InvalidRequest`](crate::ErrorCode::InvalidRequest), and all that the operation itself reports.
    pub fn answer(
        &self,
        caller: &Caller,
        administration: &dyn Administration,
        call: &Call<'_>,
    ) -> Result<Vec<u8>, AdminError> {
        caller.require(self.permission)?;
        (self.perform)(administration, call)
    }

    /// The path with `segment` in the place of the braces.
    #[must_use]
    pub fn path_for(&self, segment: &str) -> String {
        match (self.path.find('{'), self.path.find('}')) {
            (Some(start), Some(end)) => {
                [&self.path[..start], segment, &self.path[end + 1..]].concat()
            }
            _ => self.path.to_owned(),
        }
    }

    /// The segment that stands for one thing, if `path` is a path of this operation.
    fn segment_of<'p>(&self, path: &'p str) -> Option<&'p str> {
        let mut found = "";
        let mut segments = path.split('/');
        for expected in self.path.split('/') {
            let segment = segments.next()?;
            if expected.starts_with('{') {
                found = is_plain(segment).then_some(segment)?;
            } else if expected != segment {
                return None;
            }
        }
        segments.next().is_none().then_some(found)
    }
}

/// Arguments of an operation, read from a call. The names of these methods are the places of `operations!`.
impl Call<'_> {
    pub(crate) fn path<T: Segment>(&self) -> Result<T, AdminError> {
        self.segment.parse().map_err(AdminError::invalid)
    }

    pub(crate) fn query<T: DeserializeOwned>(&self) -> Result<T, AdminError> {
        query::read(self.query)
    }

    pub(crate) fn body<T: DeserializeOwned>(&self) -> Result<T, AdminError> {
        serde_json::from_slice(self.body).map_err(AdminError::invalid)
    }

    pub(crate) fn body_with_key<T: DeserializeOwned>(&self) -> Result<WithKey<T>, AdminError> {
        key::read(self.body)
    }
}

/// A request for an operation that a client is about to send.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) segment: String,
    pub(crate) query: String,
    pub(crate) body: Bytes,
}

/// Arguments of an operation, written to a request. The names of these methods are the places of `operations!`.
impl Outgoing {
    #[expect(clippy::unnecessary_wraps, reason = "as its siblings")]
    pub(crate) fn path(self, argument: &impl Segment) -> Result<Self, AdminError> {
        let segment = argument.to_string();
        Ok(Self { segment, ..self })
    }

    pub(crate) fn query(self, argument: &impl Serialize) -> Result<Self, AdminError> {
        let query = query::write(argument)?;
        Ok(Self { query, ..self })
    }

    pub(crate) fn body(self, argument: &impl Serialize) -> Result<Self, AdminError> {
        let json = serde_json::to_vec(argument).map_err(AdminError::invalid)?;
        Ok(Self {
            body: json.into(),
            ..self
        })
    }

    pub(crate) fn body_with_key<T: Serialize>(
        self,
        argument: &WithKey<T>,
    ) -> Result<Self, AdminError> {
        let body = key::write(argument)?;
        Ok(Self { body, ..self })
    }
}

pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("answers have text for keys and are written to memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: Method, path: &str) -> Option<(&'static str, String)> {
        match find(&method, path) {
            RouteMatch::Operation(operation, segment) => Some((operation.name, segment.to_owned())),
            _ => None,
        }
    }

    #[test]
    fn every_operation_is_found_at_its_own_path() {
        for operation in OPERATIONS.all() {
            let segment = if operation.path.contains('{') {
                "node-1"
            } else {
                ""
            };
            let found = found(operation.method.clone(), &operation.path_for("node-1"));
            assert_eq!(found, Some((operation.name, segment.to_owned())));
        }
    }

    #[test]
    fn only_what_changes_nothing_is_read_with_get() {
        for operation in OPERATIONS.all() {
            let reads = operation.method == Method::GET;
            let diagnoses = operation.permission == Permission::Diagnose;
            assert!(
                operation.permission.changes_state() != reads || diagnoses,
                "{}",
                operation.name
            );
        }
    }

    /// What is no value of an enumeration does not reach the method.
    #[test]
    fn a_body_with_another_kind_is_refused() {
        for body in [
            r#"{"kind":"tls"}"#,
            r#"{"kind":"signing","bit":2048}"#,
            "{}",
            "[",
        ] {
            let call = Call {
                segment: "",
                query: "",
                body: body.as_bytes(),
            };
            let refused = call.body::<crate::types::NewCertificate>().unwrap_err();
            assert_eq!(refused.code, crate::ErrorCode::InvalidRequest, "{body}");
        }
    }

    /// attacks.md K10: where the audit log goes is not the API's business; the log is in the store, and only read from here.
    #[test]
    fn k10_the_audit_log_is_only_read() {
        for operation in OPERATIONS.all() {
            if operation.path.contains("audit") || operation.name.contains("audit") {
                assert_eq!(operation.method, Method::GET, "{}", operation.name);
                assert_eq!(operation.permission, Permission::ViewAudit);
            }
        }
    }

    /// attacks.md K11: there is one spelling of each path.
    #[test]
    fn k11_other_spellings_lead_nowhere() {
        for path in [
            "/V1/hosts",
            "/v1/hosts/",
            "/v1//hosts",
            "/v1/hosts/a/",
            "/v1/hosts/a%2fb",
            "/v1/hosts/%61",
            "/v1/hosts/..",
            "/v1/hosts/.",
            "/v1/hosts/a/../b",
            "/v1/hosts/a b",
            "/v1/hosts/*",
            "/v1/hosts/{host}",
            "/v1/hosts/a/revoke/b",
            "/v1/certificates/a/b",
            "v1/hosts",
            "/v1",
            "/",
            "",
        ] {
            assert!(found(Method::GET, path).is_none(), "{path}");
        }
        let other = find(&Method::PUT, "/v1/hosts");
        assert!(
            matches!(other, RouteMatch::OtherMethods(methods) if methods == [&Method::GET, &Method::POST])
        );
    }
}
