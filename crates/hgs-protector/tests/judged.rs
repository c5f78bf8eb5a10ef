//! Other people's software on our documents, and ours on theirs.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{opened, protector, rolled, successor, verify};
use hgs_pki::{CertificateCache, SignatureCache};
use hgs_protector::metadata::{self, Metadata, MetadataError};
use hgs_protector::suite::KeyEncryption;
use hgs_protector::{GuardianCertificates, RollPlan, create};
use hgs_testkit::fixtures::{Forge, Guardian, Keys, key_octets};
use hgs_testkit::{shared, tool};
use tempfile::TempDir;

/// The schemas of the specification, with that of XML Signature beside them.
fn schemas() -> Option<TempDir> {
    let from = shared()?.join("spec/xsd");
    let folder = tempfile::tempdir().unwrap();
    for name in ["Crypto.xsd", "Protector.xsd", "Metadata.xsd"] {
        fs::copy(from.join(name), folder.path().join(name)).unwrap();
    }
    let name = "xmldsig-core-schema.xsd";
    let installed = Path::new("/usr/share/xml/xmltooling").join(name);
    assert!(
        installed.is_file(),
        "this test needs {}: install the Debian package xmltooling-schemas",
        installed.display()
    );
    fs::copy(installed, folder.path().join(name)).unwrap();
    Some(folder)
}

fn xmllint(schema: &str, folder: &Path, document: &[u8]) -> Output {
    let file = folder.join("document.xml");
    fs::write(&file, document).unwrap();
    Command::new(tool("xmllint", "libxml2-utils"))
        .args(["--noout", "--nonet", "--schema"])
        .arg(folder.join(schema))
        .arg(file)
        .output()
        .unwrap()
}

