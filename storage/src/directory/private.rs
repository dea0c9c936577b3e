//! Private XML (XEP-0049), as the bytes it came as, by name and namespace of its root.

use super::accounts::other_text;
use super::codec::{Decoder, Encoder};
use super::error::DirectoryError;
use super::key::{Key, text_of};
use super::tables::{Table, View, damaged};
use super::transaction::check_size;
use super::{Directory, WriteTransaction};

/// Most bytes of name and namespace together.
pub const PRIVATE_NAME_BYTES_MAX: usize = 4096;

/// A piece of private XML, owned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PrivateXml {
    /// Name of its root.
    pub name: String,
    /// Namespace of its root.
    pub namespace: String,
    /// The whole.
    pub xml: Vec<u8>,
}

impl PrivateXml {
    fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let mut fields = Decoder::open(key, value)?;
        let text = match text_of(key, 8)? {
            Some(text) => text,
            None => fields.text()?,
        };
        let (namespace, name) = text.split_once('\0').ok_or("the key has no name")?;
        let (name, namespace) = (name.to_owned(), namespace.to_owned());
        let xml = fields.bytes()?.to_vec();
        fields.close()?;
        Ok(Self { name, namespace, xml })
    }
}

/// Neither may contain NUL in XML, so it separates them.
fn qualified(name: &str, namespace: &str) -> String {
    format!("{namespace}\0{name}")
}

impl View<'_> {
    fn private(&self, local: &str, name: &str, namespace: &str) -> Result<Option<Vec<u8>>, DirectoryError> {
        let Some(account) = self.account(local)? else { return Ok(None) };
        let text = qualified(name, namespace);
        let Some(key) = Key::owned(account, &text, PRIVATE_NAME_BYTES_MAX) else { return Ok(None) };
        let Some(value) = self.get(Table::Private, key.bytes())? else { return Ok(None) };
        let decoded = Decoder::open(key.bytes(), value).and_then(|mut fields| {
            let same = !key.is_hashed() || fields.text()? == text;
            let xml = fields.bytes()?.to_vec();
            fields.close().map(|()| (same, xml))
        });
        match decoded.map_err(damaged(Table::Private, key.bytes()))? {
            (true, xml) => Ok(Some(xml)),
            (false, _) => Err(other_text(Table::Private, &key)),
        }
    }
}

impl Directory {
    /// Private XML (XEP-0049), by the child's name and namespace.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn private(
        &self,
        local: &str,
        name: &str,
        namespace: &str,
    ) -> Result<Option<Vec<u8>>, DirectoryError> {
        self.read(|view| view.private(local, name, namespace))
    }

    /// All private XML of an account, in the order of its keys.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn all_private(&self, local: &str) -> Result<Vec<PrivateXml>, DirectoryError> {
        self.read(|view| {
            let Some(account) = view.account(local)? else { return Ok(Vec::new()) };
            let decode = |row: Result<(&[u8], &[u8]), DirectoryError>| {
                let (key, value) = row?;
                PrivateXml::decode(key, value).map_err(damaged(Table::Private, key))
            };
            view.prefixed(Table::Private, &account.key())?.map(decode).collect()
        })
    }
}

impl WriteTransaction<'_> {
    /// Bytes of private XML that an account keeps, keys included, without these elements (name, namespace).
    ///
    /// # Errors
    /// [`DirectoryError::NoAccount`]; the directory cannot be read.
    pub fn private_bytes(&self, local: &str, without: &[(&str, &str)]) -> Result<usize, DirectoryError> {
        let account = self.account(local)?;
        let skip: Vec<Key> = without
            .iter()
            .filter_map(|(name, space)| Key::owned(account, &qualified(name, space), PRIVATE_NAME_BYTES_MAX))
            .collect();
        let mut bytes = 0;
        for row in self.view().prefixed(Table::Private, &account.key())? {
            let (key, value) = row?;
            if !skip.iter().any(|skipped| skipped.bytes() == key) {
                bytes += key.len() + value.len();
            }
        }
        Ok(bytes)
    }

    /// Sets private XML, by the child's name and namespace.
    ///
    /// # Errors
    /// [`DirectoryError::NoAccount`]; [`DirectoryError::Size`] for a name and namespace of more than
    /// [`PRIVATE_NAME_BYTES_MAX`] or XML of more than [`VALUE_BYTES_MAX`](super::VALUE_BYTES_MAX); the directory is
    /// damaged or cannot be written.
    pub fn set_private(
        &mut self,
        local: &str,
        name: &str,
        namespace: &str,
        xml: &[u8],
    ) -> Result<(), DirectoryError> {
        let account = self.account(local)?;
        let text = qualified(name, namespace);
        let key = Key::owned(account, &text, PRIVATE_NAME_BYTES_MAX).ok_or(DirectoryError::Size {
            what: "name and namespace of the private data",
            bytes: text.len(),
            max: PRIVATE_NAME_BYTES_MAX,
        })?;
        check_size("the private data", xml.len())?;
        let mut fields = Encoder::new(8 + xml.len());
        if key.is_hashed() {
            fields.text(text.as_bytes());
        }
        fields.text(xml);
        self.put(Table::Private, key.bytes(), &fields.seal(key.bytes()))
    }
}
