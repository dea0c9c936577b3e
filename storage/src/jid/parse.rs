//! The borrowed address: what a `to` or `from` attribute says, normalised in place if it can be.

use std::borrow::Cow;
use std::fmt;

use super::normalise::is_plain_label;
use super::{Jid, JidError, PART_BYTES_MAX, normalise_domain, normalise_local, normalise_resource};

/// Bytes of which any number may follow one another in a localpart or a label, and stay as they are.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        plain[byte] = matches!(byte as u8, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        byte += 1;
    }
    plain
};

/// Whether all bytes are printable ASCII, which stays as it is in a resourcepart. Looks at eight at once.
fn is_printable(bytes: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const TOPS: u64 = ONES << 7;
    let Some(last) = bytes.last_chunk() else {
        return bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
    };
    // The last eight may have been looked at already.
    let (words, _) = bytes.as_chunks();
    words.iter().chain([last]).all(|word| {
        let word = u64::from_ne_bytes(*word);
        // The top bit shows a byte above ASCII, one below the space after the subtraction, and DEL after the addition. A borrow
        // or a carry into the next byte comes only from one that shows already.
        (word | word.wrapping_sub(ONES * u64::from(b' ')) | word.wrapping_add(ONES)) & TOPS == 0
    })
}

/// A normalised address that borrows from the text it was read from.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct JidRef<'a> {
    pub(super) local: Option<Cow<'a, str>>,
    pub(super) domain: Cow<'a, str>,
    pub(super) resource: Option<Cow<'a, str>>,
}

impl<'a> JidRef<'a> {
    /// Reads an address (RFC 7622 §3.1). Allocates only for a part that is not yet normalised.
    ///
    /// # Errors
    /// [`JidError`] says which part is wrong and why.
    pub fn parse(text: &'a str) -> Result<Self, JidError> {
        if let Some(plain) = Self::parse_plain(text) {
            return Ok(plain);
        }
        // The resourcepart may hold any separator, so it is cut off first.
        let (bare, resource) = match text.split_once('/') {
            Some((bare, resource)) => (bare, Some(resource)),
            None => (text, None),
        };
        let (local, domain) = match bare.split_once('@') {
            Some((local, domain)) => (Some(local), domain),
            None => (None, bare),
        };
        Self::from_parts(local, domain, resource)
    }

    /// The usual address in one pass: each part in lower-case ASCII letters, digits and `-._` (a resourcepart in any
    /// printable ASCII), which every profile leaves as it is. `None` for whatever needs a closer look.
    fn parse_plain(text: &'a str) -> Option<Self> {
        let bytes = text.as_bytes();
        let mut domain_start = 0;
        let mut label_start = 0;
        let mut domain_end = bytes.len();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if !PLAIN[usize::from(byte)] {
                match byte {
                    b'.' => {
                        // In a localpart too, where it is harmless: the long way gives the same answer.
                        if !is_plain_label(&bytes[label_start..at]) {
                            return None;
                        }
                        label_start = at + 1;
                    }
                    b'@' if domain_start == 0 && (1..=PART_BYTES_MAX).contains(&at) => {
                        domain_start = at + 1;
                        label_start = domain_start;
                    }
                    b'/' => {
                        domain_end = at;
                        break;
                    }
                    _ => return None,
                }
            }
            at += 1;
        }
        let domain = &text[domain_start..domain_end];
        if domain.len() > PART_BYTES_MAX || !is_plain_label(&bytes[label_start..domain_end]) {
            return None;
        }
        let resource = text.get(domain_end + 1..);
        if let Some(resource) = resource
            && (!(1..=PART_BYTES_MAX).contains(&resource.len()) || !is_printable(resource.as_bytes()))
        {
            return None;
        }
        let local = domain_start.checked_sub(1).map(|end| &text[..end]);
        Some(Self::normalised(local, domain, resource))
    }

    /// Puts an address together from its parts, normalising each.
    ///
    /// # Errors
    /// [`JidError`] says which part is wrong and why. A part that is `Some("")` is an error.
    pub fn from_parts(
        local: Option<&'a str>,
        domain: &'a str,
        resource: Option<&'a str>,
    ) -> Result<Self, JidError> {
        Ok(Self {
            local: local.map(normalise_local).transpose()?,
            domain: normalise_domain(domain)?,
            resource: resource.map(normalise_resource).transpose()?,
        })
    }

    /// Parts that some [`Jid`] has already normalised.
    pub(super) fn normalised(local: Option<&'a str>, domain: &'a str, resource: Option<&'a str>) -> Self {
        Self {
            local: local.map(Cow::Borrowed),
            domain: Cow::Borrowed(domain),
            resource: resource.map(Cow::Borrowed),
        }
    }

    /// The localpart, if the address has one.
    #[must_use]
    pub fn local(&self) -> Option<&str> {
        self.local.as_deref()
    }

    /// The domainpart.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The resourcepart, if the address has one.
    #[must_use]
    pub fn resource(&self) -> Option<&str> {
        self.resource.as_deref()
    }

    /// Whether the address has no resourcepart.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.resource.is_none()
    }

    /// This address without its resourcepart.
    #[must_use]
    pub fn bare(&self) -> JidRef<'_> {
        JidRef::normalised(self.local(), self.domain(), None)
    }

    /// An owned copy.
    #[must_use]
    pub fn to_jid(&self) -> Jid {
        Jid::join(self.local(), self.domain(), self.resource())
    }

    /// Whether both name the same account or host, whatever their resourceparts.
    #[must_use]
    pub fn same_bare(&self, other: &JidRef<'_>) -> bool {
        self.local == other.local && self.domain == other.domain
    }
}

impl fmt::Display for JidRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(local) = &self.local {
            write!(f, "{local}@")?;
        }
        f.write_str(&self.domain)?;
        if let Some(resource) = &self.resource {
            write!(f, "/{resource}")?;
        }
        Ok(())
    }
}

impl PartialEq<Jid> for JidRef<'_> {
    fn eq(&self, other: &Jid) -> bool {
        self.local() == other.local()
            && self.domain() == other.domain()
            && self.resource() == other.resource()
    }
}
