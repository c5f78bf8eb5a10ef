//! The one reader of files that hold certificates and keys, in whatever form people have them: PEM, DER, the Base64 of
//! DER, PKCS#7 and PFX.
//!
//! A [`Bundle`] is all that one or several files hold, in their order, and nothing is dropped on the way: what is not
//! wanted is named when what is wanted is missing ([`Bundle::summary`]). Which certificate is the key's is decided by
//! the key alone, so the order in a file is no matter.

use hgs_crypto::rsa::{PublicKey, PublicKeyError};
use hgs_crypto::{SecretBytes, base64};
use hgs_pki::{Certificate, CertificateError, pem as text};

use crate::ber::{
    self, BIT_STRING, CONTEXT_0, Elements, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET,
    write_element,
};
use crate::pem::{EncodedKey, PemError, PlainKey};
use crate::pfx::PfxError;
use crate::pkcs12::{self, looks_like_pfx};
use crate::{PrivateKey as _, SoftwareKey};

/// Octets of the largest file that is read.
pub const MAX_FILE_LENGTH: usize = text::MAX_OCTETS;
/// Certificates whose keys are looked at.
pub const MAX_CERTIFICATES: usize = text::MAX_CERTIFICATES;

/// rsaEncryption with NULL, RFC 8017 appendix A.1.
const RSA_ENCRYPTION: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
const SIGNED_DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";

