//! Name constraints of a root (RFC 5280 section 4.2.1.10) on directory names, mail addresses and URIs.
//!
//! `webpki` compares DNS names and IP addresses, and refuses every name of another form that an authority constrains.
//! So it is given the constraints that it compares, and this module checks the rest on the path that it found.

use std::collections::BTreeSet;
use std::fmt;

use const_oid::ObjectIdentifier;
use const_oid::db::rfc3280::EMAIL_ADDRESS;
use const_oid::db::rfc5280::ID_CE_SUBJECT_ALT_NAME;
use der::asn1::AnyRef;
use der::{Decode, Encode, Header, Reader, SliceReader, Tag, TagNumber, Tagged};
use rustls_pki_types::{Der, TrustAnchor};
use x509_cert::name::Name;

use crate::certificate::CertificateNames;

/// Comparisons of a name with a constraint that one certificate is worth; as many as `webpki` makes.
const MAX_COMPARISONS: usize = 250_000;
/// The otherName that holds a mail address with letters beyond ASCII (RFC 9598).
const SMTP_UTF8_MAILBOX: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.8.9");

/// The forms of names that RFC 5280 section 4.2.1.6 knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameForm {
    /// Any form that is named by an object identifier.
    OtherName,
    /// A mail address.
    Rfc822Name,
    /// A DNS name.
    DnsName,
    /// An X.400 address.
    X400Address,
    /// A distinguished name.
    DirectoryName,
    /// A name in electronic data interchange.
    EdiPartyName,
    /// A URI.
    UniformResourceIdentifier,
    /// An IP address.
    IpAddress,
    /// An object identifier.
    RegisteredId,
}

impl NameForm {
    fn of(tag: Tag) -> Option<Self> {
        let Tag::ContextSpecific { number, .. } = tag else {
            return None;
        };
        Some(match number.value() {
            0 => Self::OtherName,
            1 => Self::Rfc822Name,
            2 => Self::DnsName,
            3 => Self::X400Address,
            4 => Self::DirectoryName,
            5 => Self::EdiPartyName,
            6 => Self::UniformResourceIdentifier,
            7 => Self::IpAddress,
            8 => Self::RegisteredId,
            _ => return None,
        })
    }
}

impl fmt::Display for NameForm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::OtherName => "otherName",
            Self::Rfc822Name => "rfc822Name",
            Self::DnsName => "dNSName",
            Self::X400Address => "x400Address",
            Self::DirectoryName => "directoryName",
            Self::EdiPartyName => "ediPartyName",
            Self::UniformResourceIdentifier => "uniformResourceIdentifier",
            Self::IpAddress => "iPAddress",
            Self::RegisteredId => "registeredID",
        })
    }
}

/// Why the names of a certificate are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameViolation {
    /// A name is excluded, or not among those that are permitted.
    Forbidden,
    /// The authority constrains this form, a certificate has a name of it, and nothing here can compare the two.
    Unsupported(NameForm),
    /// A name can't be read.
    Malformed,
    /// More than [`MAX_COMPARISONS`].
    TooManyComparisons,
}

impl From<der::Error> for NameViolation {
    fn from(_: der::Error) -> Self {
        Self::Malformed
    }
}

/// The constraints of one authority that `webpki` does not compare.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct NameConstraints {
    permitted: Vec<GeneralName>,
    excluded: Vec<GeneralName>,
}

impl NameConstraints {
    /// Takes from `anchor` the constraints that `webpki` does not compare.
    pub(crate) fn take_from(anchor: &mut TrustAnchor<'_>) -> Result<Self, NameViolation> {
        let Some(encoded) = anchor.name_constraints.take() else {
            return Ok(Self::default());
        };
        let mut constraints = Self::default();
        let mut for_webpki = Vec::new();
        let mut reader = SliceReader::new(&encoded)?;
        for (number, subtrees) in [
            (TagNumber(0), &mut constraints.permitted),
            (TagNumber(1), &mut constraints.excluded),
        ] {
            let tag = Tag::ContextSpecific {
                constructed: true,
                number,
            };
            if reader.is_finished() || Tag::peek(&reader)? != tag {
                continue;
            }
            let kept = take_subtrees(AnyRef::decode(&mut reader)?.value(), subtrees)?;
            if !kept.is_empty() {
                Header::new(tag, kept.len().try_into()?).encode_to_vec(&mut for_webpki)?;
                for_webpki.extend(kept);
            }
        }
        if !reader.is_finished() {
            return Err(NameViolation::Malformed);
        }
        anchor.name_constraints = match for_webpki.is_empty() {
            true => None,
            false => Some(Der::from(for_webpki)),
        };
        Ok(constraints)
    }

    /// A form that is constrained.
    pub(crate) fn form(&self) -> Option<NameForm> {
        let mut names = self.permitted.iter().chain(&self.excluded);
        names.next().map(GeneralName::form)
    }

