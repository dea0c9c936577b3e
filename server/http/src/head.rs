//! What the head of a request must be like (RFC 9112). Two readers of one head must not come to two requests: whatever can
//! be understood in more than one way is refused, before hyper would choose one.

use httparse::{EMPTY_HEADER, Error, Request, Status};

/// Bytes of a head at most.
pub const HEAD_BYTES_MAX: usize = 16 << 10;

/// Fields of a head at most.
const FIELDS_MAX: usize = 64;

/// A head that is whole.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its bytes, the empty line included.
    pub bytes: usize,
    /// What follows it.
    pub body: Length,
}

/// How long a body is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Length {
    /// So many bytes.
    Bytes(u64),
    /// It says itself where it ends.
    Chunked,
}

/// Why a request is not taken. Its connection ends with the answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Bad {
    /// It breaks the rules, or can be understood in more than one way.
    Malformed(&'static str),
    /// It did not come in time.
    TooSlow,
    /// The head is too long, or has too many fields.
    TooLarge,
    /// It is coded in a way that is not known here.
    Coding,
    /// Another version than HTTP/1.
    Version,
}

impl Bad {
    /// The status.
    pub fn status(self) -> u16 {
        match self {
            Bad::Malformed(_) => 400,
            Bad::TooSlow => 408,
            Bad::TooLarge => 431,
            Bad::Coding => 501,
            Bad::Version => 505,
        }
    }

    /// What is wrong, for a person.
    pub fn text(self) -> &'static str {
        match self {
            Bad::Malformed(text) => text,
            Bad::TooSlow => "the head of the request did not come in time",
            Bad::TooLarge => "the head of the request has more than 16 KiB or 64 fields",
            Bad::Coding => "of transfer codings, only chunked is known here",
            Bad::Version => "only HTTP/1.1 and HTTP/1.0 are spoken here",
        }
    }
}

/// The head that bytes begin with. `None`: it is not all there.
///
/// # Errors
/// It is not taken.
pub fn read(bytes: &[u8]) -> Result<Option<Head>, Bad> {
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut request = Request::new(&mut fields);
    let length = match request.parse(bytes) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
        Ok(Status::Partial) | Err(Error::TooManyHeaders) => return Err(Bad::TooLarge),
        Err(Error::Version) => return Err(Bad::Version),
        Err(_) => return Err(Bad::Malformed("this is no request of HTTP/1.1 (RFC 9112)")),
    };
    let of = |wanted: &str| {
        let wanted = wanted.to_owned();
        let named = request.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(&wanted));
        named.map(|field| field.value).collect::<Vec<_>>()
    };
    let is_1_1 = request.version == Some(1);
    check_host(&of("host"), is_1_1)?;
    let body = body(&of("content-length"), &of("transfer-encoding"), is_1_1)?;
    Ok(Some(Head { bytes: length, body }))
}

/// RFC 9112 §3.2: one, unless it is HTTP/1.0; and an authority without user information.
fn check_host(hosts: &[&[u8]], is_1_1: bool) -> Result<(), Bad> {
    match hosts {
        [] if is_1_1 => Err(Bad::Malformed("the field Host is missing (RFC 9112 §3.2)")),
        [] => Ok(()),
        [host]
            if host
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+;=".contains(byte)) =>
        {
            Ok(())
        }
        [_] => Err(Bad::Malformed("the field Host is no name or address (RFC 9112 §3.2)")),
        _ => Err(Bad::Malformed("the field Host is there more than once (RFC 9112 §3.2)")),
    }
}

