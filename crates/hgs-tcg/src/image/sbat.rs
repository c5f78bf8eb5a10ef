//! SBAT, the revocation by generations that shim enforces (SBAT.md of shim).

use super::{ImageError, PeImage};

/// The most octets and entries that are read.
const MAX_TEXT: usize = 1 << 16;
const MAX_ENTRIES: usize = 256;

/// The beginning of a line of a `.sbat` section or of a SbatLevel: which component, and its generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SbatEntry {
    /// The name of the component.
    pub component: String,
    /// In an image its generation; in a SbatLevel the least generation that may run.
    pub generation: u32,
}

impl SbatEntry {
    /// Reads the lines of a `.sbat` section or of a SbatLevel.
    ///
    /// # Errors
    /// When there are too many, or a line does not begin with a component and a positive generation.
    pub fn parse_all(section: &'static str, text: &str) -> Result<Vec<Self>, ImageError> {
        let refused = |reason| ImageError::MalformedSection(section, reason);
        let entries: Result<Vec<_>, _> = text
            .lines()
            .filter(|line| !line.is_empty())
            .take(MAX_ENTRIES + 1)
            .map(|line| {
                let mut fields = line.split(',');
                let component = fields.next().filter(|name| !name.is_empty());
                let generation = fields
                    .next()
                    .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))
                    .and_then(|digits| digits.parse().ok())
                    .filter(|generation| *generation > 0);
                match (component, generation) {
                    (Some(component), Some(generation)) => Ok(Self {
                        component: component.to_owned(),
                        generation,
                    }),
                    _ => Err(refused(
                        "a line does not begin with a component and its generation",
                    )),
                }
            })
            .collect();
        match entries {
            Ok(entries) if entries.len() > MAX_ENTRIES => Err(refused("it has too many lines")),
            entries => entries,
        }
    }

    /// The entries of the image's section `.sbat`. `None` if it has none: shim then starts it only if Secure Boot is
    /// off.
    ///
    /// # Errors
    /// When the section is there twice or malformed.
    pub fn of_image(image: &PeImage<'_>) -> Result<Option<Vec<Self>>, ImageError> {
        let Some(section) = image.section(".sbat")? else {
            return Ok(None);
        };
        Self::parse_all(".sbat", text(".sbat", section.contents()?)?).map(Some)
    }
}

/// The text up to a NUL or to the end.
pub(super) fn text<'a>(section: &'static str, octets: &'a [u8]) -> Result<&'a str, ImageError> {
    let refused = |reason| ImageError::MalformedSection(section, reason);
    let end = octets
        .iter()
        .position(|octet| *octet == 0)
        .unwrap_or(octets.len());
    if end > MAX_TEXT {
        return Err(refused("its text is too long"));
    }
    std::str::from_utf8(&octets[..end]).map_err(|_| refused("its text is not UTF-8"))
}
