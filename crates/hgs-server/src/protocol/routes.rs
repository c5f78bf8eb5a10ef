//! Which path is which operation: section 1 of the protocol profile, as data.

use hgs_attest::Endpoint;
use hgs_kps::ServiceVersion;

use super::family::Family;

/// Something that the protocols offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    RollTransportKey(ServiceVersion),
    Metadata,
    ServiceInfo,
    Attest(Endpoint),
    SigningCertificates,
    HealthToken,
    HealthTokenKeys,
    HealthTokenDiscovery,
}

/// A path, and what is there.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) family: Family,
    /// What follows one of the roots of the family.
    path: &'static str,
    pub(super) methods: &'static [&'static str],
    pub(super) operation: Operation,
    /// Its name in logs and metrics.
    pub(super) name: &'static str,
    /// Where it is specified.
    #[cfg_attr(
        not(test),
        expect(
            dead_code,
            reason = "for readers, and for the test that compares it with the profile"
        )
    )]
    section: &'static str,
}

pub(super) const ROUTES: &[Route] = &[
    Route {
        family: Family::KeyProtection,
        path: "/service/v1.0/rolltransportkey",
        methods: &["POST"],
        operation: Operation::RollTransportKey(ServiceVersion::V1),
        name: "roll-v1.0",
        section: "[MS-KPS] 3.1.5.1.1",
    },
    Route {
        family: Family::KeyProtection,
        path: "/service/v2.0/rolltransportkey",
        methods: &["POST"],
        operation: Operation::RollTransportKey(ServiceVersion::V2),
        name: "roll-v2.0",
        section: "[MS-KPS] 3.1.5.1.1",
    },
    Route {
        family: Family::KeyProtection,
        path: "/service/metadata/2014-07/metadata.xml",
        methods: &["GET", "POST"],
        operation: Operation::Metadata,
        name: "metadata",
        section: "[MS-KPS] 3.1.5.1.2",
    },
    Route {
        family: Family::Attestation,
        path: "/getinfo",
        methods: &["GET"],
        operation: Operation::ServiceInfo,
        name: "getinfo",
        section: "[MS-HGSA] 3.1.5.4",
    },
    Route {
        family: Family::Attestation,
        path: "/v2.0/hostkeyattest",
        methods: &["POST"],
        operation: Operation::Attest(Endpoint::HostKeyAttest),
        name: "hostkeyattest",
        section: "[MS-HGSA] 3.1.5.3",
    },
    Route {
        family: Family::Attestation,
        path: "/v1.0/attest",
        methods: &["POST"],
        operation: Operation::Attest(Endpoint::Attest),
        name: "attest-v1.0",
        section: "[MS-HGSA] 3.1.5.1",
    },
    Route {
        family: Family::Attestation,
        path: "/v2.0/attest",
        methods: &["POST"],
        operation: Operation::Attest(Endpoint::Attest),
        name: "attest-v2.0",
        section: "[MS-HGSA] 3.1.5.1",
    },
    Route {
        family: Family::Attestation,
        path: "/v1.0/domainattest",
        methods: &["POST"],
        operation: Operation::Attest(Endpoint::DomainAttest),
        name: "domainattest-v1.0",
        section: "[MS-HGSA] 3.1.5.2",
    },
    Route {
        family: Family::Attestation,
        path: "/v2.0/domainattest",
        methods: &["POST"],
        operation: Operation::Attest(Endpoint::DomainAttest),
        name: "domainattest-v2.0",
        section: "[MS-HGSA] 3.1.5.2",
    },
    Route {
        family: Family::Attestation,
        path: "/v2.0/signingCertificates",
        methods: &["GET"],
        operation: Operation::SigningCertificates,
        name: "signing-certificates",
        section: "[MS-HGSA] 3.1.5.5",
    },
    Route {
        family: Family::Attestation,
        path: "/openhgs/v1/token",
        methods: &["GET", "POST"],
        operation: Operation::HealthToken,
        name: "health-token",
        section: "section 14",
    },
    Route {
        family: Family::WellKnown,
        path: "/jwks.json",
        methods: &["GET"],
        operation: Operation::HealthTokenKeys,
        name: "health-token-keys",
        section: "section 14",
    },
    Route {
        family: Family::WellKnown,
        path: "/openid-configuration",
        methods: &["GET"],
        operation: Operation::HealthTokenDiscovery,
        name: "health-token-discovery",
        section: "section 14",
    },
];

