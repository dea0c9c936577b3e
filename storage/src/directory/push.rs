//! Devices that are told of messages by push services (XEP-0357), and whose each of them is. What the values mean is the
//! server's to say.
//!
//! How they lie in the map is in docs/directory-format.md.

use crate::actor::ActorId;

use super::accounts::other_text;
use super::codec::{Decoder, Encoder};
use super::error::DirectoryError;
use super::key::{Key, size_error, text_of};
use super::tables::{Table, View, damaged};
use super::{Directory, WriteTransaction};

/// Most bytes of a node, which names a device among those of its account.
pub const PUSH_NODE_BYTES_MAX: usize = 1024;

/// Bytes of the key of a token: a hash.
const TOKEN_KEY_BYTES: usize = 32;

/// A device of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushDevice {
    /// Names it among those of its account.
    pub node: String,
    /// Which push service it has, as the server numbers them.
    pub service: u8,
    /// What the push service knows it by; no two accounts have the same.
    pub token: String,
    /// Of Web Push: public key and secret of the device, as the server writes them; empty for others.
    pub keys: Vec<u8>,
    /// The app's name at the push service; empty for the configured one.
    pub topic: String,
    /// The resource that has enabled it.
    pub resource: String,
    /// Yes and no, as the server numbers them.
    pub flags: u8,
    /// Seconds for which the push service may keep a message; 0: as configured.
    pub time_to_live: u32,
    /// The sound; empty for none.
    pub sound: String,
    /// What a click does; empty for the app's own.
    pub click_action: String,
    /// When it was enabled, milliseconds since 1970.
    pub enabled_ms: u64,
}

impl PushDevice {
    fn encode(&self, key: &Key) -> Vec<u8> {
        let mut fields = Encoder::new(64 + self.token.len() + self.topic.len() + self.resource.len());
        if key.is_hashed() {
            fields.text(self.node.as_bytes());
        }
        fields.byte(self.service);
        fields.text(self.token.as_bytes());
        fields.text(&self.keys);
        fields.text(self.topic.as_bytes());
        fields.text(self.resource.as_bytes());
        fields.byte(self.flags);
        fields.number(self.time_to_live.into());
        fields.text(self.sound.as_bytes());
        fields.text(self.click_action.as_bytes());
        fields.number(self.enabled_ms);
        fields.seal(key.bytes())
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let mut fields = Decoder::open(key, value)?;
        let node = match text_of(key, 8)? {
            Some(node) => node,
            None => fields.text()?,
        };
        let device = Self {
            node: node.to_owned(),
            service: fields.byte()?,
            token: fields.text()?.to_owned(),
            keys: fields.bytes()?.to_vec(),
            topic: fields.text()?.to_owned(),
            resource: fields.text()?.to_owned(),
            flags: fields.byte()?,
            time_to_live: u32::try_from(fields.number()?).map_err(|_| "more seconds than there can be")?,
            sound: fields.text()?.to_owned(),
            click_action: fields.text()?.to_owned(),
            enabled_ms: fields.number()?,
        };
        fields.close()?;
        Ok(device)
    }
}

/// Whose a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holder {
    actor: ActorId,
    local: String,
    node: String,
}

impl Holder {
    fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut fields = Encoder::new(16 + self.local.len() + self.node.len());
        fields.number(self.actor.raw());
        fields.text(self.local.as_bytes());
        fields.text(self.node.as_bytes());
        fields.seal(key)
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let mut fields = Decoder::open(key, value)?;
        let actor = ActorId::from_raw(fields.number()?);
        let (local, node) = (fields.text()?.to_owned(), fields.text()?.to_owned());
        fields.close()?;
        Ok(Self { actor, local, node })
    }
}

/// What has come of enabling a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushEnabled {
    /// The account has it. `from`: the account that had it until now.
    Done {
        /// Localpart of that account.
        from: Option<String>,
        /// Other resources of the account that had the device, under this node or another.
        resources: Vec<String>,
    },
    /// The account has as many devices as it may; nothing was written.
    TooMany,
}

/// The key of a token: two push services may use the same.
fn token_key(service: u8, token: &str) -> [u8; TOKEN_KEY_BYTES] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(&[service]);
    context.update(token.as_bytes());
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn device_key(account: ActorId, node: &str) -> Result<Key, DirectoryError> {
    Key::owned(account, node, PUSH_NODE_BYTES_MAX)
        .ok_or_else(|| size_error("the node", node, PUSH_NODE_BYTES_MAX))
}

impl View<'_> {
    fn push_devices(&self, account: ActorId) -> Result<Vec<PushDevice>, DirectoryError> {
        let decode = |row: Result<(&[u8], &[u8]), DirectoryError>| {
            let (key, value) = row?;
            PushDevice::decode(key, value).map_err(damaged(Table::PushDevices, key))
        };
        self.prefixed(Table::PushDevices, &account.key())?.map(decode).collect()
    }

    fn push_device(&self, account: ActorId, node: &str) -> Result<Option<PushDevice>, DirectoryError> {
        let Some(key) = Key::owned(account, node, PUSH_NODE_BYTES_MAX) else { return Ok(None) };
        let Some(value) = self.get(Table::PushDevices, key.bytes())? else { return Ok(None) };
        let device =
            PushDevice::decode(key.bytes(), value).map_err(damaged(Table::PushDevices, key.bytes()))?;
        if device.node == node { Ok(Some(device)) } else { Err(other_text(Table::PushDevices, &key)) }
    }

    fn push_holder(&self, key: &[u8; TOKEN_KEY_BYTES]) -> Result<Option<Holder>, DirectoryError> {
        let Some(value) = self.get(Table::PushTokens, key)? else { return Ok(None) };
        Holder::decode(key, value).map(Some).map_err(damaged(Table::PushTokens, key))
    }
}

