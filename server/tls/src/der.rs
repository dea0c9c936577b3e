//! The little of X.509 that the server needs: names, dates, and how the certificate was signed. DER only (X.690 §10),
//! definite lengths, no trust in any of them.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Tags (X.690 §8, RFC 5280 §4.1, §4.2.1.6).
mod tag {
    pub(super) const OID: u8 = 0x06;
    pub(super) const OCTET_STRING: u8 = 0x04;
    pub(super) const UTC_TIME: u8 = 0x17;
    pub(super) const GENERALIZED_TIME: u8 = 0x18;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const SET: u8 = 0x31;
    pub(super) const VERSION: u8 = 0xa0;
    pub(super) const EXTENSIONS: u8 = 0xa3;
    pub(super) const DNS_NAME: u8 = 0x82;
    pub(super) const IP_ADDRESS: u8 = 0x87;
    pub(super) const PSS_HASH: u8 = 0xa0;
}

const OID_COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const OID_SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// What does not fit in a certificate.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct DerError(pub(super) &'static str);

/// The parts of a certificate that matter here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    /// The object identifier of the signature's algorithm.
    pub(super) signature: &'a [u8],
    /// The object identifier of the hash that RSASSA-PSS names in its parameters, if it names one.
    pub(super) pss_hash: Option<&'a [u8]>,
    /// Whether issuer and subject are the same.
    pub(super) self_issued: bool,
    /// Begin of the validity, in seconds of Unix time.
    pub(super) not_before: i64,
    /// End of the validity, in seconds of Unix time.
    pub(super) not_after: i64,
    /// DNS names and addresses; the common name when there are none.
    pub(super) names: Vec<String>,
}

/// Values one after another.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(u8, &'a [u8]), DerError> {
        let (&[tag, first], rest) = self.0.split_first_chunk().ok_or(DerError("it ends too early"))?;
        if tag & 0x1f == 0x1f {
            return Err(DerError("a tag of several bytes"));
        }
        let (length, rest) = match first {
            ..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest
                    .split_at_checked(usize::from(first & 0x7f))
                    .ok_or(DerError("it ends in the midst of a length"))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            0x80 | 0x84.. => return Err(DerError("a length without end or above 16 MiB")),
        };
        let (value, rest) = rest.split_at_checked(length).ok_or(DerError("a value longer than its place"))?;
        self.0 = rest;
        Ok((tag, value))
    }

    fn expect(&mut self, wanted: u8) -> Result<&'a [u8], DerError> {
        match self.next()? {
            (tag, value) if tag == wanted => Ok(value),
            _ => Err(DerError("a value of another type than expected")),
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads a certificate (RFC 5280 §4.1).
pub(super) fn parts(certificate: &[u8]) -> Result<Parts<'_>, DerError> {
    let mut whole = Reader(Reader(certificate).expect(tag::SEQUENCE)?);
    let mut signed = Reader(whole.expect(tag::SEQUENCE)?);
    let mut algorithm = Reader(whole.expect(tag::SEQUENCE)?);
    let signature = algorithm.expect(tag::OID)?;

    let (first, _) = signed.next()?;
    if first == tag::VERSION {
        signed.next()?; // the serial number
    }
    signed.expect(tag::SEQUENCE)?; // the algorithm once more
    let issuer = signed.expect(tag::SEQUENCE)?;
    let mut validity = Reader(signed.expect(tag::SEQUENCE)?);
    let subject = signed.expect(tag::SEQUENCE)?;
    signed.expect(tag::SEQUENCE)?; // the public key
    let mut names = Vec::new();
    while !signed.is_empty() {
        if let (tag::EXTENSIONS, extensions) = signed.next()? {
            alternative_names(extensions, &mut names)?;
        }
    }
    if names.is_empty() {
        names.extend(common_name(subject)?);
    }
    Ok(Parts {
        signature,
        pss_hash: pss_hash(algorithm),
        self_issued: issuer == subject,
        not_before: time(validity.next()?)?,
        not_after: time(validity.next()?)?,
        names,
    })
}

/// RFC 4055 §3.1: the hash is the first, tagged and optional field of the parameters.
fn pss_hash<'a>(mut algorithm: Reader<'a>) -> Option<&'a [u8]> {
    let mut parameters = Reader(algorithm.expect(tag::SEQUENCE).ok()?);
    let hash = parameters.expect(tag::PSS_HASH).ok()?;
    Reader(Reader(hash).expect(tag::SEQUENCE).ok()?).expect(tag::OID).ok()
}

