//! Ways to open a file: X25519 keys, and a passphrase through scrypt.

use std::fmt;
use std::str::FromStr;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use hgs_crypto::hash::hkdf_sha256;
use hgs_crypto::{CryptoError, Random, SecretBytes, chacha20_poly1305, random, x25519};
use pkcs8::pkcs5::scrypt;
use zeroize::Zeroizing;

use super::header::{Header, Stanza, decode, encode};
use super::{AgeError, FILE_KEY_LENGTH};

/// The largest N of scrypt that is computed, as a power of two: 1 GiB of memory.
pub const MAX_SCRYPT_LOG_N: u8 = 20;
/// The N that is written: 256 MiB, about a second, as other programs of this format write it.
const SCRYPT_LOG_N: u8 = 18;

/// What the text of a public key begins with, before a `1`.
const RECIPIENT: Hrp = Hrp::parse_unchecked("age");
/// What that of a private key begins with.
const IDENTITY: Hrp = Hrp::parse_unchecked("age-secret-key-");

const X25519_INFO: &[u8] = b"age-encryption.org/v1/X25519";
const SCRYPT_INFO: &[u8] = b"age-encryption.org/v1/scrypt";
/// A wrapping key is used once.
const NONCE: [u8; chacha20_poly1305::NONCE_LENGTH] = [0; chacha20_poly1305::NONCE_LENGTH];

/// A recipient of a file: the public half of an X25519 key, written `age1…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipient(x25519::PublicKey);

/// The private half, written `AGE-SECRET-KEY-1…`.
#[derive(Debug, Clone)]
pub struct Identity {
    key: x25519::PrivateKey,
    recipient: Recipient,
}

/// Reads a file of identities as `age-keygen` writes it: one a line, beside empty lines and comments.
///
/// # Errors
/// [`AgeError::Identity`] when there is none, or something else.
pub fn identities(file: &SecretBytes) -> Result<Vec<Identity>, AgeError> {
    let text = std::str::from_utf8(file.expose()).map_err(|_| AgeError::Identity)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let identities = lines
        .map(Identity::from_text)
        .collect::<Result<Vec<_>, _>>()?;
    (!identities.is_empty())
        .then_some(identities)
        .ok_or(AgeError::Identity)
}

impl Recipient {
    /// The file key, for this recipient.
    pub(super) fn stanza(
        &self,
        file_key: &SecretBytes,
        random: &mut dyn Random,
    ) -> Result<Stanza, CryptoError> {
        let ephemeral = x25519::PrivateKey::generate(random)?;
        let share = ephemeral.public()?;
        let shared = ephemeral.agree(&self.0)?;
        let key = x25519_wrapping_key(&shared, &share, &self.0)?;
        Ok(Stanza {
            arguments: vec!["X25519".to_owned(), encode(&share.0)],
            body: wrap(&key, file_key)?,
        })
    }
}

impl FromStr for Recipient {
    type Err = AgeError;

    fn from_str(text: &str) -> Result<Self, AgeError> {
        let text = text.trim();
        let octets = key_of_text(RECIPIENT, text).filter(|_| text.starts_with("age1"));
        let octets = octets.and_then(|octets| octets.expose().try_into().ok());
        octets
            .map(|octets| Self(x25519::PublicKey(octets)))
            .ok_or(AgeError::Recipient)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&key_text(RECIPIENT, &self.0.0).ok_or(fmt::Error)?)
    }
}

impl Identity {
    fn from_text(text: &str) -> Result<Self, AgeError> {
        let octets = key_of_text(IDENTITY, text).ok_or(AgeError::Identity)?;
        if octets.is_degenerate() {
            return Err(AgeError::NotRandom("this age identity"));
        }
        Self::from_octets(octets).map_err(|_| AgeError::Identity)
    }

    fn from_octets(octets: SecretBytes) -> Result<Self, CryptoError> {
        let key = x25519::PrivateKey::from_octets(octets)?;
        let recipient = Recipient(key.public()?);
        Ok(Self { key, recipient })
    }

