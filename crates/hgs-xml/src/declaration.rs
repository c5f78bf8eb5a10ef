use crate::Error;
use crate::error::{Position, printable};

/// Checks the XML declaration, if `text` begins with one, and returns the number of octets it takes.
///
/// XML 1.1 and other encodings would change what the octets mean.
pub(crate) fn check(text: &str) -> Result<usize, Error> {
    const BEGIN: &str = "<?xml";
    const END: &str = "?>";

    // A tab or line end after the name is XML too, but parsers are known to take the declaration for a processing
    // instruction then; so do we, and refuse it.
    let Some(declaration) = text
        .strip_prefix(BEGIN)
        .filter(|rest| rest.starts_with(' '))
    else {
        return Ok(0);
    };
    let (declaration, _) = declaration.split_once(END).ok_or(Error::Truncated)?;

    let mut rest = declaration;
    let version = pseudo_attribute(&mut rest, "version").ok_or_else(malformed)?;
    let encoding = pseudo_attribute(&mut rest, "encoding");
    let standalone = pseudo_attribute(&mut rest, "standalone");

    if version != "1.0" {
        return Err(Error::Version {
            declared: printable(version),
        });
    }
    if let Some(encoding) = encoding.filter(|encoding| !encoding.eq_ignore_ascii_case("UTF-8")) {
        return Err(Error::Encoding {
            declared: printable(encoding),
        });
    }
    if !rest.chars().all(is_white_space) || standalone.is_some_and(|s| s != "yes" && s != "no") {
        return Err(malformed());
    }
    Ok(BEGIN.len() + declaration.len() + END.len())
}

/// Takes white space and `name="value"` from the beginning of `rest`, if they stand there.
fn pseudo_attribute<'t>(rest: &mut &'t str, name: &str) -> Option<&'t str> {
    let after_name = rest
        .strip_prefix(is_white_space)?
        .trim_start_matches(is_white_space)
        .strip_prefix(name)?;
    let quoted = after_name
        .trim_start_matches(is_white_space)
        .strip_prefix('=')?
        .trim_start_matches(is_white_space);
    let quote = quoted.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (value, after) = quoted.strip_prefix(quote)?.split_once(quote)?;
    *rest = after;
    Some(value)
}

/// Whether `c` is white space as XML means it.
pub(crate) fn is_white_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn malformed() -> Error {
    Error::Malformed {
        fault: "an invalid XML declaration",
        at: Position { line: 1, column: 1 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_declarations_that_change_nothing() {
        for text in [
            "<e/>",
            "<?xml version=\"1.0\"?><e/>",
            "<?xml version='1.0' encoding='utf-8'?><e/>",
            "<?xml  version = '1.0'\n\tencoding=\"Utf-8\" standalone='no' ?><e/>",
        ] {
            let length = check(text).unwrap();
            assert_eq!(&text[length..], "<e/>", "{text}");
        }
    }

    #[test]
    fn refuses_other_encodings_and_versions_by_name() {
        assert_eq!(
            check("<?xml version='1.0' encoding='utf-16'?><e/>"),
            Err(Error::Encoding {
                declared: "utf-16".into()
            })
        );
        assert_eq!(
            check("<?xml version='1.1'?><e/>"),
            Err(Error::Version {
                declared: "1.1".into()
            })
        );
    }

    #[test]
    fn refuses_declarations_that_are_not_well_formed() {
        for text in [
            "<?xml ?><e/>",
            "<?xml encoding='utf-8'?><e/>",
            "<?xml version='1.0'encoding='utf-8'?><e/>",
            "<?xml version='1.0' standalone='maybe'?><e/>",
            "<?xml version='1.0' standalone='no' encoding='utf-8'?><e/>",
            "<?xml version='1.0' version='1.0'?><e/>",
            "<?xml version='1.0?><e/>",
        ] {
            assert_eq!(check(text), Err(malformed()), "{text}");
        }
        assert_eq!(check("<?xml version='1.0'"), Err(Error::Truncated));
    }
}
