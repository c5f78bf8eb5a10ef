//! The error table of the protocol profile, read from the page itself, against what the code answers.

use hgs_attest::freshness::{FreshnessError, NONCE_HEADER};
use hgs_attest::policy::{Evaluation, EvidenceError, NextBootError, PolicySet, RecordedEvidence};
use hgs_attest::rtpm::{ContextError, ExchangeError, SealedStateError};
use hgs_attest::wire::{
    AttestationOperationMode, AttestationProvidedContentType, MessageError, Reply,
};
use hgs_attest::{Code, IdentityRefusal, Reason, Refusal};
use hgs_crypto::rsa::PublicKeyError;
use hgs_pki::Time;
use hgs_pki::health::HealthKind;
use hgs_tcg::event_log::{self, Bank, EventLog, EventLogError, PcrValues, ReplayError};
use hgs_tcg::ima::{self, ImaLog, ImaLogError, ImaReplayError};
use hgs_tcg::tpm::{ResponseCode, ResponseError, SessionError};

const PROFILE: &str = include_str!("../../../docs/protocol-profile.md");

/// One code of the table: its name, reply, HTTP status and Retryable.
type Row = (String, String, u16, bool);

fn rows_of_the_page() -> Vec<Row> {
    let header = "| reply | Code | status | Retryable | when |";
    let (_, table) = PROFILE.split_once(header).expect("the page has the table");
    let lines = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    lines.flat_map(rows_of_a_line).collect()
}

