//! What certificates of a KPS are for, and whose succession they belong to.

use std::fmt;
use std::str::FromStr;

use hgs_crypto::text::is_invisible;

/// Free text that people give to certificates, signers and tenants, shown in listings.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(String);

/// Why a text is not a name of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a label.
    #[error(
        "a label has 1 to 128 printable characters, without white space at either end and without characters that \
         can't be seen"
    )]
    Label,
    /// Not a lineage.
    #[error("a lineage is `fabric`, or `tenant:` and a label")]
    Lineage,
    /// Not a kind of certificate.
    #[error("a certificate is for `signing`, `encryption` or `communications`")]
    CertificateKind,
}

impl Label {
    /// A label that a person gives now. Unlike one that is stored since before, it has no characters that people do not
    /// see: two labels that look the same are the same.
    ///
    /// # Errors
    /// [`NameError::Label`].
    pub fn given(text: &str) -> Result<Self, NameError> {
        match text.chars().any(is_invisible) {
            true => Err(NameError::Label),
            false => text.parse(),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let sound = (1..=128).contains(&text.chars().count())
            && text.trim() == text
            && !text.chars().any(char::is_control);
        sound.then(|| Self(text.to_owned())).ok_or(NameError::Label)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Label({self})")
    }
}

/// A line of succession: pairs of one lineage hand protectors on to its head, never to another lineage. Written `fabric`
/// or `tenant:LABEL`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lineage {
    /// The fabric's own. Its head is the primary pair.
    Fabric,
    /// A tenant's, who brought the keys; its pairs are never primary.
    Tenant(Label),
}

impl FromStr for Lineage {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "fabric" {
            return Ok(Self::Fabric);
        }
        let label = text
            .strip_prefix("tenant:")
            .ok_or(NameError::Lineage)?
            .parse()
            .map_err(|_| NameError::Lineage)?;
        Ok(Self::Tenant(label))
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fabric => formatter.write_str("fabric"),
            Self::Tenant(label) => write!(formatter, "tenant:{label}"),
        }
    }
}

impl fmt::Debug for Lineage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Lineage({self})")
    }
}

/// What a certificate of a KPS is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CertificateKind {
    /// Its key signs protectors, and the encryption certificate in the metadata.
    Signing,
    /// Transport keys are encrypted to it.
    Encryption,
    /// Its key signs the metadata document.
    Communications,
}

impl CertificateKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Signing, Self::Encryption, Self::Communications];

    /// In one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Signing => "signing",
            Self::Encryption => "encryption",
            Self::Communications => "communications",
        }
    }
}

impl fmt::Display for CertificateKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for CertificateKind {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut kinds = Self::ALL.into_iter();
        let kind = kinds.find(|kind| kind.name() == text);
        kind.ok_or(NameError::CertificateKind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lineages_are_the_fabric_or_a_labelled_tenant() {
        for text in ["fabric", "tenant:Contoso GmbH", "tenant:fabric"] {
            assert_eq!(text.parse::<Lineage>().unwrap().to_string(), text);
        }
        assert_ne!("tenant:fabric".parse(), Ok(Lineage::Fabric));
        for text in ["", "Fabric", "tenant:", "tenant: x", "tenant:a\nb", "x"] {
            assert_eq!(text.parse::<Lineage>(), Err(NameError::Lineage), "{text:?}");
        }
    }

    /// What stands in a state of before stays readable.
    #[test]
    fn labels_that_look_the_same_are_the_same() {
        assert_eq!(
            Label::given("Contoso GmbH").unwrap().as_str(),
            "Contoso GmbH"
        );
        for unseen in [
            "Cont\u{200b}oso",
            "\u{feff}Contoso",
            "Contoso\u{202e}",
            "Con\u{ad}toso",
        ] {
            assert_eq!(Label::given(unseen), Err(NameError::Label), "{unseen:?}");
            assert_eq!(unseen.parse::<Label>().unwrap().as_str(), unseen);
        }
    }

    #[test]
    fn kinds_are_named_in_one_way() {
        for kind in CertificateKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!(
            "Signing".parse::<CertificateKind>(),
            Err(NameError::CertificateKind)
        );
    }
}
