use std::borrow::Cow;

/// Text that other people may have written, made fit for a terminal: whatever could move the cursor, change colours or
/// turn the direction of writing is shown as an escape. Line feeds stay.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(controls) {
        text.chars().fold(String::new(), escape).into()
    } else {
        text.into()
    }
}

fn escape(mut shown: String, c: char) -> String {
    if controls(c) {
        shown.extend(c.escape_unicode());
    } else {
        shown.push(c);
    }
    shown
}

fn controls(c: char) -> bool {
    // Marks, embeddings, overrides and isolates of the bidirectional algorithm, line and paragraph separators.
    let formats = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    formats || c.is_control() && c != '\n'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_could_control_it() {
        assert_eq!(printable("CN=Ännchen\n"), "CN=Ännchen\n");
        assert_eq!(
            printable("CN=\u{1b}[2Jgood\r\u{9b}\u{202e}x"),
            "CN=\\u{1b}[2Jgood\\u{d}\\u{9b}\\u{202e}x"
        );
    }
}
