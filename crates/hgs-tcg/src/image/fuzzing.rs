//! Bodies for fuzzing: they take any octets, and panic only if this module is wrong.

use super::{OwnMokVariables, PeImage, SbatEntry, Shim, SignatureList, SystemdStub, VariableData};

/// [`PeImage::parse`], and everything that reads an image.
pub fn fuzz_image(data: &[u8]) {
    let Ok(image) = PeImage::parse(data) else {
        return;
    };
    let digests = image.authenticode_sha256();
    let signed = !image.certificates().is_empty();
    assert!(!signed || digests.once_signed.is_none());
    let sections: usize = image
        .sections()
        .iter()
        .map(|section| section.raw().len())
        .sum();
    assert!(sections < data.len(), "sections do not overlap");
    let _ = SbatEntry::of_image(&image);
    if let Ok(stub) = SystemdStub::of_image(&image) {
        assert_eq!(stub.events().len(), 2 * stub.section_names().count());
    }
    if let Ok(shim) = Shim::of_image(&image) {
        let own = OwnMokVariables::default();
        for level in [shim.previous_sbat_level(), shim.latest_sbat_level()] {
            assert_eq!(shim.events(level, &own).map(|events| events.len()), Ok(4));
        }
        assert!(SignatureList::parse_database(&shim.mok_list(&own)).is_ok());
        assert!(SignatureList::parse_database(&shim.mok_list_x(&own)).is_ok());
        let _ = shim.authorities();
    }
}

/// [`SignatureList::parse_database`].
pub fn fuzz_signature_database(data: &[u8]) {
    let Ok(lists) = SignatureList::parse_database(data) else {
        return;
    };
    let again: Vec<_> = lists.iter().flat_map(SignatureList::octets).collect();
    assert_eq!(again, data);
    for list in lists {
        assert_eq!(list.signatures().len(), list.signatures().count());
    }
}

/// [`VariableData::parse`].
pub fn fuzz_variable_data(data: &[u8]) {
    if let Ok(variable) = VariableData::parse(data) {
        assert_eq!(variable.octets(), data);
        let made = VariableData::new(variable.vendor(), variable.name(), variable.data());
        assert_eq!(made, Ok(variable));
    }
}
