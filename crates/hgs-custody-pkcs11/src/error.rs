use std::fmt;
use std::path::PathBuf;

use cryptoki::error::{Error, RvError};
use hgs_crypto::rsa::PublicKeyError;
use hgs_custody::{KeyError, PinSource};
use hgs_files::TypedError;

use crate::ReturnBlame;
use crate::return_values::{name_of, return_value};

/// Why a key in a token can't be used, from the module down to the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The operator named no module.
    #[error("no PKCS#11 module is configured")]
    NoModule,
    /// The URI names a module that the operator did not.
    #[error("the PKCS#11 module {} is not configured", path.display())]
    ModuleNotConfigured {
        /// What the URI names.
        path: PathBuf,
    },
    /// The shared object can't be loaded.
    #[error("the PKCS#11 module {} can't be loaded: {reason}", path.display())]
    ModuleNotLoadable {
        /// The shared object.
        path: PathBuf,
        /// What the loader says.
        reason: String,
    },
    /// The module does not start, or can't list its slots.
    #[error("the PKCS#11 module {} does not start: {code}", path.display())]
    ModuleFailed {
        /// The shared object.
        path: PathBuf,
        /// What it answers.
        code: Code,
    },
    /// A call has not come back, and nothing may be initialised anew before it does.
    #[error("a call into the PKCS#11 module does not come back")]
    Hangs,
    /// No slot holds the token.
    #[error("there is no token {wanted}; present: {}", listed(present))]
    TokenAbsent {
        /// The token's part of the URI.
        wanted: String,
        /// Labels of the tokens that are there.
        present: Vec<String>,
    },
    /// Several slots hold such a token.
    #[error("{count} tokens are {wanted}; name the one by its serial number")]
    TokenAmbiguous {
        /// The token's part of the URI.
        wanted: String,
        /// How many there are.
        count: usize,
    },
    /// The PIN can't be had.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The token refuses the PIN. It is not tried again until its source says something else.
    #[error(
        "the token refuses the PIN from {source_of_pin}: {code}{}",
        if *.worked_before { "; it worked before, so its PIN was changed meanwhile, or the source was" } else { "" }
    )]
    PinRefused {
        /// Where the PIN came from.
        source_of_pin: PinSource,
        /// What the token answers.
        code: Code,
        /// Whether this process was logged in before.
        worked_before: bool,
    },
    /// The token is there and gives no sessions.
    #[error("the token gives no session: {code}")]
    NoSession {
        /// What it answers.
        code: Code,
    },
    /// The token failed at work, and is looked for anew.
    #[error("the token {}: {code}", if code.is_absence() { "is lost" } else { "failed" })]
    Lost {
        /// What it answered.
        code: Code,
    },
    /// The token answered, wrongly.
    #[error("the token gives wrong results")]
    WrongResult,
    /// The module or the token takes longer to start than a caller waits.
    #[error("the token did not start within the time to wait")]
    Starting,
    /// No session was free for the job in time.
    #[error("the token is busy: no turn within the time to wait")]
    Busy,
    /// The process stops.
    #[error("the tokens are being closed")]
    Closing,
    /// No private RSA key matches the URI.
    #[error(
        "the token holds no private RSA key {wanted}; it holds: {}",
        listed(present)
    )]
    KeyAbsent {
        /// The key's part of the URI.
        wanted: String,
        /// The private keys that are there, as their URIs name them.
        present: Vec<String>,
    },
    /// The token does not make a key, whatever is left away of what is asked of it.
    #[error("the token makes no such key: {code}")]
    NotGenerated {
        /// What it answered to the last attempt.
        code: Code,
    },
    /// The URI does not single out one key.
    #[error("the token holds {count} private RSA keys {wanted}; name the one by its id")]
    KeyAmbiguous {
        /// The key's part of the URI.
        wanted: String,
        /// How many there are.
        count: usize,
    },
    /// A key with this label or id is there already.
    #[error("the token holds a key {wanted} already")]
    KeyExists {
        /// The key's part of the URI.
        wanted: String,
    },
    /// Another key has the identifier under which one is to be generated; URIs and other programs could not tell them
    /// apart.
    #[error("the token holds a key with the identifier {id} already: {present}")]
    IdentifierInUse {
        /// The identifier's part of the URI.
        id: String,
        /// The key that has it.
        present: String,
    },
    /// The URI names no key, so none can be generated.
    #[error("a key is generated under an `object` or an `id`, and the URI has neither")]
    KeyNotNamed,
    /// The token's key is not the certificate's.
    #[error("the private key in the token does not belong to the certificate")]
    OtherKey,
    /// `CKA_ALWAYS_AUTHENTICATE`: made for a person at a keyboard.
    #[error("the key in the token asks for its PIN at each use, which is not supported")]
    PinAtEachUse,
    /// The token shows neither modulus nor exponent of the key.
    #[error("the token does not show the public half of the key")]
    PublicHalfHidden,
    /// The key is too weak or too large.
    #[error("the key in the token is not acceptable: {0}")]
    Key(#[from] PublicKeyError),
    /// The token can't do it with this key.
    #[error("the token can't do this with this key")]
    Unsupported,
    /// The ciphertext was not made for this key.
    #[error("the ciphertext was not made for this key")]
    Refused,
}

