//! Reading PKCS#12 [RFC 7292] as all the usual programs write it.
//!
//! The writers differ in what the standard leaves open: OpenSSL, NSS, Windows, Java's keytool and Bouncy Castle choose
//! BER or DER, other ciphers, other integrity checks (a MAC over the format's own key derivation, PBMAC1 of RFC 9579,
//! or none), and two ways to write "no passphrase".

use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipherDecrypt, BlockModeDecrypt as _, KeyInit as _, KeyIvInit as _};
use hgs_crypto::SecretBytes;
use hmac::{Hmac, Mac as _};
use pkcs8::ObjectIdentifier;
use pkcs8::der::Decode as _;
use pkcs8::pkcs5::pbes2::{self, Kdf};
use pkcs12::kdf::{Pkcs12KeyType, derive_key};
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use crate::ber::{
    self, CONTEXT_0, CONTEXT_0_PRIMITIVE, Elements, INTEGER, Malformed, NULL, OBJECT_IDENTIFIER,
    OCTET_STRING, SEQUENCE, number,
};

/// Rounds of key derivation that are computed for one file, all its parts together: some seconds.
pub(crate) const MAX_ITERATIONS: u64 = 20_000_000;
/// Rounds of PBKDF2 that are computed at most: seconds, not minutes.
const MAX_PBKDF2_ITERATIONS: u32 = 10_000_000;
/// Octets of memory that scrypt may take (128 * N * r).
const MAX_SCRYPT_MEMORY: u64 = 256 * 1024 * 1024;
/// Parallelism of scrypt, which multiplies its time.
const MAX_SCRYPT_PARALLELISM: u16 = 16;
/// Bags within bags.
const MAX_DEPTH: usize = 4;
/// Bags in one file.
const MAX_BAGS: usize = 256;

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

const DATA: ObjectIdentifier = oid("1.2.840.113549.1.7.1");
const ENCRYPTED_DATA: ObjectIdentifier = oid("1.2.840.113549.1.7.6");
const KEY_BAG: ObjectIdentifier = oid("1.2.840.113549.1.12.10.1.1");
const SHROUDED_KEY_BAG: ObjectIdentifier = oid("1.2.840.113549.1.12.10.1.2");
const CERTIFICATE_BAG: ObjectIdentifier = oid("1.2.840.113549.1.12.10.1.3");
const REVOCATION_LIST_BAG: ObjectIdentifier = oid("1.2.840.113549.1.12.10.1.4");
const SECRET_BAG: ObjectIdentifier = oid("1.2.840.113549.1.12.10.1.5");
const SAFE_CONTENTS_BAG: ObjectIdentifier = oid("1.2.840.113549.1.12.10.1.6");
const X509_CERTIFICATE: ObjectIdentifier = oid("1.2.840.113549.1.9.22.1");
const PBES2: ObjectIdentifier = oid("1.2.840.113549.1.5.13");
const PBKDF2: ObjectIdentifier = oid("1.2.840.113549.1.5.12");
const PBMAC1: ObjectIdentifier = oid("1.2.840.113549.1.5.14");
const PBE_3DES_3_KEYS: ObjectIdentifier = oid("1.2.840.113549.1.12.1.3");
const PBE_3DES_2_KEYS: ObjectIdentifier = oid("1.2.840.113549.1.12.1.4");
const PBE_RC2_128: ObjectIdentifier = oid("1.2.840.113549.1.12.1.5");
const PBE_RC2_40: ObjectIdentifier = oid("1.2.840.113549.1.12.1.6");

/// Why a file can't be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OpenError {
    Malformed,
    Unsupported(String),
    TooMuchWork,
    WrongPassphrase,
    PassphraseNotUtf8,
}