    /// The public half.
    #[must_use]
    pub fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    /// The file key, if this stanza is for this identity.
    fn open(&self, stanza: &Stanza) -> Result<Option<SecretBytes>, AgeError> {
        let malformed = || AgeError::Malformed("an X25519 recipient");
        let [_, share] = &stanza.arguments[..] else {
            return Err(malformed());
        };
        let share = decode(share).and_then(|share| share.try_into().ok());
        let share = x25519::PublicKey(share.ok_or_else(malformed)?);
        let shared = self.key.agree(&share).map_err(|_| malformed())?;
        let key = x25519_wrapping_key(&shared, &share, &self.recipient.0)?;
        unwrap(&key, &stanza.body).map_err(|()| malformed())
    }
}

/// The file key, opened by the first of `identities` that can.
pub(super) fn open_with_identities(
    header: &Header,
    identities: &[Identity],
) -> Result<SecretBytes, AgeError> {
    for stanza in header
        .stanzas
        .iter()
        .filter(|stanza| stanza.kind() == "X25519")
    {
        for identity in identities {
            if let Some(file_key) = identity.open(stanza)? {
                return Ok(file_key);
            }
        }
    }
    Err(AgeError::NoMatch)
}

/// The file key, for those who know the passphrase.
pub(super) fn passphrase_stanza(
    passphrase: &SecretBytes,
    file_key: &SecretBytes,
    random: &mut dyn Random,
) -> Result<Stanza, CryptoError> {
    let salt = random::array::<16>(random)?;
    let key = scrypt_wrapping_key(passphrase, &salt, SCRYPT_LOG_N)?;
    Ok(Stanza {
        arguments: vec!["scrypt".to_owned(), encode(&salt), SCRYPT_LOG_N.to_string()],
        body: wrap(&key, file_key)?,
    })
}

/// The file key, opened by the passphrase.
pub(super) fn open_with_passphrase(
    header: &Header,
    passphrase: &SecretBytes,
) -> Result<SecretBytes, AgeError> {
    let malformed = || AgeError::Malformed("the passphrase's parameters");
    let stanza = header.stanzas.first().ok_or_else(malformed)?;
    let [_, salt, log_n] = &stanza.arguments[..] else {
        return Err(malformed());
    };
    let salt = decode(salt)
        .filter(|salt| salt.len() == 16)
        .ok_or_else(malformed)?;
    let plain = log_n.bytes().all(|c| c.is_ascii_digit()) && !log_n.starts_with('0');
    let log_n = log_n
        .parse::<u8>()
        .ok()
        .filter(|_| plain)
        .ok_or_else(malformed)?;
    if log_n > MAX_SCRYPT_LOG_N {
        return Err(AgeError::TooMuchWork(log_n));
    }
    let key = scrypt_wrapping_key(passphrase, &salt, log_n)?;
    let opened = unwrap(&key, &stanza.body).map_err(|()| malformed())?;
    opened.ok_or(AgeError::WrongPassphrase)
}

/// The text of a key: Bech32 (BIP 173) in lower case.
fn key_text(prefix: Hrp, octets: &[u8]) -> Option<Zeroizing<String>> {
    bech32::encode_lower::<Bech32>(prefix, octets)
        .ok()
        .map(Zeroizing::new)
}

/// The octets of a key's text, which is in one case.
fn key_of_text(prefix: Hrp, text: &str) -> Option<SecretBytes> {
    let checked = CheckedHrpstring::new::<Bech32>(text).ok()?;
    // Room for all, so that no reallocation leaves a part of a private key behind.
    let mut octets = Vec::with_capacity(text.len());
    octets.extend(checked.byte_iter());
    let octets = SecretBytes::new(octets);
    // One key has one text: the library does not look at the bits that fill up the last character.
    let same = key_text(prefix, octets.expose())?.eq_ignore_ascii_case(text);
    same.then_some(octets)
}

fn x25519_wrapping_key(
    shared: &SecretBytes,
    share: &x25519::PublicKey,
    recipient: &x25519::PublicKey,
) -> Result<SecretBytes, CryptoError> {
    let salt = [share.0, recipient.0].concat();
    hkdf_sha256(shared, &salt, X25519_INFO, chacha20_poly1305::KEY_LENGTH)
}

