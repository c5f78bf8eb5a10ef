//! What requests and replies are read with.

use hgs_crypto::base64;

use super::MESSAGE;
use super::{AttestationResultType, MAX_PROVIDED_CONTENTS, ResultContent, TYPE_NAMESPACE};
use super::{Json, JsonError, quoted};

/// Why octets are not a message of [MS-HGSA] 2.2.2. The sender is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// Not JSON, or over a limit.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// JSON, but not an object.
    #[error("the message is not an object")]
    NotAnObject,
    /// `__type` names no type that is expected here.
    #[error("`{found}` is not the type of a message that is expected here")]
    UnexpectedType {
        /// What `__type` says, escaped and cut short.
        found: String,
    },
    /// The message has no `__type`, and can't be told from others without it.
    #[error("the message has no `__type`")]
    NoType,
    /// A member that the type requires is absent, or its value is of another kind.
    #[error("the member `{member}` is absent, or is not {expected}")]
    Member {
        /// The name of the member.
        member: &'static str,
        /// What its value should be.
        expected: &'static str,
    },
    /// A value that should be Base64 is not.
    #[error("the value of `{member}` is not Base64 with padding")]
    NotBase64 {
        /// The name of the member.
        member: &'static str,
    },
    /// `SessionId` is not a GUID.
    #[error("`SessionId` has {found} octets; a GUID has 16")]
    SessionId {
        /// The octets it has.
        found: usize,
    },
    /// More provided contents than [`MAX_PROVIDED_CONTENTS`].
    #[error("the request provides {found} contents, more than {MAX_PROVIDED_CONTENTS}")]
    TooManyProvidedContents {
        /// How many it provides.
        found: usize,
    },
}

impl MessageError {
    /// Whether the message went over a limit, rather than being no message at all.
    #[must_use]
    pub fn is_over_limit(&self) -> bool {
        match self {
            Self::Json(error) => !matches!(
                error,
                JsonError::Malformed { .. }
                    | JsonError::DoubledMember { .. }
                    | JsonError::TypeNotFirst
            ),
            Self::TooManyProvidedContents { .. } => true,
            _ => false,
        }
    }
}

/// A JSON object, whose members are read by name and kind.
pub(super) struct Object<'j, 't>(&'j Json<'t>);

impl<'j, 't> Object<'j, 't> {
    pub(super) fn unsigned_int(&self, member: &'static str) -> Result<u32, MessageError> {
        let expected = "an integer from 0 to 4294967295";
        self.member(member, expected, Json::unsigned_int)
    }

    pub(super) fn boolean(&self, member: &'static str) -> Result<bool, MessageError> {
        self.member(member, "true or false", Json::boolean)
    }

    pub(super) fn text(&self, member: &'static str) -> Result<&'j str, MessageError> {
        self.member(member, "a string", Json::text)
    }

    pub(super) fn octets(&self, member: &'static str) -> Result<Vec<u8>, MessageError> {
        base64::decode(self.text(member)?).map_err(|_| MessageError::NotBase64 { member })
    }

    /// An array whose values `read` understands.
    pub(super) fn list<T>(
        &self,
        member: &'static str,
        read: impl Fn(&'j Json<'t>) -> Result<T, MessageError>,
    ) -> Result<Vec<T>, MessageError> {
        let values = self.member(member, "an array", Json::array)?;
        values.iter().map(read).collect()
    }

    /// How many values an array has, before any is read.
    pub(super) fn list_length(&self, member: &'static str) -> Result<usize, MessageError> {
        Ok(self.member(member, "an array", Json::array)?.len())
    }

    /// An object within this one.
    pub(super) fn object(&self, member: &str) -> Option<Self> {
        self.0.member(member).and_then(|value| Self::of(value).ok())
    }

    pub(super) fn of(json: &'j Json<'t>) -> Result<Self, MessageError> {
        match json {
            Json::Object(_) => Ok(Self(json)),
            _ => Err(MessageError::NotAnObject),
        }
    }

    /// The name of the message's type, without namespace; `None` if there is no `__type`.
    pub(super) fn message_type(&self) -> Result<Option<&'j str>, MessageError> {
        if self.0.member("__type").is_none() {
            return Ok(None);
        }
        let full = self.text("__type")?;
        let name = full.strip_suffix(TYPE_NAMESPACE);
        name.map(Some).ok_or_else(|| unexpected_type(full))
    }

    fn member<T>(
        &self,
        member: &'static str,
        expected: &'static str,
        read: impl Fn(&'j Json<'t>) -> Option<T>,
    ) -> Result<T, MessageError> {
        let value = self.0.member(member).and_then(read);
        value.ok_or(MessageError::Member { member, expected })
    }
}

pub(super) fn read_document(octets: &[u8]) -> Result<Json<'_>, MessageError> {
    Ok(Json::read(octets, &MESSAGE)?)
}

pub(super) fn unexpected_type(found: &str) -> MessageError {
    let found = quoted(found);
    MessageError::UnexpectedType { found }
}

pub(super) fn result_content(json: &Json<'_>) -> Result<ResultContent, MessageError> {
    let tuple = Object::of(json)?;
    Ok(ResultContent {
        result_type: AttestationResultType::from(tuple.unsigned_int("m_Item1")?),
        octets: tuple.octets("m_Item2")?,
    })
}

pub(super) fn number_in(
    member: &'static str,
) -> impl Fn(&Json<'_>) -> Result<u32, MessageError> + Copy {
    move |json| {
        let expected = "an array of integers from 0 to 4294967295";
        json.unsigned_int()
            .ok_or(MessageError::Member { member, expected })
    }
}
