//! The forms of the texts in requests and answers, as JSON schemas. A form has what the parser of the text takes, or what the
//! server writes; a test of the server holds the two against each other.
//!
//! A field has one of these types by `#[schemars(with = "...")]`, and a segment of a path by its schema.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// Characters that no name for people has: those that control, and those that can't be seen. (Of the latter, those above
/// U+FFFF are left out: not every reader of patterns can have them in a class.)
const UNSEEN: &str = r"\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb";
/// White space.
const BLANK: &str = r" \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000";
const SHORT_NAME: &str = "[0-9A-Za-z][0-9A-Za-z._-]{0,63}";
const DIGEST: &str = "[0-9A-Fa-f]{64}";
const BASE64: &str =
    "([0-9A-Za-z+/]{4})*([0-9A-Za-z+/][AQgw]==|[0-9A-Za-z+/]{2}[AEIMQUYcgkosw048]=)?";

macro_rules! forms {
    ($($(#[doc = $line:literal])+ $name:ident = $schema:expr;)+) => {$(
        $(#[doc = $line])+
        pub(crate) enum $name {}

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )+};
}

forms! {
    /// A time of RFC 3339.
    Time = json_schema!({"type": "string", "format": "date-time"});
    /// A time, or `now`.
    TimeOrNow = json_schema!({"anyOf": [
        {"type": "string", "format": "date-time"},
        {"type": "string", "enum": ["now"]},
    ]});
    /// A time, or an empty text for none.
    TimeOrNone = json_schema!({"anyOf": [
        {"type": "string", "format": "date-time"},
        {"type": "string", "enum": [""]},
    ]});
    /// SHA-256 in hexadecimal: a thumbprint of a certificate, or a digest of anything else.
    Digest = pattern(DIGEST);
    /// The SHA-256 thumbprint of a signer's certificate, or `all`.
    DigestOrAll = pattern(&format!("(all|{DIGEST})"));
    /// The SHA-256 digest of a document, or `none`.
    DigestOrNone = pattern(&format!("(none|{DIGEST})"));
    /// SHA-1 in hexadecimal.
    Sha1Digest = pattern("[0-9A-Fa-f]{40}");
    /// An X25519 public key in hexadecimal.
    PublicKey = pattern("[0-9A-Fa-f]{64}");
    /// The serial number of a certificate: 1 to 20 octets in hexadecimal.
    SerialNumber = pattern("([0-9A-Fa-f]{2}){1,20}");
    /// The id of a host: 128 bits in hexadecimal.
    HostId = pattern("[0-9A-Fa-f]{32}");
    /// The name of a host.
    HostName = pattern("[0-9A-Za-z][0-9A-Za-z._-]{0,252}");
    /// The name of a group or of a document.
    ShortName = pattern(SHORT_NAME);
    /// The name of a node.
    NodeName = pattern("[0-9a-z][0-9a-z.-]{0,62}");
    /// A label for people.
    Label = pattern(&label());
    /// A label for people, or an empty text for none.
    LabelOrNone = pattern(&format!("({})?", label()));
    /// The lineage of a certificate.
    Lineage = pattern(&format!("(fabric|tenant:{})", label()));
    /// The id of a request.
    RequestId = pattern("[0-9a-f]{8}-[1-9][0-9]{0,18}");
    /// The common name of a certificate.
    CommonName = pattern(&format!("[^{UNSEEN}]{{1,64}}"));
    /// Where a private key lives.
    KeyReference = pattern("(sealed|pkcs11:[!-~]*( pkcs11:[!-~]*)?)");
    /// What hosts may do with released keys while the guardian is away: 1 to 1000000 times, for 1 to 8760 hours.
    KeyCaching = pattern(
        "(off|([1-9][0-9]{0,5}|1000000),([1-9][0-9]{0,2}|[1-7][0-9]{3}|8[0-6][0-9]{2}|87[0-5][0-9]|8760))"
    );
    /// How hosts attest, of the ways that can be chosen.
    AttestationMode = json_schema!({"type": "string", "enum": ["tpm", "host-key"]});
    /// Bits of an RSA key that is made.
    KeyBits = json_schema!({"type": "integer", "enum": [2048, 3072, 4096]});
    /// The number of a PCR, as the name of a member.
    PcrNumber = pattern("(1?[0-9]|2[0-3])");
    /// An integer that is not negative and has 64 bits.
    Number = json_schema!({"type": "integer", "format": "uint64", "minimum": 0, "maximum": u64::MAX});
    /// The same of 32 bits.
    ShortNumber = json_schema!({"type": "integer", "format": "uint32", "minimum": 0, "maximum": u32::MAX});
    /// For how many seconds a re-key window is open: 30 days at most.
    RekeyWindow = json_schema!({"type": "integer", "minimum": 0, "maximum": 30 * 86400});
    /// Why something was done, for people.
    Reason = json_schema!({"type": "string", "maxLength": 1024});
    /// Octets in Base64.
    Base64 = pattern(BASE64);
    /// Something that a file has: text, or octets in Base64.
    FileContent = json_schema!({"type": "string", "minLength": 1});
}

/// A text that is all of what `form`, a regular expression, says.
fn pattern(form: &str) -> Schema {
    json_schema!({"type": "string", "pattern": format!("^{form}$")})
}

fn label() -> String {
    format!("[^{UNSEEN}{BLANK}]([^{UNSEEN}]{{0,126}}[^{UNSEEN}{BLANK}])?")
}