impl From<Malformed> for OpenError {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

/// What a file holds, in its order.
#[derive(Debug, Default)]
pub(crate) struct Safe {
    /// The DER of certificates.
    pub(crate) certificates: Vec<Vec<u8>>,
    /// The PKCS#8 of private keys.
    pub(crate) keys: Vec<SecretBytes>,
    /// What else is in it.
    pub(crate) others: Vec<&'static str>,
}

/// Opens a file. No passphrase and an empty one are the same, however the writer has put it.
pub(crate) fn open(octets: &[u8], passphrase: Option<&SecretBytes>) -> Result<Safe, OpenError> {
    let forms = Passphrase::forms(passphrase)?;
    let der = ber::to_der(octets)?;
    let mut pfx = Elements::of(der.expose()).sequence()?;
    if number(pfx.expect(INTEGER)?)? != 3 {
        return Err(OpenError::Malformed);
    }
    let (kind, authenticated) = content_info(pfx.sequence()?)?;
    if kind != DATA {
        let how = "integrity protected by a signature instead of a passphrase";
        return Err(OpenError::Unsupported(how.to_owned()));
    }
    let authenticated = Elements::of(authenticated).expect(OCTET_STRING)?;
    let mac = match pfx.is_empty() {
        true => None,
        false => Some(Authentication::read(pfx.sequence()?)?),
    };
    let (last, others) = forms.split_last().ok_or(OpenError::WrongPassphrase)?;
    for form in others {
        match Reader::new(form).open(authenticated, mac.as_ref()) {
            Err(OpenError::WrongPassphrase) => {}
            outcome => return outcome,
        }
    }
    Reader::new(last).open(authenticated, mac.as_ref())
}

/// Opens an `EncryptedPrivateKeyInfo` of RFC 5208, which is what a shrouded key bag holds.
pub(crate) fn decrypt_key(
    document: &[u8],
    passphrase: &SecretBytes,
) -> Result<SecretBytes, OpenError> {
    let mut key = Elements::of(document).sequence()?;
    let algorithm = key.next()?;
    let ciphertext = key.expect(OCTET_STRING)?;
    // PBES2 takes the octets of a passphrase, UTF-8 or not; the schemes of PKCS#12 need characters.
    let form = Passphrase::forms(Some(passphrase))
        .map(|forms| forms.into_iter().next())
        .ok()
        .flatten()
        .unwrap_or_else(|| Passphrase {
            utf8: passphrase.clone(),
            utf16: SecretBytes::new(Vec::new()),
        });
    Reader::new(&form).decrypt(algorithm, ciphertext)
}

/// A passphrase in the forms that key derivations take.
struct Passphrase {
    /// PBKDF2 takes its octets; NSS of former years gave it the other form.
    utf8: SecretBytes,
    /// RFC 7292 appendix B.1: UTF-16, big-endian, with two zeros after it. "No passphrase" has not even these with some
    /// writers.
    utf16: SecretBytes,
}

impl Passphrase {
    /// In the order in which they are tried.
    fn forms(given: Option<&SecretBytes>) -> Result<Vec<Self>, OpenError> {
        let given = given.map(SecretBytes::expose).unwrap_or_default();
        let text = std::str::from_utf8(given).map_err(|_| OpenError::PassphraseNotUtf8)?;
        let mut utf16 = Vec::with_capacity(2 * given.len() + 2);
        text.encode_utf16()
            .chain([0])
            .for_each(|unit| utf16.extend(unit.to_be_bytes()));
        let utf16 = SecretBytes::new(utf16);
        let utf8 = SecretBytes::from(given);
        if given.is_empty() {
            let null = SecretBytes::new(Vec::new());
            return Ok(vec![
                Self {
                    utf8: utf8.clone(),
                    utf16,
                },
                Self { utf8, utf16: null },
            ]);
        }
        let as_nss = Self {
            utf8: utf16.clone(),
            utf16: utf16.clone(),
        };
        Ok(vec![Self { utf8, utf16 }, as_nss])
    }
}

/// How the file says that it is whole.
enum Authentication<'a> {
    /// HMAC with this hash, keyed by the derivation of RFC 7292.
    Hmac {
        hash: ObjectIdentifier,
        salt: &'a [u8],
        iterations: u64,
        digest: &'a [u8],
    },
    /// RFC 9579: HMAC with `hash`, keyed by PBKDF2 with HMAC and `derivation_hash`.
    Pbmac1 {
        derivation: Pbkdf2<'a>,
        hash: ObjectIdentifier,
        digest: &'a [u8],
    },
}