/// Why a file, or several together, do not give what is wanted.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Larger than [`MAX_FILE_LENGTH`].
    #[error("a file of certificates and keys has at most {MAX_FILE_LENGTH} octets, found {0}")]
    TooLong(usize),
    /// More than [`MAX_CERTIFICATES`].
    #[error("more than {MAX_CERTIFICATES} certificates")]
    TooManyCertificates,
    /// Nothing is in it.
    #[error("the file is empty")]
    Empty,
    /// None of the forms that are read.
    #[error("neither PEM nor DER (a certificate, a key, PKCS#7 or PFX): {0}")]
    Unknown(&'static str),
    /// A keystore of Java in its own format.
    #[error("it is a Java keystore in a format of Java's own, not PKCS#12")]
    JavaKeystore,
    /// A part of it is missing.
    #[error("it is cut off: its first octets announce {declared} octets, and {found} are there")]
    CutOff {
        /// The length that it announces.
        declared: usize,
        /// The length that it has.
        found: usize,
    },
    /// Text, and not well formed.
    #[error(transparent)]
    Text(#[from] hgs_pki::PemError),
    /// A PFX file that can't be opened.
    #[error(transparent)]
    Pfx(#[from] PfxError),
    /// A private key that can't be used, or none.
    #[error(transparent)]
    Key(#[from] PemError),
    /// A certificate is wanted.
    #[error("no certificate found, but {0}")]
    NoCertificate(String),
    /// A private key is wanted.
    #[error("no private key found, but {0}")]
    NoPrivateKey(String),
    /// One private key is wanted.
    #[error("{0} private keys found; keep only the one that is meant")]
    SeveralPrivateKeys(usize),
    /// One certificate is wanted, and nothing says which.
    #[error("{0} certificates found, and nothing says which is meant; keep only that one")]
    SeveralCertificates(usize),
    /// No certificate is over the private key.
    #[error("the private key belongs to none of the certificates; found: {0}")]
    OtherKey(String),
    /// A certificate is not acceptable.
    #[error("certificate {number}: {error}")]
    Certificate {
        /// Which certificate, counted from 1.
        number: usize,
        /// What is wrong with it.
        error: CertificateError,
    },
    /// A public key is wanted.
    #[error("no public key and no certificate found, but {0}")]
    NoPublicKey(String),
    /// The public key is not acceptable.
    #[error("public key: {0}")]
    PublicKey(#[from] PublicKeyError),
    /// The PKCS#7 bundle is not one of certificates.
    #[error("malformed PKCS#7 bundle of certificates")]
    Pkcs7,
}

impl BundleError {
    /// Whether a passphrase opens what could not be opened without.
    #[must_use]
    pub fn needs_passphrase(&self) -> bool {
        matches!(
            self,
            Self::Key(PemError::PassphraseNeeded) | Self::Pfx(PfxError::PassphraseNeeded)
        )
    }
}

/// What files hold.
#[derive(Debug, Default)]
pub struct Bundle {
    certificates: Vec<Vec<u8>>,
    private_keys: Vec<EncodedKey>,
    public_keys: Vec<Vec<u8>>,
    others: Vec<String>,
}

/// A private key of any kind, its certificate and the certificates above it, for TLS.
#[derive(Debug)]
pub struct KeyedChain {
    /// The DER of the certificates, in the order of the file.
    pub certificates: Vec<Vec<u8>>,
    /// The private key in the clear: PKCS#8, PKCS#1 or SEC 1.
    pub key: PlainKey,
}

/// A private key with its certificate and the others of the file, in its order.
#[derive(Debug)]
pub struct Certified {
    /// The certificate over the key.
    pub certificate: Certificate,
    /// The private key.
    pub key: SoftwareKey,
    /// The other certificates.
    pub chain: Vec<Certificate>,
}

impl Bundle {
    /// Reads a file. A PFX file is opened with `passphrase`, or without one if that opens it; keys under a passphrase
    /// are opened only when they are asked for.
    pub fn read(octets: &[u8], passphrase: Option<&SecretBytes>) -> Result<Self, BundleError> {
        let mut bundle = Self::default();
        bundle.add(octets, passphrase)?;
        Ok(bundle)
    }

    /// Reads a further file into the same bundle.
    pub fn add(
        &mut self,
        octets: &[u8],
        passphrase: Option<&SecretBytes>,
    ) -> Result<(), BundleError> {
        if octets.len() > MAX_FILE_LENGTH {
            return Err(BundleError::TooLong(octets.len()));
        }
        if octets.trim_ascii().is_empty() {
            return Err(BundleError::Empty);
        }
        // What a disk or a copy leaves where it lost the content.
        if octets.iter().all(|octet| *octet == 0) {
            return Err(BundleError::Unknown("the file holds zeros only"));
        }
        if octets.starts_with(b"\xfe\xed\xfe\xed") || octets.starts_with(b"\xce\xce\xce\xce") {
            return Err(BundleError::JavaKeystore);
        }
        // DER begins with the tag of a SEQUENCE, which is `0` as a character.
        let is_der = octets.first() == Some(&SEQUENCE)
            && octets
                .get(1)
                .is_some_and(|length| *length >= 0x80 || !length.is_ascii_graphic());
        match is_der {
            true => self.add_der(octets, passphrase),
            false => self.add_text(octets, passphrase),
        }
    }

    /// Keeps a certificate. The same again, of another file, is no other.
    fn add_certificate(&mut self, der: &[u8]) {
        if !self.certificates.iter().any(|known| known == der) {
            self.certificates.push(der.to_vec());
        }
    }

    fn add_key(&mut self, key: EncodedKey) {
        if !self.private_keys.contains(&key) {
            self.private_keys.push(key);
        }
    }

    fn add_text(
        &mut self,
        octets: &[u8],
        passphrase: Option<&SecretBytes>,
    ) -> Result<(), BundleError> {
        if octets.starts_with(b"age-encryption.org/") {
            self.others.push("an age file".to_owned());
            return Ok(());
        }
        if octets.trim_ascii_start().starts_with(b"ssh-") {
            return Err(BundleError::Unknown(
                "it is a public key of OpenSSH; `ssh-keygen -e -m PKCS8 -f FILE` writes it as PEM",
            ));
        }
        let blocks = text::blocks(octets)?;
        if blocks.is_empty() {
            let unknown = || BundleError::Unknown("no line begins with -----BEGIN");
            let compact: Vec<u8> = octets
                .iter()
                .copied()
                .filter(u8::is_ascii_graphic)
                .collect();
            let compact = SecretBytes::new(compact);
            let text = std::str::from_utf8(compact.expose()).map_err(|_| unknown())?;
            let der = base64::decode(text.trim_start_matches('\u{feff}')).map_err(|_| unknown())?;
            let der = SecretBytes::new(der);
            return self.add_der(der.expose(), passphrase);
        }
        for block in blocks {
            self.add_block(block, passphrase)?;
        }
        Ok(())
    }

    fn add_block(
        &mut self,
        block: text::Block,
        passphrase: Option<&SecretBytes>,
    ) -> Result<(), BundleError> {
        let octets = block.octets.expose();
        let label = block.label.as_str();
        match label {
            _ if label.ends_with("PRIVATE KEY") => {
                self.add_key(EncodedKey::of_block(block)?);
            }
            _ if text::is_certificate(label) => self.add_certificate(octets),
            // Of OpenSSL: the certificate, and then for what it is trusted.
            "TRUSTED CERTIFICATE" => {
                let certificate = Elements::of(octets).next();
                let certificate = certificate
                    .map_err(|ber::Malformed| BundleError::Unknown("a malformed certificate"))?;
                self.add_certificate(certificate.whole);
            }
            "PKCS7" | "CMS" => self.add_pkcs7(octets)?,
            "PKCS12" => self.add_pfx(octets, passphrase)?,
            "PUBLIC KEY" => self.public_keys.push(octets.to_vec()),
            "RSA PUBLIC KEY" => self.public_keys.push(spki_of_pkcs1(octets)),
            "X509 CRL" => self.others.push("a revocation list".to_owned()),
            "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => {
                self.others.push("a certificate request".to_owned());
            }
            "AGE ENCRYPTED FILE" => self.others.push("an age file".to_owned()),
            _ => self.others.push(format!(
                "a block {:?}",
                label.chars().take(40).collect::<String>()
            )),
        }
        Ok(())
    }

    /// One element of DER or BER after the other; white space at the end, which editors add, is no part of any.
    fn add_der(
        &mut self,
        octets: &[u8],
        passphrase: Option<&SecretBytes>,
    ) -> Result<(), BundleError> {
        let mut rest = octets;
        while !rest.trim_ascii().is_empty() {
            let declared = ber::declared_length(rest).filter(|_| rest.starts_with(&[SEQUENCE]));
            let (element, after) = match declared {
                None => (rest, &[][..]),
                Some(declared) => {
                    let found = rest.len();
                    let cut_off = BundleError::CutOff { declared, found };
                    rest.split_at_checked(declared).ok_or(cut_off)?
                }
            };
            self.add_element(element, passphrase)?;
            rest = after.trim_ascii_start();
            // What tokens and disks fill up with.
            if rest.iter().all(|octet| *octet == 0) {
                break;
            }
        }
        Ok(())
    }

    /// Tells by its first elements what DER is.
    fn add_element(
        &mut self,
        octets: &[u8],
        passphrase: Option<&SecretBytes>,
    ) -> Result<(), BundleError> {
        let unknown = || BundleError::Unknown("the ASN.1 structure is none of these");
        let normal = ber::to_der(octets).map_err(|ber::Malformed| unknown())?;
        let der = normal.expose();
        if looks_like_pfx(der) {
            return self.add_pfx(octets, passphrase);
        }
        let shape = shape_of(der).ok_or_else(unknown)?;
        let secret = || SecretBytes::from(der);
        match shape.as_slice() {
            [OBJECT_IDENTIFIER, CONTEXT_0] => self.add_pkcs7(octets)?,
            // tbsCertificate, signatureAlgorithm, signature.
            [SEQUENCE, SEQUENCE, BIT_STRING] => self.add_signed(octets, der),
            [SEQUENCE, BIT_STRING] => self.public_keys.push(der.to_vec()),
            [INTEGER, INTEGER] => self.public_keys.push(spki_of_pkcs1(der)),
            [INTEGER, SEQUENCE, OCTET_STRING, ..] => self.add_key(EncodedKey::Pkcs8(secret())),
            [SEQUENCE, OCTET_STRING] => self.add_key(EncodedKey::Encrypted(secret())),
            [INTEGER, OCTET_STRING, ..] => self.add_key(EncodedKey::Sec1(secret())),
            [
                INTEGER,
                INTEGER,
                INTEGER,
                INTEGER,
                INTEGER,
                INTEGER,
                INTEGER,
                INTEGER,
                INTEGER,
            ] => {
                self.add_key(EncodedKey::Pkcs1(secret()));
            }
            _ => return Err(unknown()),
        }
        Ok(())
    }

    /// A certificate, a request for one, or a revocation list: each is something, an algorithm and a signature.
    fn add_signed(&mut self, octets: &[u8], der: &[u8]) {
        let inner = Elements::of(der)
            .sequence()
            .and_then(|mut outer| outer.next());
        let shape = inner
            .ok()
            .and_then(|inner| shape_of(inner.whole))
            .unwrap_or_default();
        match shape.as_slice() {
            [INTEGER, SEQUENCE, SEQUENCE, CONTEXT_0] => {
                self.others.push("a certificate request".to_owned());
            }
            [CONTEXT_0, INTEGER, SEQUENCE, ..]
            | [
                INTEGER,
                SEQUENCE,
                SEQUENCE,
                SEQUENCE,
                SEQUENCE,
                SEQUENCE,
                ..,
            ] => {
                // As it stands: its signature is over these octets.
                self.add_certificate(octets);
            }
            _ => self.others.push("a revocation list".to_owned()),
        }
    }

    /// The certificates of a `SignedData`. Its signatures are not looked at: nothing here trusts the certificates.
    fn add_pkcs7(&mut self, octets: &[u8]) -> Result<(), BundleError> {
        let malformed = |ber::Malformed| BundleError::Pkcs7;
        let der = ber::to_der(octets).map_err(malformed)?;
        let mut info = Elements::of(der.expose()).sequence().map_err(malformed)?;
        if info.expect(OBJECT_IDENTIFIER).map_err(malformed)? != SIGNED_DATA {
            self.others.push("PKCS#7 without certificates".to_owned());
            return Ok(());
        }
        let content = info.expect(CONTEXT_0).map_err(malformed)?;
        let mut signed = Elements::of(content).sequence().map_err(malformed)?;
        signed.expect(INTEGER).map_err(malformed)?;
        signed.expect(SET).map_err(malformed)?;
        signed.expect(SEQUENCE).map_err(malformed)?;
        let Some(certificates) = signed.optional(CONTEXT_0).map_err(malformed)? else {
            self.others.push("PKCS#7 without certificates".to_owned());
            return Ok(());
        };
        let mut certificates = Elements::of(certificates);
        while !certificates.is_empty() {
            let certificate = certificates.next().map_err(malformed)?;
            self.add_certificate(certificate.whole);
        }
        Ok(())
    }

    fn add_pfx(
        &mut self,
        octets: &[u8],
        passphrase: Option<&SecretBytes>,
    ) -> Result<(), BundleError> {
        let safe =
            pkcs12::open(octets, passphrase).map_err(|error| match PfxError::from(error) {
                PfxError::WrongPassphrase if passphrase.is_none() => PfxError::PassphraseNeeded,
                error => error,
            })?;
        safe.certificates
            .iter()
            .for_each(|certificate| self.add_certificate(certificate));
        safe.keys
            .into_iter()
            .map(EncodedKey::Pkcs8)
            .for_each(|key| self.add_key(key));
        self.others
            .extend(safe.others.into_iter().map(str::to_owned));
        Ok(())
    }

    /// What was found, in words.
    #[must_use]
    pub fn summary(&self) -> String {
        let counted = |count: usize, what: &str| match count {
            0 => None,
            1 => Some(format!("a {what}")),
            _ => Some(format!("{count} {what}s")),
        };
        let counted = [
            counted(self.certificates.len(), "certificate"),
            counted(self.private_keys.len(), "private key"),
            counted(self.public_keys.len(), "public key"),
        ];
        let all: Vec<String> = counted
            .into_iter()
            .flatten()
            .chain(self.others.iter().cloned())
            .collect();
        match all.as_slice() {
            [] => "nothing".to_owned(),
            _ => all.join(", "),
        }
    }

    /// Whether there is any private key.
    #[must_use]
    pub fn has_private_key(&self) -> bool {
        !self.private_keys.is_empty()
    }

    /// All certificates, at least one, in their order.
    ///
    /// # Errors
    /// [`BundleError::NoCertificate`] and [`BundleError::Certificate`].
    pub fn certificates(&self) -> Result<Vec<Certificate>, BundleError> {
        if self.certificates.is_empty() {
            return Err(BundleError::NoCertificate(self.summary()));
        }
        if self.certificates.len() > MAX_CERTIFICATES {
            return Err(BundleError::TooManyCertificates);
        }
        let parse = |(number, der): (usize, &Vec<u8>)| {
            Certificate::from_der(der).map_err(|error| BundleError::Certificate { number, error })
        };
        (1..).zip(&self.certificates).map(parse).collect()
    }

    /// The DER of all certificates, at least one, whatever keys they are over.
    ///
    /// # Errors
    /// [`BundleError::NoCertificate`].
    pub fn certificates_der(self) -> Result<Vec<Vec<u8>>, BundleError> {
        match self.certificates.is_empty() {
            true => Err(BundleError::NoCertificate(self.summary())),
            false => Ok(self.certificates),
        }
    }

    /// The one certificate: the only one, or of a chain the one that issued none of the others.
    pub fn certificate(&self) -> Result<Certificate, BundleError> {
        let certificates = self.certificates()?;
        let is_issuer = |one: &Certificate| {
            let subject = one.subject_der();
            certificates
                .iter()
                .any(|other| other != one && other.issuer_der() == subject)
        };
        let leaves: Vec<_> = certificates
            .iter()
            .filter(|one| !is_issuer(one))
            .cloned()
            .collect();
        match <[Certificate; 1]>::try_from(leaves) {
            Ok([certificate]) => Ok(certificate),
            Err(leaves) => Err(BundleError::SeveralCertificates(
                leaves.len().max(certificates.len()),
            )),
        }
    }

    /// The one private RSA key.
    pub fn private_key(
        &self,
        passphrase: Option<&SecretBytes>,
    ) -> Result<SoftwareKey, BundleError> {
        Ok(self.only_key()?.rsa(passphrase)?)
    }

    /// The one private RSA key, its certificate, and the others.
    pub fn certified(&self, passphrase: Option<&SecretBytes>) -> Result<Certified, BundleError> {
        let key = self.private_key(passphrase)?;
        let mut chain = self.certificates()?;
        let ours = chain
            .iter()
            .position(|certificate| certificate.public_key() == key.public());
        let certificate = chain.remove(ours.ok_or_else(|| BundleError::OtherKey(self.summary()))?);
        Ok(Certified {
            certificate,
            key,
            chain,
        })
    }

    /// The one private key of any kind, and all certificates, at least one.
    pub fn keyed_chain(self, passphrase: Option<&SecretBytes>) -> Result<KeyedChain, BundleError> {
        let key = self.only_key()?.plain(passphrase)?;
        let certificates = self.certificates_der()?;
        Ok(KeyedChain { certificates, key })
    }

    /// The one public RSA key: alone, or that of the one certificate.
    pub fn public_key(&self) -> Result<PublicKey, BundleError> {
        match (self.public_keys.as_slice(), self.certificates.is_empty()) {
            ([key], true) => Ok(PublicKey::from_spki_der(key)?),
            ([], false) => Ok(self.certificate()?.public_key().clone()),
            ([], true) => Err(BundleError::NoPublicKey(self.summary())),
            (keys, _) => Err(BundleError::SeveralCertificates(
                keys.len() + self.certificates.len(),
            )),
        }
    }

    fn only_key(&self) -> Result<&EncodedKey, BundleError> {
        match self.private_keys.as_slice() {
            [key] => Ok(key),
            [] => Err(BundleError::NoPrivateKey(self.summary())),
            keys => Err(BundleError::SeveralPrivateKeys(keys.len())),
        }
    }
}

/// The tags of the elements in a SEQUENCE.
fn shape_of(der: &[u8]) -> Option<Vec<u8>> {
    let mut parts = Elements::of(der).sequence().ok()?;
    let mut tags = Vec::new();
    while !parts.is_empty() {
        tags.push(parts.next().ok()?.tag);
    }
    Some(tags)
}

/// `SubjectPublicKeyInfo` around an `RSAPublicKey`.
fn spki_of_pkcs1(pkcs1: &[u8]) -> Vec<u8> {
    let (mut content, mut spki) = (Vec::new(), Vec::new());
    write_element(SEQUENCE, RSA_ENCRYPTION, &mut content);
    write_element(BIT_STRING, &[&[0], pkcs1].concat(), &mut content);
    write_element(SEQUENCE, &content, &mut spki);
    spki
}

/// Reads whatever it is given and never panics.
#[doc(hidden)]
pub fn fuzz_bundle(octets: &[u8]) {
    let passphrase = SecretBytes::from(b"secret".as_slice());
    if let Ok(bundle) = Bundle::read(octets, Some(&passphrase)) {
        let _ = (bundle.summary(), bundle.certificate(), bundle.public_key());
        let _ = bundle.certified(None);
    }
}
