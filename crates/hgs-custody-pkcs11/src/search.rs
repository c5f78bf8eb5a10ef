//! The two parts of a URI: which token, and which key in it.

use std::fmt;

use cryptoki::context::Pkcs11;
use cryptoki::error::Error;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::slot::{Slot, TokenInfo};
use hgs_custody::Pkcs11Uri;

use crate::TokenError;

/// The part of a URI that names a token. What it leaves open, any token has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selector(Pkcs11Uri);

impl Selector {
    pub(crate) fn of(uri: &Pkcs11Uri) -> Self {
        Self(Pkcs11Uri {
            object: None,
            id: None,
            module_path: None,
            pin_source: None,
            ..uri.clone()
        })
    }

    /// The one such token among those that are present.
    pub(crate) fn find(&self, present: Vec<PresentToken>) -> Result<PresentToken, TokenError> {
        let labels = present
            .iter()
            .map(|found| plain(found.info.label()).to_owned())
            .collect();
        let wanted = self.to_string();
        let mut matching: Vec<PresentToken> = present
            .into_iter()
            .filter(|found| self.matches(found.slot, &found.info))
            .collect();
        let count = matching.len();
        match matching.pop() {
            Some(found) if count == 1 => Ok(found),
            Some(_) => Err(TokenError::TokenAmbiguous { wanted, count }),
            None => Err(TokenError::TokenAbsent {
                wanted,
                present: labels,
            }),
        }
    }

    fn matches(&self, slot: Slot, info: &TokenInfo) -> bool {
        let same = |wanted: &Option<String>, found: &str| {
            wanted
                .as_ref()
                .is_none_or(|wanted| plain(wanted) == plain(found))
        };
        same(&self.0.token, info.label())
            && same(&self.0.manufacturer, info.manufacturer_id())
            && same(&self.0.model, info.model())
            && same(&self.0.serial, info.serial_number())
            && self.0.slot_id.is_none_or(|wanted| wanted == slot.id())
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        named(&self.0, "any token", formatter)
    }
}

/// A text without the padding of PKCS#11, which is spaces; some modules pad with zeros instead.
pub(crate) fn plain(text: &str) -> &str {
    text.trim_end_matches([' ', '\0'])
}

/// A token that is there.
pub(crate) struct PresentToken {
    pub(crate) slot: Slot,
    pub(crate) info: TokenInfo,
}

/// The tokens that are there and initialised. A slot whose token vanishes meanwhile has none.
pub(crate) fn tokens(context: &Pkcs11) -> Result<Vec<PresentToken>, Error> {
    let slots = context.get_slots_with_token()?;
    let found = slots.into_iter().filter_map(|slot| {
        let info = context.get_token_info(slot).ok()?;
        info.token_initialized()
            .then_some(PresentToken { slot, info })
    });
    Ok(found.collect())
}

/// The part of a URI that names a key in its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyName(Pkcs11Uri);

impl KeyName {
    pub(crate) fn of(uri: &Pkcs11Uri) -> Self {
        Self(Pkcs11Uri {
            object: uri.object.clone(),
            id: uri.id.clone(),
            ..Pkcs11Uri::default()
        })
    }

    /// The identifier alone, if one is named.
    pub(crate) fn identifier(&self) -> Option<Self> {
        let id = self.0.id.clone()?;
        Some(Self(Pkcs11Uri {
            id: Some(id),
            ..Pkcs11Uri::default()
        }))
    }

    /// `CKA_LABEL` and `CKA_ID`, as far as they are named.
    pub(crate) fn attributes(&self) -> Vec<Attribute> {
        let label = self.0.object.as_ref();
        let label = label.map(|label| Attribute::Label(label.clone().into_bytes()));
        let id = self.0.id.clone().map(Attribute::Id);
        label.into_iter().chain(id).collect()
    }

    /// The name that a key with these attributes has.
    pub(crate) fn of_attributes(attributes: &[Attribute]) -> Self {
        let mut uri = Pkcs11Uri::default();
        for attribute in attributes {
            match attribute {
                Attribute::Label(label) if !label.is_empty() => {
                    uri.object = Some(String::from_utf8_lossy(label).into_owned());
                }
                Attribute::Id(id) if !id.is_empty() => uri.id = Some(id.clone()),
                _ => {}
            }
        }
        Self(uri)
    }

    /// What the key and nothing else has.
    pub(crate) fn template(&self, class: ObjectClass) -> Vec<Attribute> {
        let fixed = [Attribute::Class(class), Attribute::KeyType(KeyType::RSA)];
        fixed.into_iter().chain(self.attributes()).collect()
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        named(&self.0, "of any name", formatter)
    }
}

fn named(uri: &Pkcs11Uri, anything: &str, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    let text = uri.to_string();
    match text.strip_prefix("pkcs11:").unwrap_or_default() {
        "" => formatter.write_str(anything),
        attributes => formatter.write_str(attributes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_no_part_of_a_label() {
        for padded in ["hgs", "hgs   ", "hgs\0\0\0", "hgs \0 "] {
            assert_eq!(plain(padded), "hgs", "{padded:?}");
        }
        assert_eq!(plain(" hgs one"), " hgs one");
    }

    #[test]
    fn each_part_is_shown_by_what_it_says() {
        let uri: Pkcs11Uri = "pkcs11:token=hgs;serial=1;object=key;id=%01?pin-source=/pin"
            .parse()
            .unwrap();
        assert_eq!(Selector::of(&uri).to_string(), "token=hgs;serial=1");
        assert_eq!(KeyName::of(&uri).to_string(), "object=key;id=%01");
        assert_eq!(Selector::of(&Pkcs11Uri::default()).to_string(), "any token");
        let attributes = KeyName::of(&uri).attributes();
        assert_eq!(attributes.len(), 2);
    }
}
