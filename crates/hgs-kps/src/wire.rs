//! The documents of [MS-KPS] that travel between host and service.

mod error;
mod request;
mod response;

use hgs_crypto::base64;
use hgs_pki::MAX_CERTIFICATE_OCTETS;
use hgs_protector::MAX_PROTECTOR_OCTETS;
use hgs_xml::{Document, Limits, Writer};

pub use error::Error;
pub use request::{Algorithms, RequestError, RollTransportKeyRequest};
pub use response::{ResponseError, RollTransportKeyResponse};

/// The type of every body.
pub const CONTENT_TYPE: &str = "application/xml; charset=utf-8";

/// The namespace of request, response and error.
pub const NAMESPACE: &str = "http://schemas.microsoft.com/kps/2014/07/service";

/// Octets of a request or a response.
pub const MAX_OCTETS: usize = 512 * 1024;

/// The largest protector, the largest certificate and all else fit into a request and a response: what is not Base64 of
/// those takes less than 16 KiB.
const _: () = assert!(
    MAX_PROTECTOR_OCTETS.div_ceil(3) * 4 + MAX_CERTIFICATE_OCTETS.div_ceil(3) * 4 + 16 * 1024
        <= MAX_OCTETS
);

pub(crate) const LIMITS: Limits = Limits {
    bytes: MAX_OCTETS,
    ..Limits::DOCUMENT
};

/// The children of the root element `name`, each an element of ours with nothing but text, in this order.
fn texts<'d, const N: usize>(
    document: &'d Document<'_>,
    name: &str,
    elements: [&str; N],
) -> Result<[&'d str; N], hgs_xml::Error> {
    let root = document.root();
    root.expect(NAMESPACE, name)?;
    root.expect_attributes(&[])?;
    let mut parts = root.sequence()?;
    let mut texts = [""; N];
    for (text, element) in texts.iter_mut().zip(elements) {
        let element = parts.required(NAMESPACE, element)?;
        element.expect_attributes(&[])?;
        *text = element.text()?;
    }
    parts.end()?;
    Ok(texts)
}

/// Reads an `xs:base64Binary` of one octet or more.
fn octets(text: &str) -> Option<Vec<u8>> {
    let octets = base64::decode_xml(text).ok()?;
    (!octets.is_empty()).then_some(octets)
}

/// Writes a document whose root holds these elements and nothing else.
fn write(name: &str, elements: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(
        elements
            .iter()
            .map(|(_, text)| text.len() + 128)
            .sum::<usize>()
            + 256,
    );
    writer.start(name, &[("xmlns", NAMESPACE)]);
    for (element, text) in elements {
        writer.element(element, &[], text);
    }
    writer.end();
    writer.finish()
}
