//! What is refused before the tree is built: documents that would cost the parser too much, constructs outside our
//! profile, and the few ill-formed documents that the parser lets pass.

use crate::declaration::is_white_space;
use crate::error::{Error, Position, printable};
use crate::limits::Limits;
use crate::markup::leading_name;
use crate::namespace_name::is_absolute;

/// Which documents are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Neither comments nor processing instructions: everything that production reads.
    Strict,
    /// Both are allowed, for judging the canonicaliser by documents of others.
    Permissive,
}

/// Scans `text` from octet `start`, where its XML declaration has ended.
///
/// Only refuses: the parser reads the same text afterwards and has the last word on what is well-formed.
pub(crate) fn scan(
    text: &str,
    start: usize,
    limits: &Limits,
    profile: Profile,
) -> Result<(), Error> {
    refuse_lone_carriage_returns(text)?;
    let mut scanner = Scanner {
        text,
        at: start,
        limits,
        profile,
        open: Vec::with_capacity(16),
        declarations: 0,
        root_seen: false,
    };
    while scanner.at < text.len() {
        scanner.character_data()?;
        scanner.markup()?;
    }
    match (scanner.root_seen, scanner.open.is_empty()) {
        (false, _) => Err(Error::NoRootElement),
        (true, false) => Err(Error::Truncated),
        (true, true) => Ok(()),
    }
}

/// Beside a reference the parser keeps a carriage return that XML makes a line feed, and so would canonicalise a
/// document otherwise than the rest of the world. Nothing writes line ends without a line feed any more.
fn refuse_lone_carriage_returns(text: &str) -> Result<(), Error> {
    for (offset, _) in text.match_indices('\r') {
        if text.as_bytes().get(offset + 1) != Some(&b'\n') {
            return Err(Error::LoneCarriageReturn {
                at: Position::of(text, offset),
            });
        }
    }
    Ok(())
}

struct Scanner<'a> {
    text: &'a str,
    /// Octets scanned.
    at: usize,
    limits: &'a Limits,
    profile: Profile,
    /// For each open element, its namespace declarations.
    open: Vec<usize>,
    /// The sum of `open`.
    declarations: usize,
    root_seen: bool,
}

impl<'a> Scanner<'a> {
    /// Text up to the next `<`.
    fn character_data(&mut self) -> Result<(), Error> {
        let start = self.at;
        let rest = self.rest();
        let data = self.take(rest.find('<').unwrap_or(rest.len()));
        if !self.open.is_empty() {
            return self.references(start, data);
        }
        let Some(outside) = data.find(|c| !is_white_space(c)) else {
            return Ok(());
        };
        let at = self.position(start + outside);
        Err(if self.root_seen {
            Error::TrailingContent { at }
        } else {
            Error::Malformed {
                fault: "text before the root element",
                at,
            }
        })
    }

    /// One tag, comment, CDATA section or processing instruction.
    fn markup(&mut self) -> Result<(), Error> {
        let rest = self.rest();
        let start = self.at;
        if rest.is_empty() {
            Ok(())
        } else if rest.starts_with("</") {
            self.end_tag()
        } else if rest.starts_with("<!--") {
            self.refuse_unless_permissive(|at| Error::Comment { at })?;
            self.skip("<!--", "-->")
        } else if rest.starts_with("<![CDATA[") {
            self.skip("<![CDATA[", "]]>")
        } else if rest.starts_with("<!DOCTYPE") {
            Err(Error::DocumentTypeDeclaration {
                at: self.position(start),
            })
        } else if rest.starts_with("<?") {
            self.refuse_unless_permissive(|at| Error::ProcessingInstruction { at })?;
            self.skip("<?", "?>")
        } else {
            self.start_tag()
        }
    }

    fn refuse_unless_permissive(&self, error: impl Fn(Position) -> Error) -> Result<(), Error> {
        match self.profile {
            Profile::Permissive => Ok(()),
            Profile::Strict => Err(error(self.position(self.at))),
        }
    }

    fn end_tag(&mut self) -> Result<(), Error> {
        let start = self.at;
        self.take("</".len());
        self.name()?;
        self.take_through('>')?;
        let Some(declarations) = self.open.pop() else {
            return Err(self.malformed("an end tag without a start tag", start));
        };
        self.declarations -= declarations;
        Ok(())
    }

    fn start_tag(&mut self) -> Result<(), Error> {
        let start = self.at;
        if self.root_seen && self.open.is_empty() {
            return Err(Error::TrailingContent {
                at: self.position(start),
            });
        }
        self.root_seen = true;
        if self.open.len() >= self.limits.depth {
            return Err(Error::TooDeep {
                limit: self.limits.depth,
                at: self.position(start),
            });
        }

        self.take("<".len());
        self.name()?;
        let declarations = self.attributes()?;
        if self.rest().starts_with("/>") {
            self.take("/>".len());
        } else {
            self.take(">".len());
            self.open.push(declarations);
            self.declarations += declarations;
        }
        Ok(())
    }

