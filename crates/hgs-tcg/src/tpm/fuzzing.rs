//! Bodies of fuzz targets: any octets may come, and what is accepted must survive a second round.

use hgs_crypto::SecretBytes;

use super::{
    Command, Public, SessionState, created_key, created_primary, pcrs_read, public_read,
    started_session,
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
