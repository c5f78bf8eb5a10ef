//! The octets of request heads, watched as they pass by on their way to the HTTP parser.
//!
//! The parser obeys `Transfer-Encoding` and silently drops a `Content-Length` beside it. That is
//! correct for a server that stands alone, but a proxy in front may choose the other one, and the
//! two then disagree where the next request begins. Such requests are refused, which only someone
//! who sees the octets can do.

use super::rejection::Rejection;

/// Finds the end of a head and keeps its octets.
#[derive(Debug, Default)]
pub(super) struct HeadScanner {
    head: Vec<u8>,
    line_has_octets: bool,
    has_line: bool,
    after_carriage_return: bool,
    bare_line_feed: bool,
}

/// Reads the version in a request line, and makes a later minor version of HTTP/1 the one that is spoken here, as
/// RFC 9110 (2.5) wants: the parser knows 1.0 and 1.1 only.
#[derive(Debug, Default)]
pub(super) struct VersionReader {
    begun: bool,
    spaces: u8,
    matched: usize,
    done: bool,
}

impl VersionReader {
    const PREFIX: &[u8] = b"HTTP/1.";

    /// Takes the next octets of a head.
    pub(super) fn pass(&mut self, octets: &mut [u8]) {
        for octet in octets {
            match *octet {
                _ if self.done => return,
                b'\n' if self.begun => self.done = true,
                b'\r' | b'\n' => {}
                b' ' => {
                    self.begun = true;
                    self.spaces += 1;
                    self.done = self.spaces > 2;
                }
                other if self.spaces == 2 => match Self::PREFIX.get(self.matched) {
                    Some(expected) if *expected == other => self.matched += 1,
                    Some(_) => self.done = true,
                    None => {
                        if matches!(other, b'2'..=b'9') {
                            *octet = b'1';
                        }
                        self.done = true;
                    }
                },
                _ => self.begun = true,
            }
        }
    }
}

/// How the octets after a head are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyFraming {
    /// So many octets, then the next head.
    Length(u64),
    /// By a transfer coding, or by nothing that this reader understands; the parser decides, and
    /// no further request may follow on this connection.
    Unknown,
}

impl HeadScanner {
    /// Takes the next octets. When the head ends within them, says how many belong to it.
    pub(super) fn scan(&mut self, octets: &[u8]) -> Option<usize> {
        for (index, octet) in octets.iter().enumerate() {
            if *octet == b'\n' {
                self.bare_line_feed |= !self.after_carriage_return;
                let blank = !std::mem::take(&mut self.line_has_octets);
                if blank && self.has_line {
                    self.head.extend_from_slice(&octets[..=index]);
                    return Some(index + 1);
                }
                // Blank lines before a request line are to be ignored (RFC 9112, 2.2).
                self.has_line |= !blank;
            } else if *octet != b'\r' {
                self.line_has_octets = true;
            }
            self.after_carriage_return = *octet == b'\r';
        }
        self.head.extend_from_slice(octets);
        None
    }

    /// Octets taken so far.
    pub(super) fn len(&self) -> usize {
        self.head.len()
    }

    /// How the body of a complete head is framed; makes the scanner ready for the next head.
    pub(super) fn finish(&mut self) -> Result<BodyFraming, Rejection> {
        let framing = if self.bare_line_feed {
            Err(Rejection::BareLineFeed)
        } else {
            framing(&self.head)
        };
        self.head.clear();
        *self = Self {
            head: std::mem::take(&mut self.head),
            ..Self::default()
        };
        framing
    }
}

