//! Requests about rooms. What is in the directory is read and made here; what occupants have to hear of is carried out by the
//! worker that is the room's home.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};

use serde_json::{Map, Value, json};
use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::rooms::{
    Affiliate, Affiliation, AffiliationChange, NewRoom, Room, RoomConfig, RoomFlags,
};
use whimbrel_storage::jid::Jid;

use crate::clock::datetime_ms;
use crate::control::{Answer, ControlRefusal, PAGE_MAX, Problem, RoomSettings};
use crate::operations::Control;
use crate::operations::handlers::{WAIT_MAX, unreadable};
use crate::proto::address;
use crate::proto::errors::StanzaError;
use crate::proto::muc::config::{self, ConfigChange};
use crate::proto::muc::hats;
use crate::proto::muc::owner::Destroy;
use crate::proto::muc::role::{affiliation_name, affiliation_named};
use crate::proto::ns;
use crate::rooms::operator::{HatOrder, OccupantFacts, Order, Outcome};
use crate::worker::command::Command;
use crate::xml::Element;

/// What the names of fields begin with in the form; the control socket leaves it out.
const PREFIXES: [&str; 4] = ["muc#roomconfig_", "whimbrel#roomconfig_", "muc#", "pubsub#"];

impl Control {
    /// A page of rooms.
    pub(super) fn room_list(&self, after: Option<&str>, max: usize) -> Answer {
        self.rooms_are_on()?;
        let max = max.min(PAGE_MAX);
        let rooms = self.server.shared.directory.rooms(|rooms| rooms.page(after, max)).map_err(unreadable)?;
        let more = max > 0 && rooms.len() == max;
        let last = rooms.last().map(|room| room.name.clone());
        let rooms: Vec<Value> = rooms.iter().map(|room| self.facts(room)).collect();
        Ok(json!({ "rooms": rooms, "more": more, "last": last }))
    }

    /// All there is to know of one room, but who belongs to it.
    pub(super) fn room_show(&self, jid: &str) -> Answer {
        let room = self.room(jid)?;
        let mut facts = self.facts(&room);
        facts["settings"] = Value::Object(settings(&room.config));
        facts["version"] = json!(room.version().to_string());
        facts["subject"] = match &room.subject {
            Some(subject) => json!({
                "text": subject.text, "nick": subject.nick, "jid": subject.jid, "set": datetime_ms(subject.set_ms),
            }),
            None => Value::Null,
        };
        facts["occupants"] = match self.carry_out(&room.name, jid, Order::Occupants)? {
            Outcome::Occupants(occupants) => occupants.into_iter().map(occupant).collect(),
            _ => json!([]),
        };
        Ok(facts)
    }

    /// A page of those who belong to a room, bans included, in the order of their addresses.
    pub(super) fn room_members(&self, jid: &str, after: Option<&str>, max: usize) -> Answer {
        let room = self.room(jid)?;
        let max = max.min(PAGE_MAX);
        let (mut members, mut more) = (Vec::new(), false);
        let read = self.server.shared.directory.rooms(|rooms| {
            rooms.each_affiliate(room.actor, |affiliate| {
                let is_behind = after.is_none_or(|after| affiliate.jid.as_str() > after);
                more = is_behind && members.len() == max;
                if is_behind && !more {
                    members.push(member(&affiliate));
                }
                !more
            })
        });
        read.map_err(unreadable)?;
        Ok(json!({ "members": members, "more": more }))
    }

    /// Makes a room.
    pub(super) fn room_create(&self, jid: &str, owners: &[String], set: &RoomSettings) -> Answer {
        let name = self.room_name(jid)?;
        let owners = owners.iter().map(|owner| self.member_jid(owner)).collect::<Result<Vec<_>, _>>()?;
        let limits = self.server.config().rooms.clone();
        if owners.len() > limits.members_max as usize {
            return Err(Problem::new(
                ControlRefusal::BadRequest,
                "more owners than a room may have (rooms.members_max)",
            ));
        }
        let config = change(set)?
            .apply(RoomConfig::private_group(), limits.occupants_max)
            .map_err(|error| refused(jid, &error))?;
        let shared = &self.server.shared;
        let (secret, now_ms) = (shared.chance.bytes(), crate::clock::unix_milliseconds());
        let domain = shared.domain.clone();
        let made = self.write(move |transaction| {
            let new = NewRoom { name: &name, config, secret, now_ms };
            let Some(mut room) = transaction.create_room(new)? else { return Ok(None) };
            for owner in &owners {
                let localpart = address::contact_here(owner.as_str(), &domain);
                let affiliation = Affiliation::Owner;
                let change =
                    AffiliationChange { jid: owner.as_str(), localpart, affiliation, reason: "", now_ms };
                transaction.affiliate(&mut room, &change)?;
            }
            Ok(Some(room))
        })?;
        match made {
            Some(room) => Ok(self.facts(&room)),
            None => Err(Problem::new(ControlRefusal::Exists, format!("there is a room {jid} already"))),
        }
    }

