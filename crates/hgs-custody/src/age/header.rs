//! The header: who can open the file, and how, in lines of text that end with a MAC.

use std::io::{BufRead, Read as _};

use hgs_crypto::hash::{hkdf_sha256, hmac_sha256, verify_hmac_sha256};
use hgs_crypto::{CryptoError, SecretBytes, base64};

use super::AgeError;

/// Octets of the longest header that is read.
pub const MAX_HEADER_LENGTH: usize = 64 * 1024;

/// Recipients of one file.
pub(super) const MAX_STANZAS: usize = 64;

const FIRST_LINE: &[u8] = b"age-encryption.org/v1\n";
const BODY_COLUMNS: usize = 64;

/// One way to open a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stanza {
    /// What kind of way, and what belongs to it.
    pub(super) arguments: Vec<String>,
    /// The file key, wrapped.
    pub(super) body: Vec<u8>,
}

/// A header, not yet known to be authentic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) stanzas: Vec<Stanza>,
    /// All lines up to and with the three dashes before the MAC.
    authenticated: Vec<u8>,
    mac: [u8; 32],
}

impl Header {
    pub(super) fn new(stanzas: Vec<Stanza>, file_key: &SecretBytes) -> Result<Self, CryptoError> {
        let mut authenticated = FIRST_LINE.to_vec();
        for stanza in &stanzas {
            stanza.write(&mut authenticated);
        }
        authenticated.extend_from_slice(b"---");
        let mac = hmac_sha256(&mac_key(file_key)?, &[&authenticated]);
        Ok(Self {
            stanzas,
            authenticated,
            mac,
        })
    }

    pub(super) fn octets(&self) -> Vec<u8> {
        let mac = format!(" {}\n", encode(&self.mac));
        [&self.authenticated, mac.as_bytes()].concat()
    }

    pub(super) fn read(file: &mut impl BufRead) -> Result<Self, AgeError> {
        let mut lines = Lines {
            file,
            read: Vec::new(),
        };
        if lines.next().map_err(foreign)? != FIRST_LINE {
            return Err(AgeError::Foreign);
        }
        let mut stanzas = Vec::new();
        loop {
            let before = lines.read.len();
            let line = text(lines.next()?)?;
            if let Some(mac) = line.strip_prefix("--- ") {
                let mac = decode(mac)
                    .and_then(|mac| mac.try_into().ok())
                    .ok_or(AgeError::Malformed("the MAC"))?;
                lines.read.truncate(before + "---".len());
                let authenticated = lines.read;
                let header = Self {
                    stanzas,
                    authenticated,
                    mac,
                };
                return header.checked();
            }
            let arguments = line
                .strip_prefix("-> ")
                .ok_or(AgeError::Malformed("neither a recipient nor the MAC"))?;
            let arguments = arguments_of(arguments)?;
            if stanzas.len() == MAX_STANZAS {
                return Err(AgeError::Recipients);
            }
            let body = read_body(&mut lines)?;
            stanzas.push(Stanza { arguments, body });
        }
    }

    /// Refuses what the format rules out whatever the keys are.
    fn checked(self) -> Result<Self, AgeError> {
        if self.stanzas.is_empty() {
            return Err(AgeError::Recipients);
        }
        // Otherwise an attacker could add a recipient to a file that a passphrase was to authenticate.
        if self.is_under_passphrase() && self.stanzas.len() > 1 {
            return Err(AgeError::Malformed("a passphrase beside other recipients"));
        }
        Ok(self)
    }

    pub(super) fn is_under_passphrase(&self) -> bool {
        self.stanzas.iter().any(|stanza| stanza.kind() == "scrypt")
    }

    /// Checks that the writer of the header knew the file key.
    pub(super) fn verify(&self, file_key: &SecretBytes) -> Result<(), AgeError> {
        let authentic = verify_hmac_sha256(&mac_key(file_key)?, &self.authenticated, &self.mac);
        authentic.map_err(|_| AgeError::HeaderChanged)
    }
}

impl Stanza {
    pub(super) fn kind(&self) -> &str {
        self.arguments.first().map_or("", String::as_str)
    }

    fn write(&self, out: &mut Vec<u8>) {
        let arguments = format!("-> {}\n", self.arguments.join(" "));
        out.extend_from_slice(arguments.as_bytes());
        let body = encode(&self.body);
        for line in body.as_bytes().chunks(BODY_COLUMNS) {
            out.extend_from_slice(line);
            out.push(b'\n');
        }
        // A full line is never the last.
        if body.len().is_multiple_of(BODY_COLUMNS) {
            out.push(b'\n');
        }
    }
}

fn read_body(lines: &mut Lines<'_, impl BufRead>) -> Result<Vec<u8>, AgeError> {
    let mut body = Vec::new();
    loop {
        let line = text(lines.next()?)?;
        let part = decode(line).filter(|_| line.len() <= BODY_COLUMNS);
        body.extend(part.ok_or(AgeError::Malformed("the body of a recipient"))?);
        if line.len() < BODY_COLUMNS {
            return Ok(body);
        }
    }
}

