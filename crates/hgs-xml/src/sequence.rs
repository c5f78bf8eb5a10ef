use crate::declaration::is_white_space;
use crate::error::{Error, expanded_name};
use crate::nodes::Content;
use crate::tree::{Children, Element};

/// A reader for the children of an element in a fixed order, as `xs:sequence` has them.
///
/// Made by [`Element::sequence`]; [`Self::end`] must be its last call, or what follows goes unread.
#[must_use = "what follows the elements that were read must be refused with `end`"]
pub struct Sequence<'d, 't> {
    parent: Element<'d, 't>,
    next: Option<Element<'d, 't>>,
    rest: Children<'d, 't>,
}

impl<'d, 't> Element<'d, 't> {
    /// A reader for the elements directly within this one, one after the other.
    ///
    /// # Errors
    ///
    /// [`Error::UnexpectedText`] if there is anything but white space between them.
    pub fn sequence(&self) -> Result<Sequence<'d, 't>, Error> {
        let is_blank = |text: &str| text.chars().all(is_white_space);
        if self
            .siblings()
            .any(|node| matches!(self.content(node), Content::Text(text) if !is_blank(text)))
        {
            return Err(Error::UnexpectedText {
                element: self.expanded_name(),
            });
        }
        let mut rest = self.children();
        Ok(Sequence {
            parent: *self,
            next: rest.next(),
            rest,
        })
    }
}

impl<'d, 't> Sequence<'d, 't> {
    /// The next child, which must be the element `name` of `namespace`.
    ///
    /// # Errors
    ///
    /// [`Error::UnexpectedElement`] if another is next, [`Error::MissingElement`] if none is.
    pub fn required(&mut self, namespace: &str, name: &str) -> Result<Element<'d, 't>, Error> {
        if let Some(element) = self.optional(namespace, name) {
            return Ok(element);
        }
        let expected = expanded_name(Some(namespace), name);
        Err(match self.next {
            Some(found) => found.unexpected(expected),
            None => Error::MissingElement {
                parent: self.parent.expanded_name(),
                expected,
            },
        })
    }

    /// The next child if it is the element `name` of `namespace`; otherwise it stays the next.
    pub fn optional(&mut self, namespace: &str, name: &str) -> Option<Element<'d, 't>> {
        let element = self.next.filter(|element| element.is(namespace, name))?;
        self.next = self.rest.next();
        Some(element)
    }

    /// The end of the element: no child may be left.
    ///
    /// # Errors
    ///
    /// [`Error::UnexpectedElement`] if one is.
    pub fn end(self) -> Result<(), Error> {
        match self.next {
            None => Ok(()),
            Some(found) => {
                let end = format!("the end of {}", self.parent.expanded_name());
                Err(found.unexpected(end))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Document, Limits};

    const NAMESPACE: &str = "urn:a";

    #[test]
    fn reads_in_order_and_to_the_end() {
        let octets = b"<e xmlns='urn:a'> <a/><b/> <b/><c/></e>";
        let document = Document::parse(octets, &Limits::DOCUMENT).unwrap();
        let mut sequence = document.root().sequence().unwrap();
        assert!(sequence.optional(NAMESPACE, "b").is_none());
        assert!(sequence.required(NAMESPACE, "a").is_ok());
        let mut count = 0;
        while sequence.optional(NAMESPACE, "b").is_some() {
            count += 1;
        }
        assert_eq!(count, 2);
        assert!(sequence.required(NAMESPACE, "c").is_ok());
        assert_eq!(
            sequence.required(NAMESPACE, "d"),
            Err(Error::MissingElement {
                parent: "{urn:a}e".into(),
                expected: "{urn:a}d".into()
            })
        );
        assert_eq!(sequence.end(), Ok(()));
    }

    #[test]
    fn refuses_what_is_out_of_order_or_left_over() {
        let octets = b"<e xmlns='urn:a'><a/><a xmlns='urn:b'/></e>";
        let document = Document::parse(octets, &Limits::DOCUMENT).unwrap();
        let mut sequence = document.root().sequence().unwrap();
        assert_eq!(
            sequence.required(NAMESPACE, "b"),
            Err(Error::UnexpectedElement {
                expected: "{urn:a}b".into(),
                found: "{urn:a}a".into()
            })
        );
        assert!(
            sequence.required(NAMESPACE, "a").is_ok(),
            "a refusal takes nothing"
        );
        assert!(
            sequence.required(NAMESPACE, "a").is_err(),
            "a namespace counts"
        );
        assert_eq!(
            sequence.end(),
            Err(Error::UnexpectedElement {
                expected: "the end of {urn:a}e".into(),
                found: "{urn:b}a".into()
            })
        );
    }
}