    /// Destroys a room; whoever is in it hears of it.
    pub(super) fn room_destroy(&self, jid: &str, reason: &str, alternate: Option<&str>) -> Answer {
        let room = self.room(jid)?;
        let alternate = alternate.map(parsed).transpose()?.map(|jid| jid.to_bare());
        let destroy = Destroy { alternate, password: None, reason: reason.to_owned() };
        self.carry_out(&room.name, jid, Order::Destroy(destroy))?;
        Ok(json!({ "destroyed": true }))
    }

    /// Makes somebody something to a room.
    pub(super) fn room_affiliate(&self, jid: &str, member: &str, affiliation: &str, reason: &str) -> Answer {
        let room = self.room(jid)?;
        let member = self.member_jid(member)?;
        let affiliation = affiliation_named(affiliation).ok_or_else(|| {
            let text = format!("`{affiliation}` is none of owner, admin, member, none, outcast");
            Problem::new(ControlRefusal::BadRequest, text)
        })?;
        let order = Order::Affiliate { jid: member, affiliation, reason: reason.to_owned() };
        self.carry_out(&room.name, jid, order)?;
        Ok(json!({ "changed": true }))
    }

    /// Gives somebody a hat; without a title it is taken.
    pub(super) fn room_hat(&self, jid: &str, member: &str, uri: &str, title: Option<&str>) -> Answer {
        let room = self.room(jid)?;
        let member = self.member_jid(member)?;
        let hat = title.map(|title| hats::named(uri, title)).transpose();
        let hat = hat.map_err(|what| Problem::new(ControlRefusal::BadRequest, what))?;
        let hat = hat.map_or_else(|| HatOrder::Take(uri.to_owned()), HatOrder::Give);
        let order = Order::Hat { jid: member, hat };
        self.carry_out(&room.name, jid, order)?;
        Ok(json!({ "changed": true }))
    }

    /// Configures a room.
    pub(super) fn room_config(&self, jid: &str, set: &RoomSettings) -> Answer {
        let room = self.room(jid)?;
        if !set.is_empty() {
            let change = change(set)?;
            self.carry_out(&room.name, jid, Order::Configure(change))?;
        }
        Ok(json!({ "settings": settings(&self.room(jid)?.config) }))
    }

    fn facts(&self, room: &Room) -> Value {
        let has = |flag| room.config.flags.has(flag);
        json!({
            "jid": format!("{}@{}", room.name, self.server.shared.rooms_domain),
            "title": &*room.config.title,
            "actor": room.actor.to_string(),
            "created": datetime_ms(room.created_ms),
            "public": has(RoomFlags::PUBLIC),
            "members_only": has(RoomFlags::MEMBERS_ONLY),
            "persistent": has(RoomFlags::PERSISTENT),
            "owners": room.counts.owners,
            "admins": room.counts.admins,
            "members": room.counts.members,
            "outcasts": room.counts.outcasts,
        })
    }

    fn rooms_are_on(&self) -> Result<(), Problem> {
        match self.server.config().rooms.enabled {
            true => Ok(()),
            false => Err(Problem::new(ControlRefusal::Failed, "rooms are switched off (rooms.enabled)")),
        }
    }

