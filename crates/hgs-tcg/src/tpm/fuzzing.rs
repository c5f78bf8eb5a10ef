//! Bodies of fuzz targets: any octets may come, and what is accepted must survive a second round.

use hgs_crypto::{CryptoError, Random, SecretBytes};

use super::manufacture::{bank_is_allocated, created_ecc_endorsement_key};
use super::{
    Command, Counter, Handle, PcrSelection, PrivateAndPublic, Public, SealedObject, SessionState,
    clock, created_key, created_primary, done, is_in_lockout, loaded, nv_octets, nv_size,
    pcrs_read, pcrs_read_without_session, public_read, sealed_loaded, started_session,
};

/// [`Command::parse`], as a host reads what a server sends.
///
/// # Panics
///
/// If a command that is accepted has another encoding.
pub fn fuzz_command(data: &[u8]) {
    if let Ok(command) = Command::parse(data) {
        assert_eq!(command.octets(), data, "there is one encoding");
    }
}

/// The responses that a server reads, in each state of a session.
///
/// # Panics
///
/// If a response that was not made by the TPM of the session is accepted in it, or if what is read differs from its octets.
pub fn fuzz_response(data: &[u8]) {
    fuzz_host_response(data);
    if let Ok(public) = public_read(data) {
        fuzz_public(public.octets());
    }
    if let Ok(created) = created_primary(data) {
        fuzz_public(created.public.octets());
    }
    if let Ok(created) = created_key(data) {
        fuzz_public(created.public.octets());
    }
    let _ = (pcrs_read(data), started_session(data));
    for state in states() {
        let refused = match state {
            SessionState::Starting(starting) => {
                let _ = starting.started(data);
                true
            }
            SessionState::Open(_) => true,
            SessionState::AwaitingPcrs(awaiting) => awaiting.verify(data).is_err(),
            SessionState::AwaitingKey(awaiting) => awaiting.verify(data).is_err(),
        };
        assert!(refused, "only the TPM has the key of the session");
    }
}

/// The responses that a host reads for itself, and those to the use of a key, in a session whose key nobody knows.
///
/// # Panics
///
/// If the use of a key is believed that the TPM of the session has not made, or if a loaded key has another name.
fn fuzz_host_response(data: &[u8]) {
    let _ = (
        nv_size(data),
        nv_octets(data),
        done(data),
        clock(data),
        Counter::value(data),
        Counter::at(0x0180_0000).has_value(data),
        is_in_lockout(data),
        bank_is_allocated(data),
        created_ecc_endorsement_key(data),
    );
    if let Ok(object) = SealedObject::new(Vec::new(), data.to_vec()) {
        assert_eq!(object.public(), data);
        let _ = sealed_loaded(data, &object);
    }
    let selection = PcrSelection::new([0, 7, 23]).expect("three PCRs");
    if let Ok(Some(values)) = pcrs_read_without_session(data, selection) {
        assert_eq!(values.len(), 3);
    }
    let key = PrivateAndPublic {
        private: Vec::new(),
        public: Public::srk_template(),
    };
    if loaded(data, &key).is_ok() {
        let name = key.public.name();
        let mut octets = data.windows(name.octets().len());
        assert!(octets.any(|octets| octets == name.octets()));
    }
    let started = super::key_use::known_session();
    let random = &mut Zeros;
    let key = Handle::new(0x8000_0000);
    let name = Public::ek_template().name();
    let (awaiting, _) = started
        .decrypt(key, &name, &[1; 256], random)
        .expect("zeros");
    assert!(awaiting.receive(data).is_err(), "only the TPM has the key");
    let started = super::key_use::known_session();
    let (awaiting, _) = started.sign(key, &name, &[1; 32], random).expect("zeros");
    assert!(awaiting.receive(data).is_err(), "only the TPM has the key");
}

/// No randomness: what is fuzzed is what comes back.
struct Zeros;

impl Random for Zeros {
    fn fill(&mut self, octets: &mut [u8]) -> Result<(), CryptoError> {
        octets.fill(0);
        Ok(())
    }
}

/// [`Public::parse`].
///
/// # Panics
///
/// If a public area is not kept as it was read.
pub fn fuzz_public(data: &[u8]) {
    if let Ok(public) = Public::parse(data) {
        assert_eq!(public.octets(), data);
        assert_eq!(Public::parse(public.octets()), Ok(public));
    }
}

/// [`SessionState::from_octets`].
///
/// # Panics
///
/// If a state is not written as it was read.
pub fn fuzz_session_state(data: &[u8]) {
    let octets = SecretBytes::from(data);
    if let Ok(state) = SessionState::from_octets(&octets) {
        assert_eq!(state.to_octets(), octets);
    }
}

/// One state of each kind.
fn states() -> impl Iterator<Item = SessionState> {
    let exchange = [&[7; 32][..], &[2, 0, 0, 0], &[8; 32], &[9; 32]].concat();
    let template = super::KeyTemplate {
        purpose: super::KeyPurpose::Encryption,
        policy: [1; 32],
    };
    let selection = [0, 0, 0, 1, 0, 0x0b, 3, 0xff, 0, 0];
    [
        [&[1][..], &[7; 64]].concat(),
        [&[2], &exchange[..68]].concat(),
        [&[3], &exchange[..], &selection].concat(),
        [&[4], &exchange[..], template.public().octets()].concat(),
    ]
    .into_iter()
    .map(|octets| SessionState::from_octets(&SecretBytes::new(octets)).expect("a state"))
}
