//! What a client has sent, with everything that was read from it once.

use std::ops::Range;

use crate::effects::answer::{self, Refused};
use crate::env::Env;
use crate::keys::ResourceKey;
use crate::proto::address;
use crate::proto::errors::StanzaError;
use crate::stanza::{Kind, PendingAck, Type};
use crate::user::actors::Effects;
use crate::xml::{Stamp, Stanza};

/// What a client sent, with everything that was read from it once.
pub struct Inbound<'a> {
    /// The sender.
    pub sender: ResourceKey,
    /// The sender's full JID.
    pub from: &'a str,
    /// Kind.
    pub kind: Kind,
    /// Type.
    pub typ: Type,
    /// The `to` attribute as the client wrote it, entities decoded.
    pub to_text: Option<&'a str>,
    /// The `id` attribute, entities decoded.
    pub id: Option<&'a str>,
    /// The default language of the sender's stream, when it is not the server's.
    pub language: Option<&'a str>,
    /// The stanza.
    pub stanza: &'a Stanza<'a>,
    /// Its number, when the sender's stream is managed.
    pub pending_ack: Option<PendingAck>,
}

impl Inbound<'_> {
    /// The sender's localpart.
    pub fn local(&self) -> &str {
        address::local_of(self.from)
    }

    /// Appends the stanza as its recipient gets it, without these children.
    pub fn write_stamped(&self, without: &[Range<usize>], out: &mut Vec<u8>) {
        self.stanza
            .write_stamped(&Stamp { from: self.from, to: None, language: self.language, without }, out);
    }

    /// Answers it with an error, whatever it is.
    pub fn refuse(&self, env: &Env, fx: &mut Effects, error: StanzaError) {
        let refused = Refused { kind: self.kind, sender: self.from, to: self.to_text, id: self.id };
        answer::refuse(env, fx, &refused, &error);
    }

    /// Answers it with an error, if it is one that may be answered.
    pub fn refuse_politely(&self, env: &Env, fx: &mut Effects, error: StanzaError) {
        if answer::may_be_answered(self.kind, self.typ) {
            self.refuse(env, fx, error);
        }
    }
}
