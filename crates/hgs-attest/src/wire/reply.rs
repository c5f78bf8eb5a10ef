//! What a server sends.

use serde::Serialize;

use super::Json;
use super::reader::{
    MessageError, Object, number_in, read_document, result_content, unexpected_type,
};
use super::{AttestationOperationMode, ResultContent, base64, to_json};

/// Any reply of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// [MS-HGSA] 2.2.2.6.
    TpmContinue(TpmReplyContinue),
    /// [MS-HGSA] 2.2.2.7.
    HealthCertificate(HealthCertificateReply),
    /// [MS-HGSA] 2.2.2.10.
    ServiceInfo(ServiceInfoReply),
    /// [MS-HGSA] 2.2.2.11.
    Error(ErrorReply),
    /// [MS-HGSA] 2.2.2.14.
    OperationModeError(OperationModeErrorReply),
    /// [MS-HGSA] 2.2.2.15.
    PayloadError(PayloadErrorReply),
    /// [MS-HGSA] 2.2.2.16.
    PolicyEvaluationError(PolicyEvaluationErrorReply),
    /// [MS-HGSA] 2.2.2.19.
    RtpmError(RtpmErrorReply),
    /// [MS-HGSA] 2.2.2.20.
    TcgLogValidationError(TcgLogValidationErrorReply),
    /// [MS-HGSA] 2.2.2.21.
    UnauthorizedError(UnauthorizedErrorReply),
    /// [MS-HGSA] 2.2.2.22.
    UnavailableError(UnavailableErrorReply),
    /// [MS-HGSA] 2.2.2.23.
    VirtualSecureModeError(VirtualSecureModeErrorReply),
    /// [MS-HGSA] 2.2.2.24.
    VsmReportValidationError(VsmReportValidationErrorReply),
}

/// `TpmReplyContinue` ([MS-HGSA] 2.2.2.6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(
    tag = "__type",
    rename = "TpmReplyContinue:#Microsoft.Windows.RemoteAttestation.Core",
    rename_all = "PascalCase"
)]
pub struct TpmReplyContinue {
    /// The context that the host carries on ([MS-HGSA] 2.2.2.25).
    #[serde(serialize_with = "base64")]
    pub rtpm_active_context: Vec<u8>,
}

/// `HealthCertificateReply` ([MS-HGSA] 2.2.2.7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(
    tag = "__type",
    rename = "HealthCertificateReply:#Microsoft.Windows.RemoteAttestation.Core",
    rename_all = "PascalCase"
)]
pub struct HealthCertificateReply {
    /// The certificates, each with the type that was requested.
    pub content: Vec<ResultContent>,
}

/// `ServiceInfoReply` ([MS-HGSA] 2.2.2.10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(
    tag = "__type",
    rename = "ServiceInfoReply:#Microsoft.Windows.RemoteAttestation.Core",
    rename_all = "PascalCase"
)]
pub struct ServiceInfoReply {
    /// The functional level of the server.
    pub functional_level: u32,
    /// The mode of the server.
    pub operation_mode: AttestationOperationMode,
    /// The functional levels that the server supports.
    pub supported_functional_levels: Vec<u32>,
}

/// What OpenHGS adds to an error reply, after the members of the specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ErrorDetail {
    /// The code of the error table of the protocol profile.
    pub code: String,
    /// For people.
    pub message: String,
}

/// `OperationModeErrorReply` ([MS-HGSA] 2.2.2.14).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(
    tag = "__type",
    rename = "OperationModeErrorReply:#Microsoft.Windows.RemoteAttestation.Core",
    rename_all = "PascalCase"
)]
pub struct OperationModeErrorReply {
    /// Whether another try can succeed.
    pub retryable: bool,
    /// The mode of the server.
    pub expected_operation_mode: AttestationOperationMode,
    /// Absent in replies of other implementations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_hgs: Option<ErrorDetail>,
}

/// `PolicyEvaluationErrorReply` ([MS-HGSA] 2.2.2.16).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(
    tag = "__type",
    rename = "PolicyEvaluationErrorReply:#Microsoft.Windows.RemoteAttestation.Core",
    rename_all = "PascalCase"
)]
pub struct PolicyEvaluationErrorReply {
    /// Whether another try can succeed.
    pub retryable: bool,
    /// Which policies held and which did not.
    pub reasons: Vec<EvaluationLog>,
    /// Absent in replies of other implementations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_hgs: Option<ErrorDetail>,
}

/// `EvaluationLog` ([MS-HGSA] 2.2.2.13).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EvaluationLog {
    /// Whether the policy held.
    pub result: bool,
    /// Which policy it was: the octets of a GUID.
    #[serde(serialize_with = "base64")]
    pub reason: Vec<u8>,
}

