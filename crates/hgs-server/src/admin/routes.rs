//! Which method and path is which operation, and who may ask for it: as data.

use hyper::Method;

use crate::roles::Role;

/// A method of [`Administration`](super::Administration).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Operation {
    Status,
    Server,
    SetServer,
    Certificates,
    Certificate,
    CertificateUsage,
    GuardianDocument,
    AddCertificate,
    NewCertificate,
    SetCertificate,
    EnableCertificate,
    DisableCertificate,
    RetireCertificate,
    RemoveCertificate,
    Signers,
    AddSigner,
    SetSigner,
    RemoveSigner,
    Hosts,
    Host,
    AddHost,
    RevokeHost,
    RemoveHost,
    Audit,
    AuditRecord,
    Trace,
    SyntheticRoll,
    RecordExport,
}

/// A route of the API.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) operation: Operation,
    /// The name of the trait's method, in logs and metrics too.
    pub(super) name: &'static str,
    pub(super) method: Method,
    /// The path, in which one segment may be [`ITEM`].
    pub(super) path: &'static str,
    /// The least that whoever asks must be.
    pub(super) role: Role,
}

/// Stands for the segment that names one thing among many.
pub(super) const ITEM: &str = "{item}";

macro_rules! route {
    ($operation:ident, $name:literal, $method:ident $path:literal, $role:ident) => {
        Route {
            operation: Operation::$operation,
            name: $name,
            method: Method::$method,
            path: $path,
            role: Role::$role,
        }
    };
}

pub(super) const ROUTES: &[Route] = &[
    route!(Status, "status", GET "/v1/status", Reviewer),
    route!(Server, "server", GET "/v1/server", Reviewer),
    route!(SetServer, "set_server", PATCH "/v1/server", Administrator),
    route!(Certificates, "certificates", GET "/v1/certificates", Reviewer),
    route!(Certificate, "certificate", GET "/v1/certificates/{item}", Reviewer),
    route!(CertificateUsage, "certificate_usage", GET "/v1/certificate-usage", Reviewer),
    route!(GuardianDocument, "guardian_document", GET "/v1/certificates/{item}/guardian", Reviewer),
    route!(AddCertificate, "add_certificate", POST "/v1/certificates", Administrator),
    route!(NewCertificate, "new_certificate", POST "/v1/certificates/new", Administrator),
    route!(SetCertificate, "set_certificate", PATCH "/v1/certificates/{item}", Administrator),
    route!(EnableCertificate, "enable_certificate", POST "/v1/certificates/{item}/enable", Administrator),
    route!(DisableCertificate, "disable_certificate", POST "/v1/certificates/{item}/disable", Administrator),
    route!(RetireCertificate, "retire_certificate", POST "/v1/certificates/{item}/retire", Administrator),
    route!(RemoveCertificate, "remove_certificate", DELETE "/v1/certificates/{item}", Administrator),
    route!(Signers, "signers", GET "/v1/signers", Reviewer),
    route!(AddSigner, "add_signer", POST "/v1/signers", Administrator),
    route!(SetSigner, "set_signer", PATCH "/v1/signers/{item}", Administrator),
    route!(RemoveSigner, "remove_signer", DELETE "/v1/signers/{item}", Administrator),
    route!(Hosts, "hosts", GET "/v1/hosts", Reviewer),
    route!(Host, "host", GET "/v1/hosts/{item}", Reviewer),
    route!(AddHost, "add_host", POST "/v1/hosts", Administrator),
    route!(RevokeHost, "revoke_host", POST "/v1/hosts/{item}/revoke", Administrator),
    route!(RemoveHost, "remove_host", DELETE "/v1/hosts/{item}", Administrator),
    route!(Audit, "audit", GET "/v1/audit", Reviewer),
    route!(AuditRecord, "audit_record", GET "/v1/audit/{item}", Reviewer),
    route!(Trace, "trace", GET "/v1/trace", Reviewer),
    route!(SyntheticRoll, "synthetic_roll", POST "/v1/trace/roll", Reviewer),
    route!(RecordExport, "record_export", POST "/v1/exports", Administrator),
];

/// Stands for every signer where one could be named.
pub(super) const ALL: &str = "all";

/// What was found at a path.
#[derive(Debug)]
pub(super) enum Found<'p> {
    /// A route, and the segment that stands for [`ITEM`], or nothing.
    Route(&'static Route, &'p str),
    /// The path has these methods only.
    OtherMethods(Vec<&'static Method>),
    /// Nothing.
    Nothing,
}

/// Looks a request up. Paths match octet by octet; nothing is decoded (attacks.md K11).
pub(super) fn find<'p>(method: &Method, path: &'p str) -> Found<'p> {
    let at_path: Vec<_> = ROUTES
        .iter()
        .filter_map(|route| Some((route, route.item(path)?)))
        .collect();
    match at_path.iter().find(|(route, _)| route.method == *method) {
        Some((route, item)) => Found::Route(route, item),
        None if at_path.is_empty() => Found::Nothing,
        None => Found::OtherMethods(at_path.iter().map(|(route, _)| &route.method).collect()),
    }
}

impl Operation {
    /// Its route.
    pub(super) fn route(self) -> &'static Route {
        let mut routes = ROUTES.iter();
        let route = routes.find(|route| route.operation == self);
        route.expect("every operation has a route, which a test checks")
    }
}

impl Route {
    /// The path for one thing, or the path if it is not about one.
    pub(super) fn path_for(&self, item: &str) -> String {
        self.path.replace(ITEM, item)
    }

    /// The segment that stands for the item if `path` is this route's.
    fn item<'p>(&self, path: &'p str) -> Option<&'p str> {
        let mut item = "";
        let mut segments = path.split('/');
        for expected in self.path.split('/') {
            let segment = segments.next()?;
            if expected == ITEM && is_item(segment) {
                item = segment;
            } else if expected != segment {
                return None;
            }
        }
        segments.next().is_none().then_some(item)
    }
}

/// Whether a segment can name something: what a name has need not be encoded.
pub(super) fn is_item(segment: &str) -> bool {
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_');
    !matches!(segment, "" | "." | "..") && segment.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(method: Method, path: &str) -> Option<(Operation, String)> {
        match find(&method, path) {
            Found::Route(route, item) => Some((route.operation, item.to_owned())),
            _ => None,
        }
    }

    #[test]
    fn every_route_is_found_at_its_own_path() {
        for route in ROUTES {
            let item = if route.path.contains(ITEM) {
                "node-1"
            } else {
                ""
            };
            let found = operation(route.method.clone(), &route.path_for("node-1"));
            assert_eq!(found, Some((route.operation, item.to_owned())));
            assert_eq!(route.operation.route().path, route.path);
        }
    }

    #[test]
    fn only_what_changes_nothing_is_for_reviewers() {
        for route in ROUTES {
            // A synthetic roll leaves records, and changes nothing.
            let is_synthetic = route.operation == Operation::SyntheticRoll;
            assert_eq!(
                route.role == Role::Reviewer,
                route.method == Method::GET || is_synthetic,
                "{}",
                route.name
            );
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
            "/v1/hosts/a/revoke/b",
            "/v1/certificates/a/b",
            "v1/hosts",
            "/v1",
            "/",
            "",
        ] {
            assert!(operation(Method::GET, path).is_none(), "{path}");
        }
        let other = find(&Method::PUT, "/v1/hosts");
        assert!(
            matches!(other, Found::OtherMethods(methods) if methods == [&Method::GET, &Method::POST])
        );
    }
}
