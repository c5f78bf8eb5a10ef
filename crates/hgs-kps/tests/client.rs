//! What a host checks before it seals anything again: a forged or swapped answer must not cost the virtual machine.

mod common;

use common::{Member, Service, guardian, pending, protector, random, transport_key};
use hgs_crypto::{SecretBytes, aes};
use hgs_kps::wire::{Algorithms, ResponseError, RollTransportKeyResponse};
use hgs_kps::{Authenticity, Caches, ClientError, PendingRoll, Released, ServiceVersion};
use hgs_protector::suite::WrappingKeyEncryption;
use hgs_protector::transport_key_blob::{BlobError, BlobVersion, TransportKeyBlob};
use hgs_protector::{ProtectorError, TransportKey, VerifiedProtector, WrappingId};
use hgs_testkit::fixtures::{Forge, ForgedWrapping, Guardian, Host, Keys, key_octets};

fn host() -> Host {
    Host::numbered(0)
}

fn owner() -> &'static Guardian {
    guardian("owner")
}

fn fabric() -> &'static Guardian {
    guardian("fabric")
}

fn ingress() -> VerifiedProtector {
    protector(owner(), &[fabric()])
}

fn receive(pending: PendingRoll, answer: &[u8]) -> Result<Released, ClientError> {
    let mut keys = Keys::default();
    keys.hold(&host().healthy(), &host().key);
    pending.receive(
        answer,
        Authenticity::DangerouslyUnsigned,
        &Caches::new(16),
        &mut &keys,
    )
}

fn key(octet: u8) -> TransportKey {
    TransportKey::from_secret(SecretBytes::from(&key_octets(octet)[..])).unwrap()
}

/// What an attacker can send who knows the host's certificate, as all do.
struct Forged {
    egress: String,
    blob: SecretBytes,
}

impl Forged {
    /// An answer that holds: the right ingress key, and a protector of `egress_key` by whoever.
    fn new(egress: String, egress_key: TransportKey) -> Self {
        let blob = TransportKeyBlob {
            ingress_key: transport_key(),
            egress_key,
            version: BlobVersion::V2 { caching: None },
        };
        Self {
            egress,
            blob: blob.to_secret(),
        }
    }

    fn answer(&self) -> Vec<u8> {
        self.answer_under([key_octets(1), key_octets(2)])
    }

    /// The answer under these two keys, the transfer key and the wrapping key.
    fn answer_under(&self, keys: [[u8; 32]; 2]) -> Vec<u8> {
        let mut random = random();
        let [transfer_key, wrapping_key] = keys.map(|octets| SecretBytes::from(&octets[..]));
        let certificate = host().healthy();
        let to_host = certificate.public_key();
        let mut seal = |key: &SecretBytes, plain: &SecretBytes| {
            aes::gcm_seal(key, b"", plain.expose(), &mut random).unwrap()
        };
        let response = RollTransportKeyResponse {
            egress_protector: self.egress.clone().into_bytes(),
            encrypted_transfer_key: to_host
                .encrypt_oaep(hgs_crypto::rsa::OaepHash::Sha256, &transfer_key)
                .unwrap(),
            encrypted_wrapping_key: seal(&transfer_key, &wrapping_key),
            encrypted_transport_keys: seal(&wrapping_key, &self.blob),
        };
        response.to_xml()
    }

    fn received(&self) -> Result<Released, ClientError> {
        receive(
            pending(&ingress(), &host(), ServiceVersion::V2),
            &self.answer(),
        )
    }
}

/// A protector of the key 9 for the same people.
fn egress() -> Forge {
    Forge::new(owner(), &[fabric()], key_octets(9))
}

#[test]
fn an_answer_that_holds_is_taken() {
    let released = Forged::new(egress().seal(owner()), key(9))
        .received()
        .unwrap();
    assert_eq!(released.ingress_key, transport_key());
    assert_eq!(released.egress_key, key(9));
}

/// A guardian without randomness: what it sends can be read by everybody.
#[test]
fn keys_that_are_not_random() {
    let forged = Forged::new(egress().seal(owner()), key(9));
    for encrypted_under in [[1; 32], [0; 32]] {
        for keys in [
            [encrypted_under, key_octets(2)],
            [key_octets(1), encrypted_under],
        ] {
            let answer = forged.answer_under(keys);
            let received = receive(pending(&ingress(), &host(), ServiceVersion::V2), &answer);
            assert_eq!(received.unwrap_err(), ClientError::NotRandom);
        }
    }
    let degenerate = Forge::new(owner(), &[fabric()], [9; 32]).seal(owner());
    let mut forged = Forged::new(degenerate, key(9));
    let mut blob = forged.blob.expose().to_vec();
    blob[48..80].fill(9);
    forged.blob = SecretBytes::new(blob);
    let error = forged.received().unwrap_err();
    assert!(
        matches!(error, ClientError::Blob(BlobError::Key(_))),
        "{error}"
    );
}