fn arguments_of(line: &str) -> Result<Vec<String>, AgeError> {
    let sound =
        |argument: &str| !argument.is_empty() && argument.bytes().all(|c| c.is_ascii_graphic());
    let arguments: Vec<_> = line.split(' ').map(str::to_owned).collect();
    let all_sound = arguments.iter().all(|argument| sound(argument));
    all_sound
        .then_some(arguments)
        .ok_or(AgeError::Malformed("the arguments of a recipient"))
}

/// Lines of a header, within its budget.
struct Lines<'f, R> {
    file: &'f mut R,
    read: Vec<u8>,
}

impl<R: BufRead> Lines<'_, R> {
    /// The next line, with its line feed.
    fn next(&mut self) -> Result<&[u8], AgeError> {
        let start = self.read.len();
        let left = MAX_HEADER_LENGTH - start;
        let mut file = self.file.by_ref().take(left as u64);
        file.read_until(b'\n', &mut self.read)?;
        let line = self.read.get(start..).unwrap_or_default();
        match line.last() {
            Some(b'\n') => Ok(line),
            _ if line.len() == left => Err(AgeError::HeaderTooLong),
            _ => Err(AgeError::Malformed("its end is missing")),
        }
    }
}

/// A file without a first line is no file of this format either.
fn foreign(error: AgeError) -> AgeError {
    match error {
        AgeError::File(error) => AgeError::File(error),
        _ => AgeError::Foreign,
    }
}

fn text(line: &[u8]) -> Result<&str, AgeError> {
    let text = std::str::from_utf8(line)
        .ok()
        .and_then(|line| line.strip_suffix('\n'));
    text.ok_or(AgeError::Malformed("not text"))
}

fn mac_key(file_key: &SecretBytes) -> Result<SecretBytes, CryptoError> {
    hkdf_sha256(file_key, b"", b"header", 32)
}

/// Base64 without padding.
pub(super) fn encode(octets: &[u8]) -> String {
    let mut text = base64::encode(octets);
    text.truncate(text.trim_end_matches('=').len());
    text
}

/// The reverse of [`encode`]; nothing else is taken.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    if text.ends_with('=') {
        return None;
    }
    let padding = match text.len() % 4 {
        0 => "",
        2 => "==",
        3 => "=",
        _ => return None,
    };
    base64::decode(&format!("{text}{padding}")).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stanza() -> impl Strategy<Value = Stanza> {
        let arguments = prop::collection::vec("[!-~]{1,50}", 1..4);
        let body = prop::collection::vec(any::<u8>(), 0..150);
        let stanza = (arguments, body).prop_map(|(arguments, body)| Stanza { arguments, body });
        stanza.prop_filter("a passphrase is alone", |stanza| stanza.kind() != "scrypt")
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(stanzas in prop::collection::vec(stanza(), 1..5), rest: Vec<u8>) {
            let file_key = SecretBytes::new(vec![5; 16]);
            let header = Header::new(stanzas, &file_key).unwrap();
            let file = [header.octets(), rest.clone()].concat();
            let mut file = &file[..];
            let read = Header::read(&mut file).unwrap();
            prop_assert_eq!(&read, &header);
            prop_assert_eq!(file, &rest[..]);
            prop_assert!(read.verify(&file_key).is_ok());
            let other = SecretBytes::new(vec![6; 16]);
            prop_assert!(matches!(read.verify(&other), Err(AgeError::HeaderChanged)));
        }
    }

    fn refusal(text: &str) -> String {
        Header::read(&mut text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_a_header_is_refused_by_name() {
        const MAC: &str = "--- AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n";
        for foreign in ["", "age", "age-encryption.org/v2\n", "PK\u{3}\u{4}"] {
            assert_eq!(refusal(foreign), "not an age file");
        }
        let refused = |rest: &str| refusal(&format!("age-encryption.org/v1\n{rest}"));
        assert!(refused("").contains("its end is missing"));
        assert!(refused("-> X25519 a\nAAAA\n").contains("its end is missing"));
        assert!(refused("-> X25519  a\nAAAA\n").contains("arguments"));
        assert!(refused("-> X25519 a\nAAA=\n").contains("body"));
        assert!(refused("-> X25519 a\nAAB\n").contains("body"), "stray bits");
        assert!(refused(MAC).contains("recipients"));
        assert!(refused("--- AAAA\n").contains("the MAC"));
        assert!(refused("x\n").contains("neither"));
        assert!(refused(&"-> x\n\n".repeat(65)).contains("recipients"));
        assert!(refused(&"a".repeat(MAX_HEADER_LENGTH)).contains("more than"));
        let beside = format!("-> scrypt AAAAAAAAAAAAAAAAAAAAAA 10\n\n-> x\n\n{MAC}");
        assert!(refused(&beside).contains("beside"));
    }
}
