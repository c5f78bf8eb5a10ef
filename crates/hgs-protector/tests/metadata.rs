//! Metadata and guardians' files: written, read, attacked, imported.

mod common;

use common::with_one_more;
use hgs_crypto::base64;
use hgs_crypto::hash::{hmac_sha256, sha256};
use hgs_pki::issue::Issuer;
use hgs_pki::{
    Certificate, CertificateCache, Seconds, SignatureCache, Thumbprint, Time, Validity, profile,
};
use hgs_protector::metadata::{self, Expired, ImportError, Metadata, MetadataError, Trust};
use hgs_protector::suite::KeyEncryption;
use hgs_protector::{FormError, GuardianCertificates, GuardianError, XmlSignatureError};
use hgs_testkit::fixtures::{
    AttestationSigner, Guardian, Keys, certificate, now, private_key, self_signed, ten_years,
};
use hgs_testkit::shared;
use proptest::prelude::*;

const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";

fn read(octets: &[u8]) -> Result<Metadata, MetadataError> {
    Metadata::read(octets, &CertificateCache::new(16), &SignatureCache::new(16))
}

fn written(guardian: &GuardianCertificates, others: &[Certificate], signer: &Guardian) -> Vec<u8> {
    let keys = Keys::of(&[signer]);
    metadata::write(guardian, others, &signer.signing, &mut &keys).unwrap()
}

/// The fabric's metadata, signed by a certificate of its own.
fn document() -> String {
    let [fabric, signer] = ["fabric", "stranger"].map(Guardian::named);
    String::from_utf8(written(&fabric.certificates, &[], signer)).unwrap()
}

/// The octets of a document that the signature covers: without the signature, which is canonical as we write it.
fn without_signature(document: &str) -> String {
    let start = document.find("<Signature xmlns").unwrap();
    let end = document.rfind("</Signature>").unwrap() + "</Signature>".len();
    document[..start].to_owned() + &document[end..]
}

/// Puts a signature by `signer` into `unsigned`, by hand, after `change` was made to `SignedInfo`.
fn signed(unsigned: &str, signer: &Guardian, change: impl Fn(String) -> String) -> String {
    let digest = base64::encode(&sha256(unsigned.as_bytes()));
    let info = change(format!(
        "<SignedInfo xmlns=\"{DSIG}\">\
         <CanonicalizationMethod Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"></CanonicalizationMethod>\
         <SignatureMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#rsa-sha256\"></SignatureMethod>\
         <Reference URI=\"\"><Transforms>\
         <Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"></Transform>\
         <Transform Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"></Transform></Transforms>\
         <DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmlenc#sha256\"></DigestMethod>\
         <DigestValue>{digest}</DigestValue></Reference></SignedInfo>"
    ));
    let value = base64::encode(&signer.sign(info.as_bytes()));
    let certificate = base64::encode(signer.signing.der());
    let signature = format!(
        "<Signature xmlns=\"{DSIG}\">{info}<SignatureValue>{value}</SignatureValue><KeyInfo><X509Data>\
         <X509Certificate>{certificate}</X509Certificate></X509Data></KeyInfo></Signature>"
    );
    let place = unsigned.find("</GuardianInformation>").unwrap() + "</GuardianInformation>".len();
    format!("{}{signature}{}", &unsigned[..place], &unsigned[place..])
}

/// The fabric's metadata after `change`, signed again so that the signature holds.
fn signed_after(change: impl Fn(&str) -> String) -> String {
    let unsigned = without_signature(&document());
    let changed = change(&unsigned);
    assert!(changed != unsigned, "nothing was changed");
    signed(&changed, Guardian::named("stranger"), |info| info)
}

#[track_caller]
fn refused(document: &str) -> MetadataError {
    read(document.as_bytes()).unwrap_err()
}

fn is_form(error: &MetadataError) -> bool {
    matches!(
        error,
        MetadataError::Form(_) | MetadataError::Signature(XmlSignatureError::Form(_))
    )
}

#[test]
fn what_was_written_is_read_again() {
    let [fabric, next, signer] = ["fabric", "fabric-next", "stranger"].map(Guardian::named);
    let others = [next.signing.clone(), signer.signing.clone()];
    for others in [&others[..], &[]] {
        let octets = written(&fabric.certificates, others, signer);
        let metadata = read(&octets).unwrap();
        assert_eq!(metadata.unverified(), &fabric.certificates);
        assert_eq!(metadata.other_signing_certificates(), others);
        assert_eq!(metadata.signer(), &signer.signing);
    }
    // What is signed by hand is the same document.
    assert!(signed(&without_signature(&document()), signer, |info| info) == document());
}