    /// The name of a room from its address.
    fn room_name(&self, jid: &str) -> Result<String, Problem> {
        self.rooms_are_on()?;
        let domain = &*self.server.shared.rooms_domain;
        let jid = parsed(jid)?;
        if !address::is_here(&jid.borrowed(), domain) {
            let text = format!("{} is no room here; rooms are named NAME@{domain}", jid.as_str());
            return Err(Problem::new(ControlRefusal::ForeignDomain, text));
        }
        match (jid.local(), jid.resource()) {
            (Some(name), None) => Ok(name.to_owned()),
            _ => {
                let text = format!("`{}` names no room; write NAME@{domain}", jid.as_str());
                Err(Problem::new(ControlRefusal::BadRequest, text))
            }
        }
    }

    pub(super) fn room(&self, jid: &str) -> Result<Room, Problem> {
        let name = self.room_name(jid)?;
        let room = self.server.shared.directory.room(&name).map_err(unreadable)?;
        room.ok_or_else(|| no_room(jid))
    }

    /// A bare address; if it is of this domain, that of an account that exists.
    pub(super) fn member_jid(&self, jid: &str) -> Result<Jid, Problem> {
        let member = parsed(jid)?;
        if member.resource().is_some() || member.local().is_none() {
            let text = format!("`{jid}` is no bare address of an account");
            return Err(Problem::new(ControlRefusal::BadRequest, text));
        }
        let here = address::contact_here(member.as_str(), &self.server.shared.domain);
        let exists = here.map(|local| self.server.shared.directory.account_exists(local)).transpose();
        match exists.map_err(unreadable)? {
            Some(false) => Err(Problem::new(ControlRefusal::NotFound, format!("there is no account {jid}"))),
            _ => Ok(member),
        }
    }

    /// Has the room's home do something, and waits until it is committed. A room that is busy does it when its turn has come.
    pub(super) fn carry_out(&self, name: &str, jid: &str, order: Order) -> Result<Outcome, Problem> {
        let (reply, replies) = sync_channel(1);
        let home = self.server.shared.home_of_room(name);
        self.give(home, Command::Room { name: name.to_owned(), order: Box::new(order), reply })?;
        match replies.recv_timeout(WAIT_MAX) {
            Ok(Outcome::Busy) => {
                let text = "as many requests wait for the room as may; try again";
                Err(Problem::new(ControlRefusal::Failed, text))
            }
            Ok(Outcome::Refused(error)) => Err(refused(jid, &error)),
            Ok(Outcome::NoSuchRoom) => Err(no_room(jid)),
            Ok(outcome) => Ok(outcome),
            Err(RecvTimeoutError::Disconnected) => {
                let text = "the change could not be written to the directory; the server's log says why";
                Err(Problem::new(ControlRefusal::Failed, text))
            }
            Err(RecvTimeoutError::Timeout) => {
                let text = "the room does not answer; the server may be stopping or overloaded";
                Err(Problem::new(ControlRefusal::Timeout, text))
            }
        }
    }
}

fn no_room(jid: &str) -> Problem {
    Problem::new(ControlRefusal::NotFound, format!("there is no room {jid}"))
}

fn parsed(jid: &str) -> Result<Jid, Problem> {
    Jid::parse(jid).map_err(|error| {
        Problem::new(ControlRefusal::BadRequest, format!("`{jid}` is not an address: {error}"))
    })
}

fn refused(jid: &str, error: &StanzaError) -> Problem {
    let text = error.text.as_deref().unwrap_or("it may not be done");
    Problem::new(ControlRefusal::Failed, format!("{jid}: {} ({text})", error.condition))
}

fn member(affiliate: &Affiliate) -> Value {
    json!({
        "jid": affiliate.jid,
        "affiliation": affiliation_name(affiliate.affiliation),
        "nick": affiliate.nick,
        "reason": affiliate.reason,
        "since": datetime_ms(affiliate.since_ms),
        "account": affiliate.account != ActorId::NOBODY,
        "hats": affiliate.hats.iter().map(|hat| json!({ "uri": hat.uri, "title": hat.title })).collect::<Vec<_>>(),
    })
}

fn occupant(occupant: OccupantFacts) -> Value {
    json!({ "nick": occupant.nick, "jids": occupant.jids, "role": occupant.role.name() })
}

fn short(field: &str) -> &str {
    PREFIXES.iter().find_map(|prefix| field.strip_prefix(prefix)).unwrap_or(field)
}

/// The fields of the form, by their short names, with their values: one as a text, several as a list.
fn settings(config: &RoomConfig) -> Map<String, Value> {
    settings_of(&config::form("", config).into_element())
}

