//! Characters that people do not see.

/// Whether a character has neither ink nor width, or changes only the direction of others. Web pages, chats and word
/// processors put such characters between the visible ones, and two texts that differ in them look the same.
#[must_use]
pub const fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// A character as an error message can show it: one that is not printable ASCII by its number.
#[must_use]
pub fn named(character: char) -> String {
    match character {
        ' ' => "a space".to_owned(),
        '!'..='~' => format!("`{character}`"),
        _ => format!("U+{:04X}", u32::from(character)),
    }
}
