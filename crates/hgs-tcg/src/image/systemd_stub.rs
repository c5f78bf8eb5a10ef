//! What systemd-stub, the loader in a unified kernel image, measures of the image in PCR 11.

use super::{ImageError, PeImage, PredictedEvent};

/// Every section that some version of the stub measures, in its own order, which is not that of the image. `.pcrsig`
/// is never measured: it signs the result.
const MEASURED: [&str; 10] = [
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat",
    ".pcrpkey",
];

/// Sections among which the stub chooses by the machine or by the boot menu's entry.
const CHOSEN_AT_BOOT: [&str; 4] = [".profile", ".dtbauto", ".hwids", ".efifw"];

/// The most octets of the stub's own sections, which are some hundred thousand.
const MAX_STUB: usize = 1 << 24;

/// A unified kernel image: what its stub measures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemdStub<'a> {
    measured: Vec<(&'static str, &'a [u8])>,
}

impl<'a> SystemdStub<'a> {
    /// Finds the sections that the image's stub measures: versions of the stub differ in which names they know, and the
    /// names stand in the stub itself.
    ///
    /// # Errors
    /// When the image has no kernel in it, a section is there twice, or what is measured depends on the machine.
    pub fn of_image(image: &PeImage<'a>) -> Result<Self, ImageError> {
        for name in CHOSEN_AT_BOOT {
            if image.section(name)?.is_some() {
                return Err(ImageError::Unpredictable(name));
            }
        }
        let own: Vec<_> = image
            .sections()
            .iter()
            .filter(|section| !MEASURED.contains(&section.name()) && section.name() != ".pcrsig")
            .map(|section| section.raw())
            .collect();
        if own.iter().map(|section| section.len()).sum::<usize>() > MAX_STUB {
            return Err(ImageError::MalformedSection(
                ".linux",
                "the sections beside it are too long for a stub",
            ));
        }
        let mut measured = Vec::new();
        for name in MEASURED {
            let Some(section) = image.section(name)? else {
                continue;
            };
            let contents = section.contents()?;
            // To the stub, a section without octets is not there.
            if !contents.is_empty() && own.iter().any(|section| has_string(section, name)) {
                measured.push((name, contents));
            }
        }
        match measured.first() {
            Some((".linux", _)) => Ok(Self { measured }),
            _ => Err(ImageError::NoSection(".linux")),
        }
    }

    /// The names of the sections that are measured, in that order.
    pub fn section_names(&self) -> impl Iterator<Item = &'static str> {
        self.measured.iter().map(|(name, _)| *name)
    }

    /// The events in PCR 11 before systemd's own: for each section its name with a NUL, then its contents.
    #[must_use]
    pub fn events(&self) -> Vec<PredictedEvent> {
        self.measured
            .iter()
            .flat_map(|(name, contents)| {
                [
                    PredictedEvent::of(11, &format!("the name {name}"), &with_nul(name)),
                    PredictedEvent::of(11, name, contents),
                ]
            })
            .collect()
    }
}

fn with_nul(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

/// Whether `name` stands in `octets` as a C string, or as the end of one.
fn has_string(octets: &[u8], name: &str) -> bool {
    let string = with_nul(name);
    octets.windows(string.len()).any(|window| window == string)
}
