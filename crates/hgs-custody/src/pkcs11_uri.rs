//! `pkcs11:` URIs [RFC 7512]: which key in which token, and where the PIN comes from.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use hgs_crypto::text::{is_invisible, named};

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
    /// Something stands before the scheme, such as a quotation mark or a space.
    #[error("the URI begins with {}, and should with `pkcs11:`", named(*.0))]
    BeforeScheme(char),
    /// Two slashes after the scheme, as in the address of a page.
    #[error(
        "character 8 of the URI: attributes follow `pkcs11:` at once, without `//` (RFC 7512 section 2.3)"
    )]
    Slashes,
    /// Longer than 2048 octets.
    #[error("a key's URI has at most {MAX_URI_LENGTH} octets")]
    TooLong,
    /// A character that RFC 7512 has percent-encoded.
    #[error("`{attribute}`, character {place} of the URI: {} must be percent-encoded, as {encoded} (RFC 7512 section 2.3)", named(*.character), encoded = encoded(*.character))]
    Encoding {
        /// The attribute.
        attribute: &'static str,
        /// Which character of the URI, counted from 1.
        place: usize,
        /// The character.
        character: char,
    },
    /// A `%` without two hexadecimal digits.
    #[error(
        "`{attribute}`, character {place} of the URI: `%` is followed by two hexadecimal digits (RFC 3986 section 2.1)"
    )]
    PercentEncoding {
        /// The attribute.
        attribute: &'static str,
        /// Which character of the URI, counted from 1.
        place: usize,
    },
    /// A part without `=`.
    #[error(
        "character {place} of the URI: each attribute is NAME=VALUE, with `;` between attributes, and `&` after the `?`"
    )]
    NotNameAndValue {
        /// Which character of the URI, counted from 1.
        place: usize,
    },
    /// The same attribute twice.
    #[error("`{0}` stands twice in the key's URI")]
    Twice(&'static str),
    /// An attribute with nothing in it.
    #[error("`{0}` is empty")]
    Empty(&'static str),
    /// Decoded, the value is no text.
    #[error("`{0}` is not UTF-8 without control characters")]
    NotText(&'static str),
    /// The value is no number.
    #[error("`{0}` is a decimal number, without a prefix such as 0x")]
    NotNumber(&'static str),
    /// A URI that carries its PIN would put it into listings, backups and the audit log.
    #[error("a key's URI must not hold a pin-value; name a pin-source")]
    PinInside,
    /// The URI names a public key, a certificate or data.
    #[error("the URI of a private key has `type=private` or no type")]
    NotPrivate,
    /// An attribute that nothing here can honour, vendors' own among them.
    #[error(
        "character {place} of the URI: `{name}` is not supported{}",
        instead(name)
    )]
    Unknown {
        /// Its name, as far as it is fit to be shown.
        name: String,
        /// Which character of the URI, counted from 1.
        place: usize,
    },
    /// Where the PIN comes from can't be read.
    #[error(transparent)]
    PinSource(#[from] PinSourceError),
}

/// Whether a text is meant as the URI of a key: it has the scheme, in whatever case (RFC 3986 section 3.1). What was
/// copied with a space, a quotation mark or an invisible character before it is meant as one too.
#[must_use]
pub fn is_uri(text: &str) -> bool {
    without_scheme(text.trim_start_matches(stands_before_by_mistake)).is_some()
}

fn stands_before_by_mistake(character: char) -> bool {
    let is_quotation_mark = matches!(character, '\'' | '"' | '`' | '<' | '\u{2018}'..='\u{201f}');
    character.is_whitespace() || is_quotation_mark || is_invisible(character)
}

fn without_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(rest)
}

const SCHEME: &str = "pkcs11:";

fn encoded(character: char) -> String {
    percent::encode_all(character.encode_utf8(&mut [0; 4]).as_bytes())
}

/// The attribute of RFC 7512 that is called otherwise elsewhere.
fn instead(name: &str) -> &'static str {
    match name {
        "label" | "name" | "key" => "; the label of a key is its `object`",
        "slot" | "slotid" => "; the number of a slot is its `slot-id`",
        "keyid" | "key-id" | "ckaid" => "; the identifier of a key is its `id`",
        "pin" | "pin-file" => "; where the PIN is, is said by `pin-source`",
        "module" => "; the file of a module is its `module-path`",
        _ => "",
    }
}

