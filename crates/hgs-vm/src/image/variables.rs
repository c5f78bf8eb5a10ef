//! The variables of UEFI firmware, as EDK2 keeps them in flash (MdeModulePkg, VariableFormat.h): Secure Boot keys are
//! written into the empty store that OVMF comes with.

use hgs_pki::issue::Template;
use hgs_pki::{Certificate, KeyUsage, ObjectIdentifier, Validity};
use hgs_tcg::event_log::Guid;
use hgs_tcg::image::{
    PredictedEvent, SignatureData, SignatureList, SignatureListError, VariableData,
    VariableDataError,
};

/// Octets of the largest store: OVMF's has 528 KiB.
pub const LIMIT: usize = 4 << 20;
/// Variables in a store, at most.
const MOST_VARIABLES: usize = 4096;

const VOLUME_SIGNATURE: &[u8; 4] = b"_FVH";
/// gEfiSystemNvDataFvGuid.
const NV_DATA: Guid = Guid::new(
    0xfff1_2b8d,
    0x7696,
    0x4c8b,
    [0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50],
);
/// gEfiAuthenticatedVariableGuid.
const AUTHENTICATED_STORE: Guid = Guid::new(
    0xaaf3_2c78,
    0x947b,
    0x439a,
    [0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92],
);
/// gEfiSecureBootEnableDisableGuid.
const SECURE_BOOT_ENABLE: Guid = Guid::new(
    0xf0a3_0bc7,
    0xaf08,
    0x4556,
    [0x99, 0xc4, 0x00, 0x10, 0x09, 0xc9, 0x3a, 0x44],
);
/// id-kp-codeSigning of RFC 5280.
const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
const STORE_HEADER: usize = 28;
const VARIABLE_HEADER: usize = 60;
const START: [u8; 2] = [0xaa, 0x55];
const ADDED: u8 = 0x3f;
/// Kept, seen by boot services.
const BOOT: u32 = 0x3;
/// Kept, seen by boot and run-time services, changed with a signature and a later time.
const AUTHENTICATED: u32 = 0x27;
/// EFI_TIME of the keys: a signed update has to be later. 2020-01-01.
const TIME: [u8; 16] = [0xe4, 0x07, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The keys of Secure Boot.
#[derive(Debug, Clone, Copy)]
pub struct SecureBootKeys<'a> {
    /// Whose they are: the owner GUID of their entries.
    pub owner: Guid,
    /// May change KEK.
    pub platform_key: &'a Certificate,
    /// May change db.
    pub key_exchange_key: &'a Certificate,
    /// Verifies what is started.
    pub signature: &'a Certificate,
}

/// What a key of Secure Boot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecureBootRole {
    /// PK.
    PlatformKey,
    /// KEK.
    KeyExchangeKey,
    /// db.
    Signature,
}

impl SecureBootRole {
    /// What its certificate says.
    #[must_use]
    pub fn template(self, owner: &str, validity: Validity) -> Template {
        let role = match self {
            Self::PlatformKey => "Platform Key",
            Self::KeyExchangeKey => "Key Exchange Key",
            Self::Signature => "Signature",
        };
        Template {
            common_name: format!("Secure Boot {role} ({owner})"),
            validity,
            key_usage: KeyUsage::DIGITAL_SIGNATURE,
            extended_key_usage: match self {
                Self::Signature => vec![CODE_SIGNING],
                Self::PlatformKey | Self::KeyExchangeKey => Vec::new(),
            },
            certificate_authority: false,
            extensions: Vec::new(),
        }
    }
}

