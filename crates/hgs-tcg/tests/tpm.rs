//! Commands and sessions with TPMs in software (swtpm), judged by them and by tpm2-tools.

use hgs_crypto::hash::{hmac_sha256, sha256, sha256_of};
use hgs_crypto::random::System;
use hgs_crypto::rsa::PrivateKey;
use hgs_crypto::{SecretBytes, hex};
use hgs_tcg::tpm::{
    Authorization, AwaitingPcrs, Command, CreatedKey, EK_CERTIFICATE_INDEX, EndorsementKey,
    ForeignCommandError, Handle, KeyPurpose, KeyTemplate, PcrSelection, PcrSelectionError, Primary,
    ProvedPcrValues, Public, PublicError, ResponseError, Session, SessionError, SessionState,
    StartingSession, StorageRootKey, TemplateError, created_primary, flush_context, fuzzing,
    get_permanent_attributes, nv_read_public, policy_pcr, public_read, read_pcrs_without_session,
};
use hgs_testkit::Mutations;
use hgs_testkit::swtpm::SoftwareTpm;
use proptest::prelude::*;

fn selection(pcrs: impl IntoIterator<Item = u8>) -> PcrSelection {
    PcrSelection::new(pcrs).unwrap()
}

/// A host with its TPM: it moves octets.
struct Host {
    tpm: SoftwareTpm,
    endorsement_key: EndorsementKey,
    handle: Handle,
}

impl Host {
    fn new() -> Self {
        let mut tpm = SoftwareTpm::new();
        let command = Command::CreatePrimary(Primary::EndorsementKey);
        let created = created_primary(&tpm.send(&command.octets())).unwrap();
        Self {
            tpm,
            endorsement_key: EndorsementKey::parse(created.public.octets()).unwrap(),
            handle: created.handle,
        }
    }

    /// As a host does: it executes what it can parse.
    fn execute(&mut self, command: &Command) -> Vec<u8> {
        let octets = command.octets();
        assert_eq!(Command::parse(&octets).as_ref(), Ok(command));
        self.tpm.send(&octets)
    }

    fn storage_root_key(&mut self) -> (StorageRootKey, Handle) {
        let response = self.execute(&Command::CreatePrimary(Primary::StorageRootKey));
        let created = created_primary(&response).unwrap();
        let key = StorageRootKey::parse(created.public.octets()).unwrap();
        (key, created.handle)
    }

    fn session(&mut self) -> Session {
        let random = &mut System::new();
        let (starting, command) =
            StartingSession::start(&self.endorsement_key, self.handle, random).unwrap();
        let SessionState::Starting(starting) = through_context(SessionState::Starting(starting))
        else {
            panic!("another state");
        };
        starting.started(&self.execute(&command)).unwrap()
    }

    fn read(&mut self, session: Session, pcrs: PcrSelection) -> (Session, ProvedPcrValues) {
        let (awaiting, command) = ask(session, pcrs);
        awaiting.verify(&self.execute(&command)).unwrap()
    }

    fn create(&mut self, template: KeyTemplate) -> (Session, CreatedKey) {
        let (root, handle) = self.storage_root_key();
        let random = &mut System::new();
        let created = self
            .session()
            .create((&root, handle), template, None, random);
        let (awaiting, command) = created.unwrap();
        let SessionState::AwaitingKey(awaiting) =
            through_context(SessionState::AwaitingKey(awaiting))
        else {
            panic!("another state");
        };
        awaiting.verify(&self.execute(&command)).unwrap()
    }
}

/// Every state travels with the client.
fn through_context(state: SessionState) -> SessionState {
    let again = SessionState::from_octets(&state.to_octets()).unwrap();
    assert_eq!(again, state);
    again
}

fn ask(session: Session, pcrs: PcrSelection) -> (AwaitingPcrs, Command) {
    let SessionState::Open(session) = through_context(SessionState::Open(session)) else {
        panic!("another state");
    };
    let (awaiting, command) = session.read_pcrs(pcrs, &mut System::new()).unwrap();
    match through_context(SessionState::AwaitingPcrs(awaiting)) {
        SessionState::AwaitingPcrs(awaiting) => (awaiting, command),
        other => panic!("{other:?}"),
    }
}