impl FromStr for Pkcs11Uri {
    type Err = Pkcs11UriError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_URI_LENGTH {
            return Err(Pkcs11UriError::TooLong);
        }
        let Some(rest) = without_scheme(text) else {
            return Err(match text.chars().next() {
                Some(first) if is_uri(text) => Pkcs11UriError::BeforeScheme(first),
                _ => Pkcs11UriError::Scheme,
            });
        };
        if rest.starts_with("//") {
            return Err(Pkcs11UriError::Slashes);
        }
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let mut uri = Self::default();
        let mut typed = false;
        let mut start = SCHEME.len();
        for part in path.split(';').filter(|_| !path.is_empty()) {
            uri.take_path_attribute(Part::of(text, start, part)?, &mut typed)?;
            start += part.len() + 1;
        }
        start = SCHEME.len() + path.len() + 1;
        for part in query.into_iter().flat_map(|query| query.split('&')) {
            uri.take_query_attribute(Part::of(text, start, part)?)?;
            start += part.len() + 1;
        }
        Ok(uri)
    }
}

/// One attribute, and where in the URI it stands.
#[derive(Clone, Copy)]
struct Part<'u> {
    name: &'u str,
    value: &'u str,
    uri: &'u str,
    start: usize,
}

impl<'u> Part<'u> {
    /// RFC 7512 section 2.3: names are case-sensitive and never percent-encoded.
    fn of(uri: &'u str, start: usize, part: &'u str) -> Result<Self, Pkcs11UriError> {
        let place = place_of(uri, start);
        let (name, value) = part
            .split_once('=')
            .ok_or(Pkcs11UriError::NotNameAndValue { place })?;
        Ok(Self {
            name,
            value,
            uri,
            start,
        })
    }

    fn octets(&self, attribute: &'static str) -> Result<Vec<u8>, Pkcs11UriError> {
        let octets = percent::decode(self.value).map_err(|index| {
            let place = place_of(self.uri, self.start + self.name.len() + 1 + index);
            match self.value.get(index..).and_then(|rest| rest.chars().next()) {
                Some(character) if character != '%' => Pkcs11UriError::Encoding {
                    attribute,
                    place,
                    character,
                },
                _ => Pkcs11UriError::PercentEncoding { attribute, place },
            }
        })?;
        match octets.is_empty() {
            true => Err(Pkcs11UriError::Empty(attribute)),
            false => Ok(octets),
        }
    }

    fn text(&self, attribute: &'static str) -> Result<String, Pkcs11UriError> {
        let text = String::from_utf8(self.octets(attribute)?);
        text.ok()
            .filter(|text| !text.chars().any(char::is_control))
            .ok_or(Pkcs11UriError::NotText(attribute))
    }

    fn number(&self, attribute: &'static str) -> Result<u64, Pkcs11UriError> {
        let digits =
            !self.value.is_empty() && self.value.bytes().all(|octet| octet.is_ascii_digit());
        let number = self.value.parse().ok().filter(|_| digits);
        number.ok_or(Pkcs11UriError::NotNumber(attribute))
    }

    /// The name as far as it is fit to be shown.
    fn unknown(&self) -> Pkcs11UriError {
        let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        Pkcs11UriError::Unknown {
            name: self.name.chars().take_while(plain).take(64).collect(),
            place: place_of(self.uri, self.start),
        }
    }
}

/// Which character begins at this octet, counted from 1.
fn place_of(uri: &str, octet: usize) -> usize {
    uri.char_indices()
        .take_while(|(index, _)| *index < octet)
        .count()
        + 1
}

impl Pkcs11Uri {
    fn take_path_attribute(
        &mut self,
        part: Part<'_>,
        typed: &mut bool,
    ) -> Result<(), Pkcs11UriError> {
        match part.name {
            "token" => set(&mut self.token, "token", || part.text("token")),
            "manufacturer" => set(&mut self.manufacturer, "manufacturer", || {
                part.text("manufacturer")
            }),
            "model" => set(&mut self.model, "model", || part.text("model")),
            "serial" => set(&mut self.serial, "serial", || part.text("serial")),
            "slot-id" => set(&mut self.slot_id, "slot-id", || part.number("slot-id")),
            "object" => set(&mut self.object, "object", || part.text("object")),
            "id" => set(&mut self.id, "id", || part.octets("id")),
            "type" if *typed => Err(Pkcs11UriError::Twice("type")),
            "type" if part.value == "private" => {
                *typed = true;
                Ok(())
            }
            "type" => Err(Pkcs11UriError::NotPrivate),
            "pin-value" => Err(Pkcs11UriError::PinInside),
            _ => Err(part.unknown()),
        }
    }

    fn take_query_attribute(&mut self, part: Part<'_>) -> Result<(), Pkcs11UriError> {
        match part.name {
            "module-path" => set(&mut self.module_path, "module-path", || {
                part.text("module-path").map(PathBuf::from)
            }),
            "pin-source" => set(&mut self.pin_source, "pin-source", || {
                Ok(part.text("pin-source")?.parse::<PinSource>()?)
            }),
            "pin-value" => Err(Pkcs11UriError::PinInside),
            _ => Err(part.unknown()),
        }
    }
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
        write!(formatter, "{SCHEME}{}", path.join(";"))?;
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
