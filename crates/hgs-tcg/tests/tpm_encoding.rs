//! The commands in octets, compared with those of tpm2-protocol.

use hgs_tcg::tpm::{
    Authorization, Command, Handle, KeyPurpose, KeyTemplate, PcrSelection, Primary,
};
use tpm2_protocol::TpmWriter;
use tpm2_protocol::basic::{TpmUint16, TpmUint32};
use tpm2_protocol::data::{
    Tpm2bPublic, TpmAlgId, TpmSe, TpmSt, TpmaObject, TpmaSession, TpmlPcrSelection,
    TpmsAuthCommand, TpmsPcrSelection, TpmsRsaParms, TpmsSchemeHash, TpmtPublic, TpmtRsaScheme,
    TpmtSymDefObject, TpmuAsymScheme, TpmuPublicId, TpmuPublicParms, TpmuSymKeyBits, TpmuSymMode,
};
use tpm2_protocol::frame::{
    TpmCreateCommand, TpmCreatePrimaryCommand, TpmFrame, TpmPcrReadCommand, TpmReadPublicCommand,
    TpmStartAuthSessionCommand, tpm_marshal_command,
};

const KEY: u32 = 0x8000_0003;
const SESSION: u32 = 0x0200_0001;

fn octets(command: &impl TpmFrame, sessions: &[TpmsAuthCommand]) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let mut writer = TpmWriter::new(&mut buffer);
    let tag = if sessions.is_empty() {
        TpmSt::NoSessions
    } else {
        TpmSt::Sessions
    };
    tpm_marshal_command(command, tag, sessions, &mut writer).unwrap();
    let length = writer.len();
    buffer[..length].to_vec()
}

fn session(handle: u32, attributes: u8, nonce: &[u8], hmac: &[u8]) -> TpmsAuthCommand {
    TpmsAuthCommand {
        session_handle: handle.into(),
        nonce: nonce.try_into().unwrap(),
        session_attributes: TpmaSession::from_bits_truncate(attributes),
        hmac: hmac.try_into().unwrap(),
    }
}

fn public(
    attributes: u32,
    policy: &[u8],
    symmetric: TpmtSymDefObject,
    scheme: TpmtRsaScheme,
    unique: &[u8],
) -> Tpm2bPublic {
    let parameters = TpmsRsaParms {
        symmetric,
        scheme,
        key_bits: TpmUint16::new(2048),
        exponent: TpmUint32::new(0),
    };
    let inner = TpmtPublic {
        object_type: TpmAlgId::Rsa,
        name_alg: TpmAlgId::Sha256,
        object_attributes: TpmaObject::from_bits_truncate(attributes),
        auth_policy: policy.try_into().unwrap(),
        parameters: TpmuPublicParms::Rsa(parameters),
        unique: TpmuPublicId::Rsa(unique.try_into().unwrap()),
    };
    Tpm2bPublic { inner }
}

#[test]
fn primary_keys_are_written_as_by_tpm2_protocol() {
    let policy =
        hgs_crypto::hex::decode("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa");
    for (primary, hierarchy, attributes, policy) in [
        (
            Primary::EndorsementKey,
            0x4000_000bu32,
            0x0003_00b2,
            policy.unwrap(),
        ),
        (
            Primary::StorageRootKey,
            0x4000_0001,
            0x0003_0472,
            Vec::new(),
        ),
    ] {
        let aes = TpmtSymDefObject {
            algorithm: TpmAlgId::Aes,
            key_bits: TpmuSymKeyBits::Aes(TpmUint16::new(128)),
            mode: TpmuSymMode::Aes(TpmAlgId::Cfb),
        };
        let command = TpmCreatePrimaryCommand {
            handles: [hierarchy.into()],
            in_sensitive: Default::default(),
            in_public: public(attributes, &policy, aes, Default::default(), &[0; 256]),
            outside_info: Default::default(),
            creation_pcr: Default::default(),
        };
        let expected = octets(&command, &[session(0x4000_0009, 0, &[], &[])]);
        assert_eq!(Command::CreatePrimary(primary).octets(), expected);
    }
}

#[test]
fn keys_are_written_as_by_tpm2_protocol() {
    for (purpose, attributes, algorithm, outside_info) in [
        (KeyPurpose::Encryption, 0x0002_04b2, TpmAlgId::Oaep, None),
        (
            KeyPurpose::Signing,
            0x0004_04b2,
            TpmAlgId::Rsassa,
            Some([9; 32]),
        ),
    ] {
        let scheme = TpmtRsaScheme {
            scheme: algorithm,
            details: TpmuAsymScheme::Hash(TpmsSchemeHash {
                hash_alg: TpmAlgId::Sha256,
            }),
        };
        let command = TpmCreateCommand {
            handles: [KEY.into()],
            in_sensitive: Default::default(),
            in_public: public(attributes, &[7; 32], Default::default(), scheme, &[]),
            outside_info: outside_info
                .as_ref()
                .map_or(&[][..], |all| all)
                .try_into()
                .unwrap(),
            creation_pcr: Default::default(),
        };
        let expected = octets(&command, &[session(SESSION, 0x81, &[5; 32], &[6; 32])]);
        let ours = Command::Create {
            parent: Handle::new(KEY),
            template: KeyTemplate {
                purpose,
                policy: [7; 32],
            },
            outside_info,
            authorization: authorization(),
        };
        assert_eq!(ours.octets(), expected);
    }
}

#[test]
fn sessions_and_readings_are_written_as_by_tpm2_protocol() {
    let command = TpmStartAuthSessionCommand {
        handles: [KEY.into(), 0x4000_0007u32.into()],
        nonce_caller: [5; 32][..].try_into().unwrap(),
        encrypted_salt: [9; 256][..].try_into().unwrap(),
        session_type: TpmSe::Hmac,
        symmetric: Default::default(),
        auth_hash: TpmAlgId::Sha256,
    };
    let ours = Command::StartAuthSession {
        key: Handle::new(KEY),
        nonce_caller: [5; 32],
        encrypted_salt: Box::new([9; 256]),
    };
    assert_eq!(ours.octets(), octets(&command, &[]));

    let mut pcr_selection_in = TpmlPcrSelection::default();
    let mask = [0b1000_0001, 0b0000_0010, 0b1000_0000];
    let selected = TpmsPcrSelection {
        hash: TpmAlgId::Sha256,
        pcr_select: mask[..].try_into().unwrap(),
    };
    pcr_selection_in.try_push(selected).unwrap();
    let command = TpmPcrReadCommand {
        handles: [],
        pcr_selection_in,
    };
    let expected = octets(&command, &[session(SESSION, 0x81, &[5; 32], &[6; 32])]);
    let ours = Command::PcrRead {
        selection: PcrSelection::new([0, 7, 9, 23]).unwrap(),
        authorization: authorization(),
    };
    assert_eq!(ours.octets(), expected);

    let command = TpmReadPublicCommand {
        handles: [KEY.into()],
    };
    let ours = Command::ReadPublic(Handle::new(KEY));
    assert_eq!(ours.octets(), octets(&command, &[]));
}

fn authorization() -> Authorization {
    Authorization {
        session: Handle::new(SESSION),
        nonce_caller: [5; 32],
        hmac: [6; 32],
    }
}