const WITHOUT_SESSION: SessionError = SessionError::Response(ResponseError::WithoutSession);

const TEMPLATE: KeyTemplate = KeyTemplate {
    purpose: KeyPurpose::Encryption,
    policy: [7; 32],
};

#[test]
fn primary_keys_and_their_names_are_those_of_tpm2_tools() {
    let mut host = Host::new();
    let public = host.endorsement_key.public().clone();
    let read = public_read(&host.execute(&Command::ReadPublic(host.handle))).unwrap();
    assert_eq!(read, public);
    let (root, handle) = host.storage_root_key();
    assert_ne!(root.public().name(), public.name());
    assert_eq!(root.public().rsa_key().unwrap().modulus_bits(), 2048);
    // The tools leave their own keys in the slots.
    for handle in [host.handle, handle] {
        host.tpm.send(&flush_context(handle));
    }
    let ek = ["-G", "rsa", "-c", "ek.ctx", "-u", "ek.pub", "-f", "tpmt"];
    host.tpm.tool("tpm2_createek", &ek);
    host.tpm.tool("tpm2_flushcontext", &["-t"]);
    host.tpm
        .tool("tpm2_readpublic", &["-c", "ek.ctx", "-n", "ek.name"]);
    let file = |name: &str| std::fs::read(host.tpm.folder().join(name)).unwrap();
    assert_eq!(file("ek.pub"), public.octets());
    assert_eq!(file("ek.name"), public.name().octets());
}

#[test]
fn a_session_proves_the_pcrs_that_tpm2_tools_read() {
    let mut host = Host::new();
    let extension = format!("5:sha256={}", "ab".repeat(32));
    host.tpm.tool("tpm2_pcrextend", &[&extension]);
    let all: Vec<String> = (0..24).map(|pcr: u8| pcr.to_string()).collect();
    let all = format!("sha256:{}", all.join(","));
    host.tpm.tool("tpm2_pcrread", &[&all, "-o", "pcrs"]);
    let mut session = host.session();
    let mut values = Vec::new();
    for pcrs in selection(0..24).reads() {
        let read;
        (session, read) = host.read(session, pcrs);
        values.extend(read.iter());
    }
    let pcrs: Vec<u8> = values.iter().map(|(pcr, _)| *pcr).collect();
    assert_eq!(pcrs, (0..24).collect::<Vec<_>>());
    let octets: Vec<u8> = values.iter().flat_map(|(_, value)| *value).collect();
    assert_eq!(
        octets,
        std::fs::read(host.tpm.folder().join("pcrs")).unwrap()
    );
    assert_ne!(values[5].1, [0; 32]);
}

#[test]
fn a_policy_has_the_digest_of_tpm2_tools() {
    let mut tpm = SoftwareTpm::new();
    let extension = format!("9:sha256={}", "01".repeat(32));
    tpm.tool("tpm2_pcrextend", &[&extension]);
    let list = "sha256:0,4,9,14,17";
    tpm.tool("tpm2_pcrread", &[list, "-o", "pcrs"]);
    let policy = ["--policy-pcr", "-l", list, "-L", "policy"];
    tpm.tool("tpm2_createpolicy", &policy);
    let file = |name: &str| std::fs::read(tpm.folder().join(name)).unwrap();
    let values = file("pcrs");
    let values: Vec<[u8; 32]> = values
        .chunks(32)
        .map(|value| value.try_into().unwrap())
        .collect();
    let pcrs = selection([17, 0, 4, 14, 9]);
    assert_eq!(policy_pcr(pcrs, &values).unwrap()[..], file("policy"));
    assert_eq!(policy_pcr(pcrs, &values[1..]), None);
}

#[test]
fn a_created_key_is_proved_by_its_session() {
    for (purpose, attributes) in [
        (KeyPurpose::Encryption, 0x0002_04b2),
        (KeyPurpose::Signing, 0x0004_04b2),
    ] {
        let template = KeyTemplate {
            purpose,
            ..TEMPLATE
        };
        let mut host = Host::new();
        let (session, created) = host.create(template);
        assert_eq!(created.public().attributes(), attributes);
        assert_eq!(created.public().auth_policy(), TEMPLATE.policy);
        assert_eq!(created.template(), template);
        assert_eq!(created.public().rsa_key().unwrap().modulus_bits(), 2048);
        host.read(session, selection([0]));
    }
}