macro_rules! error_reply {
    ($(#[$doc:meta])* $name:ident, $type_name:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[serde(tag = "__type", rename = $type_name, rename_all = "PascalCase")]
        pub struct $name {
            /// Whether another try can succeed.
            pub retryable: bool,
            /// Absent in replies of other implementations.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub open_hgs: Option<ErrorDetail>,
        }

        impl $name {
            fn read(object: &Object<'_, '_>) -> Result<Self, MessageError> {
                Ok(Self {
                    retryable: object.boolean("Retryable")?,
                    open_hgs: error_detail(object)?,
                })
            }
        }
    };
}

error_reply! {
    /// `ErrorReply` ([MS-HGSA] 2.2.2.11): an error that no other reply is for.
    ErrorReply, "ErrorReply:#Microsoft.Windows.RemoteAttestation.Core"
}
error_reply! {
    /// `PayloadErrorReply` ([MS-HGSA] 2.2.2.15): the request is not one that the server supports.
    PayloadErrorReply, "PayloadErrorReply:#Microsoft.Windows.RemoteAttestation.Core"
}
error_reply! {
    /// `RtpmErrorReply` ([MS-HGSA] 2.2.2.19): the remote TPM protocol failed.
    RtpmErrorReply, "RtpmErrorReply:#Microsoft.Windows.RemoteAttestation.Core"
}
error_reply! {
    /// `TcgLogValidationErrorReply` ([MS-HGSA] 2.2.2.20): the boot log does not hold.
    TcgLogValidationErrorReply, "TcgLogValidationErrorReply:#Microsoft.Windows.RemoteAttestation.Core"
}
error_reply! {
    /// `UnauthorizedErrorReply` ([MS-HGSA] 2.2.2.21): the host is not one that may attest.
    UnauthorizedErrorReply, "UnauthorizedErrorReply:#Microsoft.Windows.RemoteAttestation.Core"
}
error_reply! {
    /// `UnavailableErrorReply` ([MS-HGSA] 2.2.2.22): the service can't answer now.
    UnavailableErrorReply, "UnavailableErrorReply:#Microsoft.Windows.RemoteAttestation.Core"
}
error_reply! {
    /// `VirtualSecureModeErrorReply` ([MS-HGSA] 2.2.2.23): the identity key is not acceptable.
    VirtualSecureModeErrorReply, "VirtualSecureModeErrorReply:#Microsoft.Windows.RemoteAttestation.Core"
}
error_reply! {
    /// `VsmReportValidationErrorReply` ([MS-HGSA] 2.2.2.24): the report of the CA trustlet does not hold.
    ///
    /// The schema of that section gives it the `__type` of VirtualSecureModeErrorReply, from which it could not be
    /// told then; it has its own name here. No server of ours sends it.
    VsmReportValidationErrorReply, "VsmReportValidationErrorReply:#Microsoft.Windows.RemoteAttestation.Core"
}

impl Reply {
    /// Reads a reply by its `__type`.
    pub fn parse(octets: &[u8]) -> Result<Self, MessageError> {
        let document = read_document(octets)?;
        let object = Object::of(&document)?;
        let name = object.message_type()?.ok_or(MessageError::NoType)?;
        Ok(match name {
            "TpmReplyContinue" => Self::TpmContinue(TpmReplyContinue {
                rtpm_active_context: object.octets("RtpmActiveContext")?,
            }),
            "HealthCertificateReply" => Self::HealthCertificate(HealthCertificateReply {
                content: object.list("Content", result_content)?,
            }),
            "ServiceInfoReply" => Self::ServiceInfo(service_info(&object)?),
            "ErrorReply" => Self::Error(ErrorReply::read(&object)?),
            "OperationModeErrorReply" => Self::OperationModeError(operation_mode_error(&object)?),
            "PayloadErrorReply" => Self::PayloadError(PayloadErrorReply::read(&object)?),
            "PolicyEvaluationErrorReply" => {
                Self::PolicyEvaluationError(policy_evaluation_error(&object)?)
            }
            "RtpmErrorReply" => Self::RtpmError(RtpmErrorReply::read(&object)?),
            "TcgLogValidationErrorReply" => {
                Self::TcgLogValidationError(TcgLogValidationErrorReply::read(&object)?)
            }
            "UnauthorizedErrorReply" => {
                Self::UnauthorizedError(UnauthorizedErrorReply::read(&object)?)
            }
            "UnavailableErrorReply" => {
                Self::UnavailableError(UnavailableErrorReply::read(&object)?)
            }
            "VirtualSecureModeErrorReply" => {
                Self::VirtualSecureModeError(VirtualSecureModeErrorReply::read(&object)?)
            }
            "VsmReportValidationErrorReply" => {
                Self::VsmReportValidationError(VsmReportValidationErrorReply::read(&object)?)
            }
            other => return Err(unexpected_type(other)),
        })
    }

    /// The octets on the wire: compact JSON with `__type` first.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }
}

fn service_info(object: &Object<'_, '_>) -> Result<ServiceInfoReply, MessageError> {
    let levels = "SupportedFunctionalLevels";
    Ok(ServiceInfoReply {
        functional_level: object.unsigned_int("FunctionalLevel")?,
        operation_mode: object.unsigned_int("OperationMode")?.into(),
        supported_functional_levels: object.list(levels, number_in(levels))?,
    })
}

fn operation_mode_error(object: &Object<'_, '_>) -> Result<OperationModeErrorReply, MessageError> {
    Ok(OperationModeErrorReply {
        retryable: object.boolean("Retryable")?,
        expected_operation_mode: object.unsigned_int("ExpectedOperationMode")?.into(),
        open_hgs: error_detail(object)?,
    })
}

fn policy_evaluation_error(
    object: &Object<'_, '_>,
) -> Result<PolicyEvaluationErrorReply, MessageError> {
    Ok(PolicyEvaluationErrorReply {
        retryable: object.boolean("Retryable")?,
        reasons: object.list("Reasons", evaluation_log)?,
        open_hgs: error_detail(object)?,
    })
}

fn evaluation_log(json: &Json<'_>) -> Result<EvaluationLog, MessageError> {
    let entry = Object::of(json)?;
    Ok(EvaluationLog {
        result: entry.boolean("Result")?,
        reason: entry.octets("Reason")?,
    })
}

/// Characters kept of what another server says for people, which ends up on screens and in logs.
const MAX_DETAIL_CHARACTERS: usize = 4000;

fn error_detail(object: &Object<'_, '_>) -> Result<Option<ErrorDetail>, MessageError> {
    let Some(detail) = object.object("OpenHgs") else {
        return Ok(None);
    };
    let plain = |text: &str| -> String {
        let plain = text.chars().filter(|character| !steers(*character));
        plain.take(MAX_DETAIL_CHARACTERS).collect()
    };
    Ok(Some(ErrorDetail {
        code: plain(detail.text("Code")?),
        message: plain(detail.text("Message")?),
    }))
}

/// Controls of terminals, and those that turn the direction of text or break a line.
fn steers(character: char) -> bool {
    let of_unicode = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    character.is_control() || of_unicode
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn octets() -> impl Strategy<Value = Vec<u8>> {
        vec(any::<u8>(), 0..300)
    }

    fn detail() -> impl Strategy<Value = Option<ErrorDetail>> {
        let text = || {
            let text = "[ -~\u{a0}-\u{ffff}\u{1f600}]{0,40}";
            text.prop_map(|text| text.replace(steers, ""))
        };
        let detail = (text(), text()).prop_map(|(code, message)| ErrorDetail { code, message });
        proptest::option::of(detail)
    }

    fn reply() -> impl Strategy<Value = Reply> {
        let content = (any::<u32>(), octets()).prop_map(|(number, octets)| ResultContent {
            result_type: number.into(),
            octets,
        });
        let reason =
            (any::<bool>(), octets()).prop_map(|(result, reason)| EvaluationLog { result, reason });
        prop_oneof![
            octets().prop_map(|octets| Reply::TpmContinue(TpmReplyContinue {
                rtpm_active_context: octets
            })),
            vec(content, 0..4)
                .prop_map(|content| Reply::HealthCertificate(HealthCertificateReply { content })),
            (any::<u32>(), any::<u32>(), vec(any::<u32>(), 0..4)).prop_map(
                |(level, mode, levels)| Reply::ServiceInfo(ServiceInfoReply {
                    functional_level: level,
                    operation_mode: mode.into(),
                    supported_functional_levels: levels,
                })
            ),
            (any::<bool>(), any::<u32>(), detail()).prop_map(|(retryable, mode, open_hgs)| {
                Reply::OperationModeError(OperationModeErrorReply {
                    retryable,
                    expected_operation_mode: mode.into(),
                    open_hgs,
                })
            }),
            (any::<bool>(), vec(reason, 0..4), detail()).prop_map(
                |(retryable, reasons, open_hgs)| Reply::PolicyEvaluationError(
                    PolicyEvaluationErrorReply {
                        retryable,
                        reasons,
                        open_hgs
                    }
                )
            ),
            (0..8usize, any::<bool>(), detail())
                .prop_map(|(which, retryable, detail)| plain_error(which, retryable, detail)),
        ]
    }

    fn plain_error(which: usize, retryable: bool, open_hgs: Option<ErrorDetail>) -> Reply {
        macro_rules! make {
            ($variant:ident, $name:ident) => {
                Reply::$variant($name {
                    retryable,
                    open_hgs,
                })
            };
        }
        match which {
            0 => make!(Error, ErrorReply),
            1 => make!(PayloadError, PayloadErrorReply),
            2 => make!(RtpmError, RtpmErrorReply),
            3 => make!(TcgLogValidationError, TcgLogValidationErrorReply),
            4 => make!(UnauthorizedError, UnauthorizedErrorReply),
            5 => make!(UnavailableError, UnavailableErrorReply),
            6 => make!(VirtualSecureModeError, VirtualSecureModeErrorReply),
            _ => make!(VsmReportValidationError, VsmReportValidationErrorReply),
        }
    }

    proptest! {
        #[test]
        fn every_reply_is_read_as_it_was_written(reply in reply()) {
            prop_assert_eq!(Reply::parse(&reply.to_json()), Ok(reply));
        }

        #[test]
        fn every_reply_has_its_type_first(reply in reply()) {
            let text = String::from_utf8(reply.to_json()).unwrap();
            let first = text.strip_prefix(r#"{"__type":""#).unwrap();
            let (name, _) = first.split_once('"').unwrap();
            let (name, namespace) = name.split_once(':').unwrap();
            prop_assert!(name.ends_with("Reply") || name == "TpmReplyContinue");
            prop_assert_eq!(namespace, "#Microsoft.Windows.RemoteAttestation.Core");
        }
    }

    /// The octets are written here by hand from the schemas of [MS-HGSA] 2.2.2.
    #[test]
    fn replies_have_the_members_of_their_schemas_in_the_order_of_the_profile() {
        let written = |reply: Reply| String::from_utf8(reply.to_json()).unwrap();
        let detail = ErrorDetail {
            code: "operation-mode".to_owned(),
            message: "x".to_owned(),
        };
        assert_eq!(
            written(Reply::OperationModeError(OperationModeErrorReply {
                retryable: true,
                expected_operation_mode: AttestationOperationMode::HostKey,
                open_hgs: Some(detail),
            })),
            concat!(
                r#"{"__type":"OperationModeErrorReply:#Microsoft.Windows.RemoteAttestation.Core","#,
                r#""Retryable":true,"ExpectedOperationMode":3,"#,
                r#""OpenHgs":{"Code":"operation-mode","Message":"x"}}"#
            )
        );
        assert_eq!(
            written(Reply::HealthCertificate(HealthCertificateReply {
                content: vec![ResultContent {
                    result_type: 2.into(),
                    octets: b"foo".to_vec()
                }]
            })),
            concat!(
                r#"{"__type":"HealthCertificateReply:#Microsoft.Windows.RemoteAttestation.Core","#,
                r#""Content":[{"m_Item1":2,"m_Item2":"Zm9v"}]}"#
            )
        );
        assert_eq!(
            written(plain_error(4, false, None)),
            concat!(
                r#"{"__type":"UnauthorizedErrorReply:#Microsoft.Windows.RemoteAttestation.Core","#,
                r#""Retryable":false}"#
            )
        );
    }

    #[test]
    fn what_another_server_says_for_people_is_cut_short_and_can_t_steer_a_terminal() {
        let text = format!(
            r#"{{"__type":"ErrorReply:#Microsoft.Windows.RemoteAttestation.Core","Retryable":false,"OpenHgs":{{"Code":"a\u001b[2J\u202eb","Message":"{}"}}}}"#,
            "é".repeat(MAX_DETAIL_CHARACTERS + 1)
        );
        let Ok(Reply::Error(reply)) = Reply::parse(text.as_bytes()) else {
            panic!("not read");
        };
        let detail = reply.open_hgs.unwrap();
        assert_eq!(detail.code, "a[2Jb");
        assert_eq!(detail.message, "é".repeat(MAX_DETAIL_CHARACTERS));
    }

    #[test]
    fn a_reply_without_a_known_type_is_refused() {
        assert_eq!(Reply::parse(b"{}"), Err(MessageError::NoType));
        let request = br#"{"__type":"ADRequest:#Microsoft.Windows.RemoteAttestation.Core"}"#;
        let found = "ADRequest".to_owned();
        assert_eq!(
            Reply::parse(request),
            Err(MessageError::UnexpectedType { found })
        );
    }
}
