//! `pkcs11:` URIs [RFC 7512]: which key in which token, and where the PIN comes from.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

mod percent;
mod pin_source;

pub use pin_source::{PinSource, PinSourceError};

/// Octets of the longest URI that is read.
pub const MAX_URI_LENGTH: usize = 2048;

/// A URI that names a private key in a token [RFC 7512 section 2].
///
/// Values are kept decoded. `Display` writes the one canonical form, in which they are
/// percent-encoded wherever that is not plainly needless, so it can differ from what was read.
/// There is no place for a PIN: `pin-value` is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Pkcs11Uri {
    /// `token`: the label of the token.
    pub token: Option<String>,
    /// `manufacturer`: who made the token.
    pub manufacturer: Option<String>,
    /// `model` of the token.
    pub model: Option<String>,
    /// `serial`: the token's serial number.
    pub serial: Option<String>,
    /// `slot-id`: the number of the slot. Many modules renumber their slots at every start.
    pub slot_id: Option<u64>,
    /// `object`: `CKA_LABEL` of the key.
    pub object: Option<String>,
    /// `id`: `CKA_ID` of the key.
    pub id: Option<Vec<u8>>,
    /// `module-path`: the file of the module.
    pub module_path: Option<PathBuf>,
    /// `pin-source`: where the PIN is.
    pub pin_source: Option<PinSource>,
}