fn rows_of_a_line(line: &str) -> Vec<Row> {
    let cells: Vec<_> = line.split('|').map(str::trim).collect();
    let [_, reply, codes, statuses, retryable, ..] = cells[..] else {
        panic!("too few cells: {line}");
    };
    let codes = quoted(codes);
    let statuses: Vec<u16> = statuses.split(", ").map(|n| n.parse().unwrap()).collect();
    assert_eq!(codes.len(), statuses.len(), "{line}");
    let rows = codes.into_iter().zip(statuses);
    rows.map(|(code, status)| {
        let retryable = match retryable.split_once(", but true for ") {
            Some(("false", exceptions)) => quoted(exceptions).contains(&code),
            Some(_) => panic!("unknown exception: {line}"),
            None => retryable.parse().unwrap(),
        };
        (code, reply.to_owned(), status, retryable)
    })
    .collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Reasons of every kind, at least one for each code.
fn reasons() -> Vec<Reason> {
    let key = AttestationProvidedContentType::HostKeyPublicKey;
    let time = Time::from_unix(0);
    vec![
        Reason::Message(MessageError::NotAnObject),
        Reason::Message(MessageError::TooManyProvidedContents { found: 17 }),
        Reason::OtherRequest { found: "ADRequest" },
        Reason::MissingContent(key),
        Reason::DoubledContent(key),
        Reason::ResultCount(2),
        Reason::UnknownResult(4),
        Reason::CaIntermediate,
        Reason::HostNotRegistered,
        Reason::HostKeySignature,
        Reason::HostRevoked,
        Reason::IdentityKey(PublicKeyError::Malformed),
        Reason::IdentityKeyIsHostKey,
        Reason::IdentityRefused(IdentityRefusal::OtherKind {
            recorded: HealthKind::Signing,
        }),
        Reason::IdentityRefused(IdentityRefusal::Superseded { at: time }),
        Reason::IdentityRefused(IdentityRefusal::Expired {
            first_seen: time,
            now: time,
        }),
        Reason::IdentityRefused(IdentityRefusal::HostKeyShared {
            at: time,
            other: time,
        }),
        Reason::IdentityRefused(IdentityRefusal::TooManyNew { next: time }),
        Reason::IdentityRefused(IdentityRefusal::TooMany),
        Reason::Freshness(FreshnessError::Missing),
        Reason::Freshness(FreshnessError::Expired {
            made: time,
            now: time,
        }),
        Reason::Freshness(FreshnessError::Malformed {
            header: NONCE_HEADER,
        }),
        Reason::Freshness(FreshnessError::Foreign),
        Reason::Freshness(FreshnessError::Signature),
        Reason::EndorsementKeyNotRegistered,
        Reason::RtpmContext(ContextError::Trailing),
        Reason::RtpmContext(ContextError::TooManyBlobs(1000)),
        Reason::CommandFromHost,
        Reason::SealedState(SealedStateError::Foreign),
        Reason::SealedState(SealedStateError::Altered),
        Reason::SealedState(SealedStateError::OtherHost),
        Reason::NextBootClaimsRefused,
        Reason::NextBootClaimAltered,
        Reason::NextBootClaim(NextBootError::Parameters),
        Reason::SealedState(SealedStateError::OtherSession),
        Reason::SealedState(SealedStateError::OtherKind),
        Reason::SealedState(SealedStateError::Expired {
            made: time,
            now: time,
        }),
        Reason::Exchange(ExchangeError::Responses {
            expected: 2,
            found: 1,
        }),
        Reason::Exchange(ExchangeError::OtherEndorsementKey),
        Reason::Exchange(ExchangeError::Primary {
            command: "TPM2_CreatePrimary",
            error: ResponseError::Refused(ResponseCode::new(0x921)),
        }),
        Reason::Exchange(ExchangeError::Unstable { pcr: 11 }),
        in_session(SessionError::OtherTpm),
        in_session(SessionError::CommandAltered(ResponseCode::new(0x98e))),
        in_session(SessionError::NotAuthentic),
        in_session(SessionError::NotAudited(1)),
        in_session(SessionError::Closed(0x80)),
        in_session(SessionError::Replayed),
        in_session(SessionError::OtherPcrs),
        in_session(SessionError::Response(ResponseError::WithoutSession)),
        in_session(SessionError::Response(ResponseError::Name)),
        in_session(SessionError::Response(ResponseError::Refused(
            ResponseCode::new(0x903),
        ))),
        Reason::Evidence(EvidenceError::NoLog),
        Reason::Evidence(EvidenceError::Log(event_log_error())),
        Reason::Evidence(EvidenceError::Replay(ReplayError::Mismatch(Vec::new()))),
        Reason::Evidence(EvidenceError::Ima(ima_log_error())),
        Reason::Evidence(EvidenceError::ImaReplay(ImaReplayError::Mismatch {
            expected: Bank::Sha256.filled(1),
            found: Bank::Sha256.filled(0),
            entries: 0,
        })),
        Reason::Unhealthy(Box::new(unhealthy())),
        Reason::OperationMode {
            expected: AttestationOperationMode::HostKey,
        },
        Reason::Unavailable,
        Reason::NotFound,
        Reason::MethodNotAllowed,
        Reason::TooLarge,
        Reason::Timeout,
        Reason::Internal,
    ]
}

fn in_session(error: SessionError) -> Reason {
    Reason::Exchange(ExchangeError::Session {
        command: "TPM2_PCR_Read",
        error,
    })
}

fn event_log_error() -> EventLogError {
    EventLog::read(Vec::new(), &event_log::Limits::LOG).unwrap_err()
}

fn ima_log_error() -> ImaLogError {
    ImaLog::read(vec![1], &ima::Limits::LOG).unwrap_err()
}

/// By a set that has nothing to match.
fn unhealthy() -> Evaluation {
    let evidence = RecordedEvidence {
        values: PcrValues::new(Bank::Sha256),
        log: include_bytes!("../../hgs-tcg/tests/event-logs/event-sd-boot-fedora37.bin").to_vec(),
        ima: Vec::new(),
        preimages: Vec::new(),
        unexplained: Vec::new(),
    };
    PolicySet::default().evaluate(&evidence.prove().unwrap(), Time::from_unix(0))
}

fn row_of_the_code(reason: &Reason) -> Row {
    let refusal = Refusal::from(reason.clone());
    let json = refusal.reply().to_json();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let (reply, _) = json["__type"].as_str().unwrap().split_once(':').unwrap();
    let code = json["OpenHgs"]["Code"].as_str().unwrap();
    assert_eq!(json["OpenHgs"]["Message"], reason.to_string());
    let retryable = json["Retryable"].as_bool().unwrap();
    (
        code.to_owned(),
        reply.to_owned(),
        refusal.status(),
        retryable,
    )
}

#[test]
fn every_refusal_is_answered_as_the_table_says() {
    let page = rows_of_the_page();
    for reason in reasons() {
        let row = row_of_the_code(&reason);
        assert!(page.contains(&row), "{reason:?} is answered with {row:?}");
    }
}

#[test]
fn every_row_of_the_table_is_a_code_and_can_be_answered() {
    let page: Vec<_> = rows_of_the_page().into_iter().map(|row| row.0).collect();
    let codes: Vec<_> = Code::ALL.into_iter().map(Code::name).collect();
    assert_eq!(page, codes);
    let answered: Vec<_> = reasons().iter().map(Reason::code).collect();
    for code in Code::ALL {
        assert!(answered.contains(&code), "{code:?} is never answered");
        assert_eq!(Code::from_name(code.name()), Some(code));
    }
}

#[test]
fn a_host_in_the_wrong_mode_is_told_the_right_one() {
    let expected = AttestationOperationMode::HostKey;
    let reply = Refusal::from(Reason::OperationMode { expected }).reply();
    let Reply::OperationModeError(reply) = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(reply.expected_operation_mode, expected);
}

/// The table of section 14: code, HTTP status, whether to ask again.
#[test]
fn the_table_of_health_tokens_is_that_of_the_code() {
    let header = "| token code | HTTP | again | at fault | when |";
    let (_, table) = PROFILE.split_once(header).expect("the page has the table");
    let lines = table.lines().skip(2);
    let lines = lines.take_while(|line| line.starts_with('|'));
    let rows: Vec<(String, u16, bool)> = lines
        .map(|line| {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            let code = cells[1].trim_matches('`').to_owned();
            (code, cells[2].parse().unwrap(), cells[3].parse().unwrap())
        })
        .collect();
    let codes = hgs_attest::health_token::Code::ALL.map(|code| {
        let name = code.name().to_owned();
        (name, code.status(), code.is_retryable())
    });
    assert_eq!(rows, codes);
}
