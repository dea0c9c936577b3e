//! The servers of a scenario that drives several in turns, each made ready in a folder of its own.

use std::path::Path;

use crate::cli::{ArchiveSwitch, PeerName, ProgramArgs};
use crate::engine::target::Transport;
use crate::peers::{Eventing, Peer, Rooms, Setup, prepare, wanted};
use crate::variant::Variant;

/// What a scenario needs of its servers.
pub(crate) struct Lineup<'a> {
    /// Where our programs are.
    pub(crate) programs: &'a ProgramArgs,
    /// Which servers.
    pub(crate) servers: &'a [PeerName],
    /// How whimbreld runs; each takes a turn.
    pub(crate) variants: &'a [Variant],
    /// As [`Setup::accounts`].
    pub(crate) accounts: u64,
    /// As [`Setup::archive`].
    pub(crate) archive: Option<ArchiveSwitch>,
    /// As [`Setup::rooms`].
    pub(crate) rooms: Rooms,
    /// As [`Setup::eventing`].
    pub(crate) eventing: Eventing,
    /// What is measured, and brokers do not have: a plural.
    pub(crate) what: &'static str,
}

impl Lineup<'_> {
    /// Makes the servers ready, in folders below `folder`.
    ///
    /// # Errors
    /// A server is not installed or cannot be made ready; it is a broker; TLS is asked for.
    pub(crate) fn prepare(&self, folder: &Path) -> Result<Vec<Peer>, String> {
        let mut peers = Vec::new();
        for (number, (server, variant)) in wanted(self.servers, self.variants).into_iter().enumerate() {
            if matches!(server, PeerName::Mosquitto | PeerName::Nats) {
                return Err(format!("a broker has no {}: leave it out with --servers", self.what));
            }
            let variant = variant.or(self.variants.first()).ok_or("there is no way to run whimbreld")?;
            if variant.tls {
                return Err(format!("{} are measured without TLS: leave out `:tls`", self.what));
            }
            let own = folder.join(number.to_string());
            std::fs::create_dir(&own).map_err(|error| format!("cannot make {}: {error}", own.display()))?;
            let setup = Setup {
                programs: self.programs,
                variant,
                folder: &own,
                accounts: self.accounts,
                archive: self.archive,
                transport: Transport::Tcp,
                rooms: self.rooms,
                eventing: self.eventing,
            };
            peers.push(prepare(server, &setup)?);
        }
        Ok(peers)
    }
}
