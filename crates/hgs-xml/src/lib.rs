//! A bounded XML parser without DTD, exclusive canonicalisation and a canonical writer.
//!
//! Everything that a peer signs in [MS-KPS] is XML, so this crate is the gate that foreign octets pass first. It does
//! three things:
//!
//! * [`Document::parse`] reads octets into a tree, within [`Limits`], under a profile stricter than XML 1.0: UTF-8
//!   without byte order mark, no document type declaration, no comments, no processing instructions, nothing after
//!   the root element. [`Element::sequence`] reads what an `xs:sequence` holds, and refuses anything beside it.
//! * [`Element::canonical`] gives the octets of an element that a signature covers: [Exclusive XML Canonicalization
//!   1.0] without comments. [`Element::canonical_without`] applies the enveloped-signature transform first.
//! * [`Writer`] writes elements in exactly that canonical form.
//!
//! It does NOT verify signatures, resolve entities, validate against a schema, or touch files. A signature over an
//! element is checked elsewhere, over the canonical octets; and its checker then reads *those octets* with this
//! same parser, so that what is read is what was signed.
//!
//! ```
//! use hgs_xml::{Document, Limits, Writer};
//!
//! const NAMESPACE: &str = "http://schemas.microsoft.com/kps/2014/07";
//! let octets = br#"<k:Error xmlns:k="http://schemas.microsoft.com/kps/2014/07"><k:Code>5</k:Code></k:Error>"#;
//!
//! let document = Document::parse(octets, &Limits::DOCUMENT)?;
//! let mut error = document.root().sequence()?;
//! let code = error.required(NAMESPACE, "Code")?;
//! error.end()?;
//! assert_eq!(hgs_xml::parse_unsigned_int(code.text()?), Some(5));
//!
//! let mut writer = Writer::new();
//! writer.start("k:Error", &[("xmlns:k", NAMESPACE)]);
//! writer.element("k:Code", &[], "5");
//! writer.end();
//! assert_eq!(writer.finish(), document.root().canonical()?);
//! # Ok::<(), hgs_xml::Error>(())
//! ```
//!
//! [Exclusive XML Canonicalization 1.0]: https://www.w3.org/TR/xml-exc-c14n/

mod canonical;
mod characters;
mod declaration;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod limits;
mod markup;
mod namespace_name;
mod nodes;
mod parse;
mod sequence;
mod tree;
mod value;
mod writer;

pub use error::{Error, Position, printable};
pub use limits::Limits;
pub use sequence::Sequence;
pub use tree::{Attribute, Children, Document, Element};
pub use value::parse_unsigned_int;
pub use writer::Writer;