struct Pbkdf2<'a> {
    salt: &'a [u8],
    iterations: u64,
    length: usize,
    hash: ObjectIdentifier,
}

impl<'a> Authentication<'a> {
    /// ```text
    /// MacData ::= SEQUENCE { mac DigestInfo, macSalt OCTET STRING, iterations INTEGER DEFAULT 1 }
    /// ```
    fn read(mut mac: Elements<'a>) -> Result<Self, OpenError> {
        let mut digest_info = mac.sequence()?;
        let (algorithm, mut parameters) = algorithm(digest_info.sequence()?)?;
        let digest = digest_info.expect(OCTET_STRING)?;
        if algorithm != PBMAC1 {
            let salt = mac.expect(OCTET_STRING)?;
            let iterations = mac.optional(INTEGER)?.map_or(Ok(1), number)?;
            return Ok(Self::Hmac {
                hash: algorithm,
                salt,
                iterations,
                digest,
            });
        }
        let mut parameters = parameters.sequence()?;
        let (derivation, mut derived) = self::algorithm(parameters.sequence()?)?;
        if derivation != PBKDF2 {
            return Err(OpenError::Unsupported(format!(
                "PBMAC1 with key derivation {derivation}"
            )));
        }
        let (hash, _) = self::algorithm(parameters.sequence()?)?;
        let mut derived = derived.sequence()?;
        let salt = derived.expect(OCTET_STRING)?;
        let iterations = number(derived.expect(INTEGER)?)?;
        let length = number(derived.expect(INTEGER)?)?;
        let prf = match derived.is_empty() {
            true => HMAC_SHA1,
            false => self::algorithm(derived.sequence()?)?.0,
        };
        let length = usize::try_from(length)
            .ok()
            .filter(|length| (20..=64).contains(length));
        let derivation = Pbkdf2 {
            salt,
            iterations,
            length: length.ok_or(OpenError::Malformed)?,
            hash: prf,
        };
        Ok(Self::Pbmac1 {
            derivation,
            hash,
            digest,
        })
    }
}

const HMAC_SHA1: ObjectIdentifier = oid("1.2.840.113549.2.7");

/// Calls `$body` with the type of the hash that an identifier means, of a hash or of HMAC with it.
macro_rules! with_hash {
    ($oid:expr, $hash:ident => $body:expr) => {
        match $oid.to_string().as_str() {
            "1.3.14.3.2.26" | "1.2.840.113549.2.7" => {
                type $hash = Sha1;
                $body
            }
            "2.16.840.1.101.3.4.2.4" | "1.2.840.113549.2.8" => {
                type $hash = Sha224;
                $body
            }
            "2.16.840.1.101.3.4.2.1" | "1.2.840.113549.2.9" => {
                type $hash = Sha256;
                $body
            }
            "2.16.840.1.101.3.4.2.2" | "1.2.840.113549.2.10" => {
                type $hash = Sha384;
                $body
            }
            "2.16.840.1.101.3.4.2.3" | "1.2.840.113549.2.11" => {
                type $hash = Sha512;
                $body
            }
            other => return Err(OpenError::Unsupported(format!("a MAC with hash {other}"))),
        }
    };
}

struct Reader<'p> {
    passphrase: &'p Passphrase,
    iterations: u64,
    bags: usize,
    safe: Safe,
}

impl<'p> Reader<'p> {
    fn new(passphrase: &'p Passphrase) -> Self {
        Self {
            passphrase,
            iterations: 0,
            bags: 0,
            safe: Safe::default(),
        }
    }

    fn open(
        mut self,
        authenticated: &[u8],
        mac: Option<&Authentication<'_>>,
    ) -> Result<Safe, OpenError> {
        if let Some(mac) = mac {
            self.verify(mac, authenticated)?;
        }
        let der = ber::to_der(authenticated)?;
        let mut safes = Elements::of(der.expose()).sequence()?;
        while !safes.is_empty() {
            let (kind, content) = content_info(safes.sequence()?)?;
            if kind == DATA {
                self.contents(Elements::of(content).expect(OCTET_STRING)?, 0)?;
            } else if kind == ENCRYPTED_DATA {
                let plain = self.encrypted_data(Elements::of(content).sequence()?)?;
                self.contents(plain.expose(), 0)?;
            } else {
                return Err(OpenError::Unsupported(
                    "contents encrypted for a certificate".to_owned(),
                ));
            }
        }
        Ok(self.safe)
    }