#[test]
fn a_guardian_may_ask_for_the_old_algorithm() {
    let owner = Guardian::named("owner");
    let asking = GuardianCertificates::certify(
        owner.signing.clone(),
        owner.encryption.clone(),
        KeyEncryption::RsaOaepMgf1p,
        &mut &Keys::of(&[owner]),
    )
    .unwrap();
    let octets = written(&asking, &[], owner);
    assert_eq!(read(&octets).unwrap().unverified(), &asking);

    // The wish is under the signature: nobody takes it away, or makes it for another.
    let text = String::from_utf8(octets).unwrap();
    let start = text.find("<TransportKeyEncryption").unwrap();
    let end = text.find("</Metadata>").unwrap();
    let without = format!("{}{}", &text[..start], &text[end..]);
    let error = refused(&without);
    assert_eq!(error, MetadataError::Signature(XmlSignatureError::Digest));
    let with = document().replace("</Metadata>", &text[start..]);
    let error = refused(&with);
    assert_eq!(error, MetadataError::Signature(XmlSignatureError::Digest));
}

#[test]
fn extensions_after_the_signature() {
    let ours = "<TransportKeyEncryption xmlns=\"urn:openhgs:metadata:1\" \
                Algorithm=\"http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p\"></TransportKeyEncryption>";
    let with = |extension: &str| {
        signed_after(|unsigned| unsigned.replace("</Metadata>", &format!("{extension}</Metadata>")))
    };
    let foreign = "<a xmlns=\"urn:a\"><b></b></a>";
    for accepted in [
        ours.to_owned(),
        foreign.to_owned(),
        format!("{foreign}{ours}{foreign}"),
    ] {
        read(with(&accepted).as_bytes()).unwrap();
    }
    for extension in [
        format!("{ours}{ours}"),
        ours.replace("Encryption ", "Decryption ")
            .replace("Encryption>", "Decryption>"),
        ours.replace("rsa-oaep-mgf1p", "rsa-1_5"),
        ours.replace("2001/04/xmlenc#rsa-oaep-mgf1p", "2009/xmlenc11#rsa-oaep"),
        ours.replace("></", ">text</"),
        "<Wrappings></Wrappings>".to_owned(),
        format!("<Signature xmlns=\"{DSIG}\"></Signature>"),
        "text".to_owned(),
    ] {
        let error = refused(&with(&extension));
        assert!(is_form(&error), "{extension}: {error}");
    }
}

/// attacks.md X1: the signed document within another, the other one read.
#[test]
fn x1_the_signed_document_wrapped_into_another() {
    let genuine = document();
    let signature = {
        let start = genuine.find("<Signature xmlns").unwrap();
        let end = genuine.rfind("</Signature>").unwrap() + "</Signature>".len();
        genuine[start..end].to_owned()
    };
    let stranger = Guardian::named("tenant");
    let forged = written(&stranger.certificates, &[], stranger);
    let forged = without_signature(&String::from_utf8(forged).unwrap());
    let information = "</GuardianInformation>";
    let original = without_signature(&genuine);
    for foreign in [
        // The signature of the genuine document, after other information, with and without the original beside it.
        forged.replace(information, &format!("{information}{signature}")),
        forged
            .replace(information, &format!("{information}{signature}"))
            .replace(
                "</Metadata>",
                &format!("<a xmlns=\"urn:a\">{original}</a></Metadata>"),
            ),
        // The original inside the signature.
        forged.replace(
            information,
            &format!(
                "{information}{}",
                signature.replace(
                    "</Signature>",
                    &format!("<Object>{original}</Object></Signature>")
                )
            ),
        ),
        // Two pieces of information, either first.
        genuine.replacen(
            "<GuardianInformation>",
            &format!("{}<GuardianInformation>", inner(&forged)),
            1,
        ),
        genuine.replacen(information, &format!("{information}{}", inner(&forged)), 1),
    ] {
        let _ = refused(&foreign);
    }
}

/// `GuardianInformation` of a document.
fn inner(document: &str) -> String {
    let start = document.find("<GuardianInformation>").unwrap();
    let end = document.find("</GuardianInformation>").unwrap() + "</GuardianInformation>".len();
    document[start..end].to_owned()
}

