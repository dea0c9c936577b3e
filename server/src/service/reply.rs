//! What a service says to a request, and how it gets there.

use whimbrel_storage::directory::DirectoryError;

use crate::effects::answer::{self, Made, Refused};
use crate::env::Env;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::reply;
use crate::stanza::{Kind, Traits, Type};
use crate::user::actors::Effects;
use crate::xml::{CLIENT, Element};

/// What a service says to a request.
pub enum Reply {
    /// An empty result.
    Done,
    /// A result with this child.
    Result(Element),
    /// A result with a child that is written already.
    Written(Vec<u8>),
    /// An error.
    Error(StanzaError),
    /// The reply will be sent later, by [`Request::reply_to`].
    Later,
}

impl From<StanzaCondition> for Reply {
    fn from(condition: StanzaCondition) -> Reply {
        Reply::Error(condition.into())
    }
}

/// The answer to a request that needs the directory when it cannot be read.
pub fn unreadable(account: &str, error: &DirectoryError) -> Reply {
    tracing::error!(user = account, %error, "cannot read the directory");
    StanzaCondition::InternalServerError.into()
}

/// Where a reply goes.
#[derive(Clone, Debug)]
pub struct ReplyTo {
    from: String,
    to: Option<String>,
    id: String,
}

impl ReplyTo {
    /// To the full JID `from`, in answer to its request with this id, which it sent to `to`; `None`: to its own account.
    pub fn new(from: &str, to: Option<&str>, id: &str) -> ReplyTo {
        ReplyTo { from: from.to_owned(), to: to.map(str::to_owned), id: id.to_owned() }
    }

    /// The full JID of who gets it.
    pub fn requester(&self) -> &str {
        &self.from
    }

    /// Sends the reply.
    pub fn send(&self, env: &Env, fx: &mut Effects, reply: Reply) {
        let typ = match reply {
            Reply::Done | Reply::Result(_) | Reply::Written(_) => Type::Result,
            Reply::Error(error) => {
                let (to, id) = (self.to.as_deref(), Some(self.id.as_str()));
                return answer::refuse(
                    env,
                    fx,
                    &Refused { kind: Kind::Iq, sender: &self.from, to, id },
                    &error,
                );
            }
            Reply::Later => return,
        };
        let mut bytes = Vec::with_capacity(256);
        let (from, id) = (self.to.as_deref(), Some(self.id.as_str()));
        match reply {
            Reply::Written(child) => {
                fx.work.add_bytes(child.len());
                reply::iq(typ, from, &self.from, id, &mut bytes, |out| out.extend_from_slice(&child));
            }
            Reply::Result(child) => {
                reply::iq(typ, from, &self.from, id, &mut bytes, |out| child.write(CLIENT, out));
                fx.work.add_tree(bytes.len());
            }
            _ => {
                reply::open(Kind::Iq, typ, from, &self.from, id, &mut bytes);
                bytes.extend_from_slice(b"/>");
            }
        }
        let made = Made {
            kind: Kind::Iq,
            typ,
            traits: Traits::FROM_SERVER,
            from: self.to.as_deref(),
            id: Some(&self.id),
            bytes: &bytes,
        };
        answer::send(env, fx, &made, &self.from);
    }
}