    /// Counts work before it is done.
    fn spend(&mut self, iterations: u64) -> Result<i32, OpenError> {
        self.iterations = self.iterations.saturating_add(iterations);
        if self.iterations > MAX_ITERATIONS {
            return Err(OpenError::TooMuchWork);
        }
        i32::try_from(iterations).map_err(|_| OpenError::TooMuchWork)
    }

    fn verify(&mut self, mac: &Authentication<'_>, data: &[u8]) -> Result<(), OpenError> {
        let (key, hash, digest) = match mac {
            Authentication::Hmac {
                hash,
                salt,
                iterations,
                digest,
            } => {
                let iterations = self.spend(*iterations)?;
                let passphrase = self.passphrase.utf16.expose();
                let key = with_hash!(hash, H => {
                    let length = <H as sha2::Digest>::output_size();
                    derive_key::<H>(passphrase, salt, Pkcs12KeyType::Mac, iterations, length)
                });
                (key, hash, digest)
            }
            Authentication::Pbmac1 {
                derivation,
                hash,
                digest,
            } => {
                self.spend(derivation.iterations)?;
                let mut key = vec![0; derivation.length];
                let rounds =
                    u32::try_from(derivation.iterations).map_err(|_| OpenError::TooMuchWork)?;
                let passphrase = self.passphrase.utf8.expose();
                with_hash!(derivation.hash, H => {
                    pbkdf2::pbkdf2_hmac::<H>(passphrase, derivation.salt, rounds, &mut key);
                });
                (key, hash, digest)
            }
        };
        let key = SecretBytes::new(key);
        with_hash!(hash, H => {
            let mut mac = Hmac::<H>::new_from_slice(key.expose()).map_err(|_| OpenError::Malformed)?;
            mac.update(data);
            mac.verify_slice(digest).map_err(|_| OpenError::WrongPassphrase)
        })
    }

    /// ```text
    /// EncryptedData ::= SEQUENCE { version INTEGER, encryptedContentInfo SEQUENCE {
    ///     contentType OBJECT IDENTIFIER, algorithm, encryptedContent [0] IMPLICIT OCTET STRING } }
    /// ```
    fn encrypted_data(&mut self, mut data: Elements<'_>) -> Result<SecretBytes, OpenError> {
        data.expect(INTEGER)?;
        let mut content = data.sequence()?;
        content.expect(OBJECT_IDENTIFIER)?;
        let algorithm = content.next()?;
        let encrypted = content.next()?;
        match encrypted.tag {
            CONTEXT_0_PRIMITIVE => self.decrypt(algorithm, encrypted.content),
            CONTEXT_0 => self.decrypt(algorithm, &ber::joined(encrypted.content)?),
            _ => Err(OpenError::Malformed),
        }
    }

    /// The bags of a `SafeContents`.
    fn contents(&mut self, octets: &[u8], depth: usize) -> Result<(), OpenError> {
        // Decrypted under a wrong passphrase it is noise whose padding was right by chance.
        let der = ber::to_der(octets).map_err(|_| OpenError::WrongPassphrase)?;
        let mut bags = Elements::of(der.expose()).sequence()?;
        while !bags.is_empty() {
            self.bags += 1;
            if self.bags > MAX_BAGS || depth > MAX_DEPTH {
                return Err(OpenError::TooMuchWork);
            }
            let (kind, value) = content_info(bags.sequence()?)?;
            match kind {
                KEY_BAG => self.safe.keys.push(SecretBytes::from(value)),
                SHROUDED_KEY_BAG => {
                    let mut key = Elements::of(value).sequence()?;
                    let algorithm = key.next()?;
                    let key = self.decrypt(algorithm, key.expect(OCTET_STRING)?)?;
                    let key = ber::to_der(key.expose()).map_err(|_| OpenError::WrongPassphrase)?;
                    self.safe.keys.push(key);
                }
                CERTIFICATE_BAG => {
                    let (kind, certificate) = content_info(Elements::of(value).sequence()?)?;
                    let certificate = Elements::of(certificate).expect(OCTET_STRING)?;
                    match kind == X509_CERTIFICATE {
                        true => self.safe.certificates.push(certificate.to_vec()),
                        false => self.safe.others.push("a certificate that is not X.509"),
                    }
                }
                SAFE_CONTENTS_BAG => self.contents(value, depth + 1)?,
                REVOCATION_LIST_BAG => self.safe.others.push("a revocation list"),
                SECRET_BAG => self.safe.others.push("a secret key"),
                _ => self.safe.others.push("something unknown"),
            }
        }
        Ok(())
    }