/// attacks.md X4: more than one of what there must be one of, and comments in what is compared.
#[test]
fn x4_several_of_one_and_comments() {
    let genuine = document();
    let between = |from: &str, to: &str| {
        let start = genuine.find(from).unwrap();
        let end = genuine.rfind(to).unwrap() + to.len();
        genuine[start..end].to_owned()
    };
    let info = between("<SignedInfo", "</SignedInfo>");
    let reference = between("<Reference", "</Reference>");
    let digest = between("<DigestValue>", "</DigestValue>");
    let signature = between("<Signature xmlns", "</Signature>");
    let method = between("<DigestMethod", "</DigestMethod>");
    let certificate = between("<X509Certificate>", "</X509Certificate>");
    for one in [
        &info,
        &reference,
        &digest,
        &signature,
        &method,
        &certificate,
    ] {
        let _ = refused(&genuine.replacen(one.as_str(), &one.repeat(2), 1));
    }
    for element in [
        "DigestValue",
        "SignatureValue",
        "X509Certificate",
        "Version",
    ] {
        let open = format!("<{element}>");
        let error = refused(&genuine.replacen(&open, &format!("{open}<!-- -->"), 1));
        assert!(is_form(&error), "{error}");
    }
}

/// Documents that fooled other libraries, made by others. None is metadata, and none may be taken for it.
#[test]
fn x4_documents_that_fooled_other_libraries() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("vectors/xmldsig-attacks");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let octets = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(read(&octets).is_err());
        seen += 1;
    }
    assert!(seen > 0);
}

/// attacks.md X5: a MAC under a key that everybody knows, and keys named in other ways.
#[test]
fn x5_a_mac_and_other_keys() {
    let signer = Guardian::named("stranger");
    let hmac = "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256";
    let unsigned = without_signature(&document());
    let with_mac = signed(&unsigned, signer, |info| {
        info.replace("http://www.w3.org/2001/04/xmldsig-more#rsa-sha256", hmac)
    });
    let start = with_mac.find("<SignedInfo").unwrap();
    let end = with_mac.find("</SignedInfo>").unwrap() + "</SignedInfo>".len();
    let tag = hmac_sha256(
        &signer.signing.der().into(),
        &[&with_mac.as_bytes()[start..end]],
    );
    let value = end + "<SignatureValue>".len();
    let value_end = with_mac.find("</SignatureValue><KeyInfo>").unwrap();
    let with_mac = format!(
        "{}{}{}",
        &with_mac[..value],
        base64::encode(&tag),
        &with_mac[value_end..]
    );
    let error = refused(&with_mac);
    assert_eq!(
        error,
        MetadataError::Signature(XmlSignatureError::Signature)
    );

    let genuine = document();
    let start = genuine.find("<KeyInfo>").unwrap();
    let end = genuine.find("</KeyInfo>").unwrap() + "</KeyInfo>".len();
    let key_info = &genuine[start..end];
    let certificate = base64::encode(signer.signing.der());
    for foreign in [
        String::new(),
        "<KeyInfo></KeyInfo>".to_owned(),
        key_info.replace("<KeyInfo>", "<KeyInfo><KeyName>a</KeyName>"),
        format!(
            "<KeyInfo><X509Data><X509Certificate>{certificate}</X509Certificate></X509Data><X509Data/></KeyInfo>"
        ),
        "<KeyInfo><RetrievalMethod URI=\"http://localhost/\"/></KeyInfo>".to_owned(),
        "<KeyInfo><KeyValue><RSAKeyValue/></KeyValue></KeyInfo>".to_owned(),
    ] {
        let error = refused(&genuine.replacen(key_info, &foreign, 1));
        assert!(is_form(&error), "{error}");
    }
}

