//! Small images, and the sections that real programs have in theirs.

/// The headers that [`MadeImage`] writes fit in here.
pub const HEADERS: usize = 0x400;
/// Where the optional header begins.
pub const OPTIONAL: usize = 0x40 + 4 + 20;
/// The length of the optional header of PE32+ with 16 data directory entries.
pub const OPTIONAL_LENGTH: usize = 112 + 16 * 8;
/// Where the section table begins in PE32+.
pub const SECTION_TABLE: usize = OPTIONAL + OPTIONAL_LENGTH;

/// An image to be written, PE32+ unless it says otherwise.
#[derive(Clone, Default)]
pub struct MadeImage {
    /// PE32 instead of PE32+.
    pub pe32: bool,
    /// The sections: name and contents.
    pub sections: Vec<(String, Vec<u8>)>,
    /// What follows the sections.
    pub trailer: Vec<u8>,
}

impl MadeImage {
    /// The image with one section more.
    #[must_use]
    pub fn with(mut self, name: &str, contents: &[u8]) -> Self {
        self.sections.push((name.to_owned(), contents.to_vec()));
        self
    }

    /// Raw data stands at multiples of 512 octets and is padded with zeros; long names go to a string table behind the
    /// sections.
    pub fn octets(&self) -> Vec<u8> {
        let u16 = |number: usize| (number as u16).to_le_bytes();
        let u32 = |number: usize| (number as u32).to_le_bytes();
        let directories = if self.pe32 { 96 } else { 112 };
        let mut headers = vec![0; OPTIONAL];
        headers[..2].copy_from_slice(b"MZ");
        headers[0x3c] = 0x40;
        headers[0x40..0x44].copy_from_slice(b"PE\0\0");
        headers[0x44..0x46].copy_from_slice(&u16(if self.pe32 { 0x14c } else { 0x8664 }));
        headers[0x46..0x48].copy_from_slice(&u16(self.sections.len()));
        headers[0x54..0x56].copy_from_slice(&u16(directories + 16 * 8));
        headers[0x56..0x58].copy_from_slice(&u16(0x206));
        let mut optional = vec![0; directories + 16 * 8];
        optional[..2].copy_from_slice(&u16(if self.pe32 { 0x10b } else { 0x20b }));
        optional[16..20].copy_from_slice(&u32(0x1000));
        optional[32..36].copy_from_slice(&u32(0x1000));
        optional[36..40].copy_from_slice(&u32(0x200));
        optional[56..60].copy_from_slice(&u32(0x1000 * (self.sections.len() + 1)));
        optional[60..64].copy_from_slice(&u32(HEADERS));
        // Something that is not zero where the checksum is.
        optional[64..68].copy_from_slice(&u32(0x1234_5678));
        optional[68] = 10;
        optional[directories - 4] = 16;

        let mut body = Vec::new();
        let mut names = vec![0; 4];
        let mut table = Vec::new();
        for (number, (name, contents)) in self.sections.iter().enumerate() {
            let mut field = name.as_bytes().to_vec();
            if name.len() > 8 {
                field = format!("/{}", names.len()).into_bytes();
                names.extend(name.as_bytes());
                names.push(0);
            }
            field.resize(8, 0);
            table.extend(field);
            let raw = contents.len().next_multiple_of(0x200);
            let address = 0x1000 * (number + 1);
            for number in [contents.len(), address, raw, HEADERS + body.len(), 0, 0, 0] {
                table.extend(u32(number));
            }
            table.extend(u32(0x4000_0040));
            body.extend(contents);
            body.resize(body.len().next_multiple_of(0x200), 0);
        }
        if names.len() > 4 {
            let length = u32(names.len());
            names[..4].copy_from_slice(&length);
            // A symbol table without symbols: only the string table behind it.
            headers[0x4c..0x50].copy_from_slice(&u32(HEADERS + body.len()));
            body.extend(names);
        }
        let mut file = [headers, optional, table].concat();
        assert!(file.len() <= HEADERS, "the headers have room");
        file.resize(HEADERS, 0);
        [file, body, self.trailer.clone()].concat()
    }
}

/// An image with a section, of a length that is a multiple of 8.
pub fn plain() -> MadeImage {
    MadeImage::default().with(".text", b"code that does nothing")
}

/// A stub that knows these names, with these further sections.
pub fn unified(known: &[&str], sections: &[(&str, &[u8])]) -> MadeImage {
    let mut own = b"code\0".to_vec();
    for name in known {
        own.extend(name.as_bytes());
        own.push(0);
    }
    let stub = MadeImage::default().with(".text", &own);
    let append = |image: MadeImage, (name, contents): &(&str, &[u8])| image.with(name, contents);
    sections.iter().fold(stub, append)
}

/// The section `.sbatlevel`.
pub fn sbat_level_section(previous: &str, latest: &str) -> Vec<u8> {
    let second = 8 + previous.len() as u32 + 1;
    let texts = format!("{previous}\0{latest}\0").into_bytes();
    [
        &[0; 4],
        &8_u32.to_le_bytes()[..],
        &second.to_le_bytes(),
        &texts,
    ]
    .concat()
}

/// The section `.vendor_cert`.
pub fn vendor_cert_section(authorized: &[u8], deauthorized: &[u8]) -> Vec<u8> {
    let lengths = [
        authorized.len(),
        deauthorized.len(),
        16,
        16 + authorized.len(),
    ];
    let mut section: Vec<_> = lengths
        .iter()
        .flat_map(|n| (*n as u32).to_le_bytes())
        .collect();
    section.extend(authorized);
    section.extend(deauthorized);
    section
}

/// The SBAT level that [`shim_image`] applies by default.
pub const PREVIOUS: &str = "sbat,1,2024010100\nshim,3\n";
/// The newest SBAT level that [`shim_image`] knows.
pub const LATEST: &str = "sbat,1,2025051000\nshim,4\ngrub,5\n";

/// An image with shim's sections.
pub fn shim_image(authorized: &[u8], deauthorized: &[u8]) -> MadeImage {
    plain()
        .with(".sbatlevel", &sbat_level_section(PREVIOUS, LATEST))
        .with(
            ".vendor_cert",
            &vendor_cert_section(authorized, deauthorized),
        )
        .with(
            ".sbat",
            b"sbat,1,SBAT Version,sbat,1,https://example.org\nshim,4,vendor,shim,16,url\n",
        )
}

/// A DER certificate as far as shim looks at it.
pub fn certificate_like() -> Vec<u8> {
    let mut octets = vec![0x30, 0x82, 0x01, 0x00];
    octets.extend([0x5a; 256]);
    octets
}

/// Writes a number of 32 bits at `place`.
pub fn put(octets: &mut [u8], place: usize, number: usize) {
    octets[place..place + 4].copy_from_slice(&(number as u32).to_le_bytes());
}