    /// Checks all names of the certificate `der`. An intermediate certificate that is `self_issued` is exempt.
    pub(crate) fn check(&self, der: &[u8], role: Role) -> Result<(), NameViolation> {
        if self.form().is_none() {
            return Ok(());
        }
        let names = CertificateNames::from_der(der).map_err(|_| NameViolation::Malformed)?;
        if role == Role::Intermediate && names.issuer == names.subject {
            return Ok(());
        }
        let names = general_names(&names)?;
        if names.len() * (self.permitted.len() + self.excluded.len()) > MAX_COMPARISONS {
            return Err(NameViolation::TooManyComparisons);
        }
        names.iter().try_for_each(|name| self.check_name(name))
    }

    fn check_name(&self, name: &GeneralName) -> Result<(), NameViolation> {
        for excluded in self.excluded.iter().filter(|base| base.applies_to(name)) {
            if name.is_within(excluded)? {
                return Err(NameViolation::Forbidden);
            }
        }
        let mut is_constrained = false;
        for permitted in self.permitted.iter().filter(|base| base.applies_to(name)) {
            if name.is_within(permitted)? {
                return Ok(());
            }
            is_constrained = true;
        }
        match is_constrained {
            true => Err(NameViolation::Forbidden),
            false => Ok(()),
        }
    }
}

/// The role of a certificate in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The certificate that is verified.
    EndEntity,
    /// One that stands between it and the root. RFC 5280 exempts those whose issuer has the same name.
    Intermediate,
}

/// Puts the bases that `webpki` does not compare into `ours`, and returns the subtrees that it compares.
fn take_subtrees(encoded: &[u8], ours: &mut Vec<GeneralName>) -> Result<Vec<u8>, NameViolation> {
    let mut for_webpki = Vec::new();
    let mut reader = SliceReader::new(encoded)?;
    while !reader.is_finished() {
        let subtree = reader.tlv_bytes()?;
        let mut parts = SliceReader::new(AnyRef::from_der(subtree)?.value())?;
        let base = AnyRef::decode(&mut parts)?;
        // RFC 5280 has no use for `minimum` and `maximum`.
        if !parts.is_finished() {
            return Err(NameViolation::Malformed);
        }
        match NameForm::of(base.tag()) {
            Some(NameForm::DnsName | NameForm::IpAddress) => for_webpki.extend(subtree),
            _ => ours.push(GeneralName::read(base)?),
        }
    }
    Ok(for_webpki)
}

/// A name of a certificate, or the base of a subtree.
#[derive(Debug, PartialEq, Eq)]
enum GeneralName {
    Directory(Vec<RelativeName>),
    Mailbox(String),
    Uri(String),
    /// Of a form without rules for constraints. Each kind of otherName has a form of its own, named by its object
    /// identifier.
    Other(NameForm, Option<ObjectIdentifier>),
}

/// The attributes of one relative distinguished name.
type RelativeName = BTreeSet<(ObjectIdentifier, Value)>;

/// The value of an attribute, so that values are equal here that RFC 5280 section 7.1 calls equal.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    /// In lower case, with one space where any number of them stood.
    Text(String),
    /// DER of another type.
    Encoded(Vec<u8>),
}

impl GeneralName {
    fn read(encoded: AnyRef<'_>) -> Result<Self, NameViolation> {
        let form = NameForm::of(encoded.tag()).ok_or(NameViolation::Malformed)?;
        let text = || match std::str::from_utf8(encoded.value()) {
            Ok(text) if text.is_ascii() => Ok(text.to_owned()),
            _ => Err(NameViolation::Malformed),
        };
        Ok(match form {
            NameForm::DirectoryName => Self::Directory(directory_name(encoded.value())?),
            NameForm::Rfc822Name => Self::Mailbox(text()?),
            NameForm::UniformResourceIdentifier => Self::Uri(text()?),
            NameForm::OtherName => {
                let kind = ObjectIdentifier::decode(&mut SliceReader::new(encoded.value())?)?;
                Self::Other(form, Some(kind))
            }
            form => Self::Other(form, None),
        })
    }

    fn form(&self) -> NameForm {
        match self {
            Self::Directory(_) => NameForm::DirectoryName,
            Self::Mailbox(_) => NameForm::Rfc822Name,
            Self::Uri(_) => NameForm::UniformResourceIdentifier,
            Self::Other(form, _) => *form,
        }
    }

    /// Whether constraints with this base are about `name`.
    fn applies_to(&self, name: &Self) -> bool {
        match (self, name) {
            (Self::Other(form, kind), Self::Other(other, other_kind)) => {
                form == other && kind == other_kind
            }
            (base, Self::Other(NameForm::OtherName, kind)) => {
                base.form() == NameForm::Rfc822Name && *kind == Some(SMTP_UTF8_MAILBOX)
            }
            _ => self.form() == name.form(),
        }
    }