fn framing(head: &[u8]) -> Result<BodyFraming, Rejection> {
    let mut length = None;
    let mut transfer_coded = false;
    for line in head.split(|octet| *octet == b'\n') {
        let mut parts = line.splitn(2, |octet| *octet == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
            continue;
        };
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            transfer_coded = true;
        } else if name.eq_ignore_ascii_case(b"content-length")
            && length.replace(value.trim_ascii()).is_some()
        {
            return Err(Rejection::AmbiguousLength);
        }
    }
    match (length, transfer_coded) {
        (None, false) => Ok(BodyFraming::Length(0)),
        (None, true) => Ok(BodyFraming::Unknown),
        (Some(_), true) => Err(Rejection::AmbiguousLength),
        (Some(digits), false) => {
            Ok(decimal(digits).map_or(BodyFraming::Unknown, BodyFraming::Length))
        }
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framing_of(head: &[u8]) -> Result<BodyFraming, Rejection> {
        let mut scanner = HeadScanner::default();
        assert_eq!(scanner.scan(head), Some(head.len()));
        scanner.finish()
    }

    #[test]
    fn a_head_without_lengths_has_no_body() {
        assert_eq!(
            framing_of(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            Ok(BodyFraming::Length(0))
        );
    }

    #[test]
    fn a_length_is_read_whatever_the_case_of_its_name() {
        assert_eq!(
            framing_of(b"POST / HTTP/1.1\r\ncOntent-Length:\t 17 \r\n\r\n"),
            Ok(BodyFraming::Length(17))
        );
    }

    #[test]
    fn two_lengths_are_refused_even_when_equal() {
        let head = b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(framing_of(head), Err(Rejection::AmbiguousLength));
    }

    #[test]
    fn a_length_and_a_transfer_coding_are_refused_in_either_order() {
        for head in [
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        ] {
            assert_eq!(framing_of(head), Err(Rejection::AmbiguousLength));
        }
    }

    #[test]
    fn what_the_parser_must_judge_is_left_to_it() {
        for value in ["chunked", "gzip"] {
            let head = format!("POST / HTTP/1.1\r\nTransfer-Encoding: {value}\r\n\r\n");
            assert_eq!(framing_of(head.as_bytes()), Ok(BodyFraming::Unknown));
        }
        for value in ["", "-1", "+1", "0x10", "1,1", "99999999999999999999"] {
            let head = format!("POST / HTTP/1.1\r\nContent-Length: {value}\r\n\r\n");
            assert_eq!(
                framing_of(head.as_bytes()),
                Ok(BodyFraming::Unknown),
                "{value}"
            );
        }
    }

    #[test]
    fn a_line_without_carriage_return_is_noticed_and_still_ends_the_head() {
        assert_eq!(
            framing_of(b"GET / HTTP/1.1\nHost: a\n\n"),
            Err(Rejection::BareLineFeed)
        );
    }

    #[test]
    fn blank_lines_before_a_request_do_not_end_it() {
        let mut scanner = HeadScanner::default();
        assert_eq!(scanner.scan(b"\r\n\r\n"), None);
        assert_eq!(scanner.scan(b"GET / HTTP/1.1\r\n\r\nrest"), Some(18));
        assert_eq!(scanner.finish(), Ok(BodyFraming::Length(0)));
        assert_eq!(scanner.len(), 0);
    }

    fn with_version(head: &str, cut: usize) -> String {
        let mut octets = head.as_bytes().to_vec();
        let mut reader = VersionReader::default();
        let (first, rest) = octets.split_at_mut(cut.min(head.len()));
        reader.pass(first);
        reader.pass(rest);
        String::from_utf8(octets).unwrap()
    }

    #[test]
    fn a_later_minor_version_is_spoken_as_1_1_wherever_the_head_is_cut() {
        for cut in 0..20 {
            for minor in 2..=9 {
                let head = format!("\r\nGET /a HTTP/1.{minor}\r\nA: b HTTP/1.7\r\n\r\n");
                let spoken = "\r\nGET /a HTTP/1.1\r\nA: b HTTP/1.7\r\n\r\n";
                assert_eq!(with_version(&head, cut), spoken);
            }
            for other in [
                "GET /a HTTP/1.0\r\n\r\n",
                "GET /a HTTP/2.2\r\n\r\n",
                "GET /HTTP/1.2 HTTP/1.1\r\n\r\n",
                "GET HTTP/1.2\r\nA: b HTTP/1.2\r\n\r\n",
                "GET /a b HTTP/1.2\r\n\r\n",
            ] {
                assert_eq!(with_version(other, cut), other);
            }
        }
    }

    proptest! {
        #[test]
        fn the_end_is_found_however_the_octets_are_cut(cut in 0_usize..60) {
            let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
            let cut = cut.min(head.len() - 1);
            let mut scanner = HeadScanner::default();
            prop_assert_eq!(scanner.scan(&head[..cut]), None);
            prop_assert_eq!(scanner.scan(&head[cut..]), Some(head.len() - cut));
            prop_assert_eq!(scanner.finish(), Ok(BodyFraming::Length(3)));
        }

        #[test]
        fn no_octets_make_it_panic(octets: Vec<u8>) {
            let mut scanner = HeadScanner::default();
            if scanner.scan(&octets).is_some() {
                let _ = scanner.finish();
            }
        }
    }
}
