use std::fmt;
use std::str::FromStr;

/// The name of a guardian on this machine, fit to be the name of a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GuardianName(String);

impl GuardianName {
    /// Octets of the longest name.
    const LONGEST: usize = 64;

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GuardianName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=Self::LONGEST).contains(&text.len());
        let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if fits && begins && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(
                "a guardian's name has 1 to 64 letters, digits, dots, hyphens and underscores, and begins with a letter or digit",
            )
        }
    }
}

impl fmt::Display for GuardianName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        for good in ["ann", "fabric.example", "A-1_b"] {
            assert_eq!(good.parse::<GuardianName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(65);
        for bad in [
            "", ".", "..", "../x", "a/b", "-x", ".new", "a b", "ä", "a\n", &long,
        ] {
            assert!(bad.parse::<GuardianName>().is_err(), "{bad:?}");
        }
    }
}
