//! Requests about links that make members of rooms.

use serde_json::{Value, json};
use whimbrel_storage::directory::rooms::{LinkHash, RoomLink};

use crate::clock::{datetime_ms, unix_milliseconds};
use crate::control::{Answer, ControlRefusal, Problem};
use crate::operations::Control;
use crate::operations::handlers::unreadable;
use crate::proto::muc::link;
use crate::rooms::operator::{Order, Outcome};

/// Bytes of a note.
const NOTE_BYTES_MAX: usize = 1023;

impl Control {
    /// Makes a link. Its token is told here and never again.
    pub(super) fn room_invite_create(&self, jid: &str, uses: u64, seconds: u64, note: &str) -> Answer {
        let room = self.room(jid)?;
        if note.len() > NOTE_BYTES_MAX {
            let text = format!("a note may have at most {NOTE_BYTES_MAX} bytes");
            return Err(Problem::new(ControlRefusal::BadRequest, text));
        }
        let token = link::token(&self.server.shared.chance.bytes());
        let created_ms = unix_milliseconds();
        let expires_ms = match seconds {
            0 => 0,
            seconds => created_ms.saturating_add(seconds.saturating_mul(1000)),
        };
        let hash = LinkHash::of(&token);
        let made = RoomLink { hash, created_ms, expires_ms, uses_max: uses, uses: 0, note: note.to_owned() };
        self.carry_out(&room.name, jid, Order::AddLink(made.clone()))?;
        let mut facts = facts(&made);
        let address = format!("{}@{}", room.name, self.server.shared.rooms_domain);
        facts["uri"] = json!(link::uri(&address, &token));
        facts["token"] = json!(token);
        Ok(facts)
    }

    /// The links of a room that are good, without their tokens.
    pub(super) fn room_invite_list(&self, jid: &str) -> Answer {
        let room = self.room(jid)?;
        let links =
            self.server.shared.directory.rooms(|rooms| rooms.links(room.actor)).map_err(unreadable)?;
        let now_ms = unix_milliseconds();
        let good = links.iter().filter(|link| link.is_good(now_ms));
        Ok(json!({ "links": good.map(facts).collect::<Vec<Value>>() }))
    }

    /// Makes one link void, or all of a room.
    pub(super) fn room_invite_revoke(&self, jid: &str, id: Option<&str>) -> Answer {
        let room = self.room(jid)?;
        let order = Order::RevokeLinks(id.map(str::to_owned));
        let revoked = match self.carry_out(&room.name, jid, order)? {
            Outcome::Revoked(revoked) => revoked,
            _ => 0,
        };
        match id {
            Some(id) if revoked == 0 => {
                Err(Problem::new(ControlRefusal::NotFound, format!("{jid} has no link {id}")))
            }
            _ => Ok(json!({ "revoked": revoked })),
        }
    }
}

fn facts(link: &RoomLink) -> Value {
    let expires = match link.expires_ms {
        0 => Value::Null,
        expires_ms => json!(datetime_ms(expires_ms)),
    };
    json!({
        "id": link.hash.id(),
        "created": datetime_ms(link.created_ms),
        "expires": expires,
        "uses": link.uses,
        "uses_max": link.uses_max,
        "note": link.note,
    })
}