impl TokenError {
    /// What the operator can do about it, where that is plain.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        let remedy = match self {
            Self::NoModule | Self::ModuleNotConfigured { .. } => {
                "name the module under [[pkcs11.module]] in the configuration"
            }
            Self::ModuleNotLoadable { .. } => {
                "check the path, and that the module's package is installed for this architecture"
            }
            Self::Hangs => "check the connection to the device; if it stays so, restart the server",
            Self::TokenAbsent { .. } => {
                "check the label, that the device is connected, and that this user may open it"
            }
            Self::Pin(error) => return error.remedy(),
            Self::ModuleFailed { code, .. }
            | Self::PinRefused { code, .. }
            | Self::NoSession { code }
            | Self::NotGenerated { code }
            | Self::Lost { code } => return code.remedy().map(str::to_owned),
            Self::KeyAbsent { .. } => {
                "name one of the keys that are there, by its `object` and `id`"
            }
            Self::KeyAmbiguous { .. } => {
                "give each key an identifier of its own (`pkcs11-tool --login --set-id`, or make it anew), and name it \
                 with `id=`; two objects without one are told apart by nothing"
            }
            Self::PinAtEachUse => {
                "use a key without CKA_ALWAYS_AUTHENTICATE: on PIV cards any but the signature key (slot 9c)"
            }
            Self::PublicHalfHidden => {
                "keep the public key in the token too, under the same label and identifier"
            }
            Self::IdentifierInUse { .. } => {
                "name the new key with an `id` that no other key has, or with none: it gets one of its own"
            }
            Self::OtherKey => "name the key that the certificate was made for",
            _ => return None,
        };
        Some(remedy.to_owned())
    }
}

impl TokenError {
    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> ReturnBlame {
        match self {
            Self::ModuleFailed { code, .. }
            | Self::PinRefused { code, .. }
            | Self::NoSession { code }
            | Self::NotGenerated { code }
            | Self::Lost { code } => code.blame(),
            Self::Hangs | Self::WrongResult | Self::Starting | Self::Busy => ReturnBlame::Token,
            Self::Refused => ReturnBlame::Request,
            Self::Closing => ReturnBlame::Ourselves,
            _ => ReturnBlame::Operator,
        }
    }
}

/// The stage of an [`Examination`](crate::Examination) that is about the key: the token works.
pub(crate) const KEY_STAGE: usize = 5;

impl TokenError {
    /// Whether the token may be in another module than the one that said this.
    pub(crate) fn may_be_elsewhere(&self) -> bool {
        matches!(
            self,
            Self::TokenAbsent { .. }
                | Self::ModuleNotLoadable { .. }
                | Self::ModuleFailed { .. }
                | Self::Hangs
                | Self::Starting
                | Self::Busy
        )
    }

    /// Which stage of an [`Examination`](crate::Examination) fails with this.
    pub(crate) fn stage(&self) -> usize {
        match self {
            Self::NoModule
            | Self::ModuleNotConfigured { .. }
            | Self::ModuleNotLoadable { .. }
            | Self::ModuleFailed { .. }
            | Self::Hangs
            | Self::Starting
            | Self::Closing => 0,
            Self::TokenAbsent { .. } | Self::TokenAmbiguous { .. } | Self::Lost { .. } => 1,
            Self::Pin(_) => 2,
            Self::PinRefused { .. } => 3,
            Self::NoSession { .. } | Self::Busy => 4,
            Self::KeyAbsent { .. }
            | Self::KeyAmbiguous { .. }
            | Self::KeyExists { .. }
            | Self::IdentifierInUse { .. }
            | Self::KeyNotNamed
            | Self::NotGenerated { .. }
            | Self::OtherKey
            | Self::PinAtEachUse
            | Self::PublicHalfHidden
            | Self::Key(_) => KEY_STAGE,
            Self::WrongResult | Self::Unsupported | Self::Refused => 6,
        }
    }
}

impl From<TokenError> for KeyError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Refused => Self::Refused,
            TokenError::Unsupported => Self::Unsupported,
            other => Self::Unavailable {
                reason: other.to_string(),
            },
        }
    }
}