fn alternative_names(extensions: &[u8], names: &mut Vec<String>) -> Result<(), DerError> {
    let mut extensions = Reader(Reader(extensions).expect(tag::SEQUENCE)?);
    while !extensions.is_empty() {
        let mut extension = Reader(extensions.expect(tag::SEQUENCE)?);
        if extension.expect(tag::OID)? != OID_SUBJECT_ALT_NAME {
            continue;
        }
        let mut value = extension.next()?;
        if value.0 != tag::OCTET_STRING {
            value = extension.next()?; // the flag `critical` came first
        }
        let mut alternatives = Reader(Reader(value.1).expect(tag::SEQUENCE)?);
        while !alternatives.is_empty() {
            match alternatives.next()? {
                (tag::DNS_NAME, name) => names.push(String::from_utf8_lossy(name).into_owned()),
                (tag::IP_ADDRESS, address) => names.extend(ip_address(address)),
                _ => {}
            }
        }
    }
    Ok(())
}

fn ip_address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).to_string());
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).to_string())).ok()
}

fn common_name(subject: &[u8]) -> Result<Option<String>, DerError> {
    let mut sets = Reader(subject);
    while !sets.is_empty() {
        let mut set = Reader(sets.expect(tag::SET)?);
        while !set.is_empty() {
            let mut attribute = Reader(set.expect(tag::SEQUENCE)?);
            if attribute.expect(tag::OID)? == OID_COMMON_NAME {
                return Ok(Some(String::from_utf8_lossy(attribute.next()?.1).into_owned()));
            }
        }
    }
    Ok(None)
}

/// RFC 5280 §4.1.2.5: both forms end in seconds and `Z`.
fn time((tag, text): (u8, &[u8])) -> Result<i64, DerError> {
    const BAD: DerError = DerError("a date that is none");
    let digits = text.strip_suffix(b"Z").ok_or(BAD)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(BAD);
    }
    let number = |digits: &[u8]| digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    let (year, rest) = match (tag, digits.len()) {
        (tag::UTC_TIME, 12) => {
            let year = number(&digits[..2]);
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        (tag::GENERALIZED_TIME, 14) => (number(&digits[..4]), &digits[4..]),
        _ => return Err(BAD),
    };
    let field = |at: usize| number(&rest[at..at + 2]);
    let (month, day) = (field(0), field(2));
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return Err(BAD);
    }
    Ok(((days(year, month, day) * 24 + field(4)) * 60 + field(6)) * 60 + field(8))
}

/// Days from the beginning of 1970 in the Gregorian calendar. Years begin in March here, so that the leap day is
/// their last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let month = (month + 9) % 12;
    let before_month = (153 * month + 2) / 5;
    let before_year = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    /// Days from the beginning of March of year 0 to that of 1970.
    const EPOCH: i64 = 719_468;
    before_year + before_month + day - 1 - EPOCH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_seconds_of_unix_time() {
        let table: [(u8, &str, Option<i64>); 9] = [
            (tag::UTC_TIME, "700101000000Z", Some(0)),
            (tag::UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (tag::UTC_TIME, "500101000000Z", Some(-631_152_000)),
            (tag::GENERALIZED_TIME, "20000229120000Z", Some(951_825_600)),
            (tag::GENERALIZED_TIME, "20380119031408Z", Some(2_147_483_648)),
            (tag::GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (tag::UTC_TIME, "7001010000Z", None),
            (tag::UTC_TIME, "701301000000Z", None),
            (tag::GENERALIZED_TIME, "2000022912000x", None),
        ];
        for (tag, text, expected) in table {
            assert_eq!(time((tag, text.as_bytes())).ok(), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = parts(&bytes);
        }
    }

    #[test]
    fn a_certificate_cut_or_changed_anywhere_does_no_harm() {
        let key = rcgen::KeyPair::generate().unwrap();
        let der = rcgen::CertificateParams::new(vec!["a.example".to_owned(), "127.0.0.1".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let der: &[u8] = der.der();
        assert_eq!(parts(der).unwrap().names, ["a.example", "127.0.0.1"]);
        for at in 0..der.len() {
            assert!(parts(&der[..at]).is_err(), "cut at {at}");
            let mut changed = der.to_vec();
            for bit in 0..8 {
                changed[at] ^= 1 << bit;
                let _ = parts(&changed);
            }
        }
    }
}
