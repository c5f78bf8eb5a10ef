//! Invitations: what one node gives to the next one, by the hands of the administrator.
//!
//! An invitation names the nodes of the cluster and pins their authority, so the node that joins knows whom it speaks with;
//! and it holds a secret, by which the cluster knows the node, and under which it encrypts what it hands over. The secret
//! itself is never sent. An invitation holds for a quarter of an hour and for one node.

use std::fmt;
use std::str::FromStr;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32m, Hrp};
use hgs_crypto::hash::{hkdf_sha256, hmac_sha256, sha256, verify_hmac_sha256};
use hgs_crypto::{CryptoError, Random, SecretBytes, aes, hex, random, x25519};
use hgs_pki::{Seconds, Thumbprint, Time};
use zeroize::Zeroizing;

use crate::node::NodeAddress;

/// How long an invitation holds.
pub const HOLDS_FOR: Seconds = Seconds::from_minutes(15);
/// An invitation that would hold for longer was made before the clock was set back by more than a minute: it ends.
const HOLDS_FOR_AT_MOST: Seconds = Seconds::from_minutes(16);
/// What an invitation begins with, before a `1`.
const PREFIX: Hrp = Hrp::parse_unchecked("hgs-join-");
/// The first octet of the one form that there is.
const FORM: u8 = 1;
/// Octets of the name of an invitation.
pub const ID: usize = 8;
const SECRET: usize = 32;
const FINGERPRINT: usize = 32;
/// Characters of the longest one: so many has a checksum for.
const MAX_TEXT: usize = 1023;
/// Octets of addresses in it; nodes beyond are left out.
const MAX_ADDRESSES: usize = 400;
/// Invitations that can be open at a time.
const MAX_OPEN: usize = 16;

/// An invitation, as text `hgs-join-1...`, with a checksum against errors of copying.
#[derive(Clone)]
pub struct Invitation {
    id: [u8; ID],
    secret: SecretBytes,
    fingerprint: Thumbprint,
    addresses: Vec<NodeAddress>,
}

/// A text that is no invitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvitationError {
    /// Characters are missing, or others.
    #[error(
        "this is not an invitation as `hgs cluster invite` prints it: characters are missing or wrong"
    )]
    Text,
    /// A later version has made it.
    #[error("this invitation has form {0}, which this version of hgs does not know")]
    Form(u8),
}

/// Why a request to join was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotInvited {
    /// It is not known, has ended, or was used by another node. Whoever asks is not told which of these.
    #[error(
        "this invitation does not hold: it ends after 15 minutes, is good for one node, and for the run of the server that made it"
    )]
    NotOpen,
}

impl Invitation {
    /// A new one, of a cluster that is reached at these addresses.
    ///
    /// # Errors
    /// When the source of randomness fails.
    pub fn new(
        fingerprint: Thumbprint,
        addresses: Vec<NodeAddress>,
        source: &mut dyn Random,
    ) -> Result<Self, CryptoError> {
        Ok(Self {
            id: random::array(source)?,
            secret: SecretBytes::random(SECRET, source)?,
            fingerprint,
            addresses,
        })
    }

    /// The same with the secret that two sides agree upon: the administrator's program and a node, which can ask each other
    /// for an invitation so without sending it.
    ///
    /// # Errors
    /// When the other side's key is no good one, or the source of randomness fails.
    pub fn agreed(
        ours: &x25519::PrivateKey,
        theirs: &x25519::PublicKey,
        id: [u8; ID],
        fingerprint: Thumbprint,
        addresses: Vec<NodeAddress>,
    ) -> Result<Self, CryptoError> {
        let shared = ours.agree(theirs)?;
        let secret = hkdf_sha256(&shared, &id, b"OpenHGS cluster invitation", SECRET)?;
        Ok(Self {
            id,
            secret,
            fingerprint,
            addresses,
        })
    }

    /// Which one it is: no secret.
    #[must_use]
    pub fn id(&self) -> String {
        hex::encode(&self.id)
    }

    /// The fingerprint of the authority of the cluster.
    #[must_use]
    pub fn fingerprint(&self) -> Thumbprint {
        self.fingerprint
    }

    /// Where the cluster is reached.
    #[must_use]
    pub fn addresses(&self) -> &[NodeAddress] {
        &self.addresses
    }