/// Why a PIN can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// Neither the URI nor the configuration says where it is.
    #[error("nothing says where the token's PIN is")]
    NoSource,
    /// The file can't be read, or others could read it too.
    #[error("the PIN: {reason}")]
    File {
        /// The file and what is wrong with it.
        reason: String,
        /// What to do about it.
        remedy: Option<String>,
    },
    /// `CREDENTIALS_DIRECTORY` is not set: the program was not started with credentials.
    #[error("the PIN: there is no CREDENTIALS_DIRECTORY to look for the credential {0} in")]
    NoCredentials(String),
    /// The environment variable is not set.
    #[error("the PIN: the environment variable {0} is not set")]
    NoVariable(String),
    /// What is there can't be a PIN that a person typed. The token was not asked, which counts wrong PINs.
    #[error("the PIN from {source_of_pin} {problem}")]
    NotTyped {
        /// Where it came from.
        source_of_pin: PinSource,
        /// What is wrong with it.
        problem: TypedError,
    },
}

impl PinError {
    /// What the operator can do about it, where that is plain.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        let remedy = match self {
            Self::NoSource => "add pin-source to the URI, or pin_source to [pkcs11]",
            Self::File { remedy, .. } => return remedy.clone(),
            Self::NoCredentials(_) => "add LoadCredential= to the systemd unit",
            Self::NoVariable(_) => "set it where the server is started",
            Self::NotTyped { .. } => {
                "write the PIN anew into its source, as plain text in one line"
            }
        };
        Some(remedy.to_owned())
    }
}

/// What a module answered to which call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// The name of PKCS#11, such as `CKR_DEVICE_REMOVED`.
    pub name: String,
    /// The function that answered so, such as `C_Decrypt`.
    pub function: String,
}

impl Code {
    /// What the operator can do about it, where the standard has the value.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        return_value(&self.name).map(|value| value.remedy)
    }

    /// Whether it says that the token, the login or the session is not there any more.
    fn is_absence(&self) -> bool {
        matches!(
            self.name.as_str(),
            "CKR_DEVICE_REMOVED"
                | "CKR_TOKEN_NOT_PRESENT"
                | "CKR_TOKEN_NOT_RECOGNIZED"
                | "CKR_SLOT_ID_INVALID"
                | "CKR_SESSION_CLOSED"
                | "CKR_SESSION_HANDLE_INVALID"
                | "CKR_OBJECT_HANDLE_INVALID"
                | "CKR_KEY_HANDLE_INVALID"
                | "CKR_USER_NOT_LOGGED_IN"
                | "CKR_CRYPTOKI_NOT_INITIALIZED"
        )
    }

    /// Whose fault it is: the token's, where the value is a vendor's own.
    #[must_use]
    pub fn blame(&self) -> ReturnBlame {
        return_value(&self.name).map_or(ReturnBlame::Token, |value| value.blame)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} from {}", self.name, self.function)?;
        match return_value(&self.name) {
            Some(value) => write!(formatter, " ({})", value.words),
            None => Ok(()),
        }
    }
}

impl From<&Error> for Code {
    fn from(error: &Error) -> Self {
        match error {
            Error::Pkcs11(code, function) => Self {
                name: named(*code),
                function: format!("C_{function:?}"),
            },
            other => Self {
                name: other.to_string(),
                function: "the module".to_owned(),
            },
        }
    }
}

/// The standard's name of an error: the library's, in capitals.
pub(crate) fn named(code: RvError) -> String {
    if let RvError::VendorDefined(number) | RvError::UnknownErrorCode(number) = code {
        let named = name_of(number).map(str::to_owned);
        return named.unwrap_or_else(|| format!("CKR_{number:#010x}"));
    }
    let mut name = "CKR".to_owned();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

fn listed(labels: &[String]) -> String {
    if labels.is_empty() {
        "none".to_owned()
    } else {
        labels.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;

    use super::*;

    #[test]
    fn codes_have_the_names_of_the_standard() {
        for (code, expected) in [
            (RvError::DeviceRemoved, "CKR_DEVICE_REMOVED"),
            (RvError::TokenNotPresent, "CKR_TOKEN_NOT_PRESENT"),
            (RvError::PinIncorrect, "CKR_PIN_INCORRECT"),
            (RvError::VendorDefined(0x8000_0001), "CKR_0x80000001"),
        ] {
            let code = Code::from(&Error::Pkcs11(code, Function::Decrypt));
            let shown = code.to_string();
            assert!(
                shown.starts_with(&format!("{expected} from C_Decrypt")),
                "{shown}"
            );
        }
    }

    #[test]
    fn only_what_lies_in_the_request_is_its_fault() {
        assert_eq!(KeyError::from(TokenError::Refused), KeyError::Refused);
        let error = KeyError::from(TokenError::Unsupported);
        assert_eq!(error, KeyError::Unsupported);
        let reason = "the token is busy: no turn within the time to wait".to_owned();
        let error = KeyError::from(TokenError::Busy);
        assert_eq!(error, KeyError::Unavailable { reason });
    }
}