/// Why a store can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VariableStoreError {
    /// It is no store of authenticated variables.
    #[error("the firmware's variables can't be read: {0}")]
    Malformed(&'static str),
    /// Secure Boot keys are in it.
    #[error("the firmware's variables have a platform key already")]
    HasPlatformKey,
    /// Secure Boot is off.
    #[error("the firmware's variables have no platform key, or Secure Boot is off in them")]
    NoSecureBoot,
    /// Several keys could have verified the image.
    #[error(
        "db has not one certificate but several or none, so which one verifies the image can't be told: take the log of a boot"
    )]
    Authority,
    /// There is no room.
    #[error("the firmware's variables have no room for the Secure Boot keys")]
    Full,
    /// A certificate is too long.
    #[error(transparent)]
    List(#[from] SignatureListError),
    /// A certificate is too long.
    #[error(transparent)]
    Variable(#[from] VariableDataError),
}

/// Writes the keys into a store without keys and switches Secure Boot on.
///
/// # Errors
/// When it is no such store, has keys, or no room.
pub fn with_keys(
    template: &[u8],
    keys: &SecureBootKeys<'_>,
) -> Result<Vec<u8>, VariableStoreError> {
    let store = Store::read(template)?;
    if store
        .variables
        .iter()
        .any(|variable| variable.name() == "PK")
    {
        return Err(VariableStoreError::HasPlatformKey);
    }
    let mut octets = template.to_vec();
    let mut place = store.end;
    let mut add = |attributes: u32, time: [u8; 16], variable: &VariableData| {
        let name: Vec<u8> = variable
            .name()
            .encode_utf16()
            .chain([0])
            .flat_map(u16::to_le_bytes)
            .collect();
        let length =
            |octets: &[u8]| u32::try_from(octets.len()).map_err(|_| VariableStoreError::Full);
        let mut entry = START.to_vec();
        entry.extend([ADDED, 0]);
        entry.extend(attributes.to_le_bytes());
        entry.extend([0; 8]);
        entry.extend(time);
        entry.extend([0; 4]);
        entry.extend(length(&name)?.to_le_bytes());
        entry.extend(length(variable.data())?.to_le_bytes());
        entry.extend(variable.vendor().octets());
        entry.extend(name);
        entry.extend(variable.data());
        let target = octets[..store.limit]
            .get_mut(place..place + entry.len())
            .ok_or(VariableStoreError::Full)?;
        if target.iter().any(|octet| *octet != 0xff) {
            return Err(VariableStoreError::Malformed(
                "what follows its last variable is not erased",
            ));
        }
        target.copy_from_slice(&entry);
        place = (place + entry.len()).next_multiple_of(4);
        Ok(())
    };
    add(
        BOOT,
        [0; 16],
        &VariableData::new(SECURE_BOOT_ENABLE, "SecureBootEnable", &[1])?,
    )?;
    for variable in keys.variables()? {
        add(AUTHENTICATED, TIME, &variable)?;
    }
    Ok(octets)
}

impl SecureBootKeys<'_> {
    /// The variables that hold the keys. The platform key comes last: from then on they are guarded.
    fn variables(&self) -> Result<[VariableData; 3], VariableStoreError> {
        let list = |certificate| {
            let entry = self.entry(certificate);
            SignatureList::encode(Guid::CERT_X509, &[entry])
        };
        Ok([
            VariableData::new(Guid::IMAGE_SECURITY_DATABASE, "db", &list(self.signature)?)?,
            VariableData::new(Guid::GLOBAL_VARIABLE, "KEK", &list(self.key_exchange_key)?)?,
            VariableData::new(Guid::GLOBAL_VARIABLE, "PK", &list(self.platform_key)?)?,
        ])
    }

    fn entry<'c>(&self, certificate: &'c Certificate) -> SignatureData<'c> {
        SignatureData {
            owner: self.owner,
            data: certificate.der(),
        }
    }

    /// What OVMF measures into PCR 7 with these keys when it starts an image that the key in db signed.
    ///
    /// # Errors
    /// When a certificate is too long.
    pub fn measurements(&self) -> Result<Vec<PredictedEvent>, VariableStoreError> {
        let [db, kek, pk] = self.variables()?;
        let secure_boot = VariableData::new(Guid::GLOBAL_VARIABLE, "SecureBoot", &[1])?;
        let dbx = VariableData::new(Guid::IMAGE_SECURITY_DATABASE, "dbx", &[])?;
        let mut events: Vec<_> = [secure_boot, pk, kek, db, dbx]
            .iter()
            .map(VariableData::event)
            .collect();
        events.push(PredictedEvent::of(7, "separator", &[0; 4]));
        let entry = self.entry(self.signature);
        let authority = VariableData::authority(Guid::IMAGE_SECURITY_DATABASE, "db", &entry)?;
        events.push(authority.event());
        Ok(events)
    }
}