#[test]
fn an_altered_response_is_refused_at_every_octet_and_the_session_goes_on() {
    let mut host = Host::new();
    let (awaiting, command) = ask(host.session(), selection([0, 1]));
    let response = host.execute(&command);
    for place in 0..response.len() {
        let mut altered = response.clone();
        altered[place] ^= 1;
        assert!(awaiting.verify(&altered).is_err(), "octet {place}");
        assert!(awaiting.verify(&response[..place]).is_err(), "{place}");
    }
    // A value of a PCR: after header, size of the parameters, counter, selection, count and size.
    let mut altered = response.clone();
    altered[10 + 4 + 4 + 10 + 4 + 2] ^= 1;
    assert_eq!(awaiting.verify(&altered), Err(SessionError::NotAuthentic));
    let (session, _) = awaiting.verify(&response).unwrap();
    host.read(session, selection([2]));
}

#[test]
fn a_replayed_response_is_refused() {
    let mut host = Host::new();
    let pcrs = selection([0, 1]);
    let (awaiting, command) = ask(host.session(), pcrs);
    let first = host.execute(&command);
    let (session, _) = awaiting.verify(&first).unwrap();
    let (awaiting, command) = ask(session, pcrs);
    let second = host.execute(&command);
    assert_eq!(awaiting.verify(&first), Err(SessionError::Replayed));
    let (session, _) = awaiting.verify(&second).unwrap();
    let (awaiting, _) = ask(session, pcrs);
    assert_eq!(awaiting.verify(&first), Err(SessionError::NotAuthentic));
}

#[test]
fn a_response_of_another_session_or_command_is_refused() {
    let mut host = Host::new();
    let (mine, _) = ask(host.session(), selection([0]));
    let (other, command) = ask(host.session(), selection([0]));
    let response = host.execute(&command);
    assert_eq!(mine.verify(&response), Err(SessionError::NotAuthentic));
    let (session, _) = other.verify(&response).unwrap();
    let (root, handle) = host.storage_root_key();
    let random = &mut System::new();
    let asked = session
        .clone()
        .create((&root, handle), TEMPLATE, None, random);
    let (awaiting, _) = asked.unwrap();
    // The values of PCRs are no key, in whichever session they were read.
    let (_, command) = ask(session, selection([0]));
    let values = host.execute(&command);
    assert_eq!(awaiting.verify(&values), Err(SessionError::NotAuthentic));
    // What a TPM says of a key outside of the session proves nothing.
    let read = host.execute(&Command::ReadPublic(handle));
    assert_eq!(awaiting.verify(&read), Err(WITHOUT_SESSION));
}

#[test]
fn a_stripped_session_is_refused() {
    let mut host = Host::new();
    let pcrs = selection([0, 1]);
    let (awaiting, command) = ask(host.session(), pcrs);
    let code = &command.octets()[6..10];
    let stripped = [&[0x80, 1, 0, 0, 0, 20], code, &pcrs.octets()].concat();
    assert!(Command::parse(&stripped).is_err());
    let response = host.tpm.send(&stripped);
    assert_eq!(awaiting.verify(&response), Err(WITHOUT_SESSION));
    host.read(awaiting.into_session(), pcrs);
}

#[test]
fn an_altered_command_is_refused_by_the_tpm_and_the_session_goes_on() {
    let mut host = Host::new();
    let (awaiting, command) = ask(host.session(), selection([0, 1]));
    let Command::PcrRead { authorization, .. } = command else {
        panic!("{command:?}");
    };
    let altered = Command::PcrRead {
        selection: selection([2, 3]),
        authorization,
    };
    let refused = awaiting.verify(&host.execute(&altered)).unwrap_err();
    assert!(matches!(refused, SessionError::CommandAltered(code) if code.value() == 0x9a2));
    let (awaiting, command) = ask(awaiting.into_session(), selection([0, 1]));
    // Without the audit attribute.
    let mut octets = command.octets();
    let place = 10 + 4 + 4 + 2 + 32;
    assert_eq!(octets[place], 0x81);
    octets[place] = 1;
    assert!(Command::parse(&octets).is_err());
    let refused = awaiting.verify(&host.tpm.send(&octets)).unwrap_err();
    assert!(
        matches!(
            refused,
            SessionError::CommandAltered(_) | SessionError::Response(ResponseError::Refused(_))
        ),
        "{refused}"
    );
    host.read(awaiting.into_session(), selection([0, 1]));
}

