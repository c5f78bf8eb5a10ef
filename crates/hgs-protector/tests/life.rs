//! The life of a protector: created, granted, opened, rolled, revoked.

mod common;

use std::collections::BTreeSet;

use common::{opened, protector, random, rolled, successor, transport_key, verify};
use hgs_protector::suite::KeyEncryption;
use hgs_protector::{
    CannotOpen, GuardianCertificates, OpenError, RollPlan, SealError, Signer, Successor,
    VerifiedProtector, WrappingId, create, grant, open, revoke, roll,
};
use hgs_testkit::fixtures::{Guardian, Keys};

fn ids(protector: &VerifiedProtector) -> Vec<(u32, u32)> {
    protector
        .wrappings()
        .iter()
        .map(|wrapping| (wrapping.id().number(), wrapping.parent().number()))
        .collect()
}

#[test]
fn what_was_created_is_read_again_and_opens_for_everybody_in_it() {
    let [owner, fabric, tenant] = ["owner", "fabric", "tenant"].map(Guardian::named);
    let made = protector(owner, &[fabric, tenant]);
    let read = verify(made.octets()).unwrap();
    assert_eq!(read, made);
    assert_eq!(read.digest(), made.digest());
    assert_eq!(ids(&read), [(1, 1), (2, 1), (3, 1)]);
    assert_eq!(read.owner().signing_certificate(), &owner.signing);
    assert_eq!(read.guardian().id(), WrappingId::new(1));
    assert_eq!(read.max_offline_unwraps(), 0);
    for guardian in [owner, fabric, tenant] {
        assert_eq!(opened(&read, guardian).transport_key(), &transport_key(7));
    }
    let stranger = Guardian::named("stranger");
    let nobody = open(&read, &[stranger.held()], &mut &Keys::of(&[stranger]));
    assert_eq!(nobody.unwrap_err(), OpenError::NoWrapping);
    assert!(read.check_transport_key(&transport_key(7)).is_ok());
    assert_eq!(read.check_transport_key(&transport_key(8)), Err(CannotOpen));
}

#[test]
fn a_roll_keeps_everybody_and_changes_the_key() {
    let [owner, fabric, tenant] = ["owner", "fabric", "tenant"].map(Guardian::named);
    let ingress = protector(owner, &[fabric, tenant]);
    let rolled = rolled(&ingress, fabric, RollPlan::default(), &[fabric]);
    assert_eq!(rolled.ingress.transport_key(), &transport_key(7));
    assert_ne!(rolled.egress_key, transport_key(7));

    let egress = verify(rolled.egress.octets()).unwrap();
    assert_eq!(ids(&egress), ids(&ingress));
    assert_eq!(egress.guardian().id(), WrappingId::new(2));
    assert_ne!(egress.digest(), ingress.digest());
    assert!(egress.check_transport_key(&rolled.egress_key).is_ok());
    assert!(egress.check_transport_key(&transport_key(7)).is_err());
    for guardian in [owner, fabric, tenant] {
        let key = opened(&egress, guardian).into_transport_key();
        assert_eq!(key, rolled.egress_key);
    }
}

#[test]
fn a_roll_keeps_the_algorithm_of_each_wrapping() {
    let [owner, fabric] = ["owner", "fabric"].map(Guardian::named);
    let keys = Keys::of(&[owner, fabric]);
    let old_token = GuardianCertificates::certify(
        fabric.signing.clone(),
        fabric.encryption.clone(),
        KeyEncryption::RsaOaepMgf1p,
        &mut &keys,
    )
    .unwrap();
    let key = transport_key(7);
    let ingress = create(&owner.certificates, &[old_token], &key, &mut &keys).unwrap();
    let egress = rolled(&ingress, owner, RollPlan::default(), &[owner]).egress;
    let egress = verify(egress.octets()).unwrap();
    let algorithms: Vec<_> = egress
        .wrappings()
        .iter()
        .map(|wrapping| wrapping.transport_key().encryption)
        .collect();
    assert_eq!(
        algorithms,
        [KeyEncryption::RsaOaep, KeyEncryption::RsaOaepMgf1p]
    );
    opened(&egress, fabric);
}