    fn decrypt(
        &mut self,
        identifier: ber::Element<'_>,
        ciphertext: &[u8],
    ) -> Result<SecretBytes, OpenError> {
        let (algorithm, parameters) = algorithm(Elements::of(identifier.content))?;
        if algorithm == PBES2 {
            return self.decrypt_pbes2(parameters, ciphertext);
        }
        let mut parameters = match algorithm {
            PBE_3DES_3_KEYS | PBE_3DES_2_KEYS | PBE_RC2_128 | PBE_RC2_40 => {
                parameters.clone().sequence()?
            }
            other => return Err(OpenError::Unsupported(format!("encryption {other}"))),
        };
        let salt = parameters.expect(OCTET_STRING)?;
        let iterations = self.spend(2 * number(parameters.expect(INTEGER)?)?)? / 2;
        let derive = |kind, length| {
            let passphrase = self.passphrase.utf16.expose();
            SecretBytes::new(derive_key::<Sha1>(
                passphrase, salt, kind, iterations, length,
            ))
        };
        let iv = derive(Pkcs12KeyType::Iv, 8);
        let key = |length| derive(Pkcs12KeyType::EncryptionKey, length);
        match algorithm {
            PBE_3DES_3_KEYS => decrypt_cbc::<des::TdesEde3>(&key(24), &iv, ciphertext),
            PBE_3DES_2_KEYS => decrypt_cbc::<des::TdesEde2>(&key(16), &iv, ciphertext),
            PBE_RC2_128 => decrypt_cbc::<rc2::Rc2>(&key(16), &iv, ciphertext),
            _ => decrypt_cbc::<rc2::Rc2>(&key(5), &iv, ciphertext),
        }
    }

    fn decrypt_pbes2(
        &mut self,
        parameters: Elements<'_>,
        ciphertext: &[u8],
    ) -> Result<SecretBytes, OpenError> {
        let mut parameters = parameters;
        let unsupported =
            |_| OpenError::Unsupported("PBES2 with an unknown cipher or key derivation".to_owned());
        let parameters =
            pbes2::Parameters::from_der(parameters.next()?.whole).map_err(unsupported)?;
        check_work(&parameters.kdf)?;
        if let Kdf::Pbkdf2(pbkdf2) = &parameters.kdf {
            self.spend(pbkdf2.iteration_count.into())?;
        }
        let plain = parameters.decrypt(self.passphrase.utf8.expose(), ciphertext);
        plain.map(SecretBytes::new).map_err(|error| match error {
            pkcs8::pkcs5::Error::DecryptFailed => OpenError::WrongPassphrase,
            other => OpenError::Unsupported(other.to_string()),
        })
    }
}

fn decrypt_cbc<C>(
    key: &SecretBytes,
    iv: &SecretBytes,
    ciphertext: &[u8],
) -> Result<SecretBytes, OpenError>
where
    C: BlockCipherDecrypt + cbc::cipher::KeyInit,
{
    let cipher = cbc::Decryptor::<C>::new_from_slices(key.expose(), iv.expose())
        .map_err(|_| OpenError::Malformed)?;
    let plain = cipher.decrypt_padded_vec::<Pkcs7>(ciphertext);
    plain
        .map(SecretBytes::new)
        .map_err(|_| OpenError::WrongPassphrase)
}