/// attacks.md X8, and every other way to refer to something else than this document as it stands.
#[test]
fn x8_other_references_and_transforms() {
    let signer = Guardian::named("stranger");
    let unsigned = without_signature(&document());
    let enveloped = "<Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"></Transform>";
    let xslt = "<Transform Algorithm=\"http://www.w3.org/TR/1999/REC-xslt-19991116\"></Transform>";
    let xpath = "<Transform Algorithm=\"http://www.w3.org/TR/1999/REC-xpath-19991116\"><XPath>1</XPath></Transform>";
    for (from, to) in [
        ("URI=\"\"", "URI=\"#a\""),
        ("URI=\"\"", "URI=\"file:///etc/passwd\""),
        (" URI=\"\"", ""),
        ("URI=\"\"", "Id=\"a\" URI=\"\""),
        (enveloped, ""),
        (enveloped, xslt),
        (enveloped, &format!("{enveloped}{xpath}")),
        (
            "<Transform Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"></Transform>",
            "<Transform Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"><InclusiveNamespaces \
          xmlns=\"http://www.w3.org/2001/10/xml-exc-c14n#\" PrefixList=\"a\"></InclusiveNamespaces></Transform>",
        ),
        (
            "http://www.w3.org/2001/04/xmlenc#sha256",
            "http://www.w3.org/2000/09/xmldsig#sha1",
        ),
        (
            "<CanonicalizationMethod Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"",
            "<CanonicalizationMethod Algorithm=\"http://www.w3.org/TR/2001/REC-xml-c14n-20010315\"",
        ),
        (
            "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
            "http://www.w3.org/2000/09/xmldsig#rsa-sha1",
        ),
        ("<DigestValue>", "<DigestValue>AAAA"),
        (
            "xmldsig#\"><CanonicalizationMethod",
            "xmldsig#\" Id=\"a\"><CanonicalizationMethod",
        ),
    ] {
        let changed = signed(&unsigned, signer, |info| {
            let changed = info.replacen(from, to, 1);
            assert!(changed != info, "{from}");
            changed
        });
        let error = refused(&changed);
        assert!(
            matches!(error, MetadataError::Signature(_)),
            "{from}: {error}"
        );
        assert!(
            error != MetadataError::Signature(XmlSignatureError::Signature),
            "{from}"
        );
    }
}

#[test]
fn what_is_not_of_the_schema() {
    for (from, to) in [
        ("Version=\"1\"", "Version=\"2\""),
        ("<Version>1</Version>", "<Version>2</Version>"),
        ("<Version>1</Version>", "<Version>one</Version>"),
        ("<Version>1</Version>", ""),
        ("Version=\"1\"", "ID=\"a\" Version=\"1\""),
        (
            "<GuardianInformation>",
            "<GuardianInformation><Extra></Extra>",
        ),
        ("<EncryptionCertificate>", "<EncryptionCertificate>A"),
        (
            "<SigningCertificateSelfSignature Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#rsa-sha256\">",
            "<SigningCertificateSelfSignature Algorithm=\"none\">",
        ),
        (
            "</GuardianInformation>",
            "<OtherSigningCertificates><Certificate>AAAA</Certificate></OtherSigningCertificates></GuardianInformation>",
        ),
    ] {
        let error = refused(&signed_after(|unsigned| unsigned.replacen(from, to, 1)));
        assert!(matches!(error, MetadataError::Form(_)), "{from}: {error}");
    }
    let certificate = base64::encode(Guardian::named("fabric").signing.der());
    let many = format!("<Certificate>{certificate}</Certificate>").repeat(65);
    let many = format!(
        "<OtherSigningCertificates>{many}</OtherSigningCertificates></GuardianInformation>"
    );
    let error = refused(&signed_after(|unsigned| {
        unsigned.replace("</GuardianInformation>", &many)
    }));
    let (limit, found) = (64, 65);
    assert_eq!(error, MetadataError::TooManyCertificates { limit, found });
}

/// Signed as it is, so that nothing but the reading of the form refuses it.
#[test]
fn every_element_with_one_attribute_or_child_more() {
    let signer = Guardian::named("stranger");
    let [fabric, next] = ["fabric", "fabric-next"].map(Guardian::named);
    let others = [next.signing.clone()];
    let with_others = written(&fabric.certificates, &others, signer);
    let unsigned = without_signature(&String::from_utf8(with_others).unwrap());
    let (information, end) = unsigned.split_once("</Metadata>").unwrap();
    assert_eq!(end, "");
    for changed in with_one_more(information) {
        let error = refused(&signed(&format!("{changed}</Metadata>"), signer, |info| {
            info
        }));
        assert!(is_form(&error), "{changed}: {error}");
    }
    let genuine = signed(&unsigned, signer, |info| info);
    assert!(read(genuine.as_bytes()).is_ok());
    let info_of = |document: &str| {
        let start = document.find("<SignedInfo").unwrap();
        let end = document.find("</SignedInfo>").unwrap() + "</SignedInfo>".len();
        start..end
    };
    let changes = with_one_more(&genuine[info_of(&genuine)]);
    for changed in changes {
        let error = refused(&signed(&unsigned, signer, |_| changed.clone()));
        assert!(is_form(&error), "{changed}: {error}");
    }
    // Around what it signs, a signature has no more either.
    let start = genuine.find("<Signature xmlns").unwrap();
    let end = genuine.rfind("</Signature>").unwrap() + "</Signature>".len();
    let info = info_of(&genuine);
    let signature = format!("{}{}", &genuine[start..info.start], &genuine[info.end..end]);
    for changed in with_one_more(&signature) {
        let place = changed.find("<SignatureValue").unwrap();
        let (before, after) = changed.split_at(place);
        let (whole, info) = (&genuine[..start], &genuine[info.clone()]);
        let error = refused(&format!("{whole}{before}{info}{after}{}", &genuine[end..]));
        assert!(is_form(&error), "{changed}: {error}");
    }
}