    /// The text, which is a secret.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut octets = Zeroizing::new(vec![FORM]);
        octets.extend_from_slice(&self.id);
        octets.extend_from_slice(self.secret.expose());
        octets.extend_from_slice(self.fingerprint.as_bytes());
        let mut addresses = String::new();
        for address in &self.addresses {
            let more = format!("{address},");
            if addresses.len() + more.len() <= MAX_ADDRESSES {
                addresses += &more;
            }
        }
        octets.extend_from_slice(addresses.trim_end_matches(',').as_bytes());
        let text = bech32::encode_lower::<Bech32m>(PREFIX, &octets);
        Zeroizing::new(text.expect("an invitation is shorter than the checksum allows"))
    }

    /// Shows that whoever sends `request` has the secret.
    #[must_use]
    pub fn proof(&self, request: &[u8]) -> [u8; 32] {
        hmac_sha256(&self.key("request"), &[request])
    }

    fn verify(&self, request: &[u8], proof: &[u8]) -> bool {
        verify_hmac_sha256(&self.key("request"), request, proof).is_ok()
    }

    /// Encrypts the answer to `request` to whoever has the secret.
    ///
    /// # Errors
    /// When the source of randomness fails.
    pub fn seal(
        &self,
        request: &[u8],
        answer: &SecretBytes,
        source: &mut dyn Random,
    ) -> Result<Vec<u8>, CryptoError> {
        aes::gcm_seal(
            &self.key("answer"),
            &sha256(request),
            answer.expose(),
            source,
        )
    }

    /// Opens an answer to `request`.
    ///
    /// # Errors
    /// When it is none to this request, or of somebody without the secret.
    pub fn open(&self, request: &[u8], sealed: &[u8]) -> Result<SecretBytes, CryptoError> {
        aes::gcm_open(&self.key("answer"), &sha256(request), sealed)
    }

    fn key(&self, purpose: &str) -> SecretBytes {
        let info = format!("OpenHGS cluster join {purpose}");
        hkdf_sha256(&self.secret, &self.id, info.as_bytes(), 32)
            .expect("HKDF-SHA-256 yields up to 8160 octets, and 32 are asked for")
    }
}

impl FromStr for Invitation {
    type Err = InvitationError;

    fn from_str(text: &str) -> Result<Self, InvitationError> {
        let text = text.trim();
        if text.len() > MAX_TEXT {
            return Err(InvitationError::Text);
        }
        let checked = CheckedHrpstring::new::<Bech32m>(text).map_err(|_| InvitationError::Text)?;
        if checked.hrp() != PREFIX {
            return Err(InvitationError::Text);
        }
        let octets = Zeroizing::new(checked.byte_iter().collect::<Vec<u8>>());
        let (form, rest) = octets.split_first().ok_or(InvitationError::Text)?;
        if *form != FORM {
            return Err(InvitationError::Form(*form));
        }
        let (id, rest) = rest
            .split_first_chunk::<ID>()
            .ok_or(InvitationError::Text)?;
        let (secret, rest) = rest
            .split_first_chunk::<SECRET>()
            .ok_or(InvitationError::Text)?;
        let (fingerprint, rest) = rest
            .split_first_chunk::<FINGERPRINT>()
            .ok_or(InvitationError::Text)?;
        let addresses = std::str::from_utf8(rest).map_err(|_| InvitationError::Text)?;
        let addresses: Result<Vec<_>, _> = addresses.split(',').map(str::parse).collect();
        Ok(Self {
            id: *id,
            secret: SecretBytes::from(&secret[..]),
            fingerprint: Thumbprint::from_bytes(*fingerprint),
            addresses: addresses.map_err(|_| InvitationError::Text)?,
        })
    }
}

/// Without the secret.
impl fmt::Debug for Invitation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Invitation({})", self.id())
    }
}

/// The invitations of one server, in its memory only.
#[derive(Debug, Default)]
pub struct Invitations(Vec<Open>);

#[derive(Debug)]
struct Open {
    invitation: Invitation,
    until: Time,
    /// Which request it was used for. The same one may come again: its answer may have been lost.
    used_by: Option<[u8; 32]>,
}

impl Invitations {
    /// Keeps an invitation, until when. Of too many, the oldest ends.
    pub fn open(&mut self, invitation: Invitation, now: Time) -> Time {
        self.end_old(now);
        if self.0.len() == MAX_OPEN {
            self.0.remove(0);
        }
        let until = now.checked_add(HOLDS_FOR).unwrap_or(Time::MAX);
        self.0.push(Open {
            invitation,
            until,
            used_by: None,
        });
        until
    }

    /// The invitation of a request to join, if it holds for it. It holds for no other one from then on.
    ///
    /// # Errors
    /// [`NotInvited`].
    pub fn redeem(
        &mut self,
        id: &str,
        request: &[u8],
        proof: &[u8],
        now: Time,
    ) -> Result<Invitation, NotInvited> {
        self.end_old(now);
        let open = self.0.iter_mut().find(|open| open.invitation.id() == id);
        let open = open.ok_or(NotInvited::NotOpen)?;
        let digest = sha256(request);
        let is_free = open.used_by.is_none_or(|used| used == digest);
        if !open.invitation.verify(request, proof) || !is_free {
            return Err(NotInvited::NotOpen);
        }
        open.used_by = Some(digest);
        Ok(open.invitation.clone())
    }

    fn end_old(&mut self, now: Time) {
        // A clock that was set back must not have an invitation hold for longer.
        let longest = now.checked_add(HOLDS_FOR_AT_MOST).unwrap_or(Time::MAX);
        self.0
            .retain(|open| now < open.until && open.until <= longest);
    }
}