impl Directory {
    /// The devices of an account, in the order of their nodes.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn push_devices(&self, account: ActorId) -> Result<Vec<PushDevice>, DirectoryError> {
        self.read(|view| view.push_devices(account))
    }

    /// Tells the account of every device: those with several, several times. No value is read.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn each_push_account(&self, mut tell: impl FnMut(ActorId)) -> Result<(), DirectoryError> {
        self.read(|view| {
            for row in view.all(Table::PushDevices)? {
                let account = row?.0.first_chunk().map(|key| ActorId::from_raw(u64::from_be_bytes(*key)));
                account.into_iter().for_each(&mut tell);
            }
            Ok(())
        })
    }

    /// Devices of all accounts. Costs the same for any number.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn push_device_count(&self) -> Result<u64, DirectoryError> {
        self.read(|view| view.len(Table::PushDevices))
    }
}

impl WriteTransaction<'_> {
    /// The devices of an account, in the order of their nodes.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn push_devices(&self, account: ActorId) -> Result<Vec<PushDevice>, DirectoryError> {
        self.view().push_devices(account)
    }

    /// Adds a device to an account, or changes the one of that node. Another account that has a device of that token loses it,
    /// and so does another node of this account. An account has at most `devices_max`.
    ///
    /// # Errors
    /// [`DirectoryError::NoAccount`]; [`DirectoryError::Size`] for a node of more than [`PUSH_NODE_BYTES_MAX`] or none; the
    /// directory is damaged or cannot be written.
    pub fn enable_push(
        &mut self,
        local: &str,
        device: &PushDevice,
        devices_max: usize,
    ) -> Result<PushEnabled, DirectoryError> {
        let actor = self.account(local)?;
        let (key, token) = (device_key(actor, &device.node)?, token_key(device.service, &device.token));
        let holder = self.view().push_holder(&token)?;
        let others = self.push_devices(actor)?;
        let replaces = |other: &&PushDevice| {
            other.node == device.node || (other.service == device.service && other.token == device.token)
        };
        if others.iter().filter(|other| !replaces(other)).count() >= devices_max {
            return Ok(PushEnabled::TooMany);
        }
        let mut resources = Vec::new();
        for other in others.into_iter().filter(|other| replaces(&other)) {
            self.remove_push_of(actor, &other.node, None)?;
            if other.resource != device.resource {
                resources.push(other.resource);
            }
        }
        let from = holder.filter(|holder| holder.actor != actor);
        if let Some(holder) = &from {
            self.remove_push_of(holder.actor, &holder.node, None)?;
        }
        self.put(Table::PushDevices, key.bytes(), &device.encode(&key))?;
        let holder = Holder { actor, local: local.to_owned(), node: device.node.clone() };
        self.put(Table::PushTokens, &token, &holder.encode(&token))?;
        Ok(PushEnabled::Done { from: from.map(|holder| holder.local), resources })
    }

    /// Removes a device of an account, or with no `node` all of them. Returns how many there were.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn disable_push(&mut self, local: &str, node: Option<&str>) -> Result<usize, DirectoryError> {
        let Some(actor) = self.view().account(local)? else { return Ok(0) };
        match node {
            Some(node) => self.remove_push_of(actor, node, None).map(usize::from),
            None => self.remove_all_push(actor),
        }
    }

    /// Removes a device of an account if it still has this token. `false`: it has not.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn push_device_gone(&mut self, local: &str, node: &str, token: &str) -> Result<bool, DirectoryError> {
        let Some(actor) = self.view().account(local)? else { return Ok(false) };
        self.remove_push_of(actor, node, Some(token))
    }

    /// Removes all devices of an account.
    pub(super) fn remove_all_push(&mut self, actor: ActorId) -> Result<usize, DirectoryError> {
        let devices = self.push_devices(actor)?;
        for device in &devices {
            self.remove_push_of(actor, &device.node, None)?;
        }
        Ok(devices.len())
    }

    fn remove_push_of(
        &mut self,
        actor: ActorId,
        node: &str,
        token: Option<&str>,
    ) -> Result<bool, DirectoryError> {
        let found = self.view().push_device(actor, node)?;
        let Some(device) = found.filter(|found| token.is_none_or(|token| found.token == token)) else {
            return Ok(false);
        };
        let token = token_key(device.service, &device.token);
        let holder = self.view().push_holder(&token)?;
        if holder.is_some_and(|holder| holder.actor == actor && holder.node == node) {
            self.delete(Table::PushTokens, &token)?;
        }
        self.delete(Table::PushDevices, device_key(actor, node)?.bytes())
    }
}