#[test]
fn another_tpm_is_refused() {
    let mut host = Host::new();
    let key = Host::new().endorsement_key.clone();
    let random = &mut System::new();
    let (starting, command) = StartingSession::start(&key, host.handle, random).unwrap();
    let response = host.execute(&command);
    assert_eq!(starting.started(&response), Err(SessionError::OtherTpm));

    // It starts a session of its own without a salt, and says that it is the one.
    let octets = command.octets();
    let null = [0x40, 0, 0, 7];
    let unsalted = [
        &[0x80, 1, 0, 0, 0, 59, 0, 0, 1, 0x76],
        &null[..],
        &null,
        &octets[18..18 + 34],
        &[0, 0, 0, 0, 0x10, 0, 0x0b],
    ]
    .concat();
    assert!(Command::parse(&unsalted).is_err());
    let session = starting.started(&host.tpm.send(&unsalted)).unwrap();
    let (awaiting, command) = ask(session, selection([0]));
    let refused = awaiting.verify(&host.execute(&command)).unwrap_err();
    assert!(matches!(refused, SessionError::CommandAltered(_)));
}

#[test]
fn a_fourth_session_finds_no_slot_until_one_is_flushed() {
    let mut host = Host::new();
    let sessions: Vec<Session> = (0..3).map(|_| host.session()).collect();
    let random = &mut System::new();
    let (starting, command) =
        StartingSession::start(&host.endorsement_key, host.handle, random).unwrap();
    let refused = starting.started(&host.execute(&command));
    let Err(SessionError::Response(ResponseError::Refused(code))) = refused else {
        panic!("{refused:?}");
    };
    assert!(code.is_out_of_slots());
    assert_eq!(
        code.to_string(),
        "TPM_RC_SESSION_MEMORY (0x903): no slot for another session; flush the sessions that are left over"
    );
    host.tpm.send(&flush_context(sessions[0].handle()));
    starting.started(&host.execute(&command)).unwrap();
}

/// A response in a session whose key the test knows, in place of a TPM.
fn response_in(state: &SecretBytes, code: u32, parameters: &[u8], attributes: u8) -> Vec<u8> {
    let (key, nonce_caller) = (&state.expose()[1..33], &state.expose()[69..101]);
    let nonce_tpm = [5; 32];
    let digest = sha256_of(&[&[0; 4], &code.to_be_bytes(), parameters]);
    let signed: [&[u8]; 4] = [&digest, &nonce_tpm, nonce_caller, &[attributes]];
    let hmac = hmac_sha256(&SecretBytes::from(key), &signed);
    let body = [
        &(parameters.len() as u32).to_be_bytes()[..],
        parameters,
        &[0, 32],
        &nonce_tpm,
        &[attributes, 0, 32],
        &hmac,
    ]
    .concat();
    let size = (10 + body.len() as u32).to_be_bytes();
    [&[0x80, 2][..], &size, &[0; 4], &body].concat()
}