/// What begins with an object identifier and has one value `[0]`: `ContentInfo`, `SafeBag`, `CertBag`.
fn content_info(mut parts: Elements<'_>) -> Result<(ObjectIdentifier, &[u8]), OpenError> {
    let kind = identifier(&mut parts)?;
    Ok((kind, parts.expect(CONTEXT_0)?))
}

/// An `AlgorithmIdentifier`: the algorithm and its parameters.
fn algorithm(mut parts: Elements<'_>) -> Result<(ObjectIdentifier, Elements<'_>), OpenError> {
    let algorithm = identifier(&mut parts)?;
    parts.optional(NULL)?;
    Ok((algorithm, parts))
}

fn identifier(parts: &mut Elements<'_>) -> Result<ObjectIdentifier, OpenError> {
    let octets = parts.expect(OBJECT_IDENTIFIER)?;
    ObjectIdentifier::from_bytes(octets).map_err(|_| OpenError::Malformed)
}

/// Whether DER or BER looks like a file of this format: a SEQUENCE that begins with the version 3 and another one.
pub(crate) fn looks_like_pfx(der: &[u8]) -> bool {
    let begin = || {
        let mut pfx = Elements::of(der).sequence().ok()?;
        let version = number(pfx.expect(INTEGER).ok()?).ok()?;
        let content = pfx.next().ok()?;
        let kind = identifier(&mut Elements::of(content.content)).ok()?;
        Some(
            version == 3
                && content.tag == SEQUENCE
                && kind.to_string().starts_with("1.2.840.113549.1.7."),
        )
    };
    begin().unwrap_or(false)
}

/// Refuses key derivations that would take minutes, or more memory than a file is worth.
fn check_work(derivation: &Kdf) -> Result<(), OpenError> {
    let affordable = match derivation {
        Kdf::Pbkdf2(pbkdf2) => pbkdf2.iteration_count <= MAX_PBKDF2_ITERATIONS,
        Kdf::Scrypt(scrypt) => {
            scrypt.parallelization <= MAX_SCRYPT_PARALLELISM
                && scrypt
                    .cost_parameter
                    .checked_mul(128 * u64::from(scrypt.block_size))
                    .is_some_and(|memory| memory <= MAX_SCRYPT_MEMORY)
        }
        _ => {
            return Err(OpenError::Unsupported(
                "an unknown key derivation".to_owned(),
            ));
        }
    };
    affordable.then_some(()).ok_or(OpenError::TooMuchWork)
}

#[cfg(test)]
mod tests {
    use pkcs8::pkcs5::pbes2::{Pbkdf2Params, ScryptParams};
    use pkcs8::pkcs5::scrypt;

    use super::*;

    #[test]
    fn work_without_bound_is_refused() {
        let mut pbkdf2 = Pbkdf2Params::hmac_sha256(1000, b"salt").unwrap();
        pbkdf2.iteration_count = MAX_PBKDF2_ITERATIONS + 1;
        let derivation = Kdf::Pbkdf2(pbkdf2);
        assert_eq!(check_work(&derivation), Err(OpenError::TooMuchWork));
        let cost = scrypt::Params::new(14, 8, 1).unwrap();
        let sound = ScryptParams::from_params_and_salt(cost, b"salt").unwrap();
        assert_eq!(check_work(&Kdf::Scrypt(sound)), Ok(()));
        let spoilt: [fn(&mut ScryptParams); 4] = [
            |scrypt| scrypt.cost_parameter = 1 << 20,
            |scrypt| scrypt.cost_parameter = u64::MAX,
            |scrypt| scrypt.block_size = u16::MAX,
            |scrypt| scrypt.parallelization = MAX_SCRYPT_PARALLELISM + 1,
        ];
        for spoil in spoilt {
            let mut scrypt = sound;
            spoil(&mut scrypt);
            let derivation = Kdf::Scrypt(scrypt);
            assert_eq!(check_work(&derivation), Err(OpenError::TooMuchWork));
        }
    }
}