/// RFC 9112 §6.3.
fn body(lengths: &[&[u8]], codings: &[&[u8]], is_1_1: bool) -> Result<Length, Bad> {
    match (lengths, codings) {
        ([], []) => Ok(Length::Bytes(0)),
        ([], [_]) if !is_1_1 => Err(Bad::Malformed("HTTP/1.0 has no Transfer-Encoding (RFC 9112 §6.1)")),
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Length::Chunked),
        ([], [_]) => Err(Bad::Coding),
        ([], _) => Err(Bad::Malformed("the field Transfer-Encoding is there more than once")),
        ([length], []) => {
            let digits = std::str::from_utf8(length)
                .ok()
                .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let length = digits.and_then(|digits| digits.parse().ok());
            length.map(Length::Bytes).ok_or(Bad::Malformed("the field Content-Length is no number"))
        }
        (_, []) => Err(Bad::Malformed("the field Content-Length is there more than once")),
        _ => Err(Bad::Malformed("Content-Length and Transfer-Encoding exclude each other (RFC 9112 §6.3)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &str) -> Result<Option<Head>, Bad> {
        read(format!("POST /x HTTP/1.1\r\n{fields}\r\n").as_bytes())
    }

    #[test]
    fn what_can_be_understood_in_two_ways_is_refused() {
        let host = "Host: example.org\r\n";
        let table = [
            ("", "Host is missing"),
            ("Host: a\r\nHost: b\r\n", "Host is there more than once"),
            ("Host: a\r\nhost: a\r\n", "Host is there more than once"),
            ("Host: a, b\r\n", "no name or address"),
            ("Host: user@a\r\n", "no name or address"),
            ("Host: a b\r\n", "no name or address"),
            (
                "Host: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n",
                "Content-Length is there more than once",
            ),
            (
                "Host: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
                "Content-Length is there more than once",
            ),
            ("Host: a\r\nContent-Length: 5, 5\r\n", "Content-Length is no number"),
            ("Host: a\r\nContent-Length: +5\r\n", "Content-Length is no number"),
            ("Host: a\r\nContent-Length: \r\n", "Content-Length is no number"),
            ("Host: a\r\nContent-Length: 99999999999999999999\r\n", "Content-Length is no number"),
            ("Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n", "exclude each other"),
            ("Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "more than once"),
            ("Host: a\r\n Content-Length: 5\r\n", "no request"),
            ("Host : a\r\n", "no request"),
            ("Host: a\r\nX\u{0}: b\r\n", "no request"),
        ];
        for (fields, said) in table {
            let bad = head(fields).expect_err(fields);
            assert!(bad.status() == 400 && bad.text().contains(said), "{fields:?}: {bad:?}");
        }
        let length = |body| Ok(Some(Length::Bytes(body)));
        let body = |fields: &str| head(&format!("{host}{fields}")).map(|head| head.map(|head| head.body));
        assert_eq!(body(""), length(0));
        assert_eq!(body("content-length: 17\r\n"), length(17));
        assert_eq!(body("Transfer-Encoding: Chunked\r\n"), Ok(Some(Length::Chunked)));
        assert_eq!(body("Transfer-Encoding: gzip, chunked\r\n"), Err(Bad::Coding));
        for host in ["localhost", "127.0.0.1:9522", "[2001:db8::1]:80", "xn--bcher-kva.example", ""] {
            assert!(head(&format!("Host: {host}\r\n")).is_ok(), "{host}");
        }
    }

    #[test]
    fn older_requests_need_no_host_and_newer_ones_are_not_spoken() {
        assert!(matches!(read(b"GET / HTTP/1.0\r\n\r\n"), Ok(Some(_))));
        let coded = read(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(coded.unwrap_err().status(), 400);
        assert_eq!(read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Err(Bad::Version));
        assert_eq!(read(b"\x16\x03\x01\x02\x00\x01").unwrap_err().status(), 400);
    }

    #[test]
    fn a_head_has_its_bounds_and_says_where_it_ends() {
        let many: String = (0..65).map(|n| format!("X-{n}: y\r\n")).collect();
        assert_eq!(head(&many), Err(Bad::TooLarge));
        let long = format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(HEAD_BYTES_MAX));
        assert_eq!(read(long.as_bytes()), Err(Bad::TooLarge));
        assert_eq!(read(&long.as_bytes()[..100]), Ok(None));
        let two = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n";
        assert_eq!(read(two), Ok(Some(Head { bytes: 27, body: Length::Bytes(0) })));
    }
}