fn known_session() -> Session {
    let octets = [&[2][..], &[1; 32], &[2, 0, 0, 0], &[3; 32]].concat();
    match SessionState::from_octets(&SecretBytes::new(octets)).unwrap() {
        SessionState::Open(session) => session,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_authentic_response_must_be_audited_and_say_what_was_asked() {
    let (awaiting, _) = ask(known_session(), selection([0, 3]));
    let state = SessionState::AwaitingPcrs(awaiting.clone()).to_octets();
    let answer = |pcrs: &[u8], count: u8| {
        let values = [&[0, 32][..], &[9; 32]].concat().repeat(count.into());
        [&[0, 0, 0, 1], pcrs, &[0, 0, 0, count], &values].concat()
    };
    let verify = |parameters: &[u8], attributes| {
        let response = response_in(&state, 0x17e, parameters, attributes);
        awaiting.verify(&response).map(|(_, values)| values)
    };
    let right = answer(&selection([0, 3]).octets(), 2);
    let values = verify(&right, 0x81).unwrap();
    assert_eq!(values.update_counter(), 1);
    assert_eq!(values.selection(), selection([0, 3]));
    let read: Vec<_> = values.iter().collect();
    assert_eq!(read, [(0, [9; 32]), (3, [9; 32])]);
    assert_eq!(verify(&right, 0x01), Err(SessionError::NotAudited(0x01)));
    assert_eq!(verify(&right, 0x80), Err(SessionError::Closed(0x80)));
    let mut sha1 = right.clone();
    sha1[9] = 0x04;
    for other in [
        answer(&selection([0]).octets(), 1),
        answer(&selection([0, 4]).octets(), 2),
        // A TPM without a bank of SHA-256.
        answer(&[0, 0, 0, 0], 0),
        sha1,
    ] {
        assert_eq!(verify(&other, 0x81), Err(SessionError::OtherPcrs));
    }
    for count in [0, 1, 3] {
        let refused = verify(&answer(&selection([0, 3]).octets(), count), 0x81);
        assert!(matches!(refused, Err(SessionError::Response(_))), "{count}");
    }
}

/// A public area made from a template, with a key of the test.
fn made_from(template: &Public) -> Vec<u8> {
    let key = PrivateKey::generate(2048).unwrap();
    let octets = template.octets();
    let unique = match octets.ends_with(&[0; 256]) {
        true => 256,
        false => 0,
    };
    let front = &octets[..octets.len() - unique - 2];
    [front, &[1, 0], key.public().modulus()].concat()
}

#[test]
fn a_created_key_of_another_template_is_refused() {
    let root = StorageRootKey::parse(&made_from(&Public::srk_template())).unwrap();
    let handle = Handle::new(0x8000_0001);
    let random = &mut System::new();
    let asked = known_session().create((&root, handle), TEMPLATE, None, random);
    let (awaiting, _) = asked.unwrap();
    let state = SessionState::AwaitingKey(awaiting.clone()).to_octets();
    let verify = |public: &[u8]| {
        let size = (public.len() as u16).to_be_bytes();
        // No outPrivate; then empty creationData, creationHash and creationTicket.
        let parameters = [&[0, 0][..], &size, public, &[0; 2 + 2 + 2 + 4 + 2]].concat();
        awaiting.verify(&response_in(&state, 0x153, &parameters, 0x81))
    };
    let octets = made_from(&TEMPLATE.public());
    let (_, created) = verify(&octets).unwrap();
    assert_eq!(created.public().octets(), octets);
    let altered = |place: usize, mask: u8| {
        let mut altered = octets.clone();
        altered[place] ^= mask;
        verify(&altered).map(|_| ())
    };
    let other = |field| {
        let template = "an identity key for encryption";
        Err(SessionError::OtherKey(TemplateError { template, field }))
    };
    // userWithAuth: an empty password would do in place of the policy.
    assert_eq!(altered(7, 0x40), other("objectAttributes"));
    // fixedTPM: it could be duplicated.
    assert_eq!(altered(7, 0x02), other("objectAttributes"));
    // sensitiveDataOrigin: the key could have come from outside.
    assert_eq!(altered(7, 0x20), other("objectAttributes"));
    assert_eq!(altered(10, 1), other("authPolicy"));
    // OAEP with SHA-1: after the policy, the null algorithm and the scheme.
    assert_eq!(altered(10 + 32 + 2 + 3, 0x0b ^ 0x04), other("scheme"));
    let signing = KeyTemplate {
        purpose: KeyPurpose::Signing,
        ..TEMPLATE
    };
    let signing = verify(&made_from(&signing.public())).map(|_| ());
    assert_eq!(signing, other("objectAttributes"));
}

#[test]
fn only_a_key_of_template_l_1_is_an_endorsement_key() {
    let octets = made_from(&Public::ek_template());
    let key = EndorsementKey::parse(&octets).unwrap();
    assert_eq!(key.digest(), sha256(&octets));
    assert!(octets.ends_with(key.key().modulus()));
    for place in 0..octets.len() - 256 {
        for bit in 0..8 {
            let mut altered = octets.clone();
            altered[place] ^= 1 << bit;
            assert!(EndorsementKey::parse(&altered).is_err(), "{place} {bit}");
        }
    }
    for length in 0..octets.len() {
        assert!(EndorsementKey::parse(&octets[..length]).is_err());
    }
    assert!(EndorsementKey::parse(&[&octets[..], &[0]].concat()).is_err());
    // The template itself has no key.
    let template = EndorsementKey::parse(Public::ek_template().octets());
    assert!(matches!(template, Err(PublicError::Key(_))));
    // The beginning of TCG's template L-2.
    let curve = EndorsementKey::parse(&hex::decode("0023000b000300b20020").unwrap());
    assert_eq!(curve, Err(PublicError::EllipticCurve));
    let root = made_from(&Public::srk_template());
    assert_eq!(
        EndorsementKey::parse(&root).unwrap_err().to_string(),
        "the public area differs from the template of an endorsement key (L-1, RSA with 2048 bits) in objectAttributes"
    );
    assert!(StorageRootKey::parse(&root).is_ok());
    assert!(StorageRootKey::parse(&octets).is_err());
}

/// One command of each kind.
fn commands() -> Vec<Command> {
    let endorsement = EndorsementKey::parse(&made_from(&Public::ek_template())).unwrap();
    let handle = Handle::new(0x8000_0000);
    let random = &mut System::new();
    let (_, start) = StartingSession::start(&endorsement, handle, random).unwrap();
    let (_, read) = ask(known_session(), selection(0..8));
    let authorization = Authorization {
        session: Handle::new(0x0200_0001),
        nonce_caller: [5; 32],
        hmac: [6; 32],
    };
    let create = |purpose| Command::Create {
        parent: handle,
        template: KeyTemplate {
            purpose,
            ..TEMPLATE
        },
        outside_info: (purpose == KeyPurpose::Signing).then_some([8; 32]),
        authorization,
    };
    vec![
        Command::CreatePrimary(Primary::EndorsementKey),
        Command::CreatePrimary(Primary::StorageRootKey),
        Command::ReadPublic(Handle::new(0x8101_0001)),
        start,
        read,
        create(KeyPurpose::Encryption),
        create(KeyPurpose::Signing),
    ]
}

#[test]
fn a_host_executes_no_other_command() {
    for code in (0..=0x1ff).chain([0x2000_0000, u32::MAX]) {
        let octets = [&[0x80, 1, 0, 0, 0, 10][..], &code.to_be_bytes()].concat();
        let refused = Command::parse(&octets).unwrap_err();
        match code {
            0x131 | 0x153 | 0x173 | 0x176 | 0x17e => {
                assert!(matches!(refused, ForeignCommandError::Shape { .. }));
            }
            code => assert_eq!(refused, ForeignCommandError::Code(code)),
        }
    }
    let flush = flush_context(Handle::new(0x8000_0000));
    assert_eq!(
        Command::parse(&flush).unwrap_err().to_string(),
        "the server sent the TPM command 0x00000165, which is no part of attestation"
    );
}

#[test]
fn a_host_executes_no_other_shape() {
    let commands = commands();
    for command in &commands {
        let octets = command.octets();
        assert_eq!(Command::parse(&octets).as_ref(), Ok(command));
        for length in 0..octets.len() {
            assert!(Command::parse(&octets[..length]).is_err());
        }
        assert!(Command::parse(&[&octets[..], &[0]].concat()).is_err());
    }
    let refused = |command: usize, place: usize, mask: u8| {
        let mut octets = commands[command].octets();
        octets[place] ^= mask;
        Command::parse(&octets).unwrap_err().to_string()
    };
    let session = 10 + 4 + 4 + 2 + 32;
    // decrypt: the host would not see the parameters.
    assert_eq!(
        refused(4, session, 0x20),
        "the server sent TPM2_PCR_Read in a shape that is no part of attestation: sessionAttributes is 0xa1"
    );
    let bank = 10 + 4 + 4 + 34 + 1 + 34 + 4 + 1;
    assert!(refused(4, bank, 0x0b ^ 0x04).ends_with("pcrSelection.hash is 0x4"));
    assert!(refused(4, bank + 3, 1).ends_with("the number of selected PCRs is 0x9"));
    // userWithAuth.
    let attributes = 10 + 4 + 4 + 73 + 6 + 2 + 4 + 3;
    assert_eq!(
        refused(5, attributes, 0x40),
        "the server sent TPM2_Create for a foreign key: the public area differs from the template of an identity key for encryption in objectAttributes"
    );
    // A password of the key.
    assert!(refused(5, 10 + 4 + 4 + 73 + 3, 1).contains("inSensitive"));
    // A bound session, whose key is that of another object too.
    assert!(refused(3, 14, 0xc0).ends_with("bind is 0x80000007"));
    // The platform hierarchy.
    assert!(refused(0, 13, 7).ends_with("primaryHandle is 0x4000000c"));
    // An endorsement key with a `unique` of its own.
    let last = commands[0].octets().len() - 7;
    assert!(refused(0, last, 1).ends_with("in unique"));
    // A session in place of a key.
    assert!(refused(2, 10, 0x83).ends_with("objectHandle is 0x2010001"));
}

#[test]
fn secrets_are_not_shown() {
    let shown = format!("{:?}", ask(known_session(), selection([0])).0);
    assert!(
        shown.contains("SecretBytes(..)") && !shown.contains("1, 1, 1"),
        "{shown}"
    );
}

#[test]
fn a_selection_is_of_pcrs_that_exist() {
    assert_eq!(PcrSelection::new([]), Err(PcrSelectionError::Empty));
    let refused = PcrSelection::new([24]);
    assert_eq!(refused, Err(PcrSelectionError::NoSuchPcr(24)));
    let reads = selection(0..17).reads();
    let counts: Vec<usize> = reads.iter().map(|read| read.count()).collect();
    assert_eq!(counts, [8, 8, 1]);
}

#[test]
fn hostile_octets_are_refused() {
    let mut host = Host::new();
    let (root, _) = host.storage_root_key();
    let (_, read) = ask(host.session(), selection(0..8));
    let mut corpus = vec![
        host.execute(&read),
        host.execute(&Command::ReadPublic(host.handle)),
        host.execute(&Command::CreatePrimary(Primary::EndorsementKey)),
        host.tpm.send(&nv_read_public(EK_CERTIFICATE_INDEX)),
        host.tpm
            .send(&read_pcrs_without_session(selection([0, 7, 23]))),
        host.tpm.send(&get_permanent_attributes()),
        root.public().octets().to_vec(),
    ];
    corpus.extend(commands().iter().map(Command::octets));
    for state in [
        SessionState::Open(known_session()),
        SessionState::AwaitingPcrs(ask(known_session(), selection([1])).0),
    ] {
        corpus.push(state.to_octets().expose().to_vec());
    }
    let tokens: [&[u8]; 5] = [&[0x80, 1], &[0x80, 2], &[0, 0x0b], &[0xff, 0xff], &[0; 4]];
    let hostile = Mutations::of(&corpus, &tokens).take(5_000);
    for octets in corpus.iter().cloned().chain(hostile) {
        fuzzing::fuzz_command(&octets);
        fuzzing::fuzz_response(&octets);
        fuzzing::fuzz_public(&octets);
        fuzzing::fuzz_session_state(&octets);
    }
}

proptest! {
    #[test]
    fn commands_are_read_as_they_were_written(
        nonce in any::<[u8; 32]>(),
        policy in any::<[u8; 32]>(),
        pcrs in prop::collection::btree_set(0u8..24, 1..=8),
        object in 0x8000_0000u32..0x81ff_ffff,
        session in 0x0200_0000u32..0x02ff_ffff,
        signing in any::<bool>(),
    ) {
        let authorization = Authorization {
            session: Handle::new(session),
            nonce_caller: nonce,
            hmac: policy,
        };
        let purpose = if signing { KeyPurpose::Signing } else { KeyPurpose::Encryption };
        let parent = Handle::new(object);
        let mut encrypted_salt = Box::new([0; 256]);
        encrypted_salt[..32].copy_from_slice(&policy);
        for command in [
            Command::ReadPublic(parent),
            Command::StartAuthSession { key: parent, nonce_caller: nonce, encrypted_salt },
            Command::PcrRead { selection: selection(pcrs), authorization },
            Command::Create {
                parent,
                template: KeyTemplate { purpose, policy },
                outside_info: signing.then_some(policy),
                authorization,
            },
        ] {
            prop_assert_eq!(Command::parse(&command.octets()), Ok(command));
        }
    }
}