fn scrypt_wrapping_key(
    passphrase: &SecretBytes,
    salt: &[u8],
    log_n: u8,
) -> Result<SecretBytes, CryptoError> {
    let salt = [SCRYPT_INFO, salt].concat();
    let cost = scrypt::Params::new(log_n, 8, 1).map_err(|_| CryptoError)?;
    let mut key = Zeroizing::new([0; chacha20_poly1305::KEY_LENGTH]);
    scrypt::scrypt(passphrase.expose(), &salt, &cost, &mut *key).map_err(|_| CryptoError)?;
    Ok(SecretBytes::from(&key[..]))
}

fn wrap(key: &SecretBytes, file_key: &SecretBytes) -> Result<Vec<u8>, CryptoError> {
    // Room for the tag, so that no reallocation leaves a copy of the file key behind.
    let mut body = Vec::with_capacity(FILE_KEY_LENGTH + chacha20_poly1305::TAG_LENGTH);
    body.extend_from_slice(file_key.expose());
    let tag = chacha20_poly1305::seal(key, NONCE, b"", &mut body)?;
    body.extend_from_slice(&tag);
    Ok(body)
}

/// The file key, or `None` if `key` is another. The length is checked first, as the format asks: a ciphertext that
/// opens under many keys has to be longer.
fn unwrap(key: &SecretBytes, body: &[u8]) -> Result<Option<SecretBytes>, ()> {
    if body.len() != FILE_KEY_LENGTH + chacha20_poly1305::TAG_LENGTH {
        return Err(());
    }
    Ok(chacha20_poly1305::open(key, NONCE, b"", body).ok())
}

/// An identity that everybody knows, for fuzzing and tests.
pub(super) fn well_known_identity() -> Option<Identity> {
    Identity::from_octets(SecretBytes::new(vec![0x42; 32])).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The keys of the example in C2SP age, as `age-keygen -y` pairs them: 32 octets 0x42.
    #[test]
    fn keys_have_the_text_of_the_specification() {
        let identity = well_known_identity().unwrap();
        let recipient = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
        assert_eq!(identity.recipient().to_string(), recipient);
        assert_eq!(
            recipient.parse::<Recipient>().unwrap(),
            *identity.recipient()
        );
        for refused in [
            "",
            "age1",
            &recipient.to_uppercase(),
            "ssh-ed25519 AAAA",
            &recipient[..61],
        ] {
            assert!(matches!(
                refused.parse::<Recipient>(),
                Err(AgeError::Recipient)
            ));
        }
        let shown = format!("{identity:?}");
        assert!(shown.contains("SecretBytes(..)"), "{shown}");
    }

    #[test]
    fn files_of_identities_have_comments_and_at_least_one_identity() {
        let key = "AGE-SECRET-KEY-1XWEAYE77JF6CU9ZNXT9YLJF7KYYNLV89GU23VW4R5CG050NRG3ZSPLL0NW";
        let file = format!("# created: today\n\n{key}\r\n{key}\n");
        let read = |text: &str| identities(&SecretBytes::from(text.as_bytes()));
        assert_eq!(read(&file).unwrap().len(), 2);
        for refused in ["", "# nothing\n", "age1x\n", &format!("{key}\nx\n")] {
            assert!(matches!(read(refused), Err(AgeError::Identity)));
        }
        // The identity of the specification's example, which everybody knows.
        let known = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
        assert!(matches!(read(known), Err(AgeError::NotRandom(_))));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_no_slip_goes_unnoticed(octets: [u8; 32], place: prop::sample::Index, other in "[02-9ac-hj-np-z]") {
            let text = key_text(RECIPIENT, &octets).unwrap();
            let read = |text: &str| key_of_text(RECIPIENT, text);
            let back = read(&text).unwrap();
            prop_assert_eq!(back.expose(), &octets[..]);
            prop_assert!(read(&text.to_uppercase()).is_some());
            prop_assert!(key_of_text(IDENTITY, &text).is_none());
            let mut slipped = text.to_string();
            let place = 4 + place.index(slipped.len() - 4);
            slipped.replace_range(place..=place, &other);
            prop_assert!(slipped == *text || read(&slipped).is_none());
        }
    }
}
