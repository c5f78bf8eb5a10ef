//! Reading and verifying protectors, by number of wrappings.

use hgs_crypto::random::System;
use hgs_crypto::rsa::SignatureScheme;
use hgs_pki::{CertificateCache, SignatureCache};
use hgs_protector::{Protector, TransportKey, VerifiedProtector, create};
use hgs_testkit::fixtures::{Guardian, Keys};

use crate::measure::{Effort, Table, compare};

pub(crate) fn by_number_of_wrappings(effort: Effort, table: &mut Table) {
    for wrappings in [1, 2, 4, 6] {
        let protector = protector(wrappings);
        let owner = Guardian::named("owner");
        let message = vec![b'x'; protector.octets().len()];
        let signature = owner.sign(&message);
        let verify = |times: usize| {
            for _ in 0..times {
                let key = owner.signing.public_key();
                assert!(
                    key.verify(SignatureScheme::Pkcs1Sha256, &message, &signature)
                        .is_ok()
                );
            }
        };
        let certificates = CertificateCache::new(64);
        let signatures = SignatureCache::new(128);
        let read = |signatures: &SignatureCache| {
            let protector = Protector::read(protector.octets(), &certificates);
            assert!(
                protector
                    .and_then(|protector| protector.verify(signatures))
                    .is_ok()
            );
        };
        let figure = compare(effort, || verify(1), || read(&signatures));
        table.add(
            format!("parse and verify {wrappings} wrappings, caches warm"),
            figure,
        );
        let floor = || verify(1 + 2 * wrappings);
        let figure = compare(effort, floor, || read(&SignatureCache::new(128)));
        table.add(
            format!("parse and verify {wrappings} wrappings, no signature seen before"),
            figure,
        );
    }
}

fn protector(wrappings: usize) -> VerifiedProtector {
    let owner = Guardian::named("owner");
    let others = ["fabric", "fabric-next", "tenant", "tenant-next", "stranger"];
    let guardians = others
        .iter()
        .take(wrappings - 1)
        .map(|name| Guardian::named(name).certificates.clone())
        .collect::<Vec<_>>();
    let key = TransportKey::random(&mut System::new()).expect("the system has randomness");
    let keys = Keys::of(&[owner]);
    create(&owner.certificates, &guardians, &key, &mut &keys).expect("different guardians")
}