/// Why a text is not the URI of a private key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Pkcs11UriError {
    /// It does not begin with `pkcs11:`.
    #[error("a key's URI begins with `pkcs11:`")]
    Scheme,
    /// Longer than 2048 octets.
    #[error("a key's URI has at most {MAX_URI_LENGTH} octets")]
    TooLong,
    /// A character that a URI can't hold, or a `%` without two hexadecimal digits.
    #[error("`{0}` has a character that must be percent-encoded, or a broken percent-encoding")]
    Encoding(&'static str),
    /// A part without `=`.
    #[error("each part of a key's URI is NAME=VALUE")]
    NotNameAndValue,
    /// The same attribute twice.
    #[error("`{0}` stands twice in the key's URI")]
    Twice(&'static str),
    /// An attribute with nothing in it.
    #[error("`{0}` is empty")]
    Empty(&'static str),
    /// Decoded, the value is not what this attribute holds.
    #[error("`{0}` does not hold what it should (text in UTF-8 without control characters)")]
    Value(&'static str),
    /// A URI that carries its PIN would put it into listings, backups and the audit log.
    #[error("a key's URI must not hold a pin-value; name a pin-source")]
    PinInside,
    /// The URI names a public key, a certificate or data.
    #[error("the URI of a private key has `type=private` or no type")]
    NotPrivate,
    /// An attribute that nothing here can honour, vendors' own among them.
    #[error("the attribute `{0}` of the key's URI is not supported")]
    Unknown(String),
    /// Where the PIN comes from can't be read.
    #[error(transparent)]
    PinSource(#[from] PinSourceError),
}

impl FromStr for Pkcs11Uri {
    type Err = Pkcs11UriError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_URI_LENGTH {
            return Err(Pkcs11UriError::TooLong);
        }
        let rest = text.strip_prefix("pkcs11:").ok_or(Pkcs11UriError::Scheme)?;
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let mut uri = Self::default();
        let mut typed = false;
        for part in path.split(';').filter(|_| !path.is_empty()) {
            uri.take_path_attribute(part, &mut typed)?;
        }
        for part in query.into_iter().flat_map(|query| query.split('&')) {
            uri.take_query_attribute(part)?;
        }
        Ok(uri)
    }
}

impl Pkcs11Uri {
    fn take_path_attribute(&mut self, part: &str, typed: &mut bool) -> Result<(), Pkcs11UriError> {
        let (name, value) = name_and_value(part)?;
        match name {
            "token" => set(&mut self.token, "token", || text("token", value)),
            "manufacturer" => set(&mut self.manufacturer, "manufacturer", || {
                text("manufacturer", value)
            }),
            "model" => set(&mut self.model, "model", || text("model", value)),
            "serial" => set(&mut self.serial, "serial", || text("serial", value)),
            "slot-id" => set(&mut self.slot_id, "slot-id", || number("slot-id", value)),
            "object" => set(&mut self.object, "object", || text("object", value)),
            "id" => set(&mut self.id, "id", || octets("id", value)),
            "type" if *typed => Err(Pkcs11UriError::Twice("type")),
            "type" if value == "private" => {
                *typed = true;
                Ok(())
            }
            "type" => Err(Pkcs11UriError::NotPrivate),
            "pin-value" => Err(Pkcs11UriError::PinInside),
            _ => Err(unknown(name)),
        }
    }

    fn take_query_attribute(&mut self, part: &str) -> Result<(), Pkcs11UriError> {
        let (name, value) = name_and_value(part)?;
        match name {
            "module-path" => set(&mut self.module_path, "module-path", || {
                text("module-path", value).map(PathBuf::from)
            }),
            "pin-source" => set(&mut self.pin_source, "pin-source", || {
                Ok(text("pin-source", value)?.parse::<PinSource>()?)
            }),
            "pin-value" => Err(Pkcs11UriError::PinInside),
            _ => Err(unknown(name)),
        }
    }
}

/// RFC 7512 section 2.3: names are case-sensitive and never percent-encoded.
fn name_and_value(part: &str) -> Result<(&str, &str), Pkcs11UriError> {
    part.split_once('=').ok_or(Pkcs11UriError::NotNameAndValue)
}

fn set<T>(
    place: &mut Option<T>,
    name: &'static str,
    value: impl FnOnce() -> Result<T, Pkcs11UriError>,
) -> Result<(), Pkcs11UriError> {
    if place.is_some() {
        return Err(Pkcs11UriError::Twice(name));
    }
    *place = Some(value()?);
    Ok(())
}

fn octets(name: &'static str, value: &str) -> Result<Vec<u8>, Pkcs11UriError> {
    let octets = percent::decode(value).ok_or(Pkcs11UriError::Encoding(name))?;
    if octets.is_empty() {
        return Err(Pkcs11UriError::Empty(name));
    }
    Ok(octets)
}

fn text(name: &'static str, value: &str) -> Result<String, Pkcs11UriError> {
    let text = String::from_utf8(octets(name, value)?);
    text.ok()
        .filter(|text| !text.chars().any(char::is_control))
        .ok_or(Pkcs11UriError::Value(name))
}

fn number(name: &'static str, value: &str) -> Result<u64, Pkcs11UriError> {
    let digits = !value.is_empty() && value.bytes().all(|octet| octet.is_ascii_digit());
    let number = value.parse().ok().filter(|_| digits);
    number.ok_or(Pkcs11UriError::Value(name))
}

/// The name as far as it is fit to be shown.
fn unknown(name: &str) -> Pkcs11UriError {
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    Pkcs11UriError::Unknown(name.chars().take_while(plain).take(64).collect())
}

impl fmt::Display for Pkcs11Uri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |name, value: &Option<String>| {
            let value = value.as_ref()?;
            Some(format!("{name}={}", percent::encode(value.as_bytes(), b"")))
        };
        let path: Vec<String> = [
            plain("token", &self.token),
            plain("manufacturer", &self.manufacturer),
            plain("model", &self.model),
            plain("serial", &self.serial),
            self.slot_id.map(|number| format!("slot-id={number}")),
            plain("object", &self.object),
            self.id
                .as_ref()
                .map(|id| format!("id={}", percent::encode_all(id))),
        ]
        .into_iter()
        .flatten()
        .collect();
        let query = |name, value: String| {
            // RFC 7512 section 2.3 allows these two plain in a query, and paths are full of them.
            format!("{name}={}", percent::encode(value.as_bytes(), b"/:"))
        };
        let module = self.module_path.as_ref();
        let query: Vec<String> = [
            module.map(|path| query("module-path", path.to_string_lossy().into_owned())),
            self.pin_source
                .as_ref()
                .map(|source| query("pin-source", source.to_string())),
        ]
        .into_iter()
        .flatten()
        .collect();
        write!(formatter, "pkcs11:{}", path.join(";"))?;
        if !query.is_empty() {
            write!(formatter, "?{}", query.join("&"))?;
        }
        Ok(())
    }
}

/// Reads whatever it is given and never panics; what it reads, it reads again from its own words.
#[doc(hidden)]
pub fn fuzz_pkcs11_uri(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else {
        return;
    };
    if let Ok(uri) = text.parse::<Pkcs11Uri>() {
        // Encoding makes a URI longer, so one near the limit need not be readable again.
        let shown = uri.to_string();
        assert!(shown.len() > MAX_URI_LENGTH || shown.parse() == Ok(uri));
    }
}

#[cfg(test)]
mod tests;
