//! EK certificates and the authorities that issue them: those of real makers, those of swtpm, and those that `openssl` makes to be refused.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::openssl::{AUTHORITY, Openssl};
use hgs_crypto::rsa::{PublicKey, PublicKeyError, Weakness};
use hgs_pki::endorsement::{
    EndorsementAuthority, EndorsementAuthorityError, EndorsementCertificate,
    EndorsementCertificateError, EndorsementRoots, EndorsementTrustError, MAX_ENDORSEMENT_OCTETS,
    MAX_PATH_INTERMEDIATES, TpmModel,
};
use hgs_pki::{
    CertificateError, ObjectIdentifier, PemError, Seconds, Time, Validity, fuzzing, pem,
};
use hgs_testkit::{Mutations, shared, tool};

/// Options of an EK certificate as the profile wants it.
const EK: &str = "-subj / -addext basicConstraints=critical,CA:false \
     -addext keyUsage=critical,keyEncipherment -addext extendedKeyUsage=2.23.133.8.1 \
     -addext subjectAltName=critical,dirName:tpm";

const TPM_NAMES: &str = "[req]\ndistinguished_name = name\n[name]\n[tpm]\n\
     0.2.23.133.2.1 = id:494E5443\n0.2.23.133.2.2 = Model 7\n0.2.23.133.2.3 = id:00020008\n";

/// `openssl` that knows the section of the TPM's names.
fn openssl() -> Openssl {
    let openssl = Openssl::new();
    openssl.write("empty.cnf", TPM_NAMES);
    let key = common::key("ek");
    let key = pem::encode("PRIVATE KEY", key.pkcs8_der().expose());
    openssl.write("tpm.key", key);
    openssl
}

/// An authority `NAME.der`: a self-signed one, or one that `issuer` signed.
fn authority(
    openssl: &Openssl,
    name: &str,
    issuer: Option<&str>,
    options: &str,
) -> EndorsementAuthority {
    EndorsementAuthority::from_der(&certificate(openssl, name, issuer, options)).unwrap()
}

/// `NAME.pem` and `NAME.key`, over a key on P-256 where `options` ask for no other.
fn certificate(openssl: &Openssl, name: &str, issuer: Option<&str>, options: &str) -> Vec<u8> {
    let issuer = issuer.map(|issuer| format!("-CA {issuer}.pem -CAkey {issuer}.key"));
    let key = match options.contains("-newkey") || options.contains("-key ") {
        true => "",
        false => "-newkey ec -pkeyopt ec_paramgen_curve:P-256",
    };
    let issuer = issuer.unwrap_or_default();
    let der = openssl.self_signed(name, &format!("{issuer} {options} {key}"));
    openssl.write(&format!("{name}.pem"), pem::encode("CERTIFICATE", &der));
    der
}

fn ek(openssl: &Openssl, issuer: &str, options: &str) -> EndorsementCertificate {
    let options = format!("-key tpm.key {EK} {options}");
    let der = certificate(openssl, "ek", Some(issuer), &options);
    EndorsementCertificate::from_octets(&der).unwrap()
}

#[test]
fn a_manufacturer_is_four_letters_or_digits_or_unknown() {
    let code = |manufacturer: &str| {
        let manufacturer = Some(manufacturer.to_owned());
        let model = TpmModel {
            manufacturer,
            ..TpmModel::default()
        };
        model.manufacturer_code()
    };
    assert_eq!(code("id:494E5443").as_deref(), Some("INTC"));
    assert_eq!(code("id:49424D00").as_deref(), Some("IBM"));
    assert_eq!(code("id:49424d20").as_deref(), Some("IBM"));
    for other in [
        "id:00000000",
        "id:494E54",
        "id:494E544300",
        "id:2D2D2D2D",
        "id:4900494E",
        "494E5443",
        "id:",
    ] {
        assert_eq!(code(other), None, "{other}");
    }
}

fn day_after(validity: Validity) -> Time {
    validity
        .not_before
        .checked_add(Seconds::from_days(1))
        .unwrap()
}

/// What `roots` say about a certificate and its own key, a day after it begins to be valid.
fn verify(
    roots: &EndorsementRoots,
    certificate: &EndorsementCertificate,
    offered: &[EndorsementAuthority],
) -> Result<Vec<String>, EndorsementTrustError> {
    let when = day_after(certificate.validity());
    let verified = roots.verify(certificate, certificate.public_key(), offered, when)?;
    assert_eq!(verified.certificate(), certificate);
    Ok(subjects(verified.path()))
}

fn subjects(path: &[EndorsementAuthority]) -> Vec<String> {
    path.iter().map(|one| one.subject().to_owned()).collect()
}

