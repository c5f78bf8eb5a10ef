//! Members of documents of the provider.

use hgs_json::{Json, JsonError};

/// Characters kept of what a provider says for people.
const MAX_MESSAGE: usize = 300;

/// What is wrong with a document. Who sent it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON, or over a limit.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A member is absent, or its value is not what it should be.
    #[error("the member `{member}` is absent, or is not {expected}")]
    Member {
        /// Its name.
        member: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}

pub(crate) fn text<'j>(json: &'j Json<'_>, member: &'static str) -> Result<&'j str, DocumentError> {
    let text = json.member(member).and_then(Json::text);
    text.ok_or(DocumentError::Member {
        member,
        expected: "text",
    })
}

/// An array of texts, or nothing where there is no such member.
pub(crate) fn texts<'j>(
    json: &'j Json<'_>,
    member: &'static str,
) -> Result<Option<Vec<&'j str>>, DocumentError> {
    let Some(value) = json.member(member) else {
        return Ok(None);
    };
    let texts = value
        .array()
        .and_then(|values| values.iter().map(Json::text).collect());
    let expected = "an array of texts";
    texts
        .map(Some)
        .ok_or(DocumentError::Member { member, expected })
}

/// Text of strangers, made fit for a log, a terminal and a page.
pub(crate) fn plain(text: &str) -> String {
    let shown = text.chars().filter(|character| !character.is_control());
    shown.take(MAX_MESSAGE).collect()
}