#[test]
fn a_successor_is_appended_under_the_wrapping_that_opened() {
    let [owner, fabric, next] = ["owner", "fabric", "fabric-next"].map(Guardian::named);
    let ingress = protector(owner, &[fabric]);
    let plan = RollPlan {
        successor: Some(successor(next, fabric)),
        ..RollPlan::default()
    };
    let first = rolled(&ingress, fabric, plan, &[fabric]);
    let egress = verify(first.egress.octets()).unwrap();
    assert_eq!(ids(&egress), [(1, 1), (2, 1), (3, 2)]);
    assert_eq!(opened(&egress, next).into_transport_key(), first.egress_key);

    // The signature that vouches for the successor is the same for every protector: one serves all.
    let endorsement = egress.wrappings()[2]
        .signing_certificate_signature()
        .clone();
    let plan = RollPlan {
        successor: Some(Successor {
            guardian: next.certificates.clone(),
            endorsement,
        }),
        ..RollPlan::default()
    };
    let keys = Keys::of(&[fabric]);
    let second = roll(opened(&ingress, fabric), plan, &mut &keys, &mut random()).unwrap();
    assert_eq!(keys.signatures(), 1);
    assert_eq!(ids(&verify(second.egress.octets()).unwrap()), ids(&egress));
}

/// A key store that signs badly, or an endorsement that was kept for another, makes no protector that nobody would open.
#[test]
fn an_endorsement_of_another_is_not_put_into_a_protector() {
    let [owner, fabric, next] = ["owner", "fabric", "fabric-next"].map(Guardian::named);
    let stranger = Guardian::named("stranger");
    for other in [successor(stranger, fabric), successor(next, stranger)] {
        let plan = RollPlan {
            successor: Some(Successor {
                guardian: next.certificates.clone(),
                endorsement: other.endorsement,
            }),
            ..RollPlan::default()
        };
        let opened = opened(&protector(owner, &[fabric]), fabric);
        let keys = Keys::of(&[fabric]);
        let refused = roll(opened, plan, &mut &keys, &mut random()).unwrap_err();
        let certificate = fabric.signing.thumbprint();
        assert_eq!(refused, SealError::Signature { certificate });
    }
}

#[test]
fn protectors_are_the_same_if_their_octets_are() {
    let [owner, fabric, next] = ["owner", "fabric", "fabric-next"].map(Guardian::named);
    let one = protector(owner, &[fabric]);
    assert_eq!(verify(one.octets()).unwrap(), one);
    assert_ne!(protector(owner, &[next]), one);
}

#[test]
fn who_is_shut_out_keeps_the_place_and_loses_the_key() {
    let [owner, fabric, next] = ["owner", "fabric", "fabric-next"].map(Guardian::named);
    let plan = RollPlan {
        successor: Some(successor(next, fabric)),
        shut_out: BTreeSet::from([WrappingId::new(2)]),
        signer: Signer::Successor,
    };
    let rolled = rolled(&protector(owner, &[fabric]), fabric, plan, &[fabric, next]);
    let egress = verify(rolled.egress.octets()).unwrap();
    assert_eq!(ids(&egress), [(1, 1), (2, 1), (3, 2)]);
    assert_eq!(egress.guardian().id(), WrappingId::new(3));
    let refused = open(&egress, &[fabric.held()], &mut &Keys::of(&[fabric]));
    assert_eq!(refused.unwrap_err(), OpenError::CannotOpen(CannotOpen));
    for guardian in [owner, next] {
        assert_eq!(
            opened(&egress, guardian).into_transport_key(),
            rolled.egress_key
        );
    }
}