#[track_caller]
fn assert_valid(schema: &str, folder: &Path, document: &[u8]) {
    let output = xmllint(schema, folder, document);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn xmllint_validates_protectors() {
    let Some(folder) = schemas() else { return };
    let folder = folder.path();
    let [owner, fabric, next, tenant] =
        ["owner", "fabric", "fabric-next", "tenant"].map(Guardian::named);
    let made = protector(owner, &[fabric, tenant]);
    assert_valid("Protector.xsd", folder, made.octets());
    let plan = RollPlan {
        successor: Some(successor(next, fabric)),
        ..RollPlan::default()
    };
    let rolled = rolled(&made, fabric, plan, &[fabric]).egress;
    assert_valid("Protector.xsd", folder, rolled.octets());

    let keys = Keys::of(&[owner, fabric]);
    let old = GuardianCertificates::certify(
        fabric.signing.clone(),
        fabric.encryption.clone(),
        KeyEncryption::RsaOaepMgf1p,
        &mut &keys,
    )
    .unwrap();
    let key = common::transport_key(7);
    let made = create(&owner.certificates, &[old], &key, &mut &keys).unwrap();
    assert_valid("Protector.xsd", folder, made.octets());

    // The judge does judge.
    let text = String::from_utf8(made.octets().to_vec()).unwrap();
    let broken = text.replacen("<Id>1</Id>", "", 1);
    assert!(
        !xmllint("Protector.xsd", folder, broken.as_bytes())
            .status
            .success()
    );
}

#[test]
fn xmllint_validates_metadata() {
    let Some(folder) = schemas() else { return };
    for document in [
        metadata_of(KeyEncryption::RsaOaep),
        metadata_of(KeyEncryption::RsaOaepMgf1p),
    ] {
        assert_valid("Metadata.xsd", folder.path(), &document);
    }
}

/// The metadata of the fabric with another signing certificate, signed by a certificate of its own.
fn metadata_of(key_encryption: KeyEncryption) -> Vec<u8> {
    let [fabric, next, communications] = ["fabric", "fabric-next", "stranger"].map(Guardian::named);
    let keys = Keys::of(&[fabric, communications]);
    let guardian = GuardianCertificates::certify(
        fabric.signing.clone(),
        fabric.encryption.clone(),
        key_encryption,
        &mut &keys,
    )
    .unwrap();
    let others = [next.signing.clone()];
    metadata::write(&guardian, &others, &communications.signing, &mut &keys).unwrap()
}

/// `xmlsec1` over files in `folder`.
fn xmlsec1(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(tool("xmlsec1", "xmlsec1"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn xmlsec1_verifies_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let signer = &Guardian::named("stranger").signing;
    fs::write(folder.join("signer.pem"), signer.to_pem()).unwrap();
    let document = metadata_of(KeyEncryption::RsaOaepMgf1p);
    fs::write(folder.join("metadata.xml"), &document).unwrap();
    let arguments = [
        "--verify",
        "--pubkey-cert-pem",
        "signer.pem",
        "metadata.xml",
    ];
    let output = xmlsec1(folder, &arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");

    let text = String::from_utf8(document).unwrap();
    let tampered = text.replacen("<Version>1<", "<Version>2<", 1);
    fs::write(folder.join("metadata.xml"), tampered).unwrap();
    assert!(!xmlsec1(folder, &arguments).status.success());
}

/// A template that asks `xmlsec1` for a signature of the profile, in its own layout.
const TEMPLATE: &str = r##"
  <dsig:Signature xmlns:dsig="http://www.w3.org/2000/09/xmldsig#">
    <dsig:SignedInfo>
      <dsig:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>
      <dsig:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"/>
      <dsig:Reference URI="">
        <dsig:Transforms>
          <dsig:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>
          <dsig:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>
        </dsig:Transforms>
        <dsig:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/>
        <dsig:DigestValue/>
      </dsig:Reference>
    </dsig:SignedInfo>
    <dsig:SignatureValue/>
    <dsig:KeyInfo><dsig:X509Data><dsig:X509Certificate/></dsig:X509Data></dsig:KeyInfo>
  </dsig:Signature>
"##;

/// The metadata of the fabric, laid out by hand and signed by `xmlsec1` with this template.
fn signed_by_xmlsec1(template: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let signer = Guardian::named("stranger");
    let der = signer.signing_key.pkcs8_der().expose();
    fs::write(folder.join("signer.der"), der).unwrap();
    fs::write(folder.join("signer.pem"), signer.signing.to_pem()).unwrap();
    let openssl = Command::new(tool("openssl", "openssl"))
        .current_dir(folder)
        .args([
            "pkey",
            "-inform",
            "DER",
            "-in",
            "signer.der",
            "-out",
            "signer.key",
        ])
        .output()
        .unwrap();
    assert!(openssl.status.success());

    let ours = String::from_utf8(metadata_of(KeyEncryption::RsaOaep)).unwrap();
    let start = ours.find("<Signature xmlns").unwrap();
    let end = ours.rfind("</Signature>").unwrap() + "</Signature>".len();
    let unsigned = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}{template}{}\n",
        ours[..start].replace("><", ">\n  <"),
        &ours[end..]
    );
    fs::write(folder.join("template.xml"), unsigned).unwrap();
    let output = xmlsec1(
        folder,
        &[
            "--sign",
            "--privkey-pem",
            "signer.key,signer.pem",
            "--output",
            "signed.xml",
            "template.xml",
        ],
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    fs::read(folder.join("signed.xml")).unwrap()
}

fn read(octets: &[u8]) -> Result<Metadata, MetadataError> {
    Metadata::read(octets, &CertificateCache::new(16), &SignatureCache::new(16))
}

#[test]
fn we_verify_what_xmlsec1_has_signed() {
    let metadata = read(&signed_by_xmlsec1(TEMPLATE)).unwrap();
    assert_eq!(metadata.signer(), &Guardian::named("stranger").signing);
    assert_eq!(
        metadata.unverified(),
        &Guardian::named("fabric").certificates
    );
}

/// Signatures that hold, and are not of the profile.
#[test]
fn we_refuse_what_xmlsec1_has_signed_in_another_way() {
    for (from, to) in [
        (
            "Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"/>\n      <dsig:SignatureMethod",
            "Algorithm=\"http://www.w3.org/TR/2001/REC-xml-c14n-20010315\"/>\n      <dsig:SignatureMethod",
        ),
        (
            "2001/04/xmldsig-more#rsa-sha256",
            "2001/04/xmldsig-more#rsa-sha512",
        ),
        ("2001/04/xmlenc#sha256", "2001/04/xmlenc#sha512"),
        (
            "<dsig:Transform Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"/>",
            "",
        ),
        (
            "2001/10/xml-exc-c14n#\"/>\n        </dsig:Transforms>",
            "2001/10/xml-exc-c14n#WithComments\"/>\n        </dsig:Transforms>",
        ),
        ("<dsig:SignedInfo>", "<dsig:SignedInfo Id=\"a\">"),
        (
            "<dsig:X509Certificate/>",
            "<dsig:X509Certificate/><dsig:X509SubjectName/>",
        ),
        ("<dsig:KeyInfo>", "<dsig:KeyInfo><dsig:KeyValue/>"),
    ] {
        let template = TEMPLATE.replacen(from, to, 1);
        assert!(template != TEMPLATE, "{from}");
        let error = read(&signed_by_xmlsec1(&template)).unwrap_err();
        assert!(matches!(error, MetadataError::Signature(_)), "{error}");
    }
}

/// The same protector in another hand: prefixes, white space, single quotes, a declaration; signed over the canonical
/// form that `xmllint` makes of it.
#[test]
fn a_protector_in_another_hand_is_verified_opened_and_rolled() {
    let [owner, fabric] = ["owner", "fabric"].map(Guardian::named);
    let forge = Forge::new(owner, &[fabric], key_octets(7));
    let namespace = "http://schemas.microsoft.com/kps/2014/07";
    let declaration = format!("<Wrappings xmlns=\"{namespace}\">");
    let laid_out = forge
        .signed()
        .replacen(&declaration, "<Wrappings>", 1)
        .replace("></DigestMethod>", "/>")
        .replace("></MGF>", "\n\t\t/>")
        .replace("><", ">\r\n  <");
    let prefixed = prefix(&laid_out);
    let alone = prefixed.replacen(
        "<k:Wrappings",
        &format!("<k:Wrappings xmlns:k='{namespace}'"),
        1,
    );
    let canonical = canonical(&alone);
    let document = forge.around(&prefixed, &canonical, owner).replacen(
        "<Protector ",
        &format!("<Protector xmlns:k='{namespace}' "),
        1,
    );
    let document = format!("<?xml version='1.0'?>\n{document}\n");

    let read = verify(document.as_bytes()).unwrap();
    assert!(opened(&read, fabric).transport_key() == &common::transport_key(7));
    let egress = rolled(&read, fabric, RollPlan::default(), &[fabric]).egress;
    let egress = verify(egress.octets()).unwrap();
    assert_eq!(egress.wrappings().len(), 2);
    opened(&egress, owner);
}

/// Gives every element of the default namespace the prefix `k`.
fn prefix(xml: &str) -> String {
    let mut prefixed = String::new();
    for tag in xml.split_inclusive('<') {
        let foreign = tag.starts_with("DigestMethod") || tag.starts_with("MGF");
        match tag.strip_prefix('/') {
            _ if foreign || prefixed.is_empty() => prefixed.push_str(tag),
            Some(end) => prefixed.push_str(&format!("/k:{end}")),
            None => prefixed.push_str(&format!("k:{tag}")),
        }
    }
    prefixed
}

fn canonical(xml: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrappings.xml");
    fs::write(&file, xml).unwrap();
    let output = Command::new(tool("xmllint", "libxml2-utils"))
        .arg("--exc-c14n")
        .arg(file)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
