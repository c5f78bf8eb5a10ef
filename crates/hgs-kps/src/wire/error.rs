use hgs_xml::Document;

use super::{LIMITS, texts, write};

const NAME: &str = "Error";

/// What a service answers instead of a response or metadata ([MS-KPS] 2.2.2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The code, for programs.
    pub code: String,
    /// What happened, for people.
    pub message: String,
}

impl Error {
    /// Reads an error of at most [`MAX_OCTETS`](super::MAX_OCTETS).
    ///
    /// # Errors
    /// When it is not one.
    pub fn from_xml(body: &[u8]) -> Result<Self, hgs_xml::Error> {
        let document = Document::parse(body, &LIMITS)?;
        let [code, message] = texts(&document, NAME, ["Code", "Message"])?;
        Ok(Self {
            code: code.to_owned(),
            message: message.to_owned(),
        })
    }

    /// Writes the error. What XML can't carry in a text becomes U+FFFD.
    #[must_use]
    pub fn to_xml(&self) -> Vec<u8> {
        write(NAME, &[("Code", &self.code), ("Message", &self.message)])
    }
}