#[test]
fn another_ingress_key() {
    let blob = TransportKeyBlob {
        ingress_key: key(8),
        egress_key: key(9),
        version: BlobVersion::V2 { caching: None },
    };
    let forged = Forged {
        egress: egress().seal(owner()),
        blob: blob.to_secret(),
    };
    assert_eq!(forged.received().unwrap_err(), ClientError::IngressKey);
}

#[test]
fn an_egress_key_that_is_not_in_the_egress_protector() {
    let forged = Forged::new(egress().seal(owner()), key(8));
    assert_eq!(forged.received().unwrap_err(), ClientError::EgressKey);
}

#[test]
fn an_egress_protector_that_does_not_hold() {
    let forged = Forged::new(egress().seal(fabric()), key(9));
    let id = WrappingId::new(1);
    assert_eq!(
        forged.received().unwrap_err(),
        ClientError::Egress(ProtectorError::GuardianSignature { id })
    );
    let forged = Forged::new("<a/>".to_owned(), key(9));
    assert!(matches!(forged.received(), Err(ClientError::Egress(_))));
}

#[test]
fn an_egress_protector_of_another_owner() {
    let stranger = guardian("stranger");
    let theirs = Forge::new(stranger, &[owner(), fabric()], key_octets(9));
    let forged = Forged::new(theirs.seal(stranger), key(9));
    assert_eq!(forged.received().unwrap_err(), ClientError::Owner);
}

#[test]
fn an_egress_protector_that_lacks_a_guardian() {
    let forged = Forged::new(
        Forge::new(owner(), &[], key_octets(9)).seal(owner()),
        key(9),
    );
    let id = WrappingId::new(2);
    assert_eq!(
        forged.received().unwrap_err(),
        ClientError::GuardianMissing { id }
    );
    // Half of a guardian is not the guardian.
    let tenant = guardian("tenant");
    let half = Guardian::from_parts(
        "half",
        (fabric().signing.clone(), fabric().signing_key.clone()),
        (tenant.encryption.clone(), tenant.encryption_key.clone()),
    );
    let forged = Forged::new(
        Forge::new(owner(), &[&half], key_octets(9)).seal(owner()),
        key(9),
    );
    assert_eq!(
        forged.received().unwrap_err(),
        ClientError::GuardianMissing { id }
    );
    // Someone more is the service's to decide.
    let more = Forge::new(owner(), &[fabric(), tenant], key_octets(9));
    assert!(Forged::new(more.seal(owner()), key(9)).received().is_ok());
}

/// Whoever holds the ingress key can send the ingress protector back, or another one of the same key.
#[test]
fn an_answer_that_rolls_nothing() {
    let sent = ingress();
    let back = String::from_utf8(sent.octets().to_vec()).unwrap();
    let answer = Forged::new(back, transport_key()).answer();
    let error = receive(pending(&sent, &host(), ServiceVersion::V2), &answer).unwrap_err();
    assert_eq!(error, ClientError::SameProtector);

    let same_key = Forge::new(owner(), &[fabric()], key_octets(7)).seal(owner());
    let forged = Forged::new(same_key, transport_key());
    assert_eq!(forged.received().unwrap_err(), ClientError::SameKey);
}

#[test]
fn more_than_one_appended_wrapping() {
    let (tenant, stranger) = (guardian("tenant"), guardian("stranger"));
    let more = Forge::new(owner(), &[fabric(), tenant, stranger], key_octets(9));
    let forged = Forged::new(more.seal(owner()), key(9));
    assert_eq!(
        forged.received().unwrap_err(),
        ClientError::AppendedTooMany { appended: 2 }
    );
}

/// Only the guardian that opened appends, so the appended wrapping is under the one that signs, or signs itself.
#[test]
fn an_appended_wrapping_under_another_parent() {
    let tenant = guardian("tenant");
    let appended_below_the_fabric = |signing_wrapping: u32| {
        let mut forge = egress();
        let wrapping = ForgedWrapping::new(3, tenant, 2, fabric(), &key_octets(9));
        forge.wrappings.push(wrapping);
        forge.guardian = signing_wrapping.to_string();
        forge
    };
    let elsewhere = Forged::new(appended_below_the_fabric(1).seal(owner()), key(9));
    let id = WrappingId::new(3);
    assert_eq!(
        elsewhere.received().unwrap_err(),
        ClientError::AppendedElsewhere { id }
    );
    for (signing_wrapping, signer) in [(2, fabric()), (3, tenant)] {
        let egress = appended_below_the_fabric(signing_wrapping).seal(signer);
        assert!(Forged::new(egress, key(9)).received().is_ok());
    }
}