    /// Whether this name of a certificate lies in the subtree of `base`, which is of the same form.
    fn is_within(&self, base: &Self) -> Result<bool, NameViolation> {
        match (self, base) {
            (Self::Directory(name), Self::Directory(base)) => Ok(name.starts_with(base)),
            (Self::Mailbox(mailbox), Self::Mailbox(base)) => mailbox_is_within(mailbox, base),
            (Self::Uri(uri), Self::Uri(base)) => {
                host_of(uri).map(|host| host_is_within(host, base))
            }
            (_, base) => Err(NameViolation::Unsupported(base.form())),
        }
    }
}

/// The names of a certificate that `webpki` does not compare, from its subject and its subjectAltName.
fn general_names(certificate: &CertificateNames) -> Result<Vec<GeneralName>, NameViolation> {
    let mut names = Vec::new();
    let subject = Name::from_der(&certificate.subject)?;
    if !subject.is_empty() {
        names.push(GeneralName::Directory(directory_name(
            &certificate.subject,
        )?));
    }
    for address in subject.iter().filter(|part| part.oid == EMAIL_ADDRESS) {
        let text = str::from_utf8(address.value.value()).map_err(|_| NameViolation::Malformed)?;
        names.push(GeneralName::Mailbox(text.to_owned()));
    }
    let Some(alternative) = certificate.extensions.find(&ID_CE_SUBJECT_ALT_NAME) else {
        return Ok(names);
    };
    let mut reader = SliceReader::new(AnyRef::from_der(&alternative.der)?.value())?;
    while !reader.is_finished() {
        let encoded = AnyRef::decode(&mut reader)?;
        match NameForm::of(encoded.tag()) {
            Some(NameForm::DnsName | NameForm::IpAddress) => {}
            _ => names.push(GeneralName::read(encoded)?),
        }
    }
    Ok(names)
}

fn directory_name(der: &[u8]) -> Result<Vec<RelativeName>, NameViolation> {
    let name = Name::from_der(der)?;
    name.iter_rdn()
        .map(|relative| {
            let attributes = relative.iter();
            attributes
                .map(|attribute| Ok((attribute.oid, value(&attribute.value)?)))
                .collect()
        })
        .collect()
}

fn value(encoded: &der::Any) -> Result<Value, NameViolation> {
    let octets = encoded.value();
    let text = match encoded.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::VisibleString => {
            String::from_utf8(octets.to_vec()).ok()
        }
        // Latin 1, as everybody writes it.
        Tag::TeletexString => Some(octets.iter().copied().map(char::from).collect()),
        Tag::BmpString => {
            let (pairs, rest) = octets.as_chunks();
            let units: Vec<_> = pairs.iter().copied().map(u16::from_be_bytes).collect();
            String::from_utf16(&units).ok().filter(|_| rest.is_empty())
        }
        _ => return Ok(Value::Encoded(encoded.to_der()?)),
    };
    let text = text.ok_or(NameViolation::Malformed)?.to_lowercase();
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    Ok(Value::Text(words.join(" ")))
}

/// `base` is a mailbox, a host, or the domain of hosts if it begins with a dot.
fn mailbox_is_within(mailbox: &str, base: &str) -> Result<bool, NameViolation> {
    let (local, host) = mailbox.rsplit_once('@').ok_or(NameViolation::Malformed)?;
    if local.is_empty() || host.is_empty() {
        return Err(NameViolation::Malformed);
    }
    Ok(match base.rsplit_once('@') {
        Some((base_local, base_host)) => {
            local == base_local && host.eq_ignore_ascii_case(base_host)
        }
        None => host_is_within(host, base),
    })
}

/// `base` is a host, or the domain of hosts if it begins with a dot.
fn host_is_within(host: &str, base: &str) -> bool {
    if base.is_empty() {
        return true;
    }
    let (host, base) = (host.to_ascii_lowercase(), base.to_ascii_lowercase());
    match base.starts_with('.') {
        true => host.len() > base.len() && host.ends_with(&base),
        false => host == base,
    }
}

/// The host of a URI. RFC 5280: a URI without one, or with an IP address in its place, meets no constraint.
fn host_of(uri: &str) -> Result<&str, NameViolation> {
    let (_, rest) = uri.split_once("://").ok_or(NameViolation::Malformed)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host_and_port = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host_and_port)| host_and_port);
    let host = host_and_port.split(':').next().unwrap_or(host_and_port);
    let is_address = host.starts_with('[') || host.chars().all(|c| c.is_ascii_digit() || c == '.');
    let is_name = !host.is_empty() && !is_address;
    is_name.then_some(host).ok_or(NameViolation::Malformed)
}