    /// The attributes of a start tag, up to its `>` or `/>`; returns how many of them are namespace declarations.
    fn attributes(&mut self) -> Result<usize, Error> {
        let mut attributes = 0;
        let mut declarations = 0;
        let mut default_declared = false;
        loop {
            self.white_space();
            let start = self.at;
            match self.rest().as_bytes() {
                [] => return Err(Error::Truncated),
                [b'>', ..] | [b'/', b'>', ..] => return Ok(declarations),
                _ => {}
            }
            attributes += 1;
            if attributes > self.limits.attributes {
                return Err(Error::TooManyAttributes {
                    limit: self.limits.attributes,
                    at: self.position(start),
                });
            }
            let (name, value) = self.attribute()?;
            let is_default = name == "xmlns";
            if is_default && default_declared {
                return Err(Error::DuplicateAttribute {
                    name: name.into(),
                    at: self.position(start),
                });
            }
            default_declared |= is_default;
            if is_default || self.declares_prefix(name, value, start)? {
                self.namespace_name(value, start)?;
                declarations += 1;
            }
            if self.declarations + declarations > self.limits.namespaces {
                return Err(Error::TooManyNamespaces {
                    limit: self.limits.namespaces,
                    at: self.position(start),
                });
            }
        }
    }

    /// Whether an attribute is a namespace declaration for a prefix.
    fn declares_prefix(&self, name: &str, value: &str, start: usize) -> Result<bool, Error> {
        match name.split_once(':') {
            // The parser takes `any:xmlns` for a declaration of the default namespace, and lets `xmlns` be declared.
            Some((_, "xmlns")) => {
                Err(self.malformed("an attribute with the local name `xmlns`", start))
            }
            Some(("xmlns", prefix)) if value.is_empty() => Err(Error::EmptyNamespace {
                prefix: printable(prefix),
                at: self.position(start),
            }),
            Some(("xmlns", _)) => Ok(true),
            _ => Ok(false),
        }
    }

    /// Refuses a relative namespace name; the empty one means no namespace.
    fn namespace_name(&self, value: &str, start: usize) -> Result<(), Error> {
        if value.is_empty() || is_absolute(value) {
            return Ok(());
        }
        Err(Error::RelativeNamespace {
            name: printable(value),
            at: self.position(start),
        })
    }

    /// `name="value"`.
    fn attribute(&mut self) -> Result<(&'a str, &'a str), Error> {
        let name = self.name()?;
        self.white_space();
        self.expect('=', "an attribute without a value")?;
        self.white_space();
        let quote = if self.rest().starts_with('\'') {
            '\''
        } else {
            '"'
        };
        self.expect(quote, "an attribute value without quotes")?;
        let start = self.at;
        let value = self.take_through(quote)?;
        self.references(start, value)?;
        Ok((name, value))
    }

    /// A qualified name, as far as the scan cares: up to what can follow one.
    fn name(&mut self) -> Result<&'a str, Error> {
        let start = self.at;
        let name = self.take(leading_name(self.rest()).len());
        // The parser takes `:name` for `name`.
        if name.starts_with(':') {
            return Err(self.malformed("a name with an empty prefix", start));
        }
        Ok(name)
    }

    /// Checks the character references in `data`: the parser takes those beyond Unicode for U+FFFD.
    fn references(&self, start: usize, data: &str) -> Result<(), Error> {
        for (ampersand, _) in data.match_indices('&') {
            let reference = data.get(ampersand + "&".len()..).unwrap_or_default();
            let Some(number) = reference.strip_prefix('#') else {
                continue;
            };
            let (digits, radix) = match number.strip_prefix('x') {
                Some(digits) => (digits, 16),
                None => (number, 10),
            };
            let digits = digits.split(';').next().unwrap_or_default();
            let code_point = u32::from_str_radix(digits, radix).ok();
            if code_point.and_then(char::from_u32).is_none() {
                return Err(self.malformed("an invalid character reference", start + ampersand));
            }
        }
        Ok(())
    }

    fn white_space(&mut self) {
        let rest = self.rest();
        self.take(rest.len() - rest.trim_start_matches(is_white_space).len());
    }

    fn expect(&mut self, expected: char, fault: &'static str) -> Result<(), Error> {
        if self.rest().is_empty() {
            return Err(Error::Truncated);
        }
        if !self.rest().starts_with(expected) {
            return Err(self.malformed(fault, self.at));
        }
        self.take(expected.len_utf8());
        Ok(())
    }

    /// Takes up to and including `end`, and returns what stands before it.
    fn take_through(&mut self, end: char) -> Result<&'a str, Error> {
        let (taken, _) = self.rest().split_once(end).ok_or(Error::Truncated)?;
        self.take(taken.len() + end.len_utf8());
        Ok(taken)
    }

    /// Passes over what `begin`, which stands here, begins and `end` ends.
    fn skip(&mut self, begin: &str, end: &str) -> Result<(), Error> {
        self.take(begin.len());
        let (skipped, _) = self.rest().split_once(end).ok_or(Error::Truncated)?;
        self.take(skipped.len() + end.len());
        Ok(())
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, _) = self.rest().split_at_checked(length).unwrap_or_default();
        self.at += taken.len();
        taken
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn malformed(&self, fault: &'static str, offset: usize) -> Error {
        Error::Malformed {
            fault,
            at: self.position(offset),
        }
    }

    fn position(&self, offset: usize) -> Position {
        Position::of(self.text, offset)
    }
}
