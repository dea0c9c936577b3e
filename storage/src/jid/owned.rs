//! The owned address.

use std::fmt;
use std::str::FromStr;

use super::{JidError, JidRef, normalise_resource};

/// A normalised address, bare or full. Equality, order and hash are those of its text.
#[derive(Clone)]
pub struct Jid {
    text: Box<str>,
    /// Where the domainpart begins; 0 without a localpart. Parts are at most 1023 bytes each, so
    /// offsets fit.
    domain_start: u16,
    /// Where the domainpart ends; the length of `text` without a resourcepart.
    domain_end: u16,
}

// One of these per roster entry and per session.
const _: () = assert!(size_of::<Jid>() == 24);

impl Jid {
    /// Reads and normalises an address (RFC 7622 §3.1).
    ///
    /// # Errors
    /// [`JidError`] says which part is wrong and why.
    pub fn parse(text: &str) -> Result<Self, JidError> {
        Ok(JidRef::parse(text)?.to_jid())
    }

    /// Puts an address together from its parts, normalising each.
    ///
    /// # Errors
    /// [`JidError`] says which part is wrong and why. A part that is `Some("")` is an error.
    pub fn from_parts(local: Option<&str>, domain: &str, resource: Option<&str>) -> Result<Self, JidError> {
        Ok(JidRef::from_parts(local, domain, resource)?.to_jid())
    }

    /// Joins parts that are normalised and within their limits.
    pub(super) fn join(local: Option<&str>, domain: &str, resource: Option<&str>) -> Self {
        let length = local.map_or(0, |l| l.len() + 1) + domain.len() + resource.map_or(0, |r| r.len() + 1);
        let mut text = String::with_capacity(length);
        if let Some(local) = local {
            text.push_str(local);
            text.push('@');
        }
        let domain_start = offset(text.len());
        text.push_str(domain);
        let domain_end = offset(text.len());
        if let Some(resource) = resource {
            text.push('/');
            text.push_str(resource);
        }
        Self { text: text.into_boxed_str(), domain_start, domain_end }
    }

    /// The whole address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The address without its resourcepart as text.
    #[must_use]
    pub fn bare_str(&self) -> &str {
        &self.text[..usize::from(self.domain_end)]
    }

    /// The localpart, if the address has one.
    #[must_use]
    pub fn local(&self) -> Option<&str> {
        usize::from(self.domain_start).checked_sub(1).map(|end| &self.text[..end])
    }

    /// The domainpart.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.text[usize::from(self.domain_start)..usize::from(self.domain_end)]
    }

    /// The resourcepart, if the address has one.
    #[must_use]
    pub fn resource(&self) -> Option<&str> {
        self.text.get(usize::from(self.domain_end) + 1..)
    }

    /// Whether the address has no resourcepart.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.text.len() == usize::from(self.domain_end)
    }

    /// This address without its resourcepart.
    #[must_use]
    pub fn to_bare(&self) -> Self {
        Self { text: self.bare_str().into(), domain_start: self.domain_start, domain_end: self.domain_end }
    }

    /// This address with another resourcepart.
    ///
    /// # Errors
    /// [`JidError`] that speaks of the resourcepart.
    pub fn with_resource(&self, resource: &str) -> Result<Self, JidError> {
        let resource = normalise_resource(resource)?;
        Ok(Self::join(self.local(), self.domain(), Some(&resource)))
    }

    /// A borrowed view.
    #[must_use]
    pub fn borrowed(&self) -> JidRef<'_> {
        JidRef::normalised(self.local(), self.domain(), self.resource())
    }
}

fn offset(bytes: usize) -> u16 {
    u16::try_from(bytes).expect("two parts of at most 1023 bytes and a separator fit 16 bits")
}

impl PartialEq for Jid {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Jid {}

impl PartialOrd for Jid {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Jid {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl std::hash::Hash for Jid {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Display for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jid({:?})", self.text)
    }
}

impl FromStr for Jid {
    type Err = JidError;

    fn from_str(text: &str) -> Result<Self, JidError> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for Jid {
    type Error = JidError;

    fn try_from(text: &str) -> Result<Self, JidError> {
        Self::parse(text)
    }
}

impl From<JidRef<'_>> for Jid {
    fn from(jid: JidRef<'_>) -> Self {
        jid.to_jid()
    }
}
