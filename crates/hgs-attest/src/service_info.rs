//! What a server says of itself to anybody ([MS-HGSA] 3.1.5.4).

use crate::wire::{AttestationOperationMode, Reply, ServiceInfoReply};

/// The functional level of this implementation: v2.0 of the protocol.
pub const FUNCTIONAL_LEVEL: u32 = 2;

/// The reply to `GET /Attestation/getinfo`.
#[must_use]
pub fn service_info(mode: AttestationOperationMode) -> Reply {
    Reply::ServiceInfo(ServiceInfoReply {
        functional_level: FUNCTIONAL_LEVEL,
        operation_mode: mode,
        supported_functional_levels: vec![1, 2],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are those of section 7 of the protocol profile, the members those of [MS-HGSA] 2.2.2.10.
    #[test]
    fn says_what_the_profile_says() {
        let reply = service_info(AttestationOperationMode::HostKey).to_json();
        assert_eq!(
            String::from_utf8(reply).unwrap(),
            concat!(
                r#"{"__type":"ServiceInfoReply:#Microsoft.Windows.RemoteAttestation.Core","#,
                r#""FunctionalLevel":2,"OperationMode":3,"SupportedFunctionalLevels":[1,2]}"#
            )
        );
    }
}