#[cfg(test)]
mod tests {
    use hgs_crypto::random::System;

    use super::*;

    const NOW: Time = Time::from_unix(1_800_000_000);

    fn invitation() -> Invitation {
        let addresses = vec![
            "192.0.2.1".parse().unwrap(),
            "n2.example:4000".parse().unwrap(),
        ];
        Invitation::new(Thumbprint::of(b"authority"), addresses, &mut System::new()).unwrap()
    }

    #[test]
    fn its_text_says_all_of_it_and_every_changed_character_is_found() {
        let one = invitation();
        let text = one.to_text();
        assert!(text.starts_with("hgs-join-1"), "{text:?}");
        let read: Invitation = text.parse().unwrap();
        assert_eq!(read.id, one.id);
        assert_eq!(read.secret.expose(), one.secret.expose());
        assert_eq!(read.fingerprint, one.fingerprint);
        assert_eq!(read.addresses, one.addresses);
        for place in 0..text.len() {
            let mut wrong = text.to_string().into_bytes();
            wrong[place] = if wrong[place] == b'q' { b'p' } else { b'q' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert!(wrong.parse::<Invitation>().is_err(), "{place}");
            assert!(text[..place].parse::<Invitation>().is_err(), "{place}");
        }
        let debug = format!("{one:?}");
        assert_eq!(
            hgs_testkit::part_of(one.secret.expose(), debug.as_bytes()),
            None
        );
    }

    #[test]
    fn two_sides_agree_upon_one() {
        let keys = [(); 2].map(|()| x25519::PrivateKey::generate(&mut System::new()).unwrap());
        let [one, other] = [(0, 1), (1, 0)].map(|(ours, theirs)| {
            let theirs = keys[theirs].public().unwrap();
            let addresses = vec!["192.0.2.1".parse().unwrap()];
            Invitation::agreed(
                &keys[ours],
                &theirs,
                [7; ID],
                Thumbprint::of(b""),
                addresses,
            )
            .unwrap()
        });
        assert_eq!(one.to_text(), other.to_text());
        assert_eq!(one.id(), "0707070707070707");
    }

    #[test]
    fn a_cluster_with_many_long_names_has_an_invitation_all_the_same() {
        let address = format!("{}.example", "a".repeat(60))
            .parse::<NodeAddress>()
            .unwrap();
        let many = vec![address; 15];
        let one = Invitation::new(Thumbprint::of(b""), many, &mut System::new()).unwrap();
        let read: Invitation = one.to_text().parse().unwrap();
        assert!(!read.addresses.is_empty());
    }

    #[test]
    fn it_holds_for_one_request_and_a_quarter_of_an_hour() {
        let mut open = Invitations::default();
        let one = invitation();
        let until = open.open(one.clone(), NOW);
        let proof = one.proof(b"request");
        let mut redeem = |request: &[u8], proof: &[u8], now| {
            open.redeem(&one.id(), request, proof, now).map(drop)
        };
        assert_eq!(
            redeem(b"request", &invitation().proof(b"request"), NOW),
            Err(NotInvited::NotOpen)
        );
        assert_eq!(redeem(b"other", &proof, NOW), Err(NotInvited::NotOpen));
        assert_eq!(redeem(b"request", &proof, NOW), Ok(()));
        // Its answer was lost.
        assert_eq!(redeem(b"request", &proof, NOW), Ok(()));
        assert_eq!(
            redeem(b"other", &one.proof(b"other"), NOW),
            Err(NotInvited::NotOpen)
        );
        let last = until.checked_sub(Seconds::new(1)).unwrap();
        assert_eq!(redeem(b"request", &proof, last), Ok(()));
        assert_eq!(redeem(b"request", &proof, until), Err(NotInvited::NotOpen));
    }

    #[test]
    fn a_clock_that_is_set_back_ends_it() {
        let one = invitation();
        let redeemed_at = |now: Time| {
            let mut open = Invitations::default();
            open.open(one.clone(), NOW);
            open.redeem(&one.id(), b"request", &one.proof(b"request"), now)
                .map(drop)
        };
        let before = |seconds| NOW.checked_sub(Seconds::new(seconds)).unwrap();
        assert_eq!(redeemed_at(before(1)), Ok(()));
        assert_eq!(redeemed_at(before(60)), Ok(()));
        assert_eq!(redeemed_at(before(61)), Err(NotInvited::NotOpen));
        assert_eq!(redeemed_at(before(3 * 3600)), Err(NotInvited::NotOpen));
    }

    #[test]
    fn an_answer_is_for_its_request_and_its_invitation() {
        let (one, other) = (invitation(), invitation());
        let answer = SecretBytes::from(&b"answer"[..]);
        let sealed = one.seal(b"request", &answer, &mut System::new()).unwrap();
        assert_eq!(one.open(b"request", &sealed).unwrap().expose(), b"answer");
        assert!(one.open(b"other", &sealed).is_err());
        assert!(other.open(b"request", &sealed).is_err());
    }
}