/// The kind of an outcome: for a path, the subject of its root.
fn kind(path: Result<Vec<EndorsementAuthority>, EndorsementTrustError>) -> String {
    match path {
        Ok(path) => format!("leads to {}", path.last().unwrap().subject()),
        Err(EndorsementTrustError::UnknownIssuer { issuer, .. }) => format!("misses {issuer}"),
        Err(EndorsementTrustError::Sha1(_)) => "signed over SHA-1".to_owned(),
        Err(other) => format!("refused: {other}"),
    }
}

/// The certificates of makers of TPMs by the names of their files.
fn makers(folder: &Path) -> BTreeMap<String, EndorsementAuthority> {
    let files = fs::read_dir(folder.join("vectors/ek-roots")).unwrap();
    let makers = files.map(|file| {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let read = EndorsementAuthority::list_from_octets(&fs::read(&path).unwrap());
        let mut read = read.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(read.len(), 1, "{name}");
        (name, read.remove(0))
    });
    makers.collect()
}

#[test]
fn the_certificates_of_makers_lead_where_openssl_finds_that_they_lead() {
    let Some(folder) = shared() else { return };
    let makers = makers(&folder);
    assert_eq!(makers.len(), 51);
    let (roots, intermediates): (Vec<_>, Vec<_>) = makers
        .values()
        .cloned()
        .partition(EndorsementAuthority::is_self_issued);
    let openssl = Openssl::new();
    let bundle = |authorities: &[EndorsementAuthority]| {
        let blocks = authorities
            .iter()
            .map(|one| pem::encode("CERTIFICATE", one.der()));
        blocks.collect::<String>()
    };
    openssl.write("roots.pem", bundle(&roots));
    openssl.write("intermediates.pem", bundle(&intermediates));
    let trusted = EndorsementRoots::new(roots.clone(), intermediates.clone());

    let mut counts = BTreeMap::new();
    for (name, maker) in &makers {
        if roots.contains(maker) {
            assert_eq!(trusted.path_of_authority(maker), Ok(Vec::new()));
            continue;
        }
        let found = kind(trusted.path_of_authority(maker));
        openssl.write("maker.pem", bundle(std::slice::from_ref(maker)));
        let (judged, _, complaint) = openssl.attempt(
            "verify -no_check_time -CAfile roots.pem -untrusted intermediates.pem maker.pem",
        );
        assert_eq!(
            found.starts_with("leads to"),
            judged,
            "{name}: {found}; {complaint}"
        );
        *counts.entry(found).or_insert(0) += 1;
    }
    let counts: Vec<_> = counts
        .into_iter()
        .map(|(found, count)| format!("{count} {found}"))
        .collect();
    assert_eq!(roots.len(), 11);
    let expected = [
        "8 leads to CN=GlobalSign Trusted Platform Module Root CA,O=GlobalSign,OU=GlobalSign Trusted Computing Certificate Authority",
        "4 leads to CN=Infineon OPTIGA(TM) ECC Root CA,OU=OPTIGA(TM) Devices,O=Infineon Technologies AG,C=DE",
        "5 leads to CN=Infineon OPTIGA(TM) RSA Root CA,OU=OPTIGA(TM) Devices,O=Infineon Technologies AG,C=DE",
        "1 leads to CN=www.intel.com,OU=TPM EK root cert signing,O=Intel Corporation,L=Santa Clara,ST=CA,C=US",
        "1 misses CN=Aliyun TPM Root CA,OU=Aliyun TPM Root CA,O=Aliyun,C=CN",
        "2 misses CN=GlobalSign Trusted Platform Module ECC Root CA,O=GlobalSign,OU=GlobalSign Trusted Computing Certificate Authority",
        "1 misses CN=Nationz TPM Root CA,OU=Nationz TPM Device,O=Nationz Technologies Inc,C=CN",
        "1 misses CN=VeriSign Trusted Platform Module Root CA,OU=VeriSign Trusted Computing Certification Authority,O=VeriSign\\, Inc.,C=US",
        "17 signed over SHA-1",
    ];
    assert_eq!(counts, expected);
    // An intermediate certificate that is trusted as a root is one, whatever it is signed with.
    let trusted = EndorsementRoots::new(intermediates.clone(), []);
    for maker in &intermediates {
        assert_eq!(trusted.path_of_authority(maker), Ok(Vec::new()));
    }
}