/// The same guardians under other Ids, or in another order, are not what a roll makes.
#[test]
fn wrappings_that_are_moved() {
    let mut forge = egress();
    forge.wrappings[1].id = "7".to_owned();
    let id = WrappingId::new(2);
    let forged = Forged::new(forge.seal(owner()), key(9));
    assert_eq!(
        forged.received().unwrap_err(),
        ClientError::GuardianMissing { id }
    );
}

#[test]
fn keys_in_another_form() {
    let blob = TransportKeyBlob {
        ingress_key: transport_key(),
        egress_key: key(9),
        version: BlobVersion::V1,
    };
    let forged = |blob: SecretBytes| Forged {
        egress: egress().seal(owner()),
        blob,
    };
    assert_eq!(
        forged(blob.to_secret()).received().unwrap_err(),
        ClientError::Version {
            expected: ServiceVersion::V2
        }
    );
    let mut longer = blob.to_secret().expose().to_vec();
    longer.push(0);
    assert_eq!(
        forged(SecretBytes::new(longer)).received().unwrap_err(),
        ClientError::Blob(BlobError::Size(81))
    );
}

/// Whatever is changed in the layers, it is one error.
#[test]
fn every_layer_is_authentic() {
    let good = Forged::new(egress().seal(owner()), key(9));
    let response = RollTransportKeyResponse::from_xml(&good.answer()).unwrap();
    let layers: [fn(&mut RollTransportKeyResponse) -> &mut Vec<u8>; 3] = [
        |response| &mut response.encrypted_transfer_key,
        |response| &mut response.encrypted_wrapping_key,
        |response| &mut response.encrypted_transport_keys,
    ];
    for layer in layers {
        for place in [0, 11, 12, 27, 40, usize::MAX] {
            let mut tampered = response.clone();
            let octets = layer(&mut tampered);
            let place = place.min(octets.len() - 1);
            octets[place] ^= 1;
            let pending = pending(&ingress(), &host(), ServiceVersion::V2);
            let error = receive(pending, &tampered.to_xml()).unwrap_err();
            assert_eq!(error, ClientError::Decryption);
        }
        let mut short = response.clone();
        layer(&mut short).truncate(5);
        let pending = pending(&ingress(), &host(), ServiceVersion::V2);
        assert_eq!(
            receive(pending, &short.to_xml()).unwrap_err(),
            ClientError::Decryption
        );
    }
}

/// An answer in another algorithm than was asked for is not guessed at.
#[test]
fn an_answer_in_another_algorithm() {
    let algorithms = Algorithms {
        wrapping_key: WrappingKeyEncryption::KwAes256,
        ..Algorithms::default()
    };
    let pending = PendingRoll::new(ingress(), host().healthy(), algorithms, ServiceVersion::V2);
    let answer = Forged::new(egress().seal(owner()), key(9)).answer();
    assert_eq!(
        receive(pending, &answer).unwrap_err(),
        ClientError::Decryption
    );
}

#[test]
fn bodies_that_are_no_responses() {
    let good = String::from_utf8(Forged::new(egress().seal(owner()), key(9)).answer()).unwrap();
    for body in [
        String::new(),
        good.replace("Response", "Request"),
        good.replace("<EgressProtector>", "<EgressProtector>*"),
        good.replace("<EgressProtector>", "<!-- --><EgressProtector>"),
        good.replace("<EncryptedWrappingKey>", "<EncryptedWrappingKey a=\"1\">"),
        good.clone() + "x",
    ] {
        let pending = pending(&ingress(), &host(), ServiceVersion::V2);
        let error = receive(pending, body.as_bytes()).unwrap_err();
        assert!(matches!(error, ClientError::Response(_)), "{error}");
    }
    let pending = pending(&ingress(), &host(), ServiceVersion::V2);
    let empty = good.replace(
        "<EncryptedWrappingKey>",
        "<EncryptedWrappingKey></EncryptedWrappingKey><a>",
    );
    assert!(matches!(
        receive(pending, empty.as_bytes()).unwrap_err(),
        ClientError::Response(ResponseError::Xml(_))
    ));
}

/// The answer to another request of the same host: its ingress key is another.
#[test]
fn an_answer_to_another_request() {
    let service = Service::new(&[Member::fabric("fabric").head()]);
    let first = service.power_on(&ingress()).unwrap();
    let earlier = pending(&ingress(), &host(), ServiceVersion::V2);
    let answer = service
        .answer(&earlier.request(), ServiceVersion::V2)
        .unwrap();
    let now = pending(&first.egress, &host(), ServiceVersion::V2);
    assert_eq!(receive(now, &answer).unwrap_err(), ClientError::IngressKey);
}