/// The fields of a form, by their short names, with their values.
pub(super) fn settings_of(form: &Element) -> Map<String, Value> {
    let mut settings = Map::new();
    for (name, field) in fields(form) {
        let values = field.elements().filter(|child| child.is("value", ns::DATA_FORMS));
        let mut values: Vec<Value> = values.map(|value| json!(value.content())).collect();
        let is_list = field.attribute("type") == Some("list-multi");
        let value = if is_list { Value::Array(values) } else { values.pop().unwrap_or_default() };
        settings.insert(short(&name).to_owned(), value);
    }
    settings
}

/// The fields of a form but its type, by their names.
fn fields(form: &Element) -> Vec<(String, Element)> {
    let fields = form.elements().filter(|child| child.is("field", ns::DATA_FORMS));
    let named = fields.filter_map(|field| Some((field.attribute("var")?.to_owned(), field.clone())));
    named.filter(|(name, _)| name != crate::proto::forms::FORM_TYPE).collect()
}

/// The change of a configuration by short names of fields.
fn change(set: &RoomSettings) -> Result<ConfigChange, Problem> {
    let form = submission(&config::form("", &RoomConfig::default()).into_element(), set)?;
    Ok(ConfigChange::read(&form).map_err(|error| bad_setting(&error))?.unwrap_or_default())
}

/// The problem of a form that was not filled in as it is to be.
pub(super) fn bad_setting(error: &StanzaError) -> Problem {
    let text = error.text.as_deref().unwrap_or("a bad setting");
    Problem::new(ControlRefusal::BadRequest, text)
}

/// A form filled in by short names of fields.
pub(super) fn submission(form: &Element, set: &RoomSettings) -> Result<Element, Problem> {
    let known = fields(form);
    let mut form = Element::new("x", ns::DATA_FORMS).attr("type", "submit");
    for (name, value) in set {
        let Some((field, kind)) = known.iter().find(|(field, _)| field == name || short(field) == name)
        else {
            let names: Vec<&str> = known.iter().map(|(field, _)| short(field)).collect();
            let text = format!("there is no setting `{name}`; there are {}", names.join(", "));
            return Err(Problem::new(ControlRefusal::BadRequest, text));
        };
        let element = Element::new("field", ns::DATA_FORMS).attr("var", field.as_str());
        let one = |value: &str| Element::new("value", ns::DATA_FORMS).text(value);
        form.push(match kind.attribute("type") {
            Some("list-multi") => element.children(value.split(',').filter(|part| !part.is_empty()).map(one)),
            _ => element.child(one(value)),
        });
    }
    Ok(form)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> RoomSettings {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn settings_are_those_of_the_form_by_short_names() {
        let config = RoomConfig { title: "T, and more".into(), users_max: 50, ..RoomConfig::private_group() };
        let settings = settings(&config);
        assert_eq!((&settings["roomname"], &settings["maxusers"]), (&json!("T, and more"), &json!("50")));
        assert_eq!((&settings["membersonly"], &settings["whois"]), (&json!("1"), &json!("anyone")));
        assert_eq!(settings["getmemberlist"], json!(["moderator", "participant", "visitor"]));
    }

    #[test]
    fn settings_read_back_as_a_change() {
        let pairs = [
            ("roomname", "Tea, at five"),
            ("membersonly", "1"),
            ("muc#roomconfig_whois", "anyone"),
            ("getmemberlist", "moderator,participant"),
            ("presencebroadcast", ""),
            ("maxhistoryfetch", "7"),
            ("bookmarks", "0"),
        ];
        let config = change(&set(&pairs)).unwrap().apply(RoomConfig::default(), 9).unwrap();
        assert_eq!((&*config.title, config.history_max), ("Tea, at five", 7));
        assert!(config.flags.has(RoomFlags::MEMBERS_ONLY) && config.flags.has(RoomFlags::NON_ANONYMOUS));
        assert!(!config.flags.has(RoomFlags::BOOKMARKS));
        for (pairs, said) in
            [([("colour", "red")], "no setting `colour`"), ([("membersonly", "maybe")], "membersonly")]
        {
            let problem = change(&set(&pairs)).unwrap_err();
            assert!(problem.message.contains(said), "{}", problem.message);
        }
    }
}