#[test]
fn what_was_changed_after_signing() {
    let genuine = document();
    let signer = Guardian::named("stranger");
    for (from, to) in [
        ("<Version>1<", "<Version> 1<"),
        ("<GuardianInformation>", "<GuardianInformation> "),
        ("</Metadata>", "\n</Metadata>"),
    ] {
        let error = refused(&genuine.replacen(from, to, 1));
        assert_eq!(
            error,
            MetadataError::Signature(XmlSignatureError::Digest),
            "{from}"
        );
    }
    // The certificate of someone else beside the signature.
    let other = base64::encode(Guardian::named("tenant").signing.der());
    let swapped = genuine.replace(&base64::encode(signer.signing.der()), &other);
    let error = refused(&swapped);
    assert_eq!(
        error,
        MetadataError::Signature(XmlSignatureError::Signature)
    );
}

/// Whoever signs the document has not become the guardian: its own two signatures must hold.
#[test]
fn a_guardian_whose_own_signatures_do_not_hold() {
    let [fabric, stranger] = ["fabric", "stranger"].map(Guardian::named);
    let swap = |from: &Certificate, to: &Certificate| {
        signed_after(|unsigned| {
            unsigned.replace(&base64::encode(from.der()), &base64::encode(to.der()))
        })
    };
    let error = refused(&swap(&fabric.encryption, &stranger.encryption));
    assert_eq!(
        error,
        MetadataError::Guardian(GuardianError::EncryptionCertificateSignature)
    );
    let error = refused(&swap(&fabric.signing, &stranger.signing));
    assert_eq!(error, MetadataError::Guardian(GuardianError::SelfSignature));
}

#[test]
fn an_algorithm_of_a_guardians_signature_that_is_unknown_is_named() {
    let error = refused(&signed_after(|unsigned| {
        unsigned.replacen("xmldsig-more#rsa-sha256", "xmldsig-more#rsa-sha999", 1)
    }));
    assert!(matches!(
        error,
        MetadataError::Form(FormError::UnknownAlgorithm { identifier, .. }) if identifier.ends_with("#rsa-sha999")
    ));
}

mod import {
    use super::*;

    fn metadata() -> Metadata {
        read(document().as_bytes()).unwrap()
    }

    fn thumbprint(name: &str) -> Thumbprint {
        Guardian::named(name).signing.thumbprint()
    }

    #[test]
    fn by_thumbprint() {
        let found = thumbprint("fabric");
        let guardian = metadata()
            .import(&Trust::Thumbprint(found), Expired::Refuse, now())
            .unwrap();
        assert_eq!(guardian, Guardian::named("fabric").certificates);
        // The thumbprint of the document's signer says nothing of the guardian.
        let expected = thumbprint("stranger");
        let error = metadata()
            .import(&Trust::Thumbprint(expected), Expired::Refuse, now())
            .unwrap_err();
        assert_eq!(error, ImportError::Thumbprint { expected, found });
    }