#[test]
fn the_tpms_of_real_boots_lead_to_the_root_of_their_maker() {
    let Some(folder) = shared() else { return };
    let boots = folder.join("vectors/boots");
    let authority = |name: &str| {
        let octets = fs::read(boots.join(name)).unwrap();
        EndorsementAuthority::list_from_octets(&octets)
            .unwrap()
            .remove(0)
    };
    let root = authority("swtpm-localca-rootca.pem");
    let issuer = authority("swtpm-localca-issuercert.pem");
    for boot in [
        "uefi-shim-grub-secureboot-on",
        "uefi-shim-grub-secureboot-off",
    ] {
        let read = |name: &str| fs::read(boots.join(boot).join(name)).unwrap();
        let certificate = EndorsementCertificate::from_octets(&read("ek-rsa.crt")).unwrap();
        let expected = TpmModel {
            manufacturer: Some("id:00001014".to_owned()),
            model: Some("swtpm".to_owned()),
            version: Some("id:20191023".to_owned()),
        };
        assert_eq!(certificate.tpm(), &expected);
        // The public area ends with the modulus, and its length stands before it.
        let public_area = read("ek-rsa.pub");
        let modulus = &public_area[public_area.len() - 256..];
        let public = PublicKey::from_numbers(modulus, &[1, 0, 1]).unwrap();
        let when = day_after(certificate.validity());
        for trusted in [
            EndorsementRoots::new([root.clone()], [issuer.clone()]),
            EndorsementRoots::new([issuer.clone(), root.clone()], []),
        ] {
            let verified = trusted.verify(&certificate, &public, &[], when).unwrap();
            assert_eq!(verified.path()[0], issuer);
        }
        let trusted = EndorsementRoots::new([root.clone()], []);
        let found = trusted.verify(&certificate, &public, std::slice::from_ref(&issuer), when);
        assert_eq!(found.unwrap().path(), [issuer.clone(), root.clone()]);
        let refused = trusted.verify(&certificate, &public, &[], when);
        let missing = EndorsementTrustError::UnknownIssuer {
            subject: "the EK certificate".to_owned(),
            issuer: "CN=swtpm-localca".to_owned(),
        };
        assert_eq!(refused, Err(missing));

        let refused = EndorsementCertificate::from_octets(&read("ek-ecc.crt"));
        let elliptic = ObjectIdentifier::new("1.2.840.10045.2.1").unwrap();
        let error = CertificateError::UnsupportedKey(elliptic);
        assert_eq!(refused, Err(error.into()));
        let refused = EndorsementCertificate::from_octets(&read("platform.crt"));
        assert_eq!(refused, Err(EndorsementCertificateError::ExtendedKeyUsage));
    }
}