/// What OVMF measures into PCR 7 with the keys that are in a store, when it starts an image that the one key in db signed.
///
/// # Errors
/// When it is no such store, or its keys don't determine what is measured.
pub fn measurements_of(store: &[u8]) -> Result<Vec<PredictedEvent>, VariableStoreError> {
    let Store { variables, .. } = Store::read(store)?;
    let found = |name: &str| variables.iter().rfind(|variable| variable.name() == name);
    if found("SecureBootEnable").map(VariableData::data) != Some(&[1]) || found("PK").is_none() {
        return Err(VariableStoreError::NoSecureBoot);
    }
    let mut events = vec![VariableData::new(Guid::GLOBAL_VARIABLE, "SecureBoot", &[1])?.event()];
    for (vendor, name) in [
        (Guid::GLOBAL_VARIABLE, "PK"),
        (Guid::GLOBAL_VARIABLE, "KEK"),
        (Guid::IMAGE_SECURITY_DATABASE, "db"),
        (Guid::IMAGE_SECURITY_DATABASE, "dbx"),
    ] {
        let data = found(name).map_or(&[][..], VariableData::data);
        events.push(VariableData::new(vendor, name, data)?.event());
    }
    events.push(PredictedEvent::of(7, "separator", &[0; 4]));
    let db = found("db").map_or(&[][..], VariableData::data);
    let lists = SignatureList::parse_database(db)?;
    let certificates = lists
        .iter()
        .filter(|list| list.signature_type == Guid::CERT_X509);
    match &certificates
        .flat_map(SignatureList::signatures)
        .collect::<Vec<_>>()[..]
    {
        [entry] => events
            .push(VariableData::authority(Guid::IMAGE_SECURITY_DATABASE, "db", entry)?.event()),
        _ => return Err(VariableStoreError::Authority),
    }
    Ok(events)
}

/// The shape of a store.
#[derive(Debug)]
struct Store {
    variables: Vec<VariableData>,
    /// Where the next variable goes.
    end: usize,
    /// Where the store ends.
    limit: usize,
}

impl Store {
    fn read(octets: &[u8]) -> Result<Self, VariableStoreError> {
        let malformed = VariableStoreError::Malformed;
        if octets.len() > LIMIT {
            return Err(malformed("it is too long"));
        }
        let guid = |place: usize| {
            octets
                .get(place..)
                .and_then(<[u8]>::first_chunk)
                .copied()
                .map(Guid::from_octets)
        };
        if guid(16) != Some(NV_DATA) || octets.get(40..44) != Some(VOLUME_SIGNATURE) {
            return Err(malformed("it is no firmware volume of variables"));
        }
        let header = short(octets, 48).ok_or_else(|| malformed("it ends early"))?;
        if guid(header) != Some(AUTHENTICATED_STORE) {
            return Err(malformed("it has no store of authenticated variables"));
        }
        let size = long(octets, header + 16).ok_or_else(|| malformed("it ends early"))?;
        let limit = header
            .checked_add(size)
            .filter(|limit| size >= STORE_HEADER && *limit <= octets.len());
        let limit = limit.ok_or_else(|| malformed("its store is longer than the volume"))?;
        // Formatted and healthy.
        if octets.get(header + 20..header + 22) != Some(&[0x5a, 0xfe]) {
            return Err(malformed("its store is not formatted"));
        }
        let mut place = header + STORE_HEADER;
        let mut variables = Vec::new();
        while octets[..limit].get(place..place + 2) == Some(&START) {
            if variables.len() == MOST_VARIABLES {
                return Err(malformed("it has too many variables"));
            }
            let state = octets.get(place + 2).copied().unwrap_or_default();
            let (name, data) = (long(octets, place + 36), long(octets, place + 40));
            let (name, data) = name
                .zip(data)
                .ok_or_else(|| malformed("it ends within a variable"))?;
            let at = place + VARIABLE_HEADER;
            let end = at.checked_add(name).and_then(|end| end.checked_add(data));
            let end = end
                .filter(|end| *end <= limit)
                .ok_or_else(|| malformed("it ends within a variable"))?;
            if state == ADDED {
                let length = name;
                let (units, _) = octets[at..at + length].as_chunks();
                let units: Vec<_> = units
                    .iter()
                    .map(|unit| u16::from_le_bytes(*unit))
                    .take_while(|unit| *unit != 0)
                    .collect();
                let vendor =
                    guid(place + 44).ok_or_else(|| malformed("it ends within a variable"))?;
                let name = String::from_utf16_lossy(&units);
                variables.push(VariableData::new(vendor, &name, &octets[at + length..end])?);
            }
            place = end.next_multiple_of(4);
        }
        Ok(Self {
            variables,
            end: place,
            limit,
        })
    }
}

fn short(octets: &[u8], place: usize) -> Option<usize> {
    let octets = octets.get(place..)?.first_chunk().copied()?;
    Some(u16::from_le_bytes(octets).into())
}

fn long(octets: &[u8], place: usize) -> Option<usize> {
    let octets = octets.get(place..)?.first_chunk().copied()?;
    usize::try_from(u32::from_le_bytes(octets)).ok()
}