/// The route of a path, which is matched without regard to ASCII case and to one trailing slash.
pub(super) fn find(path: &str) -> Option<&'static Route> {
    let path = path.strip_suffix('/').unwrap_or(path);
    if !is_plain(path) {
        return None;
    }
    ROUTES.iter().find(|route| route.is_at(path))
}

impl Route {
    fn is_at(&self, path: &str) -> bool {
        let mut roots = self.family.roots().iter();
        roots.any(|root| {
            let below = path.split_at_checked(root.len());
            below.is_some_and(|(start, rest)| {
                start.eq_ignore_ascii_case(root) && rest.eq_ignore_ascii_case(self.path)
            })
        })
    }
}

/// Whether a path means what it says: nothing in it is encoded, empty, or leads elsewhere (attacks.md K1).
fn is_plain(path: &str) -> bool {
    let Some(segments) = path.strip_prefix('/') else {
        return false;
    };
    !path.contains('%')
        && segments
            .split('/')
            .all(|segment| !matches!(segment, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(path: &str) -> Option<Operation> {
        find(path).map(|route| route.operation)
    }

    #[test]
    fn case_and_one_trailing_slash_make_no_difference() {
        let roll = Some(Operation::RollTransportKey(ServiceVersion::V2));
        for path in [
            "/KeyProtection/service/v2.0/rolltransportkey",
            "/keyprotection/service/v2.0/rolltransportkey/",
            "/KEYPROTECTION/SERVICE/V2.0/ROLLTRANSPORTKEY",
        ] {
            assert_eq!(operation(path), roll, "{path}");
        }
        let certificates = Some(Operation::SigningCertificates);
        for path in [
            "/Attestation/v2.0/signingCertificates",
            "/attestation/v2.0/signingcertificates/",
            "/Attestation/attestationservice.svc/v2.0/signingCertificates",
            "/attestation/AttestationService.svc/v2.0/SIGNINGCERTIFICATES/",
        ] {
            assert_eq!(operation(path), certificates, "{path}");
        }
    }

    /// attacks.md K1: no other spelling of a path leads to it.
    #[test]
    fn k1_encoded_empty_and_dot_segments_match_nothing() {
        for path in [
            "",
            "/",
            "//",
            "/Attestation",
            "/Attestation/",
            "Attestation/getinfo",
            "/Attestation//getinfo",
            "//Attestation/getinfo",
            "/Attestation/getinfo//",
            "/Attestation/./getinfo",
            "/Attestation/../Attestation/getinfo",
            "/Attestation/v2.0/../getinfo",
            "/Attestation/getinfo/.",
            "/Attestation/getinf%6f",
            "/Attestation%2Fgetinfo",
            "/Attestation/getinfo;x=1",
            "/Attestation/getinfo/more",
            "/Attestation/attestationservice.svc/attestationservice.svc/getinfo",
            "/KeyProtection/attestationservice.svc/getinfo",
            "/KeyProtection/service/v3.0/rolltransportkey",
            "/KeyProtection/service/v2.0/rolltransportkey.xml",
            "/\u{212a}eyProtection/service/v2.0/rolltransportkey",
        ] {
            assert_eq!(operation(path), None, "{path}");
        }
    }

    /// The table of section 1, whose rows may name several paths.
    #[test]
    fn the_profile_lists_every_route_with_its_section_and_methods() {
        let page = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/protocol-profile.md"
        );
        let page = std::fs::read_to_string(page).unwrap();
        let rows: Vec<&str> = page
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        for route in ROUTES {
            let root = match route.family {
                Family::KeyProtection => "/KeyProtection",
                Family::Attestation => "/Attestation",
                Family::WellKnown => "/.well-known",
                Family::Neither => panic!("{} has no root", route.path),
            };
            let path = format!("{root}{}", route.path);
            let in_full = |row: &&&str| row.contains(&path);
            // `…/v2.0/…` stands for the same path with another version.
            let by_version = |row: &&&str| {
                row.contains("`…/v2.0/…`") && row.contains(&path.replace("v2.0", "v1.0"))
            };
            let row = rows
                .iter()
                .find(in_full)
                .or_else(|| rows.iter().find(by_version))
                .unwrap_or_else(|| panic!("{path} is not in the profile"));
            assert!(row.contains(route.section), "{path}: {}", route.section);
            for method in ["GET", "POST"] {
                let allowed =
                    row.contains(&format!("`{method} ")) || row.contains(&format!("`{method}`"));
                assert_eq!(allowed, route.methods.contains(&method), "{method} {path}");
            }
        }
    }
}