#[test]
fn the_owner_grants_and_revokes_and_the_key_stays() {
    let [owner, fabric, tenant] = ["owner", "fabric", "tenant"].map(Guardian::named);
    let made = protector(owner, &[fabric]);
    let keys = Keys::of(&[owner]);
    let keys = &mut &keys;
    let granted = grant(&opened(&made, owner), &tenant.certificates, keys).unwrap();
    let granted = verify(granted.octets()).unwrap();
    assert_eq!(ids(&granted), [(1, 1), (2, 1), (3, 1)]);
    assert_eq!(opened(&granted, tenant).transport_key(), &transport_key(7));
    // Nobody's wrapping is touched but the new one.
    for (before, after) in made.wrappings().iter().zip(granted.wrappings()) {
        assert_eq!(before.transport_key(), after.transport_key());
    }

    let revoked = revoke(&opened(&granted, owner), WrappingId::new(2), keys).unwrap();
    let revoked = verify(revoked.octets()).unwrap();
    assert_eq!(ids(&revoked), [(1, 1), (3, 1)]);
    assert_eq!(
        open(&revoked, &[fabric.held()], keys).unwrap_err(),
        OpenError::NoWrapping
    );
    assert_eq!(opened(&revoked, tenant).transport_key(), &transport_key(7));
}

#[test]
fn revoking_takes_all_that_descend() {
    let [owner, fabric, next] = ["owner", "fabric", "fabric-next"].map(Guardian::named);
    let plan = RollPlan {
        successor: Some(successor(next, fabric)),
        ..RollPlan::default()
    };
    let rolled = rolled(&protector(owner, &[fabric]), fabric, plan, &[fabric]).egress;
    let keys = Keys::of(&[owner]);
    let revoked = revoke(&opened(&rolled, owner), WrappingId::new(2), &mut &keys).unwrap();
    assert_eq!(ids(&verify(revoked.octets()).unwrap()), [(1, 1)]);
}

#[test]
fn what_the_owner_alone_may_do_nobody_else_does() {
    let [owner, fabric, tenant] = ["owner", "fabric", "tenant"].map(Guardian::named);
    let made = protector(owner, &[fabric]);
    let keys = Keys::of(&[owner, fabric]);
    let keys = &mut &keys;
    let id = WrappingId::new(2);
    let error = grant(&opened(&made, fabric), &tenant.certificates, keys).unwrap_err();
    assert_eq!(error, SealError::NotOwner { id });
    let error = revoke(&opened(&made, fabric), id, keys).unwrap_err();
    assert_eq!(error, SealError::NotOwner { id });
    let error = revoke(&opened(&made, owner), WrappingId::new(1), keys).unwrap_err();
    assert_eq!(error, SealError::OwnerStays);
    let id = WrappingId::new(9);
    let error = revoke(&opened(&made, owner), id, keys).unwrap_err();
    assert_eq!(error, SealError::NoSuchWrapping { id });
    let error = grant(&opened(&made, owner), &fabric.certificates, keys).unwrap_err();
    let id = WrappingId::new(2);
    assert_eq!(error, SealError::DuplicateGuardian { id });
}

/// A token that answers with a signature by another key must not cost the virtual machine.
#[test]
fn a_wrong_signature_of_the_key_store_is_noticed() {
    let [owner, fabric] = ["owner", "fabric"].map(Guardian::named);
    let ingress = protector(owner, &[fabric]);
    let mut wrong = Keys::default();
    wrong.hold(&fabric.signing, &owner.signing_key);
    let plan = RollPlan::default();
    let refused = roll(opened(&ingress, fabric), plan, &mut &wrong, &mut random());
    let certificate = fabric.signing.thumbprint();
    assert_eq!(refused.unwrap_err(), SealError::Signature { certificate });
}

#[test]
fn heads_are_tried_first_and_at_most_four_wrappings() {
    let [owner, fabric, tenant] = ["owner", "fabric", "tenant"].map(Guardian::named);
    let made = protector(owner, &[fabric, tenant]);
    let keys = Keys::of(&[owner, fabric, tenant]);
    let opened = open(&made, &[fabric.held(), tenant.head()], &mut &keys).unwrap();
    assert_eq!(opened.wrapping().id(), WrappingId::new(3));
    assert_eq!(keys.decryptions(), 1);
}