#[test]
fn a_tpm_that_swtpm_makes_now_leads_to_its_root() {
    let swtpm_setup = tool("swtpm_setup", "swtpm-tools");
    let localca = tool("swtpm_localca", "swtpm-tools");
    tool("certtool", "gnutls-bin");
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for name in ["state", "ca", "certificates"] {
        fs::create_dir(at(name)).unwrap();
    }
    let ca = at("ca");
    let config = format!(
        "statedir = {ca}\nsigningkey = {ca}/key.pem\nissuercert = {ca}/issuer.pem\ncertserial = {ca}/serial\n"
    );
    fs::write(at("localca.conf"), config).unwrap();
    fs::write(at("localca.options"), "").unwrap();
    let config = format!(
        "create_certs_tool = {}\ncreate_certs_tool_config = {}\ncreate_certs_tool_options = {}\n",
        localca.display(),
        at("localca.conf"),
        at("localca.options")
    );
    fs::write(at("setup.conf"), config).unwrap();
    let output = Command::new(swtpm_setup)
        .args(["--tpm2", "--create-ek-cert", "--rsa-keysize", "2048"])
        .args(["--tpmstate", &at("state"), "--config", &at("setup.conf")])
        .args(["--write-ek-cert-files", &at("certificates")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );

    // It says which modulus the TPM gave it.
    let modulus = said
        .split(" --ek ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    let modulus = hgs_crypto::hex::decode(modulus).unwrap();
    let public = PublicKey::from_numbers(&modulus, &[1, 0, 1]).unwrap();
    let octets = fs::read(folder.path().join("certificates/ek-rsa2048.crt")).unwrap();
    let certificate = EndorsementCertificate::from_octets(&octets).unwrap();
    let authorities = |name: &str| {
        let octets = fs::read(folder.path().join("ca").join(name)).unwrap();
        EndorsementAuthority::list_from_octets(&octets).unwrap()
    };
    let (roots, issuers) = (
        authorities("swtpm-localca-rootca-cert.pem"),
        authorities("issuer.pem"),
    );
    // At another date than today's its tools do not agree on the date: what counts is when all are valid.
    let when = [&roots, &issuers]
        .into_iter()
        .flatten()
        .map(|authority| day_after(authority.validity()))
        .fold(day_after(certificate.validity()), Time::max);
    let trusted = EndorsementRoots::new(roots, issuers);
    let verified = trusted.verify(&certificate, &public, &[], when).unwrap();
    assert_eq!(
        subjects(verified.path()),
        ["CN=swtpm-localca", "CN=swtpm-localca-rootca"]
    );

    let other = common::key("other");
    let refused = trusted.verify(&certificate, other.public(), &[], when);
    assert_eq!(refused, Err(EndorsementTrustError::OtherKey));
}

#[test]
fn padding_of_an_nv_index_is_no_part_of_the_certificate() {
    let openssl = openssl();
    authority(&openssl, "root", None, AUTHORITY);
    let certificate = ek(&openssl, "root", "");
    let der = certificate.der();
    let padded = |padding: &[u8]| EndorsementCertificate::from_octets(&[der, padding].concat());
    for padding in [&[0xff; 500][..], &[0; 500], &[0xff], &[0], &[]] {
        assert_eq!(padded(padding).as_ref(), Ok(&certificate));
    }
    let trailing = EndorsementCertificateError::Certificate(CertificateError::TrailingOctets);
    for padding in [&[0xff, 0][..], &[0, 0xff], &[0x30, 0], &[1]] {
        assert_eq!(padded(padding), Err(trailing.clone()));
    }
    for nothing in [&[][..], &[0xff; 1024], &[0; 1024]] {
        let refused = EndorsementCertificate::from_octets(nothing);
        assert_eq!(refused, Err(EndorsementCertificateError::Absent));
    }
    for length in 1..der.len() {
        let refused = EndorsementCertificate::from_octets(&der[..length]);
        assert!(
            matches!(refused, Err(EndorsementCertificateError::Certificate(_))),
            "{length}"
        );
    }
    let long = vec![0xff; MAX_ENDORSEMENT_OCTETS + 1];
    let refused = EndorsementCertificate::from_octets(&long);
    assert_eq!(
        refused,
        Err(EndorsementCertificateError::TooLarge(long.len()))
    );
    let refused = EndorsementCertificate::from_octets(include_bytes!("data/version-1.pem"));
    assert_eq!(refused, Err(EndorsementCertificateError::Version1));
}

#[test]
fn endorsements_are_the_same_if_their_octets_are() {
    let openssl = openssl();
    authority(&openssl, "root", None, AUTHORITY);
    let one = ek(&openssl, "root", "");
    let again = EndorsementCertificate::from_octets(one.to_pem().as_bytes()).unwrap();
    assert_eq!(one, again);
    assert_ne!(one, ek(&openssl, "root", ""), "another serial number");
}

#[test]
fn pem_holds_one_certificate() {
    let openssl = openssl();
    authority(&openssl, "root", None, AUTHORITY);
    let certificate = ek(&openssl, "root", "");
    let text = certificate.to_pem();
    let read = |text: &str| EndorsementCertificate::from_octets(text.as_bytes());
    assert_eq!(
        read(&format!("made by the TPM\n{text}")).as_ref(),
        Ok(&certificate)
    );
    let twice = read(&format!("{text}{text}"));
    assert_eq!(twice, Err(PemError::SeveralCertificates(2).into()));
    let none = read(&pem::encode(
        "PUBLIC KEY",
        certificate.public_key().spki_der(),
    ));
    assert_eq!(none, Err(PemError::NoCertificate.into()));
}

#[test]
fn a_certificate_is_held_to_the_profile() {
    let openssl = openssl();
    authority(&openssl, "root", None, AUTHORITY);
    let read = |options: &str| {
        let key = match options.contains("-newkey") {
            true => "",
            false => "-key tpm.key",
        };
        let der = certificate(&openssl, "ek", Some("root"), &format!("{options} {key}"));
        EndorsementCertificate::from_octets(&der)
    };
    let certificate = read(EK).unwrap();
    assert_eq!(certificate.subject(), "");
    assert_eq!(certificate.issuer(), "CN=root");
    let tpm = certificate.tpm();
    assert_eq!(tpm.model.as_deref(), Some("Model 7"));
    assert_eq!(tpm.version.as_deref(), Some("id:00020008"));
    assert_eq!(tpm.manufacturer_code().as_deref(), Some("INTC"));

    // What is not there restricts nothing.
    let bare = read("-addext subjectKeyIdentifier=hash").unwrap();
    assert_eq!(bare.tpm(), &TpmModel::default());
    assert!(read("-addext extendedKeyUsage=anyExtendedKeyUsage").is_ok());
    assert!(read("-addext certificatePolicies=critical,1.2.3").is_ok());

    let unknown = ObjectIdentifier::new("1.3.6.1.4.1.32473.1").unwrap();
    let elliptic = ObjectIdentifier::new("1.2.840.10045.2.1").unwrap();
    for (options, expected) in [
        (
            "-addext basicConstraints=CA:true",
            EndorsementCertificateError::CertificateAuthority,
        ),
        (
            "-addext keyUsage=keyEncipherment,keyCertSign",
            EndorsementCertificateError::CertificateAuthority,
        ),
        (
            "-addext keyUsage=digitalSignature",
            EndorsementCertificateError::KeyUsage,
        ),
        (
            "-addext keyUsage=keyAgreement",
            EndorsementCertificateError::KeyUsage,
        ),
        (
            "-addext extendedKeyUsage=serverAuth",
            EndorsementCertificateError::ExtendedKeyUsage,
        ),
        (
            "-addext extendedKeyUsage=2.23.133.8.3",
            EndorsementCertificateError::ExtendedKeyUsage,
        ),
        (
            "-subj / -addext subjectKeyIdentifier=hash",
            EndorsementCertificateError::NoName,
        ),
        (
            "-subj / -addext subjectAltName=dirName:tpm",
            EndorsementCertificateError::NoName,
        ),
        (
            "-addext 1.3.6.1.4.1.32473.1=critical,DER:0500",
            EndorsementCertificateError::UnknownCriticalExtension(unknown),
        ),
        (
            "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -addext subjectKeyIdentifier=hash",
            CertificateError::UnsupportedKey(elliptic).into(),
        ),
        (
            "-newkey rsa:1024 -addext subjectKeyIdentifier=hash",
            CertificateError::Key(PublicKeyError::ModulusBits(1024)).into(),
        ),
        (
            "-newkey rsa:2048 -pkeyopt rsa_keygen_pubexp:3 -addext subjectKeyIdentifier=hash",
            CertificateError::Key(PublicKeyError::Exponent).into(),
        ),
    ] {
        assert_eq!(read(options), Err(expected), "{options}");
    }
}

/// attacks.md A17: keys of Infineon's TPMs before the firmware of 2017 can be factored.
#[test]
fn a17_an_endorsement_key_with_the_fingerprint_of_roca_is_refused() {
    let openssl = openssl();
    authority(&openssl, "root", None, AUTHORITY);
    openssl.run("req -config empty.cnf -new -key root.key -subj /CN=ek -out request");
    // In the subgroup that 65537 generates modulo every small prime, as RSALib's moduli are: a power of it.
    let mut modulus = vec![1_u8];
    for _ in 0..128 {
        let mut carry = 0;
        for digit in modulus.iter_mut().rev() {
            let product = u32::from(*digit) * 65537 + carry;
            *digit = product.to_le_bytes()[0];
            carry = product >> 8;
        }
        let high = carry.to_be_bytes();
        modulus.splice(0..0, high.into_iter().skip_while(|digit| *digit == 0));
    }
    openssl.write("numbers", format!(
        "asn1=SEQUENCE:spki\n[spki]\nalgorithm=SEQUENCE:rsa\nkey=BITWRAP,SEQUENCE:key\n[rsa]\noid=OID:rsaEncryption\n\
         none=NULL\n[key]\nn=INTEGER:0x{}\ne=INTEGER:65537\n",
        hgs_crypto::hex::encode(&modulus)
    ));
    openssl.write("ek.ext", "keyUsage=critical,keyEncipherment\n");
    openssl.run("asn1parse -genconf numbers -noout -out weak.spki");
    openssl.run("pkey -pubin -inform DER -in weak.spki -out weak.pem");
    openssl.run(
        "x509 -req -in request -force_pubkey weak.pem -CA root.pem -CAkey root.key -CAcreateserial \
         -outform DER -out weak.der -extfile ek.ext",
    );
    let refused = EndorsementCertificate::from_octets(&openssl.read("weak.der"));
    let error = CertificateError::Key(PublicKeyError::Weak(Weakness::Roca));
    assert_eq!(refused, Err(error.into()));
}

#[test]
fn authorities_may_have_keys_on_curves_and_may_sign_with_pss() {
    let openssl = openssl();
    for (root_key, issuer_key, signature) in [
        (
            "-newkey ec -pkeyopt ec_paramgen_curve:P-384",
            "-newkey ec -pkeyopt ec_paramgen_curve:P-256",
            "-sha384",
        ),
        (
            "-newkey ec -pkeyopt ec_paramgen_curve:P-521",
            "-newkey rsa:2048",
            "-sha512",
        ),
        (
            "",
            "-newkey rsa:3072",
            "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest -sha256",
        ),
    ] {
        let root = authority(&openssl, "root", None, &format!("{AUTHORITY} {root_key}"));
        let issuer = authority(
            &openssl,
            "issuer",
            Some("root"),
            &format!("{AUTHORITY} {issuer_key}"),
        );
        let certificate = ek(&openssl, "issuer", signature);
        let trusted = EndorsementRoots::new([root], [issuer]);
        let path = verify(&trusted, &certificate, &[]);
        assert_eq!(
            path,
            Ok(vec!["CN=issuer".to_owned(), "CN=root".to_owned()]),
            "{signature}"
        );
        openssl.write("ek.pem", certificate.to_pem());
        openssl.run(
            "verify -ignore_critical -no_check_time -CAfile root.pem -untrusted issuer.pem ek.pem",
        );
    }
}

#[test]
fn only_what_administrators_trust_is_a_root() {
    let openssl = openssl();
    let root = authority(&openssl, "root", None, AUTHORITY);
    let issuer = authority(&openssl, "issuer", Some("root"), AUTHORITY);
    let certificate = ek(&openssl, "issuer", "");
    let trusting = |roots: &[&EndorsementAuthority], intermediates: &[&EndorsementAuthority]| {
        let list = |list: &[&EndorsementAuthority]| {
            list.iter().map(|one| (*one).clone()).collect::<Vec<_>>()
        };
        EndorsementRoots::new(list(roots), list(intermediates))
    };
    let path = || Ok(vec!["CN=issuer".to_owned(), "CN=root".to_owned()]);
    assert_eq!(
        verify(&trusting(&[&root], &[&issuer]), &certificate, &[]),
        path()
    );
    assert_eq!(
        verify(
            &trusting(&[&root], &[]),
            &certificate,
            &[issuer.clone(), root.clone()]
        ),
        path()
    );
    let short = verify(&trusting(&[&issuer], &[]), &certificate, &[]);
    assert_eq!(short, Ok(vec!["CN=issuer".to_owned()]));

    let none = EndorsementTrustError::NoRoots;
    assert_eq!(
        verify(
            &trusting(&[], &[&issuer, &root]),
            &certificate,
            std::slice::from_ref(&root)
        ),
        Err(none)
    );
    let stranger = authority(&openssl, "stranger", None, AUTHORITY);
    for offered in [
        vec![],
        vec![issuer.clone()],
        vec![issuer.clone(), root.clone()],
    ] {
        let refused = verify(&trusting(&[&stranger], &[]), &certificate, &offered);
        assert!(
            matches!(refused, Err(EndorsementTrustError::UnknownIssuer { .. })),
            "{refused:?}"
        );
    }
    let namesake = authority(&openssl, "root", None, AUTHORITY);
    let refused = verify(&trusting(&[&namesake], &[&issuer]), &certificate, &[]);
    assert_eq!(
        refused,
        Err(EndorsementTrustError::Signature("CN=issuer".to_owned()))
    );
    // Namesakes are no obstacle.
    assert_eq!(
        verify(
            &trusting(&[&namesake, &root], &[&issuer]),
            &certificate,
            &[]
        ),
        path()
    );

    let mut der = certificate.der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    let altered = EndorsementCertificate::from_octets(&der).unwrap();
    let refused = verify(&trusting(&[&root], &[&issuer]), &altered, &[]);
    assert_eq!(
        refused,
        Err(EndorsementTrustError::Signature(
            "the EK certificate".to_owned()
        ))
    );
    let refused = trusting(&[&root], &[&issuer]).verify(
        &certificate,
        common::key("other").public(),
        &[],
        day_after(certificate.validity()),
    );
    assert_eq!(refused, Err(EndorsementTrustError::OtherKey));
}

#[test]
fn sha_1_is_refused_and_an_intermediate_certificate_signed_with_it_can_be_trusted_itself() {
    let openssl = openssl();
    let root = authority(&openssl, "root", None, AUTHORITY);
    let issuer = authority(
        &openssl,
        "issuer",
        Some("root"),
        &format!("{AUTHORITY} -sha1"),
    );
    let certificate = ek(&openssl, "issuer", "");
    let refused = verify(
        &EndorsementRoots::new([root], [issuer.clone()]),
        &certificate,
        &[],
    );
    assert_eq!(
        refused,
        Err(EndorsementTrustError::Sha1("CN=issuer".to_owned()))
    );
    let trusted = EndorsementRoots::new([issuer], []);
    assert!(verify(&trusted, &certificate, &[]).is_ok());
    let certificate = ek(&openssl, "issuer", "-sha1");
    let refused = verify(&trusted, &certificate, &[]);
    assert_eq!(
        refused,
        Err(EndorsementTrustError::Sha1("the EK certificate".to_owned()))
    );
    let certificate = ek(&openssl, "issuer", "-sha224");
    let refused = verify(&trusted, &certificate, &[]);
    assert!(matches!(
        refused,
        Err(EndorsementTrustError::UnsupportedAlgorithm { .. })
    ));
}

#[test]
fn what_expired_is_told_apart_from_what_is_wrong() {
    let openssl = openssl();
    let root = authority(&openssl, "root", None, &format!("{AUTHORITY} -days 3000"));
    let issuer = authority(
        &openssl,
        "issuer",
        Some("root"),
        &format!("{AUTHORITY} -days 200"),
    );
    let certificate = ek(&openssl, "issuer", "-days 100");
    let trusted = EndorsementRoots::new([root.clone()], [issuer.clone()]);
    let at = |trusted: &EndorsementRoots, day: u32| {
        let when = certificate
            .validity()
            .not_before
            .checked_add(Seconds::from_days(day))
            .unwrap();
        trusted
            .verify(&certificate, certificate.public_key(), &[], when)
            .map(|_| ())
    };
    assert_eq!(at(&trusted, 99), Ok(()));
    let not_after = certificate.validity().not_after;
    assert_eq!(
        at(&trusted, 101),
        Err(EndorsementTrustError::Expired(not_after))
    );
    let expired = EndorsementTrustError::AuthorityExpired {
        subject: "CN=issuer".to_owned(),
        not_after: issuer.validity().not_after,
    };
    assert_eq!(at(&trusted, 201), Err(expired));
    let early = Time::from_unix(0);
    let refused = trusted.verify(&certificate, certificate.public_key(), &[], early);
    assert!(matches!(
        refused,
        Err(EndorsementTrustError::AuthorityNotYetValid { .. })
    ));

    // A certificate of the same authority that is still valid serves.
    openssl.run("x509 -x509toreq -in issuer.pem -signkey issuer.key -out issuer.req");
    openssl.write(
        "ca.ext",
        "basicConstraints=critical,CA:true\nkeyUsage=keyCertSign\n",
    );
    openssl.run(
        "x509 -req -in issuer.req -CA root.pem -CAkey root.key -CAcreateserial -days 900 -extfile ca.ext \
         -outform DER -out renewed.der",
    );
    let renewed = EndorsementAuthority::from_der(&openssl.read("renewed.der")).unwrap();
    let trusted = EndorsementRoots::new([root], [issuer.clone(), renewed]);
    assert_eq!(
        at(&trusted, 201),
        Err(EndorsementTrustError::Expired(not_after))
    );
    assert_eq!(at(&trusted, 99), Ok(()));

    // What is wrong besides comes first.
    let namesake = authority(&openssl, "root", None, AUTHORITY);
    let wrong = EndorsementRoots::new([namesake], [issuer.clone()]);
    assert_eq!(
        at(&wrong, 201),
        Err(EndorsementTrustError::Signature("CN=issuer".to_owned()))
    );
}

#[test]
fn authorities_keep_to_their_path_length_and_to_the_depth_of_a_path() {
    let openssl = openssl();
    let ca =
        "-addext keyUsage=critical,keyCertSign -addext basicConstraints=critical,CA:true,pathlen:";
    let root = authority(&openssl, "root", None, &format!("{ca}0"));
    let issuer = authority(&openssl, "issuer", Some("root"), AUTHORITY);
    let direct = ek(&openssl, "root", "");
    let trusted = EndorsementRoots::new([root], [issuer]);
    assert!(verify(&trusted, &direct, &[]).is_ok());
    let refused = verify(&trusted, &ek(&openssl, "issuer", ""), &[]);
    assert_eq!(
        refused,
        Err(EndorsementTrustError::PathLength("CN=root".to_owned()))
    );

    let root = authority(&openssl, "level-0", None, AUTHORITY);
    let levels: Vec<_> = (1..=MAX_PATH_INTERMEDIATES + 1)
        .map(|level| {
            let above = format!("level-{}", level - 1);
            authority(&openssl, &format!("level-{level}"), Some(&above), AUTHORITY)
        })
        .collect();
    let trusted = EndorsementRoots::new([root], levels.clone());
    let deepest = format!("level-{MAX_PATH_INTERMEDIATES}");
    assert!(verify(&trusted, &ek(&openssl, &deepest, ""), &[]).is_ok());
    let too_deep = ek(
        &openssl,
        &format!("level-{}", MAX_PATH_INTERMEDIATES + 1),
        "",
    );
    assert_eq!(
        verify(&trusted, &too_deep, &[]),
        Err(EndorsementTrustError::TooDeep)
    );
    let refused = verify(&trusted, &too_deep, &levels);
    assert_eq!(
        refused,
        Err(EndorsementTrustError::TooManyIntermediates(levels.len()))
    );
}

/// Certificates of one name and key that issued each other offer a path for every order of them.
#[test]
fn namesakes_do_not_make_the_search_long() {
    let openssl = openssl();
    authority(&openssl, "root", None, AUTHORITY);
    let stranger = authority(&openssl, "stranger", None, AUTHORITY);
    let mut rings = Vec::new();
    for name in ["one", "two"] {
        openssl.run(&format!(
            "req -config empty.cnf -x509 -nodes -batch -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN={name} -keyout {name}.key -out {name}.pem"
        ));
    }
    openssl.write(
        "ca.ext",
        "basicConstraints=critical,CA:true\nkeyUsage=keyCertSign\n",
    );
    for number in 0..6 {
        for (name, issuer) in [("one", "two"), ("two", "one")] {
            openssl.run(&format!(
                "x509 -x509toreq -in {name}.pem -signkey {name}.key -out request"
            ));
            openssl.run(&format!(
                "x509 -req -in request -CA {issuer}.pem -CAkey {issuer}.key -set_serial {number} -days 900 \
                 -extfile ca.ext -outform DER -out ring.der"
            ));
            rings.push(EndorsementAuthority::from_der(&openssl.read("ring.der")).unwrap());
        }
    }
    let certificate = ek(&openssl, "one", "");
    let trusted = EndorsementRoots::new([stranger], rings);
    let refused = verify(&trusted, &certificate, &[]);
    assert_eq!(refused, Err(EndorsementTrustError::TooManyPaths));
}

#[test]
fn what_is_no_authority_for_tpms_can_t_be_added() {
    let openssl = openssl();
    let read =
        |options: &str| EndorsementAuthority::from_der(&certificate(&openssl, "ca", None, options));
    let name = || "CN=ca".to_owned();
    let unknown = ObjectIdentifier::new("1.3.6.1.4.1.32473.1").unwrap();
    let constrained = format!("{AUTHORITY} -addext nameConstraints=permitted;DNS:example.com");
    let other_purpose = format!("{AUTHORITY} -addext extendedKeyUsage=serverAuth");
    let critical = format!("{AUTHORITY} -addext 1.3.6.1.4.1.32473.1=critical,DER:0500");
    let short = format!("{AUTHORITY} -newkey rsa:1024");
    let curve = format!("{AUTHORITY} -newkey ec -pkeyopt ec_paramgen_curve:secp256k1");
    let elliptic = ObjectIdentifier::new("1.2.840.10045.2.1").unwrap();
    for (options, expected) in [
        (
            "-addext basicConstraints=CA:false",
            EndorsementAuthorityError::NotAuthority(name()),
        ),
        (
            "-addext basicConstraints=CA:true -addext keyUsage=digitalSignature",
            EndorsementAuthorityError::NotAuthority(name()),
        ),
        (
            "-addext subjectKeyIdentifier=hash",
            EndorsementAuthorityError::NotAuthority(name()),
        ),
        (
            &constrained,
            EndorsementAuthorityError::NameConstraints(name()),
        ),
        (
            &other_purpose,
            EndorsementAuthorityError::ExtendedKeyUsage(name()),
        ),
        (
            &critical,
            EndorsementAuthorityError::UnknownCriticalExtension {
                subject: name(),
                oid: unknown,
            },
        ),
        (
            &short,
            CertificateError::Key(PublicKeyError::ModulusBits(1024)).into(),
        ),
        (&curve, CertificateError::UnsupportedKey(elliptic).into()),
    ] {
        assert_eq!(read(options), Err(expected), "{options}");
    }
    assert!(
        read(&format!(
            "{AUTHORITY} -addext extendedKeyUsage=2.23.133.8.1"
        ))
        .is_ok()
    );

    // An old root without basic constraints, and one of version 1, are roots and nothing else.
    let old = "-addext keyUsage=critical,keyCertSign";
    let root = authority(&openssl, "old", None, old);
    let certificate = ek(&openssl, "old", "");
    assert!(verify(&EndorsementRoots::new([root], []), &certificate, &[]).is_ok());
    let top = authority(&openssl, "top", None, AUTHORITY);
    let issuer = authority(&openssl, "old", Some("top"), old);
    let certificate = ek(&openssl, "old", "");
    let refused = verify(&EndorsementRoots::new([top], [issuer]), &certificate, &[]);
    assert_eq!(
        refused,
        Err(EndorsementTrustError::NotIntermediate("CN=old".to_owned()))
    );
    let version_1 = EndorsementAuthority::list_from_octets(include_bytes!("data/version-1.pem"));
    assert_eq!(version_1.unwrap().len(), 1);
}

#[test]
fn a_file_holds_any_number_of_authorities() {
    let openssl = openssl();
    let one = authority(&openssl, "one", None, AUTHORITY);
    let two = authority(&openssl, "two", None, AUTHORITY);
    let block = |one: &EndorsementAuthority| pem::encode("CERTIFICATE", one.der());
    let read = |octets: &[u8]| EndorsementAuthority::list_from_octets(octets);
    let bundle = format!("# makers\n{}{}", block(&one), block(&two)).repeat(40);
    let expected = vec![[one.clone(), two]; 40].concat();
    assert_eq!(read(bundle.as_bytes()), Ok(expected));
    assert_eq!(read(one.der()), Ok(vec![one.clone()]));
    let none = read(pem::encode("PUBLIC KEY", b"0").as_bytes());
    assert_eq!(none, Err(PemError::NoCertificate.into()));
    assert!(matches!(
        read(b"not a certificate"),
        Err(EndorsementAuthorityError::Certificate(_))
    ));
}

#[test]
fn no_mutation_of_a_certificate_makes_it_panic() {
    let openssl = openssl();
    let root = authority(&openssl, "root", None, AUTHORITY);
    let certificate = ek(&openssl, "root", "");
    let padded = [certificate.der(), &[0xff; 40]].concat();
    let corpus = [
        padded,
        certificate.to_pem().into_bytes(),
        root.der().to_vec(),
    ];
    corpus
        .iter()
        .for_each(|octets| fuzzing::fuzz_endorsement(octets));
    for octets in Mutations::of(
        &corpus,
        &[&[0xff; 4], &[0; 4], b"\x06\x03\x55\x1d", b"-----"],
    )
    .take(5_000)
    {
        fuzzing::fuzz_endorsement(&octets);
    }
}