    #[test]
    fn by_roots() {
        let root = AttestationSigner::ours();
        let issuer = Issuer::Certificate(&root.certificate);
        let [signing_key, encryption_key] = [2, 3].map(private_key);
        let signing = certificate(
            profile::guardian_signing("issued", ten_years()),
            &signing_key,
            issuer,
            &root.key,
        );
        let encryption = certificate(
            profile::guardian_encryption("issued", ten_years()),
            &encryption_key,
            issuer,
            &root.key,
        );
        let guardian = Guardian::from_parts(
            "issued",
            (signing, signing_key),
            (encryption, encryption_key),
        );
        let octets = written(&guardian.certificates, &[], &guardian);
        let import = |roots: &[Certificate]| {
            let trust = Trust::Roots {
                roots,
                intermediates: &[],
            };
            read(&octets)
                .unwrap()
                .import(&trust, Expired::Refuse, now())
        };
        assert_eq!(
            import(std::slice::from_ref(&root.certificate)).unwrap(),
            guardian.certificates
        );
        let other = AttestationSigner::foreign().certificate;
        for roots in [vec![], vec![other], vec![guardian.signing.clone()]] {
            assert!(matches!(import(&roots), Err(ImportError::Chain(_))));
        }
    }

    #[test]
    fn on_nobodys_word_only_by_a_dangerous_name() {
        let guardian = metadata().import(&Trust::DangerousNone, Expired::Refuse, now());
        assert_eq!(guardian.unwrap(), Guardian::named("fabric").certificates);
    }

    #[test]
    fn expired_and_not_yet_valid_certificates() {
        let trust = Trust::Thumbprint(thumbprint("fabric"));
        let later = ten_years().not_after.checked_add(Seconds::new(1)).unwrap();
        let error = metadata()
            .import(&trust, Expired::Refuse, later)
            .unwrap_err();
        assert!(matches!(error, ImportError::Expired { .. }));
        metadata().import(&trust, Expired::Allow, later).unwrap();
        let last = ten_years().not_after;
        metadata().import(&trust, Expired::Refuse, last).unwrap();
        let earlier = now().checked_sub(Seconds::new(1)).unwrap();
        for expired in [Expired::Refuse, Expired::Allow] {
            let error = metadata().import(&trust, expired, earlier).unwrap_err();
            assert!(matches!(error, ImportError::NotYetValid { .. }));
        }
    }

    /// An expired certificate that is allowed must chain all the same.
    #[test]
    fn expired_certificates_chain_as_of_their_last_second() {
        let root = AttestationSigner::ours();
        let issuer = Issuer::Certificate(&root.certificate);
        let short = Validity {
            not_before: now(),
            not_after: now().checked_add(Seconds::from_days(1)).unwrap(),
        };
        let [signing_key, encryption_key] = [2, 3].map(private_key);
        let issue = |template, key| certificate(template, key, issuer, &root.key);
        let signing = issue(profile::guardian_signing("short", short), &signing_key);
        let encryption = issue(
            profile::guardian_encryption("short", short),
            &encryption_key,
        );
        let guardian = Guardian::from_parts(
            "short",
            (signing, signing_key),
            (encryption, encryption_key),
        );
        let octets = written(&guardian.certificates, &[], &guardian);
        let later: Time = now().checked_add(Seconds::from_days(2)).unwrap();
        let import = |root: Certificate| {
            let trust = Trust::Roots {
                roots: &[root],
                intermediates: &[],
            };
            read(&octets).unwrap().import(&trust, Expired::Allow, later)
        };
        import(root.certificate.clone()).unwrap();
        let unrelated = self_signed(profile::attestation_signer(ten_years()), &private_key(16));
        assert!(matches!(import(unrelated), Err(ImportError::Chain(_))));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_guardian_and_any_others_come_back(
        guardian in 0_usize..3, signer in 3_usize..6, others in proptest::collection::vec(0_usize..6, 0..6), old: bool,
    ) {
        let names = ["owner", "fabric", "fabric-next", "tenant", "tenant-next", "stranger"];
        let named = |number: usize| Guardian::named(names[number]);
        let (guardian, signer) = (named(guardian), named(signer));
        let wanted = if old { KeyEncryption::RsaOaepMgf1p } else { KeyEncryption::RsaOaep };
        let certified = GuardianCertificates::certify(
            guardian.signing.clone(),
            guardian.encryption.clone(),
            wanted,
            &mut &Keys::of(&[guardian]),
        ).unwrap();
        let others: Vec<_> = others.into_iter().map(|number| named(number).signing.clone()).collect();
        let metadata = read(&written(&certified, &others, signer)).unwrap();
        prop_assert_eq!(metadata.unverified(), &certified);
        prop_assert_eq!(metadata.other_signing_certificates(), &others);
        prop_assert_eq!(metadata.signer(), &signer.signing);
    }
}
